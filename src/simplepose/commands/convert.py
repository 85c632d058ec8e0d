"""`simplepose convert`: MPII, PoseTrack, CrowdPose and OCHuman annotations -> one COCO-keypoints JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from simplepose.data.annotations import write_coco
from simplepose.data.columns import Annotations
from simplepose.data.crowdpose import read_crowdpose, read_ochuman
from simplepose.data.mapping import map_annotations
from simplepose.data.mpii import read_mpii
from simplepose.data.posetrack import read_posetrack
from simplepose.errors import UserError
from simplepose.schema import SCHEMAS

READERS = {"mpii": read_mpii, "posetrack": read_posetrack, "crowdpose": read_crowdpose, "ochuman": read_ochuman}


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What to convert, and where to."""

    kind: tyro.conf.Positional[Literal["mpii", "posetrack", "crowdpose", "ochuman"]]
    """The data set's own format."""
    input: tyro.conf.Positional[Path]
    """The annotation file; for PoseTrack also a folder of sequences."""
    output: Path
    """The COCO-keypoints JSON file to write."""
    images: Path | None = None
    """Folder of the pictures; file names are written relative to it (default: the folder of INPUT)."""
    schema: Annotated[str | None, tyro.conf.arg(metavar="|".join(SCHEMAS))] = None
    """Map the keypoints to this schema; keypoints that the data set lacks become unlabelled."""
    overwrite: bool = False
    """Replace OUTPUT if it exists."""


def convert(options: ConvertOptions) -> Annotations:
    """Reads, maps and writes; returns what was written.

    Raises:
        UserError: bad input, or an output that exists.
    """
    if options.output.exists() and not options.overwrite:
        raise UserError(f"{options.output} exists. Cure: choose another --output, or add --overwrite")
    if options.schema is not None and options.schema not in SCHEMAS:
        raise UserError(f"there is no schema {options.schema!r}. Cure: one of {', '.join(SCHEMAS)}")
    images = options.images or (options.input if options.input.is_dir() else options.input.parent)
    annotations = READERS[options.kind](options.input, images)
    if options.schema is not None:
        annotations = map_annotations(annotations, SCHEMAS[options.schema])
    write_coco(options.output, annotations, images)
    return annotations


def main(argv: list[str]) -> None:
    """The command line."""
    options = tyro.cli(ConvertOptions, args=argv, prog="simplepose convert", description=__doc__)
    annotations = convert(options)
    for warning in annotations.warnings:
        print(f"note: {warning}")
    print(
        f"{options.output}: {len(annotations)} people in {len(annotations.image_ids)} pictures, "
        f"{len(annotations.schema)} keypoints ({annotations.schema.name}), {int(annotations.keypoint_counts.sum())} labelled"
    )
