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

import orjson
import tyro
from filelock import FileLock, Timeout

from simplepose.atomic import read_json, write_json
from simplepose.commands.ladder_table import write_table
from simplepose.config import Config, load_preset, preset_names
from simplepose.data.columns import GROUND_TRUTH
from simplepose.data.source import DataConfig, boxes_to_test, has_split, read_split
from simplepose.errors import UserError
from simplepose.evaluation.top_down import name_boxes
from simplepose.progress import format_seconds
from simplepose.settings import require_options, to_plain
from simplepose.training.rungs import make_rungs, shorten, training_rungs
from simplepose.training.state import changed_settings


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
    from simplepose.commands.ladder_rung import Tester
    from simplepose.training.train import train

    climb(options, train, Tester(options.data, options.device))


def climb(options: LadderOptions, train: Callable[[Config], Path], test: Callable[[Path, Config], dict[str, float]]) -> Path:
    """Does the work. Returns the folder of the table.

    Args:
        options: the ladder.
        train: trains one configuration.
        test: (folder of a training, configuration of a rung that it serves) -> AP, AP50, AP75, AR.

    Raises:
        UserError: see `main`; also under torchrun.
    """
    require_options(options, {"seeds": (1, 1000), "epochs": (0, 1_000_000)})
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "a ladder has many trainings, each on one device. Cure: start the same command once for each device (--device cuda:0, cuda:1, ...), "
            "without torchrun; they share the trainings out"
        )
    if not has_split(options.data, "val"):
        raise UserError(
            "the ladder scores every training, and no validation data is named. Cure: --data.root DIR, or --data.val-annotations"
        )
    goal = load_preset(options.preset)
    epochs = options.epochs or goal.train.epochs
    base = load_preset(options.base or base_of(options.preset))
    rungs = make_rungs(*(settle(config, options, epochs) for config in (base, goal)))
    folder = Path(options.output or f"runs/ladder_{options.preset}")
    heading = {"preset": options.preset, "boxes": box_name(options.data), "epochs": epochs}
    serving, elsewhere = training_rungs(rungs), []
    count = len(set(serving)) * options.seeds

    def of_seed(index: int, seed: int) -> Config:
        rung, output = rungs[index], str(folder / f"rung{index:02}_seed{seed}")
        return replace(
            rung.config, preset=f"{options.preset}: {rung.name}", output=output, train=replace(rung.config.train, seed=seed)
        )  # fmt: skip

    def write() -> None:
        """The table of all that is known, whichever command found it."""
        places = [(index, seed) for index in range(len(rungs)) for seed in range(options.seeds)]
        outcomes = {place: outcome for place in places if (outcome := read_outcome(of_seed(*place))) is not None}
        write_table(folder, heading, rungs, outcomes)
        seconds = [epochs * outcome["seconds_an_epoch"] for (index, _), outcome in outcomes.items() if serving[index] == index]
        left = (count - len(seconds)) * statistics.fmean(seconds or [math.nan])
        print(
            f"{len(seconds)} of {count} trainings of {epochs} epochs done -> {folder}; left {format_seconds(left)} for one command",
            flush=True,
        )

    write()
    for seed in range(options.seeds):  # seeds outside: the whole ladder is there once before any rung repeats
        for place in sorted(set(serving)):
            trained = of_seed(place, seed)
            served = [of_seed(index, seed) for index in range(len(rungs)) if serving[index] == place]
            try:
                with FileLock(f"{trained.run_folder}.lock").acquire(blocking=False):  # freed by the system if this process dies
                    new = [find_outcome(config, trained, train, test) for config in served]
            except Timeout:
                elsewhere.append(str(trained.run_folder))
                continue
            if any(new):
                write()
    if elsewhere:
        print(f"left to other commands: {', '.join(elsewhere)}. The last of them to end writes the whole table", flush=True)
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


def read_outcome(config: Config) -> dict[str, Any] | None:
    """AP and seconds of one rung, or None where they are not known yet.

    Raises:
        UserError: they are there, but of other settings.
    """
    path = config.run_folder / "outcome.json"
    if not path.exists():
        return None
    stored: dict[str, Any] = read_json(path)
    require_same(stored["settings"], config, "was trained")
    return stored


def find_outcome(
    config: Config, trained: Config, train: Callable[[Config], Path], test: Callable[[Path, Config], dict[str, float]]
) -> bool:
    """Writes the outcome of one rung if it is not there yet, and says whether it did; its training is done or gone on with if need be.

    Args:
        config: the rung.
        trained: the rung whose training serves it, often itself.
        train: see `climb`.
        test: see `climb`.

    Raises:
        UserError: the folder holds a training with other settings.
    """
    if read_outcome(config) is not None:
        return False
    run = trained.run_folder
    started = (run / "checkpoints" / "last.train.pt").exists()
    if started:
        require_same(to_plain(load_preset(str(run / "config.yaml"))), trained, "was begun")
    if not (run / "checkpoints" / "best.safetensors").exists():  # nothing is evaluated on the way, so it is the end that writes it
        train(replace(trained, resume=started))
    lines = [orjson.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    seconds = statistics.median(line["seconds"] for line in lines if "seconds" in line)
    scores = test(run, config)
    outcome = {name: scores[name] for name in ("AP", "AP50", "AP75", "AR")}
    write_json(config.run_folder / "outcome.json", {**outcome, "seconds_an_epoch": seconds, "settings": to_plain(config)})
    return True


def require_same(stored: dict[str, Any], config: Config, what: str) -> None:
    """Refuses a folder of another ladder; where it lies, and on which device it was trained, does not matter.

    Raises:
        UserError: names the settings that differ.
    """
    stored = {**stored, "train": {**stored["train"], "device": config.train.device}}
    if changes := changed_settings(stored, to_plain(config)):
        raise UserError(
            f"{config.run_folder} {what} with other settings ({', '.join(changes)}). Cure: the same command as before, or another --output"
        )


def box_name(data: DataConfig) -> str:
    """The boxes on which every training is scored, and their AP."""
    if data.boxes == "gt":
        return GROUND_TRUTH
    held_out = read_split(data, "val")
    return name_boxes(held_out, boxes_to_test(data.boxes, held_out, data.root))[0]
