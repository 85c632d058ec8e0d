"""Multi-object tracking measures as pure functions of arrays: CLEAR MOT (MOTA, MOTP), IDF1, HOTA.

Every function takes one sequence, a list of `TrackedFrame`, and returns counts; the counts of
several sequences are added with `+`, and the measures are properties of the sum. A measure is NaN
where nothing was annotated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

HOTA_THRESHOLDS = np.arange(1, 20) / 20
"""Localisation thresholds .05, .10 .. .95 over which HOTA is averaged."""


class TrackedFrame(NamedTuple):
    """One frame: who is there, who was reported, and how alike they are."""

    ids: np.ndarray
    """(N,) int64 identities of the annotated people, unique."""
    predicted_ids: np.ndarray
    """(M,) int64 identities of the reported people, unique."""
    similarity: np.ndarray
    """(N, M) float64 in 0..1; what is below 0 counts as 0."""


class _Counts:
    """What the three results share: sums over sequences."""

    def __add__(self, other: Any) -> Any:
        names = self.__dataclass_fields__  # type: ignore[attr-defined]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class ClearMot(_Counts):
    """CLEAR MOT counts (Bernardin and Stiefelhagen 2008)."""

    matches: int = 0
    """Matched pairs, switches included."""
    switches: int = 0
    misses: int = 0
    false_positives: int = 0
    similarity_sum: float = 0.0
    """Over the matched pairs."""

    @property
    def mota(self) -> float:
        """1 - (misses + switches + false positives) / annotated."""
        errors = self.misses + self.switches + self.false_positives
        return 1 - _ratio(errors, self.matches + self.misses)

    @property
    def motp(self) -> float:
        """Mean similarity of the matched pairs; 0 where none matched."""
        return self.similarity_sum / max(self.matches, 1)

    @property
    def precision(self) -> float:
        """Matched / reported."""
        return _ratio(self.matches, self.matches + self.false_positives)

    @property
    def recall(self) -> float:
        """Matched / annotated."""
        return _ratio(self.matches, self.matches + self.misses)


def clear_mot(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> ClearMot:
    """MOTA and MOTP of one sequence (Bernardin and Stiefelhagen 2008, section 2.1).

    A person keeps the identity it was last matched with, however long ago, while that pair is still
    alike enough; the others are assigned so that the most pairs match, and among those the most
    similar. A match with another identity than the last is a switch.

    Args:
        frames: of one sequence, in order.
        threshold: a pair may match from this similarity on.
    """
    last: dict[int, int] = {}
    counts = ClearMot()
    for (ids, predicted_ids, similarity), pairs in zip(
        frames, clear_pairs(frames, threshold), strict=True
    ):
        switches, total = 0, 0.0
        for row, column in pairs:
            person, name = int(ids[row]), int(predicted_ids[column])
            switches += last.get(person, name) != name
            last[person] = name
            total += max(float(similarity[row, column]), 0.0)
        hits = len(pairs)
        counts += ClearMot(hits, switches, len(ids) - hits, len(predicted_ids) - hits, total)
    return counts


def clear_pairs(
    frames: Sequence[TrackedFrame], threshold: float = 0.5
) -> Iterator[list[tuple[int, int]]]:
    """The matched pairs (row, column) of each frame, see `clear_mot`."""
    last: dict[int, int] = {}
    for ids, predicted_ids, similarity in frames:
        similarity = np.maximum(similarity, 0)
        possible = similarity >= threshold
        columns: dict[int | None, int] = {
            name: column for column, name in enumerate(predicted_ids.tolist())
        }
        pairs = []
        for row, person in enumerate(ids.tolist()):
            column = columns.get(last.get(person))
            if column is not None and possible[row, column]:
                pairs.append((row, column))
                possible[row], possible[:, column] = False, False
        # A possible pair weighs more than all similarities together: the most pairs come first.
        weight = np.where(possible, similarity + 2 * sum(similarity.shape) + 1, 0)
        assigned = np.stack(linear_sum_assignment(-weight), 1)
        pairs += [(row, column) for row, column in assigned.tolist() if possible[row, column]]
        last |= {int(ids[row]): int(predicted_ids[column]) for row, column in pairs}
        yield pairs


@dataclass(frozen=True)
class Identity(_Counts):
    """Identity counts (Ristani et al. 2016)."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def idf1(self) -> float:
        """2 IDTP / (2 IDTP + IDFP + IDFN)."""
        right = 2 * self.true_positives
        return _ratio(right, right + self.false_positives + self.false_negatives)


