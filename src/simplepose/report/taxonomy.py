"""Where the average precision is lost: the errors of Ronchi and Perona, "Benchmarking and Error
Diagnosis in Multi-Instance Pose Estimation" (ICCV 2017), as functions of arrays.

A pose is compared with the person it found (OKS of at least .1). The similarity `ks` of a keypoint
is its own term of the OKS. In order of nearness to any annotated keypoint of the picture:

* good: nearest to its own place, ks >= .85; jitter: nearest to its own place, .5 <= ks < .85;
* inversion: nearest to the mirrored keypoint of the same person, ks >= .5;
* swap: nearest to the same or the mirrored keypoint of somebody else, ks >= .5;
* miss: near no such keypoint, ks < .5 for all of them.

An error is mended as in the paper: a jitter is put where ks is .85, a miss where ks is .5, an
inversion or swap as far from its own place as it is from the wrong one. Scores are mended by giving
each pose the OKS with the person it fits best. Background errors are poses that found nobody, and
people whom no pose found, both at OKS .1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from simplepose.core.oks import EPS, oks, oks_terms
from simplepose.data.annotations import Annotations
from simplepose.evaluation.coco import Rows
from simplepose.evaluation.matches import (
    Matches,
    counted_people,
    match_rows,
    precision_curves,
)

KINDS = ("unlabelled", "good", "jitter", "inversion", "swap", "miss")
"""What can be said of a keypoint; the index is its code."""
UNLABELLED, GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
NEAR, EXACT = 0.5, 0.85
"""Similarities from which on a keypoint is near a place, and exact."""
LOCATED = 0.1
"""OKS from which on a pose has found a person."""
PARTS = ("miss", "swap", "inversion", "jitter", "scoring", "background FP", "background FN", "rest")
"""What is mended, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class KeypointErrors:
    """The keypoints of M poses that found somebody."""

    kinds: np.ndarray
    """(M, K) uint8, indices of `KINDS`."""
    similarity: np.ndarray
    """(M, K) ks with the own place; NaN where it is not labelled."""
    mended: np.ndarray
    """(M, K, 2) x, y in pixels: where each error would be put; others as they are."""


def classify(
    found: np.ndarray, person: np.ndarray, people: Annotations, sigmas: np.ndarray
) -> KeypointErrors:
    """What is wrong with each keypoint of M poses.

    Args:
        found: (M, K, 2) x, y in pixels.
        person: (M,) the annotated person that each has found.
        people: N annotated people, of all pictures.
        sigmas: (K,) OKS constants.
    """
    flip = people.schema.flip_order
    truth, labelled = people.keypoints.astype(np.float64), people.visibility > 0
    areas = people.area.astype(np.float64)
    kinds = np.zeros(found.shape[:2], np.uint8)
    nearness, similarity = np.zeros(found.shape[:2]), np.full(found.shape[:2], np.nan)
    for row, own in enumerate(person.tolist()):
        near = np.flatnonzero(people.image_index == people.image_index[own])
        near = np.array([own, *near[near != own]])
        places = np.concatenate([truth[near], truth[near][:, flip]])
        there = np.concatenate([labelled[near], labelled[near][:, flip]])
        terms = oks_terms(places, found[row], np.tile(areas[near], 2), sigmas)
        terms = np.where(there, terms, -1)
        nearest, nearness[row] = terms.argmax(0), terms.max(0)
        named = np.select(
            [nearest == 0, nearest == len(near)],
            [np.where(nearness[row] >= EXACT, GOOD, JITTER), INVERSION],
            SWAP,
        )
        named = np.where(nearness[row] < NEAR, MISS, named)
        kinds[row] = np.where(labelled[own], named, UNLABELLED)
        similarity[row] = np.where(labelled[own], terms[0], np.nan)
    goal = np.select([kinds == JITTER, kinds == MISS], [EXACT, NEAR], nearness.clip(EPS, 1))
    distance = 2 * sigmas * np.sqrt(-2 * np.log(goal) * (areas[person] + EPS)[:, None])
    away = found - truth[person]
    length = np.hypot(*np.moveaxis(away, -1, 0))[..., None]
    away = np.where(length > 0, away / np.maximum(length, EPS), [1.0, 0.0])
    put = truth[person] + away * distance[..., None]
    return KeypointErrors(kinds, similarity, np.where((kinds > GOOD)[..., None], put, found))


