"""What each data set's own test is: its keypoints, boxes, numbers and files of results.

A task is named in `evaluate.task`, which the presets of a family set; training chooses `best` by
the task's `score`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.config import Task
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.lines import LINES
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.core.shards import RUN
from simplepose.data.annotations import GROUND_TRUTH, Annotations, Detections
from simplepose.data.coco import coco_content, read_coco
from simplepose.data.source import boxes_to_test, read_annotated
from simplepose.evaluation import posetrack
from simplepose.evaluation.coco import (
    COLUMNS,
    CROWDPOSE_METRICS,
    Evaluator,
    evaluate_coco,
    evaluate_crowdpose,
)
from simplepose.evaluation.mpii import (
    GROUPS,
    MpiiTruth,
    evaluate_mpii,
    read_mpii_predictions,
    read_mpii_truth,
    write_mpii_submission,
)
from simplepose.evaluation.posetrack import evaluate_posetrack


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is particular about a task; the defaults are COCO's."""

    schema: KeypointSchema | None = None
    """The keypoints that its measure needs; None: any."""
    columns: Mapping[str, str]
    """Its numbers -> heads of the table's columns."""
    factor: float = 100
    """Makes percent of its numbers."""
    unit: str = "OKS-AP, 0..1"
    """What its numbers are, in words."""
    results: str = "predictions.json"
    """Name of the file or folder of results."""
    endings: tuple[str, ...] = (".json", ".jsonl")
    """Of a result file."""
    score: str = "AP"
    """The number that chooses `best`."""


