"""Person scores and OKS suppression with plain loops: scores 1e-12, kept poses equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import references
import torch
from test_crops import people

from simplepose.config import EvaluateConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.core.oks import oks_nms, oks_nms_batch, rescore
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Detections
from simplepose.evaluation.top_down import Estimates, estimate_boxes, results_of
from simplepose.pose import geometry
from simplepose.pose.calibration import Calibration
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator


def crowd(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Poses of which many are near copies: keypoints, keypoint scores, box scores, areas."""
    rng = np.random.default_rng(seed)
    originals = rng.uniform(0, 300, (count // 3, 17, 2))
    copies = originals[rng.integers(0, len(originals), count)] + rng.normal(
        size=(count, 17, 2)
    ) * rng.choice([0.5, 3, 8, 15], (count, 1, 1))
    return (
        copies,
        rng.random((count, 17)).astype(np.float32),
        rng.random(count),
        rng.uniform(2_000, 40_000, count),
    )


def test_rescoring() -> None:
    """Box score x mean of keypoint scores above .2 (exactly .2 does not count); 0 where none is."""
    _, keypoint_scores, box_scores, _ = crowd(0)
    keypoint_scores[0] = 0.2
    keypoint_scores[1] = 0.0
    keypoint_scores[2, 1:] = 0.1
    ours = rescore(box_scores, keypoint_scores.astype(np.float64), 0.2)
    expected = [
        references.person_score(box, row)
        for box, row in zip(box_scores, keypoint_scores.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(ours[1:], expected[1:], rtol=1e-12)
    assert ours[1] == 0 and rescore(np.ones(1), np.full((1, 17), 0.2))[0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_suppression(seed: int) -> None:
    """Best first, gone above .9; every keypoint counts; the mean of both areas."""
    poses, _, scores, areas = crowd(seed)
    expected = references.suppress(poses, scores.tolist(), areas.tolist())
    assert 5 < len(expected) < 30
    assert oks_nms(poses, scores, areas, COCO_17.sigmas).tolist() == expected
    kept = oks_nms_batch(np.zeros(30, np.int64), poses, scores, areas, COCO_17.sigmas)
    assert np.flatnonzero(kept).tolist() == sorted(expected)


def test_a_threshold_that_is_met_keeps() -> None:
    """OKS <= threshold stays: only more than it goes."""
    poses, _, scores, areas = crowd(9, 3)
    poses[1], areas[:] = poses[0] + 3.0, 5_000.0
    exact = references.similarity(poses[0], poses[1], 5_000, 5_000)
    scores = np.array([0.9, 0.8, 0.1])
    assert 1 in oks_nms(poses, scores, areas, COCO_17.sigmas, exact + 1e-12).tolist()
    assert 1 not in oks_nms(poses, scores, areas, COCO_17.sigmas, exact - 1e-12).tolist()


def test_sigmas_of_another_skeleton_are_refused() -> None:
    """Never a silent COCO list for another number of keypoints."""
    with pytest.raises(UserError, match="16 .*17"):
        oks_nms(np.zeros((2, 16, 2)), np.ones(2), np.ones(2), COCO_17.sigmas)
    np.testing.assert_allclose(COCO_17.sigmas, references.COCO_SIGMAS)


def test_area_is_that_of_the_padded_crop() -> None:
    """Aspect-fixed and padded box, not the annotated area: width x height of the region."""
    boxes = np.array([[10.0, 20, 60, 130], [-30, 5, 200, 40]])
    _, sizes = geometry.fit_boxes(boxes, (192, 256))
    for (left, top, right, bottom), size in zip(boxes.tolist(), sizes, strict=True):
        _, (width, height) = references.region((left, top, right - left, bottom - top), (192, 256))
        assert size.prod() == pytest.approx(width * height, rel=1e-12)


def test_the_test_of_a_network_suppresses_by_the_padded_crop(tmp_path: Path) -> None:
    """A network that sees the same pose in two narrow crops, 4 pixels apart.

    By the area of the padded, aspect-fixed crops the two are alike enough for one to go; by that of the bare
    boxes, of the boxes only padded, or of those only brought to the aspect of the input, both would stay.
    """
    write_image(tmp_path / "0.png", np.zeros((200, 200, 3), np.uint8))
    annotations = people(
        np.ones((1, 4)),
        np.zeros((1, 17, 2)),
        np.zeros((1, 17)),
        np.full((1, 2), 200),
        (str(tmp_path / "0.png"),),
    )
    width, height, apart = 20, 120, 4
    left = np.array([60, 60 + apart])
    boxes = np.stack([left, np.full(2, 30), left + width, np.full(2, 30 + height)], axis=1)
    detections = Detections(
        image_index=np.zeros(2), boxes_xyxy=boxes, scores=np.array([0.9, 0.8]), source="test"
    )
    maps = torch.zeros(17, 16, 12)
    maps[:, 8, 6] = 1.0
    spec = ModelSpec(preset="", schema=COCO_17, input_size_wh=(48, 64))
    estimator = PoseEstimator(
        lambda pixels: maps.expand(len(pixels), -1, -1, -1), spec, flip_test=False
    )
    estimates = estimate_boxes(estimator, annotations, detections)
    np.testing.assert_allclose(
        estimates.keypoints[1] - estimates.keypoints[0], np.tile([apart, 0.0], (17, 1)), atol=1e-9
    )

    def alike(area: float) -> float:
        return references.similarity(estimates.keypoints[0], estimates.keypoints[1], area, area)

    fixed = height * 48 / 64 * height
    padded, smaller = alike(fixed * 1.25**2), (width * height, width * height * 1.25**2, fixed)
    assert padded > max(map(alike, smaller)) + 0.01
    for threshold, kept in ((padded - 1e-6, 1), (padded + 1e-6, 2)):
        rows = results_of(estimates, annotations, EvaluateConfig(oks_nms_threshold=threshold))
        assert len(rows) == kept


@pytest.mark.parametrize(
    "preset",
    [
        "coco_r50_256x192_ms",
        "coco_r50_256x192_tf",
        "posetrack_r50_256x192_tf",
        "posetrack_r50_256x192_ms",
    ],
)
def test_what_is_written(preset: str) -> None:
    """COCO: rescored, suppressed on that score. PoseTrack: no rescoring, the mean of all keypoint scores decides."""
    poses, keypoint_scores, box_scores, areas = crowd(4)
    pictures = np.arange(30) % 2
    annotations = people(
        np.ones((2, 4)), np.zeros((2, 17, 2)), np.zeros((2, 17)), np.full((2, 2), 100)
    )
    config = replace(load_preset(preset).evaluate, task="coco")
    rows = results_of(
        Estimates(pictures, poses, keypoint_scores, box_scores, areas), annotations, config
    )
    expected = []
    for picture in (0, 1):
        members = np.flatnonzero(pictures == picture)
        scores = [
            sum(map(float, keypoint_scores[i])) / 17
            if preset.startswith("posetrack")
            else references.person_score(box_scores[i], keypoint_scores[i])
            for i in members
        ]
        kept = references.suppress(poses[members], scores, areas[members].tolist())
        expected += [(picture, members[i], scores[i]) for i in kept]
    assert [(row["image_id"], row["score"]) for row in rows] == [
        (p, pytest.approx(s, abs=5.1e-5 if "tf" in preset else 1e-9)) for p, _, s in expected
    ]
    for row, (_, member, _) in zip(rows, expected, strict=True):
        np.testing.assert_allclose(
            np.array(row["keypoints"]).reshape(17, 3)[:, :2],
            poses[member],
            atol=5.1e-4 if "tf" in preset else 1e-9,
        )


def test_raw_scores_rank_and_calibrated_ones_are_written() -> None:
    """Two copies of a pose, both too weak for the curve to tell apart: the one of the higher raw score stays."""
    poses = np.tile(np.random.default_rng(0).uniform(10, 90, (1, 17, 2)), (2, 1, 1))
    keypoint_scores = np.full((2, 17), 1e-5, np.float32)
    keypoint_scores[1] = 9e-5
    annotations = people(
        np.ones((1, 4)), np.zeros((1, 17, 2)), np.zeros((1, 17)), np.full((1, 2), 100)
    )
    calibration = Calibration(
        keypoint_slope=1.0,
        keypoint_offset=9.0,
        pose_slope=1.0,
        pose_offset=8.0,
        people=100,
        error_raw=0.3,
        error=0.1,
    )
    estimates = Estimates(np.zeros(2, int), poses, keypoint_scores, np.ones(2), np.full(2, 6400.0))
    (row,) = results_of(estimates, annotations, EvaluateConfig(keypoint_threshold=0.0), calibration)
    one = 1 / (1 + np.exp(-(np.log(1e-4 / (1 - 1e-4)) + 8)))  # scores below 1e-4 count as that
    assert row["score"] == pytest.approx(one, rel=1e-4)
    ranked = replace(estimates, keypoints=poses + np.array([0, 0.01])[:, None, None])
    (row,) = results_of(ranked, annotations, EvaluateConfig(keypoint_threshold=0.0), calibration)
    assert row["keypoints"][0] == pytest.approx(poses[1, 0, 0] + 0.01)
