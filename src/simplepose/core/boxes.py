"""Boxes: `bbox_xywh` is COCO's left, top, width, height; `boxes_xyxy` is left, top, right, bottom. Both (N, 4), pixels."""

from __future__ import annotations

import numpy as np

from simplepose.core.errors import UserError


def xywh_to_xyxy(bbox_xywh: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, width, height -> left, top, right, bottom."""
    bbox_xywh = np.asarray(bbox_xywh)
    return np.concatenate([bbox_xywh[..., :2], bbox_xywh[..., :2] + bbox_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, right, bottom -> left, top, width, height."""
    boxes_xyxy = np.asarray(boxes_xyxy)
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...) areas; a box turned inside out has area 0."""
    sides = np.maximum(np.asarray(boxes_xyxy)[..., 2:] - np.asarray(boxes_xyxy)[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: (N, 4), (M, 4) xyxy -> (N, M); two empty boxes give 0."""
    boxes_a, boxes_b = np.asarray(boxes_a, np.float64), np.asarray(boxes_b, np.float64)
    top_left = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(boxes_a)[:, None] + area(boxes_b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def nms(boxes_xyxy: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression: indices kept, best score first; a box goes when its IoU with a kept one exceeds `threshold`."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    overlap = iou(boxes_xyxy, boxes_xyxy)
    kept: list[int] = []
    alive = np.ones(len(order), bool)
    for index in order:
        if alive[index]:
            kept.append(int(index))
            alive &= overlap[index] <= threshold
    return np.array(kept, dtype=np.int64)


def validate_xyxy(boxes_xyxy: np.ndarray, source: str) -> np.ndarray:
    """(N, 4) float64 of finite boxes with positive sides.

    Args:
        boxes_xyxy: (N, 4) or empty.
        source: where the boxes came from, for the message.

    Raises:
        UserError: names the first box that is NaN, infinite, or has no positive width and height.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(
            f"{source}: boxes_xyxy has shape {boxes.shape}, expected (N, 4). Cure: pass left, top, right, bottom a person"
        )
    finite = np.isfinite(boxes).all(1)
    positive = (boxes[:, 2:] > boxes[:, :2]).all(1)
    for good, problem in (
        (finite, "is not finite"),
        (positive | ~finite, "has no positive width and height"),
    ):
        if not good.all():
            index = int(np.argmin(good))
            raise UserError(
                f"{source}: box {index} {problem}: {boxes[index].tolist()} (xyxy). Cure: remove or correct that box"
            )
    return boxes
