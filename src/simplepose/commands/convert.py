"""`simplepose convert`: MPII, PoseTrack, CrowdPose, OCHuman or COCO-like annotations -> one
COCO-keypoints JSON file; results -> files of other programs."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from simplepose.commands.options import ConvertOptions
from simplepose.core.errors import UserError
from simplepose.core.files import require_new
from simplepose.core.lines import LINES, read_header
from simplepose.core.progress import note
from simplepose.core.schema import schema_named
from simplepose.core.shards import RUN
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco, write_coco
from simplepose.data.mapping import (
    concatenate,
    estimate_sigmas,
    map_annotations,
    read_sigmas,
    with_sigmas,
)
from simplepose.data.source import READERS
from simplepose.video.formats import (
    write_coco_annotations,
    write_deeplabcut,
    write_openpose,
    write_trc,
)
from simplepose.video.outputs import new_folder


def convert(options: ConvertOptions) -> tuple[Annotations, str]:
    """Reads, maps, joins and writes.

    Returns:
        What was written, and the folder that its file names are relative to.

    Raises:
        UserError: bad input, keypoints that cannot be mapped, or an output that exists.
    """
    require_new(options.output, overwrite=options.overwrite)
    target = schema_named(options.schema) if options.schema is not None else None
    if options.sigmas is not None and options.estimate_sigmas:
        raise UserError("--sigmas and --estimate-sigmas exclude each other. Cure: give one of them")
    first = options.images or (options.input if options.input.is_dir() else options.input.parent)
    sources = [(options.kind, options.input, first), *options.also]
    folders = [Path(os.path.abspath(images)) for _, _, images in sources]
    readers: dict[Any, Any] = READERS | {"coco": partial(read_coco, category=options.category)}
    parts = [
        readers[kind](path, folder)
        for (kind, path, _), folder in zip(sources, folders, strict=True)
    ]
    annotations = concatenate([map_annotations(part, target or parts[0].schema) for part in parts])
    if options.sigmas is not None:
        annotations = with_sigmas(annotations, read_sigmas(options.sigmas, annotations.schema))
    elif options.estimate_sigmas:
        annotations = with_sigmas(annotations, estimate_sigmas(annotations))
    images_dir = os.path.commonpath(folders)
    write_coco(options.output, annotations, images_dir)
    return annotations, images_dir if options.also else str(first)


def convert_results(options: ConvertOptions) -> str:
    """Writes what predict or track left behind as `options.to`.

    Returns:
        What was written, for the screen.

    Raises:
        UserError: no such results, none of the forms is named, or an output that exists.
    """
    name = RUN if (options.input / RUN).is_file() else LINES
    results = options.input / name if options.input.is_dir() else options.input
    if options.to is None:
        raise UserError(
            "convert results needs --to. "
            "Cure: --to coco, --to openpose, --to deeplabcut or --to trc"
        )
    if options.to == "coco":
        require_new(options.output, overwrite=options.overwrite)
        visibility, images = options.visibility, options.images
        people = write_coco_annotations(
            results, options.output, visibility=visibility, images_dir=images
        )
        return f"{people:,} people to look through"
    if options.to == "deeplabcut":
        require_new(options.output, overwrite=options.overwrite)
        return f"{len(write_deeplabcut(results, options.output))} individuals"
    read_header(results)
    new_folder(options.output, overwrite=options.overwrite)
    if options.to == "openpose":
        return f"{write_openpose(results, options.output):,} files"
    return f"{len(write_trc(results, options.output))} individuals"


def run(options: ConvertOptions) -> None:
    """The command line."""
    if options.kind == "results":
        print(f"{options.output}: {convert_results(options)}")
        return
    if options.to is not None:
        raise UserError(
            f"--to {options.to} is for results. "
            f"Cure: simplepose convert results FOLDER --to {options.to}"
        )
    annotations, images_dir = convert(options)
    note(*annotations.warnings)
    schema, labelled = annotations.schema, int(annotations.keypoint_counts.sum())
    print(
        f"{options.output}: {len(annotations)} people in {len(annotations.image_ids)} pictures, "
        f"{len(schema)} keypoints ({schema.name}), {labelled} labelled\n"
        f"its pictures: {images_dir}"
    )
