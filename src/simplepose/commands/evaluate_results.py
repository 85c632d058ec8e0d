"""Scores finished result files: COCO, CrowdPose, OCHuman, MPII and PoseTrack, each with the measure of its benchmark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from simplepose.atomic import read_json
from simplepose.data.annotations import coco_annotations, coco_content
from simplepose.data.coco_columns import loads
from simplepose.errors import UserError
from simplepose.evaluation.coco import Evaluator, evaluate_coco
from simplepose.evaluation.crowdpose import evaluate_crowdpose, evaluate_ochuman
from simplepose.evaluation.mpii import score_mpii
from simplepose.evaluation.posetrack_files import score_posetrack

Task = Literal["coco", "crowdpose", "ochuman", "mpii", "posetrack"]

RESULT_ENDINGS = {
    "coco": (".json",),
    "crowdpose": (".json",),
    "ochuman": (".json",),
    "mpii": (".mat", ".h5", ".hdf5"),
    "posetrack": (".json",),
}
UNITS = {
    "coco": "OKS-AP, 0..1", "crowdpose": "OKS-AP, area = box area x 0.53, 0..1", "ochuman": "OKS-AP, 0..1",
    "mpii": "PCKh, percent, distance <= threshold x head size, mean without pelvis and thorax", "posetrack": "percent",
}  # fmt: skip


def is_result(task: Task, path: str) -> bool:
    """Whether the first argument of `evaluate` is a result file (or a PoseTrack folder of them) instead of weights."""
    if Path(path).suffix.lower() in RESULT_ENDINGS[task]:
        return True
    return task == "posetrack" and Path(path).is_dir() and any(Path(path).glob("*.json"))


def score_results(
    task: Task, results: str, annotations: str, *, evaluator: Evaluator = "hotcoco", exact_poseval: bool = False, tracking: bool = True,
    ap_threshold: float = -math.inf, tracking_threshold: float = -math.inf, category: str | None = None,
) -> dict[str, float]:  # fmt: skip
    """The numbers of a result file.

    Args:
        task: whose measure.
        results: result file; for PoseTrack the folder of result files.
        annotations: ground truth; for PoseTrack the folder of annotation files.
        evaluator: of the OKS-AP tasks.
        exact_poseval: PoseTrack: repeat the original tool's quirks, its dropped last frame among them.
        tracking: PoseTrack: False scores AP only, for results without track ids.
        ap_threshold: PoseTrack: keypoints with a lower score do not count in AP.
        tracking_threshold: PoseTrack: the same for the tracking numbers.
        category: COCO: id or name of the one to score, where several have different keypoints.

    Raises:
        UserError: a file is missing, of another kind, or does not fit the ground truth.
    """
    if not annotations:
        raise UserError(f"{results} needs its ground truth. Cure: --annotations FILE (for --task posetrack the folder of annotation files)")
    for path in (results, annotations):
        if not Path(path).exists():
            raise UserError(f"there is no {path}. Cure: check the path")
    if task == "coco":
        return _score_coco(results, annotations, evaluator, category)
    if task == "crowdpose":
        return evaluate_crowdpose(annotations, results, evaluator=evaluator)
    if task == "ochuman":
        return evaluate_ochuman(annotations, results, evaluator=evaluator)
    if task == "mpii":
        return score_mpii(annotations, results)
    return score_posetrack(
        annotations, results, exact=exact_poseval, tracking=tracking, ap_threshold=ap_threshold, tracking_threshold=tracking_threshold
    )


def _score_coco(results: str, annotations: str, evaluator: Evaluator, category: str | None) -> dict[str, float]:
    """The COCO numbers against the people as they are read for training, repairs included.

    Categories that share their keypoints are read as one, whose id our results carry; results that tell them apart are scored as the COCO
    code does, each category by itself.
    """
    content = loads(annotations)
    people = coco_annotations(content, annotations, "", category=category)
    truth: dict[str, Any] = coco_content(people)
    if category is None and len({row.get("category_id") for row in content["annotations"]}) > 1:
        rows = read_json(results)
        if any(row.get("category_id") != people.category_id for row in rows if isinstance(row, dict)):
            truth = content
    return evaluate_coco(truth, results, sigmas=people.schema.sigmas, evaluator=evaluator)


def number_table(task: Task, numbers: dict[str, float], source: str) -> str:
    """Names and numbers as an aligned table of two columns, with what they are."""
    width = max(len(name) for name in numbers)
    scale = 4 if task in ("coco", "crowdpose", "ochuman") else 2
    lines = [f"{task}: {source} ({UNITS[task]})"]
    return "\n".join([*lines, *(f"  {name:<{width}}  {value:8.{scale}f}" for name, value in numbers.items())])
