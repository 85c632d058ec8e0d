"""Thousands of damaged files, by format: each is read or refused with a sentence, within seconds,
and where a format has checksums nothing else than what was written comes out.

`pytest tests/fuzz -s --fuzz-seconds 120` looks longer, from another seed each time it is given
`--fuzz-seed`, and prints the counts.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from mutations import damage, damage_json, flip_bit
from tf_checkpoint_writer import example, write_v1, write_v2
from tiny_onnx import save_network
from training_workers import write_people

from simplepose import COCO_17, POSETRACK_15, UserError
from simplepose.commands.import_weights import schema_of
from simplepose.config import AugmentConfig, ModelConfig, load_preset
from simplepose.core.images import decode_image, orientation_of
from simplepose.data.coco import read_coco, read_detections
from simplepose.data.mapping import read_sigmas
from simplepose.data.mpii import read_mpii
from simplepose.data.pack import open_pack, plan_pack, write_pack
from simplepose.data.posetrack import read_posetrack
from simplepose.detection.files import read_boxes
from simplepose.detection.onnx import PersonDetector
from simplepose.evaluation.coco import read_results, score_rows
from simplepose.evaluation.mpii import evaluate_mpii, read_mpii_predictions, read_mpii_truth
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.exported import ExportedNetwork
from simplepose.pose.network import PoseNetwork
from simplepose.training.folder import STATE_PARTS, read_state
from simplepose.weights.tensorflow import read_checkpoint
from simplepose.weights.weight_file import _read_pickle, load_weight_file

HANG_SECONDS = 5
SMALL = ModelConfig(backbone="resnet18", width=4, deconv_filters=4)


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` catches it."""


@dataclass
class Format:
    """A file that is damaged again and again, and what reads it."""

    path: Path
    read: Callable[[Path], Any]
    checked: bool = False
    """It has checksums: one flipped bit is found, or changes nothing that is read."""
    mutate: Callable[[bytes, random.Random], bytes] = damage
    iterations: int = 40


FORMATS: dict[str, Callable[[Path], Format]] = {}


def a_format(make: Callable[[Path], Format]) -> Callable[[Path], Format]:
    FORMATS[make.__name__] = make
    return make


def fingerprint(value: Any) -> str:
    """The same for equal values, for anything that readers return."""
    digest = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            one = one.detach().numpy()
        if isinstance(one, np.ndarray):
            digest.update(f"{one.dtype}{one.shape}".encode() + one.tobytes())
        elif isinstance(one, dict):
            for key in sorted(one, key=str):
                digest.update(str(key).encode())
                add(one[key])
        elif isinstance(one, (list, tuple)):
            for part in one:
                add(part)
        else:
            digest.update(repr(one).encode())

    add(value)
    return digest.hexdigest()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# JSON, YAML


def finite(annotations: Any) -> Any:
    """The people, whose numbers must fit a picture's."""
    for column in (annotations.bbox_xywh, annotations.keypoints, annotations.area):
        assert np.isfinite(column).all()
    assert np.abs(annotations.bbox_xywh).max(initial=0) <= 1e9
    assert np.abs(annotations.keypoints).max(initial=0) <= 1e9
    assert annotations.image_sizes_wh.min(initial=0) >= 0
    annotations.trainable()
    return annotations


def write_annotations(folder: Path) -> Path:
    people = write_people(folder / "people", 3) / "people.json"
    content = json.loads(people.read_text())
    for row in content["annotations"]:
        row |= {"track_id": row["id"], "score": 0.5, "head_box_xyxy": [1, 2, 9, 9]}
    people.write_text(json.dumps(content))
    return people


@a_format
def annotations(folder: Path) -> Format:
    def read(path: Path) -> Any:
        with suppress(UserError):
            read_boxes(path)
        return finite(read_coco(path, folder))

    return Format(write_annotations(folder), read, mutate=damage_json, iterations=150)


def rows_of(people: Any) -> list[dict[str, Any]]:
    return [
        {
            "image_id": int(people.image_ids[image]),
            "category_id": 1,
            "score": 0.5,
            "bbox": box.tolist(),
            "keypoints": np.hstack([keypoints, np.ones((17, 1))]).ravel().tolist(),
        }
        for image, box, keypoints in zip(
            people.image_index, people.bbox_xywh, people.keypoints, strict=True
        )
    ]


