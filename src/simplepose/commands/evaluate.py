"""`simplepose evaluate WEIGHTS --boxes gt|FILE --task TASK`: a network's test."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.progress import Progress
from simplepose.data.readers import read_annotated
from simplepose.data.source import DataConfig, read_split
from simplepose.evaluation.coco_submission import check_submission, write_coco_submission
from simplepose.evaluation.tasks import (
    TASKS,
    boxes_of_task,
    require_keypoints,
    require_truth,
    task_table,
    write_results,
)
from simplepose.evaluation.top_down import EvaluateConfig, evaluate_network, name_boxes, stored_settings
from simplepose.pose.checkpoints import find_weights, read_spec, require_schema
from simplepose.pose.codec import CodecConfig
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.pixels import IMAGENET_MEAN, IMAGENET_STD, PixelConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Scores a network on annotated pictures."""

    weights: Annotated[str, tyro.conf.Positional]
    """Run folder, .safetensors or .onnx file."""
    submission: str = ""
    """Name of the method: also write the zip that the COCO server takes, into the output folder."""
    annotations: str = ""
    """Annotations to score against, in the data set's own form (PoseTrack: their folder) or as simplepose
    convert wrote them; by default the validation split below --data.root."""
    images: str = ""
    """Folder of its pictures."""
    boxes: str = "gt"
    """Where people are: gt, detections (the layout's file) or the path of a detection file."""
    output: str = ""
    """Folder for metrics.json and the results: predictions.json, for MPII predictions.mat, for PoseTrack
    predictions/ with a file a sequence."""
    overwrite: bool = False
    """Replace results that are already in the output folder."""
    evaluator: Literal["hotcoco", "pycocotools"] = "hotcoco"
    """Which implementation scores; their numbers are equal."""
    device: str = "auto"
    """auto, cpu, cuda, npu, mps, xpu."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data layout, in place of --annotations and --images."""
    channel_order: Literal["file", "rgb", "bgr"] = "file"
    """Channels the network expects: as the weight file says, or this (for ONNX files that say nothing: RGB)."""
    mean: tuple[float, float, float] | None = None
    """Mean in units of 0..255, in place of the weight file's (ONNX files that say nothing: ImageNet's)."""
    std: tuple[float, float, float] | None = None
    """Deviation in units of 0..255, in place of the weight file's."""
    decoder: Literal["file", "argmax", "quarter", "dark"] = "file"
    """How keypoints are read from heatmaps: as the weight file says, or this."""
    flip_shift: Literal["file", "none", "one_pixel", "exact"] = "file"
    """How the heatmaps of the mirrored crop are aligned: as the weight file says, or this."""
    evaluate: tyro.conf.OmitArgPrefixes[EvaluateConfig] = field(default_factory=EvaluateConfig)
    """The test; a trained run's own settings are the defaults."""


