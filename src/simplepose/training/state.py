"""What a run must remember to go on exactly where it stopped: one file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from simplepose.core.device import random_state, restore_random_state
from simplepose.core.errors import UserError
from simplepose.core.files import atomic_path
from simplepose.core.settings import flatten
from simplepose.pose.checkpoints import ModelSpec, load_tensors, require_schema
from simplepose.training.distributed import Processes, gather
from simplepose.training.ema import Ema

FIXED = (
    "input_size_wh",
    "pixels.",
    "model.",
    "codec.",
    "train.batch_size",
    "train.last_batch",
    "train.optimizer",
    "train.weight_decay",
    "train.divide_decay",
    "train.backbone_learning_rate_factor",
    "train.frozen_stages",
    "train.seed",
    "train.ema",
    "evaluate.task",
)
"""Fields that cannot change within a run; of the average only whether there is one."""


@dataclass
class Position:
    """Where a run is."""

    step: int = 0
    """Updates done so far."""
    best_score: float = -1.0
    """Best score of its evaluations: AP, or what `evaluate.task` has in its place."""
    loss_sum: float = 0.0
    """Sum of the losses of this epoch so far."""
    loss_count: int = 0
    """Their number."""
    evaluated_step: int = 0
    """Step of the last evaluation."""
    adam_offset: int = 0
    """Adam's own count of updates less `step`: not 0 where a run goes on from another program's."""


def save_state(
    path: Path,
    position: Position,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None,
    spec: ModelSpec,
    device: torch.device,
    who: Processes,
    *,
    people: int,
) -> None:
    """Writes everything `restore_state` needs; all processes call it together, the first one writes."""
    random_states = gather(random_state(device), who)
    if not who.first:
        return
    state = {
        "position": vars(position),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_states,
        "people": people,
        "spec": spec.to_json(),
        "ema": None
        if ema is None
        else {"network": ema.network.state_dict(), "updates": ema.updates},
    }
    with atomic_path(path, durable=True) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch reports that the disk is full
            raise OSError(str(error).splitlines()[0]) from error


def restore_state(
    path: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None,
    spec: ModelSpec,
    device: torch.device,
    who: Processes,
    *,
    people: int,
    say: Callable[[str], None],
) -> Position:
    """Loads what `save_state` wrote into the network, the optimiser, the average and the random generators.

    `say` takes a sentence about the settings that are no longer those of the run so far.

    Raises:
        UserError: the file is damaged, of another network, of another number of processes or training people (`people`), or of settings that
            cannot change within a run.
    """
    state = read_state(path)
    require_schema(ModelSpec.from_json(state["spec"], str(path)), spec.schema, str(path))
    if len(state["random"]) != who.count:
        raise UserError(
            f"{path} belongs to a run of {len(state['random'])} processes, here are {who.count}. Cure: go on with the same number, with which "
            f"the run is repeated exactly, or start a new run with --train.weights {path.with_name('last.safetensors')}"
        )
    stored = ModelSpec.from_json(state["spec"], str(path)).config
    require_same_run(stored, spec.config, path)
    if changes := changed_settings(stored, spec.config):
        say(f"note: other settings than so far: {', '.join(changes)}")
    if state.get("people", people) != people:
        raise UserError(
            f"{path} belongs to a run on {state['people']} people, here are {people}. Cure: name the same training data"
        )
    load_tensors(network, state["network"], str(path))
    optimizer.load_state_dict(state["optimizer"])
    if ema is not None:
        load_tensors(ema.network, state["ema"]["network"], str(path))
        ema.updates = state["ema"]["updates"]
    restore_random_state(state["random"][who.rank], device)
    return Position(**state["position"])


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; `network` holds the weights themselves, `ema` their average or None.

    Raises:
        UserError: the file is damaged, or of an older version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a damaged file
        raise UserError(
            f"{path} cannot be read: {error}. Cure: start a new run with --train.weights {path.with_name('last.safetensors')}"
        ) from error
    if "position" not in state:
        raise UserError(
            f"{path} was written by an older version. Cure: finish that run with that version, or start a new one"
        )
    return state


def changed_settings(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`field old -> new` for each setting that differs; where the run is written and how it was called are none."""
    before, after = flatten(stored), flatten(now)
    names = sorted((before.keys() & after.keys()) - {"output", "preset", "resume", "profile"})
    return [
        f"{name} {before[name]} -> {after[name]}" for name in names if before[name] != after[name]
    ]


def require_same_run(stored: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Refuses to go on with settings that decide what a step, a position or the optimiser's memory mean.

    Rates, their schedule, the number of epochs, augmentation, places and devices may change.

    Args:
        stored: the configuration the state was written under.
        now: this one's.
        path: names the file in messages.

    Raises:
        UserError: names the first such field, with both values.
    """
    before, after = flatten(stored), flatten(now)
    for name in sorted(before.keys() & after.keys()):
        old, new = (
            bool(side[name]) if name == "train.ema" else side[name] for side in (before, after)
        )
        if name.startswith(FIXED) and name != "model.init" and old != new:
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{path} belongs to a run with {name} {before[name]}, here it is {after[name]}. Cure: {option} as it was, or a new run "
                "(with --train.weights it begins where this one is)"
            )
