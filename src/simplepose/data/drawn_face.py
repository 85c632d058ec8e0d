"""Heads: skin, hair or cap, eyes, brows, mouth, nose and ears, painted on an ellipsoid so that any turn of the head is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simplepose.data.drawn_body import HEAD_RADII
from simplepose.data.drawn_paint import Canvas, paint_ellipsoid, paint_limb, plain

_HAIRS = np.array([[38, 28, 24], [70, 44, 28], [120, 76, 40], [196, 152, 84], [150, 62, 34], [176, 172, 168], [24, 24, 30]], np.float32)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaceLook:
    """The parts of a head that differ from person to person; colours are (3,) float32 RGB."""

    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    hairline: float
    """Height of the hairline on the unit sphere, .3 low to .9 nearly bald."""
    long_hair: bool
    cap: np.ndarray | None


def draw_face(rng: np.random.Generator, skin: np.ndarray) -> FaceLook:
    """A random face for the given skin."""
    hair = _HAIRS[rng.integers(len(_HAIRS))] * rng.uniform(0.85, 1.15)
    if np.abs(hair - skin).sum() < 90:
        hair = hair * 0.5
    return FaceLook(
        hair=hair.astype(np.float32),
        iris=rng.uniform(15, 90, 3).astype(np.float32),
        lips=np.clip(skin * np.array([0.85, 0.5, 0.5], np.float32), 0, 255),
        hairline=float(rng.uniform(0.42, 0.66)),
        long_hair=bool(rng.random() < 0.3),
        cap=rng.uniform(20, 240, 3).astype(np.float32) if rng.random() < 0.15 else None,
    )


def paint_head(
    canvas: Canvas,
    face: FaceLook,
    skin: np.ndarray,
    spot: dict[str, np.ndarray],
    depth: dict[str, float],
    size: float,
    head_to_view: np.ndarray,
    owner: int,
) -> None:
    """Paints a head of `size` pixels: the far ear, the skull with its face, the near ear, the nose.

    Args:
        canvas: where to paint.
        face: colours and hair.
        skin: (3,) RGB.
        spot: named points in pixels.
        depth: named depths, larger is nearer.
        size: pixels of half a head.
        head_to_view: (3, 3) rotation.
        owner: who paints.
    """
    flesh = np.clip(skin * np.array([0.93, 0.86, 0.84], np.float32), 0, 255)

    down = np.array([head_to_view[0, 1], -head_to_view[1, 1]]) * -0.16 * size

    def ear(side: str) -> None:
        at = spot[f"{side}_ear"]
        paint_limb(canvas, at - down, at + down, (0.17 * size, 0.13 * size), plain(flesh), owner)
        paint_limb(canvas, at - 0.5 * down, at + 0.5 * down, (0.06 * size, 0.05 * size), plain(flesh * 0.7), owner)

    near = "left" if depth["left_ear"] > depth["right_ear"] else "right"
    ear("right" if near == "left" else "left")
    paint_ellipsoid(canvas, spot["head"], HEAD_RADII * size, head_to_view, _FaceShader(face, skin), owner)
    if depth[f"{near}_ear"] > depth["head"] - 0.02 * size:
        ear(near)
    if head_to_view[2, 2] > -0.05:
        nose = spot["nose"]
        bridge = spot["head"] + 0.62 * (nose - spot["head"]) - 0.9 * down
        paint_limb(canvas, bridge, nose, (0.06 * size, 0.12 * size), plain(flesh), owner)
        if head_to_view[2, 2] > 0.25:
            paint_limb(canvas, nose + 0.55 * down, nose + 0.6 * down, (0.07 * size,) * 2, plain(flesh * 0.62), owner)


@dataclass(frozen=True, slots=True, eq=False)
class _FaceShader:
    """Colours of points on the unit sphere (left, up, front)."""

    face: FaceLook
    skin: np.ndarray

    def __call__(self, points: np.ndarray, pixel: float) -> np.ndarray:
        left, up, front = points[..., 0], points[..., 1], points[..., 2]
        colour = np.broadcast_to(self.skin, points.shape).copy()

        def put(distance: np.ndarray, new: np.ndarray | float) -> None:
            """Paints where `distance` (sphere units) is negative, with an edge one pixel wide."""
            amount = np.clip(0.5 - distance / pixel, 0, 1)[..., None]
            colour[:] += amount * (new - colour)

        mirrored = np.abs(left)
        for radius, new in ((0.30, self.skin * 0.86), (0.23, 250.0)):
            put(np.where(front > 0, np.hypot((mirrored - 0.37) * 0.85, (up - 0.14) * 1.25) - radius, 1), new)
        put(np.where(front > 0, np.hypot(mirrored - 0.37, up - 0.14) - 0.14, 1), self.face.iris)
        put(
            np.where(front > 0, np.maximum(np.abs(up - 0.46 + 0.12 * (mirrored - 0.37)) - 0.05, np.abs(mirrored - 0.38) - 0.24), 1),
            self.face.hair * 0.8,
        )
        put(np.where(front > 0, np.maximum(np.abs(up + 0.52 - 0.25 * left * left) - 0.06, mirrored - 0.3), 1), self.face.lips)
        # Hair: above the hairline in front, lower behind the ears; the nape of short hair is bare.
        line = np.where(front > 0, self.face.hairline - 0.25 * mirrored, self.face.hairline - 0.25 * mirrored + 1.6 * front)
        nape = -0.75 if not self.face.long_hair else -2.0
        put(np.maximum(np.maximum(line, nape) - up, -1), self.face.hair * (0.92 + 0.16 * np.sin(24 * left + 9 * up))[..., None])
        if self.face.cap is not None:
            put(0.42 - up + 0.1 * front, self.face.cap)
            put(np.maximum(np.abs(up - 0.42 - 0.1 * front) - 0.06, -front), self.face.cap * 0.6)
        return colour
