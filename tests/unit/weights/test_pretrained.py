"""Weight files of every kind, and everything that can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from seed_snapshot import listed_shapes
from tf_checkpoint_writer import write_v1, write_v2

from simplepose.config import ModelConfig, PixelConfig
from simplepose.core.errors import UserError
from simplepose.pose.network import PoseNetwork
from simplepose.weights.weight_file import (
    from_state_dict,
    from_tensorflow,
    load_into,
    load_weight_file,
)

SMALL = ModelConfig(backbone="resnet18", deconv_filters=8)
IMAGENET_MEAN, IMAGENET_STD = (
    pytest.approx((123.675, 116.28, 103.53), rel=1e-15),
    pytest.approx((58.395, 57.12, 57.375), rel=1e-15),
)


@pytest.fixture(scope="module")
def network():
    """A network whose every number is distinct enough to notice a swap."""
    torch.manual_seed(5)
    made = PoseNetwork(SMALL, 17)
    with torch.no_grad():
        for tensor in made.state_dict().values():
            if tensor.dtype == torch.float32:
                tensor.copy_(torch.randn_like(tensor))
    return made


def is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def microsoft(state: dict) -> dict:
    return {name.removeprefix("backbone."): tensor for name, tensor in state.items()}


def training_checkpoint(state: dict) -> dict:
    prefixed = {f"module.{name}": tensor for name, tensor in microsoft(state).items()}
    perf = {
        "perf": np.float64(0.7),
        "sigmas": np.ones(17, np.float32),
        "names": np.array(["a"]),
    }  # Microsoft and MMPose keep such beside
    optimizer = {
        "state": {0: {"exp_avg": torch.ones(3)}},
        "param_groups": [{"lr": 0.001, "params": [0]}],
    }
    return {
        "epoch": 140,
        "model": "pose_resnet",
        "state_dict": prefixed,
        **perf,
        "optimizer": optimizer,
    }


def mmpose(state: dict, head: str, extra: dict) -> dict:
    renamed = {
        ("" if name.startswith("backbone.") else head) + name: tensor
        for name, tensor in state.items()
    }
    return {"meta": {"epoch": 210, "mmpose_version": "x"}, "state_dict": renamed | extra}


@pytest.mark.parametrize(
    ("wrap", "family", "order"),
    [
        (microsoft, "ms", "bgr"),
        (training_checkpoint, "ms", "bgr"),
        (lambda state: mmpose(state, "keypoint_head.", {}), "mmpose", "rgb"),
        (
            lambda state: mmpose(state, "head.", {"data_preprocessor.mean": torch.ones(3, 1, 1)}),
            "mmpose",
            "rgb",
        ),
    ],
    ids=["plain", "training", "mmpose 0.x", "mmpose 1.x"],
)
def test_pose_networks(tmp_path: Path, network, wrap, family: str, order: str) -> None:
    found = load_weight_file(save(tmp_path / "pose_resnet.pth.tar", wrap(network.state_dict())))
    assert (found.family, found.pixels.channel_order, found.keypoint_count, found.backbone) == (
        family,
        order,
        17,
        "resnet18",
    )
    assert (found.pixels.mean, found.pixels.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (found.peak, found.flip_shift, found.is_backbone_only) == (1.0, "one_pixel", False)
    other = PoseNetwork(SMALL, 17)
    assert load_into(other, found) == []
    for name, tensor in network.state_dict().items():
        assert is_counter(name) or torch.equal(other.state_dict()[name], tensor), name


class HistoryBuffer:
    """As MMEngine keeps beside the weights: a class that is not installed where the file is read."""

    def __init__(self) -> None:
        self.history = np.arange(3.0)


WRAPPED = {
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "distributed, compiled": lambda state: {
        f"module._orig_mod.{name}": value for name, value in state.items()
    },
    "backbone compiled": lambda state: {
        name.replace("backbone.", "backbone._orig_mod."): value for name, value in state.items()
    },
    "lightning": lambda state: {
        "epoch": 3,
        "state_dict": {f"model.{name}": value for name, value in state.items()},
    },
    "net": lambda state: {f"net.{name}": value for name, value in state.items()},
    "averaged": lambda state: {
        "n_averaged": torch.tensor(4),
        **{f"module.{name}": value for name, value in state.items()},
    },
    "ema": lambda state: {"epoch": 3, "ema_state_dict": state},
    "timm's ema": lambda state: {"state_dict_ema": state},
    "network": lambda state: {"network": state},
    "thop": lambda state: {
        **state,
        "total_ops": torch.zeros(1),
        "layer1.total_params": torch.zeros(1),
    },
    "mmengine": lambda state: {
        "message_hub": {"loss": HistoryBuffer()},
        "state_dict": state,
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_are_seen_through(
    tmp_path: Path, network, monkeypatch: pytest.MonkeyPatch, kind: str, zipped: bool
) -> None:
    state = network.state_dict()
    path = tmp_path / "wrapped.pth"
    torch.save(WRAPPED[kind](state), path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(globals(), "HistoryBuffer")  # nothing of it may be looked up
    other = PoseNetwork(SMALL, 17)
    assert load_into(other, load_weight_file(path)) == []
    for name, tensor in state.items():
        assert is_counter(name) or torch.equal(other.state_dict()[name], tensor), name


def test_two_networks_in_one_file_are_not_mixed(tmp_path: Path, network) -> None:
    state = network.state_dict()
    both = state | {f"module.{name}": torch.zeros_like(value) for name, value in state.items()}
    with pytest.raises(UserError, match=r"both\.pth"):
        load_weight_file(save(tmp_path / "both.pth", both))


def test_old_pickles_without_zip(tmp_path: Path, network) -> None:
    torch.save(
        microsoft(network.state_dict()),
        tmp_path / "old.pth.tar",
        _use_new_zipfile_serialization=False,
    )
    assert load_weight_file(tmp_path / "old.pth.tar").family == "ms"


@pytest.mark.parametrize(("ending", "family"), [(".pth", "torchvision"), (".safetensors", "timm")])
def test_imagenet_backbones(tmp_path: Path, network, ending: str, family: str) -> None:
    state = network.backbone.state_dict()
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / f"resnet18{ending}"
    (save_file(state, path) if ending == ".safetensors" else torch.save(state, path))
    found = load_weight_file(path)
    assert (found.family, found.pixels) == (family, PixelConfig())
    assert (
        found.is_backbone_only
        and set(found.ignored) == {"fc.weight", "fc.bias"}
        and "fc.weight" not in found.tensors
    )
    other = PoseNetwork(SMALL, 4)
    head = other.final_layer.weight.clone()
    assert load_into(other, found, backbone_only=True) == []
    assert torch.equal(
        other.backbone.layer4[1].conv2.weight, network.backbone.layer4[1].conv2.weight
    ) and torch.equal(other.final_layer.weight, head)
    with pytest.raises(UserError, match="only a backbone"):
        load_into(other, found)


def seed_variables(
    network, *, backbone_only: bool = False, scope: str = "resnet_v1_50"
) -> dict[str, np.ndarray]:
    """The network under the seed's names and layouts, written from slim's naming scheme, not with the package's map."""
    out: dict[str, np.ndarray] = {}

    def convolution(name: str, layer: torch.nn.Module) -> None:
        out[f"{name}/weights"] = np.moveaxis(
            layer.weight.detach().numpy(), (2, 3), (0, 1)
        ).swapaxes(2, 3)

    def norm(name: str, layer: torch.nn.Module) -> None:
        for theirs, ours in (
            ("gamma", "weight"),
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ):
            out[f"{name}/BatchNorm/{theirs}"] = getattr(layer, ours).detach().numpy()

    convolution(f"{scope}/conv1", network.backbone.conv1)
    norm(f"{scope}/conv1", network.backbone.bn1)
    for stage in (1, 2, 3, 4):
        for place, block in enumerate(getattr(network.backbone, f"layer{stage}"), start=1):
            unit = f"{scope}/block{stage}/unit_{place}/bottleneck_v1"
            pairs = [
                ("conv1", block.conv1, block.bn1),
                ("conv2", block.conv2, block.bn2),
                ("conv3", block.conv3, block.bn3),
            ]
            for name, conv, bn in pairs + (
                [("shortcut", *block.downsample)] if list(block.downsample.children()) else []
            ):
                convolution(f"{unit}/{name}", conv)
                norm(f"{unit}/{name}", bn)
    if backbone_only:
        return out | {
            f"{scope}/logits/weights": np.zeros((1, 1, 2, 3), np.float32),
            f"{scope}/logits/biases": np.zeros(3, np.float32),
        }
    for index in (1, 2, 3):
        convolution(f"up{index}", network.deconv_layers[3 * index - 3])
        norm(f"up{index}", network.deconv_layers[3 * index - 2])
    convolution("out", network.final_layer)
    out["out/biases"] = network.final_layer.bias.detach().numpy()
    slots = {
        f"{name}/Adam{slot}": np.zeros_like(array)
        for name, array in out.items()
        if "moving" not in name
        for slot in ("", "_1")
    }
    scalars = {"beta1_power": 0.9, "beta2_power": 0.999, "Variable": 5e-4}
    return out | slots | {name: np.float32(value) for name, value in scalars.items()}


