"""Opt-in: CLEAR MOT against motmetrics, IDF1 and HOTA against trackeval, on random sequences with misses, ghosts and changed identities.

Both packages live in an environment of their own: `make test-trackeval`.
"""

from __future__ import annotations

import numpy as np
import pytest

from simplepose.evaluation.tracking import TrackedFrame, clear_mot, hota, identity

pytestmark = pytest.mark.trackeval
SEEDS = range(25)


def random_sequence(seed: int, frames: int = 40) -> list[TrackedFrame]:
    """People on straight lines; predictions with noise, misses, ghosts and identities that change or swap; some frames without anybody."""
    rng = np.random.default_rng(seed)
    start, speed = rng.uniform(0, 30, (6, 2)), rng.normal(0, 0.5, (6, 2))
    label = np.arange(10, 16)
    sequence = []
    for t in range(frames):
        if rng.uniform() < 0.2:
            a, b = rng.choice(6, 2, replace=False)
            label[[a, b]] = label[[b, a]]
        if rng.uniform() < 0.1:
            label[rng.integers(6)] = 100 + t
        there = (
            np.flatnonzero(rng.uniform(size=6) < 0.85) if rng.uniform() > 0.05 else np.zeros(0, int)
        )
        found = (
            there[rng.uniform(size=len(there)) < 0.85] if rng.uniform() > 0.05 else np.zeros(0, int)
        )
        places = start + speed * t
        points = np.concatenate(
            [
                places[found] + rng.normal(0, 1, (len(found), 2)),
                rng.uniform(0, 30, (rng.integers(0, 3), 2)),
            ]
        )
        identities = np.concatenate(
            [label[found], 1000 + 10 * t + np.arange(len(points) - len(found))]
        )
        distance = np.linalg.norm(places[there][:, None] - points[None], axis=-1)
        sequence.append(
            TrackedFrame(
                there.astype(np.int64), identities.astype(np.int64), np.clip(1 - distance / 6, 0, 1)
            )
        )
    return sequence


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_mot_against_motmetrics(seed: int) -> None:
    motmetrics = pytest.importorskip("motmetrics", reason="needs motmetrics (make test-trackeval)")
    sequence = random_sequence(seed)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for frame in sequence:
        distance = np.where(frame.similarity >= 0.5, 1 - frame.similarity, np.nan)
        accumulator.update(frame.ids, frame.predicted_ids, distance)
    names = [
        "num_matches",
        "num_switches",
        "num_misses",
        "num_false_positives",
        "mota",
        "motp",
        "idf1",
    ]
    theirs = motmetrics.metrics.create().compute(accumulator, metrics=names, return_dataframe=False)
    mine = clear_mot(sequence)
    assert (mine.matches - mine.switches, mine.switches) == (
        theirs["num_matches"],
        theirs["num_switches"],
    )
    assert (mine.misses, mine.false_positives) == (
        theirs["num_misses"],
        theirs["num_false_positives"],
    )
    assert mine.mota == pytest.approx(theirs["mota"], abs=1e-9)
    assert mine.motp == pytest.approx(1 - theirs["motp"], abs=1e-9)
    assert identity(sequence).idf1 == pytest.approx(theirs["idf1"], abs=1e-9)
    assert mine.switches > 0 and mine.false_positives > 0


def trackeval_input(sequence: list[TrackedFrame]) -> dict:
    """Identities as 0.., and the counts trackeval wants."""
    sides = []
    for side in ("ids", "predicted_ids"):
        known = np.unique(np.concatenate([getattr(frame, side) for frame in sequence]))
        sides.append(
            (len(known), [np.searchsorted(known, getattr(frame, side)) for frame in sequence])
        )
    (true_count, true), (found_count, found) = sides
    return {
        "num_gt_ids": true_count,
        "num_tracker_ids": found_count,
        "gt_ids": true,
        "tracker_ids": found,
        "num_gt_dets": sum(map(len, true)),
        "num_tracker_dets": sum(map(len, found)),
        "num_timesteps": len(sequence),
        "similarity_scores": [frame.similarity for frame in sequence],
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_hota_and_idf1_against_trackeval(seed: int) -> None:
    metrics = pytest.importorskip(
        "trackeval.metrics", reason="needs trackeval (make test-trackeval)"
    )
    sequence = random_sequence(seed)
    data = trackeval_input(sequence)
    theirs = metrics.HOTA().eval_sequence(data)
    mine = hota(sequence)
    assert mine.hota == pytest.approx(theirs["HOTA"].mean(), abs=1e-9)
    assert mine.deta == pytest.approx(theirs["DetA"].mean(), abs=1e-9)
    assert mine.assa == pytest.approx(theirs["AssA"].mean(), abs=1e-9)
    assert np.array_equal(mine.true_positives, theirs["HOTA_TP"])
    assert identity(sequence).idf1 == pytest.approx(
        metrics.Identity({"PRINT_CONFIG": False}).eval_sequence(data)["IDF1"], abs=1e-9
    )
    assert 0.1 < mine.hota < 0.9


def test_whole_posetrack_numbers_against_motmetrics() -> None:
    """MOTA of made-up PoseTrack frames, keypoint by keypoint through motmetrics, as poseval does it."""
    motmetrics = pytest.importorskip("motmetrics", reason="needs motmetrics (make test-trackeval)")
    from simplepose.evaluation.posetrack import Frame, evaluate_posetrack

    rng = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        body = rng.uniform(0, 200, (4, 15, 2))
        frames.append(
            (
                Frame(
                    keypoints=body,
                    labelled=rng.uniform(size=(4, 15)) < 0.8,
                    head_sizes=np.full(4, 30.0),
                    scores=np.ones((4, 15)),
                    track_ids=np.arange(4),
                ),
                Frame(
                    keypoints=body + rng.normal(0, 8, body.shape),
                    labelled=rng.uniform(size=(4, 15)) < 0.9,
                    head_sizes=np.full(4, np.nan),
                    scores=rng.uniform(size=(4, 15)),
                    track_ids=rng.permutation(6)[:4],
                ),
            )
        )
    values = []
    for k in range(15):
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for truth, result in frames[:-1]:
            true, found = (
                np.flatnonzero(truth.labelled[:, k]),
                np.flatnonzero(result.labelled[:, k]),
            )
            away = truth.keypoints[true, k][:, None] - result.keypoints[found, k]
            distance = np.linalg.norm(away, axis=-1) / 30
            accumulator.update(
                truth.track_ids[true],
                result.track_ids[found],
                np.where(distance <= 0.5, distance, np.nan),
            )
        values.append(
            motmetrics.metrics.create().compute(
                accumulator, metrics=["mota"], return_dataframe=False
            )["mota"]
        )
    assert evaluate_posetrack({"a": frames}, exact=True)["MOTA"] == pytest.approx(
        100 * np.mean(values), abs=1e-9
    )
