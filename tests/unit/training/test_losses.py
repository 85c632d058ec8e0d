"""The losses beside the references' squared error, which tests/parity checks."""

from __future__ import annotations

import pytest
import torch

from simplepose.config import CodecConfig
from simplepose.pose.codec import encode
from simplepose.training.step import cross_entropy, hardest, heatmap_loss, training_loss

SIZE, MAP = (96, 128), (24, 32)


def samples(kind: str) -> tuple[CodecConfig, torch.Tensor, torch.Tensor]:
    codec = CodecConfig(kind=kind, center="exact", truncate=False, trained_when="inside", sigma=2.0)  # type: ignore[arg-type]
    keypoints = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(0)) * 90
    visible = torch.tensor([[True] * 5, [True, False] * 2 + [True], [False] * 5])
    return codec, *encode(keypoints, visible, codec, SIZE, MAP)


@pytest.mark.parametrize("kind", ["softmax", "simcc"])
def test_a_perfect_answer_costs_nothing_and_any_other_more(kind: str) -> None:
    codec, target, weights = samples(kind)
    perfect = target.clamp(min=1e-30).log()
    assert float(training_loss(perfect, target, weights, codec, SIZE)) == pytest.approx(0, abs=1e-4)
    assert float(training_loss(torch.zeros_like(target), target, weights, codec, SIZE)) > 1


@pytest.mark.parametrize("kind", ["heatmap", "softmax", "simcc"])
@pytest.mark.parametrize("hard", [0, 2])
def test_unlabelled_keypoints_and_empty_batches_have_no_gradient(kind: str, hard: int) -> None:
    codec, target, weights = samples(kind)
    outputs = torch.randn_like(target, requires_grad=True)
    training_loss(outputs, target, weights, codec, SIZE, hard_keypoints=hard).backward()
    assert outputs.grad is not None and torch.isfinite(outputs.grad).all()
    flat = outputs.grad.flatten(2).abs().sum(-1)
    assert (flat[weights == 0] == 0).all() and (flat[0] > 0).sum() == (hard or 5)
    nothing = training_loss(outputs, target * 0, weights * 0, codec, SIZE)
    assert float(nothing.detach()) == 0


@pytest.mark.parametrize("kind", ["heatmap", "softmax", "simcc"])
def test_the_loss_of_a_batch_is_the_mean_of_its_people(kind: str) -> None:
    """So parts of a batch, and processes, add up to one large batch, however unevenly keypoints are labelled."""
    codec, target, weights = samples(kind)
    outputs = torch.randn_like(target)
    whole = training_loss(outputs, target, weights, codec, SIZE)
    apart = [
        training_loss(*(part[row : row + 1] for part in (outputs, target, weights)), codec, SIZE)
        for row in range(3)
    ]
    assert torch.allclose(whole, torch.stack(apart).mean(), rtol=1e-6)


def test_hard_keypoints_are_the_worst_of_each_person() -> None:
    assert hardest(torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 9.0]]), 2).tolist() == [[5, 3], [9, 2]]
    assert hardest(torch.ones(2, 3), 8).shape == (2, 3)
    codec, target, weights = samples("heatmap")
    outputs = torch.zeros_like(target)
    everything = training_loss(outputs, target, weights, codec, SIZE, hard_keypoints=5)
    assert torch.allclose(everything, heatmap_loss(outputs, target, weights, 0.5))


def test_cross_entropy_is_the_divergence() -> None:
    target = torch.tensor([[[0.5, 0.5, 0.0]]])
    expected = 0.5 * torch.log(torch.tensor(0.5 / (1 / 3))) * 2
    assert cross_entropy(torch.zeros(1, 1, 3), target * 7).item() == pytest.approx(expected.item())
