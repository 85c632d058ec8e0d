"""What each data set's own test is: its keypoints, boxes, numbers and files of results.

A task is named in `evaluate.task`, which the presets of a family set; training chooses `best` by
the task's `score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.config import GroundTruthBoxes, Task
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.data.annotations import GROUND_TRUTH, Annotations, Detections
from simplepose.data.coco import coco_content
from simplepose.data.source import boxes_to_test
from simplepose.evaluation import posetrack
from simplepose.evaluation.coco import COLUMNS, Evaluator, evaluate_coco, result_table
from simplepose.evaluation.crowdpose import CROWDPOSE_METRICS, evaluate_crowdpose
from simplepose.evaluation.mpii import GROUPS, MpiiTruth, evaluate_mpii, write_mpii_submission
from simplepose.evaluation.posetrack_files import annotated_frames, frames_of, score_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is particular about a task."""

    schema: KeypointSchema | None
    """The keypoints that its measure needs; None: any."""
    columns: Mapping[str, str]
    """Its numbers -> heads of the table's columns."""
    factor: float
    """Makes percent of its numbers."""
    unit: str
    """What its numbers are, in words."""
    results: str
    """Name of the file or folder of results."""
    score: str = "AP"
    """The number that chooses `best`."""


TASKS: dict[Task, Kind] = {
    "coco": Kind(
        schema=None, columns=COLUMNS, factor=100, unit="OKS-AP, 0..1", results="predictions.json"
    ),
    "crowdpose": Kind(
        schema=CROWDPOSE_14,
        columns={name: COLUMNS.get(name, name.replace("AP", "AP ")) for name in CROWDPOSE_METRICS},
        factor=100,
        unit="OKS-AP, area = box area x 0.53, 0..1",
        results="predictions.json",
    ),
    "ochuman": Kind(
        schema=COCO_17, columns=COLUMNS, factor=100, unit="OKS-AP, 0..1", results="predictions.json"
    ),
    "mpii": Kind(
        schema=MPII_16,
        columns={name: name for name in (*GROUPS, "Mean", "Mean@0.1")},
        factor=1,
        unit="PCKh, percent, distance <= threshold x head size, mean without pelvis and thorax",
        results="predictions.mat",
        score="Mean",
    ),
    "posetrack": Kind(
        schema=POSETRACK_15,
        columns={**{f"AP {name}": name for name in posetrack.GROUPS}, "AP": "AP"},
        factor=1,
        unit="percent",
        results="predictions",
    ),
}


def require_keypoints(task: Task, schema: KeypointSchema, source: str) -> None:
    """Refuses a network or annotations whose keypoints the task does not score.

    Raises:
        UserError: names the source, both sets of keypoints and the task that fits.
    """
    wanted = TASKS[task].schema
    if wanted is None or wanted.keypoints == schema.keypoints:
        return
    named = {kind.schema.keypoints: name for name, kind in TASKS.items() if kind.schema is not None}
    other = {**named, COCO_17.keypoints: "coco"}.get(schema.keypoints, "coco")
    raise UserError(
        f"{source} has {len(schema)} keypoints ({schema.name}), "
        f"the task {task} scores {len(wanted)} ({wanted.name}). "
        f"Cure: the task {other}, or a network and annotations with the keypoints of {wanted.name}"
    )


