"""`simplepose export WEIGHTS --format FORMAT`: a network for another runtime, which gets its name
only when it scores as the network does."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.commands.evaluate import read_data
from simplepose.commands.evaluate_boxes import read_boxes_to_find, require_no_pose_options
from simplepose.commands.options import EvaluateOptions, ExportOptions
from simplepose.core.errors import UserError, brief, need
from simplepose.core.files import give_name, hidden_folder, require_new, write_json
from simplepose.core.onnx import OnnxSession
from simplepose.core.progress import note
from simplepose.data.coco import read_coco
from simplepose.data.source import boxes_to_test
from simplepose.detection.trained import TrainedDetector
from simplepose.evaluation.top_down import stored_settings
from simplepose.export.boxes import BoxSource
from simplepose.export.formats import FORMATS, Format
from simplepose.export.gate import Source, examine, require_other_pictures
from simplepose.export.graph import GraphName, Material, onnx_of, onnx_with_free_batch
from simplepose.export.poses import PoseSource, Scored
from simplepose.pose.checkpoints import (
    LoadedModel,
    beside,
    find_weights,
    is_detector,
    require_schema,
)
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import ExportedNetwork
from simplepose.pose.network import PoseNetwork

FEWEST_CROPS = 32
"""Fewer people say too little about the ranges of int8."""


def run(options: ExportOptions) -> None:
    """Writes the file into a hidden folder, examines it there, and gives it its name.

    Raises:
        UserError: options that do not fit each other, a package that is missing, or a file that
            does not do what the network does.
    """
    form, weights = FORMATS[options.format], find_weights(options.weights)
    output = Path(options.output or beside(weights, weights.stem + form.ending))
    _require_sense(options, form, output)
    source = _source(options, form, weights)
    if source.scored is None:
        note("no annotations: numbers only, nothing is scored")
    material = _material(options, form, source)
    with hidden_folder(output) as folder:
        candidate = folder / output.name
        try:
            form.write(material, candidate)
        except (UserError, OSError):
            raise
        except Exception as error:  # the writers' own are of many kinds
            raise UserError(
                f"{options.format} could not be written: {brief(error)}. "
                "Cure: another --format, or --graph heatmaps"
            ) from error
        _examine(options, form, source, candidate)
        if options.answers:
            _write_answers(material, candidate, source)
        # the file itself last: where it stands, all that belongs to it stands too
        for path in sorted(folder.iterdir(), key=lambda path: path == candidate):
            target = output.with_name(path.name)
            if target.is_dir():
                shutil.rmtree(target)
            give_name(path, target)
    print(f"written: {output}")
    if form.command:
        print(f"next, on the device: {form.next_command(output, material)}")


def _require_sense(options: ExportOptions, form: Format, output: Path) -> None:
    """Refuses what would be found out only after the work."""
    if form.kind == "int8" and not (options.annotations or options.data.root):
        raise UserError(
            f"{options.format} loses what only a score shows. "
            "Cure: --annotations and --images of people to score it on"
        )
    if form.kind == "int8" and not (options.int8.annotations and options.int8.images):
        raise UserError(
            f"{options.format} needs pictures to choose its ranges by, others than those that are "
            "scored. Cure: --int8.annotations and --int8.images, of training pictures"
        )
    if options.graph not in ("auto", *form.graphs):
        raise UserError(
            f"--graph is {options.graph}, {options.format} is of {form.graphs[0]} only. "
            "Cure: leave --graph out"
        )
    if options.device not in ("cpu", "auto"):
        raise UserError(
            f"--device is {options.device}: a file is compared with its network on the processor. "
            "Cure: leave --device out"
        )
    if output.is_dir() and output.suffix != ".mlpackage":
        raise UserError(f"{output} is a folder. Cure: another --output")
    require_new(output, parity_path(output), overwrite=options.overwrite)
    ending = "." + form.ending.rpartition(".")[2]
    if output.suffix != ending:
        raise UserError(f"--output is {output}. Cure: a name that ends in {ending}")
    for package in form.packages:
        if find_spec(package) is None:
            raise need(package, form.extra, f"--format {options.format}")


def parity_path(output: Path) -> Path:
    """Where the findings about an export stand."""
    return output.with_name(f"{output.name}.parity.json")


def _source(options: ExportOptions, form: Format, weights: Path) -> Source:
    """The network, and what it is scored on, if anything is.

    Raises:
        UserError: a detector, which the format cannot be made of; or annotations that do not fit.
    """
    shared = {name: getattr(options, name) for name in ("annotations", "images", "boxes", "data")}
    is_scored = bool(options.annotations or options.data.root)
    if is_detector(weights):
        if "boxes" not in form.graphs or options.graph != "auto":
            able = ", ".join(name for name, one in FORMATS.items() if "boxes" in one.graphs)
            raise UserError(
                f"{options.weights} is a detector, which leaves as one graph that answers boxes. "
                f"Cure: --format with one of {able}, and no --graph"
            )
        detector = TrainedDetector.from_pretrained(weights, device="cpu")
        asked = EvaluateOptions(weights=options.weights, **shared)
        require_no_pose_options(asked)
        return BoxSource(detector, read_boxes_to_find(asked, detector) if is_scored else None)
    network = PoseEstimator.from_pretrained(
        weights, device="cpu", flip_test=options.flip_test, precision="fp32"
    )
    if not is_scored:
        return PoseSource(network)
    config = stored_settings(network.spec, options.weights)
    config = replace(config, flip_test=options.flip_test)
    asked = EvaluateOptions(weights=options.weights, evaluate=config, **shared)
    annotations, detections = read_data(asked, network.schema)
    require_schema(network.spec, annotations.schema, options.weights)
    return PoseSource(network, Scored(annotations, detections, config))


def _material(options: ExportOptions, form: Format, source: Source) -> Material:
    """The graph, and for int8 crops."""
    network, spec = source.network.network, source.network.spec
    crops = np.zeros((0, *spec.input_size_wh[::-1], 3), np.uint8)
    if isinstance(source, PoseSource) and form.kind == "int8":
        crops = _int8_crops(options, source)
    if isinstance(network, ExportedNetwork):
        path, graph = Path(network.path), _graph_of_file(options, network)
        return Material(onnx_with_free_batch(path, spec), graph, spec, None, crops)
    if not isinstance(network, PoseNetwork):
        raise UserError(
            f"{options.weights} was exported already. "
            "Cure: the run folder or .safetensors file it came from"
        )
    model = LoadedModel(network, spec)
    if isinstance(source, BoxSource):
        return Material(onnx_of(model, "boxes", flip_test=False), "boxes", spec, model, crops)
    graph = form.graphs[0] if options.graph == "auto" else options.graph
    proto = onnx_of(model, graph, flip_test=source.network.mirrors)
    return Material(proto, graph, spec, model, crops)


def _int8_crops(options: ExportOptions, source: PoseSource) -> np.ndarray:
    """(N, H, W, 3) uint8 RGB crops to choose the ranges of int8 by.

    Raises:
        UserError: too few, of other keypoints, or of pictures that are scored too.
    """
    assert source.scored is not None
    ranges = read_coco(options.int8.annotations, options.int8.images)
    require_schema(source.network.spec, ranges.schema, options.weights)
    require_other_pictures(ranges, source.scored.annotations)
    people = replace(source.scored, annotations=ranges, detections=boxes_to_test("gt", ranges, ""))
    crops = people.crops(source.network, options.int8.people)
    if len(crops) < FEWEST_CROPS:
        raise UserError(
            f"{options.int8.annotations} has {len(crops)} people to choose the ranges of int8 "
            f"by. Cure: at least {FEWEST_CROPS}"
        )
    return crops


def _graph_of_file(options: ExportOptions, network: ExportedNetwork) -> GraphName:
    """The graph that an ONNX file is made into.

    Raises:
        UserError: it cannot be made into what is asked for.
    """
    form = FORMATS[options.format]
    problem = ""
    if not form.takes_onnx or not network.path.endswith(".onnx"):
        problem = f"{network.path} is no network that {options.format} can be made of"
    elif network.decodes or options.graph == "keypoints":
        problem = f"{network.path} can only become heatmaps, if it has heatmaps"
    if problem:
        raise UserError(f"{problem}. Cure: the run folder or .safetensors file it came from")
    return "heatmaps"


def _examine(options: ExportOptions, form: Format, source: Source, candidate: Path) -> None:
    """The gate: prints the table and writes it beside the candidate, or refuses it."""
    if not form.opens:
        note(f"{options.format} does not open here: NOT VERIFIED")
        return
    parity = examine(source, candidate, form.kind, allow_loss=options.allow_loss)
    print(parity.table())
    if refused := parity.refused:
        named = "; ".join(f"{c.name}: {c.found} (limit {c.limit})" for c in refused)
        raise UserError(
            f"{options.format} is refused, nothing is written: {named}. "
            "Cure: another --format, or for a loss of AP that you accept --allow-loss"
        )
    about = {
        "format": options.format,
        "source": options.weights,
        **source.about(),
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in ("torch", *form.packages)},
    }
    write_json(parity_path(candidate), parity.to_plain(**about), indent=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution brings it, as onnxruntime-gpu does
        return str(getattr(import_module(package), "__version__", "unknown"))


def _write_answers(material: Material, candidate: Path, source: Source) -> None:
    """16 inputs and what ONNX Runtime makes of them."""
    inputs = source.inputs()[:16]
    session = OnnxSession("", content=material.proto.SerializeToString(), device="cpu")
    fed = {material.input_name: material.feed(inputs)}
    arrays: dict[str, Any] = {"crops": inputs, **fed, **session.run(fed)}
    np.savez(candidate.with_name(f"{candidate.name}.answers.npz"), **arrays)
