"""Weight files of other programs, brought to our names and copied into a network.

Each kind is recognised by its keys, never by its file name:

| kind | keys | trained on |
|---|---|---|
| torchvision, timm ResNets | `conv1`, `layer1.0...`, `fc` | RGB, ImageNet mean and deviation |
| efficientnet_pytorch's Lite0 | `_conv_stem`, `_blocks.0...` | RGB minus 127, divided by 128 |
| Microsoft, HRNet-repo pose_resnet | and `deconv_layers`, `final_layer` | BGR, see below |
| MMPose 0.x, 1.x | `backbone.`, `keypoint_head.` or `head.` | RGB, ImageNet mean and deviation |
| TensorFlow snapshot of the seed | `resnet_v1_50/...`, `up1`, `out` | BGR, see below; peak 255 |
| slim's backbone | `resnet_v1_50/...`, `logits` | RGB minus (123.68, 116.78, 103.94) |
| simplepose | ours, and a `simplepose` entry in the metadata | what that entry says |

Two quirks are kept: Microsoft's and the seed's programs take the numbers of RGB for channels in the
order BGR.
The other programs all align the flipped heatmap by one pixel: Microsoft's SHIFT_HEATMAP, the seed's
test code, `shift_heatmap=True` in MMPose's configurations of both generations.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import torch

from simplepose.config import PixelConfig
from simplepose.core.errors import UserError
from simplepose.core.files import reading, require_whole_zip
from simplepose.core.settings import build
from simplepose.pose.backbone import LITE_BLOCKS, RESNET_BLOCKS, TITLES
from simplepose.pose.checkpoints import METADATA_KEY, copy_tensors, read_safetensors, shortened
from simplepose.pose.network import PoseNetwork
from simplepose.weights.tensorflow import (
    Checkpoint,
    is_checkpoint,
    read_checkpoint,
    tensorflow_name,
    torch_layout,
)

T = TypeVar("T")
SEED_PIXELS = PixelConfig(channel_order="bgr", mean=(123.68, 116.78, 103.94), std=(1.0, 1.0, 1.0))
SEED_PEAK = 255.0
BACKBONE = "backbone."
"""What the names of a backbone's parameters begin with in our networks and in MMPose's."""
OUTPUT_NAMES = ("final_layer.", "head.output.", "head.maps.")
"""The last layers of the heads: where the keypoints are counted."""
VISIBILITY_NAMES = ("visibility.",)
"""Layers of the head beside it, which not every network has."""
HEAD_NAMES = tuple(["deconv_layers.", "head.laterals.", "head.mixes.", "head.x.", "head.y."])
HEAD_NAMES += ("head.class_mix.", "head.box_mix.", "head.box_output.")
HEAD_NAMES += OUTPUT_NAMES + VISIBILITY_NAMES
_RESNET_NAMES = tuple(["conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."])
_MMPOSE_HEADS = ("keypoint_head.", "head.")  # 0.x, 1.x
_LITE_LAYERS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_LITE_PIXELS = PixelConfig(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
_TF_IGNORED = re.compile(
    r"(/Adam(_\d+)?|/Momentum|/ExponentialMovingAverage)$"
    r"|^(beta[12]_power|global_step|mean_rgb)$|/logits/"
)
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
"""What PyTorch, its averaged models and thop count beside the weights."""
_WRAPPER_NAMES = re.compile(r"^((module|model|net|network|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
"""What DistributedDataParallel, Lightning and torch.compile put before the names."""
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "best_state_dict", "net", "network"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),
)
"""Where programs put the state dict in what they save, the plain weights first."""


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
    backbone: str
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
    """Variables of the file that are no part of the network: classification layers, optimiser
    slots."""
    unknown_scalars: tuple[str, ...] = ()
    """Scalars of a TensorFlow file that are left out without being known: the seed's learning rate,
    which has no name and is therefore called `Variable`."""

    @property
    def is_backbone_only(self) -> bool:
        """True for an ImageNet backbone."""
        return self.keypoint_count is None


def load_weight_file(path: str | Path) -> WeightFile:
    """Reads a weight file of any known kind.

    Args:
        path: `.pth`, `.pth.tar`, `.pt`, `.safetensors`, a TensorFlow V1 file, or the prefix or any
            file of a TensorFlow V2 checkpoint.

    Raises:
        UserError: missing, truncated or unsafe files, and files that hold no known backbone.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder. Cure: name a weight file in it")
    if is_checkpoint(path):
        return from_tensorflow(read_checkpoint(path), str(path))
    if not path.exists():
        raise UserError(f"there is no weight file {path}. Cure: check the path")
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        return from_state_dict(tensors, str(path), metadata=metadata, safetensors=True)
    if path.suffix == ".ckpt":
        with path.open("rb") as file:
            start = file.read(2)
        if start not in (b"PK", b"\x80\x02"):  # PyTorch files are sometimes called .ckpt
            read_checkpoint(path)  # says what is wrong with it
    return from_state_dict(_read_pickle(path), str(path))


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
        safetensors: whether it came as safetensors, in which backbones are distributed by timm.

    Raises:
        UserError: the keys are not those of a known backbone with or without a head.
    """
    if own := (metadata or {}).get(METADATA_KEY):
        return _own(tensors, path, msgspec.json.decode(own))
    bare = {_WRAPPER_NAMES.sub("", name): tensor for name, tensor in tensors.items()}
    if len(bare) < len(tensors):
        raise UserError(
            f"{path} holds two networks whose names differ in a wrapper's prefix alone. "
            "Cure: save the state_dict of one of them"
        )
    tensors = bare
    if "_conv_stem.weight" in tensors:
        return _lite(tensors, path)
    found, ignored, _ = _sorted(tensors, _torch_name)
    facts = _facts(found, path, ignored)
    depth = facts["backbone"].removeprefix("resnet")
    family: Literal["mmpose", "ms", "timm", "torchvision"]
    if any(name.startswith((BACKBONE, *_MMPOSE_HEADS)) for name in tensors):
        kind, family = f"MMPose res{depth} heatmap network", "mmpose"
    elif facts["keypoint_count"] is not None:
        kind, family = f"Microsoft pose_resnet_{depth}", "ms"
    else:
        family = "timm" if safetensors else "torchvision"
        kind = f"{family} ResNet-{depth} backbone"
    pixels = PixelConfig(channel_order="bgr" if family == "ms" else "rgb")
    return WeightFile(kind=kind, family=family, pixels=pixels, **facts)


def from_tensorflow(variables: Checkpoint | Mapping[str, np.ndarray], path: str) -> WeightFile:
    """Maps the variables of the seed and of slim's ResNet v1 to our names and layouts.

    The seed has torchvision's strides under slim's names, so every tensor has its place; Adam's
    slots and counters are skipped. A program saves what counters it likes, so an unknown scalar is
    left out and named in `unknown_scalars`; an unknown tensor would be a part of another network
    and is refused.

    Raises:
        UserError: a tensor that the network does not know, or no ResNet at all.
    """
    found, ignored, unknown = _sorted(
        variables, lambda name: "" if _TF_IGNORED.search(name) else tensorflow_name(name)
    )
    scalars = tuple(name for name in unknown if not variables[name].ndim)
    if len(unknown) > len(scalars) or not found:
        listed = [name for name in unknown if name not in scalars] or sorted(variables)
        raise UserError(
            f"{path} is not the seed's network nor a slim ResNet v1: it holds {shortened(listed)}. "
            "Cure: name a snapshot or a resnet_v1 backbone"
        )
    facts = _facts({name: torch_layout(array) for name, array in found.items()}, path, ignored)
    slim = facts["keypoint_count"] is None
    version = f"V{variables.version} " if isinstance(variables, Checkpoint) else ""
    kind = "slim backbone" if slim else "snapshot of the seed"
    return WeightFile(
        kind=f"TensorFlow {version}{kind}, {TITLES[facts['backbone']]}",
        family="tf",
        pixels=replace(SEED_PIXELS, channel_order="rgb") if slim else SEED_PIXELS,
        peak=SEED_PEAK,
        unknown_scalars=scalars,
        **facts,
    )


def _own(tensors: Mapping[str, torch.Tensor], path: str, spec: dict[str, Any]) -> WeightFile:
    backbone = (spec["model"] or {}).get("backbone")
    if backbone not in TITLES:
        raise UserError(
            f"{path} was written by another version: it names no known backbone. "
            "Cure: train or import it again"
        )
    return WeightFile(
        kind=f"simplepose checkpoint of {spec['preset']}",
        family="simplepose",
        pixels=build(PixelConfig, spec["pixels"], path),
        peak=spec["codec"]["peak"],
        flip_shift=spec["codec"]["flip_shift"],
        **_facts(_sorted(tensors, str)[0], path, [], backbone),
    )


def _lite(tensors: Mapping[str, torch.Tensor], path: str) -> WeightFile:
    """EfficientNet-Lite0 of the `efficientnet_pytorch` library; its classifier is left out."""
    found, ignored, unknown = _sorted(tensors, _lite_name)
    count = len({name.split(".")[2] for name in found if name.startswith(f"{BACKBONE}blocks.")})
    if unknown or count != sum(repeats for *_, repeats in LITE_BLOCKS):
        what = f"{shortened(unknown)} (squeeze-and-excitation?)" if unknown else f"{count} blocks"
        raise UserError(
            f"{path} is not EfficientNet-Lite0: it holds {what}. Cure: use a file of Lite0"
        )
    return WeightFile(
        kind="EfficientNet-Lite0 backbone",
        family="efficientnet",
        pixels=_LITE_PIXELS,
        **_facts(found, path, ignored, "efficientnet_lite0"),
    )


def _sorted(
    tensors: Mapping[str, T], rename: Callable[[str], str | None]
) -> tuple[dict[str, T], list[str], list[str]]:
    """A file's tensors by our names; what is no part of a network (""); what is unknown (None)."""
    ours = {name: rename(name) for name in tensors if not name.endswith(_COUNTERS)}
    return (
        {new: tensors[name] for name, new in ours.items() if new},
        [name for name, new in ours.items() if new == ""],
        [name for name, new in ours.items() if new is None],
    )


