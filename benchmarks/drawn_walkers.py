"""Drawn videos of walking people with exact keypoints and identities, for the tracking benchmarks.

Each scenario of `SCENARIOS` yields the frames of one seed. People keep their looks, and their
clothes are striped, so optical flow has something to hold on to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import NamedTuple

import cv2
import numpy as np

from simplepose.synthetic.scene import (
    THING,
    Body,
    Canvas,
    Figure,
    Look,
    annotate_person,
    draw_background,
    draw_cloth,
    draw_look,
    paint_person,
    pose_body,
    rotation,
)

Path = Callable[[float], tuple[float, float, float]]
"""Frame number -> x and y of the feet, and pixels of a body unit."""
SIZE_WH = np.array((384, 256))
MARGIN = 24
"""Pixels of background around the picture that a shaking camera can show."""
MIN_VISIBLE = 0.03
"""Visible pixels, as a fraction of the squared height, below which a person counts as hidden."""


class DrawnFrame(NamedTuple):
    """One frame and the truth about it, N people."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    keypoints: np.ndarray
    """(N, 17, 2) float32, pixels, COCO order."""
    visibility: np.ndarray
    """(N, 17) float32: 0, 1 or 2 as in COCO."""
    boxes_xyxy: np.ndarray
    """(N, 4) float32, extent of the visible silhouette."""
    track_ids: np.ndarray
    """(N,) int64, from 1."""


@dataclass(frozen=True, eq=False)
class Walker:
    """One person, where they are, and how they walk."""

    look: Look
    path: Path
    phase: float = 0
    phase_step: float = 0.42
    """Radians of the walk a frame; 2 pi is two steps."""

    def figure(self, frame: int, camera_xy: np.ndarray) -> Figure:
        """The posed body of a frame, seen by a camera that moved by (2,) pixels."""
        x, y, scale = self.path(frame)
        next_x, _, next_scale = self.path(frame + 1)
        speed = (next_x - x) / scale
        stride = min(1, 45 * (abs(speed) + abs(next_scale / scale - 1)))
        swing, lift = (
            stride * wave(self.phase + self.phase_step * frame + np.array((0, np.pi)))
            for wave in (np.sin, np.cos)
        )
        knees = 4 + 8 * stride + 40 * np.maximum(lift, 0)
        angles = [
            -24 * swing[0],
            7,
            0,
            18 - 12 * swing[0],
            -24 * swing[1],
            7,
            0,
            18 - 12 * swing[1],
        ]
        angles += [24 * swing[0], 2, knees[0], 24 * swing[1], 2, knees[1], 3]
        # Who walks to the right is seen from the side, who stands faces the camera.
        view = rotation(0, 5, np.clip(speed * 6000, -72, 72))
        points = pose_body(self.look.body, np.array(angles), view, rotation())
        return Figure(self.look, points, np.array((x, y)) - camera_xy, scale)


def _start(name: str, seed: int, people: int) -> tuple[np.random.Generator, Canvas, list[Look]]:
    """The source of chance of a scenario, its background with margins, and its striped adults."""
    rng = np.random.default_rng([seed, *name.encode()])
    background = draw_background(rng, SIZE_WH + 2 * MARGIN)
    looks = []
    for _ in range(people):
        look = draw_look(rng)
        clothes = {"shirt": draw_cloth(rng, 1), "trousers": draw_cloth(rng, 0.8)}
        looks.append(look._replace(body=Body(), cloths=look.cloths | clothes))
    return rng, background, looks


def _render(
    background: Canvas,
    walkers: list[Walker],
    frame: int,
    camera_xy: np.ndarray | None = None,
    wall: tuple[float, float] | None = None,
) -> DrawnFrame:
    """Draws one frame; a wall (left, right) stands before everybody."""
    camera = np.zeros(2) if camera_xy is None else np.round(camera_xy)
    left, top = (camera + MARGIN).astype(int)
    image = background.image[top : top + SIZE_WH[1], left : left + SIZE_WH[0]]
    canvas = Canvas(image.copy(), background.light)
    figures = [walker.figure(frame, camera) for walker in walkers]
    order = sorted(range(len(figures)), key=lambda index: figures[index].foot_xy[1])
    for index in order:
        paint_person(canvas, figures[index], index)
    if wall is not None:
        corners = [(x, y) for y in (0, SIZE_WH[1]) for x in wall]
        cloth = draw_cloth(np.random.default_rng(1), 1)
        canvas.paint(corners, [2] * 4, cloth, THING, SIZE_WH[1])
    rows, track_ids = [], []
    for index, figure in enumerate(figures):
        row = annotate_person(canvas, figure, index)
        if row is not None and row["area"] >= MIN_VISIBLE * figure.scale**2:
            rows.append(row)
            track_ids.append(index + 1)
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = np.array([row["keypoints"] for row in rows], np.float32).reshape(-1, 17, 3)
    picture = np.clip(canvas.image + 0.5, 0, 255).astype(np.uint8)
    ids = np.array(track_ids, np.int64)
    return DrawnFrame(picture, keypoints[..., :2], keypoints[..., 2], boxes, ids)


