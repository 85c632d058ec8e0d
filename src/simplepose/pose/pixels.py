"""From RGB bytes to what the network was trained to see. A network's `PixelConfig` travels inside its checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from simplepose.core.errors import UserError

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """Channel order and normalisation: (pixel - mean) / std, in that order of channels."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order in which the network sees the channels; both references were trained on OpenCV's BGR."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted, in units of 0..255, one for each channel in `channel_order`."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Divided by, in units of 0..255."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.mean)):
            raise UserError(f"the mean of the pixels is {self.mean}. Cure: three finite numbers in units of 0..255")
        if not all(0 < value < math.inf for value in self.std):
            raise UserError(
                f"the std of the pixels is {self.std}, by which they are divided. Cure: three numbers above 0, in units of 0..255"
            )


_made: dict[tuple[tuple[float, ...], torch.device, torch.dtype], torch.Tensor] = {}
"""What `constant` made. A plain dictionary, because a compiled step looks into it and takes its tensors as they are."""


def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A small vector on the device, made once: making it anew in the training loop would let the host wait for the device."""
    key = (values, device, dtype)
    if key not in _made:
        with torch.inference_mode(False):
            _made[key] = torch.tensor(values, dtype=dtype, device=device)
    return _made[key]


def normalise(pixels: torch.Tensor, config: PixelConfig) -> torch.Tensor:
    """RGB bytes -> network input, on the device of `pixels`.

    Args:
        pixels: (B, 3, H, W) uint8 RGB, any memory layout (the layout is kept).
        config: what the network was trained with.

    Returns:
        (B, 3, H, W) in torch's default dtype, float32 unless it was changed.
    """
    values = pixels.to(torch.get_default_dtype())
    if config.channel_order == "bgr":
        values = values.flip(1)
    mean, std = (constant(tuple(part), pixels.device, values.dtype).view(1, 3, 1, 1) for part in (config.mean, config.std))
    return (values - mean) / std
