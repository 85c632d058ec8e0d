"""From RGB bytes to what the network was trained to see. A network's `PixelConfig` travels inside its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

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


def normalise(pixels: torch.Tensor, config: PixelConfig) -> torch.Tensor:
    """RGB bytes -> network input, on the device of `pixels`.

    Args:
        pixels: (B, 3, H, W) uint8 RGB, any memory layout (the layout is kept).
        config: what the network was trained with.

    Returns:
        (B, 3, H, W) float32.
    """
    values = pixels.float()
    if config.channel_order == "bgr":
        values = values.flip(1)
    mean = torch.tensor(config.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=pixels.device).view(1, 3, 1, 1)
    return (values - mean) / std
