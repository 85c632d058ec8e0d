"""SimCC: a keypoint as two distributions, over x and over y (Li et al., ECCV 2022), encode beside decode.

A row of outputs is Lx + Ly long: `SPLIT` bins an input pixel, first those of x, then those of y. Bin b stands at (b + .5) / SPLIT - .5
input pixels, so that reversing the bins of x is exactly the mirror x -> W-1-x: flip averaging needs no shift.
"""

from __future__ import annotations

import math

import numpy as np
import torch

SPLIT = 2
"""Bins an input pixel: the paper's choice (section 4.1)."""


def bin_counts(input_size_wh: tuple[int, int]) -> tuple[int, int]:
    """(Lx, Ly) for an input of this size."""
    return input_size_wh[0] * SPLIT, input_size_wh[1] * SPLIT


def encode(keypoints: torch.Tensor, input_size_wh: tuple[int, int], sigma: float) -> torch.Tensor:
    """Target distributions.

    Args:
        keypoints: (B, K, 2) input pixels.
        input_size_wh: size of the network's input.
        sigma: width of the target in input pixels.

    Returns:
        (B, K, Lx + Ly) float32; each of the two parts sums to 1.
    """
    parts = []
    for axis, count in enumerate(bin_counts(input_size_wh)):
        places = (
            torch.arange(count, device=keypoints.device, dtype=torch.float32) + 0.5
        ) / SPLIT - 0.5
        parts.append(
            (-0.5 * ((keypoints[..., axis : axis + 1].float() - places) / sigma) ** 2).softmax(-1)
        )  # (B, K, L)
    return torch.cat(parts, -1)


def probabilities(logits: torch.Tensor, input_size_wh: tuple[int, int]) -> torch.Tensor:
    """(B, K, Lx + Ly) logits -> the two distributions, float32."""
    return torch.cat(
        [part.float().softmax(-1) for part in logits.split(bin_counts(input_size_wh), -1)], -1
    )


def flip_average(
    plain: torch.Tensor, mirrored: torch.Tensor, flip_order: np.ndarray, x_bins: int
) -> torch.Tensor:
    """Mean of the distributions and those of the mirrored input: left and right swapped, bins of x reversed."""
    order = torch.as_tensor(flip_order, device=plain.device)
    x, y = mirrored[:, order, :x_bins], mirrored[:, order, x_bins:]
    return (plain + torch.cat([x.flip(-1), y], -1)) * 0.5


def decode(
    distributions: torch.Tensor, input_size_wh: tuple[int, int], sigma: float, *, refine: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Reads keypoints.

    Args:
        distributions: (B, K, Lx + Ly) from `probabilities`, on any device.
        input_size_wh: size of the network's input.
        sigma: width of the training target in input pixels.
        refine: step from the highest bin to the vertex of the parabola through the logarithms of it and its neighbours.

    Returns:
        keypoints (B, K, 2) float64 in input pixels and keypoint_scores (B, K) float32: the geometric mean of both peaks, 1 for a
        perfect target.
    """
    places, heights = [], []
    for part in distributions.split(bin_counts(input_size_wh), -1):
        index = _highest(part)  # (B, K)
        middle = index.clamp(1, part.shape[-1] - 2)
        wanted = torch.stack([index, middle - 1, middle, middle + 1], -1)
        value, left, center, right = (
            part.gather(-1, wanted).cpu().unbind(-1)
        )  # four numbers a keypoint leave the device
        index, middle = index.cpu(), middle.cpu()
        place = index.double()
        if refine:
            left, center, right = (
                near.double().clamp(min=1e-12).log() for near in (left, center, right)
            )
            bend = left - 2 * center + right
            step = torch.where(
                bend < 0, (left - right) / (2 * bend.clamp(max=-1e-12)), index - middle
            )
            place = middle + step.clamp(-1.5, 1.5)
        places.append((place + 0.5) / SPLIT - 0.5)
        heights.append(value)
    perfect = math.sqrt(2 * math.pi) * sigma * SPLIT
    scores = (heights[0] * heights[1]).sqrt() * perfect
    return torch.stack(places, -1).numpy(), scores.clamp(max=1).float().numpy()


def _highest(part: torch.Tensor) -> torch.Tensor:
    """(B, K, L) -> (B, K) the first highest bin; on the CPU numpy's argmax is several times faster than torch's."""
    return (
        torch.from_numpy(part.numpy().argmax(-1)) if part.device.type == "cpu" else part.argmax(-1)
    )
