"""Planted errors are found, named and given back; real results against pycocotools and plain loops."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations
from simplepose.data.coco import coco_content, read_coco
from simplepose.evaluation.coco import Rows, evaluate_coco, read_results
from simplepose.evaluation.matches import match_rows, precision_curves
from simplepose.report.taxonomy import PARTS, KeypointErrors, Taxonomy, break_down

PICTURES, SIDE = 6, 100.0
SIGMAS = np.array(COCO_17.sigmas)
BODY = 25.0 * np.array([divmod(7 * k % 17, 4) for k in range(17)])
"""Keypoints so far from each other that none is near another's place."""


def people() -> Annotations:
    """Two labelled people in each of six pictures, 400 pixels apart."""
    count = 2 * PICTURES
    shift = np.array([[20.0, 30.0], [420.0, 30.0]] * PICTURES)
    corner = np.concatenate([shift, np.full((count, 2), SIDE)], 1)
    return Annotations(
        schema=COCO_17,
        source="drawn",
        image_ids=np.arange(1, PICTURES + 1),
        image_paths=tuple(f"{number}.jpg" for number in range(PICTURES)),
        image_sizes_wh=np.full((PICTURES, 2), 600),
        annotation_ids=np.arange(count) + 1,
        image_index=np.arange(count) // 2,
        bbox_xywh=corner,
        keypoints=BODY + shift[:, None],
        visibility=np.full((count, 17), 2),
        area=np.full(count, SIDE**2 / 4),
        is_crowd=np.zeros(count, bool),
    )


def poses(truth: Annotations) -> np.ndarray:
    """(12, 17, 2) without any error."""
    return truth.keypoints.astype(np.float64)


def rows_of(
    truth: Annotations, keypoints: np.ndarray, scores: Sequence[float] | None = None
) -> Rows:
    """One result row a pose; the pose i is in the picture of person i."""
    scores = np.linspace(0.9, 0.5, len(keypoints)) if scores is None else scores
    flat = np.dstack([keypoints, np.ones(keypoints.shape[:2])]).reshape(len(keypoints), -1)
    ids = truth.image_ids[truth.image_index[: len(keypoints)]].tolist()
    return [
        {"image_id": number, "category_id": 1, "keypoints": row, "score": float(score)}
        for number, row, score in zip(ids, flat.tolist(), scores, strict=True)
    ]


def at_similarity(truth: Annotations, person: int, keypoint: int, ks: float) -> np.ndarray:
    """A place whose similarity with that keypoint is `ks`, by the formula of the paper."""
    distance = math.sqrt(-2 * math.log(ks) * float(truth.area[person])) * 2 * SIGMAS[keypoint]
    return truth.keypoints[person, keypoint] + distance * np.array([0.6, 0.8])


def totals(found: Taxonomy) -> dict[str, int]:
    return {name: count for name, count in found.counts.items() if count}


def gain(found: Taxonomy, part: str) -> float:
    return float(found.alone[part].mean())


def test_perfect_results_lose_nothing() -> None:
    truth = people()
    found = break_down(truth, rows_of(truth, poses(truth)))
    assert found.precision.tolist() == pytest.approx([1] * 10)
    assert totals(found) == {}
    assert all(np.abs(part).max() < 1e-12 for part in found.stacked.values())


def plant_swaps(truth: Annotations, keypoints: np.ndarray) -> None:
    for person in range(4):
        keypoints[person, :7] = truth.keypoints[person ^ 1, :7]


def plant_inversions(truth: Annotations, keypoints: np.ndarray) -> None:
    for person in (0, 3, 5):
        keypoints[person, 7:] = truth.keypoints[person][COCO_17.flip_order][7:]


def plant_jitter(truth: Annotations, keypoints: np.ndarray) -> None:
    for person in range(12):
        for k in range(10):
            keypoints[person, k] = at_similarity(truth, person, k, 0.6)


def plant_misses(truth: Annotations, keypoints: np.ndarray) -> None:
    keypoints[2:4, :8] += 3 * SIDE * np.array([0, 1.0])


