"""How a drawn person looks, and the painting of one person: clothes, limbs back to front, a head with a face, and what of it is visible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simplepose.data.drawn_body import HEAD_RADII, ROW, SIDES, Proportions, Skeleton, draw_proportions
from simplepose.data.drawn_face import FaceLook, draw_face, paint_head
from simplepose.data.drawn_paint import Canvas, Shader, paint_hull, paint_limb, plain

PARTS = 32
"""Owner numbers: person i (from 0) paints with PARTS * (i + 1) + part."""
TORSO, HEAD, NECK, SKIRT, UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = 1, 2, 3, 4, 6, 8, 10, 12, 14, 16  # limbs: + 0 left, + 1 right

_SKINS = np.array([[246, 214, 188], [235, 190, 155], [214, 160, 120], [172, 118, 82], [126, 82, 56], [88, 58, 42]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Fabric:
    """A cloth: two colours, a pattern that sticks to the body, and a weave that gives optical flow something to hold."""

    first: np.ndarray
    second: np.ndarray
    """(3,) float32 RGB."""
    pattern: str
    """plain, hoops, stripes, checks, dots or halves."""
    period: float
    """Of the pattern, in body units."""
    weave: np.ndarray
    """(64, 64) float32 around 1."""

    def __call__(self, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Colours (h, w, 3); see `Shader`."""
        hoop, stripe = np.sin(along * (2 * np.pi / self.period)), np.sin(across * (0.5 / self.period))
        wave = {
            "plain": lambda: np.full(along.shape, -1.0),
            "hoops": lambda: hoop,
            "stripes": lambda: stripe,
            "checks": lambda: hoop * stripe,
            "dots": lambda: hoop * stripe - 0.45,
            "halves": lambda: across,
        }[self.pattern]()
        mix = np.clip(0.5 + 3 * wave, 0, 1)[..., None].astype(np.float32)
        weave = self.weave[(along * 260).astype(int) & 63, (across * 14).astype(int) & 63]
        return (self.first + mix * (self.second - self.first)) * weave[..., None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Look:
    """Everything about one person that does not change from frame to frame."""

    body: Proportions
    skin: np.ndarray
    shirt: Fabric
    trousers: Fabric
    shoes: np.ndarray
    sleeve: float
    """Length of the sleeves: 0..1 of the upper arm, 1..2 of the forearm."""
    leg: float
    """Length of the trousers: 0..1 of the thigh, 1..2 of the shin."""
    skirt: bool
    badge: np.ndarray | None
    """Colour of a mark on the left breast, or None."""
    face: FaceLook


def bright_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32 RGB, from dark and muted to vivid and light."""
    hue, saturation, value = rng.random(), rng.beta(2, 1.6), rng.uniform(0.22, 0.98)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (255 * value * (1 - saturation * (1 - wheel))).astype(np.float32)


def draw_fabric(rng: np.random.Generator, *, patterned: float = 0.6) -> Fabric:
    """A random cloth; `patterned` is the chance of a pattern."""
    first, second = bright_colour(rng), bright_colour(rng)
    if np.abs(first - second).sum() < 120:
        second = 255 - first
    pattern = str(rng.choice(["hoops", "stripes", "checks", "dots", "halves"])) if rng.random() < patterned else "plain"
    weave = 1 + 0.07 * np.clip(rng.normal(0, 1, (64, 64)), -2, 2)
    return Fabric(first, second, pattern, float(rng.uniform(0.035, 0.09)), weave.astype(np.float32))


def draw_look(rng: np.random.Generator) -> Look:
    """A random person."""
    skin = _SKINS[rng.integers(len(_SKINS))] * rng.uniform(0.93, 1.05) + rng.normal(0, 3, 3)
    return Look(
        body=draw_proportions(rng),
        skin=skin.astype(np.float32),
        shirt=draw_fabric(rng),
        trousers=draw_fabric(rng, patterned=0.25),
        shoes=bright_colour(rng),
        sleeve=float(rng.choice([0.0, 0.55, 0.75, 1.95])) if rng.random() < 0.9 else 1.4,
        leg=float(rng.choice([0.55, 0.9, 1.95, 1.95, 1.95])),
        skirt=bool(rng.random() < 0.15),
        badge=bright_colour(rng) if rng.random() < 0.5 else None,
        face=draw_face(rng, skin.astype(np.float32)),
    )


def place(figure: Skeleton, foot_xy: tuple[float, float], scale: float) -> np.ndarray:
    """(P, 3) body points in the picture: x, y in pixels, and depth in body units (larger is nearer).

    Args:
        figure: the posed body.
        foot_xy: pixel where the body's origin on the ground goes.
        scale: pixels of one body unit.
    """
    points = figure.points
    return np.stack([foot_xy[0] + scale * points[:, 0], foot_xy[1] - scale * points[:, 1], points[:, 2]], 1)


def paint_person(canvas: Canvas, look: Look, figure: Skeleton, foot_xy: tuple[float, float], scale: float, index: int) -> None:
    """Paints person `index` (0-based) over the canvas, its parts from far to near."""
    points, base = place(figure, foot_xy, scale), PARTS * (index + 1)
    girth = look.body.girth * scale
    spot = {name: points[row, :2] for name, row in ROW.items()}
    depth = {name: points[row, 2] for name, row in ROW.items()}
    skin, jobs = plain(look.skin), []

    def limb(
        start: str, end: str, radii: tuple[float, float], part: int, nearer: float, bare: Shader, cloth: Shader | None, reach: float
    ) -> None:
        ends = (radii[0] * girth, radii[1] * girth)

        def paint() -> None:
            if reach < 0.98 or cloth is None:
                paint_limb(canvas, spot[start], spot[end], ends, bare, base + part, scale)
            if reach > 0.02 and cloth is not None:
                covered = min(reach, 1.0)
                stop = spot[start] + covered * (spot[end] - spot[start])
                wide = 1.08 * girth
                paint_limb(
                    canvas,
                    spot[start],
                    stop,
                    (radii[0] * wide, (radii[0] + covered * (radii[1] - radii[0])) * wide),
                    cloth,
                    base + part,
                    scale,
                )

        jobs.append((0.5 * (depth[start] + depth[end]) + nearer, paint))

    for row, (side, _) in enumerate(SIDES):
        limb(f"{side}_shoulder", f"{side}_elbow", (0.034, 0.027), UPPER_ARM + row, 0.03, skin, look.shirt, look.sleeve)
        limb(f"{side}_elbow", f"{side}_wrist", (0.026, 0.019), FOREARM + row, 0.045, skin, look.shirt, look.sleeve - 1)
        limb(f"{side}_wrist", f"{side}_hand", (0.018, 0.022), HAND + row, 0.05, skin, None, 0)
        limb(f"{side}_hip", f"{side}_knee", (0.056, 0.040), THIGH + row, 0.0, skin, look.trousers, look.leg)
        limb(f"{side}_knee", f"{side}_ankle", (0.039, 0.025), SHIN + row, -0.005, skin, look.trousers, look.leg - 1)
        limb(f"{side}_ankle", f"{side}_toe", (0.025, 0.022), FOOT + row, 0.01, plain(look.shoes), None, 0)
    limb("neck", "head", (0.032, 0.03), NECK, -0.03, skin, None, 0)

    corners = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    centres = np.array([spot[name] for name in corners])
    middle = float(np.mean([depth[name] for name in corners]))
    jobs.append((middle + 0.02, lambda: _paint_torso(canvas, look, figure, centres, girth, base, scale)))
    if look.skirt:
        hems = np.array([spot[f"{side}_hip"] + 0.62 * (spot[f"{side}_knee"] - spot[f"{side}_hip"]) for side, _ in SIDES])
        nearest = max(0.5 * (depth[f"{side}_hip"] + depth[f"{side}_knee"]) for side, _ in SIDES)
        radii = np.array([0.056, 0.056, 0.07, 0.07]) * girth
        jobs.append(
            (nearest + 0.008, lambda: paint_hull(canvas, np.concatenate([centres[2:], hems]), radii, look.trousers, base + SKIRT, scale))
        )
    size = look.body.head * scale
    if look.face.long_hair:
        jobs.append(
            (
                depth["hair"] - 0.02,
                lambda: paint_limb(canvas, spot["head"], spot["hair"], (0.86 * size, 0.6 * size), plain(look.face.hair), base + HEAD),
            )
        )
    jobs.append(
        (depth["head"] + 0.02, lambda: paint_head(canvas, look.face, look.skin, spot, depth, size, figure.head_to_view, base + HEAD))
    )
    for _, paint in sorted(jobs, key=lambda job: job[0]):
        paint()


def _paint_torso(canvas: Canvas, look: Look, figure: Skeleton, centres: np.ndarray, girth: float, base: int, scale: float) -> None:
    """Trousers' seat, shirt, and the badge where the chest faces the camera."""
    hips = centres[2:]
    paint_hull(canvas, np.concatenate([hips, hips]), np.full(4, 0.058) * girth, look.trousers, base + TORSO, scale)
    waist = hips + 0.12 * (centres[:2].mean(0) - hips.mean(0))
    paint_hull(
        canvas, np.concatenate([centres[:2], waist]), np.array([0.042, 0.042, 0.054, 0.054]) * girth, look.shirt, base + TORSO, scale
    )
    front = figure.torso_to_view[:, 2]
    if front[2] > 0.15:  # the shirt's row of buttons tells front from back, and how far the chest is turned
        ahead = 0.045 * scale * np.array([front[0], -front[1]])
        top, low = centres[:2].mean(0) + ahead, 0.25 * centres[:2].mean(0) + 0.75 * hips.mean(0) + ahead
        paint_limb(canvas, top, low, (0.006 * scale,) * 2, plain(0.35 * look.shirt.first), base + TORSO)
    if look.badge is not None and front[2] > 0.35:
        left, right, hip = centres[0], centres[1], hips.mean(0)
        at = (
            0.5 * (left + right)
            + 0.21 * (left - right)
            + 0.27 * (hip - 0.5 * (left + right))
            + 0.045 * scale * np.array([front[0], -front[1]])
        )
        paint_limb(canvas, at, at + 0.012 * scale * np.array([1, 0]), (0.013 * scale,) * 2, plain(look.badge), base + TORSO)


_SEEN_ON = {
    "shoulder": (UPPER_ARM,), "elbow": (UPPER_ARM, FOREARM), "wrist": (FOREARM, HAND),
    "hip": (THIGH,), "knee": (THIGH, SHIN), "ankle": (SHIN, FOOT),
}  # fmt: skip
"""Limbs a joint is visible on; + 1 for the right side."""


def visible_keypoints(
    canvas: Canvas, figure: Skeleton, foot_xy: tuple[float, float], scale: float, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (17, 2) in pixels and their COCO visibility (17,), read off the finished canvas.

    2: the pixel belongs to a part of this person that shows the joint; 1: hidden by something, somebody or the own body; 0: outside
    the picture.
    """
    points = place(figure, foot_xy, scale)
    height, width = canvas.owner.shape
    visibility = np.zeros(17, np.int64)
    trunk = points[[ROW[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")], 2].mean()
    for row, name in enumerate(list(ROW)[:17]):
        x, y = np.round(points[row, :2]).astype(int)
        if not (0 <= x < width and 0 <= y < height):
            continue
        part = canvas.owner[y, x] - PARTS * (index + 1)
        side, _, joint = name.partition("_")
        if joint in _SEEN_ON:
            offset = int(side == "right")
            seen = part in [limb + offset for limb in _SEEN_ON[joint]]
            if joint in ("shoulder", "hip"):
                seen = seen or (part in (TORSO, SKIRT, NECK) and points[row, 2] > trunk - 0.06)
        else:
            normal = figure.head_to_view @ ((points_in_head(figure, row)) / HEAD_RADII)
            seen = part == HEAD and normal[2] > 0.05
        visibility[row] = 2 if seen else 1
    return points[:17, :2].copy(), visibility


def points_in_head(figure: Skeleton, row: int) -> np.ndarray:
    """(3,) where a face point lies in the head's own frame, divided by the half axes, with unit length."""
    offset = figure.head_to_view.T @ (figure.points[row] - figure.points[ROW["head"]]) / HEAD_RADII
    return offset / np.linalg.norm(offset)
