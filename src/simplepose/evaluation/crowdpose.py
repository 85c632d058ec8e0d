"""CrowdPose (AP, and easy, medium, hard by crowding) and OCHuman AP, on the COCO evaluator.

CrowdPose (Li et al. 2019): 14 keypoints with their own sigmas, the area is always box area x 0.53, and a picture is easy, medium or hard
by its `crowdIndex`. OCHuman (Zhang et al. 2019): COCO's 17 keypoints, sigmas and protocol, every annotated person.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.files import read_json
from simplepose.core.schema import COCO_17, CROWDPOSE_14
from simplepose.data.coco_columns import loads
from simplepose.evaluation.coco import Evaluator, evaluate_coco
from simplepose.evaluation.coco_files import prepare_ground_truth

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
    value = ground_truth if isinstance(ground_truth, dict) else loads(ground_truth)
    truth = prepare_ground_truth(
        {**value, "annotations": [{k: v for k, v in row.items() if k != "area"} for row in value.get("annotations", [])]}
        if isinstance(value, dict)
        else value,
    )
    lacking = [image["id"] for image in truth["images"] if "crowdIndex" not in image]
    if lacking:
        raise UserError(f"{source}: {len(lacking)} pictures have no crowdIndex, e.g. {lacking[0]}. Cure: use the official CrowdPose files")
    rows, source_of_rows = (results, "the results") if isinstance(results, list) else (read_json(results), str(results))
    whole = evaluate_coco(truth, rows, sigmas=sigmas, evaluator=evaluator, source=source_of_rows)
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
