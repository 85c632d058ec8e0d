"""`simplepose import FILE --as PRESET`: brings weights of other programs into a checkpoint that knows its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from simplepose.commands.options import ImportOptions
from simplepose.config import Config, PixelConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import (
    COCO_17,
    CROWDPOSE_14,
    MPII_16,
    POSETRACK_15,
    SCHEMAS,
    KeypointSchema,
    schema_named,
)
from simplepose.core.settings import to_plain
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint, shortened
from simplepose.pose.network import PoseResNet
from simplepose.weights.weight_file import WeightFile, load_into, load_weight_file

_SCHEMA_OF_PRESET = {
    "coco": COCO_17,
    "mpii": MPII_16,
    "posetrack": POSETRACK_15,
    "crowdpose": CROWDPOSE_14,
    "synthetic": COCO_17,
}


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    path: Path
    """The checkpoint."""
    source: WeightFile
    """The file it came from."""
    notes: tuple[str, ...]
    """What was left out, and where the file's conventions replaced the preset's."""


def schema_of(preset: str, name: str = "") -> KeypointSchema:
    """The skeleton called `name`, else that of the preset's data set.

    Raises:
        UserError: neither is known.
    """
    if name:
        return schema_named(name)
    family = Path(preset).stem.split("_")[0]
    if family not in _SCHEMA_OF_PRESET:
        raise UserError(
            f"preset {preset} does not tell its skeleton. Cure: add --schema, one of {', '.join(SCHEMAS)}"
        )
    return _SCHEMA_OF_PRESET[family]


def spec_of(
    config: Config, schema: KeypointSchema, source: WeightFile, *, backbone_only: bool
) -> tuple[ModelSpec, list[str]]:
    """The preset's description with the conventions that the file was trained with, and a note for each that differs.

    A trunk keeps the preset's own conventions: its head will be trained under them.
    """
    pixels, codec, notes = config.pixels, config.codec, []
    if not backbone_only:
        pixels = source.pixels
        codec = replace(config.codec, peak=source.peak, flip_shift=source.flip_shift)
        if not _alike(pixels, config.pixels):
            numbers = f"mean {_round(pixels.mean)}, deviation {_round(pixels.std)}"
            notes.append(
                f"it was trained on {pixels.channel_order.upper()} with {numbers}; the checkpoint says so, in place of the preset's"
            )
        if codec != config.codec:
            notes.append(
                f"its heatmaps peak at {codec.peak:g}, flip shift {codec.flip_shift}; the checkpoint says so, in place of the preset's"
            )
    spec = ModelSpec(
        preset=config.preset,
        schema=schema,
        input_size_wh=config.input_size_wh,
        pixels=pixels,
        codec=codec,
        model=config.model,
        config=to_plain(config),
    )
    return spec, notes


def _round(values: tuple[float, ...]) -> list[float]:
    return [round(value, 3) for value in values]


def _alike(one: PixelConfig, other: PixelConfig) -> bool:
    return one.channel_order == other.channel_order and _round((*one.mean, *one.std)) == _round(
        (*other.mean, *other.std)
    )


def import_weights(options: ImportOptions) -> Imported:
    """Reads, checks and writes.

    Raises:
        UserError: bad weights, a preset they do not fit, or an output that exists.
    """
    stem = options.file.name.split(".")[0] or "imported"
    target = options.output or Path("runs") / stem
    path = (
        target if target.suffix == ".safetensors" else target / "checkpoints" / "best.safetensors"
    )
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another --output")
    config = load_preset(options.preset)
    schema = schema_of(options.preset, options.schema)
    source = load_weight_file(options.file)
    torch.manual_seed(0)  # a head that is not in the file begins the same every time
    network = PoseResNet(config.model, len(schema), config.input_size_wh)
    left_out = load_into(network, source, backbone_only=options.backbone_only)
    spec, notes = spec_of(config, schema, source, backbone_only=options.backbone_only)
    if left_out:
        notes.insert(0, f"left out: {shortened(left_out, 8)}")
    if source.unknown_scalars:
        notes.append(f"unknown scalars left out: {shortened(list(source.unknown_scalars), 8)}")
    if source.ignored:
        notes.append(f"not part of the network: {shortened(list(source.ignored))}")
    save_checkpoint(path, network, spec)
    return Imported(path, source, tuple(notes))


def run(options: ImportOptions) -> None:
    """The command line."""
    imported = import_weights(options)
    keypoints = (
        "no heatmaps"
        if imported.source.is_backbone_only
        else f"{imported.source.keypoint_count} keypoints"
    )
    print(f"{options.file}: {imported.source.kind}, {keypoints}")
    for note in imported.notes:
        print(f"note: {note}")
    print(f"wrote {imported.path}")
    if options.backbone_only:
        print(
            f"next: simplepose train {options.preset} --model.init {imported.path} --data.root DIR"
        )
    else:
        print(f"next: simplepose evaluate {imported.path} --data.root DIR")