def picture_oks(people: Annotations, rows: Rows) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Picture by picture: its result rows (D,), and OKS (G, D) of its people who count with
    them."""
    numbers = {number: index for index, number in enumerate(people.image_ids.tolist())}
    pictures = np.array([numbers[row["image_id"]] for row in rows], np.int64)
    counted = counted_people(people)
    keypoints = keypoints_of(rows, len(people.schema))[..., :2]
    for picture in np.unique(pictures):
        those = np.flatnonzero(pictures == picture)
        who = np.flatnonzero(counted & (people.image_index == picture))
        yield (
            those,
            oks(
                people.keypoints[who],
                keypoints[those],
                people.area[who],
                people.schema.sigmas,
                people.visibility[who],
            ),
        )


def keypoints_of(rows: Rows, count: int) -> np.ndarray:
    """(D, K, 3) x, y, score of result rows."""
    return np.array([row["keypoints"] for row in rows], np.float64).reshape(-1, count, 3)


def best_scores(people: Annotations, rows: Rows) -> tuple[np.ndarray, int]:
    """The scores that would rank best, and the people whose best pose has not the best score.

    Returns:
        (D,) OKS with the person that each row has in the assignment of the greatest sum of its
        picture, 0 where it has none; and the number of people who are the most similar one
        (OKS of at least `LOCATED`) of several poses, of which the most similar has not the
        highest score.
    """
    scores, wrong = np.zeros(len(rows)), 0
    given = np.array([row["score"] for row in rows])
    for those, alike in picture_oks(people, rows):
        who, which = linear_sum_assignment(-alike)
        scores[those[which]] = alike[who, which]
        if not len(alike):
            continue
        nearest, best = alike.argmax(0), alike.max(0)
        for person in range(len(alike)):
            mine = np.flatnonzero((nearest == person) & (best >= LOCATED))
            if len(mine) > 1 and given[those[mine]][best[mine].argmax()] < given[those[mine]].max():
                wrong += 1
    return scores, wrong


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Taxonomy:
    """What a set of results loses, and by what."""

    matches: Matches
    """At the thresholds of the protocol."""
    located: Matches
    """At `LOCATED`."""
    errors: KeypointErrors
    """Of the poses that found somebody, `poses`."""
    poses: np.ndarray
    """(M,) indices into `located`."""
    counts: dict[str, int]
    """`PARTS` without the rest: keypoints; people with poses in a wrong order; poses; people."""
    alone: dict[str, np.ndarray]
    """Part -> (T,) what AP would gain if it alone were mended."""
    stacked: dict[str, np.ndarray]
    """`PARTS` -> (T,) what AP gains when it is mended after those before it; all together are
    1 - AP."""

    @property
    def precision(self) -> np.ndarray:
        """(T,) AP as it is."""
        return precision_curves(self.matches).mean(1)


def break_down(people: Annotations, rows: Rows) -> Taxonomy:
    """Mends one kind of error after another, and each alone, and measures AP again."""
    sigmas, count = np.asarray(people.schema.sigmas), len(people.schema)
    matches, located = match_rows(people, rows), match_rows(people, rows, [LOCATED])
    poses = np.flatnonzero(located.right[0])
    keypoints, those = keypoints_of(rows, count), located.rows[poses]
    errors = classify(keypoints[those, :, :2], located.person[0, poses], people, sigmas)
    ideal, wrong = best_scores(people, rows)
    counts = {name: int((errors.kinds == KINDS.index(name)).sum()) for name in PARTS[:4]}
    counts |= {"scoring": wrong, "background FP": int((located.person[0] < 0).sum())}
    counts |= {"background FN": int((located.counted & ~located.found[0]).sum())}

    def mended(names: Iterable[str]) -> Rows:
        changed = keypoints.copy()
        put = np.isin(errors.kinds, [KINDS.index(name) for name in names])
        changed[those, :, :2] = np.where(put[..., None], errors.mended, changed[those, :, :2])
        flat = changed.reshape(len(rows), 3 * count).tolist()
        return [{**row, "keypoints": one} for row, one in zip(rows, flat, strict=True)]

    def ranked(rows: Rows, scores: np.ndarray) -> Rows:
        return [{**row, "score": one} for row, one in zip(rows, scores.tolist(), strict=True)]

    base = precision_curves(matches).mean(1)
    alone = {name: _ap(people, mended([name])) - base for name in PARTS[:4]}
    alone["scoring"] = _ap(people, ranked(rows, ideal)) - base
    alone["background FP"] = _without_background(matches, located, poses=True) - base
    alone["background FN"] = _without_background(matches, located, people=True) - base
    levels = [base, *[_ap(people, mended(PARTS[: end + 1])) for end in range(4)]]
    better = mended(PARTS[:4])
    better = ranked(better, best_scores(people, better)[0])
    final, near = match_rows(people, better), match_rows(people, better, [LOCATED])
    levels.append(precision_curves(final).mean(1))
    levels.append(_without_background(final, near, poses=True))
    levels.append(_without_background(final, near, poses=True, people=True))
    gains = np.diff([*levels, np.where(np.isnan(base), np.nan, 1.0)], axis=0)
    return Taxonomy(
        matches=matches,
        located=located,
        errors=errors,
        poses=poses,
        counts=counts,
        alone=alone,
        stacked=dict(zip(PARTS, gains, strict=True)),
    )


def _ap(people: Annotations, rows: Rows) -> np.ndarray:
    return precision_curves(match_rows(people, rows)).mean(1)


def _without_background(
    matches: Matches, located: Matches, *, poses: bool = False, people: bool = False
) -> np.ndarray:
    """(T,) AP without the poses that found nobody, or the people whom nobody found, at
    `LOCATED`; 1 where nobody is left to find."""
    kept = located.person[0] >= 0 if poses else None
    count = int(located.found[0].sum()) if people else None
    if count == 0 and matches.counted.any():
        return np.ones(len(matches.person))
    return precision_curves(matches, kept=kept, people=count).mean(1)
