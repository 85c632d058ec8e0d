"""`simplepose evaluate WEIGHTS --boxes gt|FILE --task TASK`: a network's test.

With `--epochs` (`100:140:10`) the networks of these epochs that one run has kept, a row each.
Results in place of a network are scored as by `simplepose score`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from simplepose.commands import evaluate_boxes, score
from simplepose.commands.networks import tell_skipped
from simplepose.commands.options import EvaluateOptions, ScoreOptions
from simplepose.config import CodecConfig
from simplepose.core.errors import UserError
from simplepose.core.files import require_new, write_json
from simplepose.core.progress import Progress, note
from simplepose.core.schema import KeypointSchema
from simplepose.core.sessions import SESSIONS
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.categories import with_flip_pairs
from simplepose.data.pictures import with_orientation_note
from simplepose.data.source import read_annotated, read_split
from simplepose.detection.people import is_trained, require_trained
from simplepose.detection.trained import TrainedDetector
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.boxes import detected_people
from simplepose.evaluation.coco import check_submission, write_coco_submission
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
    weights_of_epochs,
)
from simplepose.pose.checkpoints import is_detector, require_schema
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import ExportedNetwork


def run(options: EvaluateOptions | ScoreOptions) -> None:
    """Tests one network, or one of each epoch, on the same boxes, and prints a row of each; a
    detector by its box AP.

    Raises:
        UserError: options that do not fit each other, or results that would be overwritten.
    """
    if isinstance(options, ScoreOptions):
        return score.run(options)
    if is_detector(options.weights):
        evaluate_boxes.run(options)
        return
    networks = _networks(options)
    _require_free(options, [folder for _, folder in networks.values() if folder])
    data: tuple[Annotations, Detections] | None = None
    task, written = options.evaluate.task, []
    for epoch, (weights, folder) in networks.items():
        estimator = open_estimator(options, weights)
        require_keypoints(task, estimator.schema, weights)
        first = data is None
        if data is None:
            data = read_data(options, estimator.schema)
            box_name, box_quality = name_boxes(*data)
        require_schema(estimator.spec, data[0].schema, weights)
        outcome = test(options, estimator, *data)
        name = estimator.spec.preset
        name += f", epoch {epoch:>{len(str(max(networks)))}}" if epoch else ""
        table = task_table(task, outcome.metrics, name, box_name, outcome.pictures)
        print(table if first else table.splitlines()[-1], flush=True)
        if not epoch:
            _say_more(estimator, outcome)
        if folder:
            record = _record(options, weights, estimator, outcome) | {"boxes": data[1].source}
            record |= {"box_AP": box_quality, "annotations": data[0].source}
            record |= {"box_tta": options.box_tta}
            record |= {"epoch": epoch} if epoch else {}
            written += _write(options, folder, data[0], outcome, record)
    if written:
        print(f"written: {', '.join(map(str, written))}")


def _networks(options: EvaluateOptions) -> dict[int, tuple[str, Path | None]]:
    """What is tested and where its results go, by epoch; one network has the epoch 0."""
    output = Path(options.output) if options.output else None
    if not options.epochs:
        return {0: (options.weights, output)}
    kept = weights_of_epochs(options.weights, options.epochs)
    return {epoch: (str(path), output and output / path.stem) for epoch, path in kept.items()}


def _write(
    options: EvaluateOptions,
    folder: Path,
    annotations: Annotations,
    outcome: Evaluation,
    record: dict[str, Any],
) -> list[Path]:
    """Writes a network's results and numbers, and what the COCO server takes."""
    write_json(folder / "metrics.json", record, indent=True)
    results = write_results(folder, options.evaluate.task, annotations, outcome.results)
    if options.submission:
        split = split_of(options)
        path = write_coco_submission(folder, outcome.results, options.submission, split=split)
        print(f"for the COCO server: {path}")
    return [results, folder / "metrics.json"]


def _require_free(options: EvaluateOptions, folders: list[Path]) -> None:
    """Refuses what would be found out only after the test."""
    task, submission = options.evaluate.task, options.submission
    if submission and options.epochs:
        raise UserError("--submission is of one network. Cure: --epochs or --submission, not both")
    if submission and not folders:
        raise UserError("--submission writes a file. Cure: name its folder with --output")
    if submission and task != "coco":
        raise UserError(
            f"--submission is for the COCO server, the task is {task}. "
            "Cure: --task coco, or leave --submission out"
        )
    for folder in folders:
        names = (TASKS[task].results, "metrics.json")
        require_new(*(folder / name for name in names), overwrite=options.overwrite)
        if submission:
            check_submission(folder, submission, split_of(options))


def read_data(options: EvaluateOptions, schema: KeypointSchema) -> tuple[Annotations, Detections]:
    """The pictures and boxes; `schema` is the network's, for the files of a test split."""
    task, submission = options.evaluate.task, bool(options.submission)
    if options.annotations:
        # The files of a test split have no people, and may not name keypoints.
        annotations = read_annotated(
            task,
            options.annotations,
            options.images,
            schema if submission else None,
            category=options.data.category or None,
            allow_empty=submission,
        )
        annotations = replace(annotations, upright=options.data.upright)
        annotations = with_orientation_note(annotations)
    else:
        annotations = read_split(options.config, "val")
    require_truth(task, annotations)
    annotations = require_sound(annotations, options.config)
    if options.box_tta:
        require_trained(options.boxes)
    trained = is_trained(options.boxes)
    if not trained and Path(options.boxes).suffix.lower() in SESSIONS:
        raise UserError(
            f"--boxes {options.boxes} is a network of another program, whose boxes a test does not "
            "take. Cure: gt, a detection file (.json), or a detector of simplepose train"
        )
    if trained and task != "mpii":
        detector = TrainedDetector.from_pretrained(
            options.boxes, device=options.device, tta=options.box_tta
        )
        detections = detected_people(
            detector, annotations, options.boxes, skip_broken=options.data.skip_broken
        )
    else:
        detections = boxes_of_task(
            task,
            options.boxes,
            annotations,
            options.data.root,
            ground_truth=options.evaluate.ground_truth_boxes,
            skip_broken=options.data.skip_broken,
        )
    note(*annotations.warnings, *detections.warnings)
    return annotations, detections


