"""The boxes of a file and pictures as samples: classes, crowds, and corners that stay on pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.data.boxes import (
    IGNORED,
    NOTHING,
    as_pictures,
    class_ids,
    class_of,
    read_labelled_boxes,
)
from simplepose.data.loader import TrainLoader


def content(**more: Any) -> dict[str, Any]:
    """Three pictures, three categories of which two have keypoints of their own."""
    rows = [
        (1, 4, [10, 20, 30, 40], 0),
        (1, 7, [50, 5, 20, 30], 0),
        (2, 7, [0, 0, 60, 60], 1),
        (2, 4, [5, 5, 10, 10], 0),
        (2, 9, [1, 1, 5, 5], 0),
    ]
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 100, "height": 80} for n in (1, 2, 3)
        ],
        "categories": [
            {"id": 4, "name": "cat", "keypoints": ["nose", "tail"]},
            {"id": 7, "name": "Polar bear", "keypoints": ["snout"]},
            {"id": 9, "name": "ball"},
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": kind, "bbox": box, "iscrowd": crowd}
            for n, (image, kind, box, crowd) in enumerate(rows, 1)
        ],
        **more,
    }


def test_any_category_or_several() -> None:
    everything = read_labelled_boxes(content(), None)
    assert everything.schema.keypoints == ("cat", "polar_bear", "ball")
    assert [*class_of(everything)] == [0, 1, 1, 0, 2] and [*class_ids(everything)] == [4, 7, 9]
    for words in ("Polar bear,cat", "polar_bear, 4"):
        some = read_labelled_boxes(content(), None, category=words)
        assert some.schema.keypoints == ("polar_bear", "cat") and [*class_ids(some)] == [7, 4]
        assert [*class_of(some)] == [1, 0, 0, 1]
    assert len(read_labelled_boxes(content(), None, category="ball")) == 1


@pytest.mark.parametrize("words", ["dog", "cat,dog"])
def test_an_unknown_category_is_refused(words: str) -> None:
    with pytest.raises(UserError, match=r"no category 'dog'.*4 cat, 7 Polar bear, 9 ball"):
        read_labelled_boxes(content(), None, category=words)


def test_a_file_without_boxes_is_refused() -> None:
    with pytest.raises(UserError, match="no box of cat"):
        read_labelled_boxes(content(annotations=[]), None)
    crowd = [dict(content()["annotations"][2], category_id=4)]
    with pytest.raises(UserError, match="no box to learn"):
        as_pictures(read_labelled_boxes(content(annotations=crowd), None))


def test_a_missing_box_is_that_of_the_keypoints() -> None:
    row = {"id": 1, "image_id": 1, "category_id": 4, "keypoints": [10, 10, 2, 30, 50, 2]}
    found = read_labelled_boxes(content(annotations=[row]), None, category="cat")
    assert found.bbox_xywh.tolist() == [[10, 10, 20, 40]]


def test_pictures_as_samples() -> None:
    samples, labels = as_pictures(read_labelled_boxes(content(), None))
    assert labels.tolist() == [
        [NOTHING, 0, 1, NOTHING],
        [NOTHING, IGNORED, 0, 2],
        [NOTHING, NOTHING, NOTHING, NOTHING],
    ]
    corners = samples.keypoints.reshape(3, 4, 4) + 0.5
    assert corners[0, :3].tolist() == [[0, 0, 100, 80], [10, 20, 40, 60], [50, 5, 70, 35]]
    assert (samples.visibility[2] > 0).tolist() == [True] * 2 + [False] * 6
    assert len(samples) == 3  # a picture without boxes is background, and is learned from


@pytest.mark.parametrize("warp_on_device", [False, True])
def test_corners_stay_on_their_pixels(tmp_path: Path, warp_on_device: bool) -> None:
    """White rectangles on black: what is white in a sample is what its corners say, mirrored or
    not."""
    rng, rows, images = np.random.default_rng(0), [], []
    for number in range(1, 21):
        picture = np.zeros((80, 100, 3), np.uint8)
        x, y, w, h = 30 + rng.integers(0, 20), 25 + rng.integers(0, 15), 12, 20
        picture[y : y + h, x : x + w] = 255
        write_image(tmp_path / f"{number}.png", picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 80})
        box = [int(x), int(y), w, h]
        rows.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    file = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "box"}]}
    samples, labels = as_pictures(read_labelled_boxes(file, tmp_path))
    loader = TrainLoader(
        samples,
        AugmentConfig(rotation_degrees=0, scale_factor=0.3, shift_factor=0.1),
        input_size_wh=(128, 96),
        batch_size=20,
        seed=3,
        warp_on_device=warp_on_device,
    )
    mirrored = 0
    for batch in loader.epoch(0):
        batch = batch.to(torch.device("cpu"))
        pairs = (batch.keypoints.numpy() + 0.5).reshape(len(batch.rows), -1, 2, 2)
        assert (labels[batch.rows, 1] == 0).all()
        for pixels, (first, second) in zip(batch.pixels.numpy(), pairs[:, 1], strict=True):
            mirrored += first[0] > second[0]
            box = np.concatenate([np.minimum(first, second), np.maximum(first, second)])
            inside = np.clip(box, 0, [128, 96, 128, 96])
            # half-grey pixels count by their grey: the extent is exact to a fraction of a pixel
            columns, lines = (pixels[0].max(axis) / 255 for axis in (0, 1))
            for profile, low, high in (
                (columns, inside[0], inside[2]),
                (lines, inside[1], inside[3]),
            ):
                middle = (np.arange(len(profile)) + 0.5) @ profile / profile.sum()
                assert profile.sum() == pytest.approx(high - low, abs=0.6)
                assert middle == pytest.approx((low + high) / 2, abs=0.15)
    assert 3 < mirrored < 17
