"""`simplepose train PRESET --data.root DIR`: trains a network."""

from __future__ import annotations

import os

from simplepose.errors import UserError


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
    print(f"done: {folder}\nnext: simplepose evaluate {folder} --data.root {config.data.root or 'DIR'} --boxes detections")
