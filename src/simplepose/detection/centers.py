"""Boxes as points: targets, loss and decoding of a detector ("Objects as Points", Zhou, Wang and
Krähenbühl 2019).

A box is the peak of its class's map at the cell of its centre, and four numbers that are told at
this cell: how far the centre is from the cell, and how large the box is. What differs from the
paper: one map at stride 8; Gaussians as wide and as high as their box asks ("Training-Time-Friendly
Network", Liu et al., AAAI 2020, section 3), whose cells all learn the box, because one cell a box
learns slowly; sides by their logarithm; and beside L1 the generalised IoU of the boxes (Rezatofighi
et al., CVPR 2019).

Pixels of the network's input are edges here: a box (0, 0, 8, 8) covers the first cell of stride 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from simplepose.data.boxes import NOTHING

TYPICAL_CELLS = 8.0
"""Sides are told as log(side / (8 strides)): a network that puts out zeros says 8 cells."""
SPREAD = 0.09
"""Width of a Gaussian as a fraction of its box's side (.54 / 6 of the training-time-friendly
network)."""
LEAST_SPREAD = 1 / 6
"""Added to it, in cells."""
LEARNS_BOX = 0.1
"""A cell learns the box where its Gaussian is higher."""
MIN_VISIBLE, MIN_SIDE = 0.3, 3.0
"""Of a box that the border of the input cuts this fraction must be left, and of any box so many
input pixels a side: else it is ignored."""
MOST = 100
"""Boxes of one input, before suppression."""
MAX_LOG_SIDE = 6.0
"""Larger logarithms are no network's opinion."""
FOCAL_ALPHA, FOCAL_BETA = 2, 4
BOX_WEIGHT, L1_WEIGHT = 2.0, 0.2


class Targets(NamedTuple):
    """What the maps of B inputs should be."""

    centers: Tensor
    """(B, C, H, W) float32: 1 at the cell of each centre, Gaussians around."""
    boxes: Tensor
    """(B, 4, H, W): the box that each cell learns: x and y of its centre, less the cell, in cells,
    and log(width / (8 strides)), log(height / (8 strides))."""
    box_weights: Tensor
    """(B, H, W): 0 where no box is learned; the weights of a box have sum 1 at most."""
    counted: Tensor
    """(B, 1, H, W) bool: False in boxes that are ignored, where centres have no target."""


