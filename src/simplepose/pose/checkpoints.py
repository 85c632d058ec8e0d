"""Weights that know what they are.

A safetensors file carries skeleton, preprocessing, codec, configuration and score beside the
weights, and a digest of all of it, which is compared when it is read. `best.safetensors` and
`last.safetensors` hold a network; what only training needs (optimiser, random states) lies beside
them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from safetensors import SafetensorError, safe_open

from simplepose import __version__
from simplepose.config import CodecConfig, Config, ModelConfig, PixelConfig
from simplepose.core.errors import UserError, brief
from simplepose.core.files import atomic_path, encode_json, reading
from simplepose.core.schema import KeypointSchema
from simplepose.core.sessions import SESSIONS, open_session
from simplepose.core.settings import build, settings, to_plain
from simplepose.pose.calibration import Calibration
from simplepose.pose.hub import fetch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from simplepose.pose.network import PoseNetwork

METADATA_KEY, DIGEST_KEY = "simplepose", "sha256"
SAFETENSORS = "a safetensors file"
STARTER, STARTER_PERSON = "starter", "starter-person"
STARTERS = Path(__file__).parents[1] / "starter"
"""Folder of the two networks that come with the package: a pose network and a person detector."""
HEADS = {
    "simcc": "head.x.",
    "boxes": "head.box_output.",
    "heatmap_depthwise": "head.mixes.0.3.",
    "heatmap_light": "head.laterals.",
    "heatmap": "final_layer.",
}
"""`model.head` -> what only tensors of that head are called; the first that is found counts."""


@settings("spec")
class ModelSpec:
    """What must be known to use a network: it travels inside every weight file."""

    preset: str
    """Name of the preset it was trained with."""
    schema: KeypointSchema
    """Its keypoints; the classes of a detector."""
    input_size_wh: tuple[int, int]
    """Width and height of its input."""
    pixels: PixelConfig = PixelConfig()
    """Channel order and normalisation."""
    codec: CodecConfig = CodecConfig()
    """How its heatmaps are read."""
    model: ModelConfig | None = None
    """Its architecture; None for a network that only exists as ONNX."""
    score: dict[str, Any] = field(default_factory=dict)
    """AP and where it was measured."""
    calibration: Calibration | None = None
    """Score calibration fitted on held-out data; None where scores are raw."""
    config: dict[str, Any] = field(default_factory=dict)
    """The whole configuration of the run, for the record."""

    @classmethod
    def of(cls, config: Config, schema: KeypointSchema) -> ModelSpec:
        """That of the network which `config` trains on keypoints of `schema`."""
        names = ("preset", "input_size_wh", "pixels", "codec", "model")
        values = {name: getattr(config, name) for name in names}
        return cls(schema=schema, config=to_plain(config), **values)

    @property
    def detects(self) -> bool:
        """Whether it is a detector, which finds boxes and no keypoints."""
        return self.model is not None and self.model.head == "boxes"

    def to_json(self) -> str:
        """One JSON object, the inverse of `from_json`."""
        return encode_json({**to_plain(self), "version": __version__}).decode()

    @classmethod
    def from_json(cls, text: str, source: str) -> ModelSpec:
        """Reads `to_json`; `source` names the file in messages."""
        try:
            values = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise UserError(
                f"{source}: its description of the network cannot be read ({brief(error)}). "
                "Cure: export or train it again"
            ) from error
        values.pop("version", None)
        return build(cls, values, source)


class LoadedModel(NamedTuple):
    """A network and what it is."""

    network: PoseNetwork
    spec: ModelSpec


def has_no_path(name: str | Path) -> bool:
    """Whether it names a network of the package or of the hub, and no file."""
    return str(name) in (STARTER, STARTER_PERSON) or str(name).startswith("hf:")


def find_weights(path: str | Path) -> Path:
    """The weight file that a name means.

    Args:
        path: a run folder, a checkpoint folder, the folder of a `save_pretrained`, a file,
            `starter`, `starter-person` (the networks that come with the package) or
            `hf:OWNER/NAME` (on the Hugging Face hub).

    Raises:
        UserError: nothing is there.
    """
    if has_no_path(path):
        return fetch(str(path)) if str(path).startswith("hf:") else _come_with(str(path))
    path = Path(path)
    if path.is_dir():
        names = ("checkpoints/best", "checkpoints/last", "best", "model")
        for candidate in (path / f"{name}.safetensors" for name in names):
            if candidate.exists():
                return candidate
        raise UserError(
            f"{path} holds no checkpoints/best.safetensors. "
            "Cure: name a run folder that has finished an epoch, or a weight file"
        )
    if not path.exists():
        raise UserError(
            f"no weights at {path}. Cure: name a run folder, a .safetensors file or an .onnx file"
        )
    return path


def _come_with(name: str) -> Path:
    path = STARTERS / f"{name}.safetensors"
    if not path.exists():
        raise UserError(
            f"this installation of simplepose comes without the network {name}. "
            "Cure: simplepose weights get people fetches published networks"
        )
    return path


def beside(weights: Path, name: str) -> Path:
    """Where a file that is made of weights goes: beside them, or into the working folder where they
    came with the package."""
    return Path(name) if weights.parent == STARTERS else weights.with_name(name)


def epoch_weights(run: str | Path, epoch: int) -> Path:
    """Where a run keeps the weights of one epoch, counted from 1 (`train.keep_every`)."""
    return Path(run) / "checkpoints" / f"epoch_{epoch:03}.safetensors"


def kept_epochs(run: str | Path) -> list[int]:
    """Epochs whose weights a run has kept, in order."""
    files = (Path(run) / "checkpoints").glob("epoch_*.safetensors")
    names = (re.fullmatch(r"epoch_(\d+)", path.stem) for path in files)
    return sorted(int(name[1]) for name in names if name)


def save_checkpoint(
    path: str | Path, network: nn.Module, spec: ModelSpec, *, half: bool = False
) -> None:
    """Writes weights and spec atomically as safetensors.

    Args:
        path: the file.
        network: whose weights are written.
        spec: what the file says of itself.
        half: write the convolutions in half precision, and so half the file. What batch norms
            measured stays in single precision: it is small, and its range is wide.
    """
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    if half:
        tensors = {name: one.half() if one.ndim > 1 else one for name, one in tensors.items()}
    metadata = {METADATA_KEY: spec.to_json()}
    metadata[DIGEST_KEY] = digest(tensors, metadata[METADATA_KEY])
    with atomic_path(path, durable=True) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
            temporary.chmod(0o644)  # safetensors makes it readable by its owner alone
        except SafetensorError as error:  # the library's wrapper of an I/O error
            raise OSError(str(error)) from error


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], ModelSpec]:
    """Reads the tensors and the spec of one of our safetensors files.

    Raises:
        UserError: no such file, cut short, damaged, or safetensors of another program.
    """
    tensors, metadata = read_safetensors(path := find_weights(path))
    return tensors, _spec_of(metadata, path)


def read_spec(path: str | Path) -> ModelSpec:
    """The spec alone, without reading the tensors: nothing is said of their digest."""
    return _spec_of(read_metadata(path := find_weights(path)), path)


def is_detector(path: str | Path) -> bool:
    """Whether a run folder or a file is a detector of `simplepose train`, exported or not."""
    metadata = read_metadata(path := find_weights(path))
    return METADATA_KEY in metadata and _spec_of(metadata, path).detects


def read_metadata(path: Path) -> dict[str, str]:
    """What a file of weights or of another runtime says of itself; nothing of other files."""
    if path.suffix.lower() in SESSIONS:
        return open_session(path, device="cpu").metadata
    if path.suffix != ".safetensors":
        return {}
    with reading(path, SAFETENSORS), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file of any program; the digest of ours is compared.

    Raises:
        UserError: cut short, or damaged.
    """
    cure = "copy or download it again"
    if path.parent == STARTERS:
        cure = (
            "install simplepose again: pip install --force-reinstall --no-deps, as the first time"
        )
    with reading(path, SAFETENSORS, cure), safe_open(path, framework="pt") as file:
        names = file.keys()  # of what is no mapping
        tensors = {name: file.get_tensor(name) for name in names}
        metadata = file.metadata() or {}
        spec = metadata.get(METADATA_KEY)
        if spec is not None and metadata.get(DIGEST_KEY) != digest(tensors, spec):
            raise ValueError("its contents have changed since they were written")
    return tensors, metadata


