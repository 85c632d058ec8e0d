"""`simplepose import FILE --as PRESET`: brings weights of other programs into a checkpoint that knows its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, SCHEMAS, KeypointSchema, schema_named
from simplepose.core.settings import to_plain
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint, shortened
from simplepose.pose.network import PoseResNet
from simplepose.pose.pixels import PixelConfig
from simplepose.weights.key_maps import WeightFile
from simplepose.weights.pretrained import load_into, load_weight_file

_SCHEMA_OF_PRESET = {"coco": COCO_17, "mpii": MPII_16, "posetrack": POSETRACK_15, "crowdpose": CROWDPOSE_14, "synthetic": COCO_17}


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What to import, and as what."""

    file: tyro.conf.Positional[Path]
    """Weights of torchvision, timm, Microsoft, MMPose or TensorFlow (.pth, .pth.tar, .safetensors, .ckpt, .ckpt.index)."""
    preset: Annotated[str, tyro.conf.arg(name="as")]
    """Preset whose network they are, e.g. coco_r50_256x192_tf."""
    output: Path | None = None
    """Run folder or .safetensors file to write (default: runs/NAME of the file)."""
    trunk_only: bool = False
    """Take the ResNet alone and leave the head at its first values: for ImageNet trunks and files of another skeleton."""
    schema: Annotated[str, tyro.conf.arg(metavar="|".join(SCHEMAS))] = ""
    """Skeleton of the network (default: the one of the preset's data set)."""


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
        raise UserError(f"preset {preset} does not tell its skeleton. Cure: add --schema, one of {', '.join(SCHEMAS)}")
    return _SCHEMA_OF_PRESET[family]


def spec_of(config: Config, schema: KeypointSchema, source: WeightFile, *, trunk_only: bool) -> tuple[ModelSpec, list[str]]:
    """The preset's description with the conventions that the file was trained with, and a note for each that differs.

    A trunk keeps the preset's own conventions: its head will be trained under them.
    """
    pixels, codec, notes = config.pixels, config.codec, []
    if not trunk_only:
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
        preset=config.preset, schema=schema, input_size_wh=config.input_size_wh, pixels=pixels, codec=codec, model=config.model,
        config=to_plain(config),
    )  # fmt: skip
    return spec, notes


def _round(values: tuple[float, ...]) -> list[float]:
    return [round(value, 3) for value in values]


def _alike(one: PixelConfig, other: PixelConfig) -> bool:
    return one.channel_order == other.channel_order and _round((*one.mean, *one.std)) == _round((*other.mean, *other.std))


def import_weights(options: ImportOptions) -> Imported:
    """Reads, checks and writes.

    Raises:
        UserError: bad weights, a preset they do not fit, or an output that exists.
    """
    stem = options.file.name.split(".")[0] or "imported"
    target = options.output or Path("runs") / stem
    path = target if target.suffix == ".safetensors" else target / "checkpoints" / "best.safetensors"
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another --output")
    config = load_preset(options.preset)
    schema = schema_of(options.preset, options.schema)
    source = load_weight_file(options.file)
    torch.manual_seed(0)  # a head that is not in the file begins the same every time
    network = PoseResNet(config.model, len(schema), config.input_size_wh)
    left_out = load_into(network, source, trunk_only=options.trunk_only)
    spec, notes = spec_of(config, schema, source, trunk_only=options.trunk_only)
    if left_out:
        notes.insert(0, f"left out: {shortened(left_out, 8)}")
    if source.unknown_scalars:
        notes.append(f"unknown scalars left out: {shortened(list(source.unknown_scalars), 8)}")
    if source.ignored:
        notes.append(f"not part of the network: {shortened(list(source.ignored))}")
    save_checkpoint(path, network, spec)
    return Imported(path, source, tuple(notes))


def main(argv: list[str]) -> None:
    """The command line."""
    options = tyro.cli(ImportOptions, args=argv, prog="simplepose import", description=__doc__)
    imported = import_weights(options)
    keypoints = "no heatmaps" if imported.source.is_trunk_only else f"{imported.source.keypoint_count} keypoints"
    print(f"{options.file}: {imported.source.kind}, {keypoints}")
    for note in imported.notes:
        print(f"note: {note}")
    print(f"wrote {imported.path}")
    if options.trunk_only:
        print(f"next: simplepose train {options.preset} --model.init {imported.path} --data.root DIR")
    else:
        print(f"next: simplepose evaluate {imported.path} --data.root DIR")
