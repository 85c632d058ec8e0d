"""Every command, option and internal name that the golden tests use.

What moves or is renamed is changed here alone.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from simplepose import UserError, load_model
from simplepose.cli import main
from simplepose.config import dump_config, load_preset, preset_names
from simplepose.data.cache import open_pixels
from simplepose.data.coco import read_coco, read_detections
from simplepose.data.loader import TrainLoader
from simplepose.data.posetrack import read_posetrack
from simplepose.data.source import read_crowdpose, read_ochuman, read_split
from simplepose.detection.people import people_source
from simplepose.doctor.checks import check_annotations, check_detections, check_images
from simplepose.pose.network import PoseNetwork
from simplepose.weights.tensorflow import read_checkpoint
from simplepose.weights.weight_file import from_tensorflow as tensorflow_weights
from simplepose.weights.weight_file import load_into

__all__ = ["UserError", "load_model"]

RENAMED: dict[str, str] = {
    "train.trunk_rate_factor": "train.backbone_learning_rate_factor",
    "train.flat_share": "train.flat_fraction",
    "train.teacher_share": "train.teacher_fraction",
}
"""A field as recorded -> as it is called now: `"train.flat_share": "train.flat_fraction"`."""


def recorded_name(tensor: str) -> str:
    """A tensor's name in a network as it was called when the goldens were recorded."""
    return tensor.removeprefix("backbone.")


ARRAYS = (
    "image_ids",
    "image_paths",
    "image_sizes_wh",
    "annotation_ids",
    "image_index",
    "bbox_xywh",
    "keypoints",
    "visibility",
    "area",
    "is_crowd",
    "track_ids",
    "head_boxes_xyxy",
)
"""Columns of `Annotations`."""
READERS: dict[str, Callable[..., Any]] = {
    "coco": read_coco,
    "crowdpose": read_crowdpose,
    "ochuman": read_ochuman,
    "posetrack": read_posetrack,
}


def machine() -> str:
    """What decides the last bits of a sum: the processor and the libraries."""
    names = ("torch", "numpy", "opencv-python-headless", "onnxruntime")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    cpu = "unknown"
    if Path("/proc/cpuinfo").exists():
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((row.split(":")[1].strip() for row in rows if row.startswith("model name")), cpu)
    return ", ".join((f"{cpu} {torch.backends.cpu.get_cpu_capability()}", *versions))


def run(*argv: object) -> None:
    """The command line, which must succeed."""
    status = main([str(word) for word in argv])
    assert status == 0, f"simplepose {argv[0]} ended with {status}"


def train(preset: Path, folder: Path) -> None:
    """Trains into a run folder."""
    run("train", preset, "--output", folder)


def pack(preset: Path, people: Path, images: Path, output: Path) -> None:
    """Writes the shards of all people's regions."""
    named = ("--data.train-annotations", people, "--data.train-images", images)
    run("pack", preset, "--output", output, *named)


def evaluate(
    weights: Path,
    truth: Path,
    images: Path,
    boxes: Path | None,
    decoding: tuple[str, str],
    folder: Path,
) -> None:
    """Tests a network; boxes None: exactly as annotated; `decoding`: decoder and flip shift."""
    run(
        "evaluate",
        weights,
        "--annotations",
        truth,
        "--images",
        images,
        "--boxes",
        boxes or "gt",
        "--ground-truth-boxes",
        "annotated",
        "--decoder",
        decoding[0],
        "--flip-shift",
        decoding[1],
        "--output",
        folder,
    )


def score(task: str, results: Path, truth: Path, folder: Path) -> None:
    """Scores a finished result file."""
    exact = ["--no-exact-poseval"] * (task == "posetrack")
    numbers = folder / "metrics.json"
    run("score", results, "--task", task, "--annotations", truth, "--output", numbers, *exact)


def track(video: Path, weights: Path, detector: Path, frames: int, folder: Path) -> None:
    """Follows people through the first frames of a video."""
    run(
        "track",
        video,
        "--weights",
        weights,
        "--boxes",
        detector,
        "--frames",
        frames,
        "--batch-frames",
        4,
        "--video-codec",
        "none",
        "--output",
        folder,
    )


def import_weights(file: Path, preset: Path, output: Path, *, backbone_only: bool) -> None:
    """Brings other people's weights."""
    run("import", file, "--as", preset, "--output", output, *["--backbone-only"] * backbone_only)


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as one, with dots in its keys."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def presets() -> list[str]:
    """Names of the built-in presets."""
    return preset_names()


