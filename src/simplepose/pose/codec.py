"""Keypoints <-> what the network puts out, side by side.

`encode` makes the training target and `decode` reads keypoints, both in *input* pixels (the crop
that the network sees). Between them stand `activate`, which turns outputs into maps, and the flip
test: `flip_inputs` mirrors the input, `flip_average` makes one answer of the maps of both inputs.
One `CodecConfig` rules all of them, so a round trip can be tested. Everything is torch and traces.
The flip test and the quarter offset are written so that NumPy does them too, with equal bits: what
ONNX Runtime puts out needs no torch (`reads_arrays`).

SimCC (Li et al., ECCV 2022) describes a keypoint by two distributions, over x and over y. A row of
outputs holds `SPLIT` bins an input pixel, first those of x, then those of y. Bin b stands at
(b + .5) / SPLIT - .5 input pixels, so reversing the bins of x is exactly the mirror x -> W-1-x.
RTMPose's published networks (Jiang et al. 2023) have the same rows with two differences: bin b
stands at b / SPLIT, and the rows are no distributions but maps that peak at 1. They are only read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simplepose.config import CodecConfig
from simplepose.pose.geometry import heatmap_scale
from simplepose.pose.pixels import constant

if TYPE_CHECKING:
    from torch import Tensor

Array = Any
"""A torch Tensor, or a NumPy array where `reads_arrays`; the answer is the same kind."""
SPLIT = 2
"""SimCC's bins an input pixel: the paper's choice (section 4.1)."""
REACH = 4.0
"""Half width of DARK's smoothing window in sigmas: a round trip stays within .0002 map pixels."""
LONGEST_STEP = 1.5
"""A longer Newton step is cut: the peak is within half a pixel; at the border the step begins one
pixel inside."""


