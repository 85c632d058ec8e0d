"""Drawn people as a data set: a COCO-format folder in the seed's layout, with noisy detections.

It is the embedded data of the demo, the tests and the benchmarks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core import files as atomic
from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.images import write_image
from simplepose.core.schema import COCO_17
from simplepose.data.layout import DataLayout, find_layout
from simplepose.data.synthetic_folder import drawn_folder
from simplepose.data.synthetic_scene import DrawnPerson, draw_scene

PEOPLE_A_PICTURE = (0.38, 0.30, 0.18, 0.09, 0.05)
"""Chances of 1..5 people."""


def write_synthetic_dataset(root: str | Path, *, train_people: int, val_people: int, seed: int = 0) -> DataLayout:
    """Draws people and writes them as `root/{annotations,dets,imagenet_weights,images/{train2017,val2017},model_dump}`.

    The folder appears whole or not at all. A folder with the same settings is left as it is; the same seed gives the same pictures.

    Args:
        root: a folder that does not exist, is empty, or was written by this function with these settings.
        train_people: annotated people of the training half, at least 1.
        val_people: annotated people of the validation half, at least 1.
        seed: the source of chance; but for the last picture, those of one seed are the same whatever the counts.

    Raises:
        UserError: `root` holds something else, a count is not positive, or the disk is full.
    """
    root = Path(root)
    settings = {"train_people": train_people, "val_people": val_people, "seed": seed}
    with drawn_folder(root, kind="drawn people", settings=settings, counts=("train_people", "val_people")) as folder:
        if folder is not None:
            for name in ("dets", "imagenet_weights", "model_dump"):
                (folder / name).mkdir(parents=True)
            for split, people in (("train", train_people), ("val", val_people)):
                value, sizes = _write_split(folder / "images" / f"{split}2017", split, people, seed)
                atomic.write_json(folder / "annotations" / f"person_keypoints_{split}2017.json", value)
            detections = draw_detections(value["annotations"], sizes, np.random.default_rng([seed, 2]))
            atomic.write_json(folder / "dets" / "human_detection.json", detections)
    return find_layout(root)


def _write_split(folder: Path, split: str, people: int, seed: int) -> tuple[dict[str, Any], dict[int, tuple[int, int]]]:
    """Pictures of one half; returns its annotation file, and width and height of each picture by its id."""
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    number = 0
    while len(annotations) < people:
        number += 1
        image_id = number + (0 if split == "train" else 500_000)
        rng = np.random.default_rng([seed, int(split == "val"), number])
        wanted = min(1 + int(rng.choice(5, p=PEOPLE_A_PICTURE)), people - len(annotations))
        image, found = draw_scene(rng, wanted)
        name = f"{image_id:012d}.jpg"
        write_image(folder / name, image)
        images.append({"id": image_id, "file_name": name, "width": image.shape[1], "height": image.shape[0], "license": 0})
        for person in found:
            annotations.append(coco_annotation(person, image_id, len(annotations) + image_id // 500_000 * 500_000 + 1))
    value = {
        "info": {"description": f"drawn people, seed {seed}, {split}", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO_17.keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in COCO_17.skeleton],
            }
        ],
    }
    return value, {entry["id"]: (entry["width"], entry["height"]) for entry in images}


def coco_annotation(person: DrawnPerson, image_id: int, annotation_id: int) -> dict[str, Any]:
    """One entry of a COCO keypoints file; keypoints outside the picture are written as 0, 0, 0."""
    inside = person.visibility > 0
    triples = np.concatenate([np.round(person.keypoints, 2) * inside[:, None], person.visibility[:, None]], 1)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": float(person.area),
        "bbox": [float(value) for value in person.bbox_xywh],
        "num_keypoints": int(inside.sum()),
        "keypoints": [int(value) if value == int(value) else float(value) for value in triples.reshape(-1)],
        "segmentation": person.polygons,
    }


def draw_detections(
    annotations: list[dict[str, Any]], sizes_wh: dict[int, tuple[int, int]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """What a middling person detector would report: shifted boxes, scores that follow their quality, doubles, false alarms, a few misses.

    Args:
        annotations: COCO annotations.
        sizes_wh: width and height of each picture by its id.
        rng: the source of chance.

    Returns:
        Entries `{image_id, category_id, bbox (xywh), score}`, best first in each picture.
    """
    detections: list[dict[str, Any]] = []
    by_image: dict[int, list[np.ndarray]] = {image_id: [] for image_id in sizes_wh}
    for annotation in annotations:
        by_image[annotation["image_id"]].append(np.array(annotation["bbox"]))
    for image_id, boxes in by_image.items():
        size = np.array(sizes_wh[image_id], float)
        found: list[tuple[float, np.ndarray]] = []
        for truth in boxes:
            if rng.random() < 0.03:
                continue  # missed
            for spread, low in ((0.03, 0.0), (0.12, 0.35)) if rng.random() < 0.25 else ((0.03, 0.0),):
                corners = xywh_to_xyxy(truth) + rng.normal(0, spread, 4) * np.tile(truth[2:], 2)
                overlap = float(iou(corners[None], xywh_to_xyxy(truth)[None])[0, 0])
                found.append((overlap + rng.normal(0, 0.05) - low, corners))
        for _ in range(rng.poisson(0.6)):
            wide, tall = rng.uniform(0.08, 0.3) * size[0], rng.uniform(0.2, 0.6) * size[1]
            left, top = rng.uniform(0, size[0] - wide), rng.uniform(0, size[1] - tall)
            found.append((rng.beta(1.5, 5), np.array([left, top, left + wide, top + tall])))
        for score, corners in sorted(found, key=lambda entry: -entry[0]):
            corners = np.clip(corners, 0, np.tile(size, 2))
            sides = corners[2:] - corners[:2]
            if (sides >= 2).all():
                box = [round(float(value), 2) for value in (*corners[:2], *sides)]
                detections.append(
                    {"image_id": image_id, "category_id": 1, "bbox": box, "score": round(float(np.clip(score, 0.01, 0.999)), 4)}
                )
    return detections
