"""A few coloured pictures with two annotated people each, and results with planted errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.core.schema import COCO_17

BODY = 20.0 * np.array([(4 - 7 * k % 17 // 4, 7 * k % 17 % 4) for k in range(17)])
"""(17, 2) keypoints, none near another's place, the left eye right of the right one."""


def write_people(folder: Path, pictures: int = 4, name: str = "{}.jpg") -> Path:
    """Writes `people.json` and its pictures, file names as `name` says; returns the JSON file.

    Person 2 p + 1 stands left in picture p + 1, person 2 p + 2 right.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for picture in range(pictures):
        file = name.format(picture)
        canvas = np.full((240, 400, 3), (60 * picture % 200 + 40, 120, 90), np.uint8)
        images.append({"id": picture + 1, "file_name": file, "width": 400, "height": 240})
        for side in (0, 1):
            corner = np.array([40 + 180 * side, 40])
            triples = np.column_stack([BODY + corner + 10, np.full(17, 2)])
            x, y = corner.tolist()
            cv2.rectangle(canvas, (x, y), (x + 110, y + 110), (200, 180, 40 + 100 * side), -1)
            one: dict[str, Any] = {"id": 2 * picture + side + 1, "image_id": picture + 1}
            one |= {"category_id": 1, "iscrowd": 0, "area": 6000, "num_keypoints": 17}
            one |= {"bbox": [x, y, 110, 110], "track_id": side + 1}
            annotations.append(one | {"keypoints": triples.ravel().tolist()})
        assert cv2.imwrite(str(folder / file), canvas)
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    category["skeleton"] = [[a + 1, b + 1] for a, b in COCO_17.skeleton]
    content = {"images": images, "annotations": annotations, "categories": [category]}
    path = folder / "people.json"
    path.write_text(json.dumps(content))
    return path


def write_results(path: Path, people: Path, *, spoil: bool = True) -> Path:
    """Writes one result row a person: exact, or with four inversions, seven swaps, five misses and
    a person whom nobody found."""
    rows = []
    annotations = json.loads(people.read_text())["annotations"]
    truth = np.array([one["keypoints"] for one in annotations]).reshape(-1, 17, 3)[..., :2]
    found, flip = truth.copy(), COCO_17.flip_order
    if spoil:
        found[0, 7:11] = truth[0, flip[7:11]]
        found[1, :7] = truth[0, :7]
        found[2, 12:] += [0, 70.0]
    for index, (one, points) in enumerate(zip(annotations, found, strict=True)):
        if spoil and index == 5:
            continue
        triples = np.column_stack([points, np.linspace(0.2, 0.9, 17)])
        row = {"image_id": one["image_id"], "category_id": 1, "score": 0.9 - 0.05 * index}
        rows.append(row | {"keypoints": triples.ravel().tolist()})
    path.write_text(json.dumps(rows))
    return path
