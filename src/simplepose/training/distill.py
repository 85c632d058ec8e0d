"""Heatmap distillation: a strong network's maps are part of the target of a fast one (FPD, Zhang,
Zhu and Ye, CVPR 2019, section 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from simplepose.config import CodecConfig, Config
from simplepose.core.device import is_accelerator
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.pose.checkpoints import require_schema
from simplepose.pose.codec import activate
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.pixels import normalise


class Teacher:
    """A frozen network that says where it sees the keypoints."""

    def __init__(self, estimator: PoseEstimator, fraction: float, codec: CodecConfig) -> None:
        """Wraps any network the package can use; `load_teacher` checks that it fits.

        Args:
            estimator: the teacher.
            fraction: its part of the target, above 0 and up to 1.
            codec: the student's.
        """
        self.estimator, self.fraction, self.codec = estimator, fraction, codec

    @torch.no_grad()
    def blend(self, pixels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The target with the teacher's part.

        Args:
            pixels: (B, 3, H_in, W_in) uint8 RGB crops of the student; resized where the teacher
                sees larger or smaller ones.
            target: (B, K, H, W) from the annotations. Where the teacher sees nothing at all (no
                positive value) it stands alone.

        Returns:
            (B, K, H, W): (1 - fraction) x target + fraction x the teacher's maps, which are scaled
            to the target's sum where the student learns distributions, from the teacher's peak to
            the student's where it learns maps.
        """
        spec = self.estimator.spec
        size_wh = self.estimator.input_size_wh
        inputs = normalise(pixels, spec.pixels)
        if inputs.shape[-2:] != size_wh[::-1]:
            inputs = functional.interpolate(
                inputs, size=size_wh[::-1], mode="bilinear", align_corners=False, antialias=True
            )
        maps = activate(self.estimator.network(inputs), spec.codec, size_wh)
        maps = maps.to(target.device).float().clamp(min=0)
        if self.codec.kind == "softmax":
            sums = maps.sum((2, 3), keepdim=True).clamp(min=1e-12)
            maps = maps / sums * target.sum((2, 3), keepdim=True)
        else:
            maps = maps * (self.codec.peak / spec.codec.peak)
        return torch.lerp(target, maps, self.fraction)


def load_teacher(config: Config, schema: KeypointSchema, device: torch.device) -> Teacher | None:
    """Opens `train.teacher`, or None where none is named.

    Raises:
        UserError: the file is missing, or the teacher has other keypoints, another heatmap size,
            another unit convention or another kind of output than the student.
    """
    path, fraction = config.train.teacher, config.train.teacher_fraction
    if not path:
        return None
    if not fraction:
        raise UserError("train.teacher-fraction is 0. Cure: a number above 0, up to 1")
    # an ONNX teacher runs on what ONNX Runtime has: it need not be the student's device
    elsewhere = Path(path).suffix == ".onnx" and is_accelerator(device)
    estimator = PoseEstimator.from_pretrained(
        path, device="auto" if elsewhere else str(device), flip_test=False
    )
    spec = estimator.spec
    require_schema(spec, schema, f"the teacher {path}")
    if "simcc" in (spec.codec.kind, config.codec.kind):
        raise UserError(
            f"the teacher {path} ({spec.codec.kind}) hands on heatmaps, the student learns "
            f"{config.codec.kind}. Cure: heatmaps on both sides"
        )
    width, height = spec.input_size_wh
    outputs: Any = estimator.network(torch.zeros(1, 3, height, width, device=device))
    size_wh = (outputs.shape[3], outputs.shape[2])
    if size_wh != config.heatmap_size_wh:
        raise UserError(
            f"the teacher {path} puts out heatmaps of {size_wh[0]}x{size_wh[1]} (width x height), "
            f"the student of {config.heatmap_size_wh[0]}x{config.heatmap_size_wh[1]}. "
            "Cure: a teacher for the same input size"
        )
    if spec.codec.udp != config.codec.udp:
        raise UserError(
            f"the teacher {path} has codec.udp {spec.codec.udp}, the student {config.codec.udp}. "
            "Cure: --codec.udp as the teacher"
        )
    return Teacher(estimator, fraction, config.codec)