def identity(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> Identity:
    """IDF1 of one sequence: one global assignment of identities that explains the most frames.

    Source: Ristani et al. 2016, section 4.2.

    Args:
        frames: of one sequence.
        threshold: a pair may match from this similarity on.
    """
    indexed, true, reported = _indexed(frames)
    together = np.zeros((len(true), len(reported)))
    for rows, columns, similarity in indexed:
        together[np.ix_(rows, columns)] += similarity >= threshold
    explained = int(together[linear_sum_assignment(-together)].sum())
    return Identity(explained, int(reported.sum()) - explained, int(true.sum()) - explained)


@dataclass(frozen=True, eq=False)
class Hota(_Counts):
    """HOTA counts (Luiten et al. 2021), one entry a localisation threshold, (19,) each."""

    true_positives: Any = 0
    false_negatives: Any = 0
    false_positives: Any = 0
    association_sum: Any = 0.0
    """Sum over the true positives c of A(c)."""

    @property
    def deta_curve(self) -> np.ndarray:
        """DetA at each threshold."""
        everything = self.true_positives + self.false_negatives + self.false_positives
        return np.where(everything > 0, self.true_positives / np.maximum(everything, 1), np.nan)

    @property
    def assa_curve(self) -> np.ndarray:
        """AssA at each threshold; 0 where nothing matched."""
        return self.association_sum / np.maximum(self.true_positives, 1)

    @property
    def hota(self) -> float:
        """Mean over the thresholds of sqrt(DetA x AssA)."""
        return float(np.sqrt(self.deta_curve * self.assa_curve).mean())

    @property
    def deta(self) -> float:
        """Mean detection accuracy."""
        return float(self.deta_curve.mean())

    @property
    def assa(self) -> float:
        """Mean association accuracy."""
        return float(self.assa_curve.mean())


def hota(frames: Sequence[TrackedFrame]) -> Hota:
    """HOTA of one sequence: a frame's assignment maximises alignment of whole tracks x similarity.

    Source: Luiten et al. 2021, section 5.
    """
    indexed, true, reported = _indexed(frames)
    aligned = np.zeros((len(true), len(reported)))
    for rows, columns, similarity in indexed:
        union = similarity.sum(0) + similarity.sum(1)[:, None] - similarity
        aligned[np.ix_(rows, columns)] += similarity / np.maximum(union, np.finfo(float).eps)
    tiny = np.finfo(float).tiny
    alignment = aligned / np.maximum(true[:, None] + reported - aligned, tiny)
    matched = np.zeros((len(HOTA_THRESHOLDS), *alignment.shape))
    for rows, columns, similarity in indexed:
        pairs = linear_sum_assignment(-alignment[np.ix_(rows, columns)] * similarity)
        alike = similarity[pairs] >= HOTA_THRESHOLDS[:, None] - np.finfo(float).eps
        matched[:, rows[pairs[0]], columns[pairs[1]]] += alike
    accuracy = matched / np.maximum(true[:, None] + reported - matched, 1)
    hits = matched.sum((1, 2))
    return Hota(hits, true.sum() - hits, reported.sum() - hits, (matched * accuracy).sum((1, 2)))


def _indexed(
    frames: Sequence[TrackedFrame],
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Identities as indices, with each frame's similarity; frames of each true and reported one."""
    known, counts = [], []
    for side in (0, 1):
        everybody = np.concatenate([np.zeros(0, np.int64), *(frame[side] for frame in frames)])
        names, count = np.unique(everybody, return_counts=True)
        known.append(names)
        counts.append(count)
    indexed = [
        (
            np.searchsorted(known[0], frame.ids),
            np.searchsorted(known[1], frame.predicted_ids),
            np.maximum(frame.similarity, 0),
        )
        for frame in frames
    ]
    return indexed, counts[0], counts[1]
