"""The doctor's findings as one self-contained HTML page, with pictures of the people concerned."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import write_bytes
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations
from simplepose.doctor.checks import Finding
from simplepose.doctor.statistics import Histogram

ENDINGS = (".html", ".htm")
OPENING = "<!doctype html><html lang=en><meta charset=utf-8><title>simplepose doctor</title>"
"""What every page of the doctor starts with, and how a page that may be written again is known."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222;background:#fafafa}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}pre{background:#fff;border:1px solid #ddd;padding:.8em;overflow:auto;font-size:12px}
.finding{background:#fff;border:1px solid #ddd;border-left:6px solid #d90;padding:.6em 1em;margin:.8em 0}.broken{border-left-color:#c22}
.fine{border-left-color:#2a2}.cure{color:#064}figure{display:inline-block;margin:.4em .6em .4em 0;vertical-align:top}
figcaption{font-size:12px;color:#555}img{max-height:260px;border-radius:4px}
table{border-collapse:collapse;font-size:13px}td{padding:1px 8px}td.n{text-align:right}
.bar{background:#58a;height:11px;display:inline-block}
"""


def check_page(path: str | Path) -> None:
    """Refuses to write over anything but a page of the doctor.

    Raises:
        UserError: another ending than .html or .htm, or what is there is no page that the doctor wrote.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"--html {path}: the page ends in {' or '.join(ENDINGS)}. Cure: --html {path.stem or 'doctor'}.html"
        )
    if path.exists() and not (path.is_file() and _starts_as_page(path)):
        raise UserError(
            f"--html {path}: what is there was not written by simplepose doctor. Cure: give --html another name"
        )


def write_page(
    path: str | Path,
    facts: Sequence[str],
    findings: Sequence[Finding],
    charts: Sequence[Histogram],
    annotations: Annotations | None,
) -> None:
    """Writes the page atomically; pictures are inside it as JPEG, at most three a finding and six drawn from the whole set."""
    parts = [f"{OPENING}<style>{STYLE}</style>"]
    parts.append(
        f"<h1>simplepose doctor</h1><pre>{html.escape(chr(10).join(facts))}</pre><h2>Findings</h2>"
    )
    if not findings:
        parts.append("<div class='finding fine'>Nothing to report.</div>")
    for finding in findings:
        examples = "".join(f"<li>{html.escape(example)}" for example in finding.examples)
        pictures = (
            "".join(_figure(annotations, row) for row in finding.rows)
            if annotations is not None
            else ""
        )
        parts.append(
            f"<div class='finding {finding.level}'><b>{finding.level}: {finding.count}</b> {html.escape(finding.problem)}"
            f"<ul>{examples}</ul><div>{pictures}</div><div class=cure>Cure: {html.escape(finding.cure)}</div></div>"
        )
    if annotations is not None and len(annotations):
        labelled = np.flatnonzero((annotations.keypoint_counts > 0) & ~annotations.is_crowd)
        chosen = (
            labelled[np.unique(np.linspace(0, max(len(labelled) - 1, 0), 6).astype(int))]
            if len(labelled)
            else []
        )
        parts.append(
            "<h2>People as annotated</h2><p>Left keypoints orange, right ones blue, hidden ones hollow.</p>"
        )
        parts += [_figure(annotations, int(row)) for row in chosen]
    for chart in charts:
        largest = max(chart.counts, default=0) or 1
        rows = "".join(
            f"<tr><td>{html.escape(label)}<td class=n>{count}<td><span class=bar style='width:{round(300 * count / largest)}px'></span>"
            for label, count in zip(chart.labels, chart.counts, strict=True)
        )
        parts.append(f"<h2>{html.escape(chart.title)}</h2><table>{rows}</table>")
    write_bytes(path, "".join(parts).encode(errors="backslashreplace"))


def thumbnail(
    image: np.ndarray, annotations: Annotations, row: int, height: int = 260
) -> np.ndarray:
    """The region of one person (H, W, 3) uint8 RGB with box, limbs and keypoints drawn."""
    box = annotations.bbox_xywh[row].astype(np.float64)
    labelled = annotations.visibility[row] > 0
    points = annotations.keypoints[row].astype(np.float64)
    corners = np.concatenate([[box[:2], box[:2] + box[2:]], points[labelled]])
    low, high = corners.min(0), corners.max(0)
    margin = 0.1 * np.maximum(high - low, 10)
    low = np.clip(low - margin, 0, np.array(image.shape[1::-1]) - 2).astype(int)
    high = np.clip(high + margin, low + 2, image.shape[1::-1]).astype(int)
    region = image[low[1] : high[1], low[0] : high[0]]
    factor = min(height / region.shape[0], 480 / region.shape[1])
    size = max(round(region.shape[1] * factor), 1), max(round(region.shape[0] * factor), 1)
    canvas = cv2.resize(
        region, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )

    def place(point: np.ndarray) -> tuple[int, int]:
        x, y = np.clip(np.round((point - low) * factor), -5000, 5000).astype(int)
        return int(x), int(y)

    cv2.rectangle(canvas, place(box[:2]), place(box[:2] + box[2:]), (255, 255, 0), 1, cv2.LINE_AA)
    for a, b in annotations.schema.skeleton:
        if labelled[a] and labelled[b]:
            cv2.line(canvas, place(points[a]), place(points[b]), (80, 220, 80), 1, cv2.LINE_AA)
    left = {pair[0] for pair in annotations.schema.flip_pairs}
    right = {pair[1] for pair in annotations.schema.flip_pairs}
    for index in np.flatnonzero(labelled):
        colour = (
            (255, 150, 30)
            if index in left
            else (60, 140, 255)
            if index in right
            else (240, 240, 240)
        )
        hidden = annotations.visibility[row, index] == 1
        cv2.circle(canvas, place(points[index]), 3, (0, 0, 0), 1 if hidden else 2, cv2.LINE_AA)
        cv2.circle(canvas, place(points[index]), 3, colour, 1 if hidden else -1, cv2.LINE_AA)
    return canvas


def _figure(annotations: Annotations, row: int) -> str:
    path = annotations.image_paths[annotations.image_index[row]]
    caption = html.escape(f"annotation {annotations.annotation_ids[row]}, {Path(path).name}")
    try:
        canvas = thumbnail(read_image(path), annotations, row)
    except UserError:
        return f"<figure><figcaption>{caption}: the picture cannot be read</figcaption></figure>"
    content = cv2.imencode(
        ".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )[1]
    data = base64.b64encode(content.tobytes()).decode()
    return f"<figure><img alt='' src='data:image/jpeg;base64,{data}'><figcaption>{caption}</figcaption></figure>"


def _starts_as_page(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(OPENING)) == OPENING.encode()
    except OSError:
        return False
