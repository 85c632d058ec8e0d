"""The formats a network leaves in: one row each says its ending, who writes it and who opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simplepose.core.errors import UserError
from simplepose.core.files import give_name, hidden_folder, write_bytes
from simplepose.core.openvino import import_openvino
from simplepose.export.devices import write_coreml, write_executorch
from simplepose.export.graph import GraphName, Material, import_onnx, set_metadata
from simplepose.export.int8 import write_onnx_int8
from simplepose.export.openvino import (
    save,
    write_openvino,
    write_openvino_bf16,
    write_openvino_int8,
)
from simplepose.export.parity import Kind
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec
from simplepose.pose.exported import PROBABILITIES, ExportedNetwork


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
    kind: Kind = "fp32"
    """Of its arithmetic: decides what the gate allows."""
    graphs: tuple[GraphName, ...] = ("keypoints", "heatmaps", "boxes")
    """Which it can be; of a pose network the first unless another is asked for."""
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
    "onnx-int8": Format(
        ending=".int8.onnx",
        packages=("onnx", "onnxruntime"),
        extra="export",
        write=write_onnx_int8,
        kind="int8",
        graphs=("keypoints", "heatmaps"),
        takes_onnx=True,
    ),
    "openvino": Format(
        ending=".xml",
        packages=("onnx", "openvino"),
        extra="openvino",
        write=write_openvino,
        takes_onnx=True,
    ),
    "openvino-bf16": Format(
        ending=".bf16.xml",
        packages=("onnx", "openvino"),
        extra="openvino",
        write=write_openvino_bf16,
        kind="half",
        takes_onnx=True,
    ),
    "openvino-int8": Format(
        ending=".int8.xml",
        packages=("onnx", "openvino", "nncf"),
        extra="openvino",
        write=write_openvino_int8,
        kind="int8",
        graphs=("keypoints", "heatmaps"),
        takes_onnx=True,
    ),
    "executorch": Format(
        ending=".pte",
        packages=("onnx", "executorch"),
        extra="executorch",
        write=write_executorch,
        graphs=("heatmaps",),
    ),
    "coreml": Format(
        ending=".mlpackage",
        packages=("onnx", "coremltools"),
        extra="coreml",
        write=write_coreml,
        kind="half",
        graphs=("heatmaps",),
        opens=False,
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


def write_calibrated(source: Path, output: Path, spec: ModelSpec) -> None:
    """The same exported network with another description: its calibration.

    Raises:
        UserError: the file has the probabilities of another calibration inside, or cannot carry
            one.
    """
    network = ExportedNetwork(source, device="cpu")
    if PROBABILITIES in [name for name, _ in network.session.outputs]:
        raise UserError(
            f"{source} puts out probabilities of the calibration that it was exported with. "
            "Cure: simplepose calibrate the weights it came from, and export them again"
        )
    if source.suffix == ".onnx":
        proto = import_onnx().load(str(source))
        set_metadata(proto, {METADATA_KEY: spec.to_json()})
        write_bytes(output, proto.SerializeToString())
        return
    openvino = import_openvino("a calibration")
    model = openvino.Core().read_model(source)
    model.set_rt_info(spec.to_json(), METADATA_KEY)
    # the source may be the output, and is read while the copy is written
    with hidden_folder(output) as folder:
        save(model, folder / output.name)
        for path in sorted(folder.iterdir()):  # the .bin before the .xml
            give_name(path, output.with_name(path.name))