def encode(
    boxes_xyxy: Tensor,
    labels: Tensor,
    class_count: int,
    input_size_wh: tuple[int, int],
    stride: int,
) -> Targets:
    """Boxes -> maps, the inverse of `decode`.

    Args:
        boxes_xyxy: (B, P, 4) float, P at least 1, input pixels; they may reach over the border.
        labels: (B, P) int64: a class, `IGNORED` or `NOTHING` (`data.boxes`).
        class_count: C.
        input_size_wh: width and height of the input.
        stride: input pixels a cell.
    """
    width, height = (size // stride for size in input_size_wh)
    limits = boxes_xyxy.new_tensor([*input_size_wh] * 2)
    inside = boxes_xyxy.clamp(min=0).minimum(limits)
    sides, whole = inside[..., 2:] - inside[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    visible = sides.prod(-1) >= MIN_VISIBLE * whole.prod(-1)
    learned = (labels >= 0) & visible & (sides >= MIN_SIDE).all(-1)  # (B, P)
    ignored = (labels > NOTHING) & ~learned

    x = torch.arange(width, device=boxes_xyxy.device)
    y = torch.arange(height, device=boxes_xyxy.device)
    centers = (inside[..., :2] + inside[..., 2:]) / 2 / stride
    cells = centers.floor()
    spread = SPREAD * sides / stride + LEAST_SPREAD
    columns, rows = (
        torch.exp(-((axis - cells[..., k, None]) ** 2) / (2 * spread[..., k, None] ** 2))
        for k, axis in enumerate((x, y))
    )
    heights = rows[..., :, None] * columns[..., None, :] * learned[..., None, None]  # (B, P, H, W)
    flat = heights.flatten(2)
    maps = flat.new_zeros(len(flat), class_count, height * width)
    at = labels.clamp(min=0)[..., None].expand_as(flat)
    maps = maps.scatter_reduce(1, at, flat, "amax").unflatten(2, (height, width))

    weights = torch.where(flat > LEARNS_BOX, flat, 0)
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
    best, owner = flat.max(1, keepdim=True)  # (B, 1, H W)
    box_weights = torch.where(best > LEARNS_BOX, weights.gather(1, owner), 0)
    codes = torch.cat([centers, torch.log(sides.clamp(min=1e-6) / (TYPICAL_CELLS * stride))], -1)
    owned = codes.gather(1, owner[:, 0, :, None].expand(-1, -1, 4)).mT.unflatten(2, (height, width))
    owned = owned - _cells(x, y)

    u, v = (x + 0.5) * stride, (y + 0.5) * stride
    left, top, right, bottom = inside[..., None].unbind(2)
    across, down = (left <= u) & (u <= right), (top <= v) & (v <= bottom)
    hidden = (down[..., :, None] & across[..., None, :] & ignored[..., None, None]).any(1)
    return Targets(maps, owned, box_weights.unflatten(2, (height, width))[:, 0], ~hidden[:, None])


def decode(maps: Tensor, stride: int, most: int = MOST) -> tuple[Tensor, Tensor, Tensor]:
    """Maps -> boxes, the inverse of `encode`: cells that no neighbour exceeds, the best first.

    Args:
        maps: (B, C + 4, H, W): logits of centres, then boxes as in `Targets`.
        stride: input pixels a cell.
        most: boxes of each input.

    Returns:
        boxes (B, N, 4) in input pixels, not cut at the border, scores (B, N) in 0..1 and classes
        (B, N) int64; N is `most`, or all cells of all classes where they are fewer.
    """
    maps = maps.float()
    scores = maps[:, :-4].sigmoid()
    peaks = torch.where(scores == functional.max_pool2d(scores, 3, 1, 1), scores, 0)
    values, at = peaks.flatten(1).topk(min(most, peaks[0].numel()), dim=1)
    cells = maps.shape[-2] * maps.shape[-1]
    # transpose: the exporter knows no mT
    boxes = boxes_of(maps[:, -4:], stride).flatten(2).transpose(1, 2)  # (B, H W, 4)
    return boxes.gather(1, (at % cells)[..., None].expand(-1, -1, 4)), values, at // cells


def boxes_of(codes: Tensor, stride: int) -> Tensor:
    """What each cell says of a box: (B, 4, H, W) codes -> (B, 4, H, W) xyxy in input pixels."""
    height, width = codes.shape[-2:]
    x, y = (torch.arange(count, device=codes.device) for count in (width, height))
    centers = codes[:, :2] + _cells(x, y)[:2]
    halves = torch.exp(codes[:, 2:].clamp(max=MAX_LOG_SIDE)) * (TYPICAL_CELLS / 2)
    return torch.cat([centers - halves, centers + halves], 1) * stride


def _cells(x: Tensor, y: Tensor) -> Tensor:
    """(4, H, W): column and row of each cell, and two zeros."""
    down, across = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([across, down, across * 0, across * 0])


def detection_loss(maps: Tensor, targets: Targets, stride: int) -> Tensor:
    """The loss of some inputs, () float32: focal for centres, L1 and generalised IoU for boxes,
    each a mean over the boxes.

    Args:
        maps: (B, C + 4, H, W) the network's.
        targets: theirs.
        stride: input pixels a cell.
    """
    maps = maps.float()
    count = (targets.centers == 1).sum().clamp(min=1)
    centers = focal_loss(maps[:, :-4], targets.centers, targets.counted) / count
    codes, wanted = maps[:, -4:], targets.boxes
    apart = 1 - generalised_iou(boxes_of(codes, stride), boxes_of(wanted, stride))
    losses = BOX_WEIGHT * apart + L1_WEIGHT * (codes - wanted).abs().sum(1)
    return centers + (losses * targets.box_weights).sum() / count


def focal_loss(logits: Tensor, centers: Tensor, counted: Tensor) -> Tensor:
    """The paper's equation 1, summed: alpha 2, beta 4.

    Args:
        logits: (B, C, H, W).
        centers: (B, C, H, W) targets.
        counted: (B, 1, H, W) bool: where cells without a centre count.
    """
    probability = logits.sigmoid()
    hit = (1 - probability) ** FOCAL_ALPHA * functional.logsigmoid(logits)
    miss = (1 - centers) ** FOCAL_BETA * probability**FOCAL_ALPHA * functional.logsigmoid(-logits)
    return -torch.where(centers == 1, hit, miss * counted).sum()


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Of boxes (B, 4, ...) xyxy, pair by pair -> (B, ...): IoU less the part of the common hull
    that neither fills, -1..1."""
    low, high = (
        torch.maximum(first[:, :2], second[:, :2]),
        torch.minimum(first[:, 2:], second[:, 2:]),
    )
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    both = (high - low).clamp(min=0).prod(1)
    union = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - both
    hull = hull.prod(1).clamp(min=1e-6)
    return both / union.clamp(min=1e-6) - (hull - union) / hull
