"""`simplepose calibrate WEIGHTS --annotations FILE --images DIR`: scores that are probabilities,
fitted on held-out people."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from simplepose.commands.options import CalibrateOptions
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress
from simplepose.data.categories import with_flip_pairs
from simplepose.data.coco import read_coco
from simplepose.data.source import boxes_to_test, read_split
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.top_down import estimate_boxes, match_estimates, stored_settings
from simplepose.export.formats import write_calibrated
from simplepose.pose.calibration import fit
from simplepose.pose.checkpoints import find_weights, require_schema, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import SESSIONS


def run(options: CalibrateOptions) -> None:
    """Fits, reports the error before and after, and writes the weights with the calibration inside.

    Raises:
        UserError: too few people, other keypoints, or an output that exists.
    """
    weights = find_weights(options.weights)
    if weights.suffix not in (".safetensors", *SESSIONS):
        raise UserError(
            f"{weights} cannot carry a calibration. "
            "Cure: a run folder or a .safetensors file (simplepose import makes one)"
        )
    output = Path(options.output or weights.with_stem(f"{weights.stem}_calibrated"))
    if output.exists() and not options.overwrite:
        raise UserError(
            f"{output} already exists. Cure: --overwrite, or --output with another name"
        )
    annotations = (
        read_coco(options.annotations, options.images, category=options.data.category or None)
        if options.annotations
        else read_split(options.data.config, "val")
    )
    annotations = replace(annotations, upright=options.data.upright)
    annotations = require_sound(annotations, options.data.config)
    for warning in annotations.warnings:
        print(f"note: {warning}", file=sys.stderr)
    estimator = PoseEstimator.from_pretrained(weights, device=options.device)
    schema = with_flip_pairs(estimator.schema, options.data.flip_pairs)
    estimator.spec = replace(estimator.spec, schema=schema)
    if note := schema.sides_note():
        print(f"note: {note}", file=sys.stderr)
    require_schema(estimator.spec, annotations.schema, str(weights))
    detections = boxes_to_test(options.boxes, annotations, options.data.root)
    with Progress("estimating", "boxes") as progress:
        estimates = estimate_boxes(
            estimator,
            annotations,
            detections,
            skip_broken=options.data.skip_broken,
            progress=progress,
            covariances=True,
        )
    for path, reason in list(estimates.broken.items())[:3]:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    config = stored_settings(estimator.spec, weights)
    calibration = fit(match_estimates(estimates, annotations, config), annotations.source)
    spec = replace(estimator.spec, calibration=calibration)
    if isinstance(estimator.network, torch.nn.Module):
        save_checkpoint(output, estimator.network, spec)
    else:
        write_calibrated(weights, output, spec)
    change = f"{calibration.error_raw:.3f} -> {calibration.error:.3f}"
    print(f"expected calibration error of keypoint scores {change} on {calibration.people} people")
    if calibration.spread_offset is not None:
        print("covariances: 90 % ellipses hold the true position for nine of ten keypoints of them")
    if calibration.visibility_temperature is not None:
        print(f"visibility: temperature {calibration.visibility_temperature:.2f}")
    print(f"written: {output}", file=sys.stderr)
