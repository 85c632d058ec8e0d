"""`simplepose evaluate WEIGHTS --boxes gt|FILE --task TASK`: a network's test.

With `--epochs` the networks that one run has kept, a row each.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simplepose.commands.evaluate_epochs import weights_of_epochs
from simplepose.commands.options import EvaluateOptions
from simplepose.config import CodecConfig, PixelConfig
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.progress import Progress
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.source import read_annotated, read_split
from simplepose.evaluation.coco_submission import check_submission, write_coco_submission
from simplepose.evaluation.tasks import (
    TASKS,
    boxes_of_task,
    require_keypoints,
    require_truth,
    task_table,
    write_results,
)
from simplepose.evaluation.top_down import (
    Evaluation,
    evaluate_network,
    name_boxes,
)
from simplepose.pose.checkpoints import require_schema
from simplepose.pose.estimator import PoseEstimator

Networks = dict[int, tuple[str, Path | None]]
"""Epoch -> weights, and the folder for their results; epoch 0 is a network that is named itself."""


def run(options: EvaluateOptions) -> None:
    """Runs the test and prints the table row, or one row for each epoch."""
    if options.epochs and options.submission:
        raise UserError("--submission is of one network. Cure: --epochs or --submission, not both")
    networks = networks_of(options)
    for _, folder in networks.values():
        _require_free(folder, options)
    if options.submission:
        if not options.output:
            raise UserError("--submission writes a file. Cure: name its folder with --output")
        if options.evaluate.task != "coco":
            raise UserError(
                f"--submission is for the COCO server, the task is {options.evaluate.task}. Cure: --task coco, or leave --submission out"
            )
        check_submission(Path(options.output), options.submission, split_of(options))
    if bool(options.annotations) != bool(options.images):
        raise UserError(
            "--annotations and --images belong together. Cure: give both, or --data.root"
        )
    score_networks(options, networks)


def score_networks(options: EvaluateOptions, networks: Networks) -> None:
    """Tests networks on the same boxes, prints a row of each and writes its results."""
    data: EvaluationData | None = None
    task = options.evaluate.task
    written = []
    for epoch, (weights, folder) in networks.items():
        estimator = open_estimator(options, weights)
        require_keypoints(task, estimator.schema, weights)
        table_begins = data is None
        data = data or read_data(options, estimator.schema)
        require_schema(estimator.spec, data.annotations.schema, str(weights))
        with Progress("evaluating", "boxes") as progress:
            outcome = evaluate_network(
                estimator,
                data.annotations,
                data.detections,
                options.evaluate,
                evaluator=options.evaluator,
                skip_broken=options.data.skip_broken,
                progress=progress,
            )
        for path, reason in list(outcome.broken.items())[:3]:
            print(f"skipped {path}: {reason}", file=sys.stderr)
        name = estimator.spec.preset
        name += f", epoch {epoch:>{len(str(max(networks)))}}" if epoch else ""
        table = task_table(task, outcome.metrics, name, data.box_name, outcome.pictures)
        print(table if table_begins else table.splitlines()[-1], flush=True)
        if not epoch:
            _say_more(estimator, outcome)
        if folder is not None:
            written += [
                write_results(folder, task, data.annotations, outcome.results),
                folder / "metrics.json",
            ]
            record = _record(options, weights, data, estimator, outcome)
            record |= {"epoch": epoch} if epoch else {}
            write_json(folder / "metrics.json", record, indent=True)
        if folder is not None and options.submission:
            split = split_of(options)
            path = write_coco_submission(folder, outcome.results, options.submission, split=split)
            print(f"for the COCO server: {path}")
    if written:
        print(f"written: {', '.join(map(str, written))}")


def networks_of(options: EvaluateOptions) -> Networks:
    """What is tested.

    Raises:
        UserError: `--epochs` is malformed, or not of this run.
    """
    output = Path(options.output) if options.output else None
    if not options.epochs:
        return {0: (options.weights, output)}
    kept = weights_of_epochs(options.weights, options.epochs)
    return {epoch: (str(path), output and output / path.stem) for epoch, path in kept.items()}


def _require_free(folder: Path | None, options: EvaluateOptions) -> None:
    """Raises where results would be overwritten."""
    if folder is None or options.overwrite:
        return
    if any(
        (folder / name).exists() for name in (TASKS[options.evaluate.task].results, "metrics.json")
    ):
        raise UserError(f"{folder} already holds results. Cure: --overwrite, or another --output")


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """Pictures and boxes that networks are tested on."""

    annotations: Annotations
    detections: Detections
    box_name: str
    """The boxes as the table names them."""
    box_quality: float | None
    """Their AP, 0..1; None for those of the ground truth."""


def read_data(options: EvaluateOptions, schema: KeypointSchema) -> EvaluationData:
    """Reads the pictures and boxes; `schema` is the network's, for the files of a test split."""
    submission = bool(options.submission)
    if options.annotations:
        # The files of a test split have no people, and may not name keypoints.
        annotations = read_annotated(
            options.evaluate.task,
            options.annotations,
            options.images,
            schema if submission else None,
            category=options.data.category or None,
            allow_empty=submission,
        )
    else:
        annotations = read_split(options.data.config, "val")
    for warning in annotations.warnings:
        print(f"note: {warning}", file=sys.stderr)
    require_truth(options.evaluate.task, annotations)
    detections = boxes_of_task(
        options.evaluate.task,
        options.boxes,
        annotations,
        options.data.root,
        ground_truth=options.evaluate.ground_truth_boxes,
        skip_broken=options.data.skip_broken,
    )
    for warning in detections.warnings:
        print(f"note: {warning}", file=sys.stderr)
    return EvaluationData(annotations, detections, *name_boxes(annotations, detections))


