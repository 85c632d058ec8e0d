"""Drawn videos of walking people with exact keypoints and identities, for tracking.

Each scenario of `SCENARIOS` is a generator of `DrawnFrame`; the same seed gives the same frames. People keep their looks, and their
clothes are textured, so optical flow has something to hold on to. Who is hidden (`drawn_walkers.MIN_VISIBLE`) is not listed in a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import cv2
import numpy as np

from simplepose.data.drawn_figure import paint_person
from simplepose.data.drawn_paint import Canvas
from simplepose.data.drawn_scenery import draw_background
from simplepose.data.drawn_walkers import MIN_VISIBLE, SIZE_WH, DrawnFrame, Path, Walker, render, textured_look

MARGIN = 24
"""Pixels of background around the picture that a shaking camera can show."""


def _start(name: str, seed: int) -> tuple[np.random.Generator, np.ndarray]:
    """The source of chance of a scenario, and its background with margins."""
    rng = np.random.default_rng([seed, *name.encode()])
    return rng, draw_background(rng, (SIZE_WH[0] + 2 * MARGIN, SIZE_WH[1] + 2 * MARGIN), clutter=1.5)


def _line(start_x: float, speed: float, foot_y: float, scale: float) -> Path:
    """A straight walk across the picture at `speed` pixels a frame."""
    return lambda frame: (start_x + speed * frame, foot_y, scale)


def crossing(seed: int = 0, frames: int = 64) -> Iterator[DrawnFrame]:
    """Two people walk past each other; the nearer one hides the other for a moment."""
    rng, background = _start("crossing", seed)
    walkers = [
        Walker(look=textured_look(rng), track_id=1, path=_line(45, 4.6, 226, 165)),
        Walker(look=textured_look(rng), track_id=2, path=_line(340, -4.6, 236, 172), phase=1.3),
    ]
    for frame in range(frames):
        yield render(background, walkers, frame)


def occlusion(seed: int = 0, hidden: int = 5) -> Iterator[DrawnFrame]:
    """Somebody walks behind a wall and is hidden for exactly `hidden` frames; somebody else stands beside it all the time."""
    rng, background = _start(f"occlusion{hidden}", seed)
    speed = float(np.clip(110 / (hidden + 12), 2.5, 6))
    walker = Walker(look=textured_look(rng), track_id=1, path=_line(30, speed, 228, 150))
    bystander = Walker(look=textured_look(rng), track_id=2, path=_line(350, 0, 232, 155))
    frames = int(290 / speed)
    wall = _wall(walker, frames, hidden)
    for frame in range(frames):
        yield render(background, [walker, bystander], frame, wall=wall, wall_seed=seed)


def _wall(walker: Walker, frames: int, hidden: int) -> tuple[float, float]:
    """Left and right edge of a wall that hides `walker` for exactly `hidden` frames in a row."""
    width, height = SIZE_WH
    columns, limits = np.zeros((frames, width)), np.zeros(frames)
    for frame in range(frames):
        canvas = Canvas(np.zeros((height, width, 3), np.float32))
        figure, foot_xy, scale = walker.figure(frame)
        paint_person(canvas, walker.look, figure, foot_xy, scale, 0)
        columns[frame] = np.count_nonzero(canvas.owner, axis=0)
        limits[frame] = MIN_VISIBLE * scale**2
    before = np.concatenate([np.zeros((frames, 1)), np.cumsum(columns, 1)], 1)  # pixels left of each column
    for left in range(150, 190):
        right = np.arange(left + 20, min(left + 150, 310))
        seen = before[:, left, None] + before[:, -1:] - before[:, right + 1]  # (frames, walls)
        fitting = right[(seen < limits[:, None]).sum(0) == hidden]
        if len(fitting):
            return float(left), float(fitting[len(fitting) // 2])
    raise AssertionError(f"no wall hides this walker for {hidden} frames")


def camera_shake(seed: int = 0, frames: int = 60, amplitude: float = 7.0) -> Iterator[DrawnFrame]:
    """Three people, filmed by an unsteady hand: a slow drift and a jump of some pixels in every frame."""
    rng, background = _start("camera_shake", seed)
    walkers = [
        Walker(look=textured_look(rng), track_id=1, path=_line(70, 1.1, 224, 150)),
        Walker(look=textured_look(rng), track_id=2, path=_line(205, 0, 236, 165)),
        Walker(look=textured_look(rng), track_id=3, path=_line(330, -0.8, 228, 155), phase=2.0),
    ]
    drift = amplitude * np.sin(np.arange(frames)[:, None] / [7.0, 9.0])
    shifts = np.clip(drift + rng.normal(0, 0.5 * amplitude, (frames, 2)), -MARGIN, MARGIN)
    for frame in range(frames):
        yield render(background, walkers, frame, shift_xy=tuple(shifts[frame]))


def leave_and_return(seed: int = 0, away: int = 12) -> Iterator[DrawnFrame]:
    """Somebody walks out of the picture and comes back about `away` frames later under the same identity; somebody else stays."""
    rng, background = _start("leave_and_return", seed)
    speed, turn = 5.0, 34 + away // 2
    path: Path = lambda frame: (235 + speed * (turn - abs(frame - turn)), 230, 160)  # noqa: E731
    walkers = [
        Walker(look=textured_look(rng), track_id=1, path=path),
        Walker(look=textured_look(rng), track_id=2, path=_line(110, 0.6, 226, 152)),
    ]
    for frame in range(2 * turn):
        yield render(background, walkers, frame)


def scale_change(seed: int = 0, frames: int = 60) -> Iterator[DrawnFrame]:
    """One person comes nearer and grows to nearly three times the size, another walks away."""
    rng, background = _start("scale_change", seed)

    def path(x: float, foot_y: float, first: float, last: float) -> Path:
        return lambda frame: (
            x,
            foot_y + 0.22 * first * ((last / first) ** (frame / frames) - 1),
            first * (last / first) ** (frame / frames),
        )

    walkers = [
        Walker(look=textured_look(rng), track_id=1, path=path(120, 205, 75, 205)),
        Walker(look=textured_look(rng), track_id=2, path=path(290, 243, 190, 80), phase=0.7),
    ]
    for frame in range(frames):
        yield render(background, walkers, frame)


SCENARIOS: dict[str, Callable[[int], Iterator[DrawnFrame]]] = {
    "crossing": crossing,
    "occlusion_5": partial(occlusion, hidden=5),
    "occlusion_20": partial(occlusion, hidden=20),
    "camera_shake": camera_shake,
    "leave_and_return": leave_and_return,
    "scale_change": scale_change,
}
"""Name -> generator function of one seed."""


def endless(seed: int = 0, size_wh: tuple[int, int] = (160, 112), period: int = 50) -> Iterator[DrawnFrame]:
    """Two people walk to and fro for ever; after one period the frames are repeated, so a frame costs next to nothing.

    Args:
        seed: the source of chance.
        size_wh: size of the picture, at most `SIZE_WH`.
        period: frames until everything is as it was.
    """
    rng, background = _start("endless", seed)
    factor = np.array(size_wh) / SIZE_WH

    def path(x: float, reach: float, foot_y: float, offset: float) -> Path:
        return lambda frame: (x + reach * np.sin(2 * np.pi * (frame / period + offset)), foot_y, 150.0)

    phase_step = 2 * np.pi * round(0.42 * period / (2 * np.pi)) / period
    walkers = [
        Walker(look=textured_look(rng), track_id=1, path=path(110, 55, 226, 0.0), phase_step=phase_step),
        Walker(look=textured_look(rng), track_id=2, path=path(285, 50, 234, 0.3), phase_step=phase_step),
    ]
    loop = []
    for frame in range(period):
        drawn = render(background, walkers, frame)
        image = cv2.resize(drawn.image, size_wh, interpolation=cv2.INTER_AREA)
        scaled = (drawn.keypoints + 0.5) * factor - 0.5
        loop.append(
            DrawnFrame(
                image,
                scaled.astype(np.float32),
                drawn.visibility,
                (drawn.boxes_xyxy * np.tile(factor, 2)).astype(np.float32),
                drawn.track_ids,
            )
        )
    for frame in count():
        yield DrawnFrame(*(array.copy() for array in loop[frame % period]))
