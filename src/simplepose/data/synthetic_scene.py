"""One drawn picture of several people, with what an annotator would write down about each of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from simplepose.core.boxes import iou
from simplepose.data.drawn_body import Skeleton, draw_posture, skeleton
from simplepose.data.drawn_figure import PARTS, draw_look, paint_person, visible_keypoints
from simplepose.data.drawn_paint import Canvas
from simplepose.data.drawn_scenery import draw_background, paint_occluder, paint_panel

SIZES_WH = ((320, 256), (384, 288), (400, 320), (480, 360), (320, 360))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DrawnPerson:
    """The exact annotation of one person."""

    keypoints: np.ndarray
    """(17, 2) float64 pixels, also of hidden keypoints and those outside the picture."""
    visibility: np.ndarray
    """(17,) int64: 2 visible, 1 hidden, 0 outside the picture."""
    bbox_xywh: tuple[int, int, int, int]
    """Extent of the visible silhouette."""
    area: int
    """Pixels of the visible silhouette."""
    polygons: list[list[float]]
    """Outlines of the visible silhouette, x and y in turn, as COCO writes them."""


def draw_scene(rng: np.random.Generator, people: int) -> tuple[np.ndarray, list[DrawnPerson]]:
    """Draws one picture.

    Args:
        rng: the source of chance.
        people: how many to draw, 1..5.

    Returns:
        (H, W, 3) uint8 RGB, and the people of whom something can be seen.
    """
    size_wh = SIZES_WH[rng.integers(len(SIZES_WH))]
    light = np.array([rng.uniform(-0.6, 0.6), rng.uniform(0.2, 0.6), 0.8])
    canvas = Canvas(draw_background(rng, size_wh), light=light / np.linalg.norm(light))
    pitch, cast = _camera(rng), []
    taken = np.zeros((0, 4))
    for _ in range(people):
        look = draw_look(rng)
        posture_name, posture = draw_posture(rng)
        figure = skeleton(look.body, posture, yaw=_yaw(rng), pitch=pitch, roll=float(rng.normal(0, 3)))
        foot_xy, scale, box = _stand(rng, size_wh, figure.points[:, :2], people, taken)
        taken = np.concatenate([taken, box[None]])
        cast.append((foot_xy[1], foot_xy, scale, look, posture_name, figure))
    cast.sort(key=lambda entry: entry[0])  # whoever stands lower in the picture is nearer
    for index, (_, foot_xy, scale, look, posture_name, figure) in enumerate(cast):
        _shadow(canvas, foot_xy, scale)
        if posture_name == "sit":
            _seat(canvas, rng, figure.points, foot_xy, scale)
        paint_person(canvas, look, figure, foot_xy, scale, index)
        if rng.random() < 0.12:
            paint_occluder(canvas, rng, foot_xy[0] + rng.normal(0, 0.16) * scale, foot_xy[1] + 0.02 * scale, scale)
    image = _develop(rng, canvas)
    found = [annotate(canvas, figure, foot_xy, scale, index) for index, (_, foot_xy, scale, _, _, figure) in enumerate(cast)]
    return image, [person for person in found if person is not None]


def annotate(canvas: Canvas, figure: Skeleton, foot_xy: tuple[float, float], scale: float, index: int) -> DrawnPerson | None:
    """The annotation of person `index` of a finished canvas, or None where nothing of it can be seen."""
    mask = (canvas.owner // PARTS == index + 1).astype(np.uint8)
    area = int(cv2.countNonZero(mask))
    if area == 0:
        return None
    keypoints, visibility = visible_keypoints(canvas, figure, foot_xy, scale, index)
    left, top, width, height = cv2.boundingRect(mask)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [cv2.approxPolyDP(contour, 0.8, True).reshape(-1).astype(float).tolist() for contour in contours]
    return DrawnPerson(
        keypoints=keypoints,
        visibility=visibility,
        bbox_xywh=(left, top, width, height),
        area=area,
        polygons=[outline for outline in outlines if len(outline) >= 6],
    )


def _camera(rng: np.random.Generator) -> float:
    return float(np.clip(rng.normal(7, 6), -4, 20))


def _yaw(rng: np.random.Generator) -> float:
    """Mostly facing the camera, some from the side, some from behind."""
    kind = rng.choice(3, p=[0.90, 0.06, 0.04])
    return float([rng.normal(0, 18), rng.choice([-1, 1]) * rng.normal(75, 15), 180 + rng.normal(0, 22)][kind])


def _stand(
    rng: np.random.Generator, size_wh: tuple[int, int], points: np.ndarray, people: int, taken: np.ndarray
) -> tuple[tuple[float, float], float, np.ndarray]:
    """Where a figure stands and how large it is: the least crowded of a few tries, at times cut by the border.

    Returns:
        foot position in pixels, pixels of one body unit, box (4,) xyxy of the figure.
    """
    width, height = size_wh
    low, high = points.min(0), points.max(0)  # body units, y up
    tall = height * (rng.uniform(0.62, 0.93) if people <= 2 else rng.uniform(0.45, 0.75))
    scale = max(tall, 90.0) / 1.09
    scale = min(scale, 0.95 * width / (high[0] - low[0] + 0.1), 0.97 * height / (high[1] - low[1] + 0.08))
    if rng.random() < 0.08:
        scale *= 1.35
    best: tuple[float, tuple[float, float], np.ndarray] | None = None
    for _ in range(12):
        pad = 0.04 * scale
        slack = 0.22 * scale if rng.random() < 0.1 else -pad
        x_range = sorted((-slack - low[0] * scale, width + slack - high[0] * scale))
        y_range = sorted((high[1] * scale - slack, height + slack + low[1] * scale))
        x = rng.uniform(*x_range)
        y = y_range[0] + (y_range[1] - y_range[0]) * rng.beta(2, 1.2)
        box = np.array([x + low[0] * scale, y - high[1] * scale, x + high[0] * scale, y - low[1] * scale])
        crowd = float(iou(box[None], taken).max()) if len(taken) else 0.0
        if best is None or crowd < best[0]:
            best = (crowd, (x, y), box)
        if crowd < 0.12:
            break
    assert best is not None  # the first try is always one
    return best[1], scale, best[2]


def _shadow(canvas: Canvas, foot_xy: tuple[float, float], scale: float) -> None:
    """A soft dark patch on the ground; it hides nobody."""
    centre, reach = np.array(foot_xy), scale * np.array([0.3, 0.1])
    window = canvas.window(centre - reach, centre + reach)
    if window is not None:
        rows, columns, x, y = window
        distance = ((x - foot_xy[0]) / (0.26 * scale)) ** 2 + ((y - foot_xy[1]) / (0.07 * scale)) ** 2
        canvas.image[rows, columns] *= (1 - 0.45 * np.clip(1 - distance, 0, 1))[..., None]


def _seat(canvas: Canvas, rng: np.random.Generator, points: np.ndarray, foot_xy: tuple[float, float], scale: float) -> None:
    """Something to sit on, behind the sitter."""
    hips, knees = points[11:13, :2].mean(0), points[13:15, :2].mean(0)
    top = foot_xy[1] - scale * (hips[1] - 0.03)
    middle = foot_xy[0] + scale * (0.75 * hips[0] + 0.25 * knees[0])
    paint_panel(canvas, rng, (middle - 0.17 * scale, top, middle + 0.17 * scale, foot_xy[1] - scale * points[:, 1].min()))


def _develop(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Exposure, softness and grain of a camera."""
    image: np.ndarray = canvas.image * rng.uniform(0.8, 1.12) + rng.normal(0, 8)
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 0.9)))
    image += rng.uniform(0, 5) * rng.standard_normal((*image.shape[:2], 1), np.float32)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