def encode(
    keypoints: Tensor,
    visible: Tensor,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    heatmap_size_wh: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Training targets of a whole batch, on the device of `keypoints`.

    Args:
        keypoints: (B, K, 2) float, in input pixels.
        visible: (B, K) bool: annotated with v > 0 (occluded and visible ones are both trained).
        codec: widths, peak and roundings.
        input_size_wh: size of the network's input.
        heatmap_size_wh: size of its output.

    Returns:
        heatmaps (B, K, H, W) and target weights (B, K) in torch's default dtype (float32); a
        keypoint with weight 0 has an empty map. SimCC: distributions (B, K, Lx + Ly).
    """
    import torch

    device, dtype = keypoints.device, torch.get_default_dtype()
    size = constant(tuple(input_size_wh), device)
    inside = ((keypoints >= 0) & (keypoints < size)).all(-1)
    if codec.kind == "simcc":
        parts = []
        for axis, side in enumerate(input_size_wh):
            bins = (torch.arange(SPLIT * side, device=device).float() + 0.5) / SPLIT - 0.5
            distance = keypoints[..., axis : axis + 1].float() - bins
            parts.append((-0.5 * (distance / codec.sigma) ** 2).softmax(-1))
        return torch.cat(parts, -1), (visible & inside).float()
    scale = constant(heatmap_scale(input_size_wh, heatmap_size_wh, udp=codec.udp), device, dtype)
    centers = keypoints.to(dtype) * scale
    if codec.center == "floor":
        centers = torch.floor(centers + 0.5)
    elif codec.center == "truncate":
        centers = torch.trunc(centers + 0.5)
    sigma = codec.sigma_at(heatmap_size_wh)
    reach = 3 * sigma
    if codec.trained_when == "patch":
        # ms compares the patch's exclusive lower right corner with `< 0`: a patch that ends
        # exactly at the border still counts.
        size = constant(tuple(heatmap_size_wh), device, dtype)
        inside = ((centers - reach < size) & (centers + reach + 1 >= 0)).all(-1)
    weights = (visible & inside).to(dtype)
    gaussians = []
    for axis, side in enumerate(heatmap_size_wh):
        distance = torch.arange(side, device=device, dtype=dtype) - centers[..., axis : axis + 1]
        gaussian = torch.exp(distance * distance * (-0.5 / sigma**2))
        gaussians.append(gaussian * (distance.abs() <= reach) if codec.truncate else gaussian)
    columns, rows = gaussians  # (B, K, W), (B, K, H)
    rows = rows * (weights * codec.peak)[..., None]
    return rows[..., :, None] * columns[..., None, :], weights


def split_axes(values: Tensor, input_size_wh: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """SimCC's (..., Lx + Ly) -> the parts of x (..., Lx) and of y (..., Ly)."""
    bins = SPLIT * input_size_wh[0]
    return values[..., :bins], values[..., bins:]


def reads_arrays(codec: CodecConfig) -> bool:
    """Whether `run`, `activate`, `flip_average` and `decode` also take NumPy arrays. Logarithms and
    exponentials, which the others need, have other last bits in NumPy."""
    return codec.kind == "heatmap" and codec.decoder != "dark"


def _library(array: Array) -> Any:
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def run(
    network: Callable[[Array], Array],
    pixels: Array,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    flip_order: Sequence[int] | np.ndarray | None,
    stride: int = 0,
) -> Array:
    """Network, activation and flip test: what `decode` reads.

    Args:
        network: (B, 3, H, W) -> its outputs.
        pixels: (B, 3, H, W) normalised.
        codec: kind of outputs and alignment.
        input_size_wh: size of the network's input.
        flip_order: (K,) from the schema; None leaves the flip test out.
        stride: input pixels a heatmap pixel; both inputs then go through the network in one call
            (tensors only), so that an exported graph has it once. 0 finds it, and calls twice.
    """
    if flip_order is None:
        return activate(network(pixels), codec, input_size_wh)
    if stride:
        library = _library(pixels)
        both = library.concat([pixels, flip_inputs(pixels, codec, stride)])
        plain, mirrored = network(both).chunk(2)
    else:
        plain = network(pixels)
        stride = pixels.shape[-1] // plain.shape[-1]
        mirrored = network(flip_inputs(pixels, codec, stride))
    plain, mirrored = (activate(one, codec, input_size_wh) for one in (plain, mirrored))
    return flip_average(plain, mirrored, flip_order, codec, input_size_wh)


def activate(outputs: Array, codec: CodecConfig, input_size_wh: tuple[int, int]) -> Array:
    """What the network put out -> what `flip_average` and `decode` read.

    Args:
        outputs: (B, K, H, W) maps or logits, or (B, K, Lx + Ly) SimCC logits.
        codec: `kind` says which.
        input_size_wh: size of the network's input.

    Returns:
        The maps themselves, untouched, for `heatmap` and `rtmpose`. Otherwise probabilities,
        float32; those of a map are scaled so that a perfect answer peaks at `codec.peak`: a map
        that is unsure where the keypoint is spreads out and peaks lower.
    """
    if codec.kind in ("heatmap", "rtmpose"):
        return outputs
    if codec.kind == "simcc":
        import torch

        parts = split_axes(outputs.float(), input_size_wh)
        return torch.cat([part.softmax(-1) for part in parts], -1)
    height, width = outputs.shape[-2:]
    # one over the peak of a Gaussian distribution
    perfect = 2 * math.pi * codec.sigma_at((width, height)) ** 2
    return outputs.float().flatten(2).softmax(-1).view(outputs.shape) * (perfect * codec.peak)


def flip_inputs(pixels: Array, codec: CodecConfig, stride: int = 4) -> Array:
    """The mirrored input of the flip test: (B, 3, H, W) -> the same shape.

    With `flip_shift="exact"`, which is ours, the mirrored picture also moves left by stride - 1
    input pixels, so that heatmap column j of the mirrored input is exactly column W-1-j of the
    plain one; the freed columns repeat the border.
    """
    library = _library(pixels)
    flipped = library.flip(pixels, (-1,))
    if codec.flip_shift != "exact" or codec.udp or codec.has_rows:
        return flipped
    border = library.broadcast_to(flipped[..., -1:], (*flipped.shape[:-1], stride - 1))
    return library.concat([flipped[..., stride - 1 :], border], -1)


def flip_average(
    plain: Array,
    mirrored: Array,
    flip_order: Sequence[int] | np.ndarray,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
) -> Array:
    """Mean of the plain maps and the maps of the mirrored input, brought back (paper, section 4.1).

    Args:
        plain: (B, K, H, W), or SimCC's (B, K, Lx + Ly).
        mirrored: the same of the mirrored input.
        flip_order: (K,) from the schema.
        codec: `flip_shift` says how the maps are aligned; with "one_pixel", as in both reference
            codes, everything moves right by a column and column 0 stays.
        input_size_wh: size of the network's input.

    Returns:
        The same shape and dtype.
    """
    library = _library(mirrored)
    back = mirrored[:, library.asarray(flip_order, device=mirrored.device)]
    if codec.has_rows:
        x, y = split_axes(back, input_size_wh)
        x = library.flip(x, (-1,))
        if codec.kind == "rtmpose":  # the bins 0 .. 2 (W - 1) mirror, the last has no other
            x = library.concat([x[..., 1:], x[..., -1:]], -1)
        back = library.concat([x, y], -1)
    else:
        back = library.flip(back, (-1,))
        if codec.moves_column:
            back = library.concat([back[..., :1], back[..., :-1]], -1)
    return (plain + back) * 0.5


def decode(maps: Array, codec: CodecConfig, input_size_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Reads keypoints; of several equal peaks the first counts.

    Args:
        maps: (B, K, H, W) as `activate` returns them; (B, K, Lx + Ly) for SimCC.
        codec: decoder, peak and units.
        input_size_wh: size of the network's input.

    Returns:
        keypoints (B, K, 2) in input pixels and keypoint scores (B, K), float32: the peak's value
        over `codec.peak`; for SimCC the geometric mean of both peaks over that of a perfect target,
        for RTMPose the lower peak.
    """
    if codec.has_rows:
        return _decode_rows(maps, codec, input_size_wh)
    library, (height, width) = _library(maps), maps.shape[-2:]
    flat = library.asarray(maps, dtype=library.float32).reshape(*maps.shape[:2], height * width)
    peak = library.argmax(flat, axis=-1, keepdims=True)
    # Beyond the border a neighbour belongs to another row: no decoder looks at it there.
    around = library.concat([peak, peak + 1, peak - 1, peak + width, peak - width], -1)
    around = library.clip(around, 0, height * width - 1)
    # gather: the exporter knows no take_along_dim
    near = np.take_along_axis(flat, around, -1) if library is np else flat.gather(-1, around)
    value, right, left, below, above = (near[..., index] for index in range(5))
    px, py = peak[..., 0] % width, peak[..., 0] // width
    x, y = (library.asarray(index, dtype=library.float32) for index in (px, py))
    if codec.decoder == "quarter":
        # Only where 1 < px < W-1 and 1 < py < H-1 jointly: index 1 is left out, W-2 is not (quirk
        # of both references). sign(0) = 0.
        inside = (px > 1) & (px < width - 1) & (py > 1) & (py < height - 1)
        x = library.where(inside, x + 0.25 * library.sign(right - left), x)
        y = library.where(inside, y + 0.25 * library.sign(below - above), y)
    elif codec.decoder == "dark":
        x, y = refine(flat, px, py, (width, height), codec.sigma_at((width, height)))
    scale = heatmap_scale(input_size_wh, (width, height), udp=codec.udp)
    keypoints = library.stack([x / scale[0], y / scale[1]], -1)
    if codec.zero_without_peak:
        keypoints = library.where(value[..., None] <= 0, 0.0, keypoints)
    return keypoints, value / codec.peak


def spread(
    maps: Array, keypoints: Array, codec: CodecConfig, input_size_wh: tuple[int, int]
) -> Array:
    """How far the answer is spread around each keypoint: second moments of what the map says.

    The whole map counts, so a second peak far away makes the ellipse long. Values below 0 say
    nothing, and a map without any above 0 says that the keypoint may be anywhere. The width of the
    target stays in: it only scales, which `pose.calibration` does anyway. A pixel's own variance is
    added, so that every matrix can be inverted.

    Args:
        maps: as `decode` takes them.
        keypoints: (B, K, 2) what it read from them.
        codec: kind and units.
        input_size_wh: size of the network's input.

    Returns:
        (B, K, 2, 2) float32, square input pixels.
    """
    library = _library(maps)
    weights = library.asarray(maps, dtype=library.float32)
    weights = library.where(weights > 0, weights, 0.0) + 1e-9 * codec.peak
    if codec.has_rows:
        parts, steps = split_axes(weights, input_size_wh), (1 / SPLIT, 1 / SPLIT)
        first = 0.0 if codec.kind == "rtmpose" else 0.5 / SPLIT - 0.5
    else:
        scale = heatmap_scale(input_size_wh, maps.shape[:-3:-1], udp=codec.udp)
        parts, steps, first = (weights.sum(-2), weights.sum(-1)), (1 / scale[0], 1 / scale[1]), 0.0
    away, variances = [], []
    for axis, (part, step) in enumerate(zip(parts, steps, strict=True)):
        index = library.arange(part.shape[-1], dtype=library.float32, device=maps.device)
        away.append(index * step + first - keypoints[..., axis, None])
        variance = (part * away[axis] ** 2).sum(-1) / part.sum(-1)
        variances.append(variance + step * step / 12)
    if codec.has_rows:
        mixed = library.zeros_like(variances[0])
    else:
        along = (weights @ away[0][..., None])[..., 0]
        mixed = (along * away[1]).sum(-1) / parts[0].sum(-1)
    matrix = library.stack([variances[0], mixed, mixed, variances[1]], -1)
    return matrix.reshape(*matrix.shape[:-1], 2, 2)


def refine(
    flat: Tensor, px: Tensor, py: Tensor, size_wh: tuple[int, int], sigma: float
) -> tuple[Tensor, Tensor]:
    """DARK: the sub-pixel peak around the highest pixel (Zhang et al., CVPR 2020, sec. 3.2).

    A map that is Gaussian around its peak has a quadratic logarithm, so one Newton step from the
    highest pixel lands on the true peak. Noise is first smoothed away with a Gaussian as wide as
    the target's. Where that window would hang over the border, the map is not smoothed: half a
    window would pull the peak inward. Where the logarithm is not concave (no peak to speak of), the
    highest pixel stands. The paper also rescales the smoothed map to the old maximum; that adds a
    constant to the logarithm and changes nothing here.

    Args:
        flat: (..., H*W) float32 maps.
        px: (...) int64 column of the highest pixel of each.
        py: (...) its row.
        size_wh: (W, H), both at least 3.
        sigma: of the training target, in heatmap pixels.

    Returns:
        x (...) and y (...) float32 in heatmap pixels.
    """
    import torch

    width, height = size_wh
    # One more than the reach: the neighbours are smoothed too. All eight of them must fit.
    half = math.ceil(REACH * sigma) + 1
    cx, cy = px.clamp(1, width - 2), py.clamp(1, height - 2)
    offsets = torch.arange(-half, half + 1, device=flat.device)  # (S,)
    columns = (cx[..., None] + offsets).clamp(0, width - 1)
    rows = (cy[..., None] + offsets).clamp(0, height - 1)
    index = rows[..., :, None] * width + columns[..., None, :]
    window = flat.gather(-1, index.flatten(-2)).view(index.shape)  # (..., S, S)
    inner = slice(half - 1, half + 2)
    kernel = torch.exp(-0.5 * ((offsets - offsets[inner, None]) / sigma) ** 2)  # (3, S)
    kernel = kernel / kernel.sum(1, keepdim=True)
    whole = (cx >= half) & (cx < width - half) & (cy >= half) & (cy < height - half)
    values = torch.where(
        whole[..., None, None], kernel @ window @ kernel.T, window[..., inner, inner]
    )
    floor = (values.amax((-2, -1), keepdim=True) * 1e-6).clamp(min=1e-12)
    log = values.maximum(floor).log()
    nw, n, ne, w, middle, e, sw, s, se = log.flatten(-2).unbind(-1)

    dx, dy = (e - w) / 2, (s - n) / 2
    dxx, dyy = e - 2 * middle + w, s - 2 * middle + n
    dxy = (se - sw - ne + nw) / 4
    determinant = dxx * dyy - dxy * dxy
    concave = (determinant > 1e-12) & (dxx < 0)
    safe = torch.where(concave, determinant, 1.0)
    step_x = ((dxy * dy - dyy * dx) / safe).clamp(-LONGEST_STEP, LONGEST_STEP)
    step_y = ((dxy * dx - dxx * dy) / safe).clamp(-LONGEST_STEP, LONGEST_STEP)
    return torch.where(concave, cx + step_x, px), torch.where(concave, cy + step_y, py)


def _decode_rows(
    distributions: Tensor, codec: CodecConfig, input_size_wh: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`decode`; "dark" steps to the vertex of the parabola through three logarithms."""
    import torch

    points, heights = [], []
    for part in split_axes(distributions, input_size_wh):
        index = part.argmax(-1, keepdim=True)
        heights.append(part.gather(-1, index)[..., 0])
        index = index[..., 0]
        point = index.float()
        if codec.decoder == "dark":
            middle = index.clamp(1, part.shape[-1] - 2)
            near = torch.stack([middle - 1, middle, middle + 1], -1)
            left, center, right = part.gather(-1, near).clamp(min=1e-12).log().unbind(-1)
            bend = left - 2 * center + right
            vertex = (left - right) / (2 * bend.clamp(max=-1e-12))
            step = torch.where(bend < 0, vertex, index - middle)
            point = middle + step.clamp(-LONGEST_STEP, LONGEST_STEP)
        points.append(point / SPLIT + (0 if codec.kind == "rtmpose" else 0.5 / SPLIT - 0.5))
    if codec.kind == "rtmpose":
        return torch.stack(points, -1), torch.minimum(*heights).clamp(0, 1)
    perfect = math.sqrt(2 * math.pi) * codec.sigma * SPLIT
    scores = (heights[0] * heights[1]).sqrt() * perfect
    return torch.stack(points, -1), scores.clamp(max=1)
