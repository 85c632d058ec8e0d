"""Scores finished result files: COCO, CrowdPose, OCHuman, MPII and PoseTrack, each with the measure of its benchmark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from simplepose.core.errors import UserError
from simplepose.core.files import read_json
from simplepose.data.annotations import coco_annotations, coco_content
from simplepose.data.categories import category_numbers, keypoint_categories
from simplepose.data.coco_columns import loads
from simplepose.evaluation.coco import Evaluator, evaluate_coco, spell
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
    code does, each category by itself. Where one is chosen, rows of the file's others are left out.
    """
    content, given = loads(annotations), read_json(results)
    people = coco_annotations(content, annotations, "", category=category)
    truth: dict[str, Any] = coco_content(people)
    used = [1 if row.get("category_id") is None else row["category_id"] for row in content["annotations"]]
    listed = content.get("categories") or [{"id": name} for name in dict.fromkeys(map(str, used))]
    numbers = category_numbers(listed)
    apart = False
    if isinstance(given, list) and any(_category(row, numbers) != people.category_id for row in given):
        others = {*numbers.values()} - {people.category_id}
        if category is not None:
            given = [row for row in given if _category(row, numbers) not in others] or given
        apart = category is None and len(set(map(str, used))) > 1
    if apart:
        read = {str(entry.get("id")) for entry in keypoint_categories(content.get("categories") or [], annotations)}
        names = [str(name) for name in used if not read or str(name) in read]
        for person, name in zip(truth["annotations"], names, strict=True):
            person["category_id"] = numbers.get(name, people.category_id)
    truth["categories"] = [
        {"id": number, "name": name, "spelled_id": name} for name, number in numbers.items() if apart or number == people.category_id
    ]
    return evaluate_coco(truth, given, sigmas=people.schema.sigmas, evaluator=evaluator, source=results)


def _category(row: Any, numbers: dict[str, int]) -> Any:
    """The number of a result row's category, of which the row may give the word."""
    found = row.get("category_id") if isinstance(row, dict) else None
    return numbers.get(str(found), found)


def number_table(task: Task, numbers: dict[str, float], source: str) -> str:
    """Names and numbers as an aligned table of two columns, with what they are; `-` where there is nothing of that kind to find.

    A result file does not say which network made it, nor on which boxes: the table says so.
    """
    width = max(len(name) for name in numbers)
    oks = task in ("coco", "crowdpose", "ochuman")
    lines = [f"{task}: preset and boxes unknown, from {source} ({UNITS[task]})"]
    cells = {name: f"{spell(value, '.4f'):>8}" if oks else f"{value:8.2f}" for name, value in numbers.items()}
    return "\n".join([*lines, *(f"  {name:<{width}}  {cell}" for name, cell in cells.items())])
