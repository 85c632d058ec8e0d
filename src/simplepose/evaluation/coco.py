"""COCO keypoint AP and person box AP: result rows, ground truth of any origin, two evaluators with
equal numbers.

The protocol (cocodataset.org/#keypoints-eval): OKS thresholds .50:.05:.95, the 20 best poses a
picture, areas all, medium (32^2..96^2) and large; crowd and keypoint-less ground truth is ignored,
its OKS measured against its doubled box.
"""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.oks import check_sigmas
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.categories import schema_from_count
from simplepose.data.coco import (
    load_rows,
    person_rows,
    picture_index,
    read_coco,
)

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""The ten numbers, in the order in which the COCO code prints them."""
COLUMNS = {
    "AP": "AP",
    "AP50": "AP .5",
    "AP75": "AP .75",
    "APM": "AP (M)",
    "APL": "AP (L)",
    "AR": "AR",
    "AR50": "AR .5",
    "AR75": "AR .75",
    "ARM": "AR (M)",
    "ARL": "AR (L)",
}
"""The same -> as the papers' tables spell them."""

Evaluator = Literal["hotcoco", "pycocotools"]


def coco_results(
    image_ids: np.ndarray,
    keypoints: np.ndarray,
    keypoint_scores: np.ndarray,
    scores: np.ndarray,
    *,
    category_id: int = 1,
    visibility_column: Literal["score", "one"] = "score",
    score_decimals: int | None = None,
    coordinate_decimals: int | None = None,
) -> list[dict[str, Any]]:
    """Rows of the COCO keypoint result format.

    They have no `bbox`: with one, the COCO API would take the area from it, and AP(M) and AP(L)
    change.

    Args:
        image_ids: (N,) integers.
        keypoints: (N, K, 2) x, y in pixels of the full picture.
        keypoint_scores: (N, K).
        scores: (N,) confidence of each pose.
        category_id: of every row.
        visibility_column: third number of each keypoint: its score (Microsoft's reference) or 1
            (the TensorFlow reference).
        score_decimals: round the scores (TensorFlow reference: 4; Microsoft's: None).
        coordinate_decimals: round x and y (TensorFlow reference: 3; Microsoft's: None).
    """
    keypoints = np.asarray(keypoints, np.float64)
    keypoint_scores, scores = (
        np.asarray(keypoint_scores, np.float64),
        np.asarray(scores, np.float64),
    )
    if (
        keypoints.ndim != 3
        or keypoint_scores.shape != keypoints.shape[:2]
        or not len(image_ids) == len(scores) == len(keypoints)
    ):
        raise UserError(
            f"image_ids ({len(image_ids)},), keypoints {keypoints.shape}, keypoint_scores "
            f"{keypoint_scores.shape} and scores "
            f"{scores.shape} do not fit together. Cure: pass (N,), (N, K, 2), (N, K) and (N,)"
        )
    if score_decimals is not None:
        keypoint_scores, scores = (
            keypoint_scores.round(score_decimals),
            scores.round(score_decimals),
        )
    if coordinate_decimals is not None:
        keypoints = keypoints.round(coordinate_decimals)
    third = keypoint_scores if visibility_column == "score" else np.ones_like(keypoint_scores)
    rows = (
        np.concatenate([keypoints, third[..., None]], -1)
        .reshape(len(keypoints), 3 * keypoints.shape[1])
        .tolist()
    )
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": row, "score": score}
        for image_id, row, score in zip(
            np.asarray(image_ids).tolist(), rows, scores.tolist(), strict=True
        )
    ]


def evaluate_coco(
    ground_truth: Annotations | Path | str | dict[str, Any],
    results: list[dict[str, Any]] | Path | str,
    *,
    sigmas: Sequence[float],
    evaluator: Evaluator = "hotcoco",
    image_ids: Sequence[int] | None = None,
    max_dets: int = 20,
    source: str = "the results",
) -> dict[str, float]:
    """The ten COCO numbers of a result list.

    Categories that share their keypoints are read as one, whose id our results carry; results
    that tell them apart are scored as the COCO code does, each category by itself.

    Args:
        ground_truth: the people, or a COCO keypoints file or its content, read by `read_coco`.
        results: rows of the COCO keypoint result format, or their file. A `bbox` in a row is not
            looked at.
        sigmas: (K,) OKS constants; any K.
        evaluator: `hotcoco` or `pycocotools`: the same numbers.
        image_ids: score these pictures only.
        max_dets: best poses of a picture that count.
        source: what messages call a list of results.

    Returns:
        `METRICS` -> 0..1. -1 where there is no ground truth of that size, as the COCO code says
        it; all 0 where there are no results.

    Raises:
        UserError: a file is not what it should be, rows for unknown pictures or categories,
            keypoints that do not fit the sigmas.
    """
    people = (
        ground_truth
        if isinstance(ground_truth, Annotations)
        else read_coco(
            ground_truth, None, schema_from_count(len(sigmas), source)[0], allow_empty=True
        )
    )
    check_sigmas(sigmas, len(people.schema))
    rows = read_results(results, people, source if isinstance(results, list) else str(results))
    if image_ids is not None:
        _check_known({*image_ids}, {*people.image_ids.tolist()}, "image_ids", "picture")
    if not rows:
        return dict.fromkeys(METRICS, 0.0)
    truth = _ground_truth(people, {row["category_id"] for row in rows})
    precision, recall = _run(truth, rows, "keypoints", evaluator, image_ids, [max_dets], sigmas)
    table = [
        _mean(values[select])
        for values in (precision, recall)
        for select in _keypoint_selections(values.ndim)
    ]
    return dict(zip(METRICS, table, strict=True))


