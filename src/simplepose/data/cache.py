"""Where the pixels of a training set live: files, a pack, the host's memory, or the device's.

Every place answers one question, `view(row)`: the decoded pixels around person `row`, and where in the picture they are. The loader does
the rest, so training sees the same samples wherever they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations
from simplepose.data.picture_sizes import check_size, read_sized
from simplepose.data.read_ahead import in_order
from simplepose.data.regions import View

OUTSIDE = np.zeros((1, 1, 3), np.uint8)
"""Stands for an empty region: all views of the person lie outside the picture and are black."""


class PixelSource(Protocol):
    """Where pixels come from; any number of threads may ask at once."""

    def view(self, row: int) -> View:
        """Pixels that hold all that a crop of person `row` needs.

        Raises:
            UserError: the picture cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Decodes the whole picture for each person, every time: the references' way, and the oracle of the others."""

    annotations: Annotations
    """The people."""

    def view(self, row: int) -> View:
        """The whole picture."""
        return View(read_image(self.annotations.image_paths[self.annotations.image_index[row]]))


@dataclass(frozen=True, slots=True)
class Ram:
    """Decoded pixels in the host's memory: whole pictures shared by their people, or one region a person."""

    pixels: dict[int, np.ndarray]
    """Picture index -> pixels, or row -> pixels."""
    origins: dict[int, tuple[int, int]] | None
    """Row -> first pixel of its region; None where whole pictures are held."""
    image_index: np.ndarray
    """(N,) picture of each row."""
    broken: dict[int, str]
    """Picture index -> why it could not be read."""

    def view(self, row: int) -> View:
        """The picture or the person's region."""
        picture = int(self.image_index[row])
        if picture in self.broken:
            raise UserError(self.broken[picture])
        return (
            View(self.pixels[picture])
            if self.origins is None
            else View(self.pixels[row], self.origins[row])
        )

    @property
    def bytes(self) -> int:
        """Size of the pixels."""
        return sum(array.nbytes for array in self.pixels.values())


@dataclass(frozen=True, slots=True)
class Resident:
    """Decoded pixels in the device's memory, one after another in a single buffer."""

    buffer: torch.Tensor
    """(P, 3) uint8 on the device."""
    starts: np.ndarray
    """(N,) int64 first pixel of each person's picture or region; -1 where the picture is broken."""
    sizes_wh: np.ndarray
    """(N, 2) int64 its size."""
    origins: np.ndarray
    """(N, 2) int64 where in the picture it begins."""
    reasons: dict[int, str]
    """Row -> why its picture could not be read."""

    def view(self, row: int) -> View:
        """A copy in host memory, for looking at."""
        if self.starts[row] < 0:
            raise UserError(self.reasons[row])
        start, (width, height) = self.starts[row], self.sizes_wh[row]
        part = self.buffer[start : start + width * height].cpu().numpy().reshape(height, width, 3)
        return View(part, (int(self.origins[row, 0]), int(self.origins[row, 1])))


def picture_bytes(annotations: Annotations) -> int:
    """Memory of all decoded pictures that have people; one whose size stayed unknown is broken and takes none."""
    return int(
        annotations.image_sizes_wh[np.unique(annotations.image_index)]
        .astype(np.int64)
        .prod(1)
        .sum()
        * 3
    )