def open_estimator(options: EvaluateOptions, weights: str) -> PoseEstimator:
    """The network, with what the options say about its preprocessing and decoding."""
    estimator = PoseEstimator.from_pretrained(
        weights,
        device=options.device,
        flip_test=options.evaluate.flip_test,
        precision=options.precision,
        batch_size=options.evaluate.batch_size,
    )
    spec = estimator.spec
    given = {"mean": options.mean, "std": options.std, "channel_order": options.channel_order}
    changes: dict[str, Any] = {n: v for n, v in given.items() if v not in (None, "file")}
    pixels, codec = replace(spec.pixels, **changes), changed_codec(options, spec.codec)
    schema = with_flip_pairs(spec.schema, options.data.flip_pairs)
    estimator.spec = replace(spec, schema=schema, pixels=pixels, codec=codec)
    network = estimator.network
    if isinstance(network, ExportedNetwork) and network.decodes and estimator.spec != spec:
        raise UserError(
            f"{weights} has normalisation, flip test and decoding inside. Cure: leave "
            "--mean, --std, --channel-order, --decoder, --flip-shift, --kind and "
            "--data.flip-pairs out, or export --graph heatmaps"
        )
    if estimator.flip_test and (sentence := schema.sides_note()):
        note(sentence)
    return estimator


def changed_codec(options: EvaluateOptions, own: CodecConfig) -> CodecConfig:
    """The network's codec with what the options override."""
    if own.has_rows and (options.flip_shift != "file" or options.decoder == "quarter"):
        raise UserError(
            f"{options.weights} is a SimCC network: it has no heatmap to shift, and no quarter "
            "pixels. Cure: leave --flip-shift out, and choose --decoder argmax or dark"
        )
    given: dict[str, Any] = {
        "kind": options.kind,
        "decoder": options.decoder,
        "flip_shift": options.flip_shift,
    }
    return replace(own, **{name: value for name, value in given.items() if value != "file"})


def test(
    options: EvaluateOptions,
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
) -> Evaluation:
    """The test of one network; names pictures that were skipped."""
    with Progress("evaluating", "boxes") as progress:
        outcome = evaluate_network(
            estimator,
            annotations,
            detections,
            options.evaluate,
            evaluator=options.evaluator,
            skip_broken=options.data.skip_broken,
            progress=progress,
        )
    tell_skipped(outcome.broken)
    return outcome


def _say_more(estimator: PoseEstimator, outcome: Evaluation) -> None:
    """What stands below the table of one network."""
    state = "calibrated" if estimator.spec.calibration else "raw"
    print(f"keypoint scores: expected calibration error {outcome.calibration_error:.3f} ({state})")
    if not math.isnan(outcome.coverage):
        print(f"covariances: 90 % ellipses hold {100 * outcome.coverage:.1f} % of true positions")
    if seen := outcome.visibility:
        print(
            f"visibility: {100 * seen['visibility_accuracy']:.1f} % of keypoints right (the most "
            f"frequent of each: {100 * seen['visibility_majority']:.1f} %), hidden against visible "
            f"AUC {seen['visibility_auc']:.3f}, expected calibration error "
            f"{seen['visibility_error']:.3f}"
        )
    pace = outcome.people / max(outcome.seconds, 1e-9)
    print(
        f"{outcome.people:,} boxes in {outcome.seconds:.1f} s ({pace:.0f} boxes/s) "
        f"on {estimator.device}"
    )


def _record(
    options: EvaluateOptions, weights: str, estimator: PoseEstimator, outcome: Evaluation
) -> dict[str, Any]:
    """The content of metrics.json, without data and boxes."""
    error = outcome.calibration_error
    return {
        **outcome.metrics,
        "task": options.evaluate.task,
        "preset": estimator.spec.preset,
        "pictures": outcome.pictures,
        "people": outcome.people,
        "seconds": round(outcome.seconds, 2),
        "weights": weights,
        "flip_test": estimator.mirrors,
        "decoder": estimator.spec.codec.decoder,
        "flip_shift": estimator.spec.codec.flip_shift,
        "broken_pictures": len(outcome.broken),
        "calibration_error": None if math.isnan(error) else error,
        "ellipse_coverage": None if math.isnan(outcome.coverage) else outcome.coverage,
        "calibrated": bool(estimator.spec.calibration),
        **{name: None if math.isnan(one) else one for name, one in outcome.visibility.items()},
    }


def split_of(options: EvaluateOptions) -> str:
    """Which COCO split the annotations are of, by the name of their file: `val2017`,
    `test-dev2017`."""
    found = re.search(r"(test-dev|test|val|train)20\d\d", Path(options.annotations).name)
    return found[0] if found else "test-dev2017" if options.annotations else "val2017"
