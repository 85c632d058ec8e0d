"""Random views of a person: every draw of an epoch at once, and one affine a sample that holds them all.

Scale, rotation, mirror and half body become a single matrix, so each sample is warped once, whoever does the warping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simplepose.config import AugmentConfig
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.data.annotations import Annotations
from simplepose.pose import geometry


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of N samples."""

    scales: np.ndarray
    """(N,) factor on the region's size."""
    rotations: np.ndarray
    """(N,) degrees."""
    flips: np.ndarray
    """(N,) bool."""
    half_body: np.ndarray
    """(N,) 0 = whole, 1 = upper body, 2 = lower body."""
    shifts: np.ndarray
    """(N, 2) share of the region's width and height by which it moves."""

    def __getitem__(self, rows: np.ndarray | slice) -> Draws:
        return Draws(
            self.scales[rows],
            self.rotations[rows],
            self.flips[rows],
            self.half_body[rows],
            self.shifts[rows],
        )


def draw(rng: np.random.Generator, annotations: Annotations, config: AugmentConfig) -> Draws:
    """Draws for all N people of `annotations` at once, as the table of the two references says."""
    count = len(annotations)
    factor, degrees = config.scale_factor, config.rotation_degrees
    scales = np.clip(rng.standard_normal(count) * factor + 1, 1 - factor, 1 + factor)
    rotations = np.clip(rng.standard_normal(count) * degrees, -2 * degrees, 2 * degrees)
    rotations = np.where(rng.random(count) < config.rotation_probability, rotations, 0.0)
    flips = rng.random(count) < config.flip_probability
    half_body = _draw_half_body(rng, annotations, config)
    shifts = (
        rng.uniform(-config.shift_factor, config.shift_factor, (count, 2))
        if config.shift_factor
        else np.zeros((count, 2))
    )
    return Draws(scales, rotations, flips, half_body, shifts)


def no_draws(count: int) -> Draws:
    """The identity: nothing is changed."""
    return Draws(
        np.ones(count),
        np.zeros(count),
        np.zeros(count, bool),
        np.zeros(count, np.int64),
        np.zeros((count, 2)),
    )


def augment_of_epoch(config: AugmentConfig, epoch: int, epochs: int) -> AugmentConfig:
    """Strong, then weak: the changes of epoch `epoch` (from 0) of `epochs`, see `AugmentConfig.weak_epochs`."""
    if epoch < epochs - config.weak_epochs:
        return config
    return AugmentConfig(
        scale_factor=config.scale_factor / 2,
        rotation_degrees=config.rotation_degrees / 2,
        shift_factor=config.shift_factor / 2,
        rotation_probability=config.rotation_probability,
        flip_probability=config.flip_probability,
    )


def _draw_half_body(
    rng: np.random.Generator, annotations: Annotations, config: AugmentConfig
) -> np.ndarray:
    """Upper (1) with probability .7, else lower (2); the other half where the chosen one has fewer than 3 keypoints (HRNet's rule)."""
    count = len(annotations)
    wanted, upper_first = rng.random(count) < config.half_body_probability, rng.random(count) < 0.7
    upper, lower = drawable_halves(annotations, config)
    half = np.where(upper_first, np.where(upper, 1, 2), np.where(lower, 2, 1))
    return np.where(wanted & (upper | lower), half, 0)


def drawable_halves(
    annotations: Annotations, config: AugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool each: whether the upper and the lower half of a person can be drawn. It needs 3 keypoints of its own, and the person enough in all."""
    schema, seen = annotations.schema, annotations.visibility > 0
    if not config.half_body_probability or not schema.upper_body or not schema.lower_body:
        return np.zeros(len(annotations), bool), np.zeros(len(annotations), bool)
    enough = seen.sum(1) > config.half_body_min_keypoints
    upper, lower = (
        enough & (seen[:, list(part)].sum(1) > 2) for part in (schema.upper_body, schema.lower_body)
    )
    return upper, lower


def sample_affines(
    annotations: Annotations,
    rows: np.ndarray,
    draws: Draws,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
) -> np.ndarray:
    """The affine *unmirrored* picture -> crop of each sample, mirror included.

    Args:
        annotations: the data set.
        rows: (B,) which people.
        draws: their random numbers, already selected to (B,).
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.pose.geometry`.

    Returns:
        to_crop (B, 2, 3) float64. A crop of a mirrored picture is mirrored itself.
    """
    widths = annotations.image_sizes_wh[annotations.image_index[rows], 0].astype(np.float64)
    centers, sizes = geometry.fit_boxes(_boxes(annotations, rows, draws.half_body), input_size_wh)
    centers = centers + draws.shifts * sizes * draws.scales[:, None]
    centers[:, 0] = np.where(draws.flips, widths - 1 - centers[:, 0], centers[:, 0])
    to_crop = geometry.crop_affines(
        centers, sizes * draws.scales[:, None], input_size_wh, draws.rotations, udp=udp
    )
    return np.where(draws.flips[:, None, None], geometry.mirror_pictures(to_crop, widths), to_crop)


def _boxes(annotations: Annotations, rows: np.ndarray, half_body: np.ndarray) -> np.ndarray:
    """(B, 4) xyxy: the annotated box, or the extent of one body half x 1.2 (the padding of 1.25 follows: 1.5 in all, as HRNet)."""
    boxes = xywh_to_xyxy(annotations.bbox_xywh[rows].astype(np.float64))
    for sample in np.flatnonzero(half_body):
        part = list(
            annotations.schema.upper_body
            if half_body[sample] == 1
            else annotations.schema.lower_body
        )
        seen = annotations.visibility[rows[sample], part] > 0
        points = annotations.keypoints[rows[sample], part][seen].astype(np.float64)
        center, size = points.mean(0), np.maximum(np.ptp(points, axis=0), 1.0) * 1.2
        boxes[sample] = np.concatenate([center - size / 2, center + size / 2])
    return boxes


def sample_keypoints(
    annotations: Annotations, rows: np.ndarray, draws: Draws, to_crop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of each sample in crop pixels, left and right swapped where the picture is mirrored.

    Returns:
        keypoints (B, K, 2) float32 and visible (B, K) bool.
    """
    keypoints = geometry.transform_points(to_crop, annotations.keypoints[rows])
    visible = annotations.visibility[rows] > 0
    order = np.where(
        draws.flips[:, None], annotations.schema.flip_order, np.arange(len(annotations.schema))
    )
    keypoints = np.take_along_axis(keypoints, order[..., None], axis=1)
    return keypoints.astype(np.float32), np.take_along_axis(visible, order, axis=1)
