"""The doctor's findings as one self-contained HTML page, with pictures of the people concerned."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError
from simplepose.core.files import write_bytes
from simplepose.core.images import read_image
from simplepose.core.structures import Poses
from simplepose.data.annotations import Annotations
from simplepose.doctor.checks import Finding

OPENING = "<!doctype html><html lang=en><meta charset=utf-8><title>simplepose doctor</title>"
"""What every page of the doctor starts with, and how a page that may be written again is known."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}
body{background:#fafafa}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
pre{background:#fff;border:1px solid #ddd;padding:.8em;overflow:auto;font-size:12px}
.finding{background:#fff;border:1px solid #ddd;border-left:6px solid #d90;padding:.6em 1em}
.finding{margin:.8em 0}.broken{border-left-color:#c22}.fine{border-left-color:#2a2}
.cure{color:#064}figure{display:inline-block;margin:.4em .6em .4em 0;vertical-align:top}
figcaption{font-size:12px;color:#555}img{max-height:260px;border-radius:4px}
table{border-collapse:collapse;font-size:13px}td{padding:1px 8px}td.n{text-align:right}
.bar{background:#58a;height:11px;display:inline-block}
"""
HEIGHT, WIDTH = 260, 480
"""Largest size of a person's picture."""


def check_page(path: str | Path) -> None:
    """Refuses to write over anything but a page of the doctor.

    Raises:
        UserError: another ending than .html or .htm, or what is there is no page that the doctor
            wrote.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(
            f"--html {path}: the page ends in .html or .htm. Cure: --html {path.stem}.html"
        )
    if path.exists() and not (path.is_file() and _starts_as_page(path)):
        raise UserError(
            f"--html {path}: what is there was not written by simplepose doctor. "
            "Cure: give --html another name"
        )


def write_page(
    path: str | Path,
    facts: Sequence[str],
    findings: Sequence[Finding],
    charts: Mapping[str, Mapping[str, int]],
    annotations: Annotations | None,
) -> None:
    """Writes the page atomically; pictures are inside it as JPEG, at most three a finding and six
    drawn from the whole set."""
    listed = "\n".join(facts)
    parts = [
        f"{OPENING}<style>{STYLE}</style><h1>simplepose doctor</h1><pre>{escape(listed)}</pre>"
    ]
    parts.append("<h2>Findings</h2>")
    if not findings:
        parts.append("<div class='finding fine'>Nothing to report.</div>")
    for finding in findings:
        examples = "".join(f"<li>{escape(example)}" for example in finding.examples)
        pictures = "".join(_figure(annotations, row) for row in finding.rows if annotations)
        parts.append(
            f"<div class='finding {finding.level}'><b>{finding.level}: {finding.count}</b> "
            f"{escape(finding.problem)}<ul>{examples}</ul><div>{pictures}</div>"
            f"<div class=cure>Cure: {escape(finding.cure)}</div></div>"
        )
    if annotations:
        parts.append("<h2>People as annotated</h2><p>Left keypoints amber, right ones blue.</p>")
        people = np.flatnonzero((annotations.keypoint_counts > 0) & ~annotations.is_crowd)
        chosen = np.unique(np.linspace(0, len(people) - 1, min(6, len(people))).astype(int))
        parts += [_figure(annotations, row) for row in people[chosen].tolist()]
    for title, counts in charts.items():
        largest = max(1, *counts.values())
        rows = "".join(
            f"<tr><td>{escape(label)}<td class=n>{count}"
            f"<td><span class=bar style='width:{round(300 * count / largest)}px'></span>"
            for label, count in counts.items()
        )
        parts.append(f"<h2>{escape(title)}</h2><table>{rows}</table>")
    write_bytes(path, "".join(parts).encode(errors="backslashreplace"))


def thumbnail(image: np.ndarray, annotations: Annotations, row: int) -> np.ndarray:
    """The region of one person (H, W, 3) uint8 RGB with box, limbs and keypoints drawn."""
    box = xywh_to_xyxy(annotations.bbox_xywh[row : row + 1].astype(np.float64))
    points = annotations.keypoints[row : row + 1].astype(np.float64)
    labelled = annotations.visibility[row] > 0
    corners = np.concatenate([box.reshape(2, 2), points[0, labelled]])
    low, high = corners.min(0), corners.max(0)
    margin, limits = 0.1 * np.maximum(high - low, 10), np.array(image.shape[1::-1])
    low = np.clip(low - margin, 0, limits - 2).astype(int)
    high = np.clip(high + margin, low + 2, limits).astype(int)
    region = image[low[1] : high[1], low[0] : high[0]]
    factor = min(HEIGHT / region.shape[0], WIDTH / region.shape[1])
    size = [max(round(side * factor), 1) for side in region.shape[1::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    person = Poses(
        (points - low) * factor,
        labelled[None].astype(float),
        (box - [*low, *low]) * factor,
        np.ones(1),
    )
    canvas = cv2.resize(region, size, interpolation=way)
    return draw_poses(canvas, person, annotations.schema, boxes=True)


def _figure(annotations: Annotations, row: int) -> str:
    path = annotations.image_paths[annotations.image_index[row]]
    caption = escape(f"annotation {annotations.annotation_ids[row]}, {Path(path).name}")
    try:
        image = read_image(path, upright=annotations.upright)
        canvas = thumbnail(image, annotations, row)
    except UserError:
        return f"<figure><figcaption>{caption}: the picture cannot be read</figcaption></figure>"
    jpeg = cv2.imencode(".jpg", canvas[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    data = base64.b64encode(jpeg.tobytes()).decode()
    return (
        f"<figure><img alt='' src='data:image/jpeg;base64,{data}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _starts_as_page(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(OPENING)) == OPENING.encode()
    except OSError:
        return False
