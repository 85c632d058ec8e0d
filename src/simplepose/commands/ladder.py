"""`simplepose ladder PRESET --data.root DIR --seeds 3`: what each part of a recipe is worth on your own data.

Trains the reference, then the reference plus the first group of fields, and so on up to PRESET, every rung with every seed under the same
budget. Finished trainings are kept: the same command goes on where it stopped.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import tyro

from simplepose.atomic import read_json, write_bytes, write_json
from simplepose.config import Config, load_preset, preset_names
from simplepose.data.columns import GROUND_TRUTH
from simplepose.data.source import DataConfig, boxes_to_test, has_split, read_split
from simplepose.errors import UserError
from simplepose.evaluation.top_down import name_boxes
from simplepose.settings import to_plain
from simplepose.training.rungs import Rung, make_rungs, shorten


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
    """auto, cpu, cuda, npu, mps, xpu."""
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
    from simplepose.training.train import train

    climb(options, train)


def climb(options: LadderOptions, train: Callable[[Config], Path]) -> Path:
    """Does the work; `train` is what trains one configuration. Returns the folder of the table."""
    if options.seeds < 1 or options.epochs < 0:
        raise UserError(f"--seeds {options.seeds} --epochs {options.epochs} make no ladder. Cure: at least one seed, and epochs or 0")
    if not has_split(options.data, "val"):
        raise UserError(
            "the ladder scores every training, and no validation data is named. Cure: --data.root DIR, or --data.val-annotations"
        )
    goal = load_preset(options.preset)
    epochs = options.epochs or goal.train.epochs
    base = load_preset(options.base or base_of(options.preset))
    rungs = make_rungs(*(settle(config, options, epochs) for config in (base, goal)))
    folder = Path(options.output or f"runs/ladder_{options.preset}")
    boxes = box_name(options.data)
    outcomes: dict[tuple[int, int], dict[str, Any]] = {}
    for seed in range(options.seeds):  # seeds outside: the whole ladder is there once before any rung repeats
        for index, rung in enumerate(rungs):
            config = replace(
                rung.config, output=str(folder / f"rung{index:02}_seed{seed}"), train=replace(rung.config.train, seed=seed)
            )  # fmt: skip
            outcomes[index, seed] = outcome_of(config, train)
            write_table(folder, options.preset, rungs, outcomes, epochs, boxes)
    return folder


def base_of(preset: str) -> str:
    """The reference a modern preset is compared with."""
    for ending, replacement in (("_mini_modern", "_mini"), ("_modern", "_ms")):
        if preset.endswith(ending) and preset.removesuffix(ending) + replacement in preset_names():
            return preset.removesuffix(ending) + replacement
    raise UserError(f"no reference is known for {preset}. Cure: name one with --base; presets: {', '.join(preset_names())}")


def settle(config: Config, options: LadderOptions, epochs: int) -> Config:
    """A preset with the ladder's data, budget and device; evaluated once, at the end."""
    config = shorten(config, epochs)
    return replace(
        config, data=options.data, train=replace(config.train, device=options.device, evaluate_every=epochs), resume=False
    )  # fmt: skip


def outcome_of(config: Config, train: Callable[[Config], Path]) -> dict[str, Any]:
    """AP and seconds of one training, which is done now if it is not yet, or gone on with.

    Raises:
        UserError: the folder holds a training with other settings.
    """
    run, settings = config.run_folder, orjson.loads(orjson.dumps(to_plain(config)))
    result = run / "outcome.json"
    if result.exists():
        stored = read_json(result)
        if stored["settings"] != settings:
            raise UserError(f"{run} was trained with other settings. Cure: the same command as before, or another --output")
        return stored
    begun = run / "settings.json"
    if begun.exists() and read_json(begun) != settings:
        raise UserError(f"{run} was begun with other settings. Cure: the same command as before, or another --output")
    write_json(begun, settings)
    started = (run / "checkpoints" / "last.train.pt").exists()
    if not started and (run / "config.yaml").exists():
        (run / "config.yaml").unlink()  # stopped before its first checkpoint: nothing is lost
    train(replace(config, resume=started))
    lines = [orjson.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    scored = [line for line in lines if "AP" in line]
    if not scored:
        raise UserError(f"{run} was not scored. Cure: check the validation data")
    outcome = {
        "AP": scored[-1]["AP"], "AP50": scored[-1]["AP50"], "AP75": scored[-1]["AP75"], "AR": scored[-1]["AR"],
        "seconds_an_epoch": statistics.median(line["seconds"] for line in lines if "seconds" in line), "settings": settings,
    }  # fmt: skip
    write_json(result, outcome)
    return outcome


def box_name(data: DataConfig) -> str:
    """The boxes on which every training is scored, and their AP."""
    if data.boxes == "gt":
        return GROUND_TRUTH
    held_out = read_split(data, "val")
    return name_boxes(held_out, boxes_to_test(data.boxes, held_out, data.root))[0]


def write_table(
    folder: Path, preset: str, rungs: list[Rung], outcomes: dict[tuple[int, int], dict[str, Any]], epochs: int, boxes: str
) -> None:
    """ladder.md and ladder.json of the trainings so far; also printed. `-` where there was nobody to find."""
    rows, before = [], None
    for index, rung in enumerate(rungs):
        done = [outcome for (place, _), outcome in sorted(outcomes.items()) if place == index]
        if not done:
            continue
        scores = [outcome["AP"] for outcome in done]
        mean = statistics.fmean(scores)
        rows.append(
            {
                "rung": rung.name, "changes": rung.changes, "AP": mean, "AP_all": scores,
                "AP_spread": statistics.stdev(scores) if len(done) > 1 else None,
                "delta": None if before is None or mean < 0 else mean - before,
                "seconds_an_epoch": statistics.median(outcome["seconds_an_epoch"] for outcome in done),
            }
        )  # fmt: skip
        before = mean
    write_json(folder / "ladder.json", {"preset": preset, "boxes": boxes, "epochs": epochs, "rungs": rows}, indent=True)
    lines = [f"{preset}, {epochs} epochs a training; AP +- standard deviation over seeds; boxes: {boxes}.", ""]
    lines += ["| rung | AP | delta | seeds | seconds an epoch |", "|---|---|---|---|---|"]
    for row in rows:
        spread = "" if row["AP_spread"] is None else f" +- {row['AP_spread']:.3f}"
        score = f"{row['AP']:.3f}{spread}" if row["AP"] >= 0 else "-"
        delta = "" if row["delta"] is None else f"{row['delta']:+.3f}"
        lines.append(f"| {row['rung']} | {score} | {delta} | {len(row['AP_all'])} | {row['seconds_an_epoch']:.1f} |")
    write_bytes(folder / "ladder.md", ("\n".join(lines) + "\n").encode())
    print("\n" + "\n".join(lines), flush=True)
