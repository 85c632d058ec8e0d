"""Weight files of other programs, brought to our names: each kind is recognised by its keys, never by its file name.

| kind | keys | preprocessing it was trained with |
|---|---|---|
| torchvision, timm ResNets | `conv1`, `layer1.0...`, `fc` | RGB, ImageNet mean and deviation |
| Microsoft and HRNet-repo pose_resnet | the same + `deconv_layers`, `final_layer` | BGR, ImageNet's RGB numbers in that order (a quirk) |
| MMPose 0.x, 1.x | `backbone.`, `keypoint_head.` or `head.` | RGB, ImageNet mean and deviation |
| TensorFlow snapshot of the seed | `resnet_v1_50/...`, `up1`, `out` | BGR minus the RGB means (the seed's quirk), peak 255 |
| slim trunk | `resnet_v1_50/...`, `logits` | RGB minus the same means |
| simplepose | ours (Microsoft's; `head.` for the light and the SimCC head) and a `simplepose` entry in the metadata | what that entry says |

The other programs all align the flipped heatmap by one pixel: Microsoft's SHIFT_HEATMAP, the seed's test code, `shift_heatmap=True` in MMPose's
configurations of both generations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import orjson
import torch

from simplepose.core.errors import UserError
from simplepose.core.settings import build
from simplepose.pose.backbone import DEPTHS, blocks_of_depth
from simplepose.pose.checkpoints import shortened
from simplepose.pose.pixels import PixelConfig
from simplepose.weights.tensorflow import Checkpoint

SLIM_MEAN = (123.68, 116.78, 103.94)
SEED_PIXELS = PixelConfig(channel_order="bgr", mean=SLIM_MEAN, std=(1.0, 1.0, 1.0))
SEED_PEAK = 255.0

TRUNK_NAMES = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
OUTPUT_NAMES = ("final_layer.", "head.output.", "head.maps.")
"""The last layers of the three heads: where the keypoints are counted."""
HEAD_NAMES = ("deconv_layers.", "head.laterals.", "head.mixes.", "head.x.", "head.y.", *OUTPUT_NAMES)
_PREFIXES = {"backbone.": "", "keypoint_head.": "", "head.": ""}  # MMPose 0.x says keypoint_head, 1.x head
_TF_LAYER = {"weights": "weight", "biases": "bias"}
_TF_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_TF_IGNORED = re.compile(r"(/Adam(_\d+)?|/Momentum|/ExponentialMovingAverage)$|^(beta[12]_power|global_step|mean_rgb)$|/logits/")


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """What a file holds, in Microsoft's names, and how it wants to be used."""

    path: str
    """Where it came from, for messages."""
    kind: str
    """What it is, in words."""
    family: Literal["tf", "ms", "mmpose", "torchvision", "timm", "simplepose"]
    """Whose conventions it follows."""
    tensors: dict[str, torch.Tensor]
    """float32 tensors by our names (which are Microsoft's); the counters of batch norms are left out."""
    depth: int
    """Depth of its ResNet."""
    keypoint_count: int | None
    """Heatmaps it puts out; None for a trunk."""
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
    def is_trunk_only(self) -> bool:
        """True for an ImageNet trunk."""
        return self.keypoint_count is None


