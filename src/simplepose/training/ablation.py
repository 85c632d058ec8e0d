"""What each part of a recipe is worth on your own data.

An ablation trains the reference, then the reference plus the first group of fields that its goal
changes, and so on up to the goal, every variant with every seed under the same budget. Finished
trainings are kept: the same command goes on where it stopped, and the same command given several
times, one for each device, divides the trainings among the devices.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import read_json, write_bytes, write_json
from simplepose.core.progress import Progress
from simplepose.core.settings import build, flatten, to_plain, unflatten
from simplepose.data.source import read_split
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.top_down import evaluate_network
from simplepose.pose.estimator import PoseEstimator
from simplepose.training.folder import STATE, changed_settings, read_records
from simplepose.training.run import read_held_out
from simplepose.training.schedule import fitting_drops

WEIGHTS = STATE.with_name("best.safetensors")
GROUPS: dict[str, tuple[str, ...]] = {
    "sub-pixel targets": ("codec.center", "codec.truncate", "codec.trained_when", "codec.udp"),
    "DARK decoding": ("codec.decoder", "codec.zero_without_peak"),
    "exact flip": ("codec.flip_shift",),
    "target width": ("codec.sigma", "codec.adaptive_sigma"),
    "order of colours": ("pixels.channel_order",),
    "loss and scores": (
        *("codec.kind", "train.hard_keypoints", "train.loss_factor"),
        "evaluate.keypoint_threshold",
    ),
    "batch size": ("train.batch_size",),
    "AdamW, warm-up, cosine": (
        *("train.optimizer", "train.learning_rate", "train.weight_decay", "train.schedule"),
        *("train.flat_fraction", "train.warmup_epochs", "train.drop_", "train.clip_gradient"),
    ),
    "averaged weights": ("train.ema",),
    "initialisation": (
        *("model.zero_init_last_bn_gamma", "model.init"),
        *("train.backbone_learning_rate_factor", "train.frozen_stages"),
    ),
    "head": ("model.head", "model.deconv_", "model.output_kernel"),
    "scale, rotation, shift, half body": (
        *("augment.scale_", "augment.rotation_", "augment.shift_", "augment.half_body_"),
        "augment.flip_",
    ),
    "colour and occlusion": ("augment.colour", "augment.cutout_", "augment.grid_"),
    "strong, then weak": ("augment.weak_epochs",),
    "teacher": ("train.teacher",),
    "everything else": ("",),
}
"""Group -> beginnings of the fields that it switches, in the order of the table. A field belongs to
the first group that names it."""
SIMCC = ("codec.kind", "codec.sigma", "codec.adaptive_sigma")
"""What is switched together with a SimCC head, without which it means nothing."""
NO_RECIPE = (
    *("preset", "output", "resume", "data.", "train.seed", "train.device", "train.precision"),
    *("train.epochs", "train.evaluate_every", "train.keep_every", "evaluate.ground_truth_boxes"),
)
"""Fields that say where, how long and on which boxes, not which recipe."""


@dataclass(frozen=True)
class Variant:
    """One row of the table: the recipe up to a group."""

    name: str
    """What is new in it."""
    changes: dict[str, Any]
    """Field -> new value, only those that are new."""
    config: Config
    """Everything up to here."""


def make_variants(base: Config, goal: Config) -> list[Variant]:
    """The way from one configuration to another.

    The first variant is the base itself, the last one has every field of the goal.

    Args:
        base: the reference.
        goal: the recipe. `NO_RECIPE` are taken from it throughout: data, epochs, device.
    """
    values, end = flatten(to_plain(base)), flatten(to_plain(goal))
    values |= {name: value for name, value in end.items() if name.startswith(NO_RECIPE)}
    simcc = "simcc" in (values["codec.kind"], end["codec.kind"])
    groups: dict[str, dict[str, Any]] = {"reference": {}, **{name: {} for name in GROUPS}}
    for name, value in end.items():
        if values[name] != value:
            group = next(group for group, names in GROUPS.items() if name.startswith(names))
            groups["head" if simcc and name in SIMCC else group][name] = value
    variants = list[Variant]()
    for name, changes in groups.items():
        if changes or not variants:
            values = values | changes
            config = build(Config, unflatten(values), f"variant {name!r}")
            variants.append(Variant(name, changes, config))
    return variants


def shorten(config: Config, epochs: int) -> Config:
    """The same recipe in another number of epochs: drops, warm-up and weak epochs keep their
    fraction of the run."""
    factor, train = epochs / config.train.epochs, config.train
    drops = fitting_drops((drop * factor for drop in train.drop_epochs), epochs)
    warmup, weak = train.warmup_epochs * factor, round(config.augment.weak_epochs * factor)
    return replace(
        config,
        train=replace(train, epochs=epochs, drop_epochs=drops, warmup_epochs=warmup),
        augment=replace(config.augment, weak_epochs=weak),
    )


def ablate(
    base: Config,
    goal: Config,
    folder: Path,
    seeds: int,
    train: Callable[[Config], Path],
    open_scorer: Callable[[Config], Any],
) -> Path:
    """Trains what is not trained yet and writes ablation.md and ablation.json after every training.

    Args:
        base: the reference.
        goal: the recipe, with the data, the device and the budget of all trainings.
        folder: of the trainings and the table.
        seeds: trainings of each variant.
        train: trains one configuration.
        open_scorer: makes what scores variants, see `Scorer`.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds another ablation, or a training of it failed.
    """
    score = open_scorer(goal)
    table = Table(folder, goal, score.box_name, make_variants(base, goal), seeds)
    table.write()
    try:
        # What was with others is asked for once more: they may have been stopped.
        for config in [one for one in table.configs if not attempt(table, one, train, score)]:
            attempt(table, config, train, score)
        if left := table.write():
            print(
                f"still with other commands: {', '.join(left)}. If one of them is stopped, give "
                "the same command again",
                flush=True,
            )
    except (KeyboardInterrupt, SystemExit):
        print("The ablation goes on with the same command as before", flush=True)
        raise
    return folder


def attempt(
    table: Table,
    config: Config,
    train: Callable[[Config], Path],
    score: Callable[[Config], dict[str, float]],
) -> bool:
    """Trains and scores one variant with one seed, where that is not done yet.

    Returns:
        False where another command is at it.
    """
    try:
        with FileLock(f"{config.run_folder}.lock", blocking=False):
            if read_outcome(config) is None:
                find_outcome(config, train, score)
                table.write()
    except Timeout:
        return False
    return True


@dataclass(frozen=True)
class Table:
    """The variants of an ablation and what is known of them, which lies in files of its folder."""

    folder: Path
    """Of the trainings and the table."""
    goal: Config
    """The recipe that it leads to."""
    boxes: str
    """The boxes that every variant is scored on."""
    variants: Sequence[Variant]
    """The rows."""
    seeds: int
    """Trainings of each."""

    @property
    def configs(self) -> list[Config]:
        """The trainings; every variant is there once before any is repeated."""
        return [
            replace(
                variant.config,
                preset=f"{self.goal.preset}: {variant.name}",
                output=str(self.folder / f"variant{index:02}_seed{seed}"),
                train=replace(variant.config.train, seed=seed),
            )
            for seed in range(self.seeds)
            for index, variant in enumerate(self.variants)
        ]

    def write(self) -> list[str]:
        """Writes ablation.md and ablation.json of all that is known, whichever command found it,
        and prints the table if it has rows. `-` where there was nobody to find.

        Returns:
            Folder names of the trainings that are not done.
        """
        found = [(config, read_outcome(config)) for config in self.configs]
        outcomes = {
            (place % len(self.variants), config.train.seed): outcome
            for place, (config, outcome) in enumerate(found)
            if outcome is not None
        }
        rows, epochs = make_rows(self.variants, outcomes), self.goal.train.epochs
        heading = {"preset": self.goal.preset, "boxes": self.boxes, "epochs": epochs}
        write_json(self.folder / "ablation.json", {**heading, "variants": rows}, indent=True)
        lines = [
            f"{self.goal.preset}, {epochs} epochs a training; AP and its gain over the variant "
            f"before, +- standard deviation over seeds; boxes: {self.boxes}.",
            "",
            "| variant | AP | delta | seeds | seconds an epoch |",
            "|---|---|---|---|---|",
            *map(_line, rows),
        ]
        write_bytes(self.folder / "ablation.md", ("\n".join(lines) + "\n").encode())
        if rows:
            print("\n" + "\n".join(lines), flush=True)
        counts = f"{len(outcomes)} of {len(found)} trainings of {epochs} epochs done"
        print(f"{counts} -> {self.folder}", flush=True)
        return [config.run_folder.name for config, outcome in found if outcome is None]


class Scorer:
    """Scores variants on the validation data."""

    def __init__(self, goal: Config) -> None:
        """Reads the validation data: what is wrong with it is told before hours of training.

        Args:
            goal: says where it is, on which boxes all variants are tested, and on which device.

        Raises:
            UserError: it is missing or damaged, or its keypoints are not those of the training
                data.
        """
        self.goal = goal
        people = require_sound(read_split(goal.data, "train"), goal.data)
        self.held_out = read_held_out(goal, people)
        self.box_name = self.held_out.box_name
        """The boxes on which every training is scored, and their AP."""

    def __call__(self, config: Config) -> dict[str, float]:
        """The ten numbers of a trained variant."""
        estimator = PoseEstimator.from_pretrained(
            config.run_folder,
            device=self.goal.train.device,
            flip_test=config.evaluate.flip_test,
            precision=config.train.precision,
            batch_size=config.evaluate.batch_size,
        )
        assert self.held_out.boxes is not None  # those of a pose network
        with Progress("evaluating", "boxes") as progress:
            return evaluate_network(
                estimator,
                self.held_out.people,
                self.held_out.boxes,
                config.evaluate,
                skip_broken=self.goal.data.skip_broken,
                progress=progress,
            ).metrics


def read_outcome(config: Config) -> dict[str, Any] | None:
    """AP and seconds of one variant, or None where they are not known yet.

    Raises:
        UserError: they are there, but of other settings.
    """
    path = config.run_folder / "outcome.json"
    if not path.exists():
        return None
    stored: dict[str, Any] = read_json(path)
    require_same_settings(stored["settings"], config)
    return stored


def find_outcome(
    config: Config,
    train: Callable[[Config], Path],
    score: Callable[[Config], dict[str, float]],
) -> None:
    """Writes the outcome of one variant; its training is done or gone on with if need be.

    Args:
        config: the variant.
        train: trains one configuration.
        score: a trained variant -> AP, AP50, AP75, AR.

    Raises:
        UserError: the folder holds a training with other settings.
    """
    run = config.run_folder
    # Nothing is evaluated on the way, so it is the end that writes the weights.
    started, ended = (run / STATE).exists(), (run / WEIGHTS).exists()
    if started or ended:
        require_same_settings(to_plain(load_preset(str(run / "config.yaml"))), config)
    if not ended:
        train(replace(config, resume=started))
    records = read_records(run / "metrics.jsonl")
    seconds = [record["seconds"] for record in records if "seconds" in record]
    scores = score(config)
    outcome = {name: scores[name] for name in ("AP", "AP50", "AP75", "AR")} | {
        "seconds_an_epoch": statistics.median(seconds) if seconds else None,
        "settings": to_plain(config),
    }
    write_json(run / "outcome.json", outcome, durable=True)


def require_same_settings(stored: dict[str, Any], config: Config) -> None:
    """Refuses a folder of another ablation; where it lies, and on which device it was trained, does
    not matter.

    Raises:
        UserError: names the settings that differ.
    """
    stored = {**stored, "train": {**stored["train"], "device": config.train.device}}
    if changes := changed_settings(stored, to_plain(config)):
        raise UserError(
            f"{config.run_folder} was trained with other settings ({', '.join(changes)}). "
            "Cure: the same command as before, or another --output"
        )


def make_rows(
    variants: Sequence[Variant], outcomes: Mapping[tuple[int, int], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each variant that has an outcome.

    Args:
        variants: of the table.
        outcomes: (index of the variant, seed) -> `AP` and `seconds_an_epoch`; -1 stands for an AP
            where there was nobody to find, None for the seconds of a training that was stopped
            before it had counted those of an epoch.

    Returns:
        `AP` is the mean over seeds and `AP_spread` their standard deviation; `delta` is the mean
        gain over the variant before, over the seeds that both have, and `delta_spread` its standard
        deviation. None where they are not defined.
    """
    rows: list[dict[str, Any]] = []
    for index, variant in enumerate(variants):
        seeds = sorted(seed for row, seed in outcomes if row == index)
        mine = [outcomes[index, seed] for seed in seeds]
        scores = [outcome["AP"] for outcome in mine]
        before = [outcomes.get((index - 1, seed), {}).get("AP", -1) for seed in seeds]
        pairs = zip(scores, before, strict=True)
        gains = [score - earlier for score, earlier in pairs if min(score, earlier) >= 0]
        times = [time for outcome in mine if (time := outcome["seconds_an_epoch"]) is not None]
        row = {
            "variant": variant.name,
            "changes": variant.changes,
            "AP": _mean(scores),
            "AP_all": scores,
            "AP_spread": _spread(scores),
            "delta": _mean(gains),
            "delta_spread": _spread(gains),
            "seconds_an_epoch": statistics.median(times) if times else None,
        }
        rows += [row] if mine else []
    return rows


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(values: list[float]) -> float | None:
    """Standard deviation of a sample; None of less than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def _line(row: Mapping[str, Any]) -> str:
    ap, delta, seconds = row["AP"], row["delta"], row["seconds_an_epoch"]
    cells = (
        row["variant"],
        "-" if ap < 0 else f"{ap:.3f}{_plus_minus(row['AP_spread'])}",
        "" if delta is None else f"{delta:+.3f}{_plus_minus(row['delta_spread'])}",
        str(len(row["AP_all"])),
        "-" if seconds is None else f"{seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _plus_minus(spread: float | None) -> str:
    return "" if spread is None else f" +- {spread:.3f}"
