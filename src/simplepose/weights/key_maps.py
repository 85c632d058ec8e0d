"""Weight files of other programs, brought to our names: each kind is recognised by its keys, never by its file name.

| kind | keys | preprocessing it was trained with |
|---|---|---|
| torchvision, timm ResNets | `conv1`, `layer1.0...`, `fc` | RGB, ImageNet mean and deviation |
| efficientnet_pytorch's Lite0 | `_conv_stem`, `_blocks.0...`, `_fc` | RGB minus 127, divided by 128 |
| Microsoft and HRNet-repo pose_resnet | the same + `deconv_layers`, `final_layer` | BGR, ImageNet's RGB numbers in that order (a quirk) |
| MMPose 0.x, 1.x | `backbone.`, `keypoint_head.` or `head.` | RGB, ImageNet mean and deviation |
| TensorFlow snapshot of the seed | `resnet_v1_50/...`, `up1`, `out` | BGR minus the RGB means (the seed's quirk), peak 255 |
| slim trunk | `resnet_v1_50/...`, `logits` | RGB minus the same means |
| simplepose | ours (`backbone.`; Microsoft's or `head.`) and a `simplepose` entry in the metadata | what that entry says |

The other programs all align the flipped heatmap by one pixel: Microsoft's SHIFT_HEATMAP, the seed's test code, `shift_heatmap=True` in MMPose's
configurations of both generations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from simplepose.config import BackboneName, PixelConfig
from simplepose.core.errors import UserError
from simplepose.core.settings import build
from simplepose.pose.backbone import LITE_BLOCKS, RESNET_BLOCKS, TITLES
from simplepose.pose.checkpoints import shortened
from simplepose.weights.tensorflow import Checkpoint

SLIM_MEAN = (123.68, 116.78, 103.94)
SEED_PIXELS = PixelConfig(channel_order="bgr", mean=SLIM_MEAN, std=(1.0, 1.0, 1.0))
SEED_PEAK = 255.0

BACKBONE = "backbone."
"""What the names of a backbone's parameters begin with in our networks and in MMPose's."""
_RESNET_NAMES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
_LITE_PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_LITE_BLOCKS = sum(repeats for *_, repeats in LITE_BLOCKS)
_LITE_PIXELS = PixelConfig(
    channel_order="rgb", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)
)
OUTPUT_NAMES = ("final_layer.", "head.output.", "head.maps.")
"""The last layers of the heads: where the keypoints are counted."""
HEAD_NAMES = (
    "deconv_layers.",
    "head.laterals.",
    "head.mixes.",
    "head.x.",
    "head.y.",
    *OUTPUT_NAMES,
)
_MMPOSE_HEADS = ("keypoint_head.", "head.")  # 0.x, 1.x
_TF_LAYER = {"weights": "weight", "biases": "bias"}
_TF_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_TF_IGNORED = re.compile(
    r"(/Adam(_\d+)?|/Momentum|/ExponentialMovingAverage)$|^(beta[12]_power|global_step|mean_rgb)$|/logits/"
)


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """What a file holds, in our names, and how it wants to be used."""

    path: str
    """Where it came from, for messages."""
    kind: str
    """What it is, in words."""
    family: Literal["tf", "ms", "mmpose", "torchvision", "timm", "efficientnet", "simplepose"]
    """Whose conventions it follows."""
    tensors: dict[str, torch.Tensor]
    """float32 tensors by our names; the counters of batch norms are left out."""
    backbone: BackboneName
    """Which backbone it holds."""
    keypoint_count: int | None
    """Heatmaps it puts out; None for a backbone alone."""
    pixels: PixelConfig
    """Order of channels and normalisation it was trained with."""
    peak: float = 1.0
    """Height of the Gaussians it was trained to draw."""
    flip_shift: Literal["none", "one_pixel", "exact"] = "one_pixel"
    """How its authors align the flipped heatmap."""
    ignored: tuple[str, ...] = ()
    """Variables of the file that are no part of the network: classification layers, optimiser slots."""
    unknown_scalars: tuple[str, ...] = ()
    """Scalars of a TensorFlow file that are left out without being known: the seed's learning rate,
    which has no name and is therefore called `Variable`."""

    @property
    def is_backbone_only(self) -> bool:
        """True for an ImageNet backbone."""
        return self.keypoint_count is None


def from_state_dict(
    tensors: Mapping[str, torch.Tensor],
    path: str,
    *,
    metadata: Mapping[str, str] | None = None,
    safetensors: bool = False,
) -> WeightFile:
    """Recognises PyTorch weights by their keys.

    Args:
        tensors: names as in the file.
        path: its name, for messages.
        metadata: what a safetensors file says about itself; ours carry their preprocessing there.
        safetensors: whether it came as safetensors, in which trunks are distributed by timm.

    Raises:
        UserError: the keys are not those of a known backbone with or without a head.
    """
    own = (metadata or {}).get("simplepose")
    if "_conv_stem.weight" in tensors:
        return _from_efficientnet(tensors, path)
    renamed, ignored, mmpose = {}, [], False
    for name, tensor in tensors.items():
        ours = name
        while ours.startswith("module."):
            ours = ours.removeprefix("module.")
        if not own:  # two of our own heads are called `head` as well
            mmpose = mmpose or ours.startswith((BACKBONE, *_MMPOSE_HEADS))
            for prefix in _MMPOSE_HEADS:
                ours = ours.removeprefix(prefix)
            if ours.startswith(_RESNET_NAMES):
                ours = BACKBONE + ours
        if ours.endswith("num_batches_tracked"):
            continue
        if ours.startswith(("fc.", "data_preprocessor.")):
            ignored.append(name)
            continue
        renamed[ours] = tensor
    keypoint_count = _keypoint_count(renamed)
    common: dict[str, Any] = {
        "path": path,
        "ignored": tuple(ignored),
        "keypoint_count": keypoint_count,
    }
    common["tensors"] = _checked(renamed, path)
    if own:
        spec = msgspec.json.decode(own)
        common["backbone"] = (spec["model"] or {}).get("backbone")
        if common["backbone"] not in TITLES:
            raise UserError(
                f"{path} was written by another version: it names no known backbone. Cure: train or import it again"
            )
        return WeightFile(
            kind=f"simplepose checkpoint of {spec['preset']}",
            family="simplepose",
            pixels=build(PixelConfig, spec["pixels"], path),
            peak=spec["codec"]["peak"],
            flip_shift=spec["codec"]["flip_shift"],
            **common,
        )
    depth = _depth(renamed, path)
    common["backbone"] = f"resnet{depth}"
    rgb, bgr = PixelConfig(), PixelConfig(channel_order="bgr")  # ImageNet's mean and deviation
    if mmpose:
        return WeightFile(
            kind=f"MMPose res{depth} heatmap network", family="mmpose", pixels=rgb, **common
        )
    if keypoint_count is not None:
        return WeightFile(kind=f"Microsoft pose_resnet_{depth}", family="ms", pixels=bgr, **common)
    family: Literal["timm", "torchvision"] = "timm" if safetensors else "torchvision"
    return WeightFile(kind=f"{family} ResNet-{depth} trunk", family=family, pixels=rgb, **common)


def _from_efficientnet(tensors: Mapping[str, torch.Tensor], path: str) -> WeightFile:
    """EfficientNet-Lite0 under the names of the `efficientnet_pytorch` library; its classifier is left out."""
    renamed, ignored, unknown = {}, [], []
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
        if part == "num_batches_tracked":
            continue
        if layer in ("_conv_head", "_bn1", "_fc"):
            ignored.append(name)
        elif layer in ("_conv_stem", "_bn0"):
            renamed[f"{BACKBONE}stem.{int(layer == '_bn0')}.{part}"] = tensor
        elif block and block[2] in _LITE_PARTS:
            renamed[f"{BACKBONE}blocks.{block[1]}.{_LITE_PARTS[block[2]]}.{part}"] = tensor
        else:
            unknown.append(name)
    count = len({name.split(".")[2] for name in renamed if name.startswith(f"{BACKBONE}blocks.")})
    if unknown or count != _LITE_BLOCKS:
        what = f"{shortened(unknown)} (squeeze-and-excitation?)" if unknown else f"{count} blocks"
        raise UserError(
            f"{path} is not EfficientNet-Lite0: it holds {what}. Cure: use a file of Lite0"
        )
    return WeightFile(
        path=path,
        kind=f"{TITLES['efficientnet_lite0']} backbone",
        family="efficientnet",
        tensors=_checked(renamed, path),
        backbone="efficientnet_lite0",
        keypoint_count=None,
        pixels=_LITE_PIXELS,
        ignored=tuple(ignored),
    )


def from_tensorflow(variables: Checkpoint | Mapping[str, np.ndarray], path: str) -> WeightFile:
    """Maps the variables of the seed and of slim's ResNet v1 to our names and layouts.

    Convolutions turn from (h, w, in, out) to (out, in, h, w), deconvolutions from (h, w, out, in) to (in, out, h, w). The seed has
    torchvision's strides under slim's names, so every tensor has its place; Adam's slots and
    counters are skipped. A program saves what counters it likes, so an unknown scalar is left out
    and named in `unknown_scalars`; an unknown tensor would be a part of another network and is
    refused.

    Raises:
        UserError: a tensor that the network does not know, or no ResNet at all.
    """
    tensors: dict[str, torch.Tensor] = {}
    ignored: list[str] = []
    unknown: list[str] = []
    scalars: list[str] = []
    for name in variables:
        if _TF_IGNORED.search(name):
            ignored.append(name)
            continue
        ours = tensorflow_name(name)
        if ours is None:
            (scalars if variables[name].ndim == 0 else unknown).append(name)
            continue
        tensors[ours] = torch_layout(variables[name])
    if unknown or not tensors:
        listed = shortened(unknown or sorted(variables))
        raise UserError(
            f"{path} is not the seed's network nor a slim ResNet v1: it holds {listed}. Cure: name a snapshot or a resnet_v1 trunk"
        )
    keypoint_count = _keypoint_count(tensors)
    depth = _depth(tensors, path)
    version = f"V{variables.version} " if isinstance(variables, Checkpoint) else ""
    trunk = keypoint_count is None
    return WeightFile(
        path=path,
        kind=f"TensorFlow {version}{'slim trunk' if trunk else 'snapshot of the seed'}, ResNet-{depth}",
        family="tf",
        tensors=_checked(tensors, path),
        backbone=f"resnet{depth}",  # type: ignore[arg-type]
        keypoint_count=keypoint_count,
        pixels=replace(SEED_PIXELS, channel_order="rgb") if trunk else SEED_PIXELS,
        peak=SEED_PEAK,
        ignored=tuple(ignored),
        unknown_scalars=tuple(scalars),
    )


def tensorflow_name(name: str) -> str | None:
    """The seed's name of a variable of the network in ours; None for everything else.

    `resnet_v1_50/block2/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma` is
    `layer2.0.downsample.1.weight`.
    """
    path, _, part = name.rpartition("/")
    is_norm = path.endswith("/BatchNorm")
    layer, part = (
        path.removesuffix("/BatchNorm"),
        (_TF_NORM if is_norm else _TF_LAYER).get(part, ""),
    )
    if not part:
        return None
    if re.fullmatch(r"resnet_v1_\d+/conv1", layer):
        return f"{BACKBONE}{'bn1' if is_norm else 'conv1'}.{part}"
    unit = re.fullmatch(
        r"resnet_v1_\d+/block(\d)/unit_(\d+)/bottleneck_v1/(conv([123])|shortcut)", layer
    )
    if unit:
        block = f"{BACKBONE}layer{unit[1]}.{int(unit[2]) - 1}"
        if unit[3] == "shortcut":
            return f"{block}.downsample.{int(is_norm)}.{part}"
        return f"{block}.{'bn' if is_norm else 'conv'}{unit[4]}.{part}"
    up = re.fullmatch(r"up([123])", layer)
    if up:
        return f"deconv_layers.{3 * (int(up[1]) - 1) + int(is_norm)}.{part}"
    return f"final_layer.{part}" if layer == "out" and not is_norm else None


def torch_layout(array: np.ndarray) -> torch.Tensor:
    """(h, w, in, out) of a convolution or (h, w, out, in) of a deconvolution as torch has it.

    One order of axes serves both, because the channel that is summed over differs. A variable with
    fewer axes stays as it is.
    """
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))


def _keypoint_count(tensors: Mapping[str, torch.Tensor]) -> int | None:
    output = [tensors[f"{name}weight"] for name in OUTPUT_NAMES if f"{name}weight" in tensors]
    return int(output[0].shape[0]) if output else None


def _depth(tensors: Mapping[str, torch.Tensor], path: str) -> int:
    """Depth from the number of blocks; refuses wide, grouped and deep-stem relatives by their shapes."""
    strangers = [name for name in tensors if not name.startswith((BACKBONE, *HEAD_NAMES))]
    own = {
        name.removeprefix(BACKBONE): tensor
        for name, tensor in tensors.items()
        if name.startswith(BACKBONE)
    }
    strangers += [name for name in own if not name.startswith(_RESNET_NAMES)]
    blocks = tuple(
        len({name.split(".")[1] for name in own if name.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    bottleneck = "layer1.0.conv3.weight" in own
    found = [
        depth
        for depth, counts in RESNET_BLOCKS.items()
        if counts == blocks and (depth >= 50) == bottleneck
    ]
    if not found or "conv1.weight" not in own:
        raise UserError(
            f"{path} holds no ResNet-18, 34, 50, 101 or 152 and no EfficientNet-Lite0; its variables are "
            f"{shortened(sorted(tensors))}. Cure: use such a file"
        )
    kernel = own.get("layer1.0.conv2.weight")
    shape = None if kernel is None else tuple(kernel.shape)
    if strangers or shape != (64, 64, 3, 3):
        what = (
            f"surplus {shortened(strangers)}" if strangers else f"layer1.0.conv2.weight of {shape}"
        )
        raise UserError(
            f"{path} is not a plain ResNet-{found[0]} (wide, grouped or other variant): {what}. Cure: use a plain ResNet"
        )
    return found[0]


def _checked(tensors: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """float32 copies; refuses NaN and infinities."""
    result = {name: tensor.detach().to(torch.float32) for name, tensor in tensors.items()}
    broken = [name for name, tensor in result.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(
            f"{path} holds NaN or infinite numbers in {shortened(broken)}. Cure: use an earlier checkpoint of that run"
        )
    return result
