"""A pose network made on the spot, for tests of the commands that need one and not what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def save_network(path: Path) -> Path:
    """A pose network of 32 x 48 pixels and 17 keypoints that sees the same figure in every crop."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    figure = np.zeros((1, 17, 12, 8), np.float32)
    for keypoint in range(17):
        figure[0, keypoint, 2 + keypoint % 8, 2 + keypoint % 5] = 0.9
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "none"], ["c"], strides=[4, 4]),
            helper.make_node("Add", ["c", "figure"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 48, 32])],
        [helper.make_tensor_value_info("y", kind, ["N", 17, 12, 8])],
        [
            numpy_helper.from_array(np.zeros((17, 3, 4, 4), np.float32), "none"),
            numpy_helper.from_array(figure, "figure"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        str(path),
    )
    return path