@pytest.mark.parametrize(
    ("kind", "plant", "count"),
    [
        ("swap", plant_swaps, 4 * 7),
        ("inversion", plant_inversions, 3 * 10),
        ("jitter", plant_jitter, 12 * 10),
        ("miss", plant_misses, 2 * 8),
    ],
)
def test_planted_keypoint_errors_are_found_exactly(
    kind: str, plant: Callable[[Annotations, np.ndarray], None], count: int
) -> None:
    truth = people()
    keypoints = poses(truth)
    plant(truth, keypoints)
    wrong = np.abs(keypoints - truth.keypoints).max(2) > 1e-3
    found = break_down(truth, rows_of(truth, keypoints))
    assert totals(found) == {kind: count}
    named = np.zeros((12, 17), int)
    named[found.located.person[0, found.poses]] = found.errors.kinds
    assert ((named > 1) == wrong).all()
    assert gain(found, kind) > 0.05
    others = [name for name in found.alone if name != kind and name != "scoring"]
    assert all(abs(gain(found, name)) < 1e-12 for name in others)
    if kind in ("swap", "inversion"):  # they were exactly at the wrong place
        assert gain(found, kind) == pytest.approx(1 - found.precision.mean())


def test_all_kinds_together_do_not_hide_each_other() -> None:
    truth = people()
    keypoints = poses(truth)
    keypoints[0, 9] = truth.keypoints[1, 10]  # the other person's mirrored wrist is a swap too
    keypoints[1, 7] = truth.keypoints[1, 8]
    keypoints[2, 11] = at_similarity(truth, 2, 11, 0.5001)
    keypoints[3, 11] = at_similarity(truth, 3, 11, 0.8499)
    keypoints[4, 11] = at_similarity(truth, 4, 11, 0.8501)
    keypoints[5, 11] = at_similarity(truth, 5, 11, 0.4999)
    found = break_down(truth, rows_of(truth, keypoints))
    assert totals(found) == {"swap": 1, "inversion": 1, "jitter": 2, "miss": 1}
    assert sum(part.mean() for part in found.stacked.values()) == pytest.approx(
        1 - found.precision.mean()
    )


def test_errors_are_put_where_the_paper_puts_them() -> None:
    truth = people()
    keypoints = poses(truth)
    goals = {(0, 3): 0.85, (1, 4): 0.5, (2, 9): 0.9}
    keypoints[0, 3] = at_similarity(truth, 0, 3, 0.6)
    keypoints[1, 4] = at_similarity(truth, 1, 4, 1e-9)
    keypoints[2, 9] = at_similarity(truth, 2, 10, 0.9)
    found = break_down(truth, rows_of(truth, keypoints))
    person, errors = found.located.person[0, found.poses], found.errors
    for (one, k), goal in goals.items():
        put = errors.mended[np.flatnonzero(person == one)[0], k]
        distance = float(np.hypot(*(put - truth.keypoints[one, k])))
        likeness = math.exp(-(distance**2) / (2 * float(truth.area[one]) * (2 * SIGMAS[k]) ** 2))
        assert likeness == pytest.approx(goal, rel=1e-6)


def test_wrong_order_of_scores_background_and_lost_people() -> None:
    truth = people()
    keypoints = poses(truth)
    scores = np.full(12, 0.5)
    rows = rows_of(truth, keypoints, scores)
    worse = keypoints.copy()
    for person in range(5):  # a worse pose of the first five has a better score
        worse[person, :8] += 12
    rows += rows_of(truth, worse[:5], np.full(5, 0.9))
    away = rows_of(truth, keypoints[:3] + np.array([0, 900.0]), np.full(3, 0.95))
    lost = [row for index, row in enumerate(rows) if index not in (10, 11)]
    found = break_down(truth, [*lost, *away])
    assert found.counts["scoring"] == 5
    assert found.counts["background FN"] == 2
    # three in the void, and five whose person the other pose had found
    assert found.counts["background FP"] == 3 + 5
    only_order = break_down(truth, rows)
    assert gain(only_order, "scoring") == pytest.approx(1 - only_order.precision.mean())
    only_away = break_down(truth, [*rows_of(truth, keypoints, scores), *away])
    assert gain(only_away, "background FP") == pytest.approx(1 - only_away.precision.mean())
    only_lost = break_down(truth, rows_of(truth, keypoints, scores)[:10])
    assert gain(only_lost, "background FN") == pytest.approx(1 - only_lost.precision.mean())
    assert gain(only_lost, "background FN") == pytest.approx(1 - 84 / 101)  # recall stops at 10/12