def settings(preset: str | Path) -> dict[str, Any]:
    """All fields of a preset, by their name with dots."""
    return dict(flat(yaml.safe_load(dump_config(load_preset(str(preset))))))


def write_preset(path: Path, base: str, fields: dict[str, Any]) -> Path:
    """A YAML file with a base and fields in their recorded names."""
    tree: dict[str, Any] = {"base": base}
    for name, value in fields.items():
        *folders, last = RENAMED.get(name, name).split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def empty_network(preset: str | Path, keypoints: int = 17) -> torch.nn.Module:
    """A network whose numbers are not filled in."""
    config = load_preset(str(preset))
    with torch.device("meta"):
        made = PoseNetwork(config.model, keypoints, config.input_size_wh)
    return made.to_empty(device="cpu")


def from_tensorflow(variables: dict[str, np.ndarray], preset: Path) -> dict[str, np.ndarray]:
    """The tensors of a network that took TensorFlow's variables, without batch norm's counters."""
    made = empty_network(preset)
    load_into(made, tensorflow_weights(variables, "made.ckpt"))
    state = {recorded_name(name): tensor.numpy() for name, tensor in made.state_dict().items()}
    return {name: array for name, array in state.items() if "num_batches" not in name}


def tensorflow_file(path: Path) -> dict[str, np.ndarray]:
    """The variables of a TensorFlow checkpoint."""
    return dict(read_checkpoint(path))


def batches(preset: Path, number: int, place: str, packed: Path) -> Iterator[dict[str, Any]]:
    """The batches of one epoch on the host.

    Pixels come from `place`: files, pack, ram, or device, which also cuts the crops.
    """
    config = load_preset(str(preset))
    warp = "device" if place == "device" else "host"
    config = replace(config, data=replace(config.data, cache=place, warp=warp, pack=str(packed)))  # type: ignore[arg-type]
    device, udp = torch.device("cpu"), config.codec.udp
    people = read_split(config.data, "train").trainable()
    source, on_device, _ = open_pixels(config, people, device)
    loader = TrainLoader(
        people,
        config.augment,
        input_size_wh=config.input_size_wh,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        workers=2,
        udp=udp,
        fill=config.train.last_batch == "fill",
        source=source,
        device=device,
        warp_on_device=on_device,
    )
    for batch in loader.epoch(number):
        ready = batch.to(device)
        yield {
            "pixels": np.ascontiguousarray(ready.pixels.numpy()),
            "keypoints": ready.keypoints.numpy(),
            "visible": ready.visibility.numpy() > 0,
            "rows": batch.rows,
        }


def annotations(kind: str, path: Path) -> dict[str, Any]:
    """The columns of an annotation file, file names relative to its folder."""
    read = READERS[kind](path, path.parent)
    columns = {name: getattr(read, name) for name in ARRAYS}
    columns["image_paths"] = [os.path.relpath(name, path.parent) for name in read.image_paths]
    return columns | {"schema": [*read.schema.keypoints]}


def detections(path: Path, kind: str, truth: Path) -> dict[str, Any]:
    """The boxes of a detection file on the pictures of an annotation file."""
    read = read_detections(path, READERS[kind](truth, truth.parent))
    return {name: getattr(read, name) for name in ("image_index", "boxes_xyxy", "scores")}


def box_file(path: Path) -> dict[str, Any]:
    """What `predict` and `track` take from a file of boxes: people by picture."""
    by_id = people_source(str(path)).by_id  # type: ignore[attr-defined]
    ids = sorted(by_id)
    return {
        "ids": np.array(ids),
        "counts": np.array([len(by_id[one]) for one in ids]),
        "boxes_xyxy": np.concatenate([by_id[one].boxes_xyxy for one in ids]),
        "scores": np.concatenate([by_id[one].scores for one in ids]),
    }


def findings(path: Path, images: Path, boxes: Path | None = None) -> list[list[Any]]:
    """What the doctor finds: level, count and examples' rows; without the sentences."""
    read = read_coco(path, images)
    found = [*check_annotations(read), *check_images(read)]
    found += check_detections(boxes, read)[0] if boxes else []
    return [[one.level, one.count, [*one.rows]] for one in found]
