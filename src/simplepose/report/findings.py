"""The doctor's findings as one self-contained HTML page, with pictures of the people concerned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.core.structures import Poses
from simplepose.data.annotations import Annotations
from simplepose.doctor.checks import Finding
from simplepose.report.html import data_uri, person_picture, region_around, write_page


def write_findings(
    path: str | Path,
    facts: Sequence[str],
    findings: Sequence[Finding],
    charts: Mapping[str, Mapping[str, int]],
    annotations: Annotations | None,
) -> None:
    """Writes the page atomically; pictures are inside it as JPEG, at most three a finding and six
    drawn from the whole set."""
    shown: list[dict[str, Any]] = []
    if annotations:
        people = np.flatnonzero((annotations.keypoint_counts > 0) & ~annotations.is_crowd)
        chosen = np.unique(np.linspace(0, len(people) - 1, min(6, len(people))).astype(int))
        shown = [_figure(annotations, row) for row in people[chosen].tolist()]
    pictures = [
        [_figure(annotations, row) for row in finding.rows] if annotations else []
        for finding in findings
    ]
    content = {
        "facts": facts,
        "findings": list(zip(findings, pictures, strict=True)),
        "people": shown,
        "charts": charts,
    }
    write_page(path, "doctor", content)


def thumbnail(image: np.ndarray, annotations: Annotations, row: int) -> np.ndarray:
    """The region of one person (H, W, 3) uint8 RGB with box, limbs and keypoints drawn."""
    person, corners = annotated_pose(annotations, row)
    region, factor = region_around(corners, (image.shape[1], image.shape[0]))
    return person_picture(image, region, factor, person, annotations.schema)


def annotated_pose(annotations: Annotations, row: int) -> tuple[Poses, np.ndarray]:
    """One person as Poses, and the corners (V, 2) of box and labelled keypoints."""
    box = xywh_to_xyxy(annotations.bbox_xywh[row : row + 1].astype(np.float64))
    labelled = annotations.visibility[row] > 0
    points = annotations.keypoints[row].astype(np.float64)
    pose = Poses(points[None], labelled[None].astype(float), box, np.ones(1))
    return pose, np.concatenate([box.reshape(2, 2), points[labelled]])


def _figure(annotations: Annotations, row: int) -> dict[str, Any]:
    path = annotations.image_paths[annotations.image_index[row]]
    caption = f"annotation {annotations.annotation_ids[row]}, {Path(path).name}"
    try:
        image = read_image(path, upright=annotations.upright)
        return {"caption": caption, "picture": data_uri(thumbnail(image, annotations, row))}
    except UserError:
        return {"caption": f"{caption}: the picture cannot be read", "picture": ""}
