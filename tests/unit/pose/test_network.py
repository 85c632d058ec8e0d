"""The whole network: sizes, cost, names, initialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_cost import count_cost

from simplepose.config import ModelConfig
from simplepose.core.errors import UserError
from simplepose.pose.network import PoseNetwork


def on_meta(config: ModelConfig, keypoint_count: int = 17):
    with torch.device("meta"):
        return PoseNetwork(config, keypoint_count).eval()


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize(("layers", "stride"), [(2, 8), (3, 4)])
@pytest.mark.parametrize("output_kernel", [1, 3])
def test_heatmap_sizes(kernel: int, layers: int, stride: int, output_kernel: int) -> None:
    config = ModelConfig(
        backbone="resnet18",
        deconv_kernel=kernel,
        deconv_layers=layers,
        output_kernel=output_kernel,
        deconv_filters=32,
    )
    assert config.heatmap_stride == stride
    heatmaps = on_meta(config, 14)(torch.empty(2, 3, 128, 96, device="meta"))
    assert heatmaps.shape == (2, 14, 128 // stride, 96 // stride)


def macs_by_hand(blocks: tuple[int, ...], width: int, height: int, *, keypoints: int = 17) -> int:
    """Bottleneck ResNet + three 4x4 deconvolutions of 256, counted from the paper's tables alone."""
    total = (height // 2) * (width // 2) * 3 * 64 * 49
    height, width, channels = height // 4, width // 4, 64
    for stage, count in enumerate(blocks):
        planes = 64 << stage
        for place in range(count):
            total += height * width * channels * planes  # 1x1 before the stride of the 3x3
            if stage and place == 0:
                height, width = height // 2, width // 2
            total += height * width * (9 * planes * planes + planes * 4 * planes)
            if place == 0:
                total += height * width * channels * 4 * planes
            channels = 4 * planes
    for _ in range(3):
        total += height * width * channels * 256 * 16
        height, width, channels = 2 * height, 2 * width, 256
    return total + height * width * 256 * keypoints


@pytest.mark.parametrize(
    (
        "depth",
        "blocks",
        "size_wh",
        "million",
        "giga",
    ),  # published: R50 34.0 M, R101 53.0 M, R152 68.6 M parameters
    [
        (50, (3, 4, 6, 3), (192, 256), 34.0, 5.43),
        (101, (3, 4, 23, 3), (192, 256), 53.0, None),
        (152, (3, 8, 36, 3), (192, 256), 68.6, None),
        (50, (3, 4, 6, 3), (288, 384), 34.0, 5.43 * 2.25),
    ],
)
def test_cost(
    depth: int,
    blocks: tuple[int, ...],
    size_wh: tuple[int, int],
    million: float,
    giga: float | None,
) -> None:
    parameters, macs = count_cost(on_meta(ModelConfig(backbone=f"resnet{depth}")), size_wh)
    assert parameters / 1e6 == pytest.approx(million, abs=0.05)
    assert macs == macs_by_hand(blocks, *size_wh)
    if giga is not None:
        assert macs / 1e9 == pytest.approx(giga, rel=2e-3)


def test_head_names() -> None:
    names = [
        name
        for name in on_meta(ModelConfig(backbone="resnet18")).state_dict()
        if not name.startswith("backbone.")
    ]
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = [
        name
        for i in (0, 3, 6)
        for name in [
            f"deconv_layers.{i}.weight",
            *(f"deconv_layers.{i + 1}.{part}" for part in parts),
        ]
    ]
    assert names == [*expected, "final_layer.weight", "final_layer.bias"]


def deviation(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().std())


def test_first_values() -> None:
    torch.manual_seed(0)
    ms, tf, plain = (
        PoseNetwork(ModelConfig(backbone="resnet18", initialisation=whose), 17)
        for whose in ("ms", "tf", "torch")
    )
    assert deviation(ms.deconv_layers[0].weight) == pytest.approx(0.001, rel=0.01)
    assert deviation(ms.final_layer.weight) == pytest.approx(0.001, rel=0.1)
    assert deviation(ms.backbone.layer4[1].conv2.weight) == pytest.approx(
        np.sqrt(2 / (512 * 9)), rel=0.01
    )
    # a normal cut at two deviations keeps .8796 of its deviation; slim's factor sqrt(1.3) brings that back to 1.003
    assert deviation(tf.deconv_layers[0].weight) == pytest.approx(0.01 * 0.8796, rel=0.01)
    assert tf.deconv_layers[0].weight.abs().max() <= 0.02
    assert deviation(tf.final_layer.weight) == pytest.approx(np.sqrt(2 / 256) * 1.003, rel=0.1)
    assert deviation(tf.backbone.layer4[1].conv2.weight) == pytest.approx(
        np.sqrt(2 / (512 * 9)) * 1.003, rel=0.01
    )
    assert (
        not ms.final_layer.bias.any()
        and not tf.final_layer.bias.any()
        and plain.final_layer.bias.any()
    )
    assert deviation(plain.backbone.layer4[1].conv2.weight) == pytest.approx(
        1 / np.sqrt(512 * 9 * 3), rel=0.01
    )
    for network in (ms, tf, plain):
        assert all(
            bool((m.weight == 1).all()) and not m.bias.any()
            for m in network.modules()
            if isinstance(m, torch.nn.BatchNorm2d)
        )


def test_zero_gamma_option() -> None:
    network = PoseNetwork(
        ModelConfig(backbone="resnet18", deconv_filters=8, zero_init_last_bn_gamma=True), 1
    )
    assert (
        not network.backbone.layer3[1].bn2.weight.any()
        and network.backbone.layer3[1].bn1.weight.all()
        and network.deconv_layers[1].weight.all()
    )


def test_the_same_seed_gives_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(
            PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=8), 2).state_dict()
        )
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": "resnet42"}, "model.backbone is 'resnet42'. Cure: .*resnet50"),
        ({"stride_style": "caffe"}, "model.stride_style is 'caffe'"),
        ({"deconv_layers": 4}, "model.deconv_layers is 4"),
        ({"deconv_layers": 0}, "model.deconv_layers is 0 and model.head heatmap"),
        ({"deconv_kernel": 5}, "model.deconv_kernel is 5. Cure: 2, 3 or 4"),
        ({"output_kernel": 2}, "model.output_kernel is 2. Cure: 1 or 3"),
        ({"initialisation": "xavier"}, "model.initialisation is 'xavier'. Cure: .*ms.*tf.*torch"),
        ({"deconv_filters": 0}, "model.deconv_filters is 0. Cure: 1 or more"),
        ({"batch_norm_momentum": 0.0}, "momentum"),
        ({"batch_norm_eps": -1.0}, "eps"),
    ],
)
def test_wrong_values_name_the_field_and_the_choice(values: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig(**values)
