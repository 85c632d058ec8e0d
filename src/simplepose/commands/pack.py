"""`simplepose pack PRESET --data.root DIR --output NAME.zip`: the regions of all training people in one zip."""

from __future__ import annotations

import shutil
from pathlib import Path

from simplepose.commands.options import PackOptions
from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress, format_seconds
from simplepose.data.pack_writer import check_output, estimate_pack, plan_pack, write_pack
from simplepose.data.source import read_split


def run(options: PackOptions) -> None:
    """Estimates, then packs.

    Raises:
        UserError: no space, missing data, a file that is in the way, or a picture that cannot be read.
    """
    config = load_preset(options.preset)
    people = read_split(options.data, "train").trainable()
    target = Path(options.output)
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
    estimate = estimate_pack(plan)
    partial = target.with_suffix(".partial")
    there = partial.stat().st_size if partial.exists() else 0
    parent = next(folder for folder in (target.parent, *target.parent.parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    print(
        f"{len(people):,} people: about {estimate.bytes / 1e6:,.1f} MB, {format_seconds(estimate.core_seconds)} of processor time on "
        f"{options.data.threads} threads; {free / 1e9:,.1f} GB free"
        + (f"; {there / 1e6:,.1f} MB are packed already" if there else "")
    )
    if options.estimate_only:
        return
    if estimate.bytes - there > free:
        raise UserError(
            f"{options.output} needs about {estimate.bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. Cure: another --output, or make room"
        )
    notes: list[str] = []
    with Progress("packing", "people") as progress:
        write_pack(
            target,
            plan,
            workers=options.data.threads,
            overwrite=options.overwrite,
            skip_broken=options.data.skip_broken,
            say=notes.append,
            progress=progress,
        )
    for note in notes:
        print(note)
    print(
        f"written: {target} ({target.stat().st_size / 1e6:,.1f} MB), {target.with_suffix('.json')}"
    )
    print(
        f"next: simplepose train {options.preset} --data.cache pack --data.pack {target} and the same --data options"
    )