@a_format
def detections(folder: Path) -> Format:
    people = read_coco(write_annotations(folder), folder)
    (path := folder / "boxes.json").write_text(json.dumps(rows_of(people)))

    def read(path: Path) -> Any:
        read_boxes(path)
        found = read_detections(path, people)
        assert np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()

    return Format(path, read, mutate=damage_json, iterations=150)


@a_format
def results(folder: Path) -> Format:
    people = read_coco(write_annotations(folder), folder)
    (path := folder / "results.json").write_text(json.dumps(rows_of(people)))

    def read(path: Path) -> Any:
        return score_rows(people, read_results(path, people), COCO_17.sigmas, "hotcoco")

    return Format(path, read, mutate=damage_json, iterations=100)


@a_format
def posetrack(folder: Path) -> Format:
    image = {"id": 1, "file_name": "a/0.jpg", "vid_id": "1", "frame_id": 1, "nframes": 1}
    row = {"id": 10, "image_id": 1, "category_id": 1, "track_id": 0, "bbox": [1, 1, 30, 40]}
    row |= {"keypoints": [5, 6, 1] * 17, "bbox_head": [1, 1, 8, 8]}
    names = [*POSETRACK_15.keypoints[:3], "left_ear", "right_ear", *POSETRACK_15.keypoints[3:]]
    content = {"images": [image], "annotations": [row]}
    content |= {"categories": [{"id": 1, "name": "person", "keypoints": names}]}
    (path := folder / "sequence.json").write_text(json.dumps(content))
    return Format(path, lambda path: finite(read_posetrack(path, folder)), mutate=damage_json)


@a_format
def mpii_json(folder: Path) -> Format:
    person = {"image": "1.jpg", "center": [50, 60], "scale": 1.5}
    person |= {"joints": [[5, 6]] * 16, "joints_vis": [1] * 16}
    (path := folder / "train.json").write_text(json.dumps([person] * 2))
    return Format(path, lambda path: finite(read_mpii(path, folder)), mutate=damage_json)


@a_format
def sigmas(folder: Path) -> Format:
    (path := folder / "sigmas.json").write_text(json.dumps(dict.fromkeys(COCO_17.keypoints, 0.1)))
    return Format(path, lambda path: read_sigmas(path, COCO_17), mutate=damage_json)


