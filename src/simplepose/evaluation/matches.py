"""Which pose found which person, pose by pose, and the average precision of that.

The evaluator matches; what it has matched is given as arrays, so that what-if questions (without
these poses, without those people) need no second evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import metrics

from simplepose.data.annotations import Annotations
from simplepose.evaluation.coco import Rows, run_evaluator

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of the COCO protocol."""
RECALLS = np.linspace(0, 1, 101)
"""Where precision is read."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Matches:
    """D evaluated poses against N people at T OKS thresholds."""

    rows: np.ndarray
    """(D,) which result rows, at most the 20 best of a picture."""
    scores: np.ndarray
    """(D,)."""
    person: np.ndarray
    """(T, D) the person each pose found, -1 where nobody."""
    ignored: np.ndarray
    """(T, D) bool: found somebody who does not count (a crowd, nobody labelled)."""
    counted: np.ndarray
    """(N,) bool: people who count."""

    @property
    def right(self) -> np.ndarray:
        """(T, D) bool: true positives."""
        return (self.person >= 0) & ~self.ignored

    @property
    def found(self) -> np.ndarray:
        """(T, N) bool: people who count and were found."""
        found = np.zeros((len(self.person), len(self.counted)), bool)
        for line, person, right in zip(found, self.person, self.right, strict=True):
            line[person[right]] = True
        return found


def counted_people(people: Annotations) -> np.ndarray:
    """(N,) bool: who counts in scoring: labelled, no crowd."""
    counted = (people.keypoint_counts > 0) & ~people.is_crowd
    return counted if people.unscored is None else counted & ~people.unscored


def match_rows(
    people: Annotations, rows: Rows, thresholds: Sequence[float] | np.ndarray = OKS_THRESHOLDS
) -> Matches:
    """Who was found by whom, as COCO's protocol matches: best score first, each takes the most
    similar person that is left.

    Args:
        people: N; categories of the same keypoints are read as one.
        rows: as `read_results` gives them.
        thresholds: (T,) OKS from which on a pose may have found somebody.
    """
    blocks: list[tuple[np.ndarray, ...]] = []
    if rows:
        own = [{**row, "category_id": people.category_id} for row in rows]
        levels = list(map(float, thresholds))
        scoring = run_evaluator(people, own, people.schema.sigmas, "hotcoco", iouThrs=levels)
        everywhere = list(scoring.params.areaRng[0])
        blocks = [
            (
                np.asarray(one["dtIds"], np.int64) - 1,
                np.asarray(one["dtScores"], np.float64),
                np.asarray(one["dtMatches"], np.int64).reshape(len(levels), -1) - 1,
                np.asarray(one["dtIgnore"], bool).reshape(len(levels), -1),
            )
            for one in scoring.eval_imgs
            if one is not None and list(one["aRng"]) == everywhere and len(one["dtIds"])
        ]
    none = np.zeros(0, np.int64), np.zeros(0), *[np.zeros((len(thresholds), 0), int)] * 2
    parts = [np.concatenate(part, -1) for part in zip(*(blocks or [none]), strict=True)]
    return Matches(
        rows=parts[0],
        scores=parts[1],
        person=parts[2],
        ignored=parts[3].astype(bool),
        counted=counted_people(people),
    )


def precision_curves(
    matches: Matches, *, kept: np.ndarray | None = None, people: int | None = None
) -> np.ndarray:
    """(T, 101) precision at `RECALLS`, each the best of that recall or a higher one.

    Args:
        matches: who was found.
        kept: (D,) bool: the others are as if they had not been there; all by default.
        people: how many there are to find; all that count by default.

    Returns:
        NaN where there is nobody to find.
    """
    count = int(matches.counted.sum()) if people is None else people
    if not count:
        return np.full((len(matches.person), len(RECALLS)), np.nan)
    order = np.argsort(-matches.scores, kind="stable")
    curves = np.zeros((len(matches.person), len(RECALLS)))
    for curve, right, ignored in zip(curves, matches.right, matches.ignored, strict=True):
        stays = ~ignored if kept is None else ~ignored & kept
        hit = right[order[stays[order]]]
        _, points = metrics.precision_recall_curve(hit.cumsum(), (~hit).cumsum(), count)
        for index, precision, _ in points:
            curve[index] = precision
    return curves
