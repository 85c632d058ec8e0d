"""The light heatmap heads: shapes, cost, initialisation, and its weights on their way through files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from network_cost import count_cost

from simplepose.config import ModelConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.network import PoseNetwork
from simplepose.training.start import load_weights

LIGHT = ModelConfig(backbone="resnet18", head="heatmap_light", deconv_filters=8)
HEADS = ["heatmap_light", "heatmap_depthwise"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize(("layers", "shape"), [(3, (2, 17, 32, 24)), (2, (2, 17, 16, 12))])
def test_maps_as_large_as_with_deconvolutions(
    head: str, backbone: str, layers: int, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = PoseNetwork(replace(LIGHT, head=head, backbone=backbone, deconv_layers=layers), 17)
    maps = network(torch.randn(2, 3, 128, 96))
    assert maps.shape == shape and maps.detach().abs().max() < 0.1  # flat at first
    maps.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("depth", "size"), [(18, (96, 128)), (50, (192, 256))])
def test_it_costs_less(depth: int, size: tuple[int, int]) -> None:
    parameters, macs = count_cost(PoseNetwork(ModelConfig(backbone=f"resnet{depth}"), 17), size)
    light = count_cost(
        PoseNetwork(
            ModelConfig(backbone=f"resnet{depth}", head="heatmap_light", deconv_filters=160), 17
        ),
        size,
    )
    assert light[0] < 0.8 * parameters and light[1] < 0.96 * macs


def test_depthwise_costs_less_again() -> None:
    """A mix of F channels: 25 F + F F multiplications a pixel in place of 9 F F; all else is the same."""
    size, filters = (96, 128), 128
    full, depthwise = (
        count_cost(
            PoseNetwork(
                ModelConfig(backbone="efficientnet_lite0", head=head, deconv_filters=filters), 17
            ),
            size,
        )[1]
        for head in HEADS
    )
    pixels = sum((size[0] // stride) * (size[1] // stride) for stride in (4, 8, 16))
    assert full - depthwise == pixels * (9 * filters * filters - 25 * filters - filters * filters)


def test_every_convolution_of_the_head_begins_as_wide_as_its_fan_out() -> None:
    torch.manual_seed(0)
    head = PoseNetwork(
        ModelConfig(backbone="resnet18", head="heatmap_depthwise", deconv_filters=256), 17
    ).head
    depthwise, pointwise = head.mixes[0][0].weight, head.mixes[0][3].weight
    assert float(depthwise.detach().std()) == pytest.approx((2 / 25) ** 0.5, rel=0.05)
    assert float(pointwise.detach().std()) == pytest.approx((2 / 256) ** 0.5, rel=0.05)


@pytest.mark.parametrize("head", HEADS)
def test_weights_travel_and_start_another_run(head: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    light = replace(LIGHT, head=head)
    network = PoseNetwork(light, 17)
    save_checkpoint(
        tmp_path / "w.safetensors",
        network,
        ModelSpec(preset="x", schema=COCO_17, input_size_wh=(96, 128), model=light),
    )
    again = load_model(tmp_path / "w.safetensors").network
    assert all(
        torch.equal(one, two)
        for one, two in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    config = load_preset("coco_r18_128x96_mini_modern")
    config = replace(
        config, model=light, train=replace(config.train, weights=str(tmp_path / "w.safetensors"))
    )
    other = PoseNetwork(light, 17)
    assert load_weights(other, COCO_17, config)
    assert torch.equal(other.head.output.weight, network.head.output.weight)
    deconvolutions = replace(config, model=ModelConfig(backbone="resnet18", deconv_filters=8))
    with pytest.raises(UserError, match=f"{head}.*--model.head {head}"):
        load_weights(PoseNetwork(deconvolutions.model, 17), COCO_17, deconvolutions)
