"""Multi-object tracking measures as pure functions of arrays: CLEAR MOT (MOTA, MOTP), IDF1, HOTA.

Every function takes one sequence, a list of `TrackedFrame`, and returns counts; the counts of several sequences are added with `+`, and the
measures are properties of the sum. A measure is NaN where nothing was annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from simplepose.core.errors import UserError

HOTA_THRESHOLDS = np.arange(1, 20) / 20
"""Localisation thresholds .05, .10 .. .95 over which HOTA is averaged."""


class TrackedFrame(NamedTuple):
    """One frame: who is there, who was reported, and how alike they are."""

    ids: np.ndarray
    """(N,) int64 identities of the annotated people, unique."""
    predicted_ids: np.ndarray
    """(M,) int64 identities of the reported people, unique."""
    similarity: np.ndarray
    """(N, M) in 0..1; what is below 0 counts as 0."""


class _Counts:
    """What the three results share: sums over sequences."""

    def __add__(self, other: Any) -> Any:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
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
        objects = self.matches + self.misses
        return (
            1 - (self.misses + self.switches + self.false_positives) / objects
            if objects
            else float("nan")
        )

    @property
    def motp(self) -> float:
        """Mean similarity of the matched pairs; 0 where none matched."""
        return self.similarity_sum / self.matches if self.matches else 0.0

    @property
    def precision(self) -> float:
        """Matched / reported."""
        reported = self.matches + self.false_positives
        return self.matches / reported if reported else float("nan")

    @property
    def recall(self) -> float:
        """Matched / annotated."""
        objects = self.matches + self.misses
        return self.matches / objects if objects else float("nan")


def clear_mot(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> ClearMot:
    """MOTA and MOTP of one sequence, with the matching of Bernardin and Stiefelhagen 2008 (section 2.1).

    A person keeps the identity it was last matched with, however long ago, while that pair is still alike enough; the others are
    assigned so that the most pairs match, and among those the most similar. A match with another identity than the last is a switch.

    Args:
        frames: of one sequence, in order.
        threshold: a pair may match from this similarity on.
    """
    last: dict[int, int] = {}
    matches = switches = misses = false_positives = 0
    total = 0.0
    for frame in frames:
        ids, predicted_ids, similarity = _checked(frame)
        possible = similarity >= threshold
        pairs: list[tuple[int, int]] = []
        column = {int(identity): index for index, identity in enumerate(predicted_ids)}
        for row, identity in enumerate(ids.tolist()):
            previous = column.get(last.get(identity, -1)) if identity in last else None
            if previous is not None and possible[row, previous]:
                pairs.append((row, previous))
                possible[row, :] = False
                possible[:, previous] = False
        pairs += _assign(possible, similarity)
        for row, col in pairs:
            identity, reported = int(ids[row]), int(predicted_ids[col])
            switches += last.get(identity, reported) != reported
            last[identity] = reported
            total += float(similarity[row, col])
        matches += len(pairs)
        misses += len(ids) - len(pairs)
        false_positives += len(predicted_ids) - len(pairs)
    return ClearMot(matches, switches, misses, false_positives, total)


@dataclass(frozen=True, slots=True)
class Identity(_Counts):
    """Identity counts (Ristani et al. 2016)."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def idf1(self) -> float:
        """2 IDTP / (2 IDTP + IDFP + IDFN)."""
        everything = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / everything if everything else float("nan")


