"""Damaged and hostile files: one sentence with the file's name, whatever library reads them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from simplepose import COCO_17, UserError, load_model
from simplepose.config import ModelConfig, load_preset
from simplepose.core.device import enough_memory
from simplepose.core.errors import brief, shown
from simplepose.core.files import decode_json, decode_yaml, reading, require_whole_zip
from simplepose.data.coco import read_coco
from simplepose.data.mpii import read_matlab, read_mpii
from simplepose.evaluation.mpii import read_mpii_predictions
from simplepose.pose.checkpoints import ModelSpec, load_tensors, save_checkpoint
from simplepose.pose.network import PoseNetwork
from simplepose.training.folder import read_state
from simplepose.weights.weight_file import load_weight_file


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError("deep"), OSError(2, "gone"), MemoryError(), TypeError()]
)
def test_foreign_errors_name_the_file(error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"a\.mat .*thing.*Cure: mend") as caught,
        reading("a.mat", "a thing", "mend it"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_own_sentences_and_ctrl_c_pass() -> None:
    own = UserError("mine. Cure: none")
    for error in (own, KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, reading("a", "b"):
            raise error
        assert caught.value is error


def test_quoted_values_are_short() -> None:
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    values = ("x" * 10_000, list(range(10_000)), deep, {str(i): deep for i in range(99)}, 10**3000)
    assert all(len(shown(value)) <= 80 for value in values)
    assert shown("box") == "'box'" and shown([1, 2.5]) == "[1, 2.5]"
    assert brief("one\n two") == "one two" and len(brief("y" * 999)) <= 240


BOMB = "\n".join(f"k{i}: &k{i} [1, {f'*k{i - 1}, ' * (9 * (i > 0))}]" for i in range(9))
"""9^8 values by aliases of aliases."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 1\ntrain: {a: 1, b: 2, a: 3}", "'a' stands twice.*line 2"),
        ("model: 1\nx: 2\nmodel: 3", "'model' stands twice.*line 3"),
        ("a: &a [*a]", "aliases"),
        (
            "\n".join(f"k{i}: &k{i} [" + f"*k{i - 1}, " * (9 * (i > 0)) + "1]" for i in range(9)),
            "alias",
        ),
        ("[" * 2000, "recursion"),
        ("!!python/object/apply:os.system [ls]", "python/object"),
        ("a: 2026-99-99", "month"),
        ("? [1]\n: 2", "hash"),
    ],
)
def test_hostile_yaml(text: str, words: str) -> None:
    with pytest.raises(UserError, match=f"mine.yaml cannot be read as YAML.*{words}"):
        decode_yaml(text.encode(), "mine.yaml")


def test_ordinary_yaml_is_read() -> None:
    text = b"base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nagain: *b\n"
    expected = {"base": {"x": 1, "y": 2}, "own": {"x": 1, "y": 3}, "again": {"x": 1, "y": 2}}
    assert decode_yaml(text, "a") == expected and decode_yaml(b"", "a") is None


def test_a_preset_that_says_a_thing_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("base: synthetic_demo\ntrain:\n  epochs: 3\n  epochs: 4\n")
    with pytest.raises(UserError, match=r"twice\.yaml.*'epochs' stands twice"):
        load_preset(str(path))


@pytest.mark.parametrize("depth", [20_000, 100_000])  # Python 3.13 reads 1,024
def test_deep_json(depth: int) -> None:
    with pytest.raises(UserError, match=r"deep\.json"):
        decode_json(b"[" * depth + b"]" * depth, "deep.json")


def annotated(**changes: object) -> dict:
    row = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0}
    row |= {"keypoints": [4, 5, 2] * 17, "num_keypoints": 17, "area": 600}
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    row |= {name: value for name, value in changes.items() if name in row}
    image |= {name: value for name, value in changes.items() if name in image and name != "id"}
    return {"images": [image], "annotations": [row], "categories": [category]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bbox": [0, 0, 1e39, 3]}, "annotation 5.*bbox"),
        ({"bbox": [-1e12, 0, 5, 3]}, "annotation 5.*bbox"),
        ({"keypoints": [4, 5, 2] * 16 + [1e30, 5, 2]}, "annotation 5.*keypoint 16"),
        ({"keypoints": [4, -3e9, 1] + [4, 5, 2] * 16}, "annotation 5.*keypoint 0"),
        ({"width": -64}, "picture 1 .*size"),
        ({"height": 1e30}, "picture 1 .*size"),
    ],
)
def test_numbers_no_picture_can_have(tmp_path: Path, changes: dict, words: str) -> None:
    path = tmp_path / "people.json"
    path.write_text(json.dumps(annotated(**changes)))
    with pytest.raises(UserError, match=rf"people\.json: {words}"):
        read_coco(path, tmp_path)


def test_far_away_keypoints_that_are_not_labelled_are_none() -> None:
    people = read_coco(annotated(keypoints=[1e30, 5, 0] + [4, 5, 2] * 16), None)
    assert people.visibility[0].tolist() == [0] + [2] * 16 and not people.keypoints[0, 0].any()


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\0" * 500, b"PK\3\4" + b"\1" * 90])
def test_no_matlab_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    for read in (read_mpii_predictions, lambda path: read_mpii(path, tmp_path)):
        with pytest.raises(UserError, match=r"a\.mat cannot be read as"):
            read(tmp_path / "a.mat")


def test_matlab_structures_of_another_form(tmp_path: Path) -> None:
    from scipy.io import savemat

    for release in ({"annolist": 3, "img_train": [1, 0]}, {"annolist": "x"}, 7):
        savemat(tmp_path / "a.mat", {"RELEASE": release})
        with pytest.raises(UserError, match=r"a\.mat cannot be read as MPII"):
            read_mpii(tmp_path / "a.mat", tmp_path)


