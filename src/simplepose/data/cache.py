"""Where the pixels of a training set live: files, a pack, the host's memory, or the device's.

Every source answers one question, `view(row)`: the decoded pixels around person `row`, and where
in the picture they are. The loader does the rest, so training sees the same samples wherever they
come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from simplepose.config import AugmentConfig, DataConfig
from simplepose.core.device import is_accelerator, local_processes, memory_bytes
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.augment import View, person_views
from simplepose.data.pack import open_pack
from simplepose.data.pictures import (
    by_picture,
    in_order,
    read_picture,
    read_sized,
    with_picture_sizes,
)

CPU = torch.device("cpu")
HOST_FRACTION, DEVICE_FRACTION = 0.6, 0.5
"""Part of the free memory that a cache may take: the rest is for the network, its activations, and
other programs."""


class PixelSource(Protocol):
    """Where pixels come from; any number of threads may ask at once."""

    def view(self, row: int) -> View:
        """Pixels that hold all that a crop of person `row` needs.

        Raises:
            UserError: the picture cannot be read.
        """
        ...


@dataclass(frozen=True)
class Files:
    """Decodes the whole picture for each person, every time: the references' way, and the oracle
    of the others."""

    annotations: Annotations
    """The people."""

    def view(self, row: int) -> View:
        """The whole picture."""
        return View(read_picture(self.annotations, int(self.annotations.image_index[row])))


@dataclass(frozen=True)
class Memory:
    """Decoded pixels in the memory of the host or of the device, one region after another in a
    single buffer."""

    buffer: torch.Tensor
    """(P, 3) uint8."""
    starts: np.ndarray
    """(N,) int64 first pixel of each person's region; -1 where the picture is broken."""
    regions: np.ndarray
    """(N, 4) int64 part of the picture, or the whole of it, shared by its people."""
    reasons: dict[int, str]
    """Row -> why its picture could not be read."""

    def view(self, row: int) -> View:
        """The person's region; a copy where it is not in the host's memory."""
        if row in self.reasons:
            raise UserError(self.reasons[row])
        left, top, right, bottom = self.regions[row].tolist()
        start, width, height = self.starts[row], right - left, bottom - top
        part = self.buffer[start : start + width * height].cpu().numpy()
        return View(part.reshape(height, width, 3), (left, top))


