"""`simplepose pack PRESET --data.root DIR --output NAME.zip`: the regions of all training people in
one zip."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from simplepose.commands.options import PackOptions
from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress, format_seconds, note
from simplepose.data.pack import check_output, estimate_pack, plan_pack, write_pack
from simplepose.data.source import read_split
from simplepose.doctor.checks import require_sound


def run(options: PackOptions) -> None:
    """Estimates, then packs.

    Raises:
        UserError: no space, missing data, a file that is in the way, or a picture that cannot be
            read.
    """
    config, target = load_preset(options.preset), Path(options.output)
    config.require_pose("pack")
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
    there = sum(file.stat().st_size for file in target.with_suffix(".partial").glob("*"))
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    # The finished shards, and the zip that they are joined in.
    missing = 2 * size - there
    print(
        f"{len(people):,} people: about {size / 1e6:,.1f} MB, {format_seconds(seconds)} of "
        f"processor time on {options.data.threads} threads; {free / 1e9:,.1f} GB free"
        + (f"; {there / 1e6:,.1f} MB are packed already" if there else "")
    )
    if options.estimate_only:
        return
    if missing > free:
        raise UserError(
            f"{target} needs about {missing / 1e9:.2f} GB while it is written, {free / 1e9:.2f} GB "
            "are free. Cure: another --output, or make room"
        )
    with Progress("packing", "people") as progress:
        broken = write_pack(
            target,
            plan,
            workers=options.data.threads,
            overwrite=options.overwrite,
            skip_broken=options.data.skip_broken,
            progress=progress,
        )
    if broken:
        lost = int(np.isin(people.image_index, list(broken)).sum())
        print(
            f"note: {len(broken)} unreadable pictures with {lost} people left out, first: "
            f"{broken[min(broken)]}"
        )
    print(
        f"written: {target} ({target.stat().st_size / 1e6:,.1f} MB), {target.with_suffix('.json')}"
    )
    print(
        f"next: simplepose train {options.preset} --data.cache pack --data.pack {target} and the "
        "same --data options"
    )
