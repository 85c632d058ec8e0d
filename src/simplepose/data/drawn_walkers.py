"""People who walk through a drawn video: a look, a path, and the rendering of one frame with the truth about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from simplepose.data.drawn_body import Proportions, Skeleton, skeleton, walking
from simplepose.data.drawn_figure import Look, draw_fabric, draw_look, paint_person
from simplepose.data.drawn_paint import Canvas
from simplepose.data.drawn_scenery import paint_panel
from simplepose.data.synthetic_scene import annotate

Path = Callable[[float], tuple[float, float, float]]
"""Frame number -> x and y of the feet, and pixels of one body unit."""
SIZE_WH = (384, 256)
MIN_VISIBLE = 0.03
"""Visible pixels, as a share of the squared height, below which a person counts as hidden: about a seventh of a whole silhouette."""


class DrawnFrame(NamedTuple):
    """One frame and the truth about it, N people."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    keypoints: np.ndarray
    """(N, 17, 2) float32, pixels, COCO order; hidden keypoints too."""
    visibility: np.ndarray
    """(N, 17) uint8: 2 visible, 1 hidden, 0 outside the picture."""
    boxes_xyxy: np.ndarray
    """(N, 4) float32, extent of the visible silhouette."""
    track_ids: np.ndarray
    """(N,) int64, from 1."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Walker:
    """One person and where they are: path(frame) -> x of the feet, y of the feet, pixels of a body unit."""

    look: Look
    track_id: int
    path: Path
    phase: float = 0.0
    phase_step: float = 0.42
    """Radians of the walk a frame."""

    def figure(self, frame: int) -> tuple[Skeleton, tuple[float, float], float]:
        """The posed body of a frame, where its feet stand and its scale."""
        here, there = self.path(frame), self.path(frame + 1)
        speed = (there[0] - here[0]) / here[2]
        yaw = float(np.clip(speed * 6000, -72, 72))  # who walks to the right is seen from the side, who stands faces the camera
        growth = there[2] / here[2] - 1
        stride = min(1.0, 45 * (abs(speed) + abs(growth)))
        return skeleton(self.look.body, walking(self.phase + self.phase_step * frame, stride), yaw=yaw, pitch=5), here[:2], here[2]


def textured_look(rng: np.random.Generator) -> Look:
    """A random adult in patterned clothes."""
    return replace(draw_look(rng), body=Proportions(), shirt=draw_fabric(rng, patterned=1.0), trousers=draw_fabric(rng, patterned=0.8))


def render(
    background: np.ndarray,
    walkers: Sequence[Walker],
    frame: int,
    *,
    shift_xy: tuple[float, float] = (0, 0),
    wall: tuple[float, float] | None = None,
    wall_seed: int = 0,
) -> DrawnFrame:
    """Draws one frame.

    Args:
        background: (H + 2m, W + 2m, 3) float32 RGB; the margin m is what the camera can move.
        walkers: the cast; whoever stands lower in the picture is nearer.
        frame: its number.
        shift_xy: how far the camera moved, pixels, at most m.
        wall: left and right edge in pixels of something tall that stands in front of everybody.
        wall_seed: looks of that wall.
    """
    width, height = SIZE_WH
    margin = np.array([background.shape[1] - width, background.shape[0] - height]) // 2
    left, top = margin + np.round(shift_xy).astype(int)
    moved = np.array([left, top]) - margin
    canvas = Canvas(np.ascontiguousarray(background[top : top + height, left : left + width]).copy())
    cast = []
    for walker in walkers:
        figure, foot_xy, scale = walker.figure(frame)
        cast.append((walker, figure, (foot_xy[0] - moved[0], foot_xy[1] - moved[1]), scale))
    cast.sort(key=lambda entry: entry[2][1])
    for index, (walker, figure, foot_xy, scale) in enumerate(cast):
        paint_person(canvas, walker.look, figure, foot_xy, scale, index)
    if wall is not None:
        paint_panel(canvas, np.random.default_rng(wall_seed), (wall[0] - moved[0], -10, wall[1] - moved[0], height + 10))
    rows = []
    for index, (walker, figure, foot_xy, scale) in enumerate(cast):
        person = annotate(canvas, figure, foot_xy, scale, index)
        if person is not None and person.area >= MIN_VISIBLE * scale**2:
            rows.append((walker.track_id, person))
    rows.sort(key=lambda row: row[0])
    boxes = np.array([person.bbox_xywh for _, person in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return DrawnFrame(
        canvas.finish(),
        np.array([person.keypoints for _, person in rows], np.float32).reshape(-1, 17, 2),
        np.array([person.visibility for _, person in rows], np.uint8).reshape(-1, 17),
        boxes,
        np.array([track_id for track_id, _ in rows], np.int64),
    )
