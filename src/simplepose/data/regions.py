"""Which part of a picture a crop needs, and which part any random view of a person can need, at
which resolution.

Regions are whole pixels (x1, y1, x2, y2), x2 and y2 exclusive, cut to the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simplepose.config import AugmentConfig
from simplepose.data.annotations import Annotations
from simplepose.data.augment import drawable_halves, no_draws, sample_affines
from simplepose.pose import geometry


class View(NamedTuple):
    """Pixels around a person, and where in the picture they are."""

    pixels: np.ndarray
    """(h, w, 3) uint8 RGB; empty where no random view of the person meets the picture."""
    origin_xy: tuple[int, int] = (0, 0)
    """The picture's pixel whose upper left corner is theirs."""
    ratio_xy: tuple[float, float] = (1.0, 1.0)
    """Their number per picture pixel: below 1 where they were stored smaller."""


def from_view(
    to_crop: np.ndarray,
    origin_xy: np.ndarray | tuple[int, int],
    ratio_xy: np.ndarray | tuple[float, float] = (1, 1),
) -> np.ndarray:
    """Affines picture -> crop (..., 2, 3) as affines view -> crop; `origin_xy` and `ratio_xy`
    (..., 2) as in `View`."""
    origin, ratio = np.asarray(origin_xy, np.float64), np.asarray(ratio_xy, np.float64)
    offset = origin + 0.5 / ratio - 0.5  # a pixel's centre is at a whole number
    moved = to_crop.copy()
    moved[..., 2] += (to_crop[..., :2] @ offset[..., None])[..., 0]
    moved[..., :2] /= ratio[..., None, :]
    return moved


def needed_regions(
    to_crop: np.ndarray, input_size_wh: tuple[int, int], picture_sizes_wh: np.ndarray
) -> np.ndarray:
    """The pixels that a bilinear warp reads.

    Args:
        to_crop: (B, 2, 3) picture -> crop.
        input_size_wh: size of the crop.
        picture_sizes_wh: (B, 2).

    Returns:
        (B, 4) int64; empty (x2 = x1 or y2 = y1) where the crop lies outside the picture.
    """
    right, bottom = input_size_wh[0] - 1, input_size_wh[1] - 1
    corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]], np.float64)
    points = geometry.transform_points(geometry.invert_affines(to_crop), corners)  # (B, 4, 2)
    low = np.floor(points.min(1) - 1e-3)
    high = np.floor(points.max(1) + 1e-3) + 2  # the right neighbour, exclusive
    limits = np.tile(picture_sizes_wh, 2)
    return np.clip(np.hstack([low, high]), 0, limits).astype(np.int64)


def person_views(
    annotations: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that any random view of each person can read, and the resolution that its closest
    view can use.

    The strongest view: the largest scale, every rotation up to the strongest (the extent of a
    turned rectangle is largest at its own diagonal's angle), either half of the body where that is
    drawn, the farthest shift where there is one, mirrored or not.
    The closest view: the smallest scale, of the whole body or of a half that can be drawn.

    Args:
        annotations: N people; a picture of unknown size counts as empty.
        augment: the random changes.
        input_size_wh: size of the crop; its aspect decides the shape of the views.
        udp: unit convention, see `simplepose.pose.geometry`.

    Returns:
        regions (N, 4) int64, empty (x2 = x1 or y2 = y1) where no view meets the picture, and
        ratios (N,) float64, at most 1: pixels per picture pixel beyond which no view shows more
        detail.
    """
    everybody, bodies = np.arange(len(annotations)), []
    turned = min(2 * augment.rotation_degrees, 90.0) if augment.rotation_probability else 0.0
    middle = (np.array([input_size_wh], np.float64) - udp) / 2
    # The whole body, and the halves of those who have them.
    for half, can in enumerate([True, *drawable_halves(annotations, augment)]):
        draws = no_draws(len(everybody))
        draws.half_body = np.where(can, half, 0)
        to_image = geometry.invert_affines(
            sample_affines(annotations, everybody, draws, input_size_wh, udp=udp)
        )
        center = geometry.transform_points(to_image, middle)[:, 0]
        size = np.abs(np.linalg.det(to_image[..., :2])) ** 0.5  # picture pixels per crop pixel
        extent = np.asarray(input_size_wh) * size[:, None] * (1 + augment.scale_factor)
        across = extent[:, ::-1]
        angle = np.minimum(np.arctan2(across, extent), np.deg2rad(turned))
        reach = (extent * np.cos(angle) + across * np.sin(angle)) / 2 + 2
        reach += augment.shift_factor * extent
        bodies.append((np.floor(center - reach), np.ceil(center + reach) + 1, 1 / size))
    low, high, finest = map(np.stack, zip(*bodies, strict=True))
    corners = np.hstack([low.min(0), high.max(0)])
    regions = np.clip(corners, 0, np.tile(annotations.person_sizes_wh, 2)).astype(np.int64)
    return regions, np.minimum(finest.max(0) / max(1 - augment.scale_factor, 1e-3), 1)


def contains(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(N,) bool: whether each region holds the other one; an empty one is held by all."""
    empty = np.any(inner[:, 2:] <= inner[:, :2], axis=1)
    return empty | np.all((outer[:, :2] <= inner[:, :2]) & (outer[:, 2:] >= inner[:, 2:]), axis=1)
