"""Poses over pictures: limbs, keypoints, boxes, identities, heatmaps, labels, contact sheets.

One hue a person (or a track id, which keeps it from frame to frame); left limbs are lighter, right
limbs deeper; the dots say it again: left amber, right blue, centre white. What the network is not
sure of lets the picture through. Lines grow with the person and the picture, so they read on
160x120 and on 4000x3000, and leave the eyes free.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.images import require_rgb
from simplepose.core.oks import ELLIPSE
from simplepose.core.schema import KeypointSchema, schema_with

if TYPE_CHECKING:
    from simplepose.core.structures import Poses

Colour = tuple[int, int, int]
_DOTS: tuple[Colour, Colour, Colour] = ((255, 255, 255), (255, 190, 30), (60, 165, 255))
"""RGB of centre, left and right keypoints."""
_OPACITIES, _SURE = (0.35, 0.65, 1.0), 0.6
"""Of keypoints from the threshold to the score from which they are sure, in equal steps."""
_OUTLINE, _PAPER, _INK = (18, 18, 22), (245, 245, 242), (40, 40, 44)
_SHIFT = 4
"""Fractional bits of the coordinates given to OpenCV: sixteenths of a pixel."""
_FAR = 1e5
"""Coordinates are cut to this: OpenCV overflows on points far away."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 21.0
"""Height in pixels of a capital letter of the font at scale 1."""


def draw_poses(
    image: np.ndarray,
    poses: Poses,
    schema: KeypointSchema | None = None,
    *,
    keypoint_threshold: float = 0.2,
    boxes: bool = False,
    ids: bool = True,
    scores: bool = False,
    ellipses: bool = False,
) -> np.ndarray:
    """Draws poses over a copy of the picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        poses: N poses in pixels of that picture; NaN keypoints are left out.
        schema: skeleton and sides; None takes the known schema with K keypoints (17 COCO, 16 MPII,
            15 PoseTrack, 14 CrowdPose), else dots only.
        keypoint_threshold: keypoints with a lower score are not drawn; those with a little more are
            drawn fainter than the sure ones.
        boxes: draw the boxes the poses were estimated in.
        ids: write the track ids, where there are any.
        scores: write the pose scores.
        ellipses: draw around each keypoint where it is nine times in ten, of poses that know their
            `covariances`.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        UserError: the picture is not uint8 RGB, or the schema has another number of keypoints.
    """
    require_rgb(image)
    if not len(poses):
        return image.copy()
    count = poses.keypoints.shape[1]
    schema = schema or schema_with(count) or _only_dots(count)
    if len(schema) != count:
        raise UserError(
            f"schema {schema.name!r} has {len(schema)} keypoints, the poses have {count}. "
            "Cure: pass the schema of the poses"
        )
    canvas = np.ascontiguousarray(image).copy()
    across = float(np.hypot(*image.shape[:2]))
    drawn = np.isfinite(poses.keypoints).all(-1) & (poses.keypoint_scores >= keypoint_threshold)
    sizes = _sizes(poses.keypoints, drawn, poses.boxes_xyxy)
    # A part of the person, but never invisible on the picture nor a blot.
    widths = np.clip(0.017 * sizes, 0.0022 * across, 0.011 * across).clip(1).tolist()
    order = np.argsort(-sizes, kind="stable")  # large people first: small ones stay on top
    numbers = np.arange(len(poses)) if poses.track_ids is None else poses.track_ids
    points, skeleton = _points(poses.keypoints), _Skeleton(schema)
    limbs = skeleton.limbs_of(points, np.array(widths))
    levels = np.where(drawn, _levels(poses.keypoint_scores, keypoint_threshold), -1)
    for person in order.tolist():
        colours = person_colours(int(numbers[person]))
        if boxes:
            _draw_box(canvas, poses.boxes_xyxy[person], colours[1], 0.6 * widths[person])
        skeleton.draw(
            canvas, points[person], limbs[person], levels[person], colours, widths[person]
        )
        if ellipses and poses.covariances is not None:
            shown = drawn[person]
            spread = poses.covariances[person][shown]
            _draw_ellipses(canvas, poses.keypoints[person][shown], spread, colours[0])
    for person in order[np.isfinite(poses.boxes_xyxy[order]).all(1)]:
        words = [f"#{numbers[person]}"] if ids and poses.track_ids is not None else []
        words += [f"{float(poses.scores[person]):.2f}"] if scores else []
        limits = np.maximum(11, [0.018 * across, 0.045 * across])
        height = round(float(np.clip(0.085 * sizes[person], *limits)))
        left, top = poses.boxes_xyxy[person, :2].clip(-_FAR, _FAR)
        plate = person_colours(int(numbers[person]))[1]
        draw_label(canvas, " ".join(words), (left, top - height - 2), height, plate=plate)
    return canvas