def flip(path: Path, byte: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=8), 17)
    spec = ModelSpec(preset="mine", schema=COCO_17, input_size_wh=(64, 64), model=network.config)
    save_checkpoint(tmp_path / "w.safetensors", network, spec)
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("where", [0.02, 0.4, 0.999])
def test_one_flipped_bit_of_our_weights_is_found(weights: Path, where: float) -> None:
    load_model(weights)
    flip(weights, int(weights.stat().st_size * where), 3)
    for read in (load_model, load_weight_file):
        with pytest.raises(UserError, match=r"w\.safetensors cannot be read.*have changed"):
            read(weights)


def test_a_flipped_bit_of_the_description_is_found(weights: Path) -> None:
    place = weights.read_bytes().index(b"123.675") + 6
    flip(weights, place)
    with pytest.raises(UserError, match=r"w\.safetensors cannot be read.*have changed"):
        load_model(weights)


def test_weights_that_are_no_numbers(weights: Path) -> None:
    network, _ = load_model(weights)
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    tensors["final_layer.bias"][3] = float("nan")
    with pytest.raises(UserError, match=r"bad\.pth.*not finite: final_layer\.bias"):
        load_tensors(network, tensors, "bad.pth")


@pytest.mark.parametrize("read", [load_weight_file, read_state])
def test_one_flipped_bit_of_a_pytorch_file_is_found(tmp_path: Path, read: object) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7)}, path)
    flip(path, path.read_bytes().index(np.ones(9, np.float32).tobytes()) + 21, 6)
    with pytest.raises(UserError, match=r"w\.pth cannot be read.*checksum"):
        read(path)  # type: ignore[operator]


def test_whole_zips_pass(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("one", b"1" * 99)
    require_whole_zip(tmp_path / "a.zip")
    with pytest.raises(zipfile.BadZipFile):
        require_whole_zip(io.BytesIO(b"no zip"))  # type: ignore[arg-type]


def test_a_state_that_is_something_else(tmp_path: Path) -> None:
    torch.save({"position": 1}, tmp_path / "last.train.pt")
    with pytest.raises(UserError, match=r"last\.train\.pt.*holds no.*network"):
        read_state(tmp_path / "last.train.pt")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to"),
        RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
    ],
)
def test_memory_that_runs_out_names_the_batch_size(error: Exception) -> None:
    with (
        pytest.raises(UserError, match="batches of 48.*--train.batch-size below 48"),
        enough_memory(48, "--train.batch-size"),
    ):
        raise error


def test_real_memory_that_runs_out() -> None:
    with pytest.raises(UserError, match="batches of 7"), enough_memory(7, "batch_size"):
        torch.empty(2**60)


NO_MEMORY = """
import resource, sys
from pathlib import Path
import cv2
import numpy as np
import simplepose.commands.weights
from simplepose.cli import main
from simplepose.core.errors import UserError
from simplepose.core.images import decode_image

small = np.zeros((2, 2, 3), np.uint8)
simplepose.commands.weights.run = lambda _: cv2.resize(small, (20_000, 20_000))
content = cv2.imencode(".png", np.zeros((7_000, 7_000, 3), np.uint8))[1].tobytes()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
try:
    decode_image(content, "a.png")
except UserError as error:
    print(type(error.__cause__) is cv2.error, error)
sys.exit(main(["weights", "list"]))
"""


def test_real_pictures_that_memory_does_not_hold() -> None:
    """OpenCV's own error: of a picture that is decoded, and wherever else it arises; in a process
    of its own, whose memory nobody else frees."""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of this process is not known here")
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert re.match(r"True .*a\.png cannot be decoded.*Cure: stop", done.stdout), done.stdout
    assert "not enough memory" in done.stderr and "Traceback" not in done.stderr


def test_other_errors_are_not_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes") as caught, enough_memory(1, "x"):
        raise RuntimeError("shapes differ")
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_of_every_class_are_read(tmp_path: Path, compressed: bool) -> None:
    from scipy.io import loadmat, savemat
    from scipy.sparse import csc_array

    cells = np.empty(2, object)
    cells[:] = ["text", np.arange(3.0)]
    content = {
        "numbers": np.arange(6, dtype=np.int16).reshape(2, 3),
        "complex": np.array([1 + 2j]),
        "empty": np.zeros((0, 3)),
        "flags": np.array([True, False]),
        "cells": cells,
        "nested": {"a": 1.5, "b": {"c": "words", "d": np.zeros((2, 2, 2))}},
        "none": np.array([], [("a", object)]),
        "sparse": csc_array(np.eye(3)),
    }
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    found = read_matlab(tmp_path / "a.mat", "a file", "none")
    assert {*content} <= {*found} and {*found} == {*loadmat(tmp_path / "a.mat")}
    assert found["nested"]["b"][0, 0]["c"][0, 0][0] == "words"
    np.testing.assert_array_equal(found["numbers"], content["numbers"])


def test_scipy_may_end_its_process_over_a_number_of_an_unknown_type(tmp_path: Path) -> None:
    """Type 8 is reserved: scipy's reader looks it up beyond its table."""
    from scipy.io import savemat

    savemat(path := tmp_path / "a.mat", {"x": np.arange(7.0)})
    data = bytearray(path.read_bytes())
    place = data.index(np.arange(7.0).tobytes()) - 8
    for kind in (8, 10, 99):
        data[place] = kind
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.mat cannot be read as"):
            read_mpii_predictions(path)
