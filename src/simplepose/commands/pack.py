"""`simplepose pack PRESET --data.root DIR --output FOLDER`: the regions of all training people in
shards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from simplepose.commands.options import PackOptions
from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import visible_partial
from simplepose.core.progress import Progress, format_seconds, note
from simplepose.core.storage import is_remote
from simplepose.data.pack import check_output, estimate_pack, plan_pack, write_pack
from simplepose.data.source import read_split
from simplepose.doctor.checks import require_sound


def run(options: PackOptions) -> None:
    """Estimates, then packs.

    Raises:
        UserError: no space, missing data, a file that is in the way, or a picture that cannot be
            read.
    """
    config, target = load_preset(options.preset), Path(options.output).resolve()
    config.require_pose("pack")
    if is_remote(options.output):
        raise UserError(
            f"a pack is written into a folder, and --output is {options.output}. "
            "Cure: choose a folder, and copy it to the store with the store's own program"
        )
    people = require_sound(read_split(options.data, "train"), options.data).trainable()
    note(*people.warnings)
    if not options.estimate_only:
        check_output(target, people, overwrite=options.overwrite)
    plan = plan_pack(
        people,
        config.augment,
        config.input_size_wh,
        udp=config.codec.udp,
        quality=options.quality,
        full_colour=options.full_colour,
    )
    size, seconds = estimate_pack(plan)
    there = sum(file.stat().st_size for file in visible_partial(target).glob("*"))
    parent = next(folder for folder in target.parents if folder.exists())
    free = shutil.disk_usage(parent).free
    missing = size - there
    print(
        f"{len(people):,} people: about {size / 1e6:,.1f} MB, {format_seconds(seconds)} of "
        f"processor time on {options.data.threads} threads; {free / 1e9:,.1f} GB free"
        + (f"; {there / 1e6:,.1f} MB are packed already" if there else "")
    )
    if options.estimate_only:
        return
    if missing > free:
        raise UserError(
            f"{target} needs about {missing / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. "
            "Cure: another --output, or make room"
        )
    with Progress("packing", "people") as progress:
        broken = write_pack(
            target,
            plan,
            shard=options.shard,
            workers=options.data.threads,
            overwrite=options.overwrite,
            skip_broken=options.data.skip_broken,
            progress=progress,
        )
    if broken:
        lost = int(np.isin(people.image_index, list(broken)).sum())
        note(
            f"{len(broken)} unreadable pictures with {lost} people left out, first: "
            f"{broken[min(broken)]}"
        )
    written = [file.stat().st_size for file in target.glob("*.zip")]
    print(f"written: {target} ({len(written)} shards, {sum(written) / 1e6:,.1f} MB)")
    print(
        f"next: simplepose train {options.preset} --data.cache pack --data.pack {target} and the "
        "same --data options"
    )
