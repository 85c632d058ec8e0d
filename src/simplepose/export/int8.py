"""Networks in 8-bit integers: ONNX Runtime's QDQ form and OpenVINO's, both one scale a channel.

What the tutorials do loses several points of AP on a pose network. A heatmap's peak decides by
small differences, so the last layers stay in float, and as many more as it takes until the poses
agree with the network's on the calibration crops. Whether that suffices, the gate says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplepose.core.oks import oks_terms
from simplepose.core.onnx import OnnxSession
from simplepose.export.graph import Material, import_onnx, set_metadata
from simplepose.pose import codec
from simplepose.pose.exported import KEYPOINTS, SCORES
from simplepose.pose.geometry import BOX_PADDING

TAILS = (2, 5, 10, 20)
"""Convolutions from the end that stay in float, tried in turn."""
AGREEMENT = 0.99
"""Mean OKS with the network's own keypoints that is good enough."""
SURE = 0.2
"""Keypoints of the network with a higher score are compared."""
BATCH = 8
Ask = Callable[[np.ndarray], dict[str, np.ndarray]]
QUANTISED = ("Conv", "Add", "MaxPool", "Relu", "Clip")
"""Layers that ONNX Runtime has integer kernels for, or that disappear beside one that has."""


class Agreement:
    """Mean OKS, 0..1, of a file's keypoints with those of the network on the calibration crops."""

    def __init__(self, material: Material) -> None:
        self.material = material
        network = OnnxSession("", content=material.proto.SerializeToString(), device="cpu")
        self.truth = self._answers(partial(_ask, network, material.input_name), material.crops)

    def __call__(self, ask: Ask, rows: Sequence[int] | slice = slice(None)) -> float:
        """The agreement of what answers the input it is fed.

        Args:
            ask: input of the graph -> its outputs by name.
            rows: the crops to look at.
        """
        spec = self.material.spec
        width, height = spec.input_size_wh
        truth, scores = (part[rows] for part in self.truth)
        found, _ = self._answers(ask, self.material.crops[rows])
        areas = np.full(len(found), width * height / BOX_PADDING**2 / 2)  # half a box is person
        terms = oks_terms(truth, found, areas, np.asarray(spec.schema.sigmas))[scores > SURE]
        return float(terms.mean()) if len(terms) else 0.0

    def _answers(self, ask: Ask, crops: np.ndarray) -> list[np.ndarray]:
        """Keypoints (N, K, 2) in crop pixels and scores (N, K)."""
        parts = [self._keypoints(ask(self.material.feed(some))) for some in batches(crops)]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _keypoints(self, answers: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, K, 2) in crop pixels and scores (B, K) from either graph's answers."""
        if self.material.graph == "keypoints":
            return answers[KEYPOINTS], answers[SCORES]
        spec, (outputs,) = self.material.spec, answers.values()
        maps = codec.activate(torch.from_numpy(outputs), spec.codec, spec.input_size_wh)
        keypoints, scores = codec.decode(maps, spec.codec, spec.input_size_wh)
        return keypoints.numpy(), scores.numpy()


def batches(crops: np.ndarray) -> Iterator[np.ndarray]:
    """A few crops at a time."""
    for first in range(0, len(crops), BATCH):
        yield crops[first : first + BATCH]


def write_onnx_int8(material: Material, path: Path) -> None:
    """QDQ, one symmetric scale a channel for weights, one range a tensor for activations."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        """Feeds the calibration crops."""

        def __init__(self) -> None:
            self.left = batches(material.crops)

        def get_next(self) -> dict[str, np.ndarray] | None:
            crops = next(self.left, None)
            return None if crops is None else {material.input_name: material.feed(crops)}

    folded, whole = path.with_name("folded.onnx"), path.with_name("whole.onnx")
    # as a file: in memory it takes no weights of the kind that older exporters wrote
    whole.write_bytes(material.proto.SerializeToString())
    quant_pre_process(str(whole), str(folded), skip_symbolic_shape=True)
    whole.unlink()
    proto, agreement = import_onnx().load(str(folded)), Agreement(material)
    for tail in TAILS:
        quantization.quantize_static(
            str(folded),
            str(path),
            Reader(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=float_nodes(proto, tail),
            extra_options={"WeightSymmetric": True},
        )
        session = OnnxSession(str(path), device="cpu")
        if agreement(partial(_ask, session, material.input_name)) >= AGREEMENT:
            break
    folded.unlink()
    kept = {one.key: one.value for one in material.proto.metadata_props}
    quantised = import_onnx().load(str(path))
    set_metadata(quantised, kept)
    path.write_bytes(quantised.SerializeToString())


def _ask(session: OnnxSession, name: str, fed: np.ndarray) -> dict[str, np.ndarray]:
    return session.run({name: fed})


def float_nodes(proto: Any, tail: int) -> list[str]:
    """Names of the last `tail` convolutions of an ONNX graph and of all that comes after them."""
    nodes = list(proto.graph.node)  # in the order in which they run
    convolutions = [node for node in nodes if node.op_type in ("Conv", "ConvTranspose")]
    kept = {id(node) for node in convolutions[-tail:]}
    reached, names = set[str](), list[str]()
    for node in nodes:
        if id(node) in kept or reached & set(node.input):
            reached |= set(node.output)
            names.append(node.name)
    return names
