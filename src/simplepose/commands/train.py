"""`simplepose train PRESET --data.root DIR`: trains a network."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from simplepose.commands.options import TrainOptions

if TYPE_CHECKING:
    from simplepose.config import Config


def run(options: TrainOptions) -> None:
    """Trains, or measures where the time goes.

    Raises:
        UserError: anything `train` refuses.
    """
    if options.config.profile:
        from simplepose.training.profile import profile

        print("\n".join(profile(options.config).report()))
        return
    from simplepose.training.train import train

    folder = train(options.config)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return
    print(f"done: {folder}\nnext: {evaluate_command(options.config)}")


def evaluate_command(config: Config) -> str:
    """What to type to test the run, with the validation data as the training was given it; capitals where it was given none."""
    from simplepose.data.source import find_layout, has_split

    data = config.data
    layout = find_layout(data.root) if data.root and Path(data.root).is_dir() else None
    words = ["simplepose", "evaluate", str(config.run_folder)]
    if data.val_annotations or layout is None or not has_split(data, "val"):
        images = data.val_images or (
            str(layout.val_images) if layout and data.val_annotations else "DIR"
        )
        words += [
            "--annotations",
            data.val_annotations or "FILE",
            "--images",
            images,
            "--boxes",
            "gt",
        ]
    else:
        words += [
            "--data.root",
            data.root,
            "--boxes",
            "gt" if "detections" in layout.missing else "detections",
        ]
    return shlex.join([*words, *(["--data.category", data.category] if data.category else [])])
