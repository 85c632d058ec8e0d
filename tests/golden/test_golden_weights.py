"""The tensors that each importer of other people's weights makes of a small made file."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doors
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

FIELDS = {"model.deconv_filters": 4, "model.init": ""}
HEAD = ("deconv", "final")


def filled(preset: Path, keypoints: int = 17) -> dict[str, torch.Tensor]:
    """The state dict of a network; its numbers come from the names alone."""
    state = doors.empty_network(preset, keypoints).state_dict()
    out = {}
    for ours, tensor in state.items():
        if ours.endswith("num_batches_tracked"):
            continue
        name = doors.recorded_name(ours)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.random(tuple(tensor.shape), np.float32) - np.float32(0.5)
        out[name] = torch.from_numpy(np.abs(values) if "running_var" in name else values)
    return out


def mmpose(state: dict[str, torch.Tensor], head: str) -> dict[str, Any]:
    renamed = {
        (head if name.startswith(HEAD) else "backbone.") + name: tensor
        for name, tensor in state.items()
    }
    return {"meta": {"epoch": 210}, "state_dict": renamed}


def backbone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
    return rest | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def tensorflow(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Slim's names and layouts of a bottleneck ResNet with the seed's head."""
    out: dict[str, np.ndarray] = {}

    def convolution(name: str, ours: str) -> None:
        out[f"{name}/weights"] = np.moveaxis(
            state[f"{ours}.weight"].numpy(), (2, 3), (0, 1)
        ).swapaxes(2, 3)

    def norm(name: str, ours: str) -> None:
        pairs = (
            ("gamma", "weight"),
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        )
        for theirs, own in pairs:
            out[f"{name}/BatchNorm/{theirs}"] = state[f"{ours}.{own}"].numpy()

    scope = "resnet_v1_50"
    convolution(f"{scope}/conv1", "conv1")
    norm(f"{scope}/conv1", "bn1")
    for stage, units in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for unit in range(units):
            theirs, ours = (
                f"{scope}/block{stage}/unit_{unit + 1}/bottleneck_v1",
                f"layer{stage}.{unit}",
            )
            for part in (1, 2, 3):
                convolution(f"{theirs}/conv{part}", f"{ours}.conv{part}")
                norm(f"{theirs}/conv{part}", f"{ours}.bn{part}")
            if f"{ours}.downsample.0.weight" in state:
                convolution(f"{theirs}/shortcut", f"{ours}.downsample.0")
                norm(f"{theirs}/shortcut", f"{ours}.downsample.1")
    for layer in (1, 2, 3):
        convolution(f"up{layer}", f"deconv_layers.{3 * layer - 3}")
        norm(f"up{layer}", f"deconv_layers.{3 * layer - 2}")
    convolution("out", "final_layer")
    return out | {"out/biases": state["final_layer.bias"].numpy(), "global_step": np.int64(7)}


def save_training(path: Path, state: dict[str, torch.Tensor]) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"epoch": 140, "state_dict": prefixed, "perf": np.float64(0.7), "optimizer": {"state": {}}},
        path,
    )


KINDS: dict[str, tuple[str, Callable[[Path, dict[str, torch.Tensor]], Any]]] = {
    "microsoft": ("a.pth.tar", lambda path, state: torch.save(state, path)),
    "microsoft_training": ("a.pth.tar", save_training),
    "mmpose_0": (
        "a.pth",
        lambda path, state: torch.save(mmpose(state, "keypoint_head."), path),
    ),
    "mmpose_1": ("a.pth", lambda path, state: torch.save(mmpose(state, "head."), path)),
    "torchvision": ("a.pth", lambda path, state: torch.save(backbone(state), path)),
    "timm": ("a.safetensors", lambda path, state: save_file(backbone(state), path)),
}


def told(spec: Any) -> list[Any]:
    """What an imported network knows of its pictures and heatmaps."""
    pixels, codec = spec.pixels, spec.codec
    return [pixels.channel_order, [*pixels.mean], [*pixels.std], codec.peak, codec.flip_shift]


@pytest.mark.parametrize("kind", KINDS)
def test_import(
    kind: str, tmp_path: Path, hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    file, write = KINDS[kind]
    only = kind in ("torchvision", "timm")
    preset = doors.write_preset(tmp_path / "coco_small.yaml", "coco_r18_128x96_mini", FIELDS)
    write(tmp_path / file, filled(preset))
    output = tmp_path / "out.safetensors"
    doors.import_weights(tmp_path / file, preset, output, backbone_only=only)
    loaded = doors.load_model(output)
    state = {
        name: tensor.numpy()
        for name, tensor in (
            (doors.recorded_name(ours), tensor)
            for ours, tensor in loaded.network.state_dict().items()
        )
        if not name.endswith("num_batches_tracked") and not (only and name.startswith(HEAD))
    }
    names, values = hashed(sorted(state)), hashed(state)
    golden(f"weights_{kind}", {"names": names, "values": values, "told": told(loaded.spec)})
    for path in (tmp_path / file, output):
        path.unlink()  # they are large


def test_import_from_tensorflow(
    tmp_path: Path, hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    preset = doors.write_preset(tmp_path / "coco_small.yaml", "coco_r50_256x192_tf", FIELDS)
    state = doors.from_tensorflow(tensorflow(filled(preset)), preset)
    names, values = hashed(sorted(state)), hashed(state)
    golden("weights_tensorflow", {"names": names, "values": values})


@pytest.mark.parametrize("name", ["v1.ckpt", "v2.ckpt.index"])
def test_tensorflow_files(
    name: str, hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    fixtures = Path(__file__).resolve().parent.parent / "fixtures" / "tf"
    variables = doors.tensorflow_file(fixtures / name)
    value = {one: [str(array.dtype), hashed(array)] for one, array in sorted(variables.items())}
    golden(f"weights_{name.split('.')[0]}_file", value)