def _line(start_x: float, speed: float, foot_y: float, scale: float) -> Path:
    """A straight walk across the picture at `speed` pixels a frame."""
    return lambda frame: (start_x + speed * frame, foot_y, scale)


def crossing(seed: int = 0, frames: int = 64) -> Iterator[DrawnFrame]:
    """Two people walk past each other; the nearer one hides the other for a moment."""
    _, background, (one, two) = _start("crossing", seed, 2)
    walkers = [Walker(one, _line(45, 4.6, 226, 165)), Walker(two, _line(340, -4.6, 236, 172), 1.3)]
    for frame in range(frames):
        yield _render(background, walkers, frame)


def occlusion(seed: int = 0, hidden: int = 5) -> Iterator[DrawnFrame]:
    """Somebody is behind a wall for about `hidden` frames; somebody else stands beside it."""
    _, background, (one, two) = _start(f"occlusion{hidden}", seed, 2)
    speed = float(np.clip(110 / (hidden + 12), 2.5, 6))
    walkers = [Walker(one, _line(30, speed, 228, 150)), Walker(two, _line(350, 0, 232, 155))]
    for frame in range(int(290 / speed)):
        wall = (150, 150 + 45 + speed * hidden)
        yield _render(background, walkers, frame, wall=wall)


def camera_shake(seed: int = 0, frames: int = 60) -> Iterator[DrawnFrame]:
    """Three people, filmed by an unsteady hand: a slow drift and a jump in every frame."""
    rng, background, looks = _start("camera_shake", seed, 3)
    paths = [_line(70, 1.1, 224, 150), _line(205, 0, 236, 165), _line(330, -0.8, 228, 155)]
    walkers = [Walker(look, path) for look, path in zip(looks, paths, strict=True)]
    drift = 7 * np.sin(np.arange(frames)[:, None] / (7, 9)) + rng.normal(0, 3.5, (frames, 2))
    for frame, camera_xy in enumerate(np.clip(drift, -MARGIN, MARGIN)):
        yield _render(background, walkers, frame, camera_xy)


def leave_and_return(seed: int = 0, away: int = 12) -> Iterator[DrawnFrame]:
    """Somebody leaves the picture and is back about `away` frames later; somebody else stays."""
    _, background, (one, two) = _start("leave_and_return", seed, 2)
    turn = 34 + away // 2
    walkers = [
        Walker(one, lambda frame: (235 + 5 * (turn - abs(frame - turn)), 230, 160)),
        Walker(two, _line(110, 0.6, 226, 152)),
    ]
    for frame in range(2 * turn):
        yield _render(background, walkers, frame)


def scale_change(seed: int = 0, frames: int = 60) -> Iterator[DrawnFrame]:
    """One person comes nearer and grows to nearly three times the size, another walks away."""
    _, background, (one, two) = _start("scale_change", seed, 2)

    def path(x: float, foot_y: float, first: float, last: float) -> Path:
        def place(frame: float) -> tuple[float, float, float]:
            growth = (last / first) ** (frame / frames)
            return x, foot_y + 0.22 * first * (growth - 1), first * growth

        return place

    walkers = [Walker(one, path(120, 205, 75, 205)), Walker(two, path(290, 243, 190, 80), 0.7)]
    for frame in range(frames):
        yield _render(background, walkers, frame)


SCENARIOS: dict[str, Callable[[int], Iterator[DrawnFrame]]] = {
    "crossing": crossing,
    "occlusion_5": partial(occlusion, hidden=5),
    "occlusion_20": partial(occlusion, hidden=20),
    "camera_shake": camera_shake,
    "leave_and_return": leave_and_return,
    "scale_change": scale_change,
}
"""Name -> generator function of one seed."""


def endless(seed: int = 0, size_wh: tuple[int, int] = (160, 112), period: int = 50) -> Iterator:
    """(H, W, 3) uint8 pictures of two people who walk to and fro for ever.

    They are repeated after one period, so a picture costs next to nothing.
    """
    _, background, looks = _start("endless", seed, 2)
    # An even number of steps a period.
    step = 2 * np.pi * round(0.42 * period / (2 * np.pi)) / period

    def path(x: float, reach: float, foot_y: float, offset: float) -> Path:
        return lambda frame: (
            x + reach * np.sin(2 * np.pi * (frame / period + offset)),
            foot_y,
            150,
        )

    paths = (path(110, 55, 226, 0), path(285, 50, 234, 0.3))
    walkers = [Walker(look, path, 0, step) for look, path in zip(looks, paths, strict=True)]
    pictures = [_render(background, walkers, frame).image for frame in range(period)]
    for picture in cycle(pictures):
        yield cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
