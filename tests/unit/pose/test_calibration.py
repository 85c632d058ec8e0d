"""Calibration: the curves, the error, matching people, and too few people."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from scipy.special import expit

from simplepose.config import CodecConfig, ModelConfig, PixelConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.core.structures import People
from simplepose.pose.calibration import (
    Matches,
    expected_calibration_error,
    fit,
    fit_logistic,
    logit,
    match_people,
)
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator


def made(count: int, seed: int = 0) -> Matches:
    """People whose keypoints are right with probability expit(2 logit(score) + 1): raw scores are far too low."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, (count, 17)).astype(np.float32)
    probability = expit(2 * logit(scores) + 1)
    return Matches(
        scores,
        rng.random((count, 17)) < probability,
        rng.random((count, 17)) < 0.7,
        scores.mean(1),
        probability.mean(1),
    )


def test_nobody() -> None:
    empty = match_people(
        np.zeros(0),
        np.zeros((0, 17, 3)),
        np.zeros(0),
        np.zeros(0),
        np.zeros((0, 17, 3)),
        np.zeros(0),
        COCO_17.sigmas,
    )
    assert len(empty) == 0 and math.isnan(empty.calibration_error)
    with pytest.raises(UserError, match=r"0 people.*scores stay raw"):
        fit(empty, "nobody.json")


@pytest.mark.parametrize(
    ("scores", "right", "error"),
    [
        ([], [], math.nan),
        ([1.0, 1.0], [True, True], 0.0),
        ([0.9] * 4, [True, True, True, False], 0.15),
        ([0.0, 1.0], [True, False], 1.0),
    ],
)
def test_expected_calibration_error(scores: list[float], right: list[bool], error: float) -> None:
    assert expected_calibration_error(np.array(scores), np.array(right)) == pytest.approx(
        error, nan_ok=True
    )


def test_the_fit_finds_the_curve_it_was_made_with() -> None:
    calibration = fit(made(1500), "made")
    assert calibration.keypoint_slope == pytest.approx(
        2, abs=0.1
    ) and calibration.keypoint_offset == pytest.approx(1, abs=0.1)
    other = made(1500, seed=1)
    calibrated = calibration.keypoints(other.keypoint_scores)
    after = expected_calibration_error(calibrated[other.labelled], other.right[other.labelled])
    assert after < 0.02 < 0.1 < other.calibration_error
    assert (
        np.diff(calibrated.ravel()[np.argsort(other.keypoint_scores.ravel())]) >= 0
    ).all()  # ranks stay
    expected = calibration.expected_oks(other.pose_scores)
    assert (
        np.corrcoef(expected, other.pose_oks)[0, 1] > 0.9
        and abs(expected.mean() - other.pose_oks.mean()) < 0.02
    )


def test_a_curve_through_nonsense_stays_monotone() -> None:
    slope, offset = fit_logistic(np.linspace(-3, 3, 200), np.linspace(1, 0, 200))
    assert slope > 0 and math.isfinite(offset)
    assert all(map(math.isfinite, fit_logistic(np.ones(50), np.ones(50))))


@pytest.mark.parametrize("far", [-5.0, -9.2, 9.2])
def test_the_mean_of_the_curve_is_the_mean_of_what_it_was_fitted_on(far: float) -> None:
    """So it is at the greatest likelihood, whatever the scores; some may be far from the others."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.full(20, far), rng.normal(0, 1, 80)])
    y = np.clip(0.76 + 0.05 * rng.normal(size=100), 0, 1)
    slope, offset = fit_logistic(x, y)
    assert expit(slope * x + offset).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_scores_that_are_not_finite_are_refused() -> None:
    matches = made(150)
    matches.keypoint_scores[3, 2] = math.nan
    with pytest.raises(UserError, match=r"finite .*here\.json"):
        fit(matches, "here.json")


def test_fewer_than_a_hundred_people_are_too_few() -> None:
    with pytest.raises(UserError, match=r"small\.json .*99 .*100"):
        fit(made(99), "small.json")
    assert fit(made(100), "enough.json").people == 100


def test_each_person_gets_the_best_pose_of_its_picture() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (3, 17, 2))
    poses = np.stack([truth[1] + 1, truth[0], truth[0] + 200, truth[2]])
    scores = np.arange(4)[:, None] * np.ones((4, 17)) / 10
    visibility = np.full((3, 17), 2)
    visibility[2] = 0  # nothing labelled: left out
    matches = match_people(
        np.array([5, 0, 0, 9]),
        np.dstack([poses, scores]),
        scores[:, 0],
        np.array([0, 5, 9]),
        np.dstack([truth, visibility]),
        np.full(3, 2500.0),
        COCO_17.sigmas,
    )
    assert matches.keypoint_scores[:, 0].tolist() == [0.1, 0.0] and matches.right[0].all()
    # each pose has its best person: one pixel off, exact, far away, and nobody labelled in its picture
    assert (
        0.5 < matches.pose_oks[0] < 1
        and matches.pose_oks[1] == pytest.approx(1)
        and matches.pose_oks[2:].tolist() == pytest.approx([0, 0])
    )
    assert matches.pose_scores.tolist() == scores[:, 0].tolist()


def test_storage() -> None:
    raw = ModelSpec(preset="", schema=COCO_17, input_size_wh=(24, 32))
    spec = replace(raw, calibration=fit(made(100), "made"))
    assert (
        ModelSpec.from_json(spec.to_json(), "f") == spec
        and ModelSpec.from_json(raw.to_json(), "f") == raw
    )
    stored = msgspec.json.decode(raw.to_json())
    with pytest.raises(UserError, match="f: .*calibration"):
        ModelSpec.from_json(
            msgspec.json.encode({**stored, "calibration": {"keypoint_slope": 1.0}}).decode(), "f"
        )


def test_a_calibrated_network_gives_probabilities() -> None:
    calibration = fit(made(150), "made")
    spec = ModelSpec(
        preset="",
        schema=COCO_17,
        input_size_wh=(24, 32),
        pixels=PixelConfig(),
        codec=CodecConfig(),
        model=ModelConfig(),
        calibration=calibration,
    )
    maps = torch.rand(1, 17, 8, 6, generator=torch.Generator().manual_seed(0))
    estimator = PoseEstimator(
        lambda pixels: maps.expand(len(pixels), -1, -1, -1), spec, flip_test=False
    )
    image, people = (
        np.zeros((40, 40, 3), np.uint8),
        People(np.array([[5.0, 5, 30, 35]]), np.array([0.8])),
    )
    (raw,), (ours,) = (
        estimator.estimate_batch([image], [people], calibrated=flag) for flag in (False, True)
    )
    np.testing.assert_allclose(ours.keypoint_scores, calibration.keypoints(raw.keypoint_scores))
    np.testing.assert_allclose(ours.scores, calibration.expected_oks(raw.scores))
    assert (
        estimator.drawn_threshold == pytest.approx(float(calibration.keypoints(np.array(0.2))))
        and estimator.keypoint_threshold == 0.2
    )
