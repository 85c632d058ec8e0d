"""Distribution-aware decoding: the sub-pixel place of a peak from the map around it (DARK, Zhang et al., CVPR 2020, section 3.2).

A map that is Gaussian around its peak has a quadratic logarithm, so one Newton step from the highest pixel lands on the true peak. Noise
is first smoothed away with a Gaussian as wide as the target's. Only a window around each peak is touched, on the device of the maps.
"""

from __future__ import annotations

import math

import torch

REACH = 4.0
"""Half width of the smoothing window in sigmas: a round trip then stays within 0.0002 heatmap pixels."""
MOST = 1.5
"""A longer step, in heatmap pixels, is cut: the peak is within half a pixel, and at the border the step begins one pixel inside."""


def refine(
    flat: torch.Tensor, peaks: torch.Tensor, size_wh: tuple[int, int], sigma: float
) -> torch.Tensor:
    """Sub-pixel peaks.

    Where the smoothing window would hang over the border, the map is not smoothed: half a window would pull the peak inward. Where the
    logarithm is not concave (no peak to speak of), the highest pixel stands. The paper also rescales the smoothed map to the old
    maximum; that adds a constant to the logarithm and changes nothing here.

    Args:
        flat: (N, H*W) maps.
        peaks: (N,) int64 index of the highest pixel of each.
        size_wh: (W, H), both at least 3.
        sigma: of the training target, in heatmap pixels.

    Returns:
        (N, 2) float32 x, y in heatmap pixels, on the device of `flat`.
    """
    width, height = size_wh
    half = math.ceil(REACH * sigma) + 1  # one more: the 3x3 neighbourhood is smoothed too
    px, py = peaks % width, peaks // width
    cx, cy = px.clamp(1, width - 2), py.clamp(1, height - 2)  # a 3x3 neighbourhood must fit
    offsets = torch.arange(-half, half + 1, device=flat.device)
    xs, ys = cx[:, None] + offsets, cy[:, None] + offsets  # (N, S)
    index = ys.clamp(0, height - 1)[:, :, None] * width + xs.clamp(0, width - 1)[:, None, :]
    window = (
        flat.gather(1, index.flatten(1)).float().view(len(flat), len(offsets), len(offsets))
    )  # (N, S, S)

    near = torch.arange(-1, 2, device=flat.device)
    kernel = torch.exp(-0.5 * ((offsets - near[:, None]).float() / sigma) ** 2)  # (3, S)
    kernel = kernel / kernel.sum(1, keepdim=True)
    smooth = kernel @ window @ kernel.T  # (N, 3, 3)
    whole = (xs[:, 0] >= 0) & (xs[:, -1] < width) & (ys[:, 0] >= 0) & (ys[:, -1] < height)
    values = torch.where(
        whole[:, None, None], smooth, window[:, half - 1 : half + 2, half - 1 : half + 2]
    )
    floor = (values.amax((1, 2), keepdim=True) * 1e-6).clamp(min=1e-12)
    log = torch.maximum(values, floor).log()  # (N, rows, columns)

    dx, dy = (log[:, 1, 2] - log[:, 1, 0]) / 2, (log[:, 2, 1] - log[:, 0, 1]) / 2
    dxx, dyy = (
        log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0],
        log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1],
    )
    dxy = (log[:, 2, 2] - log[:, 2, 0] - log[:, 0, 2] + log[:, 0, 0]) / 4
    determinant = dxx * dyy - dxy * dxy
    concave = (determinant > 1e-12) & (dxx < 0)
    safe = torch.where(concave, determinant, torch.ones_like(determinant))
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / safe[:, None]
    return torch.where(
        concave[:, None],
        torch.stack([cx, cy], -1) + step.clamp(-MOST, MOST),
        torch.stack([px, py], -1).float(),
    )
