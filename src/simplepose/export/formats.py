"""The formats a network leaves in: one row each says its ending, who writes it and who opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simplepose.export.graph import GraphName
from simplepose.pose.checkpoints import LoadedModel, ModelSpec
from simplepose.pose.pixels import normalise


@dataclass(frozen=True, slots=True)
class Material:
    """What a writer makes its file of."""

    proto: Any
    """The graph as an `onnx.ModelProto`, with metadata."""
    graph: GraphName
    """Which of the two."""
    spec: ModelSpec
    """Of the network."""
    model: LoadedModel | None
    """The network itself; None where it came from an ONNX file."""
    crops: np.ndarray
    """(N, H, W, 3) uint8 RGB to choose the ranges of int8 by; N is 0 for other kinds."""

    @property
    def input_name(self) -> str:
        """Of the graph's one input."""
        return str(self.proto.graph.input[0].name)

    def feed(self, crops: np.ndarray) -> np.ndarray:
        """Crops (B, H, W, 3) uint8 as the graph takes them."""
        if self.graph == "keypoints":
            return crops
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2)
        return np.ascontiguousarray(normalise(pixels, self.spec.pixels).numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One row."""

    ending: str
    """Of its file: what comes after the first dot tells formats of one runtime apart."""
    packages: tuple[str, ...]
    """What must be installed to write it."""
    extra: str
    """Extra of simplepose that brings them."""
    write: Callable[[Material, Path], None]
    """Writes the file; what belongs to it lies beside it."""
    kind: Literal["fp32", "half", "int8"] = "fp32"
    """Of its arithmetic: decides what the gate allows."""
    graphs: tuple[GraphName, ...] = ("keypoints", "heatmaps")
    """Which it can be; the first unless another is asked for."""
    takes_onnx: bool = False
    """Whether it can be made of an ONNX file of another program."""
    opens: bool = True
    """Whether it opens again here; otherwise nobody can vouch for it."""
    command: str = ""
    """Command line of the tool that goes on from here, where it cannot be run here."""

    def next_command(self, path: Path, material: Material) -> str:
        """`command` for one file."""
        width, height = material.spec.input_size_wh
        names = {"name": path.name.partition(".")[0], "input": material.input_name}
        return self.command.format(file=path.name, size=(height, width), **names)


def _write_onnx(material: Material, path: Path) -> None:
    path.write_bytes(material.proto.SerializeToString())


TRTEXEC = (
    "trtexec --onnx={file} --saveEngine={name}.engine --fp16 "
    "--minShapes={input}:1x3x{size[0]}x{size[1]} --optShapes={input}:16x3x{size[0]}x{size[1]} "
    "--maxShapes={input}:64x3x{size[0]}x{size[1]}"
)
ATC = (
    "atc --framework=5 --model={file} --output={name} --soc_version=Ascend310P3 "
    '--input_format=NCHW --input_shape="{input}:-1,3,{size[0]},{size[1]}" '
    '--dynamic_batch_size="1,4,16,64"'
)

FORMATS = {
    "onnx": Format(
        ending=".onnx",
        packages=("onnx", "onnxruntime"),
        extra="export",
        write=_write_onnx,
    ),
    "tensorrt": Format(
        ending=".tensorrt.onnx",
        packages=("onnx", "onnxruntime"),
        extra="export",
        write=_write_onnx,
        graphs=("heatmaps",),
        command=TRTEXEC,
    ),
    "cann": Format(
        ending=".cann.onnx",
        packages=("onnx", "onnxruntime"),
        extra="export",
        write=_write_onnx,
        graphs=("heatmaps",),
        command=ATC,
    ),
}
"""`simplepose export --format`."""