def fill_ram(
    annotations: Annotations,
    regions: np.ndarray | None,
    *,
    rows: np.ndarray | None = None,
    workers: int = 2,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Ram:
    """Decodes every picture once, in parallel.

    Args:
        annotations: N people.
        regions: (N, 4) parts to keep of each person, or None to keep whole pictures.
        rows: people of this process; all by default.
        workers: decoding threads.
        skip_broken: keep the reason instead of stopping at a picture that cannot be read.
        progress: called with (pictures done, pictures in all).
    """
    pixels: dict[int, np.ndarray] = {}
    origins: dict[int, tuple[int, int]] = {}
    broken: dict[int, str] = {}
    sized = regions is not None
    for picture, people, image in decoded(
        annotations,
        rows,
        sized=sized,
        workers=workers,
        skip_broken=skip_broken,
        progress=progress,
        broken=broken,
    ):
        if regions is None:
            pixels[picture] = image
            continue
        for row in people.tolist():
            left, top, right, bottom = regions[row].tolist()
            part = image[top:bottom, left:right].copy()
            pixels[row], origins[row] = part if part.size else OUTSIDE, (left, top)
    return Ram(pixels, None if regions is None else origins, annotations.image_index, broken)


def fill_device(
    annotations: Annotations,
    regions: np.ndarray | None,
    device: torch.device,
    *,
    rows: np.ndarray | None = None,
    workers: int = 2,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Resident:
    """Decodes every picture once and copies it to the device; arguments as `fill_ram`. Host memory holds a few pictures at a time."""
    people = np.arange(len(annotations)) if rows is None else np.sort(rows)
    pictures = np.unique(annotations.image_index[people])
    sizes = annotations.image_sizes_wh.astype(np.int64)
    starts, origins = np.full(len(annotations), -1), np.zeros((len(annotations), 2), np.int64)
    if regions is None:
        extents = annotations.person_sizes_wh.astype(np.int64)
        total = int(sizes[pictures].prod(1).sum())
    else:
        extents = regions[:, 2:] - regions[:, :2]
        origins = regions[:, :2].copy()
        total = int(extents[people].prod(1).sum())
    buffer = torch.empty(
        (max(total, 1), 3), dtype=torch.uint8, device=device
    )  # at least one pixel, for the warp to point at
    broken: dict[int, str] = {}
    first = 0

    def put(part: np.ndarray) -> int:
        nonlocal first
        place, count = first, part.shape[0] * part.shape[1]
        buffer[place : place + count].copy_(
            torch.from_numpy(np.ascontiguousarray(part)).view(-1, 3)
        )
        first += count
        return place

    for _, mine, image in decoded(
        annotations,
        people,
        sized=True,
        workers=workers,
        skip_broken=skip_broken,
        progress=progress,
        broken=broken,
    ):
        if regions is None:
            starts[mine] = put(image)
            continue
        for row in mine.tolist():
            left, top, right, bottom = regions[row].tolist()
            starts[row] = put(image[top:bottom, left:right])
    reasons = {
        int(row): broken[int(annotations.image_index[row])]
        for row in people
        if int(annotations.image_index[row]) in broken
    }
    return Resident(buffer, starts, extents, origins, reasons)


def decoded(
    annotations: Annotations,
    rows: np.ndarray | None,
    *,
    sized: bool,
    workers: int,
    skip_broken: bool,
    progress: Callable[[int, int], None] | None,
    broken: dict[int, str],
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each picture with people once, in order: (picture, rows of its people, pixels); a bounded number is decoded ahead by threads.

    With `sized` a picture must have the size that is known of it; the other arguments as `fill_ram`.
    """
    people = np.arange(len(annotations)) if rows is None else np.asarray(rows)
    order = people[np.argsort(annotations.image_index[people], kind="stable")]
    pictures, firsts = np.unique(annotations.image_index[order], return_index=True)
    groups = np.split(order, firsts[1:]) if len(order) else []

    def read(job: tuple[int, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray] | None:
        picture, mine = job
        try:
            image = (
                read_sized(annotations, picture)
                if sized
                else read_image(annotations.image_paths[picture])
            )
        except UserError as error:
            if not skip_broken:
                raise UserError(
                    f"{error}; or go on without such pictures: --data.skip-broken"
                ) from error
            broken[picture] = str(error)
            return None
        if sized:
            check_size(annotations, picture, image)
        return picture, mine, image

    jobs = zip(pictures.tolist(), groups, strict=True)
    for done, found in enumerate(in_order(read, jobs, workers, 2 * workers + 2), 1):
        if progress is not None:
            progress(done, len(pictures))
        if found is not None:
            yield found
