"""Poses that know their picture: drawn, saved and shown without another word; pictures of many kinds."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simplepose import COCO_17, Frame, People, Poses, UserError
from simplepose.core.draw import draw_poses
from simplepose.core.images import read_image, write_image

IMAGE = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)


def two(**more: Any) -> Poses:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(5, 80, (2, 17, 2))
    scores = rng.uniform(0.3, 1, (2, 17))
    return Poses(keypoints, scores, [[5, 5, 80, 80], [9, 9, 70, 70]], [0.75, 0.5], **more)


def shown() -> Poses:
    return two(schema=COCO_17, frame=Frame(IMAGE, "a.jpg"))


def test_they_draw_upon_their_own_picture() -> None:
    drawn = shown().draw(boxes=True)
    assert isinstance(drawn, Image.Image)
    np.testing.assert_array_equal(np.array(drawn), draw_poses(IMAGE, two(), COCO_17, boxes=True))
    other = np.zeros_like(IMAGE)
    np.testing.assert_array_equal(two().draw(other), draw_poses(other, two(), COCO_17))
    with pytest.raises(UserError, match=r"do not know their picture.*draw\(image\)"):
        two().draw()


def test_rows_keep_what_belongs_to_all() -> None:
    first = shown()[0]
    assert len(first) == 1 and first.schema is COCO_17 and first.frame is not None
    assert len(shown()[[]]) == 0 and "frame" not in repr(first)


def test_coco_rows() -> None:
    rows = two(track_ids=[7, 3]).to_coco(image_id=42, category_id=2)
    assert [(row["image_id"], row["category_id"], row["track_id"]) for row in rows] == [
        (42, 2, 7),
        (42, 2, 3),
    ]
    triples = np.array([row["keypoints"] for row in rows]).reshape(2, 17, 3)
    np.testing.assert_array_equal(triples[..., :2].astype(np.float32), two().keypoints)
    np.testing.assert_array_equal(triples[..., 2].astype(np.float32), two().keypoint_scores)
    assert rows[1]["score"] == 0.5 and "track_id" not in two().to_coco()[0]
    assert Poses.empty(17).to_coco() == []


def test_save_by_ending(tmp_path: Path) -> None:
    shown().save(tmp_path / "new" / "a.json")
    assert json.loads((tmp_path / "new" / "a.json").read_bytes()) == two().to_coco()
    shown().save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.array(shown().draw()))
    with pytest.raises(UserError, match=r"a\.txt.*\.txt.*\.json"):
        shown().save(tmp_path / "a.txt")
    pandas = pytest.importorskip("pandas")
    shown().save(tmp_path / "a.csv")
    table = pandas.read_csv(tmp_path / "a.csv")
    assert table.shape == (34, 6) and table.keypoint[:17].tolist() == list(COCO_17.keypoints)
    np.testing.assert_allclose(table.x, two().keypoints[..., 0].ravel(), rtol=1e-6)


def test_tables_without_a_schema_count_the_keypoints() -> None:
    pytest.importorskip("pandas")
    assert two().to_pandas().keypoint[:2].tolist() == ["0", "1"]
    assert two().to_pandas(COCO_17).keypoint[1] == "left_eye"
    assert Poses.empty(17).to_pandas(COCO_17).shape == (0, 6)


def picture_in(html: str) -> Image.Image:
    (data,) = re.findall('src="data:image/jpeg;base64,([^"]+)"', html)
    return Image.open(BytesIO(base64.b64decode(data)))


def test_notebooks_see_pictures_and_tables() -> None:
    assert picture_in(shown()._repr_html_()).size == (120, 90)
    assert "<img" not in two()._repr_html_()
    wide = Frame(np.zeros((500, 2000, 3), np.uint8), "<b>.jpg")
    assert picture_in(wide._repr_html_()).size == (640, 160)
    assert "<b>" not in wide._repr_html_() and "&lt;b&gt;.jpg" in wide._repr_html_()
    page = COCO_17._repr_html_()
    assert page.count("<tr>") == 18 and "<td>left_eye</td><td>2</td>" in page


def test_frames_of_paths_pillow_pictures_and_arrays(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", IMAGE)
    frame = Frame.of(tmp_path / "a.png")
    assert frame.source == str(tmp_path / "a.png") and Frame.of(frame) is frame
    for picture in (str(tmp_path / "a.png"), IMAGE, Image.fromarray(IMAGE)):
        np.testing.assert_array_equal(Frame.of(picture).image, IMAGE)
    turned = Image.fromarray(IMAGE)
    turned.getexif()[0x0112] = 6  # the camera was turned: rotate by 90 degrees to see it upright
    np.testing.assert_array_equal(Frame.of(turned).image, np.rot90(IMAGE, -1))
    grey = Frame.of(Image.fromarray(IMAGE).convert("LA")).image
    assert grey.shape == IMAGE.shape and np.ptp(grey.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("wrong", ["boxes", {"a": 1}, [[1, 2, 3, "x"]], [[1, 2, 3, 4], [1]]])
def test_columns_that_are_no_numbers_are_one_sentence(wrong: Any) -> None:
    with pytest.raises(UserError, match="boxes_xyxy is .*Cure: "):
        People(wrong, [1])


@pytest.mark.parametrize("wrong", [None, 7, [[1, 2], [3, 4]], IMAGE[..., 0], IMAGE / 255, People])
def test_what_is_no_picture_is_one_sentence(wrong: Any) -> None:
    with pytest.raises(UserError, match="Cure: "):
        Frame.of(wrong)
