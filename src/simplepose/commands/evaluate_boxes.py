"""`simplepose evaluate DETECTOR`: the box AP of a detector that `simplepose train` has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simplepose.commands.networks import tell_skipped
from simplepose.commands.options import EvaluateOptions
from simplepose.core.device import own_cores
from simplepose.core.errors import UserError
from simplepose.core.files import require_new, write_json
from simplepose.core.progress import Progress, note
from simplepose.data.annotations import Annotations
from simplepose.data.source import read_split
from simplepose.detection.trained import TrainedDetector
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.boxes import BOX_TEST, evaluate_detector
from simplepose.evaluation.tasks import task_table, write_results


def run(options: EvaluateOptions) -> None:
    """Tests a detector on all annotated boxes of its classes, and prints a row.

    Raises:
        UserError: options of a pose network, or results that would be overwritten.
    """
    require_no_pose_options(options)
    folder = Path(options.output) if options.output else None
    if folder:
        require_new(folder / "metrics.json", overwrite=options.overwrite)
    detector = TrainedDetector.from_pretrained(
        options.weights, device=options.device, precision=options.precision, tta=options.box_tta
    )
    annotations = read_boxes_to_find(options, detector)
    note(*annotations.warnings)
    with Progress("evaluating", "pictures") as progress:
        outcome = evaluate_detector(
            detector,
            annotations,
            evaluator=options.evaluator,
            workers=options.evaluate.workers or own_cores(),
            skip_broken=options.data.skip_broken,
            progress=progress,
        )
    tell_skipped(outcome.broken)
    preset = detector.spec.preset
    boxes = "its own, TTA" if detector.tta else "its own"
    print(task_table(BOX_TEST, outcome.metrics, preset, boxes, outcome.pictures))
    pace = outcome.pictures / max(outcome.seconds, 1e-9)
    print(
        f"{outcome.pictures:,} pictures in {outcome.seconds:.1f} s ({pace:.1f} pictures/s) "
        f"on {detector.device}"
    )
    if folder is None:
        return
    record = {
        **outcome.metrics,
        "task": "boxes",
        "classes": detector.classes,
        "tta": detector.tta,
        "preset": preset,
        "pictures": outcome.pictures,
        "boxes": outcome.people,
        "seconds": round(outcome.seconds, 2),
        "weights": options.weights,
        "annotations": annotations.source,
        "broken_pictures": len(outcome.broken),
    }
    write_json(folder / "metrics.json", record, indent=True)
    results = write_results(folder, "coco", annotations, outcome.results)
    print(f"written: {results}, {folder / 'metrics.json'}")


def require_no_pose_options(options: EvaluateOptions) -> None:
    """Refuses what would be ignored."""
    default = EvaluateOptions(weights=options.weights)
    names = ("epochs", "submission", "channel_order", "mean", "std", "decoder", "flip_shift")
    given = [name for name in ("boxes", *names) if getattr(options, name) != getattr(default, name)]
    given += ["task"] if options.evaluate.task != "coco" else []
    given += ["data.flip_pairs"] if options.data.flip_pairs else []
    if given:
        raise UserError(
            f"--{given[0].replace('_', '-')} is for pose networks, {options.weights} is a "
            "detector, which finds its own boxes. Cure: leave it out"
        )


def read_boxes_to_find(options: EvaluateOptions, detector: TrainedDetector) -> Annotations:
    """The annotated boxes of the detector's classes, which the file must all list."""
    data = options.config
    category = data.category or ",".join(detector.classes)
    found = read_split(replace(data, category=category), "val", boxes=True)
    if len(found.schema) != len(detector.classes):
        raise UserError(
            f"{options.weights} has {len(detector.classes)} classes "
            f"({', '.join(detector.classes)[:80]}), --data.category names {len(found.schema)}. "
            "Cure: name as many, in the same order"
        )
    return require_sound(found, data)
