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

from simplepose.config import Config
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
other programs. Of a device only where nobody measured what training needs."""
DEVICE_MARGIN = 0.05
"""Part of a device's whole memory that stays free beside the cache and the measured need."""


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
    config: Config,
    people: Annotations,
    device: torch.device,
    *,
    rows: np.ndarray | None = None,
    need: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PixelSource, bool, str]:
    """Opens the source that the configuration asks for.

    Args:
        config: `data`, and what decides how much of a picture a person's views can need: `augment`,
            `input_size_wh`, `codec.udp`.
        people: trainable people.
        device: where training happens.
        rows: people that this process shows, where its caches need no others.
        need: bytes that training takes of the device's memory; None where that is not known.
        progress: called with (pictures done, pictures in all) while a cache is filled.

    Returns:
        the source, whether the crops are to be cut on the device, and the sentence that says what
        was chosen and why.

    Raises:
        UserError: the cache does not fit, the pack is missing or does not fit the preset, or a
            picture cannot be read.
    """
    data, augment = config.data, config.augment
    size_wh, udp = config.input_size_wh, config.codec.udp
    on_device = data.warp == "device" or (data.warp == "auto" and is_accelerator(device))
    if data.cache == "pack" and not data.pack:
        raise UserError(
            "--data.cache pack needs to know which one. "
            "Cure: --data.pack FOLDER, written by simplepose pack"
        )
    if data.cache == "files":
        return Files(people), on_device, "from the picture files, as asked for"
    # Broken pictures are reported when they are decoded.
    people = with_picture_sizes(people, skip_broken=True)
    kind, whole, reason, regions = "pack", False, "as asked for", None
    if data.cache != "pack":
        regions, _ = person_views(people, augment, size_wh, udp=udp)
        kind, whole, reason = choose_cache(
            data.cache,
            3 * count_pixels(people, None, rows),
            3 * count_pixels(people, regions, rows),
            device,
            has_pack=bool(data.pack),
            processes=local_processes(),
            need=need,
        )
    if kind == "pack":
        pack = open_pack(data.pack, people, augment, size_wh, udp=udp)
        return pack, on_device, f"from {data.pack}, {reason}"
    if kind == "files":
        return Files(people), on_device, f"from the picture files, {reason}"
    where = device if kind == "device" else CPU
    memory = fill_memory(
        people,
        None if whole else regions,
        where,
        rows=rows,
        workers=data.threads,
        skip_broken=data.skip_broken,
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
    need: int | None = None,
) -> tuple[str, bool, str]:
    """Decides where pixels go: to the fastest place where they fit.

    Args:
        kind: what was asked for.
        pictures: bytes of all decoded pictures with people.
        regions: bytes of all decoded person regions.
        device: where training happens.
        has_pack: whether a pack is named.
        processes: trainings that share this host's memory.
        need: bytes that training takes of the device's memory; None where that is not known.

    Returns:
        the kind, whether whole pictures are held (else regions), and the reason.

    Raises:
        UserError: the cache that was asked for does not fit; the message says what fits.
    """
    host = int(memory_bytes(CPU)[0] * HOST_FRACTION / processes)
    card, beside = host, ""
    if is_accelerator(device):
        free, total = memory_bytes(device)
        card = int(free * DEVICE_FRACTION)
        if need is not None:
            card = max(0, int(free - need - total * DEVICE_MARGIN))
            beside = f" beside {_size(need)} for training"
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
    sizes += f", {_size(card)} on {device}{beside}" if is_accelerator(device) else ""
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