def main(argv: list[str]) -> None:
    """Runs the test and prints the table row."""
    options = parse_options(argv)
    _check(options)
    folder = Path(options.output) if options.output else None
    task = options.evaluate.task
    written = (TASKS[task].results, "metrics.json")
    if folder is not None and not options.overwrite and any((folder / name).exists() for name in written):
        raise UserError(f"{folder} already holds results. Cure: --overwrite, or --output with another folder")
    if options.submission:
        if folder is None:
            raise UserError("--submission writes a file. Cure: name its folder with --output")
        if task != "coco":
            raise UserError(f"--submission is for the COCO server, the task is {task}. Cure: --task coco, or leave --submission out")
        check_submission(folder, options.submission, split_of(options))
    if bool(options.annotations) != bool(options.images):
        raise UserError("--annotations and --images belong together. Cure: give both, or --data.root")
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.evaluate.flip_test, precision=options.precision,
        batch_size=options.evaluate.batch_size,
    )  # fmt: skip
    require_keypoints(task, estimator.schema, options.weights)
    # The files of a test split have no people, and may not name keypoints.
    schema = estimator.schema if options.submission else None
    annotations = (
        read_annotated(
            task,
            options.annotations,
            options.images,
            schema,
            category=options.data.category or None,
            allow_empty=bool(options.submission),
        )
        if options.annotations
        else read_split(options.data, "val")
    )
    for warning in annotations.warnings:
        print(f"note: {warning}", file=sys.stderr)
    require_truth(task, annotations)
    detections = boxes_of_task(task, options.boxes, annotations, options.data.root)
    for warning in detections.warnings:
        print(f"note: {warning}", file=sys.stderr)
    spec = estimator.spec
    estimator.spec = replace(spec, pixels=_pixels(options, spec.pixels), codec=changed_codec(options, spec.codec))
    require_schema(estimator.spec, annotations.schema, options.weights)
    with Progress("evaluating", "boxes") as progress:
        outcome = evaluate_network(
            estimator, annotations, detections, options.evaluate, evaluator=options.evaluator, skip_broken=options.data.skip_broken,
            progress=progress,
        )  # fmt: skip
    for path, reason in list(outcome.broken.items())[:3]:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    box_name, quality = name_boxes(annotations, detections)
    print(task_table(task, outcome.metrics, estimator.spec.preset, box_name, outcome.pictures))
    state = "calibrated" if estimator.spec.calibration else "raw"
    print(f"keypoint scores: expected calibration error {outcome.calibration_error:.3f} ({state})")
    pace = outcome.people / max(outcome.seconds, 1e-9)
    print(f"{outcome.people:,} boxes in {outcome.seconds:.1f} s ({pace:.0f} boxes/s) on {estimator.device}")
    if folder is not None:
        results = write_results(folder, task, annotations, outcome.results)
        record = {
            **outcome.metrics,
            "task": task,
            "preset": estimator.spec.preset,
            "boxes": detections.source,
            "box_AP": quality,
            "pictures": outcome.pictures,
            "people": outcome.people,
            "seconds": round(outcome.seconds, 2),
            "weights": options.weights,
            "annotations": annotations.source,
            "flip_test": options.evaluate.flip_test,
            "decoder": estimator.spec.codec.decoder,
            "flip_shift": estimator.spec.codec.flip_shift,
            "broken_pictures": len(outcome.broken),
            "calibration_error": None if math.isnan(outcome.calibration_error) else outcome.calibration_error,
            "calibrated": bool(estimator.spec.calibration),
        }
        write_json(folder / "metrics.json", record, indent=True)
        if options.submission:
            print(f"for the COCO server: {write_coco_submission(folder, outcome.results, options.submission, split=split_of(options))}")
        print(f"written: {results}, {folder / 'metrics.json'}")


def _check(options: EvaluateOptions) -> None:
    """Refuses what would be left out or give a number that means nothing, before anything is read."""
    PixelConfig(mean=options.mean or IMAGENET_MEAN, std=options.std or IMAGENET_STD)
    if options.data.boxes != DataConfig().boxes:
        raise UserError(f"--data.boxes {options.data.boxes} is of training. Cure: --boxes {options.data.boxes}")


def split_of(options: EvaluateOptions) -> str:
    """Which COCO split the annotations are of, by the name of their file: `val2017`, `test-dev2017`."""
    found = re.search(r"(test-dev|test|val|train)20\d\d", Path(options.annotations).name)
    return found[0] if found else "test-dev2017" if options.annotations else "val2017"


def parse_options(argv: list[str]) -> EvaluateOptions:
    """The options; the settings of the test that are not given are those the trained network carries."""

    def parse(settings: EvaluateConfig) -> EvaluateOptions:
        return tyro.cli(
            EvaluateOptions, args=argv, default=EvaluateOptions(weights=tyro.MISSING, evaluate=settings), prog="simplepose evaluate",
            description="Scores a network on annotated pictures by the measure of the data set (--task).",
        )  # fmt: skip

    options = parse(EvaluateConfig())
    task = options.evaluate.task
    path = Path(options.weights)
    result_folder = not (path / "checkpoints").exists() and any(path.glob("*.json"))
    if path.suffix.lower() in (".json", ".mat", ".h5", ".hdf5") or result_folder:
        raise UserError(f"{options.weights} is no network. Cure: for a result file simplepose score {options.weights} --task {task}")
    if (weights := find_weights(options.weights)).suffix != ".safetensors":
        return options
    return parse(stored_settings(read_spec(weights), weights))


def _pixels(options: EvaluateOptions, own: PixelConfig) -> PixelConfig:
    """The network's preprocessing with what the options override."""
    order = own.channel_order if options.channel_order == "file" else options.channel_order
    return PixelConfig(channel_order=order, mean=options.mean or own.mean, std=options.std or own.std)


def changed_codec(options: EvaluateOptions, own: CodecConfig) -> CodecConfig:
    """The network's codec with what the options override."""
    if own.kind == "simcc" and (options.flip_shift != "file" or options.decoder == "quarter"):
        raise UserError(
            f"{options.weights} is a SimCC network: it has no heatmap to shift, and no quarter pixels. Cure: leave --flip-shift out, and "
            "choose --decoder argmax or dark"
        )
    given: dict[str, Any] = {"decoder": options.decoder, "flip_shift": options.flip_shift}
    return replace(own, **{name: value for name, value in given.items() if value != "file"})
