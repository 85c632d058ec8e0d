"""Both references' arithmetic written out again with numpy, cv2 and loops. Nothing here comes from the package under test.

`tf` is the seed (TF-SimpleHumanPose), `ms` Microsoft's original code. Where the two agree there is one function.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

FAMILIES = ("ms", "tf")
PRESETS = {"ms": "coco_r50_256x192_ms", "tf": "coco_r50_256x192_tf"}
PEAK = {"ms": 1.0, "tf": 255.0}
COCO_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
COCO_SIGMAS = [
    0.026,
    0.025,
    0.025,
    0.035,
    0.035,
    0.079,
    0.079,
    0.072,
    0.072,
    0.062,
    0.062,
    0.107,
    0.107,
    0.087,
    0.087,
    0.089,
    0.089,
]


def clip_box(
    x: float, y: float, w: float, h: float, width: int, height: int
) -> tuple[float, float, float, float]:
    """A training box cut to the picture; its far corner stands at x + w - 1."""
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = (
        min(width - 1.0, left + max(0.0, w - 1)),
        min(height - 1.0, top + max(0.0, h - 1)),
    )
    return left, top, right - left, bottom - top


def region(bbox: Any, size_wh: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Centre and size of the crop's region: aspect first, then x 1.25."""
    x, y, w, h = (float(value) for value in bbox)
    center, aspect = [x + w * 0.5, y + h * 0.5], size_wh[0] / size_wh[1]
    if w > aspect * h:
        h = w / aspect
    elif w < aspect * h:
        w = h * aspect
    return center, [w * 1.25, h * 1.25]


