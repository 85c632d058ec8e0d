"""`simplepose calibrate WEIGHTS --annotations FILE --images DIR`: scores that are probabilities, fitted on held-out people."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from simplepose.core.errors import UserError
from simplepose.core.progress import Progress
from simplepose.data.annotations import read_coco
from simplepose.data.source import DataConfig, boxes_to_test, read_split
from simplepose.evaluation.top_down import estimate_boxes, match_estimates, stored_settings
from simplepose.pose.calibration import fit
from simplepose.pose.checkpoints import find_weights, require_schema, save_checkpoint
from simplepose.pose.estimator import PoseEstimator


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Fits scores on people that were not trained on."""

    weights: Annotated[str, tyro.conf.Positional]
    """Run folder or .safetensors file."""
    output: str = ""
    """The calibrated weights; WEIGHTS_calibrated.safetensors beside the weights by default."""
    overwrite: bool = False
    """Replace a file that is already there."""
    annotations: str = ""
    """COCO-keypoints JSON of held-out people; by default the validation split below --data.root."""
    images: str = ""
    """Folder of its pictures."""
    boxes: str = "gt"
    """Where people are: gt, detections or the path of a detection file: the kind the network will be used with."""
    device: str = "auto"
    """auto, cpu, cuda, npu, mps, xpu."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data layout, in place of --annotations and --images."""


def main(argv: list[str]) -> None:
    """Fits, reports the error before and after, and writes the weights with the calibration inside.

    Raises:
        UserError: too few people, other keypoints, or an output that exists.
    """
    options = tyro.cli(
        CalibrateOptions, args=argv, prog="simplepose calibrate",
        description="Makes keypoint scores probabilities and pose scores expected OKS, fitted on people that were not trained on.",
    )  # fmt: skip
    weights = find_weights(options.weights)
    if weights.suffix != ".safetensors":
        raise UserError(f"{weights} cannot carry a calibration. Cure: a run folder or a .safetensors file (simplepose import makes one)")
    output = Path(options.output) if options.output else weights.with_name(f"{weights.stem}_calibrated.safetensors")
    if output.exists() and not options.overwrite:
        raise UserError(f"{output} already exists. Cure: --overwrite, or --output with another name")
    annotations = (
        read_coco(options.annotations, options.images, category=options.data.category or None)
        if options.annotations
        else read_split(options.data, "val")
    )
    estimator = PoseEstimator.from_checkpoint(weights, device=options.device)
    require_schema(estimator.spec, annotations.schema, str(weights))
    detections = boxes_to_test(options.boxes, annotations, options.data.root)
    with Progress("estimating", "boxes") as progress:
        estimates = estimate_boxes(
            estimator, annotations, detections, workers=options.data.threads, skip_broken=options.data.skip_broken, progress=progress
        )
    if estimates.broken:
        reason = next(iter(estimates.broken.values()))
        print(f"note: {len(estimates.broken)} unreadable pictures skipped, first: {reason}", file=sys.stderr)
    calibration = fit(match_estimates(estimates, annotations, stored_settings(estimator.spec, weights)), annotations.source)
    assert isinstance(estimator.network, torch.nn.Module)  # it came from a .safetensors file
    save_checkpoint(output, estimator.network, replace(estimator.spec, calibration=calibration))
    change = f"{calibration.error_raw:.3f} -> {calibration.error:.3f}"
    print(f"expected calibration error of keypoint scores {change} on {calibration.people} people")
    print(f"written: {output}", file=sys.stderr)