def _torch_name(name: str) -> str:
    if name.startswith(("fc.", "data_preprocessor.")):
        return ""
    for prefix in _MMPOSE_HEADS:
        name = name.removeprefix(prefix)
    return BACKBONE + name if name.startswith(_RESNET_NAMES) else name


def _lite_name(name: str) -> str | None:
    layer, _, part = name.rpartition(".")
    if layer in ("_conv_head", "_bn1", "_fc"):
        return ""
    if layer in ("_conv_stem", "_bn0"):
        return f"{BACKBONE}stem.{int(layer == '_bn0')}.{part}"
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
    if not block or block[2] not in _LITE_LAYERS:
        return None
    return f"{BACKBONE}blocks.{block[1]}.{_LITE_LAYERS[block[2]]}.{part}"


def _facts(
    tensors: Mapping[str, torch.Tensor], path: str, ignored: list[str], backbone: str = ""
) -> dict[str, Any]:
    """What every `WeightFile` says; refuses NaN and infinities."""
    result = {name: tensor.detach().to(torch.float32) for name, tensor in tensors.items()}
    outputs = [result[f"{name}weight"] for name in OUTPUT_NAMES if f"{name}weight" in result]
    backbone = backbone or _resnet(result, path)
    broken = [name for name, tensor in result.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(
            f"{path} holds NaN or infinite numbers in {shortened(broken)}. "
            "Cure: use an earlier checkpoint of that run"
        )
    return {
        "path": path,
        "tensors": result,
        "backbone": backbone,
        "keypoint_count": len(outputs[0]) if outputs else None,
        "ignored": tuple(ignored),
    }


def _resnet(tensors: Mapping[str, torch.Tensor], path: str) -> str:
    """Which ResNet, by its blocks; refuses wide, grouped and deep-stem relatives."""
    own = {name.removeprefix(BACKBONE) for name in tensors if name.startswith(BACKBONE)}
    depth = next((depth for depth in RESNET_BLOCKS if _has_depth(own, depth)), 0)
    if not depth or "conv1.weight" not in own:
        raise UserError(
            f"{path} holds no ResNet-18, 34, 50, 101 or 152 and no EfficientNet-Lite0; its "
            f"variables are {shortened(sorted(tensors))}. Cure: use such a file"
        )
    known = (*(BACKBONE + name for name in _RESNET_NAMES), *HEAD_NAMES)
    strangers = [name for name in tensors if not name.startswith(known)]
    kernel = tensors.get(f"{BACKBONE}layer1.0.conv2.weight", torch.empty(0))
    if strangers or kernel.shape != (64, 64, 3, 3):
        shape = f"layer1.0.conv2.weight of {tuple(kernel.shape)}"
        raise UserError(
            f"{path} is not a plain ResNet-{depth} (wide, grouped or other variant): "
            f"{f'surplus {shortened(strangers)}' if strangers else shape}. "
            "Cure: use a plain ResNet"
        )
    return f"resnet{depth}"


def _has_depth(names: set[str], depth: int) -> bool:
    layers = {tuple(name.split(".")[:2]) for name in names if name.startswith("layer")}
    blocks = {
        (f"layer{stage}", str(index))
        for stage, count in enumerate(RESNET_BLOCKS[depth], 1)
        for index in range(count)
    }
    return layers == blocks and (depth >= 50) == ("layer1.0.conv3.weight" in names)


class _Inert:
    """Stands for an object of a class that is not known here: nothing of that class is run."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a PyTorch file, whatever it is wrapped in."""
    found = _unpickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    values = found if isinstance(found, Mapping) else {}
    tensors = {str(name): value for name, value in values.items() if torch.is_tensor(value)}
    if not tensors:
        raise UserError(
            f"{path} holds no network: no state dict of tensors was found in it. "
            "Cure: save model.state_dict()"
        )
    return tensors


def _unpickle(path: Path) -> Any:
    """What a PyTorch file holds; nothing in it is executed.

    What programs keep beside the weights (numpy's numbers, histories) is read as `_Inert`.
    """
    with reading(path, "a PyTorch file"):
        if zipfile.is_zipfile(path):
            require_whole_zip(path)
        return _load_inert(path)


def _load_inert(path: Path) -> Any:
    unknown: dict[str, type] = {}
    while True:
        inert: list[Any] = [(made, name) for name, made in unknown.items()]
        try:
            with torch.serialization.safe_globals(inert):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            if named and named[1] not in unknown:
                unknown[named[1]] = type("Inert", (_Inert,), {})
                continue
            reason = f"it holds {named[1]}" if named else "it holds something else or is damaged"
            raise UserError(
                f"{path} is refused: only tensors, numbers and plain objects are read, and "
                f"{reason}. Cure: where you trust the file, load it with the program that wrote it "
                "and save its state_dict alone"
            ) from error


def load_into(
    network: PoseNetwork,
    weight_file: WeightFile,
    *,
    backbone_only: bool = False,
    backbone_option: str = "--backbone-only",
) -> list[str]:
    """Copies weights into a network, all or nothing.

    Args:
        network: changed in place.
        weight_file: from `load_weight_file`.
        backbone_only: copy the backbone alone and leave the head as it is: for ImageNet weights and
            for files of another skeleton.
        backbone_option: what the caller's user types to have the backbone alone, for messages.

    Returns:
        Names of the file's tensors that were left out because only the backbone was wanted.

    Raises:
        UserError: another backbone, another keypoint count, a backbone where a whole network is
            needed, or missing, surplus and differently shaped tensors, listed in one sentence.
    """
    path, own_backbone = weight_file.path, network.config.backbone
    if weight_file.backbone != own_backbone:
        raise UserError(
            f"{path} holds {TITLES[weight_file.backbone]}, the network is {TITLES[own_backbone]}. "
            "Cure: choose a preset with that backbone, or "
            f"--model.backbone {weight_file.backbone}"
        )
    cure = "choose the preset it was trained with"
    if not backbone_only:
        cure += f", or {backbone_option}"
        if weight_file.is_backbone_only:
            raise UserError(
                f"{path} holds only a backbone ({weight_file.kind}), no head. Cure: train from it "
                "with --model.init, or ask for the backbone only"
            )
        if weight_file.keypoint_count != network.keypoint_count:
            raise UserError(
                f"{path} estimates {weight_file.keypoint_count} keypoints, the network "
                f"{network.keypoint_count}. Cure: choose a preset of that skeleton, or take the "
                f"backbone alone with {backbone_option}"
            )
    prefix = BACKBONE if backbone_only else ""
    own, given = (
        {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for tensors in (network.state_dict(), weight_file.tensors)
    )
    copy_tensors(_sorted(own, str)[0], given, path, cure)
    return [name for name in weight_file.tensors if name not in given]
