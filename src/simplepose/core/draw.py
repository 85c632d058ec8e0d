"""Poses over pictures: limbs, keypoints, boxes, identities, heatmaps.

One hue a person (or a track id, which keeps it from frame to frame); left limbs are lighter, right limbs deeper; the dots say it again:
left amber, right blue, centre white. Lines grow with the person and the picture, so they read on 160x120 and on 4000x3000.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import cv2
import numpy as np

from simplepose.core.draw_text import draw_label
from simplepose.core.errors import UserError
from simplepose.core.images import require_rgb
from simplepose.core.schema import KeypointSchema, schema_with

if TYPE_CHECKING:
    from simplepose.core.structures import Poses

Colour = tuple[int, int, int]

_DOTS: tuple[Colour, Colour, Colour] = ((255, 255, 255), (255, 190, 30), (60, 165, 255))
"""RGB of centre, left and right keypoints."""
_OUTLINE: Colour = (18, 18, 22)
_SHIFT = 4
"""Fractional bits of the coordinates given to OpenCV: sixteenths of a pixel."""


def draw_poses(
    image: np.ndarray,
    poses: Poses,
    schema: KeypointSchema | None = None,
    *,
    keypoint_threshold: float = 0.2,
    limbs: bool = True,
    dots: bool = True,
    boxes: bool = False,
    ids: bool = True,
    scores: bool = False,
    thickness: float = 1.0,
) -> np.ndarray:
    """Draws poses over a copy of the picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        poses: N poses in pixels of that picture; NaN and far-away keypoints are left out or cut at the border.
        schema: skeleton and sides; None takes the known schema with K keypoints (17 COCO, 16 MPII, 15 PoseTrack,
            14 CrowdPose), else dots only.
        keypoint_threshold: keypoints with a lower score are not drawn.
        limbs: draw the lines of the skeleton.
        dots: draw the keypoints.
        boxes: draw the boxes the poses were estimated in.
        ids: write the track ids, where there are any.
        scores: write the pose scores.
        thickness: factor on the width of everything.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        UserError: the picture is not uint8 RGB, or the schema has another number of keypoints.
    """
    require_rgb(image)
    count = poses.keypoints.shape[1]
    if schema is None:
        schema = schema_with(count)
    elif len(schema) != count:
        raise UserError(
            f"schema {schema.name!r} has {len(schema)} keypoints, the poses have {count}. Cure: pass the schema of the poses"
        )
    sides = _sides(schema, count)
    canvas = np.ascontiguousarray(image).copy()
    sizes = _person_sizes(poses, keypoint_threshold)
    for person in np.argsort(-sizes, kind="stable"):  # large people first: small ones stay on top
        number = int(poses.track_ids[person]) if poses.track_ids is not None else int(person)
        colours = person_colours(number)
        width = _line_width(float(sizes[person]), image.shape, thickness)
        keypoints = poses.keypoints[person]
        drawn = np.isfinite(keypoints).all(1) & (
            poses.keypoint_scores[person] >= keypoint_threshold
        )
        if boxes and np.isfinite(poses.boxes_xyxy[person]).all():
            _draw_box(canvas, poses.boxes_xyxy[person], colours[1], width)
        if limbs and schema is not None:
            pairs = [(a, b) for a, b in schema.skeleton if drawn[a] and drawn[b]]
            for edge in (True, False) if _edge(width) else (False,):
                for a, b in pairs:
                    colour = _OUTLINE if edge else colours[_limb_side(sides[a], sides[b])]
                    _draw_line(
                        canvas,
                        keypoints[a],
                        keypoints[b],
                        colour,
                        width + 2 * _edge(width) if edge else width,
                    )
        if dots:
            for row in np.flatnonzero(drawn):
                _draw_dot(canvas, keypoints[row], _DOTS[sides[row]], width)
    for person in np.argsort(-sizes, kind="stable"):
        _draw_tag(canvas, poses, int(person), float(sizes[person]), ids=ids, scores=scores)
    return canvas


def person_colours(number: int) -> tuple[Colour, Colour, Colour]:
    """RGB of the centre, left and right limbs of person or track `number`; neighbours in number are far apart in hue."""
    hue = (0.33 + 0.618034 * number) % 1.0
    tones = ((hue, 0.30, 1.0), ((hue - 0.03) % 1, 0.62, 1.0), ((hue + 0.05) % 1, 0.95, 0.78))
    colours = (colorsys.hsv_to_rgb(*tone) for tone in tones)
    centre, left, right = (
        (round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours
    )
    return centre, left, right


def draw_heatmaps(
    image: np.ndarray,
    heatmaps: np.ndarray,
    to_image: np.ndarray | None = None,
    *,
    peak: float = 1.0,
    opacity: float = 0.75,
) -> np.ndarray:
    """Lays heatmaps over a copy of the picture, dark violet to yellow; where they are low the picture shows.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmaps: (K, h, w) or (h, w) of one person.
        to_image: (2, 3) affine from heatmap pixels to picture pixels; None stretches the maps over the whole picture.
        peak: value that is drawn brightest.
        opacity: of a full peak.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    strongest = np.asarray(heatmaps, np.float32)
    strongest = strongest.max(0) if strongest.ndim == 3 else strongest
    size_wh = image.shape[1], image.shape[0]
    if to_image is None:
        value = cv2.resize(strongest, size_wh, interpolation=cv2.INTER_LINEAR)
    else:
        value = cv2.warpAffine(
            strongest, np.asarray(to_image, np.float64), size_wh, flags=cv2.INTER_LINEAR
        )
    value = np.clip(np.nan_to_num(value) / peak, 0, 1)
    colours = cv2.applyColorMap((255 * value).astype(np.uint8), cv2.COLORMAP_PLASMA)[..., ::-1]
    alpha = (opacity * np.clip(2.2 * value, 0, 1))[..., None]
    return np.round(image * (1 - alpha) + colours * alpha).astype(np.uint8)