def digest(tensors: Mapping[str, Tensor], spec: str) -> str:
    """sha256 of a description and of tensors on the CPU: names, types, shapes and values."""
    import torch

    found = hashlib.sha256(spec.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {(*tensor.shape,)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _spec_of(metadata: Mapping[str, str], path: Path) -> ModelSpec:
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path} carries no description of its network. "
            f"Cure: bring it in with simplepose import {path} --as PRESET"
        )
    return ModelSpec.from_json(metadata[METADATA_KEY], str(path))


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Loads a network for use (evaluation mode).

    Args:
        path: run folder or .safetensors file.
        device: where it should live.
    """
    from simplepose.pose.network import PoseNetwork

    tensors, spec = read_checkpoint(path)
    if spec.model is None:
        raise UserError(f"{path} carries no architecture. Cure: bring it in with simplepose import")
    network = PoseNetwork(spec.model, len(spec.schema), spec.input_size_wh)
    load_tensors(network, tensors, str(path))
    return LoadedModel(network.to(device).eval(), spec)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copies tensors into a network of exactly that shape.

    Raises:
        UserError: another kind of head; or lists the missing, surplus and differently shaped ones.
    """
    require_head(network, tensors, source)
    copy_tensors(network.state_dict(), tensors, source, "use the preset it was trained with")


