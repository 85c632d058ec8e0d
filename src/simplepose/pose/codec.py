"""Keypoints <-> heatmaps, side by side: `encode` makes the training target, `decode` reads the network's output.

Both directions work in *input* pixels (the crop the network sees) and share one `CodecConfig`, so a round trip can be tested.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from simplepose.config import CodecConfig
from simplepose.pose import heatmaps_dark, simcc
from simplepose.pose.geometry import heatmap_scale
from simplepose.pose.pixels import constant


def encode(
    keypoints: torch.Tensor,
    visible: torch.Tensor,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    heatmap_size_wh: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Training targets of a whole batch, on the device of `keypoints`.

    Args:
        keypoints: (B, K, 2) float, in input pixels.
        visible: (B, K) bool: annotated with v > 0 (occluded and visible keypoints are both trained).
        codec: widths, peak and roundings.
        input_size_wh: size of the network's input.
        heatmap_size_wh: size of its output.

    Returns:
        heatmaps (B, K, H, W) and target_weights (B, K) in torch's default dtype (float32); a keypoint with weight 0 has an empty map.
        For SimCC distributions (B, K, Lx + Ly).
    """
    device = keypoints.device
    if codec.kind == "simcc":
        inside = ((keypoints >= 0) & (keypoints < constant(tuple(input_size_wh), device))).all(-1)
        return simcc.encode(keypoints, input_size_wh, codec.sigma), (visible & inside).float()
    dtype = torch.get_default_dtype()
    scale = constant(heatmap_scale(input_size_wh, heatmap_size_wh, udp=codec.udp), device, dtype)
    centers = keypoints.to(dtype) * scale
    if codec.center == "floor":
        centers = torch.floor(centers + 0.5)
    elif codec.center == "truncate":
        centers = torch.trunc(centers + 0.5)
    weights = target_weights(keypoints, centers, visible, codec, input_size_wh, heatmap_size_wh)

    width, height = heatmap_size_wh
    dx = torch.arange(width, device=device, dtype=dtype) - centers[..., :1]  # (B, K, W)
    dy = torch.arange(height, device=device, dtype=dtype) - centers[..., 1:]  # (B, K, H)
    sigma = codec.sigma_at(heatmap_size_wh)
    factor = -0.5 / sigma**2
    columns, rows = torch.exp(dx * dx * factor), torch.exp(dy * dy * factor)
    if codec.truncate:
        reach = 3 * sigma
        columns, rows = columns * (dx.abs() <= reach), rows * (dy.abs() <= reach)
    rows = rows * (weights * codec.peak)[..., None]
    return rows[..., :, None] * columns[..., None, :], weights


def target_weights(
    keypoints: torch.Tensor,
    centers: torch.Tensor,
    visible: torch.Tensor,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    heatmap_size_wh: tuple[int, int],
) -> torch.Tensor:
    """(B, K) in torch's default dtype: which keypoints are trained, by the rule `codec.trained_when`.

    ms compares the patch's exclusive lower right corner with `< 0`, so a patch that ends exactly at the border still counts.
    """
    if codec.trained_when == "inside":
        size = constant(tuple(input_size_wh), keypoints.device, keypoints.dtype)
        inside = ((keypoints >= 0) & (keypoints < size)).all(-1)
    else:
        reach = 3 * codec.sigma_at(heatmap_size_wh)
        size = constant(tuple(heatmap_size_wh), keypoints.device, centers.dtype)
        inside = ((centers - reach < size) & (centers + reach + 1 >= 0)).all(-1)
    return (visible & inside).to(torch.get_default_dtype())


def activate(outputs: Any, codec: CodecConfig, input_size_wh: tuple[int, int]) -> Any:
    """What the network put out -> what `heatmaps_flip.flip_average` and `decode` read.

    Args:
        outputs: (B, K, H, W) maps or logits, or (B, K, Lx + Ly) SimCC logits; numpy or torch.
        codec: `kind` says which.
        input_size_wh: size of the network's input.

    Returns:
        The maps themselves, untouched, for `heatmap`. Otherwise probabilities, float32, scaled so that a perfect answer peaks at
        `codec.peak`: a map that is unsure where the keypoint is spreads out and peaks lower.
    """
    if codec.kind == "heatmap":
        return outputs
    if codec.kind == "simcc":
        return simcc.probabilities(torch.as_tensor(outputs), input_size_wh)
    logits = torch.as_tensor(outputs).float()
    batch, count, height, width = logits.shape
    perfect = (
        2 * math.pi * codec.sigma_at((width, height)) ** 2
    )  # one over the peak of the Gaussian distribution
    return logits.flatten(2).softmax(-1).view(batch, count, height, width) * (perfect * codec.peak)


