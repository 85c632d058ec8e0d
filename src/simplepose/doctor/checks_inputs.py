"""What lies beside the annotations: are the pictures there and readable, do the detections cover the people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.coco import read_detections
from simplepose.doctor.checks import Finding


def check_images(annotations: Annotations, limit: int | None = 200) -> list[Finding]:
    """Missing pictures (all are looked up), unreadable ones and wrong sizes (`limit` spread over the set are decoded; None: all)."""
    used = np.unique(annotations.image_index)
    paths = [annotations.image_paths[index] for index in used]
    there = np.array([os.path.exists(path) for path in paths], bool)
    found = []
    if not there.all():
        missing = [path for path, exists in zip(paths, there, strict=True) if not exists]
        found.append(
            Finding(
                level="broken",
                problem=f"pictures with people are missing ({len(missing)} of {len(paths)})",
                count=len(missing),
                examples=tuple(missing[:3]),
                cure="correct --images, or copy the pictures; training can leave them out with --data.skip-broken",
            )
        )
    present = used[there]
    sample = (
        present
        if limit is None or len(present) <= limit
        else present[np.linspace(0, len(present) - 1, limit).astype(int)]
    )
    unreadable, resized = [], []
    for index in sample:
        path = annotations.image_paths[index]
        try:
            height, width = read_image(path).shape[:2]
        except UserError as error:
            unreadable.append(error.problem)
            continue
        declared = tuple(annotations.image_sizes_wh[index].tolist())
        if all(declared) and declared != (width, height):
            resized.append(
                f"{path} is {width}x{height}, the annotations say {declared[0]}x{declared[1]}"
            )
    looked = f"of {len(sample)} looked at"
    if unreadable:
        cure = "copy them again; training can leave them out with --data.skip-broken"
        problem = f"pictures cannot be read ({len(unreadable)} {looked})"
        found.append(
            Finding(
                level="broken",
                problem=problem,
                count=len(unreadable),
                examples=tuple(unreadable[:3]),
                cure=cure,
            )
        )
    if resized:
        cure = "use the pictures that were annotated (as stored, not turned by EXIF), or scale the annotations"
        problem = f"pictures have another size than annotated, so keypoints would be off ({len(resized)} {looked})"
        found.append(
            Finding(
                level="broken",
                problem=problem,
                count=len(resized),
                examples=tuple(resized[:3]),
                cure=cure,
            )
        )
    return found


def check_detections(
    path: str | Path, annotations: Annotations
) -> tuple[list[Finding], dict[str, float], Detections | None]:
    """Findings on a detection file, its numbers (boxes, pictures, coverage) and the boxes; None where it cannot be used."""
    try:
        detections = read_detections(path, annotations)
    except UserError as error:
        return (
            [
                Finding(
                    level="broken",
                    problem=f"{error.problem} AP would be 0",
                    count=1,
                    cure=error.cure,
                )
            ],
            {},
            None,
        )
    found = [
        Finding(
            level="warning",
            problem=f"boxes {what} ({path})",
            count=count,
            cure="none needed if meant",
        )
        for count, what in detections.notes
    ]
    if detections.boxes_xyxy.max() <= 1.5:
        cure = "multiply by the width and height of the picture"
        found.append(
            Finding(
                level="broken",
                problem="boxes lie in 0..1, they are fractions of the picture: AP would be 0",
                count=len(detections),
                cure=cure,
            )
        )
    best = coverage(annotations, detections)
    matters = (annotations.keypoint_counts > 0) & ~annotations.is_crowd
    covered = float((best[matters] >= 0.5).mean()) if matters.any() else float("nan")
    numbers = {
        "boxes": float(len(detections)),
        "pictures": float(len(np.unique(detections.image_index))),
        "coverage": covered,
    }
    if covered < 0.8:
        rows = np.flatnonzero(matters & (best < 0.5))
        examples = tuple(
            f"annotation {annotations.annotation_ids[row]}, best IoU {best[row]:.2f}"
            for row in rows[:3]
        )
        problem = f"people with keypoints have no detection of IoU 0.5 or more ({1 - covered:.0%}): they bound AP and AR from above"
        cure = "check that bbox is x, y, width, height in pixels, that low scores are kept, and that pictures match"
        level = "broken" if covered < 0.05 else "warning"
        found.append(
            Finding(
                level=level,
                problem=problem,
                count=len(rows),
                examples=examples,
                cure=cure,
                rows=tuple(rows[:3].tolist()),
            )  # type: ignore[arg-type]
        )
    return found, numbers, detections


def coverage(annotations: Annotations, detections: Detections) -> np.ndarray:
    """(N,) the best IoU of each annotated person with any detection of the picture; 0 where there is none."""
    best = np.zeros(len(annotations))
    boxes = xywh_to_xyxy(annotations.bbox_xywh)
    by_picture = rows_by_picture(detections.image_index, len(annotations.image_ids))
    for picture, rows in enumerate(
        rows_by_picture(annotations.image_index, len(annotations.image_ids))
    ):
        if len(rows) and len(by_picture[picture]):
            best[rows] = iou(boxes[rows], detections.boxes_xyxy[by_picture[picture]]).max(1)
    return best


def rows_by_picture(image_index: np.ndarray, pictures: int) -> Sequence[np.ndarray]:
    """For each picture the rows (indices) on it, in order."""
    order = np.argsort(image_index, kind="stable")
    return (
        np.split(order, np.searchsorted(image_index[order], np.arange(1, pictures)))
        if pictures
        else []
    )