def three_points(
    center: Any, width: float, rotation: float, size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The three pairs of points that define the crop: its centre, the middle of its upper edge at half a *width*, and a right angle."""
    angle = math.radians(rotation)
    up = [
        width * 0.5 * math.sin(angle),
        -width * 0.5 * math.cos(angle),
    ]  # (0, -width/2) turned by the angle
    source = [[center[0], center[1]], [center[0] + up[0], center[1] + up[1]]]
    middle = [size_wh[0] * 0.5, size_wh[1] * 0.5]
    target = [middle, [middle[0], middle[1] - size_wh[0] * 0.5]]
    for points in (source, target):
        (ax, ay), (bx, by) = points
        points.append([bx - (ay - by), by + (ax - bx)])
    return np.array(source), np.array(target)


def affine(center: Any, width: float, rotation: float, size_wh: tuple[int, int]) -> np.ndarray:
    """(2, 3) picture -> crop through three points, solved in double precision."""
    source, target = three_points(center, width, rotation, size_wh)
    system = np.concatenate([source, np.ones((3, 1))], axis=1)
    return np.linalg.solve(system, target).T


def affine_single(
    center: Any, width: float, rotation: float, size_wh: tuple[int, int]
) -> np.ndarray:
    """The same with the points in single precision, as both references pass them to OpenCV."""
    source, target = three_points(center, width, rotation, size_wh)
    return cv2.getAffineTransform(source.astype(np.float32), target.astype(np.float32))


def training_sample(
    picture_bgr: np.ndarray,
    bbox: Any,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    scale: float,
    rotation: float,
    flip: bool,
    size_wh: tuple[int, int],
    pairs: Any = COCO_PAIRS,
    single: bool = False,
    copy: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop (H, W, 3) BGR, keypoints (K, 2) in the crop and visible (K,): the picture itself is mirrored, then warped.

    Without `copy` the mirror is a second matrix: the same pixels but for a rounding in some ten thousand.
    """
    center, (width, _) = region(bbox, size_wh)
    points, seen = np.array(keypoints, np.float64), np.array(visibility)
    if flip:
        mirrored = picture_bgr[:, ::-1]
        center[0] = picture_bgr.shape[1] - 1 - center[0]
        points[:, 0] = picture_bgr.shape[1] - 1 - points[:, 0]
        for a, b in pairs:
            points[[a, b]], seen[[a, b]] = points[[b, a]], seen[[b, a]]
    matrix = (affine_single if single else affine)(center, width * scale, rotation, size_wh)
    if flip and copy:
        crop = cv2.warpAffine(
            np.ascontiguousarray(mirrored), matrix, size_wh, flags=cv2.INTER_LINEAR
        )
    else:
        turn = np.array(
            [
                [-1.0 if flip else 1.0, 0, picture_bgr.shape[1] - 1 if flip else 0],
                [0, 1, 0],
                [0, 0, 1],
            ]
        )
        crop = cv2.warpAffine(
            np.ascontiguousarray(picture_bgr), matrix @ turn, size_wh, flags=cv2.INTER_LINEAR
        )
    moved = np.array([matrix @ [x, y, 1.0] for x, y in points])
    return crop, moved, seen > 0


def normalised(crop_bgr: np.ndarray, family: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR -> (3, H, W) float64 network input."""
    out = np.zeros((3, *crop_bgr.shape[:2]))
    for channel in range(3):
        values = crop_bgr[..., channel].astype(np.float64)
        if family == "tf":
            out[channel] = values - (123.68, 116.78, 103.94)[channel]
        else:
            out[channel] = (values / 255 - (0.485, 0.456, 0.406)[channel]) / (0.229, 0.224, 0.225)[
                channel
            ]
    return out


def targets(
    points: np.ndarray,
    visible: np.ndarray,
    family: str,
    sigma: int,
    size_wh: tuple[int, int],
    map_wh: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """(K, H, W) heatmaps (what the loss sees: masked keypoints are empty) and (K,) weights."""
    (width, height), stride = map_wh, (size_wh[0] / map_wh[0], size_wh[1] / map_wh[1])
    maps, weights = np.zeros((len(points), height, width)), np.zeros(len(points))
    for k, (x, y) in enumerate(points.tolist()):
        if not visible[k]:
            continue
        if family == "tf":
            weights[k] = 0 <= x < size_wh[0] and 0 <= y < size_wh[1]
            cx, cy = (
                math.floor(x / size_wh[0] * width + 0.5),
                math.floor(y / size_wh[1] * height + 0.5),
            )
            if weights[k]:
                for row in range(height):
                    for column in range(width):
                        maps[k, row, column] = 255 * math.exp(
                            -(((column - cx) / sigma) ** 2) / 2 - (((row - cy) / sigma) ** 2) / 2
                        )
        else:
            cx, cy = int(x / stride[0] + 0.5), int(y / stride[1] + 0.5)
            left, top, right, bottom = (
                cx - 3 * sigma,
                cy - 3 * sigma,
                cx + 3 * sigma + 1,
                cy + 3 * sigma + 1,
            )  # right, bottom exclusive
            if left >= width or top >= height or right < 0 or bottom < 0:
                continue
            weights[k] = 1
            for row in range(max(0, top), min(bottom, height)):
                for column in range(max(0, left), min(right, width)):
                    maps[k, row, column] = math.exp(
                        -((column - cx) ** 2 + (row - cy) ** 2) / (2 * sigma**2)
                    )
    return maps, weights


def decode(heatmap: np.ndarray, family: str) -> tuple[float, float, float]:
    """x, y in heatmap pixels and score of one (H, W) map."""
    height, width = heatmap.shape
    best = -math.inf
    for row in range(height):
        for column in range(width):
            if heatmap[row, column] > best:
                best, px, py = float(heatmap[row, column]), column, row
    if family == "ms" and best <= 0:
        px = py = 0
    x, y = float(px), float(py)
    if 1 < px < width - 1 and 1 < py < height - 1:
        right_left = float(heatmap[py, px + 1]) - float(heatmap[py, px - 1])
        below_above = float(heatmap[py + 1, px]) - float(heatmap[py - 1, px])
        x += 0.25 * ((right_left > 0) - (right_left < 0))
        y += 0.25 * ((below_above > 0) - (below_above < 0))
    return x, y, best / PEAK[family]


def flip_mean(plain: np.ndarray, mirrored: np.ndarray, pairs: Any = COCO_PAIRS) -> np.ndarray:
    """(K, H, W) of a crop and of the mirrored crop -> their mean; the mirrored one moves right by a column."""
    back = np.zeros_like(mirrored)
    swap = list(range(len(plain)))
    for a, b in pairs:
        swap[a], swap[b] = b, a
    width = plain.shape[-1]
    for k in range(len(plain)):
        for column in range(width):
            back[k, :, column] = mirrored[swap[k], :, width - 1 - column]
    shifted = back.copy()
    for column in range(1, width):
        shifted[:, :, column] = back[:, :, column - 1]
    return (plain + shifted) / 2


def person_score(box_score: float, keypoint_scores: Any) -> float:
    """Box score x mean of the keypoint scores above .2."""
    counted = [float(score) for score in keypoint_scores if score > 0.2]
    return box_score * sum(counted) / len(counted) if counted else 0.0


def similarity(
    a: np.ndarray, b: np.ndarray, area_a: float, area_b: float, sigmas: Any = COCO_SIGMAS
) -> float:
    """OKS as the references' suppression has it."""
    total = 0.0
    for (ax, ay), (bx, by), sigma in zip(a.tolist(), b.tolist(), sigmas, strict=True):
        e = (
            ((bx - ax) ** 2 + (by - ay) ** 2)
            / (2 * sigma) ** 2
            / ((area_a + area_b) / 2 + float(np.spacing(1)))
            / 2
        )
        total += math.exp(-e)
    return total / len(sigmas)


def suppress(poses: np.ndarray, scores: Any, areas: Any, threshold: float = 0.9) -> list[int]:
    """Greedy: the best stays, everything more alike than the threshold goes."""
    waiting = sorted(range(len(scores)), key=lambda index: -scores[index])
    kept = []
    while waiting:
        best, *waiting = waiting
        kept.append(best)
        waiting = [
            other
            for other in waiting
            if similarity(poses[best], poses[other], areas[best], areas[other]) <= threshold
        ]
    return kept
