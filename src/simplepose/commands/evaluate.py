"""`simplepose evaluate WEIGHTS|RESULTS --boxes gt|FILE`: a network's test, or the score of a finished result file."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from simplepose.commands.evaluate_results import RESULT_ENDINGS, Task, is_result, number_table, score_results
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.progress import Progress
from simplepose.data.annotations import read_coco
from simplepose.data.source import DataConfig, boxes_to_test, read_split
from simplepose.evaluation.coco import result_table
from simplepose.evaluation.coco_submission import check_submission, write_coco_submission
from simplepose.evaluation.top_down import EvaluateConfig, evaluate_network, name_boxes, stored_settings
from simplepose.pose.checkpoints import find_weights, read_spec, require_schema
from simplepose.pose.codec import CodecConfig
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.pixels import IMAGENET_MEAN, IMAGENET_STD, PixelConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Scores a network on annotated pictures."""

    weights: Annotated[str, tyro.conf.Positional]
    """Run folder, .safetensors or .onnx file; or results to score: a COCO result .json, MPII .mat or .h5, a PoseTrack folder."""
    task: Task = "coco"
    """Whose measure scores a result file; networks are tested by the COCO protocol."""
    exact_poseval: bool = False
    """PoseTrack: repeat the quirks of the original tool, which drops the last frame of each sequence."""
    tracking: bool = True
    """PoseTrack: score identities too; off for results without track ids."""
    ap_threshold: float = -math.inf
    """PoseTrack: keypoints with a lower score do not count in AP."""
    tracking_threshold: float = -math.inf
    """PoseTrack: keypoints with a lower score do not count in MOTA and the other tracking numbers."""
    submission: str = ""
    """Name of the method: also write the zip that the COCO server takes, into the output folder."""
    annotations: str = ""
    """Annotations to score against (PoseTrack: their folder); by default the validation split below --data.root."""
    images: str = ""
    """Folder of its pictures."""
    boxes: str = "gt"
    """Where people are: gt, detections (the layout's file) or the path of a detection file."""
    output: str = ""
    """Folder for predictions.json (COCO results) and metrics.json."""
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
    if folder is not None and not options.overwrite and any((folder / name).exists() for name in ("predictions.json", "metrics.json")):
        raise UserError(f"{folder} already holds results. Cure: --overwrite, or --output with another folder")
    if is_result(options.task, options.weights):
        _score(options, folder)
        return
    if options.task != "coco":
        raise UserError(
            f"{options.weights} is no result file of task {options.task} ({', '.join(RESULT_ENDINGS[options.task])}). "
            "Cure: give such a file; a network is tested without --task"
        )
    if options.submission:
        if folder is None:
            raise UserError("--submission writes a file. Cure: name its folder with --output")
        check_submission(folder, options.submission, split_of(options))
    if bool(options.annotations) != bool(options.images):
        raise UserError("--annotations and --images belong together. Cure: give both, or --data.root")
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.evaluate.flip_test, precision=options.precision,
        batch_size=options.evaluate.batch_size,
    )  # fmt: skip
    schema = estimator.schema if options.submission else None  # the files of a test split have no people, and may not name keypoints
    annotations = (
        read_coco(options.annotations, options.images, schema, category=options.data.category or None, allow_empty=bool(options.submission))
        if options.annotations
        else read_split(options.data, "val")
    )
    for warning in annotations.warnings:
        print(f"note: {warning}", file=sys.stderr)
    detections = boxes_to_test(options.boxes, annotations, options.data.root)
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
    print(result_table(outcome.metrics, estimator.spec.preset, box_name, outcome.pictures))
    state = "calibrated" if estimator.spec.calibration else "raw"
    print(f"keypoint scores: expected calibration error {outcome.calibration_error:.3f} ({state})")
    pace = outcome.people / max(outcome.seconds, 1e-9)
    print(f"{outcome.people:,} boxes in {outcome.seconds:.1f} s ({pace:.0f} boxes/s) on {estimator.device}")
    if folder is not None:
        write_json(folder / "predictions.json", outcome.results)
        record = {
            **outcome.metrics, "preset": estimator.spec.preset, "boxes": detections.source, "box_AP": quality, "pictures": outcome.pictures,
            "people": outcome.people, "seconds": round(outcome.seconds, 2), "weights": options.weights, "annotations": annotations.source,
            "flip_test": options.evaluate.flip_test, "decoder": estimator.spec.codec.decoder,
            "flip_shift": estimator.spec.codec.flip_shift, "broken_pictures": len(outcome.broken),
            "calibration_error": None if math.isnan(outcome.calibration_error) else outcome.calibration_error,
            "calibrated": bool(estimator.spec.calibration),
        }  # fmt: skip
        write_json(folder / "metrics.json", record, indent=True)
        if options.submission:
            print(f"for the COCO server: {write_coco_submission(folder, outcome.results, options.submission, split=split_of(options))}")
        print(f"written: {folder / 'predictions.json'}, {folder / 'metrics.json'}")


def _check(options: EvaluateOptions) -> None:
    """Refuses what would be left out or give a number that means nothing, before anything is read."""
    for name in ("ap_threshold", "tracking_threshold"):
        if math.isnan(getattr(options, name)):
            raise UserError(f"--{name.replace('_', '-')} is nan. Cure: a number; -inf counts every keypoint")
    PixelConfig(mean=options.mean or IMAGENET_MEAN, std=options.std or IMAGENET_STD)
    if options.data.boxes != DataConfig().boxes:
        raise UserError(f"--data.boxes {options.data.boxes} is of training. Cure: --boxes {options.data.boxes}")


def split_of(options: EvaluateOptions) -> str:
    """Which COCO split the annotations are of, by the name of their file: `val2017`, `test-dev2017`."""
    found = re.search(r"(test-dev|test|val|train)20\d\d", Path(options.annotations).name)
    return found[0] if found else "test-dev2017" if options.annotations else "val2017"


def _score(options: EvaluateOptions, folder: Path | None) -> None:
    """Scores a finished result file, prints the numbers and writes them as metrics.json."""
    numbers = score_results(
        options.task, options.weights, options.annotations, evaluator=options.evaluator, exact_poseval=options.exact_poseval,
        tracking=options.tracking, ap_threshold=options.ap_threshold, tracking_threshold=options.tracking_threshold,
        category=options.data.category or None,
    )  # fmt: skip
    print(number_table(options.task, numbers, options.weights))
    if folder is not None:
        write_json(
            folder / "metrics.json",
            {**numbers, "task": options.task, "results": options.weights, "annotations": options.annotations},
            indent=True,
        )
        print(f"written: {folder / 'metrics.json'}")


def parse_options(argv: list[str]) -> EvaluateOptions:
    """The options; the settings of the test that are not given are those the trained network carries."""

    def parse(settings: EvaluateConfig) -> EvaluateOptions:
        return tyro.cli(
            EvaluateOptions, args=argv, default=EvaluateOptions(weights=tyro.MISSING, evaluate=settings), prog="simplepose evaluate",
            description="Scores a network on annotated pictures and prints the ten COCO numbers with preset and source of the boxes.",
        )  # fmt: skip

    options = parse(EvaluateConfig())
    if is_result(options.task, options.weights) or (weights := find_weights(options.weights)).suffix != ".safetensors":
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
