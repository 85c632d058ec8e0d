"""A pose network in ONNX Runtime: device, threads, inputs of other types, another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_constant_network, save_network

from simplepose.core.errors import UserError
from simplepose.pose.estimator import PoseEstimator

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PICTURE = np.random.default_rng(0).integers(0, 255, (120, 100, 3)).astype(np.uint8)
BOXES = [[10, 10, 60, 100]]


def with_input(path: Path, kind: int, to: Path) -> Path:
    """The same network with an input of another type."""
    model = onnx.load(str(path))
    graph = model.graph
    graph.node[0].input[0] = "float"
    graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["float"], to=onnx.TensorProto.FLOAT))
    graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, str(to))
    return to


@pytest.mark.parametrize("kind", ["FLOAT16", "UINT8", "DOUBLE"])
def test_inputs_of_other_types(tmp_path: Path, kind: str) -> None:
    plain = save_network(tmp_path / "a.onnx")
    other = with_input(plain, getattr(onnx.TensorProto, kind), tmp_path / "b.onnx")
    first, second = (PoseEstimator.from_pretrained(path) for path in (plain, other))
    for one, two in zip(
        first(PICTURE, BOXES).arrays().values(),
        second(PICTURE, BOXES).arrays().values(),
        strict=True,
    ):
        if one is not None:
            np.testing.assert_allclose(one, two, rtol=1e-3)


def test_a_network_of_bytes_gets_bytes(tmp_path: Path) -> None:
    path = with_input(
        save_network(tmp_path / "a.onnx"), onnx.TensorProto.UINT8, tmp_path / "b.onnx"
    )
    estimator = PoseEstimator.from_pretrained(path, flip_test=False)
    seen = []
    run = estimator.network.session._session.run

    class Spy:
        def run(self, names, feeds):
            seen.append(feeds["x"])
            return run(names, feeds)

    estimator.network.session._session = Spy()
    crops, _ = estimator.cut(PICTURE, np.array(BOXES))
    estimator.maps(crops)
    np.testing.assert_array_equal(seen[0].transpose(0, 2, 3, 1), crops)


def test_an_input_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = with_input(save_network(tmp_path / "a.onnx"), onnx.TensorProto.BOOL, tmp_path / "b.onnx")
    with pytest.raises(UserError, match=r"b\.onnx.*bool"):
        PoseEstimator.from_pretrained(path)


def test_a_detector_of_another_program_is_no_pose_network(tmp_path: Path) -> None:
    rows = {"output": np.zeros((1, 84, 85), np.float32)}
    path = save_constant_network(tmp_path / "a.onnx", rows)
    with pytest.raises(UserError, match=r"a.onnx: expected.*84, 85"):
        PoseEstimator.from_pretrained(path)


def test_device_and_threads_reach_onnx_runtime(tmp_path: Path, monkeypatch) -> None:
    path, asked = save_network(tmp_path / "a.onnx"), []
    real = onnxruntime.InferenceSession

    def session(content, options, providers):
        asked.append((providers, options.intra_op_num_threads))
        return real(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr("simplepose.core.onnx.own_cores", lambda: 3)
    PoseEstimator.from_pretrained(path, device="cpu")
    with pytest.warns(UserWarning, match="CUDA"):
        PoseEstimator.from_pretrained(path, device="cuda:0", threads=2)
    assert asked == [
        (["CPUExecutionProvider"], 3),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], 2),
    ]
    for name in ("gpu", "mps"):
        with pytest.raises(UserError, match=f"'{name}'"):
            PoseEstimator.from_pretrained(path, device=name)


def test_an_estimator_travels_to_another_process(tmp_path: Path) -> None:
    estimator = PoseEstimator.from_pretrained(save_network(tmp_path / "a.onnx"), threads=1)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(
        again(PICTURE, BOXES).keypoints, estimator(PICTURE, BOXES).keypoints
    )
