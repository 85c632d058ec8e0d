"""Random views of people: every draw of an epoch at once, one affine a sample, and the looks of
a crop.

Scale, rotation, mirror and half body become a single matrix, so each sample is warped once,
whoever does the warping. Colours and occlusions change whole batches of crops on their device.
Regions are the whole pixels (x1, y1, x2, y2), x2 and y2 exclusive, cut to the picture, that a crop
or any random view of a person needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from simplepose.config import AugmentConfig
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.data.annotations import Annotations
from simplepose.pose import geometry
from simplepose.pose.pixels import constant

DRAWS = np.dtype(
    [
        ("scales", float),
        ("rotations", float),
        ("flips", bool),
        ("half_body", int),
        ("shifts", float, 2),
    ]
)
"""The random numbers of a sample: factor on the region's size, degrees, whether it is mirrored,
0 = whole, 1 = upper, 2 = lower body, and the fraction of the region's size by which it moves."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
CUTOUT_SIDES = (0.15, 0.4)
"""Sides of the cut-out rectangle as fractions of the crop's."""
GRID_PERIODS = (0.2, 0.5)
"""Distance of the grid's squares as a fraction of the crop's longer side; a square is half as
wide."""


def epoch_samples(
    annotations: Annotations,
    augment: AugmentConfig,
    *,
    seed: int,
    number: int,
    batch_size: int,
    fill: bool,
) -> tuple[np.ndarray, np.recarray]:
    """The samples of one epoch, in order, from (seed, epoch) alone: a run can go on anywhere.

    Every person comes once, in a new order (Microsoft's reference). With `fill` (the seed) full
    batches are cut from one endless stream of such orders, and people of the next one complete
    the last batch of an epoch.

    Args:
        annotations: N people, at least one.
        augment: random changes.
        seed: of the run.
        number: which epoch, from 0.
        batch_size: people an update, all devices together.
        fill: complete the last batch.

    Returns:
        rows (S,) of the annotations and their `DRAWS` (S,). S is N, or with `fill` the next
        multiple of `batch_size`.
    """
    people = len(annotations)
    size = -(-people // batch_size) * batch_size if fill else people
    first = number * size
    orders, draws = [], []
    for index in range(first // people, -(-(first + size) // people)):
        rng = np.random.default_rng([seed, index])
        orders.append(rng.permutation(people))
        draws.append(draw(rng, annotations, augment)[orders[-1]])
    inside = slice(first % people, first % people + size)
    return np.concatenate(orders)[inside], np.concatenate(draws)[inside].view(np.recarray)


def draw(rng: np.random.Generator, annotations: Annotations, config: AugmentConfig) -> np.recarray:
    """`DRAWS` (N,) for all people of `annotations` at once, as the two references draw them."""
    count, factor, degrees = len(annotations), config.scale_factor, config.rotation_degrees
    draws = no_draws(count)
    draws.scales = np.clip(rng.standard_normal(count) * factor + 1, 1 - factor, 1 + factor)
    rotations = np.clip(rng.standard_normal(count) * degrees, -2 * degrees, 2 * degrees)
    draws.rotations = np.where(rng.random(count) < config.rotation_probability, rotations, 0.0)
    # drawn even where nothing is mirrored, so that the other draws stay the same
    mirrored = config.flip_probability if annotations.schema.knows_sides else 0
    draws.flips = rng.random(count) < mirrored
    # HRNet's rule: the upper half with probability .7, the other where the chosen one is too small.
    wanted, upper_first = rng.random(count) < config.half_body_probability, rng.random(count) < 0.7
    upper, lower = drawable_halves(annotations, config)
    half = np.where(upper_first, np.where(upper, 1, 2), np.where(lower, 2, 1))
    draws.half_body = np.where(wanted & (upper | lower), half, 0)
    draws.shifts = rng.uniform(-config.shift_factor, config.shift_factor, (count, 2))
    return draws


def no_draws(count: int) -> np.recarray:
    """The identity: nothing is changed."""
    draws = np.zeros(count, DRAWS).view(np.recarray)
    draws.scales = 1
    return draws


def augment_of_epoch(config: AugmentConfig, epoch: int, epochs: int) -> AugmentConfig:
    """Strong, then weak: the changes of epoch `epoch` (from 0) of `epochs`, see
    `AugmentConfig.weak_epochs`."""
    if epoch < epochs - config.weak_epochs:
        return config
    return AugmentConfig(
        scale_factor=config.scale_factor / 2,
        rotation_degrees=config.rotation_degrees / 2,
        shift_factor=config.shift_factor / 2,
        rotation_probability=config.rotation_probability,
        flip_probability=config.flip_probability,
    )


def drawable_halves(annotations: Annotations, config: AugmentConfig) -> np.ndarray:
    """(2, N) bool: whether the upper and the lower half of a person can be drawn. A half needs 3
    keypoints of its own, and the person enough in all."""
    schema, seen = annotations.schema, annotations.visibility > 0
    if not config.half_body_probability or not schema.upper_body or not schema.lower_body:
        return np.zeros((2, len(seen)), bool)
    enough = seen.sum(1) > config.half_body_min_keypoints
    halves = (schema.upper_body, schema.lower_body)
    return np.stack([enough & (seen[:, list(half)].sum(1) > 2) for half in halves])


def sample_affines(
    annotations: Annotations,
    rows: np.ndarray,
    draws: np.recarray,
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
    scales = draws.scales[:, None]
    centers = centers + draws.shifts * sizes * scales
    centers[:, 0] = np.where(draws.flips, widths - 1 - centers[:, 0], centers[:, 0])
    sizes = sizes * scales
    to_crop = geometry.crop_affines(centers, sizes, input_size_wh, draws.rotations, udp=udp)
    return np.where(draws.flips[:, None, None], geometry.mirror_pictures(to_crop, widths), to_crop)


def _boxes(annotations: Annotations, rows: np.ndarray, half_body: np.ndarray) -> np.ndarray:
    """(B, 4) xyxy: the annotated box, or the extent of one body half x 1.2 (the padding of 1.25
    follows: 1.5 in all, as HRNet)."""
    boxes = xywh_to_xyxy(annotations.bbox_xywh[rows].astype(np.float64))
    halves = ((), annotations.schema.upper_body, annotations.schema.lower_body)
    for sample in np.flatnonzero(half_body):
        part, row = list(halves[half_body[sample]]), rows[sample]
        seen = annotations.visibility[row, part] > 0
        points = annotations.keypoints[row, part][seen].astype(np.float64)
        center, size = points.mean(0), np.maximum(np.ptp(points, axis=0), 1.0) * 1.2
        boxes[sample] = np.concatenate([center - size / 2, center + size / 2])
    return boxes


def sample_keypoints(
    annotations: Annotations, rows: np.ndarray, draws: np.recarray, to_crop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of each sample in crop pixels, left and right swapped where the picture is
    mirrored.

    Returns:
        keypoints (B, K, 2) float32 and visibility (B, K) uint8, 0, 1 or 2.
    """
    schema = annotations.schema
    keypoints = geometry.transform_points(to_crop, annotations.keypoints[rows])
    order = np.where(draws.flips[:, None], schema.flip_order, np.arange(len(schema)))
    keypoints = np.take_along_axis(keypoints, order[..., None], axis=1)
    visibility = np.take_along_axis(annotations.visibility[rows], order, axis=1)
    return keypoints.astype(np.float32), visibility


def draw_appearance(count: int, config: AugmentConfig) -> torch.Tensor | None:
    """The random numbers that `change_appearance` needs: (12, B) float32 on the CPU, even in 0..1;
    None where nothing is changed.

    They come from torch's CPU generator, whose state a run saves, and are drawn apart from their
    use, so that a compiler can join the change itself with the rest of the step.
    """
    changes = config.colour or config.cutout_probability or config.grid_probability
    return torch.rand(12, count) if changes else None


def change_appearance(
    pixels: torch.Tensor, draws: torch.Tensor | None, config: AugmentConfig
) -> torch.Tensor:
    """Colour jitter, cut-out and grid as the fields say.

    Args:
        pixels: (B, 3, H, W) uint8 RGB.
        draws: (12, B) from `draw_appearance`, on the same device; None leaves the bytes.
        config: `colour`, `cutout_probability`, `grid_probability`.

    Returns:
        (B, 3, H, W) uint8 on the same device, the same memory layout.
    """
    if draws is None:
        return pixels
    values = pixels.float()
    if config.colour:
        factors = 1 + config.colour * (2 * draws[:3] - 1)
        values = jitter_colours(values, *factors[..., None, None, None])
    hidden = occlusion_masks(draws[3:, :, None], pixels.shape[-1], pixels.shape[-2], config)
    values = torch.where(hidden[:, None], values.mean((2, 3), keepdim=True), values)
    return values.round().clamp(0, 255).to(torch.uint8)


def jitter_colours(
    values: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> torch.Tensor:
    """Multiplies brightness, then the distance to the mean grey of each crop, then the distance of
    each pixel to its own grey.

    Args:
        values: (B, 3, H, W) float in 0..255.
        brightness: (B, 1, 1, 1) factors, as `contrast` and `saturation`.

    Returns:
        (B, 3, H, W) float, not clipped at the end; black padding stays dark.
    """
    weights = constant(GREY, values.device).view(1, 3, 1, 1)
    values = (values * brightness).clamp(max=255)
    mean = (values * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    values = mean + (values - mean) * contrast
    grey = (values * weights).sum(1, keepdim=True)
    return grey + (values - grey) * saturation


def occlusion_masks(
    draws: torch.Tensor, width: int, height: int, config: AugmentConfig
) -> torch.Tensor:
    """(B, H, W) bool on the device of `draws` (9, B, 1), even in 0..1: what is hidden in each crop.

    Every number is drawn whether it is used or not, so streams stay aligned.
    """
    x, y = (torch.arange(size, device=draws.device) for size in (width, height))
    low, high = CUTOUT_SIDES
    sides = low + (high - low) * draws[:2]
    columns = (x / width - draws[2]).abs() < sides[0] / 2  # (B, W)
    rows = (y / height - draws[3]).abs() < sides[1] / 2  # (B, H)
    columns = columns & (draws[4] < config.cutout_probability)
    low, high = GRID_PERIODS
    period = (low + (high - low) * draws[5]) * max(width, height)
    grid_columns = ((x / period + draws[6]) % 1 < 0.5) & (draws[8] < config.grid_probability)
    grid_rows = (y / period + draws[7]) % 1 < 0.5
    return (rows[:, :, None] & columns[:, None]) | (grid_rows[:, :, None] & grid_columns[:, None])


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