def person_colours(number: int) -> tuple[Colour, Colour, Colour]:
    """RGB of the centre, left and right limbs of person or track `number`; neighbours in number
    are far apart in hue."""
    hue = (0.33 + 0.618034 * number) % 1.0
    tones = (hue, 0.30, 1.0), ((hue - 0.03) % 1, 0.62, 1.0), ((hue + 0.05) % 1, 0.95, 0.78)
    centre, left, right = (_eight_bits(*colorsys.hsv_to_rgb(*tone)) for tone in tones)
    return centre, left, right


def _eight_bits(red: float, green: float, blue: float) -> Colour:
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_heatmaps(
    image: np.ndarray,
    heatmaps: np.ndarray,
    *,
    peak: float = 1.0,
) -> np.ndarray:
    """Lays heatmaps, stretched, over a copy of the picture, dark violet to yellow; where they are
    low the picture shows.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmaps: (K, h, w) or (h, w) of one person.
        peak: value that is drawn brightest.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    strongest = np.asarray(heatmaps, np.float32)
    strongest = strongest.reshape(-1, *strongest.shape[-2:]).max(0)
    value = cv2.resize(strongest, image.shape[1::-1])
    value = np.clip(np.nan_to_num(value) / peak, 0, 1)
    colours = cv2.applyColorMap((255 * value).astype(np.uint8), cv2.COLORMAP_PLASMA)[..., ::-1]
    alpha = (0.75 * np.clip(2.2 * value, 0, 1))[..., None]
    return np.asarray(np.round(image * (1 - alpha) + colours * alpha).astype(np.uint8))


def draw_label(
    image: np.ndarray,
    text: str,
    corner_xy: tuple[float, float],
    height: int,
    *,
    plate: Colour,
    opacity: float = 0.85,
) -> None:
    """Writes `text` on a coloured plate, in place; the plate is moved into the picture where it
    sticks out.

    Args:
        image: (H, W, 3) uint8 RGB, changed.
        text: what to write, question marks where it is not ASCII; an empty text writes nothing.
        corner_xy: top left corner of the plate in pixels.
        height: of the plate in pixels.
        plate: RGB of the plate; the letters are black or white, whatever reads better on it.
        opacity: of the plate.
    """
    if not text:
        return
    text, height = text.encode("ascii", "replace").decode(), max(int(height), 6)
    scale, thickness = 0.58 * height / _CAPITAL, max(1, round(0.085 * height))
    width = cv2.getTextSize(text, _FONT, scale, thickness)[0][0] + round(0.5 * height)
    left = int(np.clip(corner_xy[0], 0, max(image.shape[1] - width, 0)))
    top = int(np.clip(corner_xy[1], 0, max(image.shape[0] - height, 0)))
    patch = image[top : top + height, left : left + width]
    patch[:] = np.round(patch * (1 - opacity) + np.array(plate) * opacity)
    ink = (16, 16, 16) if np.dot(plate, (0.299, 0.587, 0.114)) > 130 else (250, 250, 250)
    base = left + round(0.25 * height), top + round(0.5 * height + 0.5 * scale * _CAPITAL)
    cv2.putText(image, text, base, _FONT, scale, ink, thickness, cv2.LINE_AA)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int = 4,
    titles: Sequence[str] = (),
    *,
    cell_size_wh: tuple[int, int] = (320, 240),
) -> np.ndarray:
    """Pictures in rows of equal cells, each fitted into its cell with its proportions kept.

    Args:
        images: (H, W, 3) uint8 RGB each, at least one.
        columns: cells a row.
        titles: one a picture, cut to the cell's width, or none.
        cell_size_wh: width and height of a cell in pixels.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        UserError: no picture, another number of titles, or fewer than one column.
    """
    if not images or columns < 1 or len(titles) not in (0, len(images)):
        raise UserError(
            f"{len(images)} pictures with {len(titles)} titles in {columns} columns make no sheet. "
            "Cure: at least one picture and one column, and one title a picture or none"
        )
    width, height = cell_size_wh
    line, gap = max(14, round(height * 0.08)) if titles else 0, max(2, height // 40)
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    shape = rows * (line + height + gap) + gap, columns * (width + gap) + gap, 3
    page = np.full(shape, _PAPER, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * (line + height + gap), gap + column * (width + gap)
        if titles:
            strip = page[top : top + line, left : left + width]
            draw_label(strip, titles[index], (0, 1), line - 2, plate=_INK, opacity=1.0)
        factor = min(width / image.shape[1], height / image.shape[0])
        wide, tall = (max(1, round(side * factor)) for side in image.shape[1::-1])
        inner = cv2.resize(
            image, (wide, tall), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        )
        top, left = top + line + (height - tall) // 2, left + (width - wide) // 2
        page[top : top + tall, left : left + wide] = inner
    return page


def _only_dots(count: int) -> KeypointSchema:
    return KeypointSchema(name="dots", keypoints=tuple(map(str, range(count))))


def _sizes(keypoints: np.ndarray, drawn: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N,) diagonal in pixels of the keypoints that are drawn; that of the box where there are
    fewer than two."""
    known = np.where(drawn[..., None], keypoints.astype(np.float64), np.nan)
    with np.errstate(invalid="ignore"):
        sides = np.where(
            (drawn.sum(1) > 1)[:, None],
            np.fmax.reduce(known, 1) - np.fmin.reduce(known, 1),
            boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2],
        )
    return np.asarray(np.nan_to_num(np.hypot(*sides.T)))


