"""MPII's two forms: 1-based pixels, centre and scale, and the crop of the references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from simplepose.core.errors import UserError
from simplepose.core.schema import MPII_16
from simplepose.data.coco import read_coco, write_coco
from simplepose.data.mpii import read_mpii

PERSON = {
    "image": "000012.jpg",
    "center": [301.0, 201.0],
    "scale": 1.5,
    "joints": [[10.0 + k, 20.0 + k] for k in range(16)],
    "joints_vis": [1] * 15 + [0],
}


def save(folder: Path, value: Any) -> Path:
    path = folder / "valid.json"
    path.write_text(json.dumps(value))
    return path


def test_json_form(tmp_path: Path) -> None:
    found = read_mpii(save(tmp_path, [PERSON, {**PERSON, "scale": 2.0}]), "pictures")
    assert (
        found.schema is MPII_16
        and found.annotation_ids.tolist() == [1, 2]
        and found.image_ids.tolist() == [12]
    )
    assert found.image_paths == ("pictures/000012.jpg",) and found.image_index.tolist() == [0, 0]
    assert found.keypoints[0, 3].tolist() == [12, 22] and found.keypoints[0, 15].tolist() == [0, 0]
    assert found.visibility[0].tolist() == [2] * 15 + [0] and not found.clip_boxes


def test_crop_is_the_references(tmp_path: Path) -> None:
    found = read_mpii(save(tmp_path, [PERSON]), "pictures")
    # the references, step by step: centre y += 15 scale, scale x 1.25, minus 1, then a square of scale x 200
    centre, scale = np.array(PERSON["center"]), PERSON["scale"]
    centre = centre + np.array([0, 15 * scale]) - 1
    side = scale * 1.25 * 200
    x, y, w, h = found.bbox_xywh[0].tolist()
    assert [x + w / 2, y + h / 2] == pytest.approx(centre.tolist()) and [
        w * 1.25,
        h * 1.25,
    ] == pytest.approx([side, side])
    assert found.trainable().bbox_xywh[0].tolist() == [x, y, w, h]
    write_coco(tmp_path / "coco.json", found)
    assert read_coco(tmp_path / "coco.json", "pictures").trainable().bbox_xywh[
        0
    ].tolist() == pytest.approx([x, y, w, h])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], r"valid\.json .*no .*person"),
        ({"images": []}, r"valid\.json.*images"),
        ([{**PERSON, "joints": [[1, 2]] * 14}], r"valid\.json: row 0 has the joints .*16"),
        ([{**PERSON, "scale": -1}], r"valid\.json: person 0 .*scale -1\.0"),
        (
            [{**PERSON, "center": [float("nan"), 3]}],
            r"valid\.json: person 0 .000012\.jpg.*\[nan, 3\.0\]",
        ),
    ],
)
def test_bad_json(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_mpii(save(tmp_path, value), "pictures")


def point(joint: int, x: float, y: float, mark: Any) -> dict[str, Any]:
    return {"id": joint, "x": x, "y": y, "is_visible": mark}


def write_mat(path: Path, points: list[dict[str, Any]]) -> Path:
    """The original structure: one training picture with two people (one without a place), one test picture."""
    place = {"x": 594.0, "y": 257.0}
    rect = {"x1": 627.0, "y1": 100.0, "x2": 706.0, "y2": 198.0, "scale": 3.0, "objpos": place}
    full = np.empty(2, object)
    full[:] = [
        {**rect, "annopoints": {"point": np.array(points, object)}},
        {"x1": 1.0, "annopoints": []},
    ]
    annolist = np.empty(2, object)
    annolist[:] = [
        {"image": {"name": "015601864.jpg"}, "annorect": full},
        {"image": {"name": "2.jpg"}, "annorect": {"scale": 1.0, "objpos": place}},
    ]
    savemat(path, {"RELEASE": {"annolist": annolist, "img_train": np.array([1, 0])}})
    return path


def test_mat_form(tmp_path: Path) -> None:
    points = [
        point(6, 610.0, 187.0, "1"),
        point(9, 660.0, 101.0, np.zeros((0, 0))),
        point(0, 620.0, 394.0, "0"),
    ]
    path = write_mat(tmp_path / "mpii.mat", points)
    found = read_mpii(path, "pictures")
    assert len(found) == 1 and found.image_ids.tolist() == [15601864]
    assert found.keypoints[0, [6, 9, 0]].tolist() == [[609, 186], [659, 100], [619, 393]]
    assert found.visibility[0].tolist() == [1, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert found.head_boxes_xyxy is not None and found.head_boxes_xyxy[0].tolist() == [
        626,
        99,
        705,
        197,
    ]
    assert found.bbox_xywh[0].tolist() == [593 - 300, 256 + 45 - 300, 600, 600]


def test_bad_mat(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.mat: 015601864\.jpg .*16"):
        read_mpii(
            write_mat(tmp_path / "a.mat", [point(16, 1, 1, 1), point(1, 1, 1, 1)]), "pictures"
        )
    savemat(tmp_path / "b.mat", {"x": 1})
    with pytest.raises(UserError, match=r"b\.mat .*RELEASE"):
        read_mpii(tmp_path / "b.mat", "pictures")
    with pytest.raises(UserError, match=r"none\.mat"):
        read_mpii(tmp_path / "none.mat", "pictures")


def test_real_samples(real_data: Any) -> None:
    folder = real_data("mmpose_tests_data") / "tests/data/mpii"
    found = read_mpii(folder / "test_mpii.json", folder)
    assert len(found) == 5 and all(Path(path).exists() for path in found.image_paths)
    raw = json.loads((folder / "test_mpii.json").read_text())
    seen = np.array([one["joints_vis"] for one in raw], bool)
    assert np.allclose(
        found.keypoints[seen], np.array([one["joints"] for one in raw])[seen] - 1, atol=1e-4
    )
    # every person's joints lie in the crop
    low = found.bbox_xywh[:, None, :2] - 0.125 * found.bbox_xywh[:, None, 2:]
    inside = (found.keypoints >= low) & (
        found.keypoints <= low + 1.25 * found.bbox_xywh[:, None, 2:]
    )
    assert inside.all(2)[seen].mean() > 0.95
