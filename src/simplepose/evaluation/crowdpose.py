"""CrowdPose (AP, and easy, medium, hard by crowding) on the COCO evaluator.

Li et al. 2019: 14 keypoints with their own sigmas, the area is always box area x 0.53, and a
picture is easy, medium or hard by its `crowdIndex`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.schema import CROWDPOSE_14
from simplepose.data.crowdpose import read_crowdpose
from simplepose.evaluation.coco import Evaluator, Rows, read_results, score_rows

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
    crowding = np.array([extra["crowdIndex"] for extra in people.image_extras or ()])
    levels = np.digitize(crowding, borders)
    for level, name in enumerate(LEVELS):
        ids = people.image_ids[levels == level].tolist()
        part = score_rows(people, rows, sigmas, evaluator, ids) if ids else {"AP": -1.0}
        numbers[name] = part["AP"]
    return numbers
