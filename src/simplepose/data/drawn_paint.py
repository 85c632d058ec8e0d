"""A canvas that knows who painted each pixel, and three lit shapes: rounded cones, convex hulls and ellipsoids.

All positions are picture pixels (x, y), pixel centres at whole numbers. Edges are anti-aliased by coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

Shader = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(across (h, w) in -1..1, along (h, w) in body units) -> (h, w, 3) float32 colours in 0..255."""


_AA_SPILL = 0.6
"""Pixels by which OpenCV's anti-aliased filling reaches over the outline it is given."""


@dataclass(slots=True, eq=False)
class Canvas:
    """A picture being painted, back to front."""

    image: np.ndarray
    """(H, W, 3) float32, RGB in 0..255."""
    owner: np.ndarray = field(init=False)
    """(H, W) int32: who painted the pixel last; 0 is the background."""
    light: np.ndarray = field(default_factory=lambda: np.array([-0.4, 0.5, 0.77]))
    """(3,) unit vector towards the light, in the view frame (y up)."""

    def __post_init__(self) -> None:
        self.owner = np.zeros(self.image.shape[:2], np.int32)

    def lit(self, normal_x: np.ndarray, normal_y: np.ndarray, normal_z: np.ndarray) -> np.ndarray:
        """(h, w) brightness factor of a matt surface; the normal's y points up."""
        lambert = normal_x * self.light[0] + normal_y * self.light[1] + normal_z * self.light[2]
        return (0.52 + 0.58 * np.maximum(lambert, 0)).astype(np.float32)

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, np.ndarray, np.ndarray] | None:
        """The part of the picture between two corners: row and column slices, x and y of its pixels; None when outside."""
        height, width = self.owner.shape
        left, top = np.maximum(np.floor(low).astype(int), 0)
        right, bottom = np.minimum(np.ceil(high).astype(int) + 1, [width, height])
        if left >= right or top >= bottom:
            return None
        x = np.arange(left, right, dtype=np.float32)[None, :]
        y = np.arange(top, bottom, dtype=np.float32)[:, None]
        return slice(top, bottom), slice(left, right), x, y

    def blend(self, rows: slice, columns: slice, alpha: np.ndarray, colour: np.ndarray, owner: int) -> None:
        """Puts `colour` (h, w, 3) over the window with coverage `alpha` (h, w); the owner changes where most of a pixel is covered."""
        patch = self.image[rows, columns]
        patch += alpha[..., None] * (colour - patch)
        self.owner[rows, columns][alpha > 0.5] = owner

    def finish(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return np.clip(self.image + 0.5, 0, 255).astype(np.uint8)


def plain(colour: np.ndarray) -> Shader:
    """One colour, (3,) RGB, everywhere."""
    return lambda across, along: np.broadcast_to(colour, (*np.broadcast_shapes(across.shape, along.shape), 3))


def paint_limb(
    canvas: Canvas, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], shader: Shader, owner: int, scale: float = 1.0
) -> None:
    """A rounded cone from `start` to `end` (2,) with pixel radii at both ends; `along` runs from 0 to length / scale."""
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    reach = max(radii) + 1
    window = canvas.window(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    if window is None:
        return
    rows, columns, x, y = window
    axis = end - start
    length = float(np.hypot(*axis))
    direction = axis / length if length > 1e-3 else np.array([0, 1], np.float32)
    dx, dy = x - start[0], y - start[1]
    along = dx * direction[0] + dy * direction[1]
    across = dx * -direction[1] + dy * direction[0]
    clamped = np.clip(along, 0, length)
    radius = radii[0] + (radii[1] - radii[0]) * (clamped / max(length, 1e-3))
    distance = np.sqrt(across * across + (along - clamped) ** 2)
    alpha = np.clip(radius - distance + 0.5, 0, 1)
    side = np.clip(across / radius, -1, 1)
    cap = np.clip((along - clamped) / radius, -1, 1)
    normal_x = -direction[1] * side + direction[0] * cap
    normal_y = -(direction[0] * side + direction[1] * cap)
    light = canvas.lit(normal_x, normal_y, np.sqrt(np.maximum(0, 1 - side * side - cap * cap)))
    canvas.blend(rows, columns, alpha, shader(side, along / scale) * light[..., None], owner)


def paint_hull(canvas: Canvas, centres: np.ndarray, radii: np.ndarray, shader: Shader, owner: int, scale: float = 1.0) -> None:
    """The convex hull of circles: a torso or a skirt. The axis runs from the mean of the first half of the circles to that of the second.

    Args:
        canvas: where to paint.
        centres: (M, 2) pixels, M even.
        radii: (M,) pixels.
        shader: colours.
        owner: who paints.
        scale: pixels of one body unit.
    """
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    outline = (centres[:, None] + (radii[:, None, None] - _AA_SPILL) * ring).reshape(-1, 2)
    window = canvas.window(outline.min(0) - 1, outline.max(0) + 1)
    if window is None:
        return
    rows, columns, x, y = window
    hull = cv2.convexHull(outline.astype(np.float32))[:, 0]
    corner = np.array([columns.start, rows.start])
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillConvexPoly(mask, np.round((hull - corner) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    half = len(centres) // 2
    start, end = centres[:half].mean(0), centres[half:].mean(0)
    axis = end - start
    length = float(np.hypot(*axis))
    direction = axis / length if length > 1e-3 else np.array([0.0, 1.0])
    dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
    along = dx * direction[0] + dy * direction[1]
    across = dx * -direction[1] + dy * direction[0]
    spread = np.abs((hull - start) @ [-direction[1], direction[0]]).max()
    side = np.clip(across / spread, -1, 1)
    tilt = 0.85 * side
    light = canvas.lit(-direction[1] * tilt, -direction[0] * tilt, np.sqrt(1 - tilt * tilt))
    canvas.blend(rows, columns, mask.astype(np.float32) / 255, shader(side, along / scale) * light[..., None], owner)


def paint_ellipsoid(
    canvas: Canvas, centre: np.ndarray, radii: np.ndarray, to_view: np.ndarray, shade: Callable[[np.ndarray, float], np.ndarray], owner: int
) -> None:
    """A turned ellipsoid, ray-cast a pixel at a time.

    Args:
        canvas: where to paint.
        centre: (2,) pixels.
        radii: (3,) half axes in pixels, own frame.
        to_view: (3, 3) rotation from the own frame to the view frame.
        shade: (points (h, w, 3) on the unit sphere, size of one pixel on it) -> (h, w, 3) colours.
        owner: who paints.
    """
    reach = float(radii.max()) + 1
    window = canvas.window(centre - reach, centre + reach)
    if window is None:
        return
    rows, columns, x, y = window
    to_sphere = (to_view / radii).T.astype(np.float32)  # view pixels -> unit sphere
    right, up = np.broadcast_arrays(x - np.float32(centre[0]), np.float32(centre[1]) - y)
    flat = right[..., None] * to_sphere[:, 0] + up[..., None] * to_sphere[:, 1]  # (h, w, 3) on the plane through the centre
    ray = to_sphere[:, 2]
    a, b, c = ray @ ray, flat @ ray, (flat * flat).sum(-1) - 1
    inside = (b * b - a * c) / a
    alpha = np.clip(0.5 + inside * 0.5 * radii.min(), 0, 1)
    depth = (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a
    points = flat + depth[..., None] * ray
    normal = (points / radii.astype(np.float32)) @ to_view.T.astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    light = canvas.lit(normal[..., 0], normal[..., 1], normal[..., 2])
    canvas.blend(rows, columns, alpha, shade(points, 1 / float(radii.mean())) * light[..., None], owner)
