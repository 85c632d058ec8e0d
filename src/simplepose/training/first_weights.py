"""What a new run begins from: its first values, an ImageNet trunk, or a whole network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.layout import find_layout
from simplepose.pose.checkpoints import find_weights, read_spec, require_head
from simplepose.pose.network import PoseResNet
from simplepose.weights.key_maps import OUTPUT_NAMES, WeightFile
from simplepose.weights.pretrained import load_into, load_weight_file

TRUNK_FILES = ("resnet_v1_{depth}.ckpt", "resnet{depth}-*.pth", "resnet{depth}*.safetensors")
"""Names in imagenet_weights/ that `model.init: auto` takes, best first: the seed's (slim), torchvision's, timm's."""


def load_first_weights(network: PoseResNet, schema: KeypointSchema, config: Config) -> list[str]:
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
        load_into(network, source, trunk_option=f"--model.init {source.path}")
        return [f"weights from {source.path}" + _scalars(source)]
    if config.train.weights:
        return [_fine_tune(network, schema, config.train.weights)]
    if not config.model.init:
        return []
    trunk = find_trunk(config) if config.model.init == "auto" else Path(config.model.init)
    if trunk is None:
        where = f"{config.data.root}/imagenet_weights" if config.data.root else "--data.root (which is not given)"
        return [
            f"warning: no ImageNet trunk for ResNet-{network.depth} below {where}; training starts from scratch and ends several AP lower. "
            "Cure: --model.init FILE"
        ]
    file = load_weight_file(trunk)
    left_out = load_into(network, file, trunk_only=True)
    listed = f", left out: {', '.join(left_out)}" if left_out else ""
    return [f"trunk from {trunk}{listed}{_scalars(file)}"]


def find_trunk(config: Config) -> Path | None:
    """The trunk of the network's depth in the layout's imagenet_weights folder, if there is one."""
    if not config.data.root:
        return None
    folder = find_layout(config.data.root).imagenet_weights
    for pattern in TRUNK_FILES:
        if found := sorted(folder.glob(pattern.format(depth=config.model.depth))):
            return found[0]
    return None


def _fine_tune(network: PoseResNet, schema: KeypointSchema, name: str) -> str:
    """Takes a whole network; where its keypoints are others, everything but the output layer."""
    path = Path(name)
    file = load_weight_file(find_weights(path) if path.is_dir() else path)
    if file.is_trunk_only:
        raise UserError(f"{name} holds only a trunk ({file.kind}). Cure: --model.init {name}, or a network with heatmaps in train.weights")
    require_head(network, file.tensors, name)
    left_out = []
    if not _same_keypoints(file.path, file.keypoint_count, schema):
        own = network.state_dict()
        left_out = [key for key in file.tensors if key.startswith(OUTPUT_NAMES)]
        kept = {key: own[key].clone() for key in left_out if key in own}  # the network's own first values stay
        file = replace(file, tensors={**file.tensors, **kept}, keypoint_count=network.keypoint_count)
    load_into(network, file, trunk_option=f"--model.init {file.path} in place of --train.weights")
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
