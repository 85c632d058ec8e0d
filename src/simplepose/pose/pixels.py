"""From RGB bytes to what the network was trained to see: its `PixelConfig`, in its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from simplepose.config import PixelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_made: dict[tuple[object, ...], Tensor] = {}
"""What `constant` made: a plain dictionary, because a compiled step takes its tensors as they
are."""


def constant(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """A small vector on the device, float32 by default, made once.

    Making it anew in the training loop would let the host wait for the device.
    """
    import torch

    dtype = dtype or torch.float32
    key = (values, device, dtype)
    if key not in _made:
        with torch.inference_mode(False):
            _made[key] = torch.tensor(values, dtype=dtype, device=device)
    return _made[key]


def normalise(pixels: Tensor, config: PixelConfig) -> Tensor:
    """RGB bytes -> network input, on the device of `pixels`.

    Args:
        pixels: (B, 3, H, W) uint8 RGB, any memory layout (the layout is kept).
        config: what the network was trained with.

    Returns:
        (B, 3, H, W) in torch's default dtype, float32 unless it was changed.
    """
    import torch

    values = pixels.to(torch.get_default_dtype())
    if config.channel_order == "bgr":
        values = values.flip(1)
    mean, std = (
        constant(tuple(part), pixels.device, values.dtype).view(1, 3, 1, 1)
        for part in (config.mean, config.std)
    )
    return (values - mean) / std


def normalise_crops(crops: np.ndarray, config: PixelConfig) -> np.ndarray:
    """`normalise` without torch: to the last bit the same, laid out for ONNX Runtime in the same
    pass.

    Args:
        crops: (B, H, W, 3) uint8 RGB.
        config: what the network was trained with.

    Returns:
        (B, 3, H, W) float32, contiguous.
    """
    order = (2, 1, 0) if config.channel_order == "bgr" else (0, 1, 2)
    levels = np.arange(256, dtype=np.float32)
    tables = [
        (levels - np.float32(mean)) / np.float32(std)
        for mean, std in zip(config.mean, config.std, strict=True)
    ]
    pixels = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for crop, planes in zip(crops, pixels, strict=True):
        colours = cv2.split(crop)
        for plane, table, colour in zip(planes, tables, order, strict=True):
            cv2.LUT(colours[colour], table, dst=plane)
    return pixels
