"""The flip test: the mirrored input, and one answer from the maps of both inputs (`flip_average`, or `decode_pair` with decoding).

Source of the rules: both reference codes; `flip_shift="exact"` is ours. The paper averages both maps (section 4.1).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from simplepose.config import CodecConfig
from simplepose.pose import simcc
from simplepose.pose.codec import decode, read_peaks, to_keypoints


def flip_inputs(pixels: torch.Tensor, codec: CodecConfig, stride: int = 4) -> torch.Tensor:
    """The mirrored input of the flip test: (B, 3, H, W) -> the same shape.

    With `flip_shift="exact"` the mirrored picture also moves left by stride - 1 input pixels, so that heatmap column j of the mirrored
    input is exactly column W-1-j of the plain one; the freed columns repeat the border.
    """
    flipped = pixels.flip(-1)
    if codec.flip_shift != "exact" or codec.udp or codec.kind == "simcc":
        return flipped
    move = stride - 1
    return torch.cat(
        [flipped[..., move:], flipped[..., -1:].expand(*flipped.shape[:-1], move)], dim=-1
    )


def flip_average(
    heatmaps: Any,
    flipped: Any,
    flip_order: np.ndarray,
    codec: CodecConfig,
    input_size_wh: tuple[int, int] | None = None,
) -> Any:
    """Mean of the plain maps and the maps of the mirrored input, brought back.

    Args:
        heatmaps: (B, K, H, W), numpy or torch.
        flipped: (B, K, H, W) maps of the mirrored input.
        flip_order: (K,) from the schema.
        codec: `flip_shift` says how the maps are aligned; with "one_pixel" column 0 keeps its own value.
        input_size_wh: size of the network's input; only SimCC needs it.

    Returns:
        (B, K, H, W) of the same kind as `heatmaps`.
    """
    if codec.kind == "simcc":
        assert input_size_wh is not None, "SimCC outputs are split by the input's size"
        return simcc.flip_average(heatmaps, flipped, flip_order, simcc.bin_counts(input_size_wh)[0])
    if isinstance(heatmaps, torch.Tensor):
        order = torch.as_tensor(flip_order, device=heatmaps.device)
        back = flipped[:, order].flip(-1)
        average = heatmaps + back
        if codec.moves_column:
            average[..., 1:] = heatmaps[..., 1:] + back[..., :-1]
    else:
        average = _flip_sum(heatmaps, flipped, flip_order, codec, *_flip_scratch(flipped))
    average *= 0.5
    return average


def _flip_scratch(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The memory `_flip_sum` works in."""
    return np.zeros(maps.size + 1, maps.dtype), np.empty_like(maps, order="C")


def _flip_sum(
    heatmaps: np.ndarray,
    flipped: np.ndarray,
    flip_order: np.ndarray,
    codec: CodecConfig,
    ordered: np.ndarray,
    total: np.ndarray,
) -> np.ndarray:
    """`flip_average` of numpy maps (..., K, H, W), times two, written to `total`; `ordered` is scratch memory of one value more."""
    size, width = flipped.size, flipped.shape[-1]
    np.take(flipped, flip_order, axis=-3, out=ordered[:size].reshape(flipped.shape), mode="clip")
    # One step in memory is one column: mirroring the maps from their second value on also moves them by that column.
    moved = codec.moves_column
    cv2.flip(ordered[moved : size + moved].reshape(-1, width), 1, dst=total.reshape(-1, width))
    if moved:
        total[..., 0] = ordered[:size].reshape(flipped.shape)[..., -1]
    total += heatmaps
    return total


def decode_pair(
    heatmaps: Any,
    flipped: Any,
    flip_order: np.ndarray,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """`decode(flip_average(...))`; on the CPU one person after the other, so that the maps stay in the processor's cache."""
    on_cpu = not isinstance(heatmaps, torch.Tensor) or heatmaps.device.type == "cpu"
    if not on_cpu or codec.kind == "simcc" or codec.decoder == "dark" or not len(heatmaps):
        return decode(
            flip_average(heatmaps, flipped, flip_order, codec, input_size_wh), codec, input_size_wh
        )
    plain, mirrored = (
        np.ascontiguousarray(maps.float().numpy() if isinstance(maps, torch.Tensor) else maps)
        for maps in (heatmaps, flipped)
    )
    scratch = _flip_scratch(plain[0])
    sums = (
        _flip_sum(one, other, flip_order, codec, *scratch)
        for one, other in zip(plain, mirrored, strict=True)
    )
    places, around = zip(*(read_peaks(maps) for maps in sums), strict=True)
    return to_keypoints(
        np.stack(places), np.stack(around) * 0.5, plain.shape[:1:-1], codec, input_size_wh
    )
