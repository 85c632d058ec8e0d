"""Scores result files of COCO, CrowdPose, OCHuman, MPII and PoseTrack by their measures."""

from __future__ import annotations

import math
from pathlib import Path

from simplepose.config import Task
from simplepose.core.errors import UserError
from simplepose.data.coco import read_coco
from simplepose.data.source import read_annotated
from simplepose.evaluation.coco import Evaluator, evaluate_coco, spell
from simplepose.evaluation.crowdpose import evaluate_crowdpose, evaluate_ochuman
from simplepose.evaluation.mpii import MpiiTruth, evaluate_mpii, read_mpii_predictions, score_mpii
from simplepose.evaluation.posetrack_files import score_posetrack
from simplepose.evaluation.tasks import TASKS, require_keypoints

RESULT_ENDINGS: dict[Task, tuple[str, ...]] = {
    "coco": (".json",),
    "crowdpose": (".json",),
    "ochuman": (".json",),
    "mpii": (".mat", ".h5", ".hdf5"),
    "posetrack": (".json",),
}


def require_results(task: Task, path: str) -> None:
    """Refuses what is no result file of the task.

    Raises:
        UserError: nothing is there, or a file of another kind.
    """
    if not Path(path).exists():
        raise UserError(f"there is no {path}. Cure: check the path")
    endings = RESULT_ENDINGS[task]
    folder = task == "posetrack" and Path(path).is_dir()
    if not folder and Path(path).suffix.lower() not in endings:
        raise UserError(
            f"{path} is no result file of task {task} ({', '.join(endings)}). "
            f"Cure: such a file, or for a network simplepose evaluate {path} --task {task}"
        )


def score_results(
    task: Task,
    results: str,
    annotations: str,
    *,
    evaluator: Evaluator = "hotcoco",
    exact_poseval: bool = True,
    ap_threshold: float = -math.inf,
    tracking_threshold: float = -math.inf,
    category: str | None = None,
) -> dict[str, float]:
    """The numbers of a result file.

    Args:
        task: whose measure.
        results: result file; for PoseTrack the folder of result files.
        annotations: ground truth, in the data set's own form or in that of `simplepose convert`.
        evaluator: of the OKS-AP tasks.
        exact_poseval: PoseTrack: repeat the original tool's quirks, its dropped last frame among
            them.
        ap_threshold: PoseTrack: keypoints with a lower score do not count in AP.
        tracking_threshold: PoseTrack: the same for the tracking numbers, which are there where
            people have track ids.
        category: COCO: id or name of the one to score, where several have different keypoints.

    Raises:
        UserError: a file is missing, of another kind, or does not fit the ground truth.
    """
    require_results(task, results)
    if not annotations:
        raise UserError(
            f"{results} needs its ground truth. Cure: --annotations FILE (for --task posetrack the folder of annotation files)"
        )
    if not Path(annotations).exists():
        raise UserError(f"there is no {annotations}. Cure: check the path")
    if task == "coco":
        people = read_coco(annotations, None, category=category)
        return evaluate_coco(people, results, sigmas=people.schema.sigmas, evaluator=evaluator)
    if task == "crowdpose":
        return evaluate_crowdpose(annotations, results, evaluator=evaluator)
    if task == "ochuman":
        return evaluate_ochuman(annotations, results, evaluator=evaluator)
    if task == "mpii":
        return _score_mpii(results, annotations)
    return score_posetrack(
        annotations,
        results,
        exact=exact_poseval,
        ap_threshold=ap_threshold,
        tracking_threshold=tracking_threshold,
    )


def _score_mpii(results: str, annotations: str) -> dict[str, float]:
    """PCKh against gt_valid.mat or valid.h5, or against people as they are read for training."""
    if Path(annotations).suffix.lower() != ".json":
        return score_mpii(annotations, results)
    people = read_annotated("mpii", annotations, "")
    require_keypoints("mpii", people.schema, annotations)
    return evaluate_mpii(read_mpii_predictions(results), MpiiTruth.from_annotations(people))


def number_table(task: Task, numbers: dict[str, float], source: str) -> str:
    """Names and numbers as an aligned table of two columns; `-` where there is nothing to find.

    A result file does not say which network made it, nor on which boxes: the table says so.
    """
    width = max(len(name) for name in numbers)
    oks = TASKS[task].factor == 100
    lines = [f"{task}: preset and boxes unknown, from {source} ({TASKS[task].unit})"]
    cells = {
        name: f"{spell(value, '.4f'):>8}" if oks else f"{value:8.2f}"
        for name, value in numbers.items()
    }
    return "\n".join([*lines, *(f"  {name:<{width}}  {cell}" for name, cell in cells.items())])
