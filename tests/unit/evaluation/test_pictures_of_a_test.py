"""A test refuses pictures that are not those that were annotated, and turns one's own upright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jpegs import with_orientation
from training_workers import write_people

from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations, ground_truth_boxes
from simplepose.data.coco import read_coco
from simplepose.data.pictures import WrongSizeError
from simplepose.evaluation.top_down import Estimates, estimate_boxes
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator


def estimated(annotations: Annotations, *, skip_broken: bool = False) -> Estimates:
    """Estimates of a network that finds every keypoint where the crop is brightest."""
    spec = ModelSpec(preset="", schema=COCO_17, input_size_wh=(32, 32))

    def network(pixels: torch.Tensor) -> torch.Tensor:
        maps = torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), 4)
        return maps.expand(-1, 17, -1, -1)

    estimator = PoseEstimator(network, spec, flip_test=False)
    boxes = ground_truth_boxes(annotations, "annotated")
    return estimate_boxes(estimator, annotations, boxes, workers=1, skip_broken=skip_broken)


@pytest.mark.parametrize("skip_broken", [False, True])
def test_another_size_is_refused(tmp_path: Path, skip_broken: bool) -> None:
    folder = write_people(tmp_path / "people", 6)
    annotations = read_coco(folder / "people.json", folder)
    assert len(estimated(annotations).areas) == 6
    cv2.imwrite(str(folder / "0001.png"), np.zeros((128, 160, 3), np.uint8))
    with pytest.raises(WrongSizeError, match=r"0001\.png is 160x128, .* 80x64"):
        estimated(annotations, skip_broken=skip_broken)
    unknown = replace(annotations, image_sizes_wh=np.zeros((3, 2)))
    assert len(estimated(unknown).areas) == 6


@pytest.mark.parametrize("orientation", [3, 6])
def test_upright(tmp_path: Path, orientation: int) -> None:
    folder = write_people(tmp_path / "people", 6)
    annotations = read_coco(folder / "people.json", folder)
    plain = estimated(annotations)
    for path in folder.glob("*.png"):
        stored = np.rot90(cv2.imread(str(path)), 1 if orientation == 6 else 2)
        content = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        path.write_bytes(with_orientation(content, orientation))
    turned = estimated(replace(annotations, upright=True))
    np.testing.assert_allclose(turned.keypoints, plain.keypoints, atol=0.5)
    if orientation == 6:
        with pytest.raises(WrongSizeError, match=r"EXIF.*--data\.upright"):
            estimated(annotations)
    else:
        assert np.abs(estimated(annotations).keypoints - plain.keypoints).max() > 5
