"""`simplepose train PRESET --data.root DIR`: trains a network."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

from simplepose.commands.options import TrainOptions
from simplepose.config import Config
from simplepose.data.source import find_layout, has_split


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
    # Of several processes the first one speaks.
    if os.environ.get("RANK", "0") == "0":
        print(f"done: {folder}\nnext: {evaluate_command(str(folder), options.config)}")


def evaluate_command(folder: str, config: Config) -> str:
    """What to type to test the run in `folder`, with the validation data as the training was given
    it; capitals where it was given none."""
    words, data = ["simplepose", "evaluate", folder], config.data
    if not Path(data.root).is_dir():
        data = replace(data, root="")
    if data.root and not data.val_annotations and has_split(data, "val"):
        boxes = "gt" if "detections" in find_layout(data.root).missing else "detections"
        words += ["--data.root", data.root]
    else:
        images = data.val_images
        if data.root and data.val_annotations:
            images = images or str(find_layout(data.root).val_images)
        annotations = ["--annotations", data.val_annotations or "FILE"]
        words += [*annotations, "--images", images or "DIR"]
        boxes = "gt"
    words += [] if config.detects else ["--boxes", boxes]
    return shlex.join([*words, *(["--data.category", data.category] if data.category else [])])
