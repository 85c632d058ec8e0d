"""The optimiser of both references: Adam with coupled L2 on kernels only, and TensorFlow's way of adding epsilon.

Kingma and Ba 2015: m and v are running means of the gradient and of its square. PyTorch divides m by `sqrt(v / (1 - .999^t)) + eps`;
TensorFlow puts the correction into the rate and divides by `sqrt(v) + eps` (the form at the end of the paper's section 2), so the same
eps acts 1 / sqrt(1 - .999^t) times as strong: 32 times at the first update, equal in the long run.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from simplepose.config import TrainConfig
from simplepose.weights.weight_file import HEAD_NAMES

EPSILON, BETA2 = 1e-8, 0.999
"""Defaults of both frameworks, which both references use."""


def make_optimizer(
    network: torch.nn.Module,
    config: TrainConfig,
    *,
    device_count: int = 1,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """Adam or AdamW with two groups: kernels of convolutions and deconvolutions decay, norms and biases do not.

    Args:
        network: what is trained.
        config: `optimizer`, `learning_rate`, `weight_decay`, `divide_decay`.
        device_count: devices that train together.
        fused: one kernel for all parameters, where the device has it; None lets torch choose.
    """
    decay = config.weight_decay / (device_count if config.divide_decay else 1)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    if config.backbone_learning_rate_factor != 1:
        groups = _split_trunk(network, groups, config.backbone_learning_rate_factor)
    make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return make(groups, lr=config.learning_rate, betas=(0.9, BETA2), eps=EPSILON, fused=fused)


def set_update(
    optimizer: torch.optim.Optimizer, rate: float, updates_done: int, config: TrainConfig
) -> None:
    """Sets the learning rate and the epsilon of the next update.

    Args:
        optimizer: from `make_optimizer`.
        rate: learning rate of this update.
        updates_done: updates since the optimiser was new.
        config: `adam_epsilon`.
    """
    epsilon = (
        EPSILON / math.sqrt(1 - BETA2 ** (updates_done + 1))
        if config.adam_epsilon == "tf"
        else EPSILON
    )
    for group in optimizer.param_groups:
        group["lr"], group["eps"] = rate * group.get("rate_factor", 1.0), epsilon


def _split_trunk(
    network: torch.nn.Module, groups: list[dict[str, Any]], factor: float
) -> list[dict[str, Any]]:
    """Each group as two: the head's parameters at the full rate, the trunk's at `factor` times it."""
    head = {
        id(parameter)
        for name, parameter in network.named_parameters()
        if name.startswith(HEAD_NAMES)
    }
    split = []
    for group in groups:
        for in_head, rate_factor in ((True, 1.0), (False, factor)):
            chosen = [
                parameter for parameter in group["params"] if (id(parameter) in head) == in_head
            ]
            split.append({**group, "params": chosen, "rate_factor": rate_factor})
    return split