def decode(
    heatmaps: Any, codec: CodecConfig, input_size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads keypoints from heatmaps.

    Args:
        heatmaps: (B, K, H, W) as `activate` returns them, numpy or torch on any device; only the neighbourhood of each peak leaves the
            device. (B, K, Lx + Ly) for SimCC.
        codec: decoder, peak and units.
        input_size_wh: size of the network's input.

    Returns:
        keypoints (B, K, 2) float64 in input pixels and keypoint_scores (B, K) float32 (peak value / codec.peak).
    """
    if codec.kind == "simcc":
        return simcc.decode(heatmaps, input_size_wh, codec.sigma, refine=codec.decoder == "dark")
    if isinstance(heatmaps, torch.Tensor) and heatmaps.device.type == "cpu":
        heatmaps = (
            heatmaps.float().numpy()
        )  # numpy's argmax is several times faster than torch's on CPU
    batch, count, height, width = heatmaps.shape
    maps = heatmaps.reshape(batch * count, height, width)
    places, around = read_peaks(maps)
    refined = None
    if codec.decoder == "dark":
        flat = torch.as_tensor(
            np.ascontiguousarray(maps) if isinstance(maps, np.ndarray) else maps
        ).flatten(1)
        indices = torch.as_tensor(places, device=flat.device)
        refined = (
            heatmaps_dark.refine(flat, indices, (width, height), codec.sigma_at((width, height)))
            .cpu()
            .double()
            .numpy()
        )
        refined = refined.reshape(batch, count, 2)
    return to_keypoints(
        places.reshape(batch, count),
        around.reshape(batch, count, 5),
        (width, height),
        codec,
        input_size_wh,
        refined,
    )


def read_peaks(maps: Any) -> tuple[np.ndarray, np.ndarray]:
    """(M, H, W) -> the flat place of each peak (M,) and the values (M, 5) there, right, left, below and above of it.

    Beyond the border the values belong to other rows; `to_keypoints` does not look at them there.
    """
    count, height, width = maps.shape
    steps = np.array([0, 1, -1, width, -width])
    if isinstance(maps, torch.Tensor):
        places = maps.flatten(1).argmax(1)
        first = torch.arange(count, device=maps.device) * (height * width)
        index = (places + first)[:, None] + torch.as_tensor(steps, device=maps.device)
        around = maps.reshape(-1)[index.clamp(0, maps.numel() - 1)]
        return places.cpu().numpy(), around.float().cpu().numpy()
    flat = maps.reshape(count, height * width)
    places = flat.argmax(1)
    index = (places + np.arange(count) * (height * width))[:, None] + steps
    return places, flat.reshape(-1).take(index, mode="clip")


def to_keypoints(
    places: np.ndarray,
    around: np.ndarray,
    heatmap_size_wh: tuple[int, ...],
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    refined: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What `read_peaks` found (B, K) and (B, K, 5) -> keypoints (B, K, 2) in input pixels and scores (B, K)."""
    width, height = heatmap_size_wh
    px, py = places % width, places // width
    values, right, left, below, above = np.moveaxis(around, -1, 0)
    points = np.stack([px, py], -1).astype(np.float64) if refined is None else refined
    if codec.decoder == "quarter":
        # Only where 1 < px < W-1 and 1 < py < H-1 jointly: index 1 is left out, W-2 is not (quirk of both references). sign(0) = 0.
        inside = (px > 1) & (px < width - 1) & (py > 1) & (py < height - 1)
        points[..., 0] += np.where(inside, 0.25 * np.sign(right - left), 0)
        points[..., 1] += np.where(inside, 0.25 * np.sign(below - above), 0)
    if codec.zero_without_peak:
        points[values <= 0] = 0
    points /= heatmap_scale(input_size_wh, (width, height), udp=codec.udp)
    return points, (values / codec.peak).astype(np.float32)
