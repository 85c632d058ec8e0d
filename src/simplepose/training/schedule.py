"""The optimiser and its learning rate, as in both references.

Adam (Kingma and Ba 2015) keeps m and v, running means of the gradient and of its square. PyTorch
divides m by `sqrt(v / (1 - .999^t)) + eps`; TensorFlow puts the correction into the learning rate
and divides by `sqrt(v) + eps` (the form at the end of the paper's section 2), so the same eps acts
1 / sqrt(1 - .999^t) times as strong: 32 times at the first update, equal in the long run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from simplepose.config import TrainConfig
from simplepose.core.errors import UserError
from simplepose.weights.weight_file import HEAD_NAMES

EPSILON, BETA2 = 1e-8, 0.999
"""Defaults of both frameworks, which both references use."""


def make_optimizer(
    network: torch.nn.Module,
    config: TrainConfig,
    *,
    world_size: int = 1,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """Adam or AdamW whose decay acts on kernels of convolutions alone, not on norms and biases.

    Args:
        network: what is trained.
        config: `optimizer`, `learning_rate`, `weight_decay`, `divide_decay`,
            `backbone_learning_rate_factor`, which makes groups of their own for the backbone.
        world_size: devices that train together.
        fused: one kernel for all parameters, where the device has it; None lets torch choose.
    """
    decay = config.weight_decay / (world_size if config.divide_decay else 1)
    backbone_factor = config.backbone_learning_rate_factor
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for is_kernel in (True, False):
        for factor in dict.fromkeys((1.0, backbone_factor)):
            groups[is_kernel, factor] = {
                "params": [],
                "weight_decay": decay if is_kernel else 0.0,
                "factor": factor,
            }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = 1.0 if name.startswith(HEAD_NAMES) else backbone_factor
            groups[parameter.dim() > 1, factor]["params"].append(parameter)
    make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    options: Any = {"lr": config.learning_rate, "betas": (0.9, BETA2), "eps": EPSILON}
    return make(list(groups.values()), **options, fused=fused)


def set_update(
    optimizer: torch.optim.Optimizer, learning_rate: float, updates_done: int, adam_epsilon: str
) -> None:
    """Sets the learning rate and the epsilon of the next update.

    Args:
        optimizer: from `make_optimizer`.
        learning_rate: of this update.
        updates_done: updates since the optimiser was new.
        adam_epsilon: `train.adam_epsilon`.
    """
    tf = adam_epsilon == "tf"
    epsilon = EPSILON / math.sqrt(1 - BETA2 ** (updates_done + 1)) if tf else EPSILON
    for group in optimizer.param_groups:
        group["lr"], group["eps"] = learning_rate * group["factor"], epsilon


def learning_rate_at(config: TrainConfig, iteration: int, per_epoch: int) -> float:
    """The learning rate of one update.

    Args:
        config: `schedule` and its fields.
        iteration: 0-based index of the update.
        per_epoch: updates an epoch.
    """
    if config.schedule == "steps":
        # The seed counts iterations from 1, so that the last update of an epoch already has the
        # next epoch's learning rate; ms does not.
        epoch = (iteration + int(config.count_from_one)) // max(per_epoch, 1)
        drops = sum(epoch >= drop for drop in config.drop_epochs)
        rate = config.learning_rate * config.drop_factor**drops
    else:
        rate = config.learning_rate * flat_cosine(
            iteration, config.epochs * per_epoch, config.flat_fraction
        )
    warmup = config.warmup_epochs * per_epoch
    return rate * min(1.0, (iteration + 1) / warmup) if warmup > 0 else rate


def flat_cosine(iteration: int, total: int, flat_fraction: float) -> float:
    """1 for the first `flat_fraction` of `total` iterations, then half a cosine down to 0."""
    flat = flat_fraction * total
    if iteration < flat or total <= flat:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (iteration - flat) / (total - flat)))


def fitting_drops(wanted: Iterable[float], epochs: int) -> tuple[int, ...]:
    """The whole epochs nearest to the wanted ones at which the learning rate can fall in a run of
    `epochs`; none in a run of one."""
    return tuple(sorted({min(max(1, round(drop)), epochs - 1) for drop in wanted} - {0}))


def check_schedule(config: TrainConfig, weak_epochs: int) -> None:
    """Refuses a schedule that the run is too short for: its low learning rates would never come.

    Raises:
        UserError: a drop, the warm-up or the flat part lies beyond the last epoch, or the
            `weak_epochs` of augmentation leave no strong one.
    """
    epochs = config.epochs
    if weak_epochs >= epochs:
        raise UserError(
            f"the last {weak_epochs} epochs should have weak augmentation, but the run has "
            f"{epochs}: none would have the strong one. "
            f"Cure: --augment.weak-epochs {epochs // 8}, or more --train.epochs"
        )
    steps = config.schedule == "steps"
    if steps and (late := [drop for drop in config.drop_epochs if drop >= epochs]):
        fitting = " ".join(map(str, fitting_drops((0.64 * epochs, 0.86 * epochs), epochs)))
        raise UserError(
            f"the learning rate should drop at epochs {', '.join(map(str, late))}, but the run has "
            f"{epochs}. Cure: --train.drop-epochs {fitting} (64 % and 86 % of the run, as the "
            "references), or more --train.epochs"
        )
    before = epochs if steps else config.flat_fraction * epochs
    if config.warmup_epochs > before:
        raise UserError(
            f"a warm-up of {config.warmup_epochs:g} epochs does not fit into the {before:g} epochs "
            f"before the learning rate falls (the run has {epochs}). "
            "Cure: a shorter --train.warmup-epochs, or more --train.epochs"
        )