def require_truth(task: Task, annotations: Annotations) -> None:
    """Refuses annotations that lack what the task's measure needs, before a network runs.

    Raises:
        UserError: other keypoints, a missing head box (MPII, PoseTrack), no `crowdIndex`
            (CrowdPose).
    """
    require_keypoints(task, annotations.schema, annotations.source)
    if task == "mpii":
        MpiiTruth.from_annotations(annotations)
    elif task == "posetrack":
        heads = (
            np.full((len(annotations), 4), np.nan)
            if annotations.head_boxes_xyxy is None
            else annotations.head_boxes_xyxy
        )
        bad = (annotations.keypoint_counts > 0) & ~np.isfinite(heads).all(1)
        if bad.any():
            raise UserError(
                f"{annotations.source}: {bad.sum()} people have no head box, which PCKh needs, "
                f"first annotation {annotations.annotation_ids[np.argmax(bad)]}. "
                "Cure: the folder of PoseTrack's files, or what simplepose convert posetrack wrote"
            )
    elif task == "crowdpose" and not all(
        "crowdIndex" in extra for extra in annotations.image_extras or ({},)
    ):
        raise UserError(
            f"{annotations.source}: pictures lack crowdIndex. Cure: give the official CrowdPose file, or the task coco"
        )


def boxes_of_task(
    task: Task,
    boxes: str,
    annotations: Annotations,
    root: str = "",
    *,
    ground_truth: GroundTruthBoxes = "annotated",
    skip_broken: bool = False,
) -> Detections:
    """The boxes to test on: as `boxes_to_test`, for MPII everybody's annotated box, in their order.

    Raises:
        UserError: detected boxes for MPII, which knows whose a pose is by the annotated place.
    """
    if task != "mpii":
        return boxes_to_test(
            boxes, annotations, root, ground_truth=ground_truth, skip_broken=skip_broken
        )
    if boxes != "gt":
        raise UserError(
            f"the task mpii is tested on the annotated places, not on the boxes {boxes}. Cure: the boxes gt"
        )
    corners = xywh_to_xyxy(annotations.bbox_xywh.astype(np.float64))
    return Detections(
        image_index=annotations.image_index,
        boxes_xyxy=corners,
        scores=np.ones(len(annotations)),
        source=GROUND_TRUTH["annotated"],
    )


def score_task(
    task: Task, annotations: Annotations, results: Any, evaluator: Evaluator = "hotcoco"
) -> dict[str, float]:
    """The numbers of a network's results; -1 or NaN where there is nothing to find.

    Args:
        task: whose measure.
        annotations: the ground truth.
        results: COCO result rows; MPII: (N, 16, 2), see `mpii_results`; PoseTrack: files by
            sequence, see `posetrack_results`.
        evaluator: of the OKS-AP tasks.
    """
    if task == "mpii":
        return evaluate_mpii(results, MpiiTruth.from_annotations(annotations))
    if task == "posetrack":
        found = {
            name: frames_of(content, f"the results of {name}") for name, content in results.items()
        }
        return score_frames(annotated_frames(annotations), found, exact=True)
    if not len(annotations):  # the pictures of a test split
        return dict.fromkeys(TASKS[task].columns, -1.0)
    if task == "crowdpose":
        return evaluate_crowdpose(coco_content(annotations), results, evaluator=evaluator)
    return evaluate_coco(
        annotations, results, sigmas=annotations.schema.sigmas, evaluator=evaluator
    )


def write_results(folder: Path, task: Task, annotations: Annotations, results: Any) -> Path:
    """Writes the results as the benchmark takes and `simplepose score` reads them.

    COCO, CrowdPose, OCHuman: predictions.json. MPII: predictions.mat. PoseTrack: predictions/ with
    one file a sequence. Returns the file or folder.
    """
    path = folder / TASKS[task].results
    if task == "mpii":
        names = [
            Path(annotations.image_paths[index]).name for index in annotations.image_index.tolist()
        ]
        write_mpii_submission(path, results, names)
    elif task == "posetrack":
        for name, content in results.items():
            write_json(path / f"{name}.json", content)
    else:
        write_json(path, results)
    return path


def task_table(
    task: Task, metrics: Mapping[str, float], preset: str, box_source: str, pictures: int
) -> str:
    """The table row of a network, see `result_table`, with the task's columns."""
    return result_table(
        metrics,
        preset,
        box_source,
        pictures,
        columns=TASKS[task].columns,
        factor=TASKS[task].factor,
    )
