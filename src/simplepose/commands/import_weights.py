"""`simplepose import FILE --as PRESET`: brings weights of other programs into a checkpoint that
knows its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from simplepose.commands.options import ImportOptions
from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.progress import note
from simplepose.core.schema import SCHEMAS, KeypointSchema, schema_named
from simplepose.data.categories import read_schema
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint, shortened
from simplepose.pose.network import PoseNetwork
from simplepose.weights.weight_file import WeightFile, load_into, load_weight_file


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
    """The skeleton called `name` or described in that file, else that of the preset's data set.

    A file is JSON or YAML: an annotation file or anything else with COCO's `categories`, or the
    fields of a `KeypointSchema`, of which only `keypoints` must be there.

    Raises:
        UserError: none is known, or the file describes none.
    """
    path = Path(name)
    if path.suffix in (".json", ".yaml", ".yml"):
        return read_schema(path)
    if name:
        return schema_named(name)
    family = Path(preset).stem.split("_")[0].replace("synthetic", "coco")
    for schema in SCHEMAS.values():
        if schema.name.startswith(f"{family}_"):
            return schema
    raise UserError(
        f"preset {preset} does not tell its skeleton. "
        f"Cure: add --schema, one of {', '.join(SCHEMAS)} or a file"
    )


def spec_of(
    config: Config, schema: KeypointSchema, source: WeightFile, *, backbone_only: bool
) -> tuple[ModelSpec, list[str]]:
    """The preset's description with the conventions that the file was trained with, and a note for
    each that differs.

    A backbone keeps the preset's own conventions: its head will be trained under them.
    """
    pixels, codec, notes = config.pixels, config.codec, []
    if not backbone_only:
        pixels = source.pixels
        codec = replace(codec, peak=source.peak, flip_shift=source.flip_shift)
        mean, std = np.round((pixels.mean, pixels.std), 3).tolist()
        same = np.allclose((mean, std), (config.pixels.mean, config.pixels.std), rtol=0, atol=1e-3)
        said = "; the checkpoint says so, in place of the preset's"
        if not same or pixels.channel_order != config.pixels.channel_order:
            order = pixels.channel_order.upper()
            notes.append(f"it was trained on {order} with mean {mean}, deviation {std}{said}")
        if codec != config.codec:
            notes.append(
                f"its heatmaps peak at {codec.peak:g}, flip shift {codec.flip_shift}{said}"
            )
    return replace(ModelSpec.of(config, schema), pixels=pixels, codec=codec), notes


def import_weights(options: ImportOptions) -> Imported:
    """Reads, checks and writes.

    Raises:
        UserError: bad weights, a preset they do not fit, or an output that exists.
    """
    path = options.output or Path("runs") / (options.file.name.split(".")[0] or "imported")
    if path.suffix != ".safetensors":
        path = path / "checkpoints" / "best.safetensors"
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another --output")
    config = load_preset(options.preset)
    config.require_pose("import")
    schema = schema_of(options.preset, options.schema)
    source = load_weight_file(options.file)
    torch.manual_seed(0)  # a head that is not in the file begins the same every time
    network = PoseNetwork(config.model, len(schema), config.input_size_wh)
    left_out = load_into(network, source, backbone_only=options.backbone_only)
    spec, notes = spec_of(config, schema, source, backbone_only=options.backbone_only)
    listed = {
        "left out": left_out,
        "unknown scalars left out": source.unknown_scalars,
        "not part of the network": source.ignored,
    }
    notes += [f"{what}: {shortened(list(names), 8)}" for what, names in listed.items() if names]
    save_checkpoint(path, network, spec)
    return Imported(path, source, tuple(notes))


def run(options: ImportOptions) -> None:
    """The command line."""
    imported = import_weights(options)
    source, path = imported.source, imported.path
    print(f"{options.file}: {source.kind}, {source.keypoint_count or 'no'} keypoints")
    note(*imported.notes)
    print(f"wrote {path}")
    follow = f"train {options.preset} --model.init" if options.backbone_only else "evaluate"
    print(f"next: simplepose {follow} {path} --data.root DIR")
