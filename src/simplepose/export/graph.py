"""The graphs that leave simplepose, as ONNX.

`keypoints`: uint8 crops (B, H, W, 3) RGB in; `keypoints` (B, K, 2) in crop pixels and raw `scores`
(B, K) out, with a calibration `probabilities` (B, K) and `covariances` (B, K, 2, 2), of a network
with a visibility head `visibility` (B, K, 3), calibrated where it can be. Colour order,
normalisation, flip test and decoding are inside: the same functions that the estimator calls.
`heatmaps`: the network alone, normalised (B, 3, H, W) float in, its outputs out: for processors and
runtimes that take plain networks only.
`boxes`, of a detector: uint8 `pictures` (B, H, W, 3) RGB in, whose sides are multiples of 32;
`boxes` (B, N, 4) in their pixels, best `scores` (B, N) first, and `classes` (B, N) out, before
suppression.

The batch is free in all, and the whole `ModelSpec` travels as metadata.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from simplepose.core.errors import UserError, need
from simplepose.detection import centers
from simplepose.detection.trained import BOXES, CLASSES, PICTURES
from simplepose.pose import codec
from simplepose.pose.checkpoints import METADATA_KEY, LoadedModel, ModelSpec
from simplepose.pose.exported import (
    COVARIANCES,
    CROPS,
    FLIP_KEY,
    KEYPOINTS,
    PROBABILITIES,
    SCORES,
    SEEN,
)
from simplepose.pose.pixels import normalise
from simplepose.pose.visibility import VisibilityRecorder

GraphName = Literal["keypoints", "heatmaps", "boxes"]
OPSET = 17
"""Of all files: the newest that ATC takes; nothing here needs a newer one."""


class KeypointGraph(nn.Module):
    """`PoseEstimator.in_crops` as a module that traces."""

    def __init__(self, model: LoadedModel, *, flip_test: bool) -> None:
        """Wraps a network in evaluation mode; `flip_test` only where left and right are known."""
        super().__init__()
        self.network, self.spec = model
        self.order = model.spec.schema.flip_order if flip_test else None

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        spec = self.spec
        assert spec.model is not None  # a network of ours
        pixels = normalise(crops.permute(0, 3, 1, 2), spec.pixels)
        size_wh, stride = spec.input_size_wh, spec.model.heatmap_stride
        network = VisibilityRecorder(self.network) if spec.model.visibility else self.network
        maps = codec.run(network, pixels, spec.codec, size_wh, self.order, stride)
        keypoints, scores = codec.decode(maps, spec.codec, size_wh)
        found, curve = [keypoints, scores], spec.calibration
        if curve is not None:
            logit = torch.logit(scores, eps=1e-4)
            found += [(curve.keypoint_slope * logit + curve.keypoint_offset).sigmoid()]
            if curve.spread_slope is not None and curve.spread_offset is not None:
                factor = (curve.spread_slope * logit + curve.spread_offset).exp()[..., None, None]
                found += [codec.spread(maps, keypoints, spec.codec, size_wh) * factor]
        if isinstance(network, VisibilityRecorder):
            temperature = curve and curve.visibility_temperature
            found += [network.probabilities(self.order, temperature or 1)]
        return tuple(found)


class BoxGraph(nn.Module):
    """`TrainedDetector.in_pixels` as a module that traces."""

    def __init__(self, model: LoadedModel) -> None:
        """Wraps a network in evaluation mode."""
        super().__init__()
        self.network, self.spec = model
        stride, classes = self.network.config.heatmap_stride, len(model.spec.schema)
        # a narrow picture has fewer cells than there may be boxes
        self.most = min(centers.MOST, min(model.spec.input_size_wh) // stride * 4 * classes)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        pixels = normalise(pictures.permute(0, 3, 1, 2), self.spec.pixels)
        return centers.decode(self.network(pixels), self.network.config.heatmap_stride, self.most)


@dataclass(frozen=True, slots=True)
class Material:
    """What a writer makes its file of."""

    proto: Any
    """The graph as an `onnx.ModelProto`, with metadata."""
    graph: GraphName
    """Which of them."""
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
        if self.graph != "heatmaps":
            return crops
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2)
        return np.ascontiguousarray(normalise(pixels, self.spec.pixels).numpy())


def onnx_of(model: LoadedModel, graph: GraphName, *, flip_test: bool) -> Any:
    """One of the graphs.

    PyTorch's tracing exporter writes it: it keeps the batch free and takes a tenth of the time of
    the exporter that goes through `torch.export`, which has no opset 17.

    Args:
        model: a network on the CPU in evaluation mode, and its spec.
        graph: which.
        flip_test: put the flip test into `keypoints`.

    Returns:
        An `onnx.ModelProto` with metadata.

    Raises:
        UserError: the package onnx is not installed.
    """
    onnx = import_onnx()
    width, height = model.spec.input_size_wh
    # two crops: with one, a batch that was taken for a number would go unnoticed for longer
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    free = {0: "batch"}
    module: nn.Module
    if graph == "keypoints":
        module = KeypointGraph(model, flip_test=flip_test)
        names, curve = [CROPS, KEYPOINTS, SCORES], model.spec.calibration
        names += [PROBABILITIES] if curve else []
        names += [COVARIANCES] if curve and curve.spread_offset is not None else []
        names += [SEEN] if model.network.visibility is not None else []
    elif graph == "boxes":
        module, names = BoxGraph(model), [PICTURES, BOXES, SCORES, CLASSES]
        free |= {1: "height", 2: "width"}
    else:
        module, example = model.network, torch.zeros(2, 3, height, width)
        names = ["pixels", "simcc" if model.spec.codec.has_rows else "heatmaps"]
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # sizes of maps are numbers for the tracer, which is right: only the batch is free
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            content,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names} | {names[0]: free},
        )
    proto = onnx.load_from_string(content.getvalue())
    second = module.most if isinstance(module, BoxGraph) else len(model.spec.schema)
    for output in proto.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = second
    flip = {FLIP_KEY: str(int(flip_test))} if graph == "keypoints" else {}
    set_metadata(proto, {METADATA_KEY: model.spec.to_json(), **flip})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def onnx_with_free_batch(path: Path, spec: ModelSpec) -> Any:
    """An ONNX file of another program as a `heatmaps` graph: opset 17, batch free, with metadata.

    Whether its layers take any batch, only running it shows: the gate does.

    Raises:
        UserError: onnx is not installed, or cannot bring the file to opset 17.
    """
    onnx = import_onnx()
    proto = onnx.load(str(path))
    weights = {weight.name for weight in proto.graph.initializer}
    pictures = [one for one in proto.graph.input if one.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(pictures)  # old files list weights among the inputs
    proto.ir_version = max(proto.ir_version, 8)  # which need not
    if proto.opset_import[0].version < OPSET:
        for node in proto.graph.node:  # MXNet's exporter wrote a 0 here that no runtime heeds
            kept = [one for one in node.attribute if one.name != "spatial"]
            del node.attribute[:]
            node.attribute.extend(kept)
        try:
            proto = onnx.version_converter.convert_version(proto, OPSET)
        except Exception as error:  # RuntimeError and others
            raise UserError(
                f"{path} has opset {proto.opset_import[0].version} and cannot be brought to {OPSET}"
                f" ({error}). Cure: export it again with opset {OPSET}"
            ) from error
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    set_metadata(proto, {METADATA_KEY: spec.to_json()})
    return proto


def set_metadata(proto: Any, values: Mapping[str, str]) -> None:
    """Adds metadata to an ONNX model, or replaces it."""
    have = {one.key: one.value for one in proto.metadata_props}
    import_onnx().helper.set_model_props(proto, {**have, **values})


def import_onnx() -> Any:
    """The package onnx.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnx
        import onnx.version_converter
    except ImportError as error:
        raise need("onnx", "export", "an export") from error
    return onnx
