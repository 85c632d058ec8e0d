"""What is read from COCO-like files, column by column, and what the doctor finds in made ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import doors
import numpy as np
import pytest

MMPOSE = "mmpose_tests_data/tests/data"
ANNOTATIONS = [
    ("coco", "coco_train2017_images160/person_keypoints_train2017_160.json"),
    ("coco", "coco_train_small384/person_keypoints_train_small384.json"),
    ("coco", "coco_val2014_fake100/person_keypoints_val2014_100_rebuilt.json"),
    ("coco", "coco_val2017_visible150/person_keypoints_val2017_visible150.json"),
    ("coco", "crowdpose_val/crowdpose_val.json"),
    ("crowdpose", "crowdpose_val/crowdpose_val.json"),
    ("coco", "evaluator_fixtures/faster_coco_eval/example_crowdpose_val.json"),
    ("coco", "evaluator_fixtures/faster_coco_eval/instances_val2014_100.json"),
    ("coco", "evaluator_fixtures/faster_coco_eval/keypoints_dataset/gt_dataset.json"),
    ("coco", "evaluator_fixtures/xtcocoapi/example_coco_val.json"),
    ("crowdpose", "evaluator_fixtures/xtcocoapi/example_crowdpose_val.json"),
    ("coco", "evaluator_fixtures/xtcocoapi/example_wholebody_val.json"),
    ("coco", f"{MMPOSE}/coco/test_coco.json"),
    ("coco", f"{MMPOSE}/coco/test_coco_wholebody.json"),
    ("coco", f"{MMPOSE}/coco/test_keypoint_partition_metric.json"),
    ("coco", f"{MMPOSE}/crowdpose/test_crowdpose.json"),
    ("crowdpose", f"{MMPOSE}/crowdpose/test_crowdpose.json"),
    ("coco", f"{MMPOSE}/mpii/test_mpii_trb.json"),
    ("ochuman", f"{MMPOSE}/ochuman/test_ochuman.json"),
    ("coco", f"{MMPOSE}/posetrack18/annotations/test_posetrack18_val.json"),
    ("posetrack", f"{MMPOSE}/posetrack18/annotations/test_posetrack18_val.json"),
    ("posetrack", f"{MMPOSE}/posetrack18/annotations/val"),
    ("posetrack", f"{MMPOSE}/posetrack18/annotations/val/003418_mpii_test.json"),
    ("posetrack", f"{MMPOSE}/posetrack18/annotations/val/009473_mpii_test.json"),
    ("posetrack", f"{MMPOSE}/posetrack18/annotations/val/012834_mpii_test.json"),
]
VISIBLE = "coco_val2017_visible150/person_keypoints_val2017_visible150.json"
DETECTIONS = [
    (
        "coco_val2017_visible150/COCO_val2017_detections_AP_H_56_person_visible150.json",
        "coco",
        VISIBLE,
    ),
    ("reference_results_visible150/yolox_nano_visible150_person_dets.json", "coco", VISIBLE),
    (
        "evaluator_fixtures/cocoapi/instances_val2014_fakebbox100_results.json",
        "coco",
        "coco_val2014_fake100/person_keypoints_val2014_100_rebuilt.json",
    ),
    (
        f"{MMPOSE}/crowdpose/test_crowdpose_det_AP_40.json",
        "crowdpose",
        f"{MMPOSE}/crowdpose/test_crowdpose.json",
    ),
    (f"{MMPOSE}/coco/test_coco_det_AP_H_56.json", "coco", f"{MMPOSE}/coco/test_coco.json"),
    (
        f"{MMPOSE}/posetrack18/annotations/test_posetrack18_human_detections.json",
        "coco",
        f"{MMPOSE}/posetrack18/annotations/test_posetrack18_val.json",
    ),
]


def columns(read: Callable[[], dict[str, Any]], hashed: Callable[[Any], str]) -> dict[str, Any]:
    """Shape and hash of each column, or that the file is refused."""
    try:
        found = read()
    except doors.UserError:
        return {"refused": True}
    return {
        name: None if column is None else [list(np.shape(column)), hashed(column)]
        for name, column in found.items()
    }


def test_annotations(
    real_data: Callable[[str], Path], hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    value = {}
    for kind, name in ANNOTATIONS:
        path = real_data(name)
        value[f"{kind} {name}"] = columns(
            lambda kind=kind, path=path: doors.annotations(kind, path), hashed
        )
    golden("annotations", value)


def test_detections(
    real_data: Callable[[str], Path], hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    value = {}
    for name, kind, truth in DETECTIONS:
        boxes, people = real_data(name), real_data(truth)
        value[name] = columns(
            lambda boxes=boxes, kind=kind, people=people: doors.detections(boxes, kind, people),
            hashed,
        )
    golden("detections", value)


def test_box_files_of_predict_and_track(
    real_data: Callable[[str], Path], hashed: Callable[[Any], str], golden: Callable[..., None]
) -> None:
    names = {name for _, name in ANNOTATIONS if name.endswith(".json")} | {
        name for name, _, _ in DETECTIONS
    }
    value = {}
    for name in sorted(names):
        path = real_data(name)
        value[name] = columns(lambda path=path: doors.box_file(path), hashed)
    golden("box_files", value)


SIDED = ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
NAMES = ["nose"] + [f"{side}_{name}" for name in SIDED for side in ("left", "right")]


def people(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Twelve people seen from the front, one a grey picture of 120 x 160, changed one by one."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    x = np.array([0.5] + [0.6, 0.4] * 2 + [0.75, 0.25] * 3 + [0.65, 0.35] * 3)
    y = np.repeat([0.05, 0.04, 0.06, 0.2, 0.35, 0.5, 0.55, 0.75, 0.95], [1, 2, 2, 2, 2, 2, 2, 2, 2])
    content: dict[str, Any] = {"images": [], "annotations": []}
    for index in range(1, 13):
        cv2.imwrite(
            str(folder / "images" / f"{index}.png"), np.full((160, 120, 3), 20 * index, np.uint8)
        )
        content["images"].append(
            {"id": index, "file_name": f"{index}.png", "width": 120, "height": 160}
        )
        left, top, width, height = 20 + index, 10 + index, 70, 120
        points = np.stack([left + width * x, top + height * y], 1) + rng.uniform(-1, 1, (17, 2))
        triples = np.concatenate([points.round(2), np.full((17, 1), 2)], 1)
        row = {
            "id": 100 + index,
            "image_id": index,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [left, top, width, height],
            "area": 5000,
            "keypoints": triples.ravel().tolist(),
            "num_keypoints": 17,
        }
        change(row)
        content["annotations"].append(row)
    content["categories"] = [{"id": 1, "name": "person", "keypoints": NAMES}]
    (folder / "people.json").write_text(json.dumps(content))
    return folder / "people.json"


def some(row: dict[str, Any], *, every: int = 4, **fields: Any) -> None:
    """Changes every fourth person."""
    if row["id"] % every == 0:
        row |= fields


def points(row: dict[str, Any], change: Callable[[np.ndarray], np.ndarray], every: int = 1) -> None:
    """Changes the (17, 3) keypoints of some people."""
    if row["id"] % every == 0:
        triples = np.array(row["keypoints"], float).reshape(17, 3)
        row["keypoints"] = change(triples).ravel().tolist()


def one_hidden(triples: np.ndarray) -> np.ndarray:
    return triples * (np.arange(17) != 3)[:, None]


def to_origin(triples: np.ndarray) -> np.ndarray:
    return np.where(np.arange(17)[:, None] == 5, [0, 0, 2], triples)


SWAPPED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
MIXED = [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "none": lambda row: None,
    "no keypoints": lambda row: points(row, lambda t: t * 0),
    "some without keypoints": lambda row: points(row, lambda t: t * 0, 4),
    "all crowds": lambda row: row.update(iscrowd=1),
    "some crowds": lambda row: some(row, iscrowd=1),
    "fractions": lambda row: points(row, lambda t: t / [120, 160, 1]),
    "corners": lambda row: row.update(
        bbox=[*row["bbox"][:2], row["bbox"][0] + 70, row["bbox"][1] + 120]
    ),
    "empty boxes": lambda row: some(row, bbox=[10, 10, 0, 5]),
    "boxes outside": lambda row: some(row, bbox=[200, 10, 30, 50]),
    "boxes beyond": lambda row: some(row, bbox=[60, 10, 80, 140]),
    "boxes elsewhere": lambda row: some(row, bbox=[1, 1, 8, 8]),
    "keypoints outside": lambda row: points(row, lambda t: t + np.array([60, 0, 0]), 4),
    "one keypoint never": lambda row: points(row, one_hidden),
    "keypoints at the origin": lambda row: points(row, to_origin, 4),
    "names swapped": lambda row: points(row, lambda t: t[SWAPPED]),
    "shoulders swapped": lambda row: points(row, lambda t: t[MIXED], 4),
    "no area": lambda row: row.pop("area"),
    "area 0": lambda row: some(row, area=0),
    "all areas 0": lambda row: row.update(area=0),
    "large areas": lambda row: some(row, area=50000),
    "twice": lambda row: some(row, image_id=1, bbox=[20, 10, 70, 120], keypoints=[50, 60, 2] * 17),
}


@pytest.mark.parametrize("part", ["annotations", "boxes"])
def test_findings_of_the_doctor(part: str, tmp_path: Path, golden: Callable[..., None]) -> None:
    """Level, count and rows of each finding."""
    value = {}
    if part == "annotations":
        for name, fault in FAULTS.items():
            path = people(tmp_path / name, fault)
            value[name] = doors.findings(path, path.parent / "images")
        (path.parent / "images" / "3.png").unlink()
        (path.parent / "images" / "4.png").write_bytes(b"no picture")
        cv2.imwrite(str(path.parent / "images" / "5.png"), np.zeros((20, 30, 3), np.uint8))
        value["broken pictures"] = doors.findings(path, path.parent / "images")
    else:
        path = people(tmp_path / "people", FAULTS["none"])
        good = [
            {"image_id": i, "category_id": 1, "bbox": [20 + i, 10 + i, 70, 120], "score": 0.5}
            for i in range(1, 13)
        ]
        changed: dict[str, list[dict[str, Any]]] = {
            "good": good,
            "half": good[:6],
            "one": good[:1],
            "other pictures": [row | {"image_id": 77} for row in good],
            "scores 0": [row | {"score": 0} for row in good],
            "another category": [row | {"category_id": 7} for row in good],
            "some of another": good + [row | {"category_id": 7} for row in good[:5]],
            "none": [],
            "fractions": [row | {"bbox": [0.2, 0.1, 0.5, 0.7]} for row in good],
            "no size": [row | {"bbox": [20, 10, 0, 0]} for row in good[:4]] + good[4:],
        }
        for name, rows in changed.items():
            boxes = tmp_path / "boxes.json"
            boxes.write_text(json.dumps(rows))
            value[name] = doors.findings(path, path.parent / "images", boxes)
    golden(f"doctor_{part}", value)
