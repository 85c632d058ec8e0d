"""What all pages share: one self-contained file from a template, which only a page of the same kind
may be written over; pictures inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError
from simplepose.core.files import write_bytes
from simplepose.core.schema import KeypointSchema
from simplepose.core.structures import Poses

Kind = Literal["doctor", "report"]
OPENING = '<!doctype html><html lang="en"><meta charset="utf-8"><title>simplepose {}'
"""What every page starts with, and how a page that may be written again is known."""
HEIGHT, WIDTH = 260, 480
"""Largest size of a person's picture."""


@cache
def _templates() -> Environment:
    """The page templates; what they show is escaped."""
    loader = PackageLoader("simplepose.report")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def check_page(path: str | Path, kind: Kind, option: str) -> None:
    """Refuses to write over anything but a page of the same kind.

    Args:
        path: where the page is to be written.
        kind: the command that writes it.
        option: what names it on the command line.

    Raises:
        UserError: another ending than .html or .htm, or what is there is no such page.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(
            f"{option} {path}: the page ends in .html or .htm. Cure: {option} {path.stem}.html"
        )
    if path.exists() and not (path.is_file() and _starts_as_page(path, kind)):
        raise UserError(
            f"{option} {path}: what is there was not written by simplepose {kind}. "
            f"Cure: give {option} another name"
        )


def write_page(path: str | Path, kind: Kind, content: Mapping[str, Any]) -> None:
    """Writes `content` in the template of that kind, atomically."""
    text = _templates().get_template(f"{kind}.html").render(content)
    opening = OPENING.format(kind)
    write_bytes(path, f"{opening}{text}".encode(errors="backslashreplace"))


def _starts_as_page(path: Path, kind: Kind) -> bool:
    opening = OPENING.format(kind).encode()
    try:
        with open(path, "rb") as file:
            return file.read(len(opening)) == opening
    except OSError:
        return False


def region_around(corners: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The part of a picture around points, with a margin, and how much larger it is shown.

    Args:
        corners: (V, 2) x, y in pixels.
        size_wh: of the picture.

    Returns:
        (4,) int left, top, right, bottom, at least two pixels each way; the factor that fits it
        into `WIDTH` and `HEIGHT`.
    """
    low, high = corners.min(0), corners.max(0)
    margin, limits = 0.1 * np.maximum(high - low, 10), np.array(size_wh)
    low = np.clip(low - margin, 0, limits - 2).astype(int)
    high = np.clip(high + margin, low + 2, limits).astype(int)
    width, height = (high - low).tolist()
    return np.concatenate([low, high]), min(HEIGHT / height, WIDTH / width)


def person_picture(
    image: np.ndarray, region: np.ndarray, factor: float, poses: Poses, schema: KeypointSchema
) -> np.ndarray:
    """A region of a picture, (H, W, 3) uint8 RGB, with poses and their boxes drawn on it."""
    left, top, right, bottom = region.tolist()
    part = image[top:bottom, left:right]
    size = [max(round(side * factor), 1) for side in part.shape[1::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    moved = Poses(
        (poses.keypoints - region[:2]) * factor,
        poses.keypoint_scores,
        (poses.boxes_xyxy - np.tile(region[:2], 2)) * factor,
        poses.scores,
    )
    return draw_poses(cv2.resize(part, size, interpolation=way), moved, schema, boxes=True)


def data_uri(image: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 RGB as a JPEG inside the page."""
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