def test_nobody_to_find_and_nothing_found() -> None:
    truth = people()
    nothing = break_down(truth, [])
    assert nothing.precision.tolist() == [0] * 10 and totals(nothing) == {"background FN": 12}
    assert sum(part.mean() for part in nothing.stacked.values()) == pytest.approx(1)
    crowd = replace(truth, is_crowd=np.ones(12, bool))
    nobody = break_down(crowd, rows_of(truth, poses(truth)))
    assert np.isnan(nobody.precision).all() and len(nobody.poses) == 0


def test_without_sides_there_are_no_inversions() -> None:
    truth = people()
    keypoints = poses(truth)
    plant_inversions(truth, keypoints)
    truth = replace(truth, schema=replace(COCO_17, flip_pairs=()))
    assert totals(break_down(truth, rows_of(truth, keypoints))) == {"miss": 30}


def test_unlabelled_keypoints_and_people_do_not_count() -> None:
    truth = people()
    visibility = truth.visibility.copy()
    visibility[0], visibility[1, :10] = 0, 0
    truth = replace(truth, visibility=visibility)
    keypoints = poses(truth)
    keypoints[:2] += 40
    found = break_down(truth, rows_of(truth, keypoints))
    assert found.counts["background FN"] == 1 and len(found.poses) == 10


