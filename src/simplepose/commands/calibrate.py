"""`simplepose calibrate WEIGHTS --annotations FILE --images DIR`: scores that are probabilities,
fitted on held-out people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from simplepose.commands.networks import tell_skipped
from simplepose.commands.options import CalibrateOptions
from simplepose.core.errors import UserError
from simplepose.core.files import require_new
from simplepose.core.progress import Progress, note
from simplepose.data.categories import with_flip_pairs
from simplepose.data.source import boxes_to_test, read_split
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.top_down import estimate_boxes, match_estimates, stored_settings
from simplepose.export.formats import write_calibrated
from simplepose.pose.calibration import fit
from simplepose.pose.checkpoints import beside, find_weights, require_schema, save_checkpoint
from simplepose.pose.estimator import PoseEstimator


def run(options: CalibrateOptions) -> None:
    """Fits, reports the error before and after, and writes the weights with the calibration inside.

    Raises:
        UserError: too few people, other keypoints, or an output that exists.
    """
    weights = find_weights(options.weights)
    if weights.suffix not in (".safetensors", ".onnx", ".xml"):
        raise UserError(
            f"{weights} cannot carry a calibration. Cure: a run folder or a .safetensors file "
            "(simplepose import makes one), which simplepose export takes then"
        )
    output = Path(options.output or beside(weights, f"{weights.stem}_calibrated{weights.suffix}"))
    require_new(output, overwrite=options.overwrite)
    annotations = require_sound(read_split(options.config, "val"), options.config)
    note(*annotations.warnings)
    estimator = PoseEstimator.from_pretrained(weights, device=options.device)
    schema = with_flip_pairs(estimator.schema, options.data.flip_pairs)
    estimator.spec = replace(estimator.spec, schema=schema)
    if sentence := schema.sides_note():
        note(sentence)
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
    tell_skipped(estimates.broken)
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
    print(f"written: {output}")
