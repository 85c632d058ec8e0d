"""COCO keypoint AP and person box AP: result rows and files, ground truth of any origin, two
evaluators with equal numbers.

The protocol (cocodataset.org/#keypoints-eval): OKS thresholds .50:.05:.95, the 20 best poses a
picture, areas all, medium (32^2..96^2) and large; crowd and keypoint-less ground truth is ignored,
its OKS measured against its doubled box.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path, encode_json
from simplepose.core.lines import read_header, read_lines
from simplepose.core.oks import check_sigmas
from simplepose.core.schema import CROWDPOSE_14, KeypointSchema
from simplepose.core.shards import RUN
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.categories import schema_from_count
from simplepose.data.coco import (
    BEYOND,
    Row,
    load_rows,
    person_rows,
    picture_index,
    read_coco,
    rows_of,
)
from simplepose.data.source import read_crowdpose

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
"""The ten numbers, in the order in which the COCO code prints them -> as the papers' tables spell
them."""
METRICS = tuple(COLUMNS)
MAX_POSES, MAX_BOXES = 20, 100
"""Best ones of a picture that count."""

Evaluator = Literal["hotcoco", "pycocotools"]
Rows = list[dict[str, Any]]


def rounded(values: np.ndarray, decimals: int | None) -> np.ndarray:
    """As float64, rounded; None leaves them."""
    values = np.asarray(values, np.float64)
    return values if decimals is None else values.round(decimals)


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
) -> Rows:
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
    third = rounded(keypoint_scores, score_decimals)[..., None]
    third = third if visibility_column == "score" else np.ones_like(third)
    triples = np.concatenate([rounded(keypoints, coordinate_decimals), third], -1)
    return rows_of(
        image_id=np.asarray(image_ids),
        category_id=np.full(len(triples), category_id),
        keypoints=triples.reshape(len(triples), 3 * triples.shape[1]),
        score=rounded(scores, score_decimals),
    )


def evaluate_coco(
    ground_truth: Annotations | Path | str | dict[str, Any],
    results: Rows | Path | str,
    *,
    sigmas: Sequence[float],
    evaluator: Evaluator = "hotcoco",
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

    Returns:
        `METRICS` -> 0..1. -1 where there is no ground truth of that size, as the COCO code says
        it; all 0 where there are no results.

    Raises:
        UserError: a file is not what it should be, rows for unknown pictures or categories,
            keypoints that do not fit the sigmas.
    """
    people = ground_truth
    if not isinstance(people, Annotations):
        schema = schema_from_count(len(sigmas), str(people))[0]
        people = read_coco(people, None, schema, allow_empty=True)
    return score_rows(people, read_results(results, people), sigmas, evaluator)


