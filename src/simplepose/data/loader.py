"""Annotations -> batches on their way to the device, where all crops of a batch may be cut at once.

Threads read, cut and warp (the JPEG decoder and cv2 release the GIL); only uint8 pixels and
keypoints leave here. Every random number of an epoch is drawn from (seed, epoch) before it starts,
so a sample does not depend on threads, on where its pixels come from, or on where training was
interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from simplepose.config import AugmentConfig
from simplepose.core.device import copy_beside, page_lock, page_locked
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.augment import (
    View,
    epoch_samples,
    from_view,
    needed_regions,
    sample_affines,
    sample_keypoints,
)
from simplepose.data.cache import CPU, Files, Memory, PixelSource
from simplepose.data.pictures import in_order, skipping
from simplepose.pose import geometry

AHEAD = 4
"""Batches that are prepared while one is used, or more where there are more threads: each batch is
the work of one."""


class Regions(NamedTuple):
    """B parts of pictures in one buffer, not yet cut to crops."""

    buffer: torch.Tensor
    """(P, 3) uint8 RGB pixels, row by row, region after region; in host memory, or a whole data
    set in the device's."""
    starts: torch.Tensor
    """(B,) int64 first pixel of each region."""
    sizes_wh: torch.Tensor
    """(B, 2) int64."""
    to_region: torch.Tensor
    """(B, 2, 3) float32 crop -> region."""
    input_size_wh: tuple[int, int]
    """Size of the crops."""

    def warp(self) -> torch.Tensor:
        """The crops: (B, 3, H, W) uint8, channels-last in memory."""
        return warp_regions(*self)


