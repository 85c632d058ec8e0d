"""ResNets: shapes, names and strides."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from simplepose.core.errors import UserError
from simplepose.pose.backbone import ResNet


def on_meta(depth: int, **options) -> ResNet:
    with torch.device("meta"):
        return ResNet(depth, **options).eval()


@pytest.mark.parametrize(
    (
        "depth",
        "channels",
        "parameters",
    ),  # torchvision's published counts less its classification layer (512 or 2048 -> 1000)
    [
        (18, 512, 11_689_512 - 513_000),
        (34, 512, 21_797_672 - 513_000),
        (50, 2048, 25_557_032 - 2_049_000),
        (101, 2048, 44_549_160 - 2_049_000),
        (152, 2048, 60_192_808 - 2_049_000),
    ],
)
@pytest.mark.parametrize("stride_style", ["3x3", "1x1"])
def test_shapes_and_parameter_counts(
    depth: int, channels: int, parameters: int, stride_style: str
) -> None:
    if stride_style == "1x1" and depth < 50:
        with pytest.raises(UserError, match="ResNet-(18|34) .*1x1"):
            on_meta(depth, stride_style=stride_style)
        return
    network = on_meta(depth, stride_style=stride_style)
    features = network(torch.empty(2, 3, 256, 192, device="meta"))
    sizes = [(2, channels >> (3 - index), 64 >> index, 48 >> index) for index in range(4)]
    assert [feature.shape for feature in features] == sizes
    assert network.channels == tuple(feature.shape[1] for feature in features)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_which_convolution_carries_the_stride() -> None:
    for style, strides in (("3x3", (1, 2)), ("1x1", (2, 1))):
        first, second = on_meta(50, stride_style=style).layer2[:2]
        assert (first.conv1.stride[0], first.conv2.stride[0]) == strides
        assert first.downsample[0].stride == (2, 2)
        assert isinstance(
            second.downsample, torch.nn.Identity
        ) and second.conv1.stride == second.conv2.stride == (1, 1)


def test_names_of_the_state_dict() -> None:
    names = set(on_meta(50).state_dict())
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight"} | {f"bn1.{part}" for part in batch_norm}
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for place in range(count):
            prefix = f"layer{stage}.{place}"
            for index in (1, 2, 3):
                expected |= {f"{prefix}.conv{index}.weight"} | {
                    f"{prefix}.bn{index}.{part}" for part in batch_norm
                }
            if place == 0:
                expected |= {f"{prefix}.downsample.0.weight"} | {
                    f"{prefix}.downsample.1.{part}" for part in batch_norm
                }
    assert names == expected


def test_batch_norm_settings_reach_every_layer() -> None:
    network = on_meta(18, norm=partial(torch.nn.BatchNorm2d, momentum=0.01, eps=1.001e-5))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 20 and all(
        norm.momentum == 0.01 and norm.eps == 1.001e-5 for norm in norms
    )


def test_zero_gammas_make_blocks_their_shortcut() -> None:
    network = ResNet(18).eval()
    network.zero_last_gammas()
    x = torch.rand(1, 64, 8, 8)
    assert torch.equal(network.layer1(x), x)
