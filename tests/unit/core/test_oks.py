"""OKS by hand, NMS of one and many pictures, rescoring."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.oks import check_sigmas, oks, oks_nms, oks_nms_batch, rescore
from simplepose.core.schema import COCO_17

SIGMAS = COCO_17.sigmas


def plain_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: tuple[float, ...],
    threshold: float,
) -> list[int]:
    """The formula, pair by pair."""
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda i: -scores[i]):
        for better in kept:
            total = 0.0
            for k, sigma in enumerate(sigmas):
                squared = sum((keypoints[better, k] - keypoints[candidate, k]) ** 2)
                total += math.exp(
                    -squared
                    / (2 * sigma) ** 2
                    / ((areas[better] + areas[candidate]) / 2 + np.spacing(1))
                    / 2
                )
            if total / len(sigmas) > threshold:
                break
        else:
            kept.append(candidate)
    return kept


def crowd(
    rng: np.random.Generator, count: int, keypoint_count: int = 17
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses around a few people, some exact copies, some scores equal."""
    people = rng.uniform(0, 400, (4, 1, 2)) + rng.uniform(0, 100, (4, keypoint_count, 2))
    poses = (
        people[rng.integers(0, 4, count)]
        + rng.normal(0, 1, (count, keypoint_count, 2))
        * rng.choice([0, 1, 4, 12], count)[:, None, None]
    )
    return poses, rng.integers(0, 6, count) / 6, rng.uniform(1000, 30000, count)


def test_nobody() -> None:
    assert oks(np.zeros((0, 17, 2)), np.zeros((3, 17, 2)), np.zeros(0), SIGMAS).shape == (0, 3)
    assert oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), SIGMAS).tolist() == []
    assert (
        oks_nms_batch(
            np.zeros(0, int), np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), SIGMAS
        ).tolist()
        == []
    )
    assert rescore(np.zeros(0), np.zeros((0, 17))).tolist() == []


def test_oks_of_one_shifted_keypoint() -> None:
    keypoints = np.zeros((1, 17, 2))
    moved = keypoints.copy()
    moved[0, 5, 0] = 10
    expected = (16 + math.exp(-100 / (2 * 2500 * (2 * 0.079) ** 2))) / 17
    assert oks(keypoints, moved, [2500], SIGMAS)[0, 0] == pytest.approx(expected)
    visibility = np.zeros((1, 17))
    assert oks(keypoints, moved, [2500], SIGMAS, visibility)[0, 0] == 0
    visibility[0, [5, 6]] = 1, 2
    assert oks(keypoints, moved, [2500], SIGMAS, visibility)[0, 0] == pytest.approx(
        (1 + 17 * expected - 16) / 2
    )
    assert oks(keypoints, moved, [0], SIGMAS)[0, 0] == pytest.approx(
        16 / 17
    )  # an area of 0 does not divide by zero


def test_nms_keeps_the_better_and_is_best_first() -> None:
    keypoints = np.zeros((3, 17, 2))
    keypoints[2] += 500
    assert oks_nms(keypoints, [0.2, 0.5, 0.3], [1000, 1000, 1000], SIGMAS).tolist() == [1, 2]
    assert oks_nms(keypoints, [0.5, 0.5, 0.9], [1000, 1000, 1000], SIGMAS).tolist() == [2, 0]


def test_threshold_is_exclusive() -> None:
    """Identical poses have an OKS of 1, which does not exceed a threshold of 1."""
    assert oks_nms(np.zeros((2, 17, 2)), [1, 2], [9, 9], SIGMAS, threshold=1.0).tolist() == [1, 0]


def test_a_suppressed_pose_suppresses_nobody() -> None:
    """A removes B, B is like C, A is not: C stays."""
    shift = math.sqrt(-2 * 10000 * (2 * 0.05) ** 2 * math.log(0.92))
    keypoints = np.zeros((3, 4, 2)) + np.array([0, shift, 2 * shift])[:, None, None] * [[1.0, 0.0]]
    arguments = (keypoints, np.array([3, 2, 1]), np.full(3, 10000.0), [0.05] * 4)
    assert oks_nms(*arguments).tolist() == [0, 2]
    assert oks_nms_batch(np.zeros(3, int), *arguments).tolist() == [True, False, True]


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 0.7, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("sigmas", [(0.05,), (0.05, 0.1, 0.02), SIGMAS])
def test_three_forms_agree(sigmas: tuple[float, ...], threshold: float) -> None:
    rng = np.random.default_rng(len(sigmas))
    poses, scores, areas = crowd(rng, 90, len(sigmas))
    pictures = rng.integers(0, 9, 90) * 1000
    kept = oks_nms_batch(pictures, poses, scores, areas, sigmas, threshold)
    for picture in np.unique(pictures):
        mine = np.flatnonzero(pictures == picture)
        one = oks_nms(poses[mine], scores[mine], areas[mine], sigmas, threshold)
        assert one.tolist() == plain_nms(poses[mine], scores[mine], areas[mine], sigmas, threshold)
        assert np.flatnonzero(kept[mine]).tolist() == sorted(one.tolist())


def test_more_poses_than_are_handled_at_a_time() -> None:
    poses, scores, areas = crowd(np.random.default_rng(5), 4500)
    pictures = np.repeat(np.arange(900), 5)
    whole = oks_nms_batch(pictures, poses, scores, areas, SIGMAS)
    assert 0.2 < whole.mean() < 1
    for picture in (0, 399, 400, 401, 899):
        mine = pictures == picture
        arguments = poses[mine], scores[mine], areas[mine], SIGMAS, 0.9
        assert np.flatnonzero(whole[mine]).tolist() == sorted(plain_nms(*arguments))


def test_rescore() -> None:
    scores = np.array([[0.5, 0.2, 0.9], [0.1, 0.2, 0.0]])
    assert rescore(np.array([0.8, 0.9]), scores) == pytest.approx([0.8 * 0.7, 0])
    assert rescore(np.array([0.8]), scores[:1], threshold=0.0) == pytest.approx([0.8 * 1.6 / 3])


@pytest.mark.parametrize(
    "call",
    [
        lambda s: oks(np.zeros((1, 16, 2)), np.zeros((1, 16, 2)), [1], s),
        lambda s: oks_nms(np.zeros((1, 16, 2)), [1], [1], s),
    ],
)
def test_sigmas_of_another_schema(call) -> None:
    with pytest.raises(UserError, match="16 .*17 .*sigmas"):
        call(SIGMAS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": np.full((2, 17, 2), np.nan)}, "keypoints .*NaN"),
        ({"areas": np.array([1, np.inf])}, "areas .*NaN or infinity"),
    ],
)
def test_bad_arrays(change: dict, message: str) -> None:
    good = {
        "image_index": np.zeros(2),
        "keypoints": np.zeros((2, 17, 2)),
        "scores": np.zeros(2),
        "areas": np.ones(2),
        "sigmas": SIGMAS,
    }
    with pytest.raises(UserError, match=message):
        oks_nms_batch(**(good | change))


def test_bad_sigmas() -> None:
    for sigmas in ([0.0, 1.0], [1.0, float("nan")], [-1.0, 1.0]):
        with pytest.raises(UserError, match="sigmas.*positive"):
            check_sigmas(sigmas, 2)
