"""Random colours and occlusions of a whole batch of crops at once, on the device the batch is on.

Random numbers come from torch's CPU generator, whose state a run saves: a resumed run draws what the uninterrupted one would have. They are
drawn apart from their use, so that the change itself is a pure function that a compiler can join with the rest of the step.
"""

from __future__ import annotations

import torch

from simplepose.config import AugmentConfig
from simplepose.pose.pixels import constant

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
CUTOUT_SIDES = (0.15, 0.4)
"""Sides of the cut-out rectangle as shares of the crop's."""
GRID_PERIODS = (0.2, 0.5)
"""Distance of the grid's squares as a share of the crop's longer side; a square is half as wide."""


def draw_appearance(count: int, config: AugmentConfig) -> torch.Tensor | None:
    """The random numbers that `change_appearance` needs: (12, B) float32 on the CPU, even in 0..1; None where nothing is changed."""
    return (
        torch.rand(12, count)
        if config.colour or config.cutout_probability or config.grid_probability
        else None
    )


def change_appearance(
    pixels: torch.Tensor, draws: torch.Tensor | None, config: AugmentConfig
) -> torch.Tensor:
    """Colour jitter, cut-out and grid as the fields say.

    Args:
        pixels: (B, 3, H, W) uint8 RGB.
        draws: (12, B) from `draw_appearance`, on the same device; None leaves the bytes as they are.
        config: `colour`, `cutout_probability`, `grid_probability`.

    Returns:
        (B, 3, H, W) uint8 on the same device, the same memory layout.
    """
    if draws is None:
        return pixels
    values = pixels.float()
    if config.colour:
        values = jitter_colours(values, *(1 + config.colour * (2 * draws[:3] - 1)))
    hidden = occlusion_masks(
        draws[3:, :, None], pixels.shape[-1], pixels.shape[-2], config
    )  # (B, H, W)
    values = torch.where(hidden[:, None], values.mean((2, 3), keepdim=True), values)
    return values.round().clamp(0, 255).to(torch.uint8)


def jitter_colours(
    values: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> torch.Tensor:
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


def occlusion_masks(
    draws: torch.Tensor, width: int, height: int, config: AugmentConfig
) -> torch.Tensor:
    """(B, H, W) bool on the device of `draws` (9, B, 1), even in 0..1: what is hidden in each crop.

    Every number is drawn whether it is used or not, so streams stay aligned.
    """
    columns_of, rows_of = (torch.arange(size, device=draws.device) for size in (width, height))
    x, y = columns_of / width, rows_of / height

    low, high = CUTOUT_SIDES
    sides = low + (high - low) * draws[:2]
    columns = (x - draws[2]).abs() < sides[0] / 2  # (B, W)
    rows = (y - draws[3]).abs() < sides[1] / 2  # (B, H)
    cut = (
        rows[:, :, None] & columns[:, None, :] & (draws[4] < config.cutout_probability)[:, :, None]
    )

    low, high = GRID_PERIODS
    period = (low + (high - low) * draws[5]) * max(width, height)
    columns = (columns_of / period + draws[6]) % 1 < 0.5
    rows = (rows_of / period + draws[7]) % 1 < 0.5
    grid = rows[:, :, None] & columns[:, None, :] & (draws[8] < config.grid_probability)[:, :, None]
    return cut | grid
