"""CLEAR MOT, IDF1 and HOTA on hand-made sequences whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simplepose.evaluation.tracking import (
    ClearMot,
    Hota,
    Identity,
    TrackedFrame,
    clear_mot,
    hota,
    identity,
)


def frame(
    ids: list[int], predicted: list[int], pairs: dict[tuple[int, int], float] | None = None
) -> TrackedFrame:
    """A frame in which equal positions are identical, or the given (row, column) pairs have the given similarity."""
    similarity = np.zeros((len(ids), len(predicted)))
    for (row, column), value in (
        {(i, i): 1.0 for i in range(min(similarity.shape))} if pairs is None else pairs
    ).items():
        similarity[row, column] = value
    return TrackedFrame(np.array(ids, np.int64), np.array(predicted, np.int64), similarity)


PERFECT = [frame([1, 2], [5, 6])] * 10
SWITCH = [frame([1], [5])] * 5 + [frame([1], [6])] * 5
MISS = [frame([1, 2], [5, 6])] * 9 + [frame([1, 2], [5])]
FALSE = [frame([1], [5])] * 9 + [frame([1], [5, 9])]
SWAPPED = [frame([1, 2], [5, 6])] * 5 + [frame([1, 2], [6, 5])] * 5
GAP = [frame([1], [5])] * 4 + [frame([1], [])] + [frame([1], [5])] * 5
MOVED = [frame([1], [5], {(0, 0): 0.7})] * 4

# sequence, (matches, switches, misses, false positives), MOTA, MOTP, IDF1, HOTA
CASES = {
    "empty": ([], (0, 0, 0, 0), math.nan, 0.0, math.nan, math.nan),
    "empty frame": ([frame([], [])], (0, 0, 0, 0), math.nan, 0.0, math.nan, math.nan),
    "nobody there": ([frame([], [5])], (0, 0, 0, 1), math.nan, 0.0, 0.0, 0.0),
    "nobody found": ([frame([1], [])], (0, 0, 1, 0), 0.0, 0.0, 0.0, 0.0),
    "perfect": (PERFECT, (20, 0, 0, 0), 1.0, 1.0, 1.0, 1.0),
    "one switch": (SWITCH, (10, 1, 0, 0), 0.9, 1.0, 0.5, math.sqrt(0.5)),
    # AssA: 10 pairs of track 1 at 1, 9 of track 2 at 9/10
    "one miss": (MISS, (19, 0, 1, 0), 0.95, 1.0, 38 / 39, math.sqrt(19 / 20 * (10 + 9 * 0.9) / 19)),
    "one false positive": (FALSE, (10, 0, 0, 1), 0.9, 1.0, 20 / 21, math.sqrt(10 / 11)),
    # every pair: 5 frames together of 10 + 10 - 5
    "swapped for half the time": (SWAPPED, (20, 2, 0, 0), 0.9, 1.0, 0.5, math.sqrt(1 / 3)),
    "a gap is no switch": (GAP, (9, 0, 1, 0), 0.9, 1.0, 18 / 19, math.sqrt(0.9 * 0.9)),
    # 14 of the 19 thresholds are .70 or less
    "less alike": (MOVED, (4, 0, 0, 0), 1.0, 0.7, 1.0, 14 / 19),
}


@pytest.mark.parametrize("name", CASES)
def test_known_sequences(name: str) -> None:
    frames, counts, mota, motp, idf1, expected_hota = CASES[name]
    clear = clear_mot(frames)
    assert (clear.matches, clear.switches, clear.misses, clear.false_positives) == counts
    assert clear.mota == pytest.approx(mota, nan_ok=True)
    assert clear.motp == pytest.approx(motp)
    assert identity(frames).idf1 == pytest.approx(idf1, nan_ok=True)
    assert hota(frames).hota == pytest.approx(expected_hota, nan_ok=True)


def test_old_identity_wins_over_a_closer_new_one() -> None:
    frames = [frame([1], [5]), frame([1], [5, 6], {(0, 0): 0.6, (0, 1): 0.9})]
    assert clear_mot(frames).switches == 0


def test_most_pairs_before_most_similar() -> None:
    clear = clear_mot([frame([1, 2], [5, 6], {(0, 0): 1.0, (0, 1): 0.6, (1, 0): 0.6})])
    assert (clear.matches, clear.motp) == (2, pytest.approx(0.6))


def test_threshold_is_inclusive() -> None:
    assert clear_mot([frame([1], [5], {(0, 0): 0.5})]).matches == 1
    assert clear_mot([frame([1], [5], {(0, 0): 0.4999})]).matches == 0


def test_sequences_add_up() -> None:
    total = clear_mot(SWITCH) + clear_mot(MISS)
    assert total == ClearMot(29, 1, 1, 0, 29.0)
    assert identity(SWITCH) + identity(PERFECT) == Identity(25, 5, 5)
    both = hota(PERFECT) + hota(SWAPPED)
    assert isinstance(both, Hota)
    assert both.assa == pytest.approx((20 + 20 / 3) / 40)
    assert both.deta == 1


def test_precision_and_recall() -> None:
    clear = clear_mot(MISS)
    assert (clear.precision, clear.recall) == (1.0, 0.95)
    assert math.isnan(ClearMot().precision) and math.isnan(ClearMot().recall)