@pytest.fixture(scope="module")
def bottleneck_network():
    torch.manual_seed(6)
    made = PoseNetwork(
        ModelConfig(backbone="resnet50", deconv_filters=4, initialisation="torch"), 17
    )
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name.split(".")[-1] in ("running_mean", "running_var", "bias") or tensor.ndim == 1:
                tensor.copy_(torch.randn_like(tensor))
    return made


def test_the_seeds_snapshot(bottleneck_network) -> None:
    variables = seed_variables(bottleneck_network)
    assert set(variables) == set(listed_shapes())  # the names of a real one
    found = from_tensorflow(variables, "snapshot_140.ckpt")
    assert (found.family, found.backbone, found.keypoint_count, found.peak) == (
        "tf",
        "resnet50",
        17,
        255.0,
    )
    assert found.pixels == PixelConfig(
        channel_order="bgr", mean=(123.68, 116.78, 103.94), std=(1.0, 1.0, 1.0)
    )
    assert {"out/weights/Adam_1", "beta1_power"} < set(found.ignored)
    assert found.unknown_scalars == ("Variable",)
    with torch.device("meta"):
        shape = PoseNetwork(bottleneck_network.config, 17)
    other = shape.to_empty(device="cpu")
    assert load_into(other, found) == []
    for name, tensor in bottleneck_network.state_dict().items():
        assert is_counter(name) or torch.equal(other.state_dict()[name], tensor), name


