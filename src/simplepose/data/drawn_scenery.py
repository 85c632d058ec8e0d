"""Backgrounds and things that stand in the way."""

from __future__ import annotations

import cv2
import numpy as np

from simplepose.data.drawn_figure import bright_colour, draw_fabric
from simplepose.data.drawn_paint import Canvas, paint_limb, plain

OCCLUDER = -1
"""Owner number of everything that is not a person."""


def smooth_noise(rng: np.random.Generator, size_wh: tuple[int, int], cell: int) -> np.ndarray:
    """(H, W) float32 noise of unit variance at its grid points, smooth over `cell` pixels."""
    width, height = size_wh
    grid = rng.normal(0, 1, (height // cell + 3, width // cell + 3)).astype(np.float32)
    return cv2.resize(grid, (grid.shape[1] * cell, grid.shape[0] * cell), interpolation=cv2.INTER_CUBIC)[:height, :width]


def draw_background(rng: np.random.Generator, size_wh: tuple[int, int], *, clutter: float = 1.0) -> np.ndarray:
    """A wall and a floor with gradients, texture and clutter.

    Args:
        rng: the source of chance.
        size_wh: width and height in pixels.
        clutter: factor on the number of shapes.

    Returns:
        (H, W, 3) float32 RGB in 0..255.
    """
    width, height = size_wh
    horizon = int(height * rng.uniform(0.45, 0.8))
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    wall = _muted(rng) + ramp * rng.normal(0, 25, 3).astype(np.float32)
    floor = _muted(rng) + (ramp - 0.5) * rng.normal(0, 50, 3).astype(np.float32)
    image = np.where(np.arange(height)[:, None, None] < horizon, wall, floor) + np.zeros((1, width, 1), np.float32)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(rng.poisson(5 * clutter)):
        _shape(rng, image, horizon)
    blur = int(rng.choice([1, 3, 5, 7]))
    result = cv2.GaussianBlur(image, (blur, blur), 0).astype(np.float32)
    tint = rng.normal(0, 1, 3).astype(np.float32) * 0.4 + 1
    result += (rng.uniform(3, 12) * smooth_noise(rng, size_wh, int(rng.integers(18, 60))))[..., None] * tint
    result += (rng.uniform(1, 4) * smooth_noise(rng, size_wh, int(rng.integers(2, 6))))[..., None]
    return np.clip(result, 0, 255)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A colour of a wall or a floor."""
    return (0.45 * bright_colour(rng) + 0.55 * rng.uniform(60, 220)).astype(np.float32)


def _shape(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    """One window, door, ball, leaf, cable or picture on the (H, W, 3) uint8 background."""
    height, width = image.shape[:2]
    colour = tuple(int(value) for value in 0.6 * bright_colour(rng) + 0.4 * _muted(rng))
    kind = rng.integers(5)
    x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
    if kind == 0:
        size = rng.uniform(0.06, 0.3, 2) * [width, height]
        y = int(rng.uniform(0, horizon))
        cv2.rectangle(image, (x, y), (int(x + size[0]), int(y + size[1])), colour, -1)
        cv2.rectangle(image, (x, y), (int(x + size[0]), int(y + size[1])), tuple(int(0.6 * value) for value in colour), 2)
    elif kind == 1:
        cv2.circle(image, (x, y), int(rng.uniform(0.02, 0.1) * width), colour, -1, cv2.LINE_AA)
    elif kind == 2:
        corners = np.array([x, y]) + rng.uniform(-0.13, 0.13, (int(rng.integers(3, 7)), 2)) * width
        cv2.fillPoly(image, [cv2.convexHull(corners.astype(np.int32))], colour, cv2.LINE_AA)
    elif kind == 3:
        end = (int(x + rng.normal(0, 0.3) * width), int(y + rng.normal(0, 0.3) * height))
        cv2.line(image, (x, y), end, colour, int(rng.integers(1, 9)), cv2.LINE_AA)
    else:
        step = int(rng.integers(8, 30))
        wide = int(rng.uniform(0.1, 0.35) * width)
        for offset in range(0, wide, step):
            cv2.line(image, (x + offset, y - wide // 3), (x + offset, y + wide // 3), colour, max(1, step // 5), cv2.LINE_AA)


def paint_occluder(canvas: Canvas, rng: np.random.Generator, x: float, foot_y: float, size: float) -> None:
    """A pole, a box or a bush in front of what was painted so far.

    Args:
        canvas: where to paint.
        rng: the source of chance.
        x: its centre in pixels.
        foot_y: where it stands.
        size: height in pixels of a person who would stand there.
    """
    height = canvas.owner.shape[0]
    kind = rng.integers(3)
    if kind == 0:
        lean = rng.normal(0, 0.03) * height
        thick = size * rng.uniform(0.018, 0.04)
        paint_limb(
            canvas,
            np.array([x, foot_y + size]),
            np.array([x + lean, -20.0]),
            (thick, thick),
            draw_fabric(rng, patterned=0.3),
            OCCLUDER,
            size,
        )
    elif kind == 1:
        wide, tall = size * rng.uniform(0.2, 0.5), size * rng.uniform(0.12, 0.38)
        paint_panel(canvas, rng, (x - wide / 2, foot_y - tall, x + wide / 2, foot_y + 0.03 * size))
    else:
        colour = np.array([rng.uniform(20, 90), rng.uniform(80, 150), rng.uniform(20, 70)], np.float32)
        for _ in range(12):
            at = np.array([x, foot_y]) + size * np.array([rng.uniform(-0.16, 0.16), rng.uniform(-0.2, 0.02)])
            paint_limb(canvas, at, at + 1, (size * rng.uniform(0.03, 0.07),) * 2, plain(colour * rng.uniform(0.75, 1.25)), OCCLUDER)


def paint_panel(canvas: Canvas, rng: np.random.Generator, box_xyxy: tuple[float, float, float, float]) -> None:
    """A textured upright rectangle (left, top, right, bottom in pixels): a crate, a table, a wall."""
    left, top, right, bottom = box_xyxy
    window = canvas.window(np.array([left, top]), np.array([right, bottom]))
    if window is None:
        return
    rows, columns, x, y = window
    x, y = np.broadcast_arrays(x, y)
    cloth = draw_fabric(rng, patterned=0.5)
    colour = cloth((x - left) / max(right - left, 1) * 2 - 1, (y - top) / 220)
    edge = np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y))
    colour = colour * np.where(edge < 2, 0.55, 0.9 + 0.1 * (bottom - y) / max(bottom - top, 1))[..., None]
    canvas.blend(rows, columns, np.ones(x.shape, np.float32), colour.astype(np.float32), OCCLUDER)
