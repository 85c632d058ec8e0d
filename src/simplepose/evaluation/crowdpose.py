"""CrowdPose (AP, and easy, medium, hard by crowding) and OCHuman AP, on the COCO evaluator.

CrowdPose (Li et al. 2019): 14 keypoints with their own sigmas, the area is always box area x 0.53,
and a picture is easy, medium or hard by its `crowdIndex`. OCHuman (Zhang et al. 2019): COCO's 17
keypoints, sigmas and protocol, every annotated person.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.oks import check_sigmas
from simplepose.core.schema import COCO_17, CROWDPOSE_14
from simplepose.data.crowdpose import read_crowdpose
from simplepose.evaluation.coco import Evaluator, evaluate_coco, read_results

LEVELS = ("APeasy", "APmedium", "APhard")
CROWDPOSE_METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", *LEVELS)
TOOL_BORDERS = (0.2, 0.8)
"""crowdIndex from which a picture is medium, and hard, in the official tool and all its
descendants: published tables use these."""
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
    check_sigmas(sigmas, len(people.schema))
    source = "the results" if isinstance(results, list) else str(results)
    rows = read_results(results, people, source)
    whole = evaluate_coco(people, rows, sigmas=sigmas, evaluator=evaluator)
    numbers = {name: whole[name] for name in CROWDPOSE_METRICS if name in whole}
    crowding = np.array([extra["crowdIndex"] for extra in people.image_extras or ()])
    levels = sum((crowding >= border).astype(int) for border in borders)
    for level, name in enumerate(LEVELS):
        ids = people.image_ids[levels == level].tolist()
        if not ids:
            numbers[name] = -1.0
            continue
        part = evaluate_coco(people, rows, sigmas=sigmas, evaluator=evaluator, image_ids=ids)
        numbers[name] = part["AP"]
    return numbers


def evaluate_ochuman(
    ground_truth: Path | str | dict[str, Any],
    results: list[dict[str, Any]] | Path | str,
    *,
    evaluator: Evaluator = "hotcoco",
) -> dict[str, float]:
    """The ten COCO numbers of OCHuman in its COCO form
    (`ochuman_coco_format_{val,test}_range_0.00_1.00.json`), all people."""
    return evaluate_coco(ground_truth, results, sigmas=COCO_17.sigmas, evaluator=evaluator)
