"""Adds to an annotation file the people that a detector finds and nobody annotated.

Some files list only the people whose keypoints are labelled (mini-COCO does). A detector that
learns from such a file learns that all others are background. This writes a copy with a box for
every further person that a published detector is sure of, and an ignore region (`iscrowd`) where it
is not. `starter-person` was trained on such a copy.

    python benchmarks/missing_people.py ANNOTATIONS IMAGES yolox_nano.onnx OUTPUT
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from simplepose import PersonDetector, read_image
from simplepose.core.boxes import iou, xywh_to_xyxy, xyxy_to_xywh

UNSURE, SURE = 0.15, 0.5
"""Scores from which a person is ignored, and learned."""
SAME_IOU, INSIDE = 0.45, 0.75
"""A box is of somebody annotated from this overlap, or this part of it inside the other."""


def is_new(boxes_xyxy: np.ndarray, annotated_xyxy: np.ndarray) -> np.ndarray:
    """(N,) bool: the boxes (N, 4) that show none of the annotated people (M, 4)."""
    if not len(annotated_xyxy):
        return np.ones(len(boxes_xyxy), bool)
    low = np.maximum(boxes_xyxy[:, None, :2], annotated_xyxy[None, :, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], annotated_xyxy[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    inside = shared / (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)[:, None]
    return (iou(boxes_xyxy, annotated_xyxy) < SAME_IOU).all(1) & (inside < INSIDE).all(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("annotations", "images", "detector", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    content = json.loads(options.annotations.read_text())
    detector = PersonDetector(options.detector, score_threshold=UNSURE)
    rows = content["annotations"]
    by_picture: dict[int, list[list[float]]] = {}
    for row in rows:
        by_picture.setdefault(row["image_id"], []).append(row["bbox"])
    number, counts = max(row["id"] for row in rows), [0, 0]
    for picture in content["images"]:
        people = detector(read_image(options.images / picture["file_name"]))
        annotated = xywh_to_xyxy(np.reshape(by_picture.get(picture["id"], []), (-1, 4)))
        new = is_new(people.boxes_xyxy, annotated)
        for box, score in zip(
            xyxy_to_xywh(people.boxes_xyxy[new]), people.scores[new], strict=True
        ):
            number += 1
            counts[int(score >= SURE)] += 1
            rows.append(
                {
                    "id": number,
                    "image_id": picture["id"],
                    "category_id": content["categories"][0]["id"],
                    "bbox": [round(float(value), 1) for value in box],
                    "area": round(float(box[2] * box[3]), 1),
                    "iscrowd": int(score < SURE),
                    "keypoints": [0] * 3 * len(content["categories"][0]["keypoints"]),
                    "num_keypoints": 0,
                }
            )
    options.output.write_text(json.dumps(content))
    print(f"{options.output}: {counts[1]} people and {counts[0]} regions to ignore added")


if __name__ == "__main__":
    main()