def read_results(results: Any, people: Annotations, source: str) -> list[dict[str, Any]]:
    """Result rows that can be scored against `people`, with the numbers of their pictures.

    Rows of other categories that the annotation file lists are left out; a row without a category
    is one of the people.

    Args:
        results: a file, or its content.
        people: whose pictures and categories they name, by number or as the file spells them.
        source: the file, for messages.

    Raises:
        UserError: no list of rows, a picture or category that is not known, or a row without as
            many finite keypoint numbers and a finite score.
    """
    rows = load_rows(results, source)
    own = {people.category_id, *people.more_categories}
    numbers: dict[Any, int] = {**people.category_numbers}
    names = [row.category_id for row in rows]
    theirs = [people.category_id if n is None else numbers.get(n, n) for n in names]
    _check_known({*theirs}, own | {*numbers.values()}, source, "category")
    kept = [index for index, category in enumerate(theirs) if category in own]
    if rows and not kept:
        raise UserError(
            f"{source}: no row has category {people.category_id} (people); found category_id "
            f"{sorted({*theirs}, key=str)[:5]}. Cure: use results of the same categories"
        )

    def label(index: int) -> str:
        return f"{source}: row {kept[index]}"

    pictures = picture_index(people)
    ids = [rows[index].image_id for index in kept]
    _check_known({*ids}, {*pictures}, source, "picture")
    length = 3 * len(people.schema)
    found = []
    for place, (index, name) in enumerate(zip(kept, ids, strict=True)):
        row, flat = rows[index], rows[index].flat_keypoints
        if len(flat) != length:
            raise UserError(
                f"{label(place)} has {len(flat)} keypoint numbers, expected {length}. "
                "Cure: x, y, score for each of the keypoints of the schema"
            )
        if row.score is None or not math.isfinite(row.score):
            raise UserError(
                f"{label(place)} has the score {row.score}, not a finite number. Cure: write the confidence of the pose"
            )
        number = int(people.image_ids[pictures[name]])  # type: ignore[index]
        category = {"image_id": number, "category_id": theirs[index]}
        found.append({**category, "keypoints": flat, "score": row.score})
    values = np.array([row["keypoints"] for row in found], np.float64).reshape(-1, length)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        index = int(np.argmin(finite))
        wrong = values[index][~np.isfinite(values[index])][0]
        raise UserError(
            f"{label(index)} has {wrong} (or null) among its keypoints. Cure: x, y, score for each keypoint, all of them finite numbers"
        )
    return found


def _check_known(used: set[Any], known: set[Any], source: str, what: str) -> None:
    """Raises where `used` ids are not in the ground truth."""
    unknown = used - known
    if unknown:
        raise UserError(
            f"{source}: {len(unknown)} {what} id(s) that the ground truth does not have, "
            f"e.g. {min(unknown, key=str)}. Cure: use results and annotations of the same data set"
        )


def _ground_truth(people: Annotations, categories: set[int]) -> dict[str, Any]:
    """What the COCO code wants; as one category where the results have no other than its id."""
    rows = person_rows(people)
    theirs = [people.category_id] * len(rows)
    if categories != {people.category_id} and people.person_categories is not None:
        theirs = people.person_categories.tolist()
    # the COCO code takes id 0 for "not matched"
    for number, (row, category) in enumerate(zip(rows, theirs, strict=True), 1):
        row |= {"id": number, "category_id": category}
    return {
        "info": {},
        "images": [{"id": number} for number in people.image_ids.tolist()],
        "annotations": rows,
        "categories": [{"id": n, "name": str(n)} for n in sorted({*theirs, people.category_id})],
    }