TASKS: dict[Task, Kind] = {
    "coco": Kind(columns=COLUMNS),
    "crowdpose": Kind(
        schema=CROWDPOSE_14,
        columns={name: COLUMNS.get(name, name.replace("AP", "AP ")) for name in CROWDPOSE_METRICS},
        unit="OKS-AP, area = box area x 0.53, 0..1",
    ),
    "ochuman": Kind(schema=COCO_17, columns=COLUMNS),
    "mpii": Kind(
        schema=MPII_16,
        columns={name: name for name in (*GROUPS, "Mean", "Mean@0.1")},
        factor=1,
        unit="PCKh, percent, distance <= threshold x head size, mean without pelvis and thorax",
        results="predictions.mat",
        endings=(".mat", ".h5", ".hdf5"),
        score="Mean",
    ),
    "posetrack": Kind(
        schema=POSETRACK_15,
        columns={**{f"AP {name}": name for name in posetrack.GROUPS}, "AP": "AP"},
        factor=1,
        unit="percent",
        results="predictions",
        endings=(".json",),
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
    # COCO's keypoints are OCHuman's too; a network that has them is for the task coco.
    fitting = [
        name
        for name, kind in TASKS.items()
        if name != "ochuman" and kind.schema and kind.schema.keypoints == schema.keypoints
    ]
    raise UserError(
        f"{source} has {len(schema)} keypoints ({schema.name}), "
        f"the task {task} scores {len(wanted)} ({wanted.name}). Cure: the task "
        f"{[*fitting, 'coco'][0]}, or a network and annotations with the keypoints of {wanted.name}"
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
        heads = annotations.head_boxes_xyxy
        there = np.zeros(len(annotations), bool) if heads is None else np.isfinite(heads).all(1)
        if (bad := (annotations.keypoint_counts > 0) & ~there).any():
            raise UserError(
                f"{annotations.source}: {bad.sum()} people have no head box, which PCKh needs, "
                f"first annotation {annotations.annotation_ids[np.argmax(bad)]}. "
                "Cure: the folder of PoseTrack's files, or what simplepose convert posetrack wrote"
            )
    elif task == "crowdpose" and not all(
        "crowdIndex" in extra for extra in annotations.image_extras or ({},)
    ):
        raise UserError(
            f"{annotations.source}: pictures lack crowdIndex. "
            "Cure: give the official CrowdPose file, or the task coco"
        )


def boxes_of_task(
    task: Task, boxes: str, annotations: Annotations, root: str = "", **options: Any
) -> Detections:
    """The boxes to test on: as `boxes_to_test`, for MPII everybody's annotated box, in their order.

    Raises:
        UserError: detected boxes for MPII, which knows whose a pose is by the annotated place.
    """
    if task != "mpii":
        return boxes_to_test(boxes, annotations, root, **options)
    if boxes != "gt":
        raise UserError(
            f"the task mpii is tested on the annotated places, not on the boxes {boxes}. "
            "Cure: the boxes gt"
        )
    return Detections(
        image_index=annotations.image_index,
        boxes_xyxy=xywh_to_xyxy(annotations.bbox_xywh.astype(np.float64)),
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
        return evaluate_posetrack(posetrack.pair_results(annotations, results), exact=True)
    if not len(annotations):  # the pictures of a test split
        return dict.fromkeys(TASKS[task].columns, -1.0)
    if task == "crowdpose":
        return evaluate_crowdpose(coco_content(annotations), results, evaluator=evaluator)
    sigmas = annotations.schema.sigmas
    return evaluate_coco(annotations, results, sigmas=sigmas, evaluator=evaluator)


def write_results(folder: Path, task: Task, annotations: Annotations, results: Any) -> Path:
    """Writes the results as the benchmark takes and `simplepose score` reads them.

    COCO, CrowdPose, OCHuman: predictions.json. MPII: predictions.mat. PoseTrack: predictions/ with
    one file a sequence. Returns the file or folder.
    """
    path = folder / TASKS[task].results
    if task == "mpii":
        names = [Path(path).name for path in annotations.image_paths]
        write_mpii_submission(path, results, [names[index] for index in annotations.image_index])
    elif task == "posetrack":
        for name, content in results.items():
            write_json(path / f"{name}.json", content)
    else:
        write_json(path, results)
    return path


def score_results(
    task: Task,
    results: str,
    annotations: str | Annotations,
    *,
    evaluator: Evaluator = "hotcoco",
    exact_poseval: bool = True,
    ap_threshold: float = -math.inf,
    tracking_threshold: float = -math.inf,
) -> dict[str, float]:
    """The numbers of a result file.

    Args:
        task: whose measure.
        results: result file, or a folder that holds it: of predict, track or evaluate; for
            PoseTrack the folder of result files.
        annotations: ground truth, in the data set's own form or in that of `simplepose convert`;
            COCO: also as it was read.
        evaluator: of the OKS-AP tasks.
        exact_poseval: PoseTrack: repeat the original tool's quirks, its dropped last frame among
            them.
        ap_threshold: PoseTrack: keypoints with a lower score do not count in AP.
        tracking_threshold: PoseTrack: the same for the tracking numbers, which are there where
            people have track ids.

    Raises:
        UserError: a file is missing, of another kind, or does not fit the ground truth.
    """
    results = results_in(task, Path(results))
    known = annotations if isinstance(annotations, Annotations) else None
    truth = annotations if isinstance(annotations, str) else annotations.source
    require_files(task, Path(results), truth)
    if known is not None or task == "coco":
        people = read_coco(truth, None) if known is None else known
        return evaluate_coco(people, results, sigmas=people.schema.sigmas, evaluator=evaluator)
    if task == "crowdpose":
        return evaluate_crowdpose(truth, results, evaluator=evaluator)
    if task == "ochuman":
        return evaluate_coco(truth, results, sigmas=COCO_17.sigmas, evaluator=evaluator)
    if task == "posetrack":
        return evaluate_posetrack(
            posetrack.read_sequences(truth, results),
            exact=exact_poseval,
            ap_threshold=ap_threshold,
            tracking_threshold=tracking_threshold,
        )
    return evaluate_mpii(*read_mpii(truth, results))


def read_mpii(truth: str, results: str) -> tuple[np.ndarray, MpiiTruth]:
    """Predictions (N, 16, 2) and ground truth, for `pckh` and `evaluate_mpii`.

    Args:
        truth: MPII's .mat or .h5, or what `simplepose convert` wrote.
        results: .mat or .h5.
    """
    if Path(truth).suffix.lower() != ".json":
        return read_mpii_predictions(results), read_mpii_truth(truth)
    people = read_annotated("mpii", truth, "")
    require_keypoints("mpii", people.schema, truth)
    return read_mpii_predictions(results), MpiiTruth.from_annotations(people)


def results_in(task: Task, folder: Path) -> str:
    """What a folder of predict, track or evaluate holds for the task; else itself."""
    kind = TASKS[task]
    names = (LINES, RUN, "results.json", kind.results) if kind.factor == 100 else (kind.results,)
    return str(next((folder / name for name in names if (folder / name).exists()), folder))


def require_files(task: Task, results: Path, annotations: str) -> None:
    """Refuses what is not there, or no result file of the task."""
    if not results.exists():
        raise UserError(f"there is no {results}. Cure: check the path")
    endings = TASKS[task].endings
    folder = task == "posetrack" and results.is_dir()
    if not folder and results.suffix.lower() not in endings:
        raise UserError(
            f"{results} is no result file of task {task} ({', '.join(endings)}). "
            f"Cure: such a file, or for a network simplepose evaluate {results} --task {task}"
        )
    if not annotations:
        raise UserError(
            f"{results} needs its ground truth. "
            "Cure: --annotations FILE (for --task posetrack the folder of annotation files)"
        )
    if not Path(annotations).exists():
        raise UserError(f"there is no {annotations}. Cure: check the path")


def spell(value: float, form: str) -> str:
    """A measure as text, `-` where it is below 0 or NaN: there was nothing to find."""
    return format(value, form) if value >= 0 else "-"


def task_table(
    task: Task | Kind, metrics: Mapping[str, float], preset: str, box_source: str, pictures: int
) -> str:
    """One aligned table as the papers print it, in percent, with preset, boxes and pictures.

    Args:
        task: whose columns; a `Kind` of its own for a detector.
        metrics: the numbers.
        preset: name of the network.
        box_source: where the boxes are from.
        pictures: how many.
    """
    kind = task if isinstance(task, Kind) else TASKS[task]
    heads = ("preset", "boxes", "pictures", *kind.columns.values())
    values = [spell(kind.factor * metrics[name], ".1f") for name in kind.columns]
    cells = (preset, box_source, f"{pictures:,}", *values)
    widths = [max(map(len, column)) for column in zip(heads, cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        two = [text.ljust(width) for text, width in zip(texts[:2], widths, strict=False)]
        rest = [text.rjust(width) for text, width in zip(texts[2:], widths[2:], strict=True)]
        return f"| {' | '.join([*two, *rest])} |"

    rule = "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths))
    return "\n".join((line(heads), f"|{rule}|", line(cells)))


def number_table(task: Task, numbers: dict[str, float], source: str) -> str:
    """Names and numbers as an aligned table of two columns; `-` where there is nothing to find.

    A result file does not say which network made it, nor on which boxes: the table says so.
    """
    oks, width = TASKS[task].factor == 100, max(map(len, numbers))
    lines = [f"{task}: preset and boxes unknown, from {source} ({TASKS[task].unit})"]
    for name, number in numbers.items():
        text = spell(number, ".4f") if oks else f"{number:.2f}"
        lines.append(f"  {name:<{width}}  {text:>8}")
    return "\n".join(lines)
