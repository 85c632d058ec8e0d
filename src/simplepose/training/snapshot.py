"""How a run of TensorFlow goes on here: from a snapshot of the seed, with Adam's moments.

The seed's own `--continue` begins at the epoch after the number in the newest snapshot's name, with
all variables as they were. `train.continue_from` does the same: the weights, m and v of each
trained variable, and Adam's count of updates come from the file; the epoch is the one after the
snapshot's; the learning rate is that of our schedule at that epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

from simplepose.config import Config, TrainConfig
from simplepose.core.errors import UserError
from simplepose.training.folder import Position
from simplepose.training.schedule import learning_rate_at
from simplepose.weights.tensorflow import (
    AdamState,
    checkpoint_prefix,
    is_checkpoint,
    read_adam,
    read_checkpoint,
    require_adam,
)
from simplepose.weights.weight_file import SEED_PEAK, SEED_PIXELS


def check_snapshot(config: Config) -> None:
    """Refuses a `train.continue_from` that cannot be continued, before any data is read.

    Nothing is asked of a run that resumes: it began from its snapshot long ago.

    Raises:
        UserError: no snapshot, one without Adam's slots, settings under which its moments or its
            weights mean something else, or no epoch left to train.
    """
    options, path = config.train, config.train.continue_from
    if not path or config.resume:
        return
    if options.weights:
        raise UserError(
            f"train.weights {options.weights} and train.continue_from {path} both say where the "
            "weights come from. Cure: leave one of them away"
        )
    named = is_checkpoint(path) or checkpoint_prefix(path).suffix == ".ckpt"
    if Path(path).exists() and not named:
        raise UserError(
            f"{path} is no TensorFlow snapshot. Cure: --train.weights {path} for weights of "
            "another kind; --resume with --output for a run of simplepose"
        )
    require_adam(read_checkpoint(path), path)
    _require_settings(config)
    epoch = options.continue_epoch if options.continue_epoch is not None else epoch_of_name(path)
    _require_epochs_left(epoch or 0, config)


def epoch_of_name(path: str) -> int | None:
    """100 for `snapshot_100.ckpt` or any of its files: the epochs behind it; None without one."""
    found = re.fullmatch(r"snapshot_(\d+)\.ckpt", checkpoint_prefix(path).name)
    return int(found[1]) if found else None


def continue_snapshot(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
    per_epoch: int,
    *,
    say: Callable[[str], None],
) -> Position:
    """Gives the optimiser the snapshot's memory; the network has its weights already.

    Args:
        network: whose parameters the optimiser changes.
        optimizer: from `make_optimizer`, changed in place.
        config: the run.
        per_epoch: updates an epoch of this run.
        say: takes sentences for people.

    Returns:
        Where the run goes on.

    Raises:
        UserError: the snapshot is damaged, or nobody can tell its epoch.
    """
    path = config.train.continue_from
    adam = read_adam(read_checkpoint(path), path)
    epoch, source = _epoch(config.train, adam, per_epoch)
    _require_epochs_left(epoch, config)
    _set_moments(network, optimizer, adam)
    step = epoch * per_epoch
    least = "at least " if adam.underflowed else ""
    say(
        f"continued {path}: Adam's moments after {least}{adam.updates:,} updates, "
        f"{epoch} epochs ({source}); going on with epoch {epoch + 1}"
    )
    if adam.updates > step or (adam.updates < step and not adam.underflowed):
        say(
            f"note: {epoch} epochs of this run are {step:,} updates: the snapshot was made with "
            "other people, another batch size or other devices. Adam counts on from its own number"
        )
    rate = learning_rate_at(config.train, max(step - 1, 0), per_epoch)
    if adam.learning_rate is not None and abs(adam.learning_rate - rate) > 1e-3 * rate:
        say(
            f"note: the snapshot's last learning rate was {adam.learning_rate:g}, this run's "
            f"schedule has {rate:g} there and goes on with its own"
        )
    return Position(step=step, adam_offset=adam.updates - step)


def _require_settings(config: Config) -> None:
    """Refuses settings under which the snapshot's weights or moments would mean something else."""
    differing = [
        f"--{name} {' '.join(map(str, theirs)) if isinstance(theirs, tuple) else theirs}"
        for name, ours, theirs in (
            ("train.optimizer", config.train.optimizer, "adam"),
            ("train.adam-epsilon", config.train.adam_epsilon, "tf"),
            ("pixels.channel-order", config.pixels.channel_order, SEED_PIXELS.channel_order),
            ("pixels.mean", config.pixels.mean, SEED_PIXELS.mean),
            ("pixels.std", config.pixels.std, SEED_PIXELS.std),
            ("codec.peak", config.codec.peak, SEED_PEAK),
        )
        if ours != theirs
    ]
    if differing:
        raise UserError(
            f"{config.train.continue_from} was trained under other settings than this run's "
            f"({', '.join(differing)}). Cure: a preset whose name ends in _tf, or these options"
        )


def _epoch(config: TrainConfig, adam: AdamState, per_epoch: int) -> tuple[int, str]:
    """Epochs behind the snapshot, and who says so: the option, its name, or Adam's count."""
    path = config.continue_from
    if config.continue_epoch is not None:
        return config.continue_epoch, "train.continue_epoch"
    if (named := epoch_of_name(path)) is not None:
        return named, "by its name"
    epoch, rest = divmod(adam.updates, per_epoch)
    if not adam.underflowed and not rest:
        return epoch, "by Adam's count"
    why = (
        "its beta2_power has underflowed, so Adam no longer counts"
        if adam.underflowed
        else f"Adam's {adam.updates:,} updates are no whole number of epochs of {per_epoch:,}"
    )
    raise UserError(
        f"nobody can tell the epoch of {path}: its name is not snapshot_EPOCH.ckpt, and {why}. "
        "Cure: --train.continue-epoch with the number of epochs behind it"
    )


def _require_epochs_left(epoch: int, config: Config) -> None:
    if epoch >= config.train.epochs:
        raise UserError(
            f"{config.train.continue_from} has {epoch} epochs behind it and the run has "
            f"{config.train.epochs}: nothing is left to train. Cure: more --train.epochs, or "
            f"simplepose import {config.train.continue_from} --as {config.preset or 'PRESET'}"
        )


def _set_moments(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, adam: AdamState
) -> None:
    """Loads m, v and the count as if this optimiser had made all updates itself."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {"exp_avg": adam.first_moments, "exp_avg_sq": adam.second_moments}
    state = optimizer.state_dict()
    state["state"] = {
        # In the parameter's memory format, which may be channels-last.
        index: {
            key: torch.empty_like(parameter).copy_(moment[names[parameter]])
            for key, moment in moments.items()
        }
        | {"step": torch.tensor(float(adam.updates))}
        for index, parameter in enumerate(parameters)
    }
    optimizer.load_state_dict(state)
