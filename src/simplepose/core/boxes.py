"""Boxes in pixels, (N, 4).

`bbox_xywh` is COCO's left, top, width, height; `boxes_xyxy` is left, top, right, bottom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from simplepose.core.errors import UserError


def xywh_to_xyxy(bbox_xywh: ArrayLike) -> np.ndarray:
    """(..., 4) left, top, width, height -> left, top, right, bottom."""
    boxes = np.asarray(bbox_xywh)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, right, bottom -> left, top, width, height."""
    boxes = np.asarray(boxes_xyxy)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...) areas; a box turned inside out has area 0."""
    boxes = np.asarray(boxes_xyxy)
    return np.asarray(np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1))


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: (N, 4), (M, 4) xyxy -> (N, M); two empty boxes: 0."""
    boxes_a, boxes_b = np.asarray(boxes_a, np.float64), np.asarray(boxes_b, np.float64)
    width, height = (
        np.minimum(boxes_a[:, None, axis + 2], boxes_b[:, axis + 2])
        - np.maximum(boxes_a[:, None, axis], boxes_b[:, axis])
        for axis in range(2)
    )
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    union: np.ndarray = area(boxes_a)[:, None] + area(boxes_b)[None, :] - intersection
    return np.asarray(
        np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    )


def nms(boxes_xyxy: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression: indices kept, best score first.

    A box goes when its IoU with a kept one exceeds `threshold`.
    """
    over = iou(boxes_xyxy, boxes_xyxy) > threshold
    gone = np.zeros(len(over), bool)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        if not gone[index]:
            kept.append(index)
            gone |= over[index]
    return np.array(kept, dtype=np.int64)


def fuse(
    boxes_xyxy: np.ndarray, scores: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """One box of those that several looks at a picture found of the same thing (weighted boxes
    fusion, Solovyev, Wang and Gabruseva 2021, but around the best box of each group, and with
    scores of their own).

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,), above 0.
        threshold: boxes whose IoU with the best one exceeds it are of its group.

    Returns:
        boxes (M, 4), means of the groups weighted by their scores, and scores (M,), the mean of a
        group's two best, half of it where it has one; in the order of the groups' best boxes.
    """
    like = iou(boxes_xyxy, boxes_xyxy) > threshold
    free = np.ones(len(like), bool)
    groups: list[np.ndarray] = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        if free[index]:
            groups.append(np.flatnonzero(free & like[index]))
            free[groups[-1]] = False
    fused = [np.average(boxes_xyxy[group], axis=0, weights=scores[group]) for group in groups]
    means = [np.sort(scores[group])[-2:].sum() / 2 for group in groups]
    return np.array(fused, boxes_xyxy.dtype).reshape(-1, 4), np.array(means, scores.dtype)


def validate_xyxy(boxes_xyxy: np.ndarray, source: str) -> np.ndarray:
    """(N, 4) float64 of finite boxes with positive sides.

    Args:
        boxes_xyxy: (N, 4) or empty.
        source: where the boxes came from, for the message.

    Raises:
        UserError: names the first box that is NaN, infinite, or has no positive width and height.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(
            f"{source}: boxes_xyxy has shape {boxes.shape}, expected (N, 4). "
            "Cure: pass left, top, right, bottom for each person"
        )
    good = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not good.all():
        index = int(np.argmin(good))
        raise UserError(
            f"{source}: box {index} has no positive and finite width and height: "
            f"{boxes[index].tolist()} (xyxy). Cure: remove or correct that box"
        )
    return boxes
