"""`simplepose ladder PRESET --data.root DIR --seeds 3`: what each part of a recipe is worth on your own data.

Trains the reference, then the reference plus the first group of fields, and so on up to PRESET, every rung with every seed under the same
budget. Rungs that differ only in how a trained network is used share one training. Finished trainings are kept: the same command goes on
where it stopped, and the same command given several times, one for each device, shares the trainings out.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from filelock import FileLock, Timeout

from simplepose.commands.ladder_outcome import find_outcome, read_outcome
from simplepose.commands.ladder_table import require_same_ladder, write_table
from simplepose.config import Config, load_preset, preset_names
from simplepose.core.errors import UserError
from simplepose.core.progress import format_seconds
from simplepose.core.settings import require_options
from simplepose.data.source import DataConfig, has_split
from simplepose.training.rungs import make_rungs, shorten, training_rungs


@dataclass(frozen=True, kw_only=True)
class LadderOptions:
    """Trains a recipe rung by rung."""

    preset: Annotated[str, tyro.conf.Positional]
    """Where the ladder leads, e.g. coco_r50_256x192_modern."""
    base: str = ""
    """Where it stands; by default the preset with _ms in place of _modern (_mini in place of _mini_modern)."""
    seeds: int = 3
    """Trainings of each rung; one alone says little."""
    epochs: int = 0
    """Budget of each training; 0 keeps the preset's."""
    output: str = ""
    """Folder of the trainings and the table; runs/ladder_PRESET by default."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, npu, mps, xpu."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the data is."""


def main(argv: list[str]) -> None:
    """Trains what is not trained yet and writes ladder.md and ladder.json after every training.

    Raises:
        UserError: no such preset, no validation data, or trainings of another ladder in the output folder.
    """
    options = tyro.cli(
        LadderOptions, args=argv, prog="simplepose ladder",
        description="Trains a recipe rung by rung under one budget and writes a table: AP mean and spread, delta, seconds an epoch.",
    )  # fmt: skip
    from simplepose.commands.ladder_rung import Scorer
    from simplepose.training.train import train

    climb(options, train, Scorer)


def climb(options: LadderOptions, train: Callable[[Config], Path], open_scorer: Callable[[DataConfig, str], Any]) -> Path:
    """Does the work. Returns the folder of the table.

    Args:
        options: the ladder.
        train: trains one configuration.
        open_scorer: (data, device) -> what scores rungs, see `ladder_rung.Scorer`.

    Raises:
        UserError: see `main`; also under torchrun.
    """
    require_options(options, {"seeds": (1, math.inf), "epochs": (0, math.inf)})
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "a ladder has many trainings, each on one device. Cure: start the same command once for each device, with its --device and without "
            "torchrun; the commands share the trainings out"
        )
    if not has_split(options.data, "val"):
        raise UserError(
            "the ladder scores every training, and no validation data is named. Cure: --data.root DIR, or --data.val-annotations"
        )
    goal = load_preset(options.preset)
    epochs = options.epochs or goal.train.epochs
    base = load_preset(options.base or base_of(options.preset))
    rungs = make_rungs(*(settle(config, options, epochs) for config in (base, goal)))
    serving = training_rungs(rungs)
    folder = Path(options.output or f"runs/ladder_{goal.preset}")
    score = open_scorer(options.data, options.device)
    heading = {"preset": goal.preset, "boxes": score.box_name, "epochs": epochs}
    require_same_ladder(folder, heading)
    # Seeds outside: the whole ladder is there once before any rung repeats.
    work = [(place, seed) for seed in range(options.seeds) for place in sorted(set(serving))]

    def of_seed(index: int, seed: int) -> Config:
        rung, output = rungs[index], str(folder / f"rung{index:02}_seed{seed}")
        return replace(rung.config, preset=f"{goal.preset}: {rung.name}", output=output, train=replace(rung.config.train, seed=seed))

    def write() -> set[tuple[int, int]]:
        """The table of all that is known, whichever command found it; returns the trainings that are done."""
        places = [(index, seed) for index in range(len(rungs)) for seed in range(options.seeds)]
        outcomes = {place: outcome for place in places if (outcome := read_outcome(of_seed(*place))) is not None}
        write_table(folder, heading, rungs, outcomes)
        done = outcomes.keys() & set(work)
        seconds = [epochs * (outcomes[place]["seconds_an_epoch"] or math.nan) for place in done]
        left = (len(work) - len(done)) * statistics.fmean(seconds or [math.nan])
        print(f"{len(done)} of {len(work)} trainings of {epochs} epochs done -> {folder}; left {format_seconds(left)}", flush=True)
        return done

    def attempt(place: int, seed: int) -> bool:
        """Trains and tests what is not there yet; False where another command is at it."""
        trained = of_seed(place, seed)
        try:
            held = FileLock(f"{trained.run_folder}.lock").acquire(blocking=False)  # freed by the system if this process dies
        except Timeout:
            return False
        with held:
            served = [of_seed(index, seed) for index in range(len(rungs)) if serving[index] == place]
            if any([find_outcome(config, trained, train, score) for config in served]):
                write()
        return True

    write()
    try:
        elsewhere = [one for one in work if not attempt(*one)]
        if [one for one in elsewhere if not attempt(*one)]:  # a second look: those that did them may have been stopped
            done = write()
            if missing := ", ".join(f"rung{place:02}_seed{seed}" for place, seed in work if (place, seed) not in done):
                print(f"still with other commands: {missing}. If one of them is stopped, give the same command again", flush=True)
        elif elsewhere:
            write()
    except (KeyboardInterrupt, SystemExit):
        print("The ladder goes on with the same command as before", flush=True)
        raise
    return folder


def base_of(preset: str) -> str:
    """The reference a modern preset is compared with."""
    for ending, replacement in (("_mini_modern", "_mini"), ("_modern", "_ms")):
        if preset.endswith(ending) and preset.removesuffix(ending) + replacement in preset_names():
            return preset.removesuffix(ending) + replacement
    raise UserError(f"no reference is known for {preset}. Cure: name one with --base; presets: {', '.join(preset_names())}")


def settle(config: Config, options: LadderOptions, epochs: int) -> Config:
    """A preset with the ladder's data, budget and device; the ladder itself tests it, at the end."""
    config = shorten(config, epochs)
    return replace(config, data=options.data, train=replace(config.train, device=options.device, evaluate_every=0), resume=False)
