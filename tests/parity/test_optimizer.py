"""Adam of both references, written out with plain loops in double precision. The parameters are double too: 1e-12 relative.

ms: torch's Adam, no decay. tf: TensorFlow's Adam, the L2 penalty's gradient (decay x weight) added to that of kernels, on one device of
several only, so that the mean over devices divides it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import references
import torch
from torch import nn

from simplepose.config import load_preset
from simplepose.training.schedule import make_optimizer, set_update

DECAY = {"ms": 0.0, "tf": 1e-5}
RATE = {"ms": 1e-3, "tf": 5e-4}


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ConvTranspose2d(3, 2, 2, bias=False),
        nn.Conv2d(2, 2, 1),
    ).double()


def plain_adam(
    values: list[float],
    gradients: list[list[float]],
    family: str,
    rate: float,
    decay: float,
    devices: int,
) -> list[float]:
    """Each number on its own through all updates."""
    results = []
    for place, value in enumerate(values):
        m = v = 0.0
        for t, gradient in enumerate((row[place] for row in gradients), start=1):
            g = gradient + decay / devices * value
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            if family == "tf":
                value -= rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-8)
            else:
                value -= rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        results.append(value)
    return results


@pytest.mark.parametrize("family", references.FAMILIES)
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("size", [1.0, 1e-8])
def test_three_updates(family: str, devices: int, size: float) -> None:
    """Kernels decay, norms and biases do not; gradients of 1e-8 show where epsilon stands."""
    config, network, rng = (
        load_preset(references.PRESETS[family]).train,
        small_network(),
        np.random.default_rng(1),
    )
    before = {
        name: parameter.detach().flatten().tolist()
        for name, parameter in network.named_parameters()
    }
    gradients: dict[str, list[list[float]]] = {name: [] for name in before}
    optimizer = make_optimizer(network, config, world_size=devices)
    for update in range(3):
        for name, parameter in network.named_parameters():
            parameter.grad = torch.from_numpy(rng.normal(size=tuple(parameter.shape)) * size)
            gradients[name].append(parameter.grad.flatten().tolist())
        set_update(optimizer, config.learning_rate, update, config.adam_epsilon)
        optimizer.step()
    for name, parameter in network.named_parameters():
        decay = DECAY[family] if name in ("0.weight", "2.weight", "3.weight") else 0.0
        expected = plain_adam(before[name], gradients[name], family, RATE[family], decay, devices)
        np.testing.assert_allclose(
            parameter.detach().flatten().numpy(), expected, rtol=1e-12, atol=1e-15, err_msg=name
        )


def test_the_two_epsilons_are_not_the_same_thing() -> None:
    """Were the seed trained with torch's epsilon, small gradients would move its weights visibly further."""
    config = load_preset("coco_r50_256x192_tf").train
    moved = []
    for style in ("tf", "torch"):
        network = small_network()
        optimizer = make_optimizer(network, replace(config, adam_epsilon=style))
        network[1].weight.grad = torch.full((3,), 1e-8, dtype=torch.float64)
        set_update(optimizer, 1.0, 0, style)
        optimizer.step()
        moved.append(1 - network[1].weight.detach().numpy()[0])
    assert moved[0] == pytest.approx(1 / (1 + 1 / math.sqrt(0.001)), rel=1e-6) and moved[
        1
    ] == pytest.approx(0.5, rel=1e-6)