def fill_memory(
    annotations: Annotations,
    regions: np.ndarray | None,
    device: torch.device = CPU,
    *,
    rows: np.ndarray | None = None,
    workers: int = 2,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Memory:
    """Decodes every picture once, in parallel; on the way to a device the host's memory holds a
    few pictures at a time.

    Args:
        annotations: N people, the sizes of their pictures known.
        regions: (N, 4) parts to keep of each person, or None to keep whole pictures.
        device: whose memory.
        rows: people of this process; all by default.
        workers: decoding threads.
        skip_broken: keep the reason instead of stopping at a picture that cannot be read.
        progress: called with (pictures done, pictures in all).
    """
    groups = by_picture(annotations, rows)
    sizes = annotations.person_sizes_wh.astype(np.int64)
    held = np.hstack([np.zeros_like(sizes), sizes]) if regions is None else regions
    # One pixel at least, for the warp to point at.
    count = max(count_pixels(annotations, regions, rows), 1)
    buffer = torch.empty((count, 3), dtype=torch.uint8, device=device)
    starts, first = np.full(len(annotations), -1), 0
    broken, reasons = dict[int, str](), dict[int, str]()

    def read(mine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture = int(annotations.image_index[mine[0]])
        return mine, read_sized(annotations, picture, broken if skip_broken else None)

    for done, (mine, image) in enumerate(in_order(read, groups, workers, 2 * workers), 1):
        progress(done, len(groups))
        if not image.size:
            reasons |= dict.fromkeys(mine.tolist(), broken[annotations.image_index[mine[0]]])
            continue
        for row in mine[:1] if regions is None else mine:
            left, top, right, bottom = held[row]
            part = np.ascontiguousarray(image[top:bottom, left:right]).reshape(-1, 3)
            buffer[first : first + len(part)] = torch.from_numpy(part)
            starts[mine if regions is None else row] = first
            first += len(part)
    return Memory(buffer, starts, held, reasons)


def count_pixels(
    annotations: Annotations, regions: np.ndarray | None, rows: np.ndarray | None = None
) -> int:
    """Pixels of the regions (N, 4) of some people (all by default), or with None of their whole
    pictures; one whose size stayed unknown is broken and has none."""
    rows = np.arange(len(annotations)) if rows is None else rows
    sizes = annotations.image_sizes_wh[np.unique(annotations.image_index[rows])].astype(np.int64)
    held = sizes if regions is None else regions[rows, 2:] - regions[rows, :2]
    return int(held.prod(1).sum())


def open_pixels(
    config: DataConfig,
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    device: torch.device,
    *,
    udp: bool = False,
    rows: np.ndarray | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PixelSource, bool, str]:
    """Opens the source that the configuration asks for.

    Args:
        config: `cache`, `pack`, `warp`, `workers`, `skip_broken`.
        people: trainable people.
        augment: random changes; they decide how much of a picture a person's views can need.
        input_size_wh: size of the crops.
        device: where training happens.
        udp: unit convention, see `simplepose.pose.geometry`.
        rows: people that this process shows, where its caches need no others.
        progress: called with (pictures done, pictures in all) while a cache is filled.

    Returns:
        the source, whether the crops are to be cut on the device, and the sentence that says what
        was chosen and why.

    Raises:
        UserError: the cache does not fit, the pack is missing or does not fit the preset, or a
            picture cannot be read.
    """
    on_device = config.warp == "device" or (config.warp == "auto" and is_accelerator(device))
    if config.cache == "pack" and not config.pack:
        raise UserError(
            "--data.cache pack needs to know which one. "
            "Cure: --data.pack FOLDER, written by simplepose pack"
        )
    if config.cache == "files":
        return Files(people), on_device, "from the picture files, as asked for"
    # Broken pictures are reported when they are decoded.
    people = with_picture_sizes(people, skip_broken=True)
    kind, whole, reason, regions = "pack", False, "as asked for", None
    if config.cache != "pack":
        regions, _ = person_views(people, augment, input_size_wh, udp=udp)
        kind, whole, reason = choose_cache(
            config.cache,
            3 * count_pixels(people, None, rows),
            3 * count_pixels(people, regions, rows),
            device,
            has_pack=bool(config.pack),
            processes=local_processes(),
        )
    if kind == "pack":
        pack = open_pack(config.pack, people, augment, input_size_wh, udp=udp)
        return pack, on_device, f"from {config.pack}, {reason}"
    if kind == "files":
        return Files(people), on_device, f"from the picture files, {reason}"
    where = device if kind == "device" else CPU
    memory = fill_memory(
        people,
        None if whole else regions,
        where,
        rows=rows,
        workers=config.threads,
        skip_broken=config.skip_broken,
        progress=progress,
    )
    what = "pictures" if whole else "person regions"
    sentence = f"{what} decoded once into the memory of {where}, {reason}"
    return memory, on_device or kind == "device", sentence


def choose_cache(
    kind: Literal["auto", "ram", "device"],
    pictures: int,
    regions: int,
    device: torch.device,
    *,
    has_pack: bool,
    processes: int = 1,
) -> tuple[str, bool, str]:
    """Decides where pixels go: to the fastest place where they fit.

    Args:
        kind: what was asked for.
        pictures: bytes of all decoded pictures with people.
        regions: bytes of all decoded person regions.
        device: where training happens.
        has_pack: whether a pack is named.
        processes: trainings that share this host's memory.

    Returns:
        the kind, whether whole pictures are held (else regions), and the reason.

    Raises:
        UserError: the cache that was asked for does not fit; the message says what fits.
    """
    host = int(memory_bytes(CPU)[0] * HOST_FRACTION / processes)
    card = int(memory_bytes(device)[0] * DEVICE_FRACTION) if is_accelerator(device) else host
    rooms = [("device", card)] if is_accelerator(device) or kind == "device" else []
    fitting = [
        (place, whole)
        for place, room in [*rooms, ("ram", host)]
        for whole, size in ((True, pictures), (False, regions))
        if size <= room
    ]
    fitting += [("pack", True)] * has_pack + [("files", True)]
    sizes = f"decoded pictures {_size(pictures)}, person regions {_size(regions)}; room: "
    sizes += f"{_size(host)} of host memory"
    sizes += f", {_size(card)} on {device}" if is_accelerator(device) else ""
    chosen = next((entry for entry in fitting if kind in ("auto", entry[0])), None)
    if chosen is None:
        raise UserError(
            f"--data.cache {kind} does not fit ({sizes}). Cure: --data.cache {fitting[0][0]}, or "
            "simplepose pack and --data.cache pack, or --data.shard with several processes"
        )
    return *chosen, f"{'the fastest that fits' if kind == 'auto' else 'as asked for'} ({sizes})"


def _size(count: int) -> str:
    """`46.40 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
