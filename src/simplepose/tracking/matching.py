"""The parts of tracking that are pure functions of arrays: boxes around keypoints, boxes joined, pairs chosen."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from simplepose.core.boxes import iou, nms
from simplepose.core.structures import People


def keypoint_boxes(
    keypoints: np.ndarray,
    keypoint_scores: np.ndarray,
    *,
    margin: float = 0.15,
    min_score: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around keypoints, grown by `margin` of their side on each side (Simple Baselines, section 3.2).

    Args:
        keypoints: (N, K, 2).
        keypoint_scores: (N, K); keypoints below `min_score` do not count.
        margin: share of the side added on each side.
        min_score: see above.

    Returns:
        boxes_xyxy (N, 4) float32 and (N,) bool: whether enough keypoints (4, or all there are) told the box.
    """
    keypoints, counted = np.asarray(keypoints, np.float32), np.asarray(keypoint_scores) >= min_score
    low = np.where(counted[..., None], keypoints, np.inf).min(1, initial=np.inf)
    high = np.where(counted[..., None], keypoints, -np.inf).max(1, initial=-np.inf)
    known = (counted.sum(1) >= min(4, keypoints.shape[1])) & (high > low).all(1)
    low, high = (np.where(known[:, None], side, 0).astype(np.float32) for side in (low, high))
    grow = margin * (high - low)
    return np.concatenate([low - grow, high + grow], 1), known


def join_boxes(
    detected: People, propagated: People, threshold: float = 0.5
) -> tuple[People, np.ndarray]:
    """The detector's and the tracker's boxes as one, by NMS (Simple Baselines, section 3.2).

    Returns:
        People, best score first, and (N,) bool: whether the detector saw that person, with its own box or one that NMS took away.
    """
    boxes = np.concatenate([detected.boxes_xyxy, propagated.boxes_xyxy])
    kept = nms(boxes, np.concatenate([detected.scores, propagated.scores]), threshold)
    seen = (iou(boxes[kept], detected.boxes_xyxy) > threshold).any(1) | (kept < len(detected))
    return People(boxes[kept], np.concatenate([detected.scores, propagated.scores])[kept]), seen


def match(
    similarity: np.ndarray, minimum: float, *, hungarian: bool = False
) -> list[tuple[int, int]]:
    """Pairs (row, column) of a (T, N) similarity that are at least `minimum` alike, each row and column at most once.

    Args:
        similarity: larger is more alike.
        minimum: pairs below it are no pairs.
        hungarian: the pairs of largest sum; else greedily the best pair first (Simple Baselines, algorithm 1).
    """
    similarity = np.asarray(similarity, np.float64)
    if hungarian:
        rows, columns = linear_sum_assignment(
            np.where(similarity >= minimum, similarity, 0), maximize=True
        )
        return [
            (int(row), int(column))
            for row, column in zip(rows, columns, strict=True)
            if similarity[row, column] >= minimum
        ]
    pairs: list[tuple[int, int]] = []
    remaining = similarity.copy()
    while remaining.size and remaining.max() >= minimum:
        row, column = np.unravel_index(np.argmax(remaining), remaining.shape)
        pairs.append((int(row), int(column)))
        remaining[row], remaining[:, column] = -np.inf, -np.inf
    return pairs