def test_slims_backbone(bottleneck_network) -> None:
    found = from_tensorflow(
        seed_variables(bottleneck_network, backbone_only=True), "resnet_v1_50.ckpt"
    )
    assert (
        found.is_backbone_only
        and found.pixels.channel_order == "rgb"
        and found.pixels.mean == (123.68, 116.78, 103.94)
    )
    assert found.ignored == ("resnet_v1_50/logits/weights", "resnet_v1_50/logits/biases")


@pytest.mark.parametrize("write", [write_v1, write_v2])
def test_checkpoints_of_something_else(tmp_path: Path, write) -> None:
    write(tmp_path / "x.ckpt", {"vgg/conv1/weights": np.zeros((1, 1, 2, 2), np.float32)})
    with pytest.raises(UserError, match=r"x\.ckpt .* vgg/conv1/weights"):
        load_weight_file(tmp_path / "x.ckpt")


def test_16_keypoints_into_17(tmp_path: Path, network) -> None:
    found = load_weight_file(save(tmp_path / "mpii.pth", PoseNetwork(SMALL, 16).state_dict()))
    other = PoseNetwork(SMALL, 17)
    with pytest.raises(
        UserError, match=r"mpii\.pth estimates 16 keypoints, the network 17.*--backbone-only"
    ):
        load_into(other, found)
    left_out = load_into(other, found, backbone_only=True)
    assert (
        "final_layer.weight" in left_out
        and "deconv_layers.0.weight" in left_out
        and len(left_out) == 17
    )
    assert torch.equal(other.backbone.conv1.weight, found.tensors["backbone.conv1.weight"])


def test_another_depth(network) -> None:
    found = from_state_dict(network.state_dict(), "r18.pth")
    other = PoseNetwork(
        ModelConfig(backbone="resnet34", deconv_filters=8, initialisation="torch"), 17
    )
    with pytest.raises(UserError, match=r"r18\.pth holds ResNet-18, the network is ResNet-34"):
        load_into(other, found, backbone_only=True)


def test_missing_surplus_and_wrong_shapes_in_one_sentence(network) -> None:
    state = {
        name: tensor
        for name, tensor in microsoft(network.state_dict()).items()
        if name not in ("bn1.weight", "layer2.0.bn1.bias")
    }
    state |= {
        "deconv_layers.9.weight": torch.zeros(1),
        "deconv_layers.0.weight": torch.zeros(512, 9, 4, 4),
    }
    other = PoseNetwork(SMALL, 17)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_into(other, from_state_dict(state, "odd.pth"))
    text = str(caught.value)
    assert (
        "missing: backbone.bn1.weight, backbone.layer2.0.bn1.bias" in text
        and "surplus: deconv_layers.9.weight" in text
    )
    assert "wrong shapes: deconv_layers.0.weight (512, 9, 4, 4) for (512, 8, 4, 4)" in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_long_lists_are_shortened(network) -> None:
    whole = microsoft(network.state_dict())
    state = {name: tensor for name, tensor in whole.items() if not name.startswith("layer3.1.")}
    state["layer3.1.conv1.weight"] = whole["layer3.1.conv1.weight"]
    with pytest.raises(UserError, match=r"missing: .* and 5 more"):
        load_into(PoseNetwork(SMALL, 17), from_state_dict(state, "cut.pth"))


