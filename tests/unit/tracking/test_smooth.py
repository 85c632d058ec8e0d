"""Smoothing: what it takes away, what it must not move, and gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.structures import Poses
from simplepose.tracking.smooth import (
    OneEuroConfig,
    PoseSmoother,
    fill_gaps,
    smooth_zero_phase,
    smoothing_factor,
)

BODY = np.array([[0.0, 0.0], [0.0, 100.0], [30.0, 50.0]])


def moved(dx: float) -> np.ndarray:
    return BODY + np.array([dx, 0])


def poses(*tracks: tuple[int, np.ndarray], score: float = 0.9) -> Poses:
    count = len(tracks)
    keypoints = np.array([places for _, places in tracks]).reshape(count, 3, 2)
    boxes = np.array([[0, 0, 30, 100]] * count).reshape(count, 4)
    ids = np.array([track_id for track_id, _ in tracks], np.int64)
    return Poses(keypoints, np.full((count, 3), score), boxes, np.full(count, score), ids)


def test_smoothing_factor_is_that_of_an_rc_low_pass() -> None:
    assert smoothing_factor(0.1, 1.0) == pytest.approx(
        1 / (1 + 1 / (2 * np.pi * 1.0) / 0.1)
    )  # 1 / (1 + tau / Te)


def test_one_euro_takes_noise_from_rest_and_follows_a_fast_move() -> None:
    rng = np.random.default_rng(0)
    smoother, out = PoseSmoother(), []
    for step in range(60):
        measured = BODY + rng.normal(0, 2, BODY.shape)
        out.append(smoother(poses((1, measured)), step / 30).keypoints[0])
    assert np.std(np.array(out[30:]) - BODY) < 1.0  # of 2.0
    smoother, lag = PoseSmoother(OneEuroConfig(beta=50)), 0.0
    for step in range(30):
        truth = moved(20.0 * step)  # 6 heights a second
        lag = np.abs(smoother(poses((1, truth)), step / 30).keypoints[0] - truth).max()
    slow = PoseSmoother(OneEuroConfig(beta=0))
    for step in range(30):
        slow_lag = np.abs(
            slow(poses((1, moved(20.0 * step))), step / 30).keypoints[0] - moved(20.0 * step)
        ).max()
    assert lag < 5 < slow_lag


def test_one_euro_keeps_tracks_apart_and_forgets() -> None:
    smoother = PoseSmoother()
    smoother(poses((1, BODY), (2, BODY + 500)), 0.0)
    second = smoother(poses((2, BODY + 500), (1, BODY)), 0.1)
    np.testing.assert_allclose(second.keypoints, np.stack([BODY + 500, BODY]))
    np.testing.assert_allclose(
        smoother(poses((1, BODY + 90)), 5.0).keypoints[0], BODY + 90
    )  # too long ago
    assert len(smoother(poses(), 5.1)) == 0


def test_poses_without_ids_are_refused() -> None:
    bare = replace(poses((1, BODY)), track_ids=None)
    for call in (
        lambda: PoseSmoother()(bare, 0.0),
        lambda: smooth_zero_phase([bare]),
        lambda: fill_gaps([bare], max_gap=3),
    ):
        with pytest.raises(UserError, match="track ids"):
            call()
    with pytest.raises(UserError):
        OneEuroConfig(min_cutoff=0)
    with pytest.raises(UserError):
        smooth_zero_phase([], sigma_frames=0)


def test_zero_phase_leaves_straight_lines_and_has_no_delay() -> None:
    line = [poses((1, moved(3.0 * step))) for step in range(40)]
    smooth = smooth_zero_phase(line)
    for before, after in zip(line[8:-8], smooth[8:-8], strict=True):
        np.testing.assert_allclose(after.keypoints, before.keypoints, atol=1e-3)
    rng = np.random.default_rng(0)
    noisy = [poses((1, BODY + rng.normal(0, 2, BODY.shape))) for _ in range(60)]
    assert np.std([after.keypoints[0] - BODY for after in smooth_zero_phase(noisy)]) < 1.2
    assert smooth_zero_phase([]) == []


def test_zero_phase_does_not_reach_over_a_gap_or_to_another_track() -> None:
    story = [
        poses((1, BODY)),
        poses((1, BODY), (2, BODY + 50)),
        poses((2, BODY + 50)),
        poses(),
        poses((1, BODY + 300)),
    ]
    smooth = smooth_zero_phase(story, sigma_frames=3)
    for before, after in zip(story, smooth, strict=True):
        np.testing.assert_allclose(after.keypoints, before.keypoints, atol=1e-3)


def test_an_unsure_joint_takes_its_place_from_its_neighbours() -> None:
    story = [poses((1, BODY)) for _ in range(9)]
    scores = np.full((1, 3), 0.9)
    scores[0, 1] = 0.01
    astray = BODY.copy()
    astray[1, 0] += 80
    story[4] = replace(poses((1, astray)), keypoint_scores=scores)
    assert abs(smooth_zero_phase(story)[4].keypoints[0, 1, 0]) < 3


@pytest.mark.parametrize(("max_gap", "filled"), [(0, 0), (2, 0), (3, 3), (9, 3)])
def test_gaps_are_filled_on_a_straight_line_and_marked(max_gap: int, filled: int) -> None:
    story = [
        poses((1, BODY)),
        poses(),
        poses((2, BODY)),
        poses((2, BODY)),
        poses((1, BODY + 40), score=0.5),
    ]
    out, marks = fill_gaps(story, max_gap=max_gap)
    assert sum(int(mark.sum()) for mark in marks) == filled
    assert [len(mark) for mark in marks] == [len(one) for one in out]
    if filled:
        np.testing.assert_allclose(out[1].keypoints[0], BODY + 10)
        assert out[1].track_ids.tolist() == [1] and out[1].scores[0] == pytest.approx(0.5)
        assert out[2].track_ids.tolist() == [2, 1] and marks[2].tolist() == [False, True]
        np.testing.assert_allclose(out[2].keypoints[1], BODY + 20)


def test_gaps_in_frames_read_from_a_file_without_people() -> None:
    """An empty frame of a file does not know how many keypoints there are."""
    nobody = Poses(np.zeros((0, 0, 2)), np.zeros((0, 0)), np.zeros((0, 4)), np.zeros(0))
    out, _ = fill_gaps([poses((1, BODY)), nobody, poses((1, BODY))], max_gap=1)
    assert out[1].keypoints.shape == (1, 3, 2)
