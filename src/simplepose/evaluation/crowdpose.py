"""CrowdPose (AP, and easy, medium, hard by crowding) and OCHuman AP, on the COCO evaluator; the COCO test-dev result file.

CrowdPose (Li et al. 2019): 14 keypoints with their own sigmas, the area is always box area x 0.53, and a picture is easy, medium or hard
by its `crowdIndex`. OCHuman (Zhang et al. 2019): COCO's 17 keypoints, sigmas and protocol, every annotated person.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from simplepose.atomic import atomic_path, read_json
from simplepose.errors import UserError
from simplepose.evaluation.coco import BOX_AREA_SHARE, Evaluator, evaluate_coco, prepare_ground_truth
from simplepose.schema import COCO_17, CROWDPOSE_14

LEVELS = ("APeasy", "APmedium", "APhard")
CROWDPOSE_METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", *LEVELS)
TOOL_BORDERS = (0.2, 0.8)
"""crowdIndex from which a picture is medium, and hard, in the official tool and all its descendants: published tables use these."""
PAPER_BORDERS = (0.1, 0.8)
"""The same in the paper's text (section 5)."""


def evaluate_crowdpose(
    ground_truth: Path | str | dict[str, Any],
    results: list[dict[str, Any]] | Path | str,
    *,
    sigmas: Sequence[float] = CROWDPOSE_14.sigmas,
    borders: tuple[float, float] = TOOL_BORDERS,
    evaluator: Evaluator = "hotcoco",
) -> dict[str, float]:
    """CrowdPose's nine numbers in 0..1: AP AP50 AP75 AR AR50 AR75 APeasy APmedium APhard; -1 where there is no such picture.

    Args:
        ground_truth: crowdpose_{val,test}.json or its content; an `area` in it is not looked at.
        results: rows of the COCO keypoint result format with 14 keypoints, or their file.
        sigmas: OKS constants, CrowdPose's own by default.
        borders: crowdIndex from which a picture is medium, and hard.
        evaluator: `hotcoco` or `pycocotools`.

    Raises:
        UserError: pictures without `crowdIndex`, and whatever `evaluate_coco` does not accept.
    """
    source = "the ground truth" if isinstance(ground_truth, dict) else str(ground_truth)
    value = ground_truth if isinstance(ground_truth, dict) else read_json(ground_truth)
    truth = prepare_ground_truth(
        {**value, "annotations": [{k: v for k, v in row.items() if k != "area"} for row in value.get("annotations", [])]}
        if isinstance(value, dict)
        else value,
        area_share=BOX_AREA_SHARE,
    )
    lacking = [image["id"] for image in truth["images"] if "crowdIndex" not in image]
    if lacking:
        raise UserError(f"{source}: {len(lacking)} pictures have no crowdIndex, e.g. {lacking[0]}. Cure: use the official CrowdPose files")
    rows = results if isinstance(results, list) else read_json(results)
    whole = evaluate_coco(truth, rows, sigmas=sigmas, evaluator=evaluator)
    numbers = {name: whole[name] for name in CROWDPOSE_METRICS if name in whole}
    for level, name in enumerate(LEVELS):
        ids = [image["id"] for image in truth["images"] if sum(image["crowdIndex"] >= border for border in borders) == level]
        numbers[name] = evaluate_coco(truth, rows, sigmas=sigmas, evaluator=evaluator, image_ids=ids)["AP"] if ids else -1.0
    return numbers


def evaluate_ochuman(
    ground_truth: Path | str | dict[str, Any], results: list[dict[str, Any]] | Path | str, *, evaluator: Evaluator = "hotcoco"
) -> dict[str, float]:
    """The ten COCO numbers of OCHuman in its COCO form (`ochuman_coco_format_{val,test}_range_0.00_1.00.json`), all people."""
    return evaluate_coco(ground_truth, results, sigmas=COCO_17.sigmas, evaluator=evaluator)


def check_submission(folder: Path | str, name: str, split: str) -> Path:
    """The zip that `write_coco_submission` will write; asked before a long run.

    Raises:
        UserError: a name the server would not understand, or a file that exists.
    """
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise UserError(f"the method name {name!r} must be letters, digits, '-' and '.'. Cure: e.g. simplepose-r50")
    path = Path(folder) / f"person_keypoints_{split}_{name}_results.zip"
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another name or remove it")
    return path


def write_coco_submission(folder: Path | str, results: list[dict[str, Any]], name: str, *, split: str = "test-dev2017") -> Path:
    """Writes `person_keypoints_{split}_{name}_results.json` inside a zip of the same name, as the COCO server wants it.

    Args:
        folder: where the zip goes.
        results: rows of `coco_results`, of all pictures of the split.
        name: of the method: letters, digits, `-` and `.`.
        split: `test-dev2017` or `val2017`.

    Returns:
        The path of the zip.

    Raises:
        UserError: a name the server would not understand, rows with other than 17 keypoints, or a file that exists.
    """
    path = check_submission(folder, name, split)
    for index, row in enumerate(results):
        if len(row["keypoints"]) != 51:
            raise UserError(f"row {index} has {len(row['keypoints'])} keypoint numbers, the server takes 51. Cure: use a COCO network")
    kept = [{key: row[key] for key in ("image_id", "category_id", "keypoints", "score")} for row in results]
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}.json", orjson.dumps(kept))
    return path
