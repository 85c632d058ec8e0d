"""From RGB bytes to what the network was trained to see: its `PixelConfig`, in its checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from simplepose.config import PixelConfig

_made: dict[tuple[object, ...], Tensor] = {}
"""What `constant` made: a plain dictionary, because a compiled step takes its tensors as they
are."""


def constant(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A small vector on the device, made once.

    Making it anew in the training loop would let the host wait for the device.
    """
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
    values = pixels.to(torch.get_default_dtype())
    if config.channel_order == "bgr":
        values = values.flip(1)
    mean, std = (
        constant(tuple(part), pixels.device, values.dtype).view(1, 3, 1, 1)
        for part in (config.mean, config.std)
    )
    return (values - mean) / std