def score_rows(
    people: Annotations,
    rows: Rows,
    sigmas: Sequence[float],
    evaluator: Evaluator,
    image_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """`evaluate_coco` of rows that `read_results` has read; of some pictures only, or all."""
    check_sigmas(sigmas, len(people.schema))
    if not rows:
        return dict.fromkeys(METRICS, 0.0)
    settings = {} if image_ids is None else {"imgIds": sorted(image_ids)}
    found = run_evaluator(people, rows, sigmas, evaluator, **settings)
    return dict(zip(METRICS, map(float, found.stats), strict=True))


def run_evaluator(
    people: Annotations, rows: Rows, sigmas: Sequence[float], evaluator: Evaluator, **settings: Any
) -> Any:
    """The `COCOeval` of rows that `read_results` has read, at least one, after its work;
    `settings` are fields of its `params`."""
    truth = _ground_truth(people, {row["category_id"] for row in rows})
    settings |= {"maxDets": [MAX_POSES], "kpt_oks_sigmas": list(map(float, sigmas))}
    return _run(truth, rows, "keypoints", evaluator, settings)


def read_results(results: Rows | Path | str, people: Annotations) -> Rows:
    """Result rows that can be scored against `people`, with the numbers of their pictures.

    Rows of other categories that the annotation file lists are left out; a row without a category
    is one of the people.

    Args:
        results: a file, also a poses.jsonl of `predict` or `track`, or its content.
        people: whose pictures and categories they name, by number or as the file spells them.

    Raises:
        UserError: no list of rows, a picture or category that is not known, or a row without as
            many finite keypoint numbers and a finite score.
    """
    source = "the results" if isinstance(results, list) else str(results)
    if source.lower().endswith((".jsonl", RUN)):
        rows = _rows_of_lines(source, people.schema)
    else:
        rows = load_rows(results, source)
    own = {people.category_id, *people.more_categories}
    numbers: dict[Any, int] = {None: people.category_id, **people.category_numbers}
    theirs = [numbers.get(row.category_id, row.category_id) for row in rows]
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
    _check_known({rows[index].image_id for index in kept}, {*pictures}, source, "picture")
    image_ids, length, found = people.image_ids.tolist(), 3 * len(people.schema), []
    for place, index in enumerate(kept):
        flat, score = rows[index].flat_keypoints, rows[index].score
        if len(flat) != length:
            raise UserError(
                f"{label(place)} has {len(flat)} keypoint numbers, expected {length}. "
                "Cure: x, y, score for each of the keypoints of the schema"
            )
        if score is None or not math.isfinite(score):
            raise UserError(
                f"{label(place)} has the score {score}, not a finite number. "
                "Cure: write the confidence of the pose"
            )
        number = image_ids[pictures[rows[index].image_id]]
        person = {"image_id": number, "category_id": theirs[index]}
        found.append({**person, "keypoints": flat, "score": score})
    _require_finite(np.array([row["keypoints"] for row in found], np.float64), label)
    return found


def _rows_of_lines(path: str, schema: KeypointSchema) -> list[Row]:
    """The people of what `predict` and `track` wrote, whose keypoints must be those of `schema`."""
    if (names := read_header(path).keypoints) != tuple(schema.keypoints):
        raise UserError(
            f"{path} has the keypoints {', '.join(names)}; the ground truth has "
            f"{', '.join(schema.keypoints)}. Cure: poses of a network with the same keypoints"
        )
    return [
        Row(image_id=line.image_id, keypoints=[*chain(*one.keypoints)], score=one.score)
        for line in read_lines(path)
        for one in line.people
    ]


def _require_finite(values: np.ndarray, label: Callable[[int], str]) -> None:
    """Refuses NaN, infinity and what no picture has in keypoints (R, 3 K)."""
    if (wrong := np.argwhere(~(np.abs(values) < BEYOND))).size:
        raise UserError(
            f"{label(wrong[0, 0])} has {values[tuple(wrong[0])]} (or null) among its keypoints. "
            "Cure: x, y, score for each keypoint, all of them finite numbers in pixels"
        )


def _check_known(used: set[Any], known: set[Any], source: str, what: str) -> None:
    if unknown := used - known:
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
    # The COCO code takes id 0 for "not matched".
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
    categories: np.ndarray | None = None,
    evaluator: Evaluator = "hotcoco",
) -> dict[str, float]:
    """Box AP of the people (COCO detection protocol, IoU .50:.95); crowds are ignored as COCO does.

    Args:
        annotations: the people.
        detections: boxes on the pictures of `annotations`.
        categories: (D,) category id of each box, where the categories are scored one by one; None:
            all of them are people.
        evaluator: `hotcoco` or `pycocotools`: the same numbers.

    Returns:
        AP AP50 AP75 APS APM APL AR in 0..1, -1 where there is no ground truth of that size; all 0
        without detections.
    """
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR")
    if not len(detections):
        return dict.fromkeys(names, 0.0)
    known = {annotations.category_id}
    if categories is None:
        categories = np.full(len(detections), annotations.category_id)
    else:
        known |= {*annotations.more_categories}
    rows = rows_of(
        image_id=annotations.image_ids[detections.image_index],
        category_id=categories,
        bbox=detections.bbox_xywh,
        score=detections.scores,
    )
    truth = _ground_truth(annotations, known)
    stats = _run(truth, rows, "bbox", evaluator, {"maxDets": [1, 10, MAX_BOXES]}).stats
    # between them the AR of 1 and of 10 boxes a picture
    return dict(zip(names, map(float, (*stats[:6], stats[8])), strict=True))


