"""Which part of a picture a crop needs, and which part any random view of a person can need, at which resolution.

Regions are whole pixels (x1, y1, x2, y2), x2 and y2 exclusive, cut to the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simplepose.config import AugmentConfig
from simplepose.data.annotations import Annotations
from simplepose.data.augment import drawable_halves, no_draws, sample_affines
from simplepose.pose import geometry


@dataclass(frozen=True, slots=True)
class View:
    """Pixels around a person, and where in the picture they are."""

    pixels: np.ndarray
    """(h, w, 3) uint8 RGB."""
    origin_xy: tuple[int, int] = (0, 0)
    """The picture's pixel whose upper left corner is theirs."""
    ratio_xy: tuple[float, float] = (1.0, 1.0)
    """Their number per picture pixel: below 1 where they were stored smaller."""


def from_view(
    to_crop: np.ndarray,
    origin_xy: np.ndarray | tuple[int, int],
    ratio_xy: np.ndarray | tuple[float, float] = (1, 1),
) -> np.ndarray:
    """Affines picture -> crop (..., 2, 3) as affines view -> crop; `origin_xy` and `ratio_xy` (..., 2) as in `View`."""
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
        picture_sizes_wh: (B, 2) or (2,).

    Returns:
        (B, 4) int64; empty (x2 <= x1) where the crop lies outside the picture.
    """
    right, bottom = input_size_wh[0] - 1, input_size_wh[1] - 1
    corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]], np.float64)
    points = geometry.transform_points(geometry.invert_affines(to_crop), corners)  # (B, 4, 2)
    low = np.floor(points.min(1) - 1e-3).astype(np.int64)
    high = np.floor(points.max(1) + 1e-3).astype(np.int64) + 2  # the right neighbour, exclusive
    return np.concatenate([np.maximum(low, 0), np.minimum(high, picture_sizes_wh)], axis=1)


def person_regions(
    annotations: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
) -> np.ndarray:
    """(N, 4) int64: the pixels that any random view of each person can read; see `person_views`."""
    return person_views(annotations, augment, input_size_wh, udp=udp)[0]


def person_views(
    annotations: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that any random view of each person can read, and the resolution that its closest view can use.

    The strongest view: the largest scale, every rotation up to the strongest (the extent of a turned rectangle is largest at its own
    diagonal's angle), either half of the body where that is drawn, the farthest shift where there is one, mirrored or not.
    The closest view: the smallest scale, of the whole body or of a half that can be drawn.

    Args:
        annotations: N people; a picture of unknown size counts as empty.
        augment: the random changes.
        input_size_wh: size of the crop; its aspect decides the shape of the views.
        udp: unit convention, see `simplepose.pose.geometry`.

    Returns:
        regions (N, 4) int64, empty (x2 = x1 or y2 = y1) where no view meets the picture, and ratios (N,) float64, at most 1: pixels per
        picture pixel beyond which no view shows more detail.
    """
    count = len(annotations)
    sizes = annotations.person_sizes_wh.astype(np.int64)
    largest = 1 + augment.scale_factor
    low, high, finest = np.full((count, 2), np.inf), np.full((count, 2), -np.inf), np.zeros(count)
    for chosen, to_crop in _bodies(annotations, augment, input_size_wh, udp):
        to_image = geometry.invert_affines(to_crop)
        center = geometry.transform_points(
            to_image, np.array([[(input_size_wh[0] - udp) / 2, (input_size_wh[1] - udp) / 2]])
        )[:, 0]
        size = np.abs(np.linalg.det(to_image[..., :2])) ** 0.5  # picture pixels per crop pixel
        extent_wh = np.asarray(input_size_wh) * size[:, None]
        reach = _reach(extent_wh * largest, augment) + 2
        shift = augment.shift_factor * extent_wh * largest
        low[chosen] = np.minimum(low[chosen], np.floor(center - reach - shift))
        high[chosen] = np.maximum(high[chosen], np.ceil(center + reach + shift) + 1)
        finest[chosen] = np.maximum(finest[chosen], 1 / size)
    regions = np.concatenate([np.clip(low, 0, sizes), np.clip(high, 0, sizes)], axis=1).astype(
        np.int64
    )
    return regions, np.minimum(finest / max(1 - augment.scale_factor, 1e-3), 1)


def _bodies(
    annotations: Annotations, augment: AugmentConfig, input_size_wh: tuple[int, int], udp: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unscaled views of everybody, then of each half that can be drawn: rows, and their affines picture -> crop."""
    plain = no_draws(len(annotations))
    for half, can in enumerate(
        (np.ones(len(annotations), bool), *drawable_halves(annotations, augment))
    ):
        chosen = np.flatnonzero(can)
        if len(chosen):
            draws = plain[chosen]
            draws.half_body[:] = half
            yield chosen, sample_affines(annotations, chosen, draws, input_size_wh, udp=udp)


def _reach(extent_wh: np.ndarray, augment: AugmentConfig) -> np.ndarray:
    """(N, 2) half width and half height of a rectangle's bounding box over all rotations that can be drawn."""
    largest = (
        np.deg2rad(min(2 * augment.rotation_degrees, 90.0)) if augment.rotation_probability else 0.0
    )
    width, height = extent_wh[:, 0], extent_wh[:, 1]
    across, along = (
        np.minimum(np.arctan2(height, width), largest),
        np.minimum(np.arctan2(width, height), largest),
    )
    return (
        np.stack(
            [
                width * np.cos(across) + height * np.sin(across),
                height * np.cos(along) + width * np.sin(along),
            ],
            axis=1,
        )
        / 2
    )


def contains(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(N,) bool: whether each region holds the other one; an empty one is held by all."""
    empty = np.any(inner[:, 2:] <= inner[:, :2], axis=1)
    return empty | np.all((outer[:, :2] <= inner[:, :2]) & (outer[:, 2:] >= inner[:, 2:]), axis=1)


def count_bytes(regions: np.ndarray) -> int:
    """Memory of the regions' RGB pixels."""
    return int(np.maximum(regions[:, 2:] - regions[:, :2], 0).prod(1).sum() * 3)