def identity(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> Identity:
    """IDF1 of one sequence: one global assignment of identities that explains the most frames (Ristani et al. 2016, section 4.2).

    Args:
        frames: of one sequence.
        threshold: a pair may match from this similarity on.
    """
    true, reported, together, _ = _tables(frames, threshold)
    annotated, found = int(true.sum()), int(reported.sum())
    # each true identity takes one reported identity or nobody; frames explained are the gain, so a plain maximum assignment is the optimum
    rows, columns = linear_sum_assignment(-together)
    explained = int(together[rows, columns].sum())
    return Identity(explained, found - explained, annotated - explained)


@dataclass(frozen=True, slots=True, eq=False)
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


def hota(frames: Sequence[TrackedFrame], thresholds: np.ndarray = HOTA_THRESHOLDS) -> Hota:
    """HOTA of one sequence (Luiten et al. 2021, section 5): each frame's assignment maximises alignment of whole tracks x similarity.

    Args:
        frames: of one sequence.
        thresholds: (T,) localisation thresholds.
    """
    true, reported, _, aligned = _tables(frames, np.inf)
    alignment = aligned / np.maximum(true[:, None] + reported[None] - aligned, np.finfo(float).tiny)
    counts = np.zeros((3, len(thresholds)), np.int64)  # TP, FN, FP
    matched = np.zeros((len(thresholds), len(true), len(reported)))
    places = _places(frames)
    for (rows_of, columns_of), frame in zip(places, frames, strict=True):
        similarity = _similarity(frame)
        rows, columns = linear_sum_assignment(-alignment[np.ix_(rows_of, columns_of)] * similarity)
        value = similarity[rows, columns]
        for index, alpha in enumerate(thresholds):
            alike = value >= alpha - np.finfo(float).eps
            hits = int(alike.sum())
            counts[:, index] += hits, len(rows_of) - hits, len(columns_of) - hits
            matched[index, rows_of[rows[alike]], columns_of[columns[alike]]] += 1
    accuracy = matched / np.maximum(true[None, :, None] + reported[None, None] - matched, 1)
    return Hota(counts[0], counts[1], counts[2], (matched * accuracy).sum((1, 2)))


def check_track_ids(track_ids: Any, source: str, limit: int | None = None) -> np.ndarray:
    """(N,) int64 identities.

    Raises:
        UserError: an identity is not a whole number, stands twice, or is outside 0..limit-1.
    """
    values = np.asarray(track_ids if len(track_ids) else np.zeros(0, np.int64))
    if values.dtype.kind not in "iuf" or (
        values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all()
    ):
        raise UserError(
            f"{source}: track ids must be whole numbers, got {list(track_ids)[:5]}. Cure: number the tracks"
        )
    ids = values.astype(np.int64)
    if len(np.unique(ids)) != len(ids):
        raise UserError(
            f"{source}: a track id stands twice in one frame: {sorted(ids.tolist())}. Cure: one person a track in a frame"
        )
    if limit is not None and len(ids) and (ids.min() < 0 or ids.max() >= limit):
        raise UserError(
            f"{source}: track ids must lie in 0..{limit - 1}, got {ids.min()}..{ids.max()}. Cure: number the tracks from 0"
        )
    return ids


def _checked(frame: TrackedFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, predicted_ids = (
        check_track_ids(frame.ids, "ground truth"),
        check_track_ids(frame.predicted_ids, "predictions"),
    )
    return ids, predicted_ids, _similarity(frame)


def _similarity(frame: TrackedFrame) -> np.ndarray:
    """(N, M) float64, nothing below 0."""
    return np.maximum(np.asarray(frame.similarity, np.float64), 0).reshape(
        len(frame.ids), len(frame.predicted_ids)
    )


def _assign(possible: np.ndarray, similarity: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the assignment with the most possible pairs, and among those the largest similarity."""
    if not possible.any():
        return []
    many = min(possible.shape) * (1 + np.abs(similarity[possible]).max()) * 2 + 1
    rows, columns = linear_sum_assignment(np.where(possible, -many - similarity, 0))
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if possible[row, column]
    ]


def _places(frames: Sequence[TrackedFrame]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each frame's identities as indices 0.. of the sequence's sorted identities."""
    checked = [_checked(frame) for frame in frames]
    known = [
        np.unique(np.concatenate([np.zeros(0, np.int64), *(entry[side] for entry in checked)]))
        for side in (0, 1)
    ]
    return [
        (np.searchsorted(known[0], entry[0]), np.searchsorted(known[1], entry[1]))
        for entry in checked
    ]


def _tables(
    frames: Sequence[TrackedFrame], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames of each true (A,) and each reported identity (B,); frames in which a pair is alike (A, B); its soft alignment (A, B)."""
    places = _places(frames)
    sizes = [
        1 + max((int(entry[side].max()) for entry in places if len(entry[side])), default=-1)
        for side in (0, 1)
    ]
    true, reported = np.zeros(sizes[0]), np.zeros(sizes[1])
    together, aligned = np.zeros(sizes), np.zeros(sizes)
    for (rows, columns), frame in zip(places, frames, strict=True):
        similarity = _similarity(frame)
        true[rows] += 1
        reported[columns] += 1
        block = np.ix_(rows, columns)
        together[block] += similarity >= threshold
        union = similarity.sum(0)[None] + similarity.sum(1)[:, None] - similarity
        aligned[block] += np.divide(
            similarity, union, out=np.zeros_like(similarity), where=union > np.finfo(float).eps
        )
    return true, reported, together, aligned