def _run(
    truth: dict[str, Any],
    rows: Rows,
    kind: Literal["keypoints", "bbox"],
    evaluator: Evaluator,
    settings: dict[str, Any],
) -> Any:
    """Its `stats` are the numbers that the COCO code prints, -1 for nothing to find."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hotcoco warns that other sigmas are not COCO's
        if evaluator == "hotcoco":
            from hotcoco import COCO, COCOeval

            annotated = COCO(truth)
        else:
            try:
                from pycocotools.coco import COCO  # type: ignore[no-redef]
                from pycocotools.cocoeval import COCOeval  # type: ignore[no-redef]
            except ImportError as error:
                raise need("pycocotools", "pycocotools", "the evaluator pycocotools") from error
            annotated = COCO()
            annotated.dataset = truth
            annotated.createIndex()
            rows = [{**row} for row in rows]  # it writes into the rows
            if "kpt_oks_sigmas" in settings:
                settings |= {"kpt_oks_sigmas": np.array(settings["kpt_oks_sigmas"])}
        scoring: Any = COCOeval(annotated, annotated.loadRes(rows), kind)
        for name, value in settings.items():
            setattr(scoring.params, name, value)
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return scoring


def check_submission(folder: Path | str, name: str, split: str) -> Path:
    """The zip that `write_coco_submission` will write; asked before a long run.

    Raises:
        UserError: a name the server would not understand, or a file that exists.
    """
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise UserError(
            f"the method name {name!r} must be letters, digits, '-' and '.'. "
            "Cure: e.g. simplepose-r50"
        )
    path = Path(folder) / f"person_keypoints_{split}_{name}_results.zip"
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another name or remove it")
    return path


def write_coco_submission(
    folder: Path | str, results: Rows, name: str, *, split: str = "test-dev2017"
) -> Path:
    """Writes `person_keypoints_{split}_{name}_results.json` inside a zip of the same name, as the
    COCO server wants it.

    Args:
        folder: where the zip goes.
        results: rows of `coco_results`, of all pictures of the split.
        name: of the method: letters, digits, `-` and `.`.
        split: `test-dev2017` or `val2017`.

    Returns:
        The path of the zip.

    Raises:
        UserError: a name the server would not understand, rows with other than 17 keypoints, or a
            file that exists.
    """
    path = check_submission(folder, name, split)
    for index, row in enumerate(results):
        if len(row["keypoints"]) != 51:
            raise UserError(
                f"row {index} has {len(row['keypoints'])} keypoint numbers, the server takes 51. "
                "Cure: use a COCO network"
            )
    keys = ("image_id", "category_id", "keypoints", "score")
    content = encode_json([{key: row[key] for key in keys} for row in results])
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"{path.stem}.json", content)
    return path


LEVELS = ("APeasy", "APmedium", "APhard")
CROWDPOSE_METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", *LEVELS)
TOOL_BORDERS = (0.2, 0.8)
"""crowdIndex from which a picture is medium, and hard, in the official tool and all its
descendants: published tables use these."""
PAPER_BORDERS = (0.1, 0.8)
"""The same in the paper's text (section 5)."""


def evaluate_crowdpose(
    ground_truth: Path | str | dict[str, Any],
    results: Rows | Path | str,
    *,
    sigmas: Sequence[float] = CROWDPOSE_14.sigmas,
    borders: tuple[float, float] = TOOL_BORDERS,
    evaluator: Evaluator = "hotcoco",
) -> dict[str, float]:
    """CrowdPose's nine numbers in 0..1: AP AP50 AP75 AR AR50 AR75 APeasy APmedium APhard; -1 where
    there is no such picture.

    Args:
        ground_truth: crowdpose_{val,test}.json or its content; an `area` in it is not looked at.
        results: rows of the COCO keypoint result format with 14 keypoints, or their file.
        sigmas: OKS constants, CrowdPose's own by default.
        borders: crowdIndex from which a picture is medium, and hard.
        evaluator: `hotcoco` or `pycocotools`.

    Raises:
        UserError: pictures without `crowdIndex`, and whatever `evaluate_coco` does not accept.
    """
    people = read_crowdpose(ground_truth, None)
    rows = read_results(results, people)
    whole = score_rows(people, rows, sigmas, evaluator)
    numbers = {name: whole[name] for name in CROWDPOSE_METRICS if name in whole}
    crowding = np.array([extra["crowdIndex"] for extra in people.image_extras])
    levels = np.digitize(crowding, borders)
    for level, name in enumerate(LEVELS):
        ids = people.image_ids[levels == level].tolist()
        part = score_rows(people, rows, sigmas, evaluator, ids) if ids else {"AP": -1.0}
        numbers[name] = part["AP"]
    return numbers