def evaluate_boxes(
    annotations: Annotations,
    detections: Detections,
    *,
    evaluator: Evaluator = "hotcoco",
    max_dets: int = 100,
) -> dict[str, float]:
    """Box AP of the people (COCO detection protocol, IoU .50:.95); crowds are ignored as COCO does.

    Args:
        annotations: the people.
        detections: boxes on the pictures of `annotations`.
        evaluator: `hotcoco` or `pycocotools`: the same numbers.
        max_dets: best boxes of a picture that count.

    Returns:
        AP AP50 AP75 APS APM APL AR in 0..1, -1 where there is no ground truth of that size; all 0
        without detections.
    """
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR")
    if not len(detections):
        return dict.fromkeys(names, 0.0)
    people = zip(
        annotations.image_index,
        annotations.bbox_xywh.tolist(),
        annotations.area.tolist(),
        annotations.is_crowd,
        strict=True,
    )
    truth = {
        "images": [{"id": picture} for picture in range(len(annotations.image_ids))],
        "annotations": [
            {
                "id": number,
                "image_id": int(picture),
                "category_id": 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (picture, box, area, crowd) in enumerate(
                people, 1
            )  # the COCO code takes id 0 for "not matched"
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    boxes = zip(
        detections.image_index.tolist(),
        detections.bbox_xywh.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    rows = [
        {"image_id": picture, "category_id": 1, "bbox": box, "score": score}
        for picture, box, score in boxes
    ]
    precision, recall = _run(truth, rows, "bbox", evaluator, None, [1, 10, max_dets], None)
    at = precision[..., -1]  # (10, 101, 1, 4)
    values = [
        at[..., 0],
        at[0, ..., 0],
        at[5, ..., 0],
        at[..., 1],
        at[..., 2],
        at[..., 3],
        recall[:, :, 0, -1],
    ]
    return {name: _mean(value) for name, value in zip(names, values, strict=True)}


def spell(value: float, form: str) -> str:
    """A measure as text, `-` where it is below 0: there was nothing to find."""
    return format(value, form) if value >= 0 else "-"


def result_table(
    metrics: Mapping[str, float],
    preset: str,
    box_source: str,
    pictures: int,
    *,
    columns: Mapping[str, str] = COLUMNS,
    factor: float = 100,
) -> str:
    """One aligned table as the papers print it, in percent, with preset, boxes and pictures beside it.

    Args:
        metrics: the numbers; below 0 or NaN: there was nothing to find.
        preset: name of the network.
        box_source: where the boxes are from.
        pictures: how many.
        columns: name of the number -> head of its column; COCO's ten by default.
        factor: makes percent of the numbers.
    """
    heads = ("preset", "boxes", "pictures", *columns.values())
    values = [spell(factor * metrics[name], ".1f") for name in columns]
    cells = (preset, box_source, f"{pictures:,}", *values)
    widths = [max(len(head), len(cell)) for head, cell in zip(heads, cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        places = [
            text.ljust(w) if i < 2 else text.rjust(w)
            for i, (text, w) in enumerate(zip(texts, widths, strict=True))
        ]
        return "| " + " | ".join(places) + " |"

    rule = (
        "|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths)) + "|"
    )
    return "\n".join((line(heads), rule, line(cells)))


def _run(
    truth: dict[str, Any],
    rows: list[dict[str, Any]],
    kind: Literal["keypoints", "bbox"],
    evaluator: Evaluator,
    image_ids: Sequence[int] | None,
    max_dets: list[int],
    sigmas: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (thresholds, recalls, categories, areas, max_dets) and recall (the same without
    recalls); -1 for nothing to find."""
    if evaluator == "hotcoco":
        import hotcoco

        COCO, COCOeval = hotcoco.COCO, hotcoco.COCOeval
    elif evaluator == "pycocotools":
        try:
            from pycocotools import coco, cocoeval
        except ImportError as error:
            raise need("pycocotools", "pycocotools", "the evaluator pycocotools") from error
        COCO, COCOeval = coco.COCO, cocoeval.COCOeval
    else:
        raise UserError(f"there is no evaluator {evaluator!r}. Cure: hotcoco or pycocotools")
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hotcoco warns that other sigmas are not COCO's
        if evaluator == "hotcoco":
            annotated = COCO(truth)
        else:
            annotated, rows = COCO(), copy.deepcopy(rows)  # it writes into the rows
            annotated.dataset = truth
            annotated.createIndex()
        scoring: Any = COCOeval(annotated, annotated.loadRes(rows), kind)
        scoring.params.maxDets = max_dets
        if sigmas is not None:
            scoring.params.kpt_oks_sigmas = (
                np.asarray(sigmas, np.float64)
                if evaluator == "pycocotools"
                else [float(s) for s in sigmas]
            )
        if image_ids is not None:
            scoring.params.imgIds = sorted(set(image_ids))
        scoring.evaluate()
        scoring.accumulate()
    return np.asarray(scoring.eval["precision"]), np.asarray(scoring.eval["recall"])


def _keypoint_selections(ndim: int) -> list[tuple[Any, ...]]:
    """Where in precision (ndim 5) or recall (ndim 4) the five numbers stand: all, .5, .75, medium,
    large."""
    tail = (slice(None),) * (ndim - 3)
    return [
        (t, *tail, area, 0)
        for t, area in ((slice(None), 0), (0, 0), (5, 0), (slice(None), 1), (slice(None), 2))
    ]


def _mean(values: np.ndarray) -> float:
    """The mean of what could be measured; -1 where nothing could."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0
