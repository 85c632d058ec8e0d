"""From `--data.cache` to a place that holds pixels: chosen, filled with progress, and explained in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from simplepose.config import AugmentConfig, DataConfig
from simplepose.core.device import is_accelerator, local_processes, memory_bytes
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.cache import Files, PixelSource, fill_device, fill_ram, picture_bytes
from simplepose.data.pack import open_pack
from simplepose.data.picture_sizes import with_picture_sizes
from simplepose.data.regions import count_bytes, person_regions
from simplepose.data.shares import Share, owners

HOST_SHARE, DEVICE_SHARE = 0.6, 0.5
"""Part of the free memory that a cache may take: the rest is for the network, its activations, and other programs."""


def open_pixels(
    config: DataConfig,
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    device: torch.device,
    *,
    udp: bool = False,
    share: Share = Share(),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[PixelSource, bool, str]:
    """Opens the place the configuration asks for.

    Args:
        config: `cache`, `pack`, `warp`, `workers`, `skip_broken`.
        people: trainable people.
        augment: random changes; they decide how much of a picture a person's views can need.
        input_size_wh: size of the crops.
        device: where training happens.
        udp: unit convention, see `simplepose.pose.geometry`.
        share: this process's part of the people; only `share.apart` makes the caches smaller.
        progress: called with (pictures done, pictures in all) while a cache is filled.

    Returns:
        the source, whether the crops are to be cut on the device, and the sentence that says what was chosen and why.

    Raises:
        UserError: the cache does not fit, the pack is missing or does not fit the preset, or a picture cannot be read.
    """
    warp_on_device = config.warp == "device" or (config.warp == "auto" and is_accelerator(device))
    if config.cache == "pack" and not config.pack:
        raise UserError(
            "--data.cache pack needs to know which one. Cure: --data.pack FILE.zip, written by simplepose pack"
        )
    if config.cache == "files":
        return Files(people), warp_on_device, "pixels from the picture files, as asked for"
    people = with_picture_sizes(
        people, skip_broken=True
    )  # the broken ones are reported when they are decoded
    if config.cache == "pack":
        pack = open_pack(config.pack, people, augment, input_size_wh, udp=udp)
        return pack, warp_on_device, f"pixels from {config.pack}, as asked for"
    rows = (
        np.flatnonzero(owners(people.image_index, share.count) == share.rank)
        if share.apart
        else np.arange(len(people))
    )
    mine = people.select(rows)
    regions = person_regions(people, augment, input_size_wh, udp=udp)
    kind, whole, reason = choose_cache(
        config.cache,
        picture_bytes(mine),
        count_bytes(regions[rows]),
        device,
        has_pack=bool(config.pack),
        processes=local_processes(),
    )
    if kind == "pack":
        return (
            open_pack(config.pack, people, augment, input_size_wh, udp=udp),
            warp_on_device,
            f"pixels from {config.pack}: {reason}",
        )
    if kind == "files":
        return Files(people), warp_on_device, reason
    parts = None if whole else regions
    if kind == "ram":
        return (
            fill_ram(
                people,
                parts,
                rows=rows,
                workers=config.threads,
                skip_broken=config.skip_broken,
                progress=progress,
            ),
            warp_on_device,
            reason,
        )
    filled = fill_device(
        people,
        parts,
        device,
        rows=rows,
        workers=config.threads,
        skip_broken=config.skip_broken,
        progress=progress,
    )
    return filled, True, reason


def choose_cache(
    kind: Literal["auto", "ram", "device"],
    pictures: int,
    regions: int,
    device: torch.device,
    *,
    has_pack: bool,
    processes: int = 1,
) -> tuple[str, bool, str]:
    """Decides where pixels go.

    Args:
        kind: what was asked for.
        pictures: bytes of all decoded pictures with people.
        regions: bytes of all decoded person regions.
        device: where training happens.
        has_pack: whether a pack is named.
        processes: trainings that share this host's memory.

    Returns:
        the kind, whether whole pictures are held (else regions), and one sentence that says why.

    Raises:
        UserError: the cache that was asked for does not fit; the message says what fits.
    """
    host = int(memory_bytes(torch.device("cpu"))[0] * HOST_SHARE / processes)
    card = int(memory_bytes(device)[0] * DEVICE_SHARE) if is_accelerator(device) else host
    candidates = [
        ("device", True, pictures, card),
        ("device", False, regions, card),
        ("ram", True, pictures, host),
        ("ram", False, regions, host),
    ]
    if not is_accelerator(device):
        candidates = [entry for entry in candidates if entry[0] != "device" or kind == "device"]
    names = {True: "pictures", False: "person regions"}
    fitting = [entry for entry in candidates if entry[2] <= entry[3]]
    sizes = f"decoded pictures {_size(pictures)}, person regions {_size(regions)}; room: {_size(host)} of host memory"
    sizes += f", {_size(card)} on {device}" if is_accelerator(device) else ""
    if kind != "auto":
        mine = [entry for entry in fitting if entry[0] == kind]
        if not mine:
            others = sorted({entry[0] for entry in fitting})
            raise UserError(
                f"--data.cache {kind} does not fit ({sizes}). Cure: --data.cache {' or '.join(others) if others else 'files'}, or simplepose pack "
                "and --data.cache pack, or --data.shard with several processes"
            )
        return (
            kind,
            mine[0][1],
            f"{names[mine[0][1]]} in {'host' if kind == 'ram' else 'device'} memory, as asked for ({sizes})",
        )
    if fitting:
        where, whole, _, _ = fitting[0]
        place = "host memory" if where == "ram" else f"the memory of {device}"
        return where, whole, f"{names[whole]} decoded once into {place}: they fit ({sizes})"
    if has_pack:
        return "pack", True, f"the pack, because decoded pixels do not fit into memory ({sizes})"
    return (
        "files",
        True,
        f"files, because decoded pixels do not fit into memory ({sizes}); simplepose pack would cost fewer cores",
    )


def _size(count: int) -> str:
    """`46.4 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