def damage_yaml(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.5:
        return damage(content, draw)
    changed = damage_json(json.dumps(yaml.safe_load(content)).encode(), draw)
    return changed if draw.random() < 0.5 else changed + content


@a_format
def presets(folder: Path) -> Format:
    (path := folder / "mine.yaml").write_text(
        "base: synthetic_demo\ntrain: &t {epochs: 3, learning_rate: 1e-3}\n"
        "model: {backbone: resnet18}\naugment:\n  rotation_degrees: 30\n  scale_factor: 0.2\n"
    )
    return Format(path, lambda path: load_preset(str(path)), mutate=damage_yaml)


@a_format
def schemas(folder: Path) -> Format:
    (path := folder / "mine.yaml").write_text(
        "name: hand\nkeypoints: [left_a, right_a, b]\nflip_pairs: [[0, 1]]\nsigmas: [.1, .1, .2]\n"
    )
    return Format(path, lambda path: schema_of("x", str(path)), mutate=damage_yaml)


# weights


@a_format
def safetensors(folder: Path) -> Format:
    spec = ModelSpec(preset="mine", schema=COCO_17, input_size_wh=(64, 64), model=SMALL)
    save_checkpoint(path := folder / "w.safetensors", PoseNetwork(SMALL, 17), spec)

    def read(path: Path) -> Any:
        network, spec = load_model(path)
        return network.state_dict(), spec

    return Format(path, read, checked=True)


@a_format
def state(folder: Path) -> Format:
    content = {name: {"a": torch.arange(3000.0), "b": [1, 2.5, name]} for name in STATE_PARTS}
    torch.save(content, path := folder / "last.train.pt")
    return Format(path, read_state, checked=True, iterations=120)


def write_pth(path: Path, *, zipped: bool) -> Path:
    state = {name: torch.arange(900.0) for name in ("conv1.weight", "bn1.bias", "fc.weight")}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    return path


def read_pth(path: Path) -> Any:
    with suppress(UserError):  # no backbone that is known here, if nothing else
        load_weight_file(path)
    return _read_pickle(path)


@a_format
def pth(folder: Path) -> Format:
    return Format(write_pth(folder / "w.pth", zipped=True), read_pth, checked=True)


@a_format
def pth_legacy(folder: Path) -> Format:
    return Format(write_pth(folder / "w.pth", zipped=False), read_pth)


@a_format
def tensorflow_v1(folder: Path) -> Format:
    write_v1(path := folder / "a.ckpt", example())
    return Format(path, lambda path: dict(read_checkpoint(path)), checked=True, iterations=150)


def tensorflow_v2(folder: Path, ending: str) -> Format:
    write_v2(folder / "a.ckpt", example())
    (path,) = folder.glob(f"a.ckpt.{ending}*")
    return Format(path, lambda path: dict(read_checkpoint(path)), checked=True, iterations=100)


@a_format
def tensorflow_index(folder: Path) -> Format:
    return tensorflow_v2(folder, "index")


@a_format
def tensorflow_data(folder: Path) -> Format:
    return tensorflow_v2(folder, "data")


@a_format
def onnx(folder: Path) -> Format:
    def read(path: Path) -> Any:
        network = ExportedNetwork(path, threads=1)
        network.spec()
        width, height = network.input_size_wh
        if width * height <= 10**6:
            network(torch.zeros(1, 3, height, width))

    return Format(save_network(folder / "n.onnx"), read)


@a_format
def onnx_detector(folder: Path) -> Format:
    def read(path: Path) -> Any:
        detector = PersonDetector(path, threads=1)
        if np.prod(detector.input_size_wh, dtype=float) <= 10**6:
            detector(np.zeros((40, 30, 3), np.uint8))

    return Format(write_detector(folder / "d.onnx"), read)


def write_detector(path: Path) -> Path:
    """`dets` and `labels` of a picture of 64 x 64, as RTMDet has them, whatever it shows."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    dets = np.array([[[1, 2, 30, 40, 0.9], [3, 4, 9, 9, 0.4]]], np.float32)
    values = [
        onnx.numpy_helper.from_array(dets, "d"),
        onnx.numpy_helper.from_array(np.zeros((1, 2), np.int64), "l"),
        onnx.numpy_helper.from_array(np.float32([0]), "zero"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "zero"], ["n"]),
        helper.make_node("Add", ["d", "n"], ["dets"]),
        helper.make_node("Identity", ["l"], ["labels"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info("x", kind.FLOAT, [1, 3, 64, 64])],
        [info("dets", kind.FLOAT, [1, 2, 5]), info("labels", kind.INT64, [1, 2])],
        values,
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


# data


def packed(folder: Path, damaged: str) -> Format:
    file = write_people(folder / "people", 4) / "people.json"
    people = read_coco(file, file.parent).trainable()
    augment, size_wh = AugmentConfig(), (32, 32)
    write_pack(folder / "packed", plan_pack(people, augment, size_wh))

    def read(path: Path) -> Any:
        opened = open_pack(path.parent, people, augment, size_wh)
        views = [opened.view(row) for row in range(len(people))]
        return [(view.pixels, view.origin_xy, view.ratio_xy) for view in views]

    return Format(folder / "packed" / damaged, read, checked=True, iterations=100)


@a_format
def pack_index(folder: Path) -> Format:
    return packed(folder, "pack.npz")


@a_format
def pack_shard(folder: Path) -> Format:
    return packed(folder, "people-00000.zip")


def write_mat(path: Path) -> Path:
    from scipy.io import savemat

    draw = np.random.default_rng(0)
    points = [{"x": 3.0, "y": 4.0, "id": joint, "is_visible": 1} for joint in (0, 9)]
    content = {
        "preds": draw.uniform(1, 99, (3, 16, 2)),
        "jnt_missing": np.zeros((16, 3)),
        "pos_gt_src": draw.uniform(1, 99, (16, 2, 3)),
        "headboxes_src": np.tile(np.array([[1.0, 2], [30, 40]])[:, :, None], 3),
        "RELEASE": {
            "img_train": [1, 1],
            "annolist": [
                {
                    "image": {"name": f"{name}.jpg"},
                    "annorect": {
                        "scale": 1.5,
                        "objpos": {"x": 5.0, "y": 6.0},
                        "annopoints": {"point": points},
                    },
                }
                for name in (1, 2)
            ],
        },
    }
    savemat(path, content)
    return path


@a_format
def mat(folder: Path) -> Format:
    def read(path: Path) -> Any:
        evaluate_mpii(read_mpii_predictions(path), read_mpii_truth(path))

    return Format(write_mat(folder / "m.mat"), read, iterations=100)


@a_format
def mat_annotations(folder: Path) -> Format:
    path = write_mat(folder / "mpii.mat")
    return Format(path, lambda path: finite(read_mpii(path, folder)), iterations=100)


@a_format
def hdf5(folder: Path) -> Format:
    h5py = pytest.importorskip("h5py")
    path = folder / "valid.h5"
    with h5py.File(path, "w") as file:
        file["part"], file["normalize"] = np.ones((3, 16, 2)), np.ones(3)
        file["preds"] = np.ones((3, 16, 2))

    def read(path: Path) -> Any:
        evaluate_mpii(read_mpii_predictions(path), read_mpii_truth(path))

    return Format(path, read, iterations=60)


def picture(folder: Path, ending: str, **options: bool) -> Format:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    cv2.imwrite(str(path := folder / f"a{ending}"), cv2.GaussianBlur(pixels, (9, 9), 2))

    def read(path: Path) -> Any:
        content = path.read_bytes()
        orientation_of(content)
        image = decode_image(content, str(path), upright=True)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        return image

    return Format(path, read, iterations=100, **options)


@a_format
def jpeg(folder: Path) -> Format:
    return picture(folder, ".jpg")


@a_format
def png(folder: Path) -> Format:
    return picture(folder, ".png", checked=True)


def sentence(error: UserError, path: Path) -> None:
    """A UserError names its file and stays readable."""
    assert path.stem in str(error), f"{error} does not name {path}"
    assert len(str(error)) < 1500, f"{len(str(error))} characters: {str(error)[:300]}"


@pytest.mark.parametrize("name", FORMATS)
def test_damaged(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    one = FORMATS[name](tmp_path)
    whole, original = one.path.read_bytes(), fingerprint(one.read(one.path))
    seconds, seed = (pytestconfig.getoption(f"--fuzz-{what}") for what in ("seconds", "seed"))
    draw, counts = random.Random(f"{name} {seed}"), Counter[str]()
    end = time.monotonic() + seconds / len(FORMATS)
    while time.monotonic() < end if seconds else counts["files"] < one.iterations:
        bit = one.checked and draw.random() < 0.7
        content = (flip_bit if bit else one.mutate)(whole, draw)
        one.path.write_bytes(content)
        counts["files"] += 1
        began = time.monotonic()
        try:
            with at_most(HANG_SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = one.read(one.path)
            same = fingerprint(found) == original
            if bit and not same:
                keep(content, one.path, pytestconfig)
                pytest.fail(f"{name} {counts['files']}: a flipped bit gave other values")
            counts["read as before" if same else "read"] += 1
        except UserError as error:
            sentence(error, one.path)
            counts["refused"] += 1
        except BaseException:
            keep(content, one.path, pytestconfig)
            raise
        assert time.monotonic() - began < HANG_SECONDS, f"{name} {counts['files']} hangs"
    assert counts["refused"]
    print(f"\n{name:<18}{dict(counts)}")


def keep(content: bytes, path: Path, pytestconfig: pytest.Config) -> None:
    """The file that failed, to look at."""
    if folder := pytestconfig.getoption("--fuzz-keep"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / path.name).write_bytes(content)
