"""The loss of both references, summed in double precision; 1e-5 relative covers the float32 mean over a batch."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch

from simplepose.config import load_preset
from simplepose.training.step import heatmap_loss


def expected_loss(
    predicted: np.ndarray, target: np.ndarray, weights: np.ndarray, family: str
) -> float:
    batch, count, height, width = predicted.shape
    if family == "tf":  # one mean over everything
        total = 0.0
        for b in range(batch):
            for k in range(count):
                total += float((((predicted[b, k] - target[b, k]) ** 2) * weights[b, k]).sum())
        return total / (batch * count * height * width)
    total = 0.0  # half the mean squared error of each keypoint's masked maps over the batch, averaged over keypoints
    for k in range(count):
        squares = 0.0
        for b in range(batch):
            squares += float(
                ((predicted[b, k] * weights[b, k] - target[b, k] * weights[b, k]) ** 2).sum()
            )
        total += 0.5 * squares / (batch * height * width)
    return total / count


@pytest.mark.parametrize("family", references.FAMILIES)
@pytest.mark.parametrize("masked", [0.0, 0.3, 1.0])
def test_loss(family: str, masked: float) -> None:
    """Masked keypoints add nothing and stay in the denominator."""
    rng = np.random.default_rng(7)
    predicted, target = rng.normal(size=(2, 3, 5, 8, 6)) * references.PEAK[family]
    weights = (rng.random((3, 5)) >= masked).astype(np.float64)
    loss = heatmap_loss(
        *(torch.from_numpy(a).float() for a in (predicted, target, weights)),
        load_preset(references.PRESETS[family]).train.loss_factor,
    )
    assert float(loss) == pytest.approx(expected_loss(predicted, target, weights, family), rel=1e-5)
    assert (float(loss) > 0) == (masked < 1)
