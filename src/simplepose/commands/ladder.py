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
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from simplepose.commands.ladder_outcome import find_outcome, read_outcome
from simplepose.commands.ladder_table import require_same_ladder, write_table
from simplepose.commands.options import LadderOptions
from simplepose.config import Config, DataConfig, GroundTruthBoxes, load_preset
from simplepose.core.errors import UserError
from simplepose.core.progress import format_seconds
from simplepose.data.source import has_split
from simplepose.training.rungs import make_rungs, shorten, training_rungs


def run(options: LadderOptions) -> None:
    """Trains what is not trained yet and writes ladder.md and ladder.json after every training.

    Raises:
        UserError: no such preset, no validation data, or trainings of another ladder in the output folder.
    """
    from simplepose.commands.ladder_rung import Scorer
    from simplepose.training.train import train

    climb(options, train, Scorer)


def climb(
    options: LadderOptions,
    train: Callable[[Config], Path],
    open_scorer: Callable[[DataConfig, str, GroundTruthBoxes], Any],
) -> Path:
    """Does the work. Returns the folder of the table.

    Args:
        options: the ladder.
        train: trains one configuration.
        open_scorer: (data, device, `ground_truth_boxes` of the preset) -> what scores rungs, see
            `ladder_rung.Scorer`.

    Raises:
        UserError: see `main`; also under torchrun.
    """
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
    if goal.evaluate.task != "coco":
        raise UserError(
            f"the ladder's table is of COCO's AP, {goal.preset} of the task {goal.evaluate.task}. "
            "Cure: a preset of COCO, or one of your own with evaluate.task coco"
        )
    epochs = options.epochs or goal.train.epochs
    base = load_preset(options.base) if options.base else load_preset(options.preset, "ms")
    if base == goal:
        raise UserError(
            f"{goal.preset} is the reference itself. Cure: name the preset it is compared with, --base PRESET"
        )
    rungs = make_rungs(*(settle(config, options, epochs) for config in (base, goal)))
    serving = training_rungs(rungs)
    folder = Path(options.output or f"runs/ladder_{goal.preset}")
    score = open_scorer(options.data, options.device, goal.evaluate.ground_truth_boxes)
    heading = {"preset": goal.preset, "boxes": score.box_name, "epochs": epochs}
    require_same_ladder(folder, heading)
    # Seeds outside: the whole ladder is there once before any rung repeats.
    work = [(place, seed) for seed in range(options.seeds) for place in sorted(set(serving))]

    def of_seed(index: int, seed: int) -> Config:
        rung, output = rungs[index], str(folder / f"rung{index:02}_seed{seed}")
        return replace(
            rung.config,
            preset=f"{goal.preset}: {rung.name}",
            output=output,
            train=replace(rung.config.train, seed=seed),
        )

    def write() -> set[tuple[int, int]]:
        """The table of all that is known, whichever command found it; returns the trainings that are done."""
        places = [(index, seed) for index in range(len(rungs)) for seed in range(options.seeds)]
        outcomes = {
            place: outcome
            for place in places
            if (outcome := read_outcome(of_seed(*place))) is not None
        }
        write_table(folder, heading, rungs, outcomes)
        done = outcomes.keys() & set(work)
        seconds = [epochs * (outcomes[place]["seconds_an_epoch"] or math.nan) for place in done]
        left = (len(work) - len(done)) * statistics.fmean(seconds or [math.nan])
        print(
            f"{len(done)} of {len(work)} trainings of {epochs} epochs done -> {folder}; left {format_seconds(left)}",
            flush=True,
        )
        return done

    def attempt(place: int, seed: int) -> bool:
        """Trains and tests what is not there yet; False where another command is at it."""
        trained = of_seed(place, seed)
        try:
            held = FileLock(f"{trained.run_folder}.lock").acquire(
                blocking=False
            )  # freed by the system if this process dies
        except Timeout:
            return False
        with held:
            served = [
                of_seed(index, seed) for index in range(len(rungs)) if serving[index] == place
            ]
            if any([find_outcome(config, trained, train, score) for config in served]):
                write()
        return True

    write()
    try:
        elsewhere = [one for one in work if not attempt(*one)]
        if [
            one for one in elsewhere if not attempt(*one)
        ]:  # a second look: those that did them may have been stopped
            done = write()
            if missing := ", ".join(
                f"rung{place:02}_seed{seed}" for place, seed in work if (place, seed) not in done
            ):
                print(
                    f"still with other commands: {missing}. If one of them is stopped, give the same command again",
                    flush=True,
                )
        elif elsewhere:
            write()
    except (KeyboardInterrupt, SystemExit):
        print("The ladder goes on with the same command as before", flush=True)
        raise
    return folder


def settle(config: Config, options: LadderOptions, epochs: int) -> Config:
    """A preset with the ladder's data, budget and device; the ladder itself tests it, at the end."""
    config = shorten(config, epochs)
    return replace(
        config,
        data=options.data,
        train=replace(config.train, device=options.device, evaluate_every=0),
        resume=False,
    )
