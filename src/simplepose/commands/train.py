"""`simplepose train PRESET --data.root DIR`: trains a network."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from simplepose.core.errors import UserError

if TYPE_CHECKING:
    from simplepose.config import Config


def main(argv: list[str]) -> None:
    """Parses the options on top of the preset and trains.

    Raises:
        UserError: no preset is named, or anything `train` refuses.
    """
    import tyro

    from simplepose.config import Config, load_preset, preset_names
    from simplepose.training.train import train

    if not argv or argv[0] in ("-h", "--help"):
        default, rest, name = Config(), ["--help"], "PRESET"
        print(f"presets: {', '.join(preset_names())} (or a .yaml file)\n")
    elif argv[0].startswith("-"):
        raise UserError(
            f"the preset comes first, got {argv[0]}. Cure: simplepose train PRESET {' '.join(argv)}; presets: {', '.join(preset_names())}"
        )
    else:
        name, rest = argv[0], argv[1:]
        default = load_preset(name)
    config = tyro.cli(
        Config, args=rest, default=default, prog=f"simplepose train {name}",
        description="Trains a network. Every option shows the preset's value; DIR in --data.root has the seed's folder layout.",
    )  # fmt: skip
    if config.profile:
        from simplepose.training.profile import profile

        print("\n".join(profile(config).report()))
        return
    folder = train(config)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return
    print(f"done: {folder}\nnext: {evaluate_command(config)}")


def evaluate_command(config: Config) -> str:
    """What to type to test the run, with the validation data as the training was given it; capitals where it was given none."""
    from simplepose.data.layout import find_layout
    from simplepose.data.source import has_split

    data = config.data
    layout = find_layout(data.root) if data.root and Path(data.root).is_dir() else None
    words = ["simplepose", "evaluate", str(config.run_folder)]
    if data.val_annotations or layout is None or not has_split(data, "val"):
        images = data.val_images or (str(layout.val_images) if layout and data.val_annotations else "DIR")
        words += ["--annotations", data.val_annotations or "FILE", "--images", images, "--boxes", "gt"]
    else:
        words += ["--data.root", data.root, "--boxes", "gt" if "detections" in layout.missing else "detections"]
    return shlex.join([*words, *(["--data.category", data.category] if data.category else [])])
