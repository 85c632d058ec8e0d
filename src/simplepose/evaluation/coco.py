"""COCO keypoint AP and person box AP: result rows, ground truth of any origin, two evaluators with equal numbers.

The protocol (cocodataset.org/#keypoints-eval): OKS thresholds .50:.05:.95, the 20 best poses a picture, areas all, medium (32^2..96^2)
and large; crowd and keypoint-less ground truth is ignored, its OKS measured against its doubled box.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import read_json
from simplepose.data.columns import Annotations, Detections
from simplepose.evaluation.coco_files import check_known, prepare_ground_truth, prepare_results

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""The ten numbers, in the order in which the COCO code prints them."""

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

    They have no `bbox`: with one, the COCO API would take the area from it, and AP(M) and AP(L) change.

    Args:
        image_ids: (N,) integers.
        keypoints: (N, K, 2) x, y in pixels of the full picture.
        keypoint_scores: (N, K).
        scores: (N,) confidence of each pose.
        category_id: of every row.
        visibility_column: third number of each keypoint: its score (Microsoft's reference) or 1 (the TensorFlow reference).
        score_decimals: round the scores (TensorFlow reference: 4; Microsoft's: None).
        coordinate_decimals: round x and y (TensorFlow reference: 3; Microsoft's: None).
    """
    keypoints = np.asarray(keypoints, np.float64)
    keypoint_scores, scores = np.asarray(keypoint_scores, np.float64), np.asarray(scores, np.float64)
    if keypoints.ndim != 3 or keypoint_scores.shape != keypoints.shape[:2] or not len(image_ids) == len(scores) == len(keypoints):
        raise UserError(
            f"image_ids ({len(image_ids)},), keypoints {keypoints.shape}, keypoint_scores {keypoint_scores.shape} and scores "
            f"{scores.shape} do not fit together. Cure: pass (N,), (N, K, 2), (N, K) and (N,)"
        )
    if score_decimals is not None:
        keypoint_scores, scores = keypoint_scores.round(score_decimals), scores.round(score_decimals)
    if coordinate_decimals is not None:
        keypoints = keypoints.round(coordinate_decimals)
    third = keypoint_scores if visibility_column == "score" else np.ones_like(keypoint_scores)
    rows = np.concatenate([keypoints, third[..., None]], -1).reshape(len(keypoints), 3 * keypoints.shape[1]).tolist()
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": row, "score": score}
        for image_id, row, score in zip(np.asarray(image_ids).tolist(), rows, scores.tolist(), strict=True)
    ]


def evaluate_coco(
    ground_truth: Path | str | dict[str, Any],
    results: list[dict[str, Any]] | Path | str,
    *,
    sigmas: Sequence[float],
    evaluator: Evaluator = "hotcoco",
    image_ids: Sequence[int] | None = None,
    max_dets: int = 20,
    source: str = "the results",
) -> dict[str, float]:
    """The ten COCO numbers of a result list.

    Args:
        ground_truth: COCO keypoints annotations, a file or its content; what other tools leave out is filled in by `prepare_ground_truth`.
        results: rows of the COCO keypoint result format, or their file. A `bbox` in a row is not looked at.
        sigmas: (K,) OKS constants; any K.
        evaluator: `hotcoco` or `pycocotools`: the same numbers.
        image_ids: score these pictures only.
        max_dets: best poses of a picture that count.
        source: what messages call a list of results.

    Returns:
        `METRICS` -> 0..1. -1 where there is no ground truth of that size, as the COCO code says it; all 0 where there are no results.

    Raises:
        UserError: a file is not what it should be, rows for unknown pictures or categories, keypoints that do not fit the sigmas.
    """
    truth = prepare_ground_truth(ground_truth)
    given, source = (results, source) if isinstance(results, list) else (read_json(results), str(results))
    rows = prepare_results(given, truth, sigmas, source)
    if image_ids is not None:
        check_known(set(image_ids), {image["id"] for image in truth["images"]}, "image_ids", "picture")
    if not rows:
        return dict.fromkeys(METRICS, 0.0)
    if any("bbox" in row for row in rows):
        rows = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    precision, recall = _run(truth, rows, "keypoints", evaluator, image_ids, [max_dets], sigmas)
    table = [_mean(values[select]) for values in (precision, recall) for select in _keypoint_selections(values.ndim)]
    return dict(zip(METRICS, table, strict=True))


def evaluate_boxes(
    annotations: Annotations, detections: Detections, *, evaluator: Evaluator = "hotcoco", max_dets: int = 100
) -> dict[str, float]:
    """Box AP of the people (COCO detection protocol, IoU .50:.95); crowds are ignored as COCO does.

    Args:
        annotations: the people.
        detections: boxes on the pictures of `annotations`.
        evaluator: `hotcoco` or `pycocotools`: the same numbers.
        max_dets: best boxes of a picture that count.

    Returns:
        AP AP50 AP75 APS APM APL AR in 0..1, -1 where there is no ground truth of that size; all 0 without detections.
    """
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR")
    if not len(detections):
        return dict.fromkeys(names, 0.0)
    people = zip(annotations.image_index, annotations.bbox_xywh.tolist(), annotations.area.tolist(), annotations.is_crowd, strict=True)
    truth = {
        "images": [{"id": picture} for picture in range(len(annotations.image_ids))],
        "annotations": [
            {"id": number, "image_id": int(picture), "category_id": 1, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for number, (picture, box, area, crowd) in enumerate(people, 1)  # the COCO code takes id 0 for "not matched"
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    boxes = zip(detections.image_index.tolist(), detections.bbox_xywh.tolist(), detections.scores.tolist(), strict=True)
    rows = [{"image_id": picture, "category_id": 1, "bbox": box, "score": score} for picture, box, score in boxes]
    precision, recall = _run(truth, rows, "bbox", evaluator, None, [1, 10, max_dets], None)
    at = precision[..., -1]  # (10, 101, 1, 4)
    values = [at[..., 0], at[0, ..., 0], at[5, ..., 0], at[..., 1], at[..., 2], at[..., 3], recall[:, :, 0, -1]]
    return {name: _mean(value) for name, value in zip(names, values, strict=True)}


def spell(value: float, form: str) -> str:
    """A measure as text, `-` where it is below 0: there was nothing to find."""
    return format(value, form) if value >= 0 else "-"


def result_table(metrics: dict[str, float], preset: str, box_source: str, pictures: int) -> str:
    """One aligned table as the papers print it, in percent, with preset, source of the boxes and number of pictures beside it."""
    heads = ("preset", "boxes", "pictures", "AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
    values = [spell(100 * metrics[name], ".1f") for name in METRICS]
    cells = (preset, box_source, f"{pictures:,}", *values)
    widths = [max(len(head), len(cell)) for head, cell in zip(heads, cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        places = [text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))]
        return "| " + " | ".join(places) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths)) + "|"
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
    """Precision (thresholds, recalls, categories, areas, max_dets) and recall (the same without recalls); -1 for nothing to find."""
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
            scoring.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64) if evaluator == "pycocotools" else [float(s) for s in sigmas]
        if image_ids is not None:
            scoring.params.imgIds = sorted(set(image_ids))
        scoring.evaluate()
        scoring.accumulate()
    return np.asarray(scoring.eval["precision"]), np.asarray(scoring.eval["recall"])


def _keypoint_selections(ndim: int) -> list[tuple[Any, ...]]:
    """Where in precision (ndim 5) or recall (ndim 4) the five numbers stand: all, .5, .75, medium, large."""
    tail = (slice(None),) * (ndim - 3)
    return [(t, *tail, area, 0) for t, area in ((slice(None), 0), (0, 0), (5, 0), (slice(None), 1), (slice(None), 2))]


def _mean(values: np.ndarray) -> float:
    """The mean of what could be measured; -1 where nothing could."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0
