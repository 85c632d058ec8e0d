"""`simplepose ablation PRESET --data.root DIR --seeds 3`: what each part of a recipe is worth."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from simplepose.commands.options import AblationOptions
from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.data.source import has_split
from simplepose.training.ablation import Scorer, ablate, shorten
from simplepose.training.train import train


def run(options: AblationOptions) -> None:
    """Trains what is not trained yet and writes the table after every training.

    Raises:
        UserError: see `plan` and `training.ablation.ablate`.
    """
    ablate(*plan(options), train, Scorer)


def plan(options: AblationOptions) -> tuple[Config, Config, Path, int]:
    """Reference, goal, folder and seeds.

    Raises:
        UserError: no such preset, no validation data, or one of several processes of torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "an ablation has many trainings, each on one device. Cure: start the same command once "
            "for each device, with its --device and without torchrun; they divide the trainings"
        )
    if not has_split(options.data, "val"):
        raise UserError(
            "an ablation scores every training, and no validation data is named. "
            "Cure: --data.root DIR, or --data.val-annotations"
        )
    goal = load_preset(options.preset)
    goal.require_pose("ablation")
    if goal.evaluate.task != "coco":
        raise UserError(
            f"the table is of COCO's AP, {goal.preset} of the task {goal.evaluate.task}. "
            "Cure: a preset of COCO, or one of your own with evaluate.task coco"
        )
    base = load_preset(options.base) if options.base else load_preset(options.preset, "ms")
    if base == goal:
        raise UserError(
            f"{goal.preset} is the reference itself. "
            "Cure: name the preset it is compared with, --base PRESET"
        )
    epochs = options.epochs or goal.train.epochs
    folder = Path(options.output or f"runs/ablation_{goal.preset}")
    return _settle(base, options, epochs), _settle(goal, options, epochs), folder, options.seeds


def _settle(config: Config, options: AblationOptions, epochs: int) -> Config:
    """A preset with the data, budget and device of all trainings; it is tested at their end."""
    config = shorten(config, epochs)
    train = replace(config.train, device=options.device, evaluate_every=0)
    return replace(config, data=options.data, train=train, resume=False)
