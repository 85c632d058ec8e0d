"""Reads the weight file of any known program and copies it into a network, or says in one sentence why not."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from simplepose.core.errors import UserError
from simplepose.pose.backbone import TITLES
from simplepose.pose.checkpoints import copy_tensors
from simplepose.pose.network import PoseNetwork
from simplepose.weights.key_maps import BACKBONE, WeightFile, from_state_dict, from_tensorflow
from simplepose.weights.tensorflow import is_checkpoint, read_checkpoint

__all__ = ["WeightFile", "load_into", "load_weight_file"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "best_state_dict", "net")


def load_weight_file(path: str | Path) -> WeightFile:
    """Reads a weight file of any known kind.

    Args:
        path: `.pth`, `.pth.tar`, `.pt`, `.safetensors`, a TensorFlow V1 file, or the prefix or any file of a TensorFlow V2 checkpoint.

    Raises:
        UserError: missing, truncated or unsafe files, and files that hold no known backbone.
    """
    path = Path(path)
    if is_checkpoint(path):
        return from_tensorflow(read_checkpoint(path), str(path))
    if path.is_dir():
        raise UserError(f"{path} is a folder. Cure: name a weight file in it")
    if not path.exists():
        raise UserError(f"there is no weight file {path}. Cure: check the path")
    if path.name.endswith(".ckpt"):
        with path.open("rb") as file:
            start = file.read(2)
        if start not in (b"PK", b"\x80\x02"):  # PyTorch files are sometimes called .ckpt
            read_checkpoint(path)  # says what is wrong with it
    tensors, metadata = (
        _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    )
    return from_state_dict(
        tensors, str(path), metadata=metadata, safetensors=path.suffix == ".safetensors"
    )


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file: {error}. Cure: copy or download it again"
        ) from error


def _plain_numpy() -> list[Any]:
    """What numpy's numbers and arrays are pickled with: MMPose and Microsoft keep some beside the weights. They are data, not code."""
    dtypes = {
        type(np.dtype(kind))
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "U1")
    }
    allowed: list[Any] = [np.ndarray, np.dtype, *dtypes]
    functions: list[Any] = [
        np.array(0).__reduce__()[0],
        np.float64(0).__reduce__()[0],
    ]  # private, in other modules in numpy 1 and 2
    for function in functions:
        allowed += [
            (function, f"numpy.{module}.multiarray.{function.__name__}")
            for module in ("core", "_core")
        ]
    return allowed


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a PyTorch file, whatever it is wrapped in; nothing in the file is executed."""
    try:
        with torch.serialization.safe_globals(_plain_numpy()):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds {named[1]}" if named else "it holds something else, or it is damaged"
        raise UserError(
            f"{path} is refused: only plain tensors, numbers and arrays are read, and {reason}. "
            "Cure: where you trust the file, load it with the program that wrote it and save its state_dict alone"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} is not a whole PyTorch file: {reason}. Cure: copy or download it again"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    tensors = (
        {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not tensors:
        raise UserError(
            f"{path} holds no network: no state dict of tensors was found in it. Cure: save model.state_dict()"
        )
    return {str(name): value for name, value in tensors.items()}


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
        backbone_only: copy the backbone alone and leave the head as it is: for ImageNet weights and for files of another skeleton.
        backbone_option: what the caller's user types to have the backbone alone, for messages.

    Returns:
        Names of the file's tensors that were left out because only the backbone was wanted.

    Raises:
        UserError: another backbone, another keypoint count, a backbone where a whole network is needed, or missing, surplus and differently
            shaped tensors, listed in one sentence.
    """
    path = weight_file.path
    own_backbone = network.config.backbone
    if weight_file.backbone != own_backbone:
        raise UserError(
            f"{path} holds {TITLES[weight_file.backbone]}, the network is {TITLES[own_backbone]}. "
            f"Cure: choose a preset with that backbone, or --model.backbone {weight_file.backbone}"
        )
    if not backbone_only:
        if weight_file.is_backbone_only:
            raise UserError(
                f"{path} holds only a backbone ({weight_file.kind}), no head. Cure: train from it with --model.init, or ask for the backbone only"
            )
        if weight_file.keypoint_count != network.keypoint_count:
            raise UserError(
                f"{path} estimates {weight_file.keypoint_count} keypoints, the network {network.keypoint_count}. "
                f"Cure: choose a preset of that skeleton, or take the backbone alone with {backbone_option}"
            )
    left_out = [
        name for name in weight_file.tensors if backbone_only and not name.startswith(BACKBONE)
    ]
    given = {name: tensor for name, tensor in weight_file.tensors.items() if name not in left_out}
    own = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    own = {
        name: tensor
        for name, tensor in own.items()
        if not backbone_only or name.startswith(BACKBONE)
    }
    copy_tensors(
        own,
        given,
        path,
        "choose the preset it was trained with"
        + ("" if backbone_only else f", or {backbone_option}"),
    )
    return left_out
