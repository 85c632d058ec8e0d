"""Batch norm of both references with loops in double precision; the network computes in float32: 1e-5 relative.

Running statistics: mean and *unbiased* variance of the batch (TensorFlow's fused kernel and torch agree), decay .99 in tf, .9 in ms.
The seed writes eps 1e-9; TensorFlow's fused kernel raises it to 1.001e-5. Normalisation in training uses the biased variance.
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
from simplepose.pose.network import PoseNetwork

DECAY, EPS = {"ms": 0.9, "tf": 0.99}, {"ms": 1e-5, "tf": 1.001e-5}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim backbone: only its norms matter here."""
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", (8, 8, 8, 8))


def plain(
    values: np.ndarray, gamma: float, beta: float, mean: float, variance: float, eps: float
) -> np.ndarray:
    return np.array(
        [gamma * (value - mean) / math.sqrt(variance + eps) + beta for value in values.ravel()]
    ).reshape(values.shape)


@pytest.mark.parametrize("family", references.FAMILIES)
def test_training_and_evaluation(family: str) -> None:
    """Three batches in training, one of them nearly constant so that eps shows; then evaluation with what was gathered."""
    config = replace(
        load_preset(references.PRESETS[family]).model, backbone="resnet18", deconv_filters=8
    )
    layer = PoseNetwork(config, 17).deconv_layers[1]
    assert isinstance(layer, nn.BatchNorm2d)
    rng = np.random.default_rng(0)
    gamma, beta = rng.normal(size=8), rng.normal(size=8)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(gamma))
        layer.bias.copy_(torch.from_numpy(beta))
    running_mean, running_variance = [0.0] * 8, [1.0] * 8
    for deviation in (3.0, 0.003, 1.0):
        batch = (
            rng.normal(size=(2, 8, 3, 4)) * deviation + np.arange(8)[:, None, None] * deviation
        ).astype(np.float32)
        out = layer(torch.from_numpy(batch)).detach().numpy()
        for channel in range(8):
            values = batch[:, channel].astype(np.float64).ravel()
            mean = sum(values) / len(values)
            squares = sum((value - mean) ** 2 for value in values)
            expected = plain(
                batch[:, channel],
                gamma[channel],
                beta[channel],
                mean,
                squares / len(values),
                EPS[family],
            )
            np.testing.assert_allclose(out[:, channel], expected, rtol=1e-4, atol=1e-5)
            running_mean[channel] += (1 - DECAY[family]) * (mean - running_mean[channel])
            running_variance[channel] += (1 - DECAY[family]) * (
                squares / (len(values) - 1) - running_variance[channel]
            )
    np.testing.assert_allclose(layer.running_mean.numpy(), running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy(), running_variance, rtol=1e-5)
    batch = rng.normal(size=(2, 8, 3, 4)).astype(np.float32)
    out = layer.eval()(torch.from_numpy(batch)).detach().numpy()
    for channel in range(8):
        expected = plain(
            batch[:, channel],
            gamma[channel],
            beta[channel],
            running_mean[channel],
            running_variance[channel],
            EPS[family],
        )
        np.testing.assert_allclose(out[:, channel], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", references.FAMILIES)
def test_every_norm_of_the_network(family: str) -> None:
    """No layer keeps torch's defaults by accident."""
    network = PoseNetwork(
        replace(
            load_preset(references.PRESETS[family]).model, backbone="resnet18", deconv_filters=8
        ),
        17,
    )
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    # One more than usual: the slim backbone's first stage needs a projection.
    assert len(norms) == 24
    for norm in norms:
        assert norm.momentum == pytest.approx(1 - DECAY[family]) and norm.eps == EPS[family]
