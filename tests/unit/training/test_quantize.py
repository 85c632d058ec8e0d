"""Training for int8: what is rounded, what is not, and that only training rounds."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from simplepose.config import load_preset
from simplepose.pose.network import PoseNetwork
from simplepose.synthetic.dataset import write_synthetic_dataset
from simplepose.training.distributed import join_world
from simplepose.training.quantize import (
    FLOAT_TAIL,
    RoundedConvolution,
    round_in_training,
    rounded_inputs,
    rounded_weights,
)
from simplepose.training.start import assemble, read_training


def test_weights_keep_255_values_a_channel_and_pass_gradients() -> None:
    weight = (
        torch.randn(4, 3, 5, 5) * torch.tensor([0.01, 1, 10, 0])[:, None, None, None]
    ).requires_grad_()
    found = rounded_weights(weight)
    for channel, exact in zip(found.detach(), weight.detach(), strict=True):
        step = exact.abs().max() / 127
        assert (channel - exact).abs().max() <= step / 2 + 1e-9
        assert torch.allclose(channel, (channel / step.clamp(min=1e-9)).round() * step, atol=1e-6)
    found.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize("low", [-3.0, 0.0, 2.0])
def test_inputs_keep_256_values_and_zero_is_one(low: float) -> None:
    x = torch.rand(2, 3, 8, 8) * 5 + low
    x[0, 0, 0, 0] = 0
    found = rounded_inputs(x)
    step = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
    assert (found - x).abs().max() <= step and found[0, 0, 0, 0] == 0
    assert len(found.unique()) <= 256


@pytest.mark.parametrize("preset", ["coco_r18_128x96_narrow_mini", "person_lite0_320"])
def test_only_training_rounds_and_the_checkpoint_is_an_ordinary_one(preset: str) -> None:
    torch.manual_seed(0)
    network = PoseNetwork(replace(load_preset(preset).model, init=""), 2, (64, 64))
    plain = copy.deepcopy(network)
    round_in_training(network)
    rounded = [one for one in network.modules() if isinstance(one, RoundedConvolution)]
    every = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    assert len(rounded) == len(every) - FLOAT_TAIL and every[-1] not in rounded
    assert network.state_dict().keys() == plain.state_dict().keys()
    pixels = torch.randn(2, 3, 64, 64)
    assert not torch.equal(network(pixels), plain(pixels))
    network(pixels).square().mean().backward()
    assert all(one.weight.grad is not None for one in rounded)
    assert rounded[0].weight.grad.abs().sum() > 0
    copied = PoseNetwork(network.config, 2, (64, 64))
    copied.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(pixels), copied.eval()(pixels))


def test_the_visibility_head_does_not_take_the_place_of_the_output() -> None:
    model = load_preset("coco_r18_128x96_narrow_mini").model
    plain, seen = (
        PoseNetwork(replace(model, init="", visibility=one), 2, (64, 64)) for one in (False, True)
    )
    names = []
    for network in (plain, seen):
        round_in_training(network)
        modules = network.named_modules()
        names.append([name for name, one in modules if isinstance(one, RoundedConvolution)])
    assert names[0] == names[1] and "final_layer" not in names[0]


def test_the_option_reaches_the_step(tmp_path: Path) -> None:
    write_synthetic_dataset(tmp_path / "data", train_people=8, val_people=1)
    preset = load_preset("coco_r18_128x96_narrow_mini")
    train = replace(preset.train, quantize=True, batch_size=2, device="cpu")
    config = replace(preset, data=replace(preset.data, root=str(tmp_path / "data")), train=train)
    device = torch.device("cpu")
    with join_world(device, timeout_minutes=1) as world:
        parts = assemble(config, read_training(config), device, world, say=lambda sentence: None)
        parts.network.train()
        batch = next(iter(parts.loader.epoch(0))).to(device, parts.step.cut)
        loss = parts.step(batch, 1e-3, 0)
    assert torch.isfinite(loss)
    assert any(isinstance(one, RoundedConvolution) for one in parts.network.modules())