@dataclass(frozen=True)
class Batch:
    """B training samples."""

    pixels: torch.Tensor | Regions
    """(B, 3, H, W) uint8 RGB crops, channels-last in memory, or the parts of pictures that `to`
    cuts them from."""
    keypoints: torch.Tensor
    """(B, K, 2) float32 in input pixels."""
    visibility: torch.Tensor
    """(B, K) uint8: v as annotated, 0, 1 or 2; from 1 on a keypoint is trained."""
    rows: np.ndarray
    """(B,) rows of the annotations."""
    index: int = 0
    """Number of the batch in its epoch."""
    loss_weight: float = 1.0
    """Weight of its mean loss among several processes: its people x processes / people of this
    update on all processes."""

    def to(
        self, device: torch.device, cut: Callable[[Regions], torch.Tensor] = Regions.warp
    ) -> Batch:
        """The batch on the device, its crops cut there by `cut` if they are not yet; it is copied
        while the step before is at work."""
        moved = self.each(lambda part: copy_beside(part, device))
        pixels = moved.pixels
        return replace(moved, pixels=cut(pixels) if isinstance(pixels, Regions) else pixels)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The same with all tensors changed."""
        pixels = self.pixels
        return replace(
            self,
            pixels=Regions._make([*map(change, pixels[:-1]), pixels.input_size_wh])
            if isinstance(pixels, Regions)
            else change(pixels),
            keypoints=change(self.keypoints),
            visibility=change(self.visibility),
        )


def warp_regions(
    buffer: torch.Tensor,
    starts: torch.Tensor,
    sizes_wh: torch.Tensor,
    to_region: torch.Tensor,
    input_size_wh: tuple[int, int],
) -> torch.Tensor:
    """Cuts B crops: bilinear between pixel centres at whole numbers, 0 outside a region, as
    `cv2.warpAffine` with a constant border.

    Args:
        buffer: (P, 3) uint8.
        starts: (B,) int64 first pixel of each region.
        sizes_wh: (B, 2) int64.
        to_region: (B, 2, 3) float32 crop -> region.
        input_size_wh: size of the crops.

    Returns:
        (B, 3, H, W) uint8, channels-last in memory. Within one grey level of OpenCV 5, which also
        interpolates without rounding positions.
    """
    columns, lines = (
        torch.arange(size, device=buffer.device, dtype=torch.float32) for size in input_size_wh
    )
    m = to_region[:, :, :, None, None]  # (B, 2, 3, 1, 1)
    position = m[:, :, 0] * columns + m[:, :, 1] * lines[:, None] + m[:, :, 2]  # (B, 2, H, W)
    corner = position.floor()
    weight_x, weight_y = (position - corner).unbind(1)
    left, top = corner.long().unbind(1)
    widths, heights = sizes_wh[:, 0, None, None], sizes_wh[:, 1, None, None]
    total = torch.zeros((*top.shape, 3), device=buffer.device)
    for row, part_y in ((top, 1 - weight_y), (top + 1, weight_y)):
        inside_y = (row >= 0) & (row < heights)
        line = starts[:, None, None] + row * widths
        for column, part_x in ((left, 1 - weight_x), (left + 1, weight_x)):
            inside = inside_y & (column >= 0) & (column < widths)
            taps = buffer.index_select(0, torch.where(inside, line + column, 0).flatten())
            weights = (part_x * part_y * inside)[..., None]
            total += taps.view(total.shape) * weights  # (B, H, W, 3) float32
    return total.add_(0.5).to(torch.uint8).permute(0, 3, 1, 2)


@dataclass
class TrainLoader:
    """Batches of augmented people, one epoch at a time.

    As it stands it is the reference: full decode of the file, cv2 warp.

    Raises:
        UserError: fewer people than processes.
    """

    annotations: Annotations
    """Trainable people only (`Annotations.trainable`)."""
    augment: AugmentConfig
    """Random changes."""
    input_size_wh: tuple[int, int]
    """Size of the crops."""
    batch_size: int
    """People a batch on each process; the last batch of an epoch may be smaller, see `fill`."""
    seed: int
    """With the epoch's number it decides order and augmentation."""
    workers: int = 2
    """Reading threads."""
    udp: bool = False
    """Unit convention, see `simplepose.pose.geometry`."""
    skip_broken: bool = False
    """Leave unreadable pictures out, counted in `broken`, instead of stopping."""
    fill: bool = False
    """Complete the last batch with people of the next epoch, see `epoch_samples`."""
    source: PixelSource | None = None
    """Where pixels live (`simplepose.data.cache`); the picture files by default."""
    device: torch.device = CPU
    """Where batches go; decides whether host memory is page-locked."""
    warp_on_device: bool = False
    """Hand out the parts of pictures that crops need and cut the crops in `Batch.to`."""
    rank: int = 0
    """This process."""
    world_size: int = 1
    """All processes."""
    apart: bool = False
    """Every process keeps to its own people (`owners`; its cache holds no others) and shuffles
    among them."""
    broken: dict[str, str] = field(default_factory=dict)
    """Pictures left out so far: path -> reason."""

    def __post_init__(self) -> None:
        if len(self.annotations) < self.world_size:
            raise UserError(
                f"{self.annotations.source} has {len(self.annotations)} people to train on for "
                f"{self.world_size} processes. Cure: start fewer processes"
            )
        self.source = self.source or Files(self.annotations)

    def __len__(self) -> int:
        """Batches an epoch: people / people an update, rounded up, but without `fill` no more than
        leave one person for each process."""
        people = len(self.annotations)
        steps = -(-people // (self.batch_size * self.world_size))
        return steps if self.fill else min(steps, people // self.world_size)

    def no_picture(self, number: int) -> UserError:
        """What is wrong when epoch `number` gave no batch at all."""
        return UserError(
            f"no picture of epoch {number + 1} can be read, first: "
            f"{next(iter(self.broken.values()), 'unknown')}. "
            "Cure: check the folder of the training pictures"
        )

    def samples(self, number: int) -> list[tuple[np.ndarray, np.recarray, float]]:
        """Rows, draws and loss weight of each batch of this process in epoch `number`."""
        together = self.batch_size * self.world_size
        order, draws = epoch_samples(
            self.annotations,
            self.augment,
            seed=self.seed,
            number=number,
            batch_size=together,
            fill=self.fill,
        )
        ranks = self._deal(order, together)
        sizes = np.array([[len(batch) for batch in batches] for batches in ranks])
        weights = (sizes[self.rank] * self.world_size / sizes.sum(0)).tolist()
        mine = zip(ranks[self.rank], weights, strict=True)
        return [(order[batch], draws[batch], weight) for batch, weight in mine]

    def _deal(self, order: np.ndarray, together: int) -> list[list[np.ndarray]]:
        """Indices into `order` of each batch of each process: each sample in exactly one.

        An update's people are one piece of `order`, as they would be with one process, cut into
        nearly equal parts. Where the last piece is smaller than the number of processes it takes a
        few from the one before, so that no process stands without work.
        """
        count, steps = self.world_size, len(self)
        if self.apart:
            owner = owners(self.annotations.image_index, count)[order]
            return [np.array_split(np.flatnonzero(owner == rank), steps) for rank in range(count)]
        ends = np.minimum(np.arange(1, steps) * together, len(order) - count)
        updates = np.split(np.arange(len(order)), ends)
        dealt = [np.array_split(update, count) for update in updates]
        return [[parts[rank] for parts in dealt] for rank in range(count)]

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            number: which epoch; with the seed it decides everything random.
            start: first batch, to go on after an interruption.

        Raises:
            UserError: a picture cannot be read and `skip_broken` is off.
        """
        samples = self.samples(number)
        jobs = ((index, *samples[index]) for index in range(start, len(samples)))
        ahead = max(AHEAD, self.workers + 1)
        for batch in in_order(lambda job: self._batch(*job), jobs, self.workers, ahead):
            if batch is not None:
                yield batch

    def _batch(
        self, index: int, rows: np.ndarray, draws: np.recarray, weight: float
    ) -> Batch | None:
        """Everything about one batch; None where no picture of it can be read."""
        to_crop = sample_affines(self.annotations, rows, draws, self.input_size_wh, udp=self.udp)
        source = self.source
        pixels: torch.Tensor | Regions
        if not self.warp_on_device:
            pixels, good = self._warp(rows, to_crop)
        elif isinstance(source, Memory) and source.buffer.device.type == self.device.type:
            pixels, good = self._point(source, rows, to_crop)
        else:
            pixels, good = self._copy(rows, to_crop)
        if not good.any():
            if self.world_size == 1:
                return None
            raise UserError(
                f"no picture of batch {index} can be read ({next(iter(self.broken.values()))}), "
                "and the other processes wait for it. "
                "Cure: take the unreadable pictures out of the annotation file"
            )
        keypoints, visibility = sample_keypoints(
            self.annotations, rows[good], draws[good], to_crop[good]
        )
        tensors = torch.from_numpy(keypoints), torch.from_numpy(visibility)
        batch = Batch(pixels, *tensors, rows[good], index, weight)
        return batch.each(lambda part: page_lock(part, self.device))

    def _view(self, row: int) -> View | None:
        """The pixels around a person; None where the picture is broken and may be skipped."""
        path = self.annotations.image_paths[self.annotations.image_index[row]]
        try:
            with skipping(self.broken if self.skip_broken else None, path):
                return self.source.view(row)  # type: ignore[union-attr]
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"a reading thread failed at {path}: {error!r}. "
                "Cure: check the file, or report this"
            ) from error
        return None

    def _warp(self, rows: np.ndarray, to_crop: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Crops that OpenCV cuts, (G, 3, H, W) channels-last, and which samples could be read."""
        width, height = self.input_size_wh
        shape, pinned = (len(rows), height, width, 3), page_locked(self.device)
        crops, good = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned), rows >= 0
        for sample, row in enumerate(rows.tolist()):
            view = self._view(row)
            good[sample] = view is not None
            if view is not None and view.pixels.size:
                to_view = from_view(to_crop[sample], *view[1:])
                geometry.warp_crop(view.pixels, to_view, self.input_size_wh, crops[sample].numpy())
        return (crops if good.all() else crops[torch.from_numpy(good)]).permute(0, 3, 1, 2), good

    def _copy(self, rows: np.ndarray, to_crop: np.ndarray) -> tuple[Regions, np.ndarray]:
        """Copies the part that each crop needs into one buffer."""
        views = [self._view(row) for row in rows.tolist()]
        good = np.array([view is not None for view in views])
        held = [view for view in views if view is not None]
        places = [(view.pixels.shape[1::-1], *view[1:]) for view in held]
        sizes, origins, ratios = np.array(places, np.float64).reshape(-1, 3, 2).swapaxes(0, 1)
        to_view = from_view(to_crop[good], origins, ratios)
        needed = needed_regions(to_view, self.input_size_wh, sizes)
        extents = needed[:, 2:] - needed[:, :2]
        ends = extents.prod(1).cumsum()
        # One pixel at least, for the warp to point at.
        count, pinned = max([1, *ends[-1:]]), page_locked(self.device)
        buffer = torch.empty((count, 3), dtype=torch.uint8, pin_memory=pinned)
        pixels = buffer.numpy()
        for view, (left, top, right, bottom), end in zip(held, needed, ends, strict=True):
            part = view.pixels[top:bottom, left:right]
            pixels[end - part.size // 3 : end].reshape(part.shape)[:] = part
        to_part = from_view(to_view, needed[:, :2])
        return self._regions(buffer, ends - extents.prod(1), extents, to_part), good

    def _point(
        self, source: Memory, rows: np.ndarray, to_crop: np.ndarray
    ) -> tuple[Regions, np.ndarray]:
        """Points into the device's memory: nothing is copied."""
        good = source.starts[rows] >= 0
        for row in rows[~good].tolist():
            self._view(row)
        kept = rows[good]
        held = source.regions[kept]
        moved = from_view(to_crop[good], held[:, :2])
        sizes = held[:, 2:] - held[:, :2]
        return self._regions(source.buffer, source.starts[kept], sizes, moved), good

    def _regions(
        self, buffer: torch.Tensor, starts: np.ndarray, sizes_wh: np.ndarray, to_crop: np.ndarray
    ) -> Regions:
        """The value that `Batch.to` turns into crops."""
        to_region = geometry.invert_affines(to_crop).astype(np.float32)
        places = map(torch.from_numpy, (starts, sizes_wh, to_region))
        return Regions._make([buffer, *places, self.input_size_wh])


def owners(image_index: np.ndarray, world_size: int) -> np.ndarray:
    """(N,) the process that keeps each person in its cache: equal numbers of people, and people of
    one picture together where possible."""
    owner = np.empty(len(image_index), np.int64)
    ordered = np.arange(len(image_index)) * world_size // max(len(image_index), 1)
    owner[np.argsort(image_index, kind="stable")] = ordered
    return owner
