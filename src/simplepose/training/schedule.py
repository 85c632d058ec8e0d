"""The learning rate as one pure function of the iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable

from simplepose.config import Config, TrainConfig
from simplepose.core.errors import UserError


def rate_at(config: TrainConfig, iteration: int, iterations_per_epoch: int) -> float:
    """The learning rate of one update.

    Args:
        config: `schedule` and its fields.
        iteration: 0-based index of the update.
        iterations_per_epoch: updates an epoch.
    """
    if config.schedule == "steps":
        rate = learning_rate(
            config.learning_rate,
            iteration,
            iterations_per_epoch,
            drop_epochs=config.drop_epochs,
            drop_factor=config.drop_factor,
            count_from_one=config.count_from_one,
        )
    else:
        rate = config.learning_rate * flat_cosine(
            iteration, config.epochs * iterations_per_epoch, config.flat_fraction
        )
    warmup = config.warmup_epochs * iterations_per_epoch
    return rate * min(1.0, (iteration + 1) / warmup) if warmup > 0 else rate


def learning_rate(
    base: float,
    iteration: int,
    iterations_per_epoch: int,
    *,
    drop_epochs: tuple[int, ...],
    drop_factor: float,
    count_from_one: bool,
) -> float:
    """Step decay.

    Args:
        base: rate before the first drop.
        iteration: 0-based index of the update.
        iterations_per_epoch: updates an epoch.
        drop_epochs: 0-based epochs at whose start the rate falls.
        drop_factor: the rate is multiplied by this at each drop.
        count_from_one: the seed numbers iterations from 1, so the last update of an epoch already has the next epoch's rate; ms does not.
    """
    epoch = (iteration + int(count_from_one)) // max(iterations_per_epoch, 1)
    return base * drop_factor ** sum(epoch >= drop for drop in drop_epochs)


def flat_cosine(iteration: int, total: int, flat_fraction: float) -> float:
    """1 for the first `flat_fraction` of `total` iterations, then half a cosine that reaches 0 at `total`."""
    flat = flat_fraction * total
    if iteration < flat or total <= flat:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (iteration - flat) / (total - flat)))


def fitting_drops(wanted: Iterable[float], epochs: int) -> tuple[int, ...]:
    """The whole epochs nearest to the wanted ones at which the rate can fall in a run of `epochs`; none in a run of one."""
    return tuple(sorted({min(max(1, round(drop)), epochs - 1) for drop in wanted} - {0}))


def check_schedule(run: Config) -> None:
    """Refuses a schedule that the run is too short for: its low rates would never come, and the result would be a surprise.

    Raises:
        UserError: a drop, the warm-up or the flat part lies beyond the last epoch, or the weak epochs leave no strong one.
    """
    config = run.train
    if run.augment.weak_epochs and run.augment.weak_epochs >= config.epochs:
        raise UserError(
            f"the last {run.augment.weak_epochs} epochs should have weak augmentation, but the run has {config.epochs}: none would have the strong one. "
            f"Cure: --augment.weak-epochs {config.epochs // 8}, or more --train.epochs"
        )
    late = [drop for drop in config.drop_epochs if drop >= config.epochs]
    if config.schedule == "steps" and late:
        fitting = " ".join(
            map(str, fitting_drops((0.64 * config.epochs, 0.86 * config.epochs), config.epochs))
        )
        raise UserError(
            f"the rate should drop at epochs {', '.join(map(str, late))}, but the run has {config.epochs}: the schedule is longer than the run. "
            f"Cure: --train.drop-epochs {fitting}".rstrip()
            + " (64 % and 86 % of the run, as the references), or more --train.epochs"
        )
    before = (
        config.warmup_epochs,
        config.flat_fraction * config.epochs if config.schedule == "flat_cosine" else config.epochs,
    )
    if before[0] > before[1]:
        raise UserError(
            f"a warm-up of {config.warmup_epochs:g} epochs does not fit into the {before[1]:g} epochs before the rate falls (the run has "
            f"{config.epochs}). Cure: a shorter --train.warmup-epochs, or more --train.epochs"
        )