def test_relatives_are_refused(network) -> None:
    state = microsoft(network.state_dict())
    for change, words in (
        (
            {"layer1.0.conv2.weight": torch.zeros(128, 128, 3, 3)},
            r"x\.pth .* layer1\.0\.conv2\.weight",
        ),
        ({"se.fc.weight": torch.zeros(1)}, r"x\.pth .* se\.fc\.weight"),
        ({"transformer.weight": torch.zeros(1)}, r"x\.pth .* transformer\.weight"),
        ({"layer1.5.conv1.weight": torch.zeros(1)}, r"x\.pth .*ResNet-18, 34"),
    ):
        with pytest.raises(UserError, match=words):
            from_state_dict(state | change, "x.pth")
    with pytest.raises(UserError, match=r"NaN or infinite numbers in backbone\.bn1\.bias"):
        from_state_dict(state | {"bn1.bias": torch.full((64,), float("nan"))}, "x.pth")
    with pytest.raises(UserError, match=r"x\.pth .*variables are a\."):
        from_state_dict({"a": torch.zeros(1)}, "x.pth")


def test_half_precision_files_load_as_float32(network) -> None:
    found = from_state_dict(
        {name: tensor.half() for name, tensor in network.state_dict().items()}, "half.pth"
    )
    assert all(tensor.dtype == torch.float32 for tensor in found.tensors.values())


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trap-was-sprung",)


def test_pickles_are_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "trap.pth", {"state_dict": {"conv1.weight": torch.zeros(1)}, "trap": Trap()})
    with pytest.raises(UserError, match=r"trap\.pth is refused.*mkdir"):
        load_weight_file(tmp_path / "trap.pth")
    assert not (tmp_path / "trap-was-sprung").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.pth.tar", "a.safetensors", "a.ckpt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n" + bytes(200), b"PK\x03\x04" + bytes(50)],
    ids=["empty", "picture", "cut zip"],
)
def test_another_format_with_the_right_ending(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*Cure:"):
        load_weight_file(tmp_path / name)


def test_truncated_files(tmp_path: Path, network) -> None:
    path = save(tmp_path / "whole.pth", network.state_dict())
    content = path.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    save_file(network.state_dict(), tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(
        (tmp_path / "cut.safetensors").read_bytes()[:100_000]
    )
    torch.save(network.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pth").write_bytes((tmp_path / "old.pth").read_bytes()[:300_000])
    for name in ("cut.pth", "cut.safetensors", "old.pth"):
        with pytest.raises(UserError, match=f"{name} cannot be read as"):
            load_weight_file(tmp_path / name)


def test_no_file_folder_and_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pth"):
        load_weight_file(tmp_path / "none.pth")
    with pytest.raises(UserError, match="is a folder"):
        load_weight_file(tmp_path)
    with pytest.raises(UserError, match=r"log\.pth .*state_dict"):
        load_weight_file(save(tmp_path / "log.pth", {"epoch": 3, "loss": [0.1]}))


def test_our_own_files_keep_their_conventions(tmp_path: Path, network) -> None:
    from simplepose.config import CodecConfig
    from simplepose.core.schema import COCO_17
    from simplepose.pose.checkpoints import ModelSpec, save_checkpoint

    pixels = PixelConfig(channel_order="bgr", mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    codec = CodecConfig(peak=255.0, flip_shift="exact")
    spec = ModelSpec(
        preset="p",
        schema=COCO_17,
        input_size_wh=(192, 256),
        pixels=pixels,
        codec=codec,
        model=SMALL,
    )
    save_checkpoint(tmp_path / "own.safetensors", network, spec)
    found = load_weight_file(tmp_path / "own.safetensors")
    assert (found.family, found.pixels) == ("simplepose", pixels)
    assert (found.peak, found.flip_shift) == (255.0, "exact")


def test_our_own_light_head_is_not_taken_for_mmposes(tmp_path: Path) -> None:
    from simplepose.core.schema import COCO_17
    from simplepose.pose.checkpoints import ModelSpec, save_checkpoint

    config = ModelConfig(backbone="resnet18", head="heatmap_light")
    saved = PoseNetwork(config, 17)
    spec = ModelSpec(preset="p", schema=COCO_17, input_size_wh=(96, 128), model=config)
    save_checkpoint(tmp_path / "light.safetensors", saved, spec)
    found = load_weight_file(tmp_path / "light.safetensors")
    assert found.family == "simplepose" and found.keypoint_count == 17
    other = PoseNetwork(config, 17)
    assert load_into(other, found) == []
    assert all(
        torch.equal(tensor, other.state_dict()[name]) for name, tensor in saved.state_dict().items()
    )
