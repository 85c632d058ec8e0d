"""The light heatmap head: shapes, cost, first values, and its weights on their way through files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.cost import count_cost
from simplepose.pose.network import ModelConfig, PoseResNet
from simplepose.training.first_weights import load_first_weights

LIGHT = ModelConfig(depth=18, head="heatmap_light", deconv_filters=8)


@pytest.mark.parametrize(("layers", "shape"), [(3, (2, 17, 32, 24)), (2, (2, 17, 16, 12))])
def test_maps_as_large_as_with_deconvolutions(layers: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = PoseResNet(replace(LIGHT, deconv_layers=layers), 17)
    maps = network(torch.randn(2, 3, 128, 96))
    assert maps.shape == shape and maps.detach().abs().max() < 0.1  # flat at first
    maps.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("depth", "size"), [(18, (96, 128)), (50, (192, 256))])
def test_it_costs_less(depth: int, size: tuple[int, int]) -> None:
    parameters, macs = count_cost(PoseResNet(ModelConfig(depth=depth), 17), size)
    light = count_cost(PoseResNet(ModelConfig(depth=depth, head="heatmap_light", deconv_filters=160), 17), size)
    assert light[0] < 0.8 * parameters and light[1] < 0.96 * macs


def test_weights_travel_and_start_another_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PoseResNet(LIGHT, 17)
    save_checkpoint(tmp_path / "w.safetensors", network, ModelSpec(preset="x", schema=COCO_17, input_size_wh=(96, 128), model=LIGHT))
    again = load_model(tmp_path / "w.safetensors").network
    assert all(torch.equal(one, two) for one, two in zip(network.state_dict().values(), again.state_dict().values(), strict=True))
    config = load_preset("coco_r18_128x96_mini_modern")
    config = replace(config, model=LIGHT, train=replace(config.train, weights=str(tmp_path / "w.safetensors")))
    other = PoseResNet(LIGHT, 17)
    assert load_first_weights(other, COCO_17, config)
    assert torch.equal(other.head.output.weight, network.head.output.weight)
    deconvolutions = replace(config, model=ModelConfig(depth=18, deconv_filters=8))
    with pytest.raises(UserError, match="heatmap_light.*--model.head"):
        load_first_weights(PoseResNet(deconvolutions.model, 17), COCO_17, deconvolutions)
