"""Short labels on pictures, drawn with OpenCV's stroke font: ASCII only, readable on any ground."""

from __future__ import annotations

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 21.0
"""Height in pixels of a capital letter of the font at scale 1."""


def printable(text: str) -> str:
    """`text` with what the font cannot draw replaced by question marks."""
    return text.encode("ascii", "replace").decode()


def label_size_wh(text: str, height: int) -> tuple[int, int]:
    """Width and height in pixels of a label whose plate is `height` pixels tall."""
    scale, thickness = _style(height)
    (width, _), _ = cv2.getTextSize(printable(text), _FONT, scale, thickness)
    return width + round(0.5 * height), height


def draw_label(
    image: np.ndarray,
    text: str,
    corner_xy: tuple[float, float],
    height: int,
    *,
    plate: tuple[int, int, int],
    opacity: float = 0.85,
) -> None:
    """Writes `text` on a coloured plate, in place; the plate is moved into the picture where it sticks out.

    Args:
        image: (H, W, 3) uint8 RGB, changed.
        text: what to write; an empty text writes nothing.
        corner_xy: top left corner of the plate in pixels.
        height: of the plate in pixels.
        plate: RGB of the plate; the letters are black or white, whatever reads better on it.
        opacity: of the plate.
    """
    if not text:
        return
    width, height = label_size_wh(text, max(int(height), 6))
    rows, columns = image.shape[:2]
    left = int(np.clip(corner_xy[0], 0, max(columns - width, 0)))
    top = int(np.clip(corner_xy[1], 0, max(rows - height, 0)))
    patch = image[top : top + height, left : left + width]
    if not patch.size:
        return
    patch[:] = np.round(patch * (1 - opacity) + np.array(plate) * opacity).astype(np.uint8)
    scale, thickness = _style(height)
    ink = (16, 16, 16) if np.dot(plate, (0.299, 0.587, 0.114)) > 130 else (250, 250, 250)
    base = (left + round(0.25 * height), top + round(0.5 * height + 0.5 * scale * _CAPITAL))
    cv2.putText(image, printable(text), base, _FONT, scale, ink, thickness, cv2.LINE_AA)


def _style(height: int) -> tuple[float, int]:
    """Scale and stroke width of the font on a plate of `height` pixels."""
    scale = 0.58 * height / _CAPITAL
    return scale, max(1, round(0.085 * height))
