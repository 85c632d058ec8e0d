"""Random colours and occlusions of a whole batch of crops at once, on the device the batch is on.

Random numbers come from torch's CPU generator, whose state a run saves: a resumed run draws what the uninterrupted one would have.
"""

from __future__ import annotations

import torch

from simplepose.data.augment import AugmentConfig
from simplepose.pixels import constant

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
CUTOUT_SIDES = (0.15, 0.4)
"""Sides of the cut-out rectangle as shares of the crop's."""
GRID_PERIODS = (0.2, 0.5)
"""Distance of the grid's squares as a share of the crop's longer side; a square is half as wide."""


def change_appearance(pixels: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    """Colour jitter, cut-out and grid as the fields say; the bytes as they are where all are off.

    Args:
        pixels: (B, 3, H, W) uint8 RGB.
        config: `colour`, `cutout_probability`, `grid_probability`.

    Returns:
        (B, 3, H, W) uint8 on the same device, the same memory layout.
    """
    count = len(pixels)
    if not count or not (config.colour or config.cutout_probability or config.grid_probability):
        return pixels
    values = pixels.float()
    if config.colour:
        factors = 1 + config.colour * (2 * torch.rand(3, count) - 1)
        values = jitter_colours(values, *factors.to(pixels.device))
    hidden = occlusion_masks(torch.rand(9, count, 1).to(pixels.device), pixels.shape[-1], pixels.shape[-2], config)  # (B, H, W)
    values = torch.where(hidden[:, None], values.mean((2, 3), keepdim=True), values)
    return values.round().clamp(0, 255).to(torch.uint8)


def jitter_colours(values: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """Multiplies brightness, then the distance to the mean grey of each crop, then the distance of each pixel to its own grey.

    Args:
        values: (B, 3, H, W) float in 0..255.
        brightness: (B,) factors, as `contrast` and `saturation`.

    Returns:
        (B, 3, H, W) float, not clipped at the end; black padding stays dark.
    """
    weights = constant(GREY, values.device).view(1, 3, 1, 1)
    shape = (-1, 1, 1, 1)
    values = (values * brightness.view(shape)).clamp(max=255)
    mean = (values * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    values = mean + (values - mean) * contrast.view(shape)
    grey = (values * weights).sum(1, keepdim=True)
    return grey + (values - grey) * saturation.view(shape)


def occlusion_masks(draws: torch.Tensor, width: int, height: int, config: AugmentConfig) -> torch.Tensor:
    """(B, H, W) bool on the device of `draws` (9, B, 1), even in 0..1: what is hidden in each crop.

    Every number is drawn whether it is used or not, so streams stay aligned.
    """
    columns_of, rows_of = (torch.arange(size, device=draws.device) for size in (width, height))
    x, y = columns_of / width, rows_of / height

    low, high = CUTOUT_SIDES
    sides = low + (high - low) * draws[:2]
    columns = (x - draws[2]).abs() < sides[0] / 2  # (B, W)
    rows = (y - draws[3]).abs() < sides[1] / 2  # (B, H)
    cut = rows[:, :, None] & columns[:, None, :] & (draws[4] < config.cutout_probability)[:, :, None]

    low, high = GRID_PERIODS
    period = (low + (high - low) * draws[5]) * max(width, height)
    columns = (columns_of / period + draws[6]) % 1 < 0.5
    rows = (rows_of / period + draws[7]) % 1 < 0.5
    grid = rows[:, :, None] & columns[:, None, :] & (draws[8] < config.grid_probability)[:, :, None]
    return cut | grid
