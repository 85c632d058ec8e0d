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


def save_constant_network(
    path: Path,
    outputs: dict[str, np.ndarray],
    *,
    first: str = "Slice",
    size: int | str = 64,
    dtype: type = np.float32,
    names: object = None,
    sizes_input: str = "",
) -> Path:
    """A detector that looks at its input with one layer of the kind `first` and then answers with
    constants.

    Args:
        path: the file to write.
        outputs: the answers.
        first: `Slice` or `Conv`.
        size: side of its input; text leaves it free.
        dtype: of its input.
        names: its classes, written into the metadata.
        sizes_input: name of a second input (1, 2).
    """
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    element = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info("images", element(np.dtype(dtype)), [1, 3, size, size])]
    nodes, infos = [helper.make_node("Cast", ["images"], ["float"], to=kinds.FLOAT)], []
    weights = []
    reads = "images" if dtype == np.float32 else "float"
    nodes = nodes if reads == "float" else []
    if first == "Slice":
        for name, numbers in (("starts", [0]), ("ends", [1]), ("axes", [2])):
            weights.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
        nodes.append(helper.make_node("Slice", [reads, "starts", "ends", "axes"], ["seen"]))
    else:
        weights.append(numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "kernel"))
        nodes.append(helper.make_node("Conv", [reads, "kernel"], ["seen"]))
    if sizes_input:
        inputs.append(helper.make_tensor_value_info(sizes_input, kinds.INT64, [1, 2]))
    for name, array in outputs.items():
        weights.append(numpy_helper.from_array(array, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        infos.append(helper.make_tensor_value_info(name, element(array.dtype), array.shape))
    graph = helper.make_graph(nodes, "constant", inputs, infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names is not None:
        helper.set_model_props(model, {"names": str(names)})
    onnx.save(model, str(path))
    return path