def _sides(schema: KeypointSchema | None, count: int) -> np.ndarray:
    """(K,) 0 centre, 1 left, 2 right."""
    sides = np.zeros(count, np.int64)
    for left, right in schema.flip_pairs if schema is not None else ():
        sides[left], sides[right] = 1, 2
    return sides


def _limb_side(first: int, second: int) -> int:
    """A limb belongs to a side when one end does and the other does not belong to the other side."""
    return max(first, second) if 0 in (first, second) or first == second else 0


def _person_sizes(poses: Poses, threshold: float) -> np.ndarray:
    """(N,) diagonal in pixels of the keypoints that are drawn; that of the box where there are fewer than two."""
    sizes = np.zeros(len(poses))
    for person in range(len(poses)):
        points = poses.keypoints[person]
        points = points[np.isfinite(points).all(1) & (poses.keypoint_scores[person] >= threshold)]
        corners = points if len(points) > 1 else poses.boxes_xyxy[person].reshape(2, 2)
        sizes[person] = (
            np.nan_to_num(np.hypot(*(np.nanmax(corners, 0) - np.nanmin(corners, 0))))
            if np.isfinite(corners).any()
            else 0
        )
    return sizes


def _line_width(person: float, shape: tuple[int, ...], factor: float) -> float:
    """Width of a limb in pixels: a share of the person, but never invisible on the picture nor a blot."""
    across = float(np.hypot(shape[0], shape[1]))
    return max(1.0, factor * float(np.clip(0.017 * person, 0.0022 * across, 0.011 * across)))


def _edge(width: float) -> float:
    """Width of the dark outline of a line; hair lines on tiny people have none."""
    return max(1.0, 0.3 * width) if width >= 1.5 else 0.0


def _point(xy: np.ndarray) -> tuple[int, int]:
    x, y = np.round(np.asarray(xy, np.float64) * (1 << _SHIFT)).astype(int)
    return int(x), int(y)


def _draw_line(
    canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, width: float
) -> None:
    """A line with sub-pixel ends, cut to the neighbourhood of the picture first: OpenCV overflows on far-away points."""
    margin = 64 + 4 * int(width)
    size = max(canvas.shape[:2]) + 2 * margin
    ends = np.clip(np.stack([start, end]).astype(np.float64), -1e6, 1e6)
    if (ends < -margin).any() or (ends > size - margin).any():
        whole = [tuple(int(value) for value in point) for point in np.round(ends + margin)]
        inside, first, second = cv2.clipLine((0, 0, size, size), *whole)
        if not inside:
            return
        ends = np.array([first, second], np.float64) - margin
    cv2.line(
        canvas, _point(ends[0]), _point(ends[1]), colour, max(1, round(width)), cv2.LINE_AA, _SHIFT
    )


def _draw_dot(canvas: np.ndarray, xy: np.ndarray, colour: Colour, width: float) -> None:
    """A filled circle with a dark rim, if it lies on the picture."""
    height, length = canvas.shape[:2]
    radius = 0.82 * width if _edge(width) else 0.5
    if not (-radius <= xy[0] <= length + radius and -radius <= xy[1] <= height + radius):
        return
    for size, tone in ((radius + 0.8 * _edge(width), _OUTLINE), (radius, colour)):
        cv2.circle(canvas, _point(xy), round(size * (1 << _SHIFT)), tone, -1, cv2.LINE_AA, _SHIFT)


def _draw_box(canvas: np.ndarray, box_xyxy: np.ndarray, colour: Colour, width: float) -> None:
    left, top, right, bottom = np.asarray(box_xyxy, np.float64)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    thin = max(1.5, 0.6 * width)
    for tone, line in ((_OUTLINE, thin + 2), (colour, thin)):
        for first, second in zip(corners, np.roll(corners, -1, 0), strict=True):
            _draw_line(canvas, first, second, tone, line)


def _draw_tag(
    canvas: np.ndarray, poses: Poses, person: int, size: float, *, ids: bool, scores: bool
) -> None:
    """The track id and score on a plate above the person's box."""
    words = []
    if ids and poses.track_ids is not None:
        words.append(f"#{int(poses.track_ids[person])}")
    if scores:
        words.append(f"{float(poses.scores[person]):.2f}")
    box = poses.boxes_xyxy[person]
    if words and np.isfinite(box).all():
        across = float(np.hypot(*canvas.shape[:2]))
        height = round(
            float(np.clip(0.085 * size, max(11.0, 0.018 * across), max(11.0, 0.045 * across)))
        )
        number = int(poses.track_ids[person]) if poses.track_ids is not None else person
        corner = np.clip(box[:2], -1e6, 1e6)
        draw_label(
            canvas,
            " ".join(words),
            (float(corner[0]), float(corner[1]) - height - 2),
            height,
            plate=person_colours(number)[1],
        )