def open_estimator(options: EvaluateOptions, weights: str) -> PoseEstimator:
    """The network, with what the options say about its preprocessing and decoding."""
    estimator = PoseEstimator.from_checkpoint(
        weights,
        device=options.device,
        flip_test=options.evaluate.flip_test,
        precision=options.precision,
        batch_size=options.evaluate.batch_size,
    )
    spec = estimator.spec
    estimator.spec = replace(
        spec, pixels=_pixels(options, spec.pixels), codec=changed_codec(options, spec.codec)
    )
    return estimator


def _say_more(estimator: PoseEstimator, outcome: Evaluation) -> None:
    """What stands below the table of one network."""
    state = "calibrated" if estimator.spec.calibration else "raw"
    print(f"keypoint scores: expected calibration error {outcome.calibration_error:.3f} ({state})")
    pace = outcome.people / max(outcome.seconds, 1e-9)
    print(
        f"{outcome.people:,} boxes in {outcome.seconds:.1f} s ({pace:.0f} boxes/s) on {estimator.device}"
    )


def _record(
    options: EvaluateOptions,
    weights: str,
    data: EvaluationData,
    estimator: PoseEstimator,
    outcome: Evaluation,
) -> dict[str, Any]:
    """The content of metrics.json."""
    error = outcome.calibration_error
    return {
        **outcome.metrics,
        "task": options.evaluate.task,
        "preset": estimator.spec.preset,
        "boxes": data.detections.source,
        "box_AP": data.box_quality,
        "pictures": outcome.pictures,
        "people": outcome.people,
        "seconds": round(outcome.seconds, 2),
        "weights": weights,
        "annotations": data.annotations.source,
        "flip_test": options.evaluate.flip_test,
        "decoder": estimator.spec.codec.decoder,
        "flip_shift": estimator.spec.codec.flip_shift,
        "broken_pictures": len(outcome.broken),
        "calibration_error": None if math.isnan(error) else error,
        "calibrated": bool(estimator.spec.calibration),
    }


def split_of(options: EvaluateOptions) -> str:
    """Which COCO split the annotations are of, by the name of their file: `val2017`, `test-dev2017`."""
    found = re.search(r"(test-dev|test|val|train)20\d\d", Path(options.annotations).name)
    return found[0] if found else "test-dev2017" if options.annotations else "val2017"


def _pixels(options: EvaluateOptions, own: PixelConfig) -> PixelConfig:
    """The network's preprocessing with what the options override."""
    order = own.channel_order if options.channel_order == "file" else options.channel_order
    return PixelConfig(
        channel_order=order, mean=options.mean or own.mean, std=options.std or own.std
    )


def changed_codec(options: EvaluateOptions, own: CodecConfig) -> CodecConfig:
    """The network's codec with what the options override."""
    if own.kind == "simcc" and (options.flip_shift != "file" or options.decoder == "quarter"):
        raise UserError(
            f"{options.weights} is a SimCC network: it has no heatmap to shift, and no quarter pixels. Cure: leave --flip-shift out, and "
            "choose --decoder argmax or dark"
        )
    given: dict[str, Any] = {"decoder": options.decoder, "flip_shift": options.flip_shift}
    return replace(own, **{name: value for name, value in given.items() if value != "file"})