def require_head(network: nn.Module, names: Iterable[str], source: str) -> None:
    """Refuses weights of another kind of head (`model.head`), by the names of its layers.

    Raises:
        UserError: e.g. SimCC weights for a network that puts out heatmaps.
    """

    def kind(names: Iterable[str]) -> str:
        listed = "\n".join(names)
        return next((kind for kind, mark in HEADS.items() if mark in listed), "")

    have, want = kind(names), kind(network.state_dict())
    if have and want and have != want:
        cure = " --codec.kind simcc" if have == "simcc" else ""
        raise UserError(
            f"{source} has the head {have}, the network {want}. "
            f"Cure: --model.head {have}{cure}, or weights with the head {want}"
        )


def require_pose(spec: ModelSpec, source: str) -> None:
    """Refuses a detector where a pose network is wanted."""
    if spec.detects:
        raise UserError(
            f"{source} is a detector of {', '.join(spec.schema.keypoints)[:80]}: it finds boxes "
            "and no keypoints. Cure: give it as --boxes, and a pose network as the weights"
        )


def require_schema(spec: ModelSpec, schema: KeypointSchema, source: str) -> None:
    """Refuses to score or continue a network on data with other keypoints."""
    if spec.schema.keypoints != schema.keypoints:
        raise UserError(
            f"{source} estimates {len(spec.schema)} keypoints ({spec.schema.name}), the data has "
            f"{len(schema)} ({schema.name}). "
            "Cure: use weights and annotations with the same keypoints"
        )


def copy_tensors(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, cure: str
) -> None:
    """Copies tensors of the same names and shapes, all or nothing.

    Args:
        own: a network's, changed in place.
        given: those of a file.
        source: names the file in messages.
        cure: what to do where they do not fit.

    Raises:
        UserError: lists the missing, surplus and differently shaped ones in one sentence.
    """
    import torch

    both = sorted(own.keys() & given.keys())
    problems = {
        "missing": sorted(own.keys() - given.keys()),
        "surplus": sorted(given.keys() - own.keys()),
        "wrong shapes": [
            f"{name} {(*given[name].shape,)} for {(*own[name].shape,)}"
            for name in both
            if given[name].shape != own[name].shape
        ],
        "not finite": [name for name in both if not given[name].isfinite().all()],
    }
    if listed := [f"{what}: {shortened(names)}" for what, names in problems.items() if names]:
        raise UserError(f"{source} does not fit the network ({'; '.join(listed)}). Cure: {cure}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def shortened(names: list[str], most: int = 4) -> str:
    """`a, b, c, d and 7 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