def from_state_dict(
    tensors: Mapping[str, torch.Tensor], path: str, *, metadata: Mapping[str, str] | None = None, safetensors: bool = False
) -> WeightFile:
    """Recognises PyTorch weights by their keys.

    Args:
        tensors: names as in the file.
        path: its name, for messages.
        metadata: what a safetensors file says about itself; ours carry their preprocessing there.
        safetensors: whether it came as safetensors, in which trunks are distributed by timm.

    Raises:
        UserError: the keys are not those of a plain ResNet with or without a deconvolution head.
    """
    own = (metadata or {}).get("simplepose")
    renamed, ignored, mmpose = {}, [], False
    for name, tensor in tensors.items():
        ours = name
        while ours.startswith("module."):
            ours = ours.removeprefix("module.")
        for prefix, replacement in _PREFIXES.items():
            if ours.startswith(prefix) and not own:  # two of our own heads are called `head` as well
                ours, mmpose = replacement + ours.removeprefix(prefix), True
                break
        if ours.endswith("num_batches_tracked"):
            continue
        if ours.startswith(("fc.", "data_preprocessor.")):
            ignored.append(name)
            continue
        renamed[ours] = tensor
    keypoint_count = _keypoint_count(renamed)
    common: dict[str, Any] = {"path": path, "ignored": tuple(ignored), "keypoint_count": keypoint_count}
    common["tensors"] = _checked(renamed, path)
    common["depth"] = depth = _depth(renamed, path, any_width=bool(own))
    if own:
        spec = orjson.loads(own)
        return WeightFile(
            kind=f"simplepose checkpoint of {spec['preset']}", family="simplepose", pixels=build(PixelConfig, spec["pixels"], path),
            peak=spec["codec"]["peak"], flip_shift=spec["codec"]["flip_shift"], **common,
        )  # fmt: skip
    rgb, bgr = PixelConfig(), PixelConfig(channel_order="bgr")  # ImageNet's mean and deviation
    if mmpose:
        return WeightFile(kind=f"MMPose res{depth} heatmap network", family="mmpose", pixels=rgb, **common)
    if keypoint_count is not None:
        return WeightFile(kind=f"Microsoft pose_resnet_{depth}", family="ms", pixels=bgr, **common)
    family: Literal["timm", "torchvision"] = "timm" if safetensors else "torchvision"
    return WeightFile(kind=f"{family} ResNet-{depth} trunk", family=family, pixels=rgb, **common)


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
        depth=depth,
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
    layer, part = path.removesuffix("/BatchNorm"), (_TF_NORM if is_norm else _TF_LAYER).get(part, "")
    if not part:
        return None
    if re.fullmatch(r"resnet_v1_\d+/conv1", layer):
        return f"{'bn1' if is_norm else 'conv1'}.{part}"
    unit = re.fullmatch(r"resnet_v1_\d+/block(\d)/unit_(\d+)/bottleneck_v1/(conv([123])|shortcut)", layer)
    if unit:
        block = f"layer{unit[1]}.{int(unit[2]) - 1}"
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


def _depth(tensors: Mapping[str, torch.Tensor], path: str, *, any_width: bool = False) -> int:
    """Depth from the number of blocks; refuses wide (unless `any_width`), grouped and deep-stem relatives by their shapes."""
    strangers = [name for name in tensors if not name.startswith(TRUNK_NAMES + HEAD_NAMES)]
    blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in tensors
    found = [depth for depth in DEPTHS if blocks_of_depth(depth) == blocks and (depth >= 50) == bottleneck]
    if not found or "conv1.weight" not in tensors:
        raise UserError(
            f"{path} holds no ResNet-18, 34, 50, 101 or 152; its variables are {shortened(sorted(tensors))}. Cure: use such a file"
        )
    kernel = tensors.get("layer1.0.conv2.weight")
    shape = None if kernel is None else tuple(kernel.shape)
    width = shape[0] if shape and any_width else 64
    if strangers or shape != (width, width, 3, 3):
        what = f"surplus {shortened(strangers)}" if strangers else f"layer1.0.conv2.weight of {shape}"
        raise UserError(f"{path} is not a plain ResNet-{found[0]} (wide, grouped or other variant): {what}. Cure: use a plain ResNet")
    return found[0]


def _checked(tensors: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """float32 copies; refuses NaN and infinities."""
    result = {name: tensor.detach().to(torch.float32) for name, tensor in tensors.items()}
    broken = [name for name, tensor in result.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(f"{path} holds NaN or infinite numbers in {shortened(broken)}. Cure: use an earlier checkpoint of that run")
    return result