def pycocotools_ap(truth: Annotations, rows: Rows, levels: Sequence[float]) -> tuple[Any, Any]:
    """AP at each threshold, and the evaluation."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    annotated = coco.COCO()
    annotated.dataset = coco_content(truth)
    with redirect_stdout(io.StringIO()):
        annotated.createIndex()
        scoring = COCOeval(annotated, annotated.loadRes([{**row} for row in rows]), "keypoints")
        scoring.params.iouThrs = np.array(levels)
        scoring.evaluate()
        scoring.accumulate()
    return scoring.eval["precision"][:, :, 0, 0, 0].mean(1), scoring


@pytest.mark.parametrize("name", ["officialdets_flip_top20", "gtbbox_flip"])
def test_published_network_against_plain_loops_and_pycocotools(
    name: str, real_data: Callable[[str], Path]
) -> None:
    folder = real_data("coco_val2017_visible150")
    truth = read_coco(folder / "person_keypoints_val2017_visible150.json", None)
    results = real_data("reference_results_visible150") / f"ultralight_visible150_{name}.json"
    rows = read_results(results, truth)
    found = break_down(truth, rows)
    levels = np.linspace(0.5, 0.95, 10)
    base, _ = pycocotools_ap(truth, rows, levels)
    assert found.precision == pytest.approx(base, abs=1e-12)
    located = matched_at(truth, rows, 0.1)
    kinds, mended = by_hand(truth, rows, located)
    for code, kind in ((2, "jitter"), (3, "inversion"), (4, "swap"), (5, "miss")):
        assert found.counts[kind] == sum(named.count(code) for named in kinds.values())
    changed, before = [{**row, "keypoints": list(row["keypoints"])} for row in rows], base
    for code, kind in ((5, "miss"), (4, "swap"), (3, "inversion"), (2, "jitter")):
        for row, named in kinds.items():
            for k in [k for k, one in enumerate(named) if one == code]:
                changed[row]["keypoints"][3 * k : 3 * k + 2] = mended[row, k]
        after, _ = pycocotools_ap(truth, changed, levels)
        assert found.stacked[kind] == pytest.approx(after - before, abs=1e-9), kind
        before = after
    for row, score in enumerate(assigned(truth, changed)):
        changed[row]["score"] = score
    after, _ = pycocotools_ap(truth, changed, levels)
    assert found.stacked["scoring"] == pytest.approx(after - before, abs=1e-9)
    # What is left is, in the paper, what false positives and false negatives give back.
    rest = sum(found.stacked[part] for part in PARTS[5:])
    assert rest == pytest.approx(1 - after, abs=1e-9)
    assert found.precision + sum(found.stacked.values()) == pytest.approx(np.ones(10))


def matched_at(truth: Annotations, rows: Rows, level: float) -> dict[int, int]:
    """Row -> person, of people who count, by pycocotools."""
    _, scoring = pycocotools_ap(truth, rows, [level])
    numbers = {number: index for index, number in enumerate(truth.annotation_ids.tolist())}
    return {
        row - 1: numbers[int(person)]
        for one in scoring.evalImgs[: len(truth.image_ids)]
        if one
        for row, person, ignored in zip(
            one["dtIds"], one["dtMatches"][0], one["dtIgnore"][0], strict=True
        )
        if person and not ignored
    }


def by_hand(
    truth: Annotations, rows: Rows, located: dict[int, int]
) -> tuple[dict[int, list[int]], dict[tuple[int, int], list[float]]]:
    """Row -> code of each keypoint, and where wrong ones belong, in plain Python."""
    flip = COCO_17.flip_order.tolist()

    def likeness(x: float, y: float, person: int, k: int, place: int) -> float:
        if not truth.visibility[person, place]:
            return -1.0
        px, py = map(float, truth.keypoints[person, place])
        scale = 2 * float(truth.area[person]) * (2 * COCO_17.sigmas[k]) ** 2
        return math.exp(-((x - px) ** 2 + (y - py) ** 2) / scale)

    kinds, mended = {}, {}
    for row, own in located.items():
        near = np.flatnonzero(truth.image_index == truth.image_index[own]).tolist()
        named = []
        for k in range(17):
            x, y = rows[row]["keypoints"][3 * k : 3 * k + 2]
            if not truth.visibility[own, k]:
                named.append(0)
                continue
            here = likeness(x, y, own, k, k)
            other = likeness(x, y, own, k, flip[k]) if flip[k] != k else -1.0
            others = [likeness(x, y, p, k, q) for p in near if p != own for q in (k, flip[k])]
            best = max(here, other, *others, -1.0)
            if best < 0.5:
                code, goal = 5, 0.5
            elif here == best:
                code, goal = (1, best) if here >= 0.85 else (2, 0.85)
            else:
                code, goal = (3, best) if other == best else (4, best)
            named.append(code)
            px, py = map(float, truth.keypoints[own, k])
            away = math.hypot(x - px, y - py) or 1.0
            far = math.sqrt(-2 * math.log(goal) * float(truth.area[own])) * 2 * COCO_17.sigmas[k]
            mended[row, k] = [px + (x - px) / away * far, py + (y - py) / away * far]
        kinds[row] = named
    return kinds, mended


def assigned(truth: Annotations, rows: Rows) -> list[float]:
    """The OKS of each row in its picture's best assignment."""
    scores = [0.0] * len(rows)
    counted = (truth.visibility > 0).any(1) & ~truth.is_crowd
    for picture, number in enumerate(truth.image_ids.tolist()):
        who = np.flatnonzero((truth.image_index == picture) & counted)
        those = [index for index, row in enumerate(rows) if row["image_id"] == number]
        alike = np.zeros((len(who), len(those)))
        for i, person in enumerate(who):
            labelled = truth.visibility[person] > 0
            for j, row in enumerate(those):
                points = np.array(rows[row]["keypoints"]).reshape(17, 3)[:, :2]
                squares = ((points - truth.keypoints[person]) ** 2).sum(1)
                terms = np.exp(-squares / (2 * float(truth.area[person]) * (2 * SIGMAS) ** 2))
                alike[i, j] = terms[labelled].mean()
        for i, j in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
            scores[those[j]] = alike[i, j]
    return scores


def test_our_curves_are_the_evaluators(real_data: Callable[[str], Path]) -> None:
    folder = real_data("coco_val2017_visible150")
    truth = read_coco(folder / "person_keypoints_val2017_visible150.json", None)
    name = "reference_results_visible150/ultralight_visible150_gtbbox_flip.json"
    rows = read_results(real_data(name), truth)
    curves = precision_curves(match_rows(truth, rows))
    numbers = evaluate_coco(truth, rows, sigmas=COCO_17.sigmas)
    assert curves.mean() == pytest.approx(numbers["AP"], abs=1e-12)
    assert curves[0].mean() == pytest.approx(numbers["AP50"], abs=1e-12)
    assert isinstance(break_down(truth, rows).errors, KeypointErrors)