def _edge(width: float) -> float:
    """Width of the dark outline of a line; hair lines on tiny people have none."""
    return max(1.0, 0.3 * width) if width >= 1.5 else 0.0


def _radius(width: float) -> float:
    """Of a keypoint's dot between limbs of this width."""
    return 0.82 * width if _edge(width) else 0.5


class _Skeleton:
    """What of a schema is drawn: limbs by side, and the side of each keypoint."""

    def __init__(self, schema: KeypointSchema) -> None:
        self.sides = np.zeros(len(schema), int)  # 0 centre, 1 left, 2 right
        for left, right in schema.flip_pairs:
            self.sides[left], self.sides[right] = (1, 2) if left != right else (0, 0)
        self.limbs = np.array(schema.skeleton, int).reshape(-1, 2)
        ends = self.sides[self.limbs]
        # A limb between left and right belongs to the centre.
        self.limb_sides = np.where(ends.sum(1) == 3, 0, ends.max(1, initial=0))
        self.eyes = np.array(["eye" in name.lower() for name in schema.keypoints], bool)

    def limbs_of(self, points: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """(N, L, 2, 2) ends of the limbs between (N, K, 2) `points`; those at an eye end before
        it, for limbs of (N,) `widths`."""
        ends = points[:, self.limbs]
        along = np.subtract(ends[:, :, 1], ends[:, :, 0], dtype=float)  # (N, L, 2)
        gaps = [3 * _radius(width) + _edge(width) for width in widths.tolist()]
        reach = np.array(gaps)[:, None] * (1 << _SHIFT) / np.maximum(np.hypot(*along.T).T, 1)
        part = np.minimum(reach, 0.4)[..., None] * self.eyes[self.limbs]  # (N, L, 2)
        moved = along[:, :, None] * part[..., None] * [[1], [-1]]
        return np.asarray(np.round(ends + moved).astype(np.int32))

    def draw(
        self,
        canvas: np.ndarray,
        points: np.ndarray,
        limbs: np.ndarray,
        levels: np.ndarray,
        colours: tuple[Colour, Colour, Colour],
        width: float,
    ) -> None:
        """One person, what is unsure first; a limb is as sure as its less sure end.

        Args:
            canvas: changed.
            points: (K, 2) from `_points`.
            limbs: (L, 2, 2) from `limbs_of`.
            levels: (K,) indices of _OPACITIES, -1 where nothing is drawn.
            colours: of centre, left and right limbs.
            width: of limbs in pixels.
        """
        limb_levels = levels[self.limbs].min(1, initial=len(_OPACITIES))
        for level, opacity in enumerate(_OPACITIES):
            dots, lines = np.flatnonzero(levels == level), np.flatnonzero(limb_levels == level)
            if not len(dots) + len(lines):
                continue
            kinds = self.sides[dots], self.eyes[dots], self.limb_sides[lines]
            if opacity == 1:
                _draw_level(canvas, points[dots], limbs[lines], kinds, colours, width)
                continue
            used = np.concatenate([points[dots], limbs[lines].reshape(-1, 2)]) >> _SHIFT
            reach = round(3 * width) + 3
            (left, top), (right, bottom) = (
                np.maximum(side, 0).tolist() for side in (used.min(0) - reach, used.max(0) + reach)
            )
            patch = canvas[top:bottom, left:right]
            if not patch.size:
                continue
            layer, corner = patch.copy(), np.array([left << _SHIFT, top << _SHIFT], np.int32)
            shown = points[dots] - corner, limbs[lines] - corner
            _draw_level(layer, *shown, kinds, colours, width)
            patch[:] = cv2.addWeighted(layer, opacity, patch, 1 - opacity, 0)


def _draw_level(
    canvas: np.ndarray,
    points: np.ndarray,
    limbs: np.ndarray,
    kinds: tuple[np.ndarray, np.ndarray, np.ndarray],
    colours: tuple[Colour, Colour, Colour],
    width: float,
) -> None:
    """The limbs over their outlines, then the dots.

    Args:
        canvas: changed.
        points: (P, 2) from `_points`.
        limbs: (L, 2, 2).
        kinds: the (P,) sides of the points, (P,) whether they are eyes, the (L,) sides of limbs.
        colours: of centre, left and right limbs.
        width: of limbs in pixels.
    """
    sides, eyes, limb_sides = kinds
    edge, radius = _edge(width), _radius(width)
    if edge:
        _draw_lines(canvas, limbs, _OUTLINE, width + 2 * edge)
    for side, colour in enumerate(colours):
        _draw_lines(canvas, limbs[limb_sides == side], colour, width)
    for centre, side, eye in zip(points.tolist(), sides.tolist(), eyes.tolist(), strict=True):
        size = 0.6 * radius if eye else radius
        for each, tone in ((size + 0.8 * edge, _OUTLINE), (size, _DOTS[side])):
            scaled = round(each * (1 << _SHIFT))
            cv2.circle(canvas, centre, scaled, tone, -1, cv2.LINE_AA, _SHIFT)


def _levels(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores -> indices of _OPACITIES."""
    steps = len(_OPACITIES) - 1
    sure = max(_SURE, threshold + 1e-6)
    part = (scores - threshold) / (sure - threshold) * steps
    return np.clip(np.nan_to_num(part), 0, steps).astype(int)


def _draw_box(canvas: np.ndarray, box_xyxy: np.ndarray, colour: Colour, width: float) -> None:
    if np.isfinite(box_xyxy).all():
        corners = _points(box_xyxy[[[0, 1], [2, 1], [2, 3], [0, 3]]])
        sides = np.stack([corners, np.roll(corners, -1, 0)], 1)
        _draw_lines(canvas, sides, _OUTLINE, max(1.5, width) + 2)
        _draw_lines(canvas, sides, colour, max(1.5, width))


def _draw_ellipses(
    canvas: np.ndarray, centres: np.ndarray, covariances: np.ndarray, colour: Colour
) -> None:
    """Hair lines around (P, 2) points, by (P, 2, 2) covariances; those that are not finite are left
    out."""
    known = np.isfinite(covariances).all((1, 2))
    values, vectors = np.linalg.eigh(covariances[known].astype(np.float64))
    axes = vectors * np.sqrt(ELLIPSE * values.clip(0))[:, None]  # columns are half axes
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    outlines = centres[known][:, None] + np.swapaxes(axes @ circle, 1, 2)
    for outline in _points(outlines):
        for tone, width in ((_OUTLINE, 3), (colour, 1)):
            cv2.polylines(canvas, [outline], True, tone, width, cv2.LINE_AA, _SHIFT)


def _draw_lines(canvas: np.ndarray, ends: np.ndarray, colour: Colour, width: float) -> None:
    """Lines between (L, 2, 2) points of `_points`."""
    thickness = max(1, round(width))
    cv2.polylines(canvas, [*ends], False, colour, thickness, cv2.LINE_AA, _SHIFT)


def _points(xy: np.ndarray) -> np.ndarray:
    """Pixels -> OpenCV's integers, int32 of the same shape; NaN, which nobody draws, to 0."""
    cut = np.nan_to_num(np.clip(xy, -_FAR, _FAR).astype(np.float64))
    return np.asarray(np.round(cut * (1 << _SHIFT)).astype(np.int32))
