"""Object keypoint similarity: the measure, the suppression and the rescoring built on it.

The formula is that of the COCO keypoint evaluation (cocodataset.org/#keypoints-eval):
`mean_k exp(-d_k^2 / (2 s^2 (2 sigma_k)^2))` with `s^2` the area of the subject and `sigma_k` the
spread of human annotations of keypoint k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simplepose.core.errors import UserError

EPS = float(np.spacing(1.0))
"""Added to areas, as the COCO code does, so that an area of 0 does not divide by zero."""
COVERED = 0.9
"""Fraction of true positions that the ellipses of `Poses.covariances` hold."""
ELLIPSE = -2 * math.log(1 - COVERED)
"""Squared radius of such an ellipse in standard deviations, of a 2-D normal distribution: 4.6."""


def check_sigmas(sigmas: Sequence[float] | np.ndarray, keypoint_count: int) -> np.ndarray:
    """(K,) float64 of the sigmas.

    Raises:
        UserError: not one positive number for each of the `keypoint_count` keypoints.
    """
    array = np.asarray(sigmas, np.float64)
    if array.shape != (keypoint_count,) or not (np.isfinite(array) & (array > 0)).all():
        raise UserError(
            f"there are {keypoint_count} keypoints but {array.size} OKS sigmas, "
            f"or one is not positive: {array.tolist()}. "
            "Cure: give one positive number for each keypoint, from the same schema"
        )
    return array


def oks_terms(
    keypoints: np.ndarray, others: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Each keypoint's part of the OKS, in the operation order of the reference:
    `exp(-d^2 / (2 sigma)^2 / (area + eps) / 2)`.

    Args:
        keypoints: (..., K, 2) float64 x, y in pixels.
        others: (..., K, 2) float64, compared with them; leading axes broadcast.
        areas: (...) float64 square pixels.
        sigmas: (K,) OKS constants, see `check_sigmas`.

    Returns:
        (..., K) float64 in 0..1.
    """
    dx, dy = keypoints[..., 0] - others[..., 0], keypoints[..., 1] - others[..., 1]
    error = (dx * dx + dy * dy) / (2 * sigmas) ** 2 / (areas + EPS)[..., None] / 2
    return np.asarray(np.exp(-error))


def oks(
    keypoints: np.ndarray,
    others: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    visibility: np.ndarray | None = None,
) -> np.ndarray:
    """Similarity of every pair, COCO form: the mean of `oks_terms` over the labelled keypoints.

    Args:
        keypoints: (N, K, 2) x, y in pixels: the annotated people.
        others: (M, K, 2) the people compared with them.
        areas: (N,) square pixels: the area of each annotated person.
        sigmas: (K,) OKS constants.
        visibility: (N, K) of 0, 1, 2; keypoints with 0 do not count. All count where it is None.

    Returns:
        (N, M) float64 in 0..1; 0 for a person without a labelled keypoint. (COCO compares such a
        person by the distance to its doubled box; the evaluators do that, this function does not.)

    Raises:
        UserError: the sigmas do not fit the keypoints.
    """
    first, second = np.asarray(keypoints, np.float64), np.asarray(others, np.float64)
    spreads = check_sigmas(sigmas, first.shape[1])
    terms = oks_terms(first[:, None], second[None], np.asarray(areas, np.float64)[:, None], spreads)
    if visibility is None:
        return np.asarray(terms.mean(-1))
    labelled = (np.asarray(visibility) > 0)[:, None]  # (N, 1, K)
    return np.asarray((terms * labelled).sum(-1) / np.maximum(labelled.sum(-1), 1))


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
) -> np.ndarray:
    """`oks_nms_batch` of one picture: indices of the kept poses, best score first."""
    picture = np.zeros(len(scores), np.int64)
    kept = oks_nms_batch(picture, keypoints, scores, areas, sigmas, threshold)
    order = np.argsort(-np.asarray(scores), kind="stable")
    return np.asarray(order[kept[order]])


def oks_nms_batch(
    image_index: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
) -> np.ndarray:
    """Greedy suppression of duplicates in each picture.

    A pose goes when its OKS with a better kept one of its picture exceeds `threshold`. The form of
    Microsoft's reference: `e = d^2 / (2 sigma)^2 / ((a1 + a2) / 2 + eps) / 2`, the area is that of
    the padded aspect-fixed crop, and every keypoint counts whatever its score. Of two equal scores
    the earlier pose wins.

    Args:
        image_index: (N,) integers: the picture of each pose, in any order.
        keypoints: (N, K, 2) x, y in pixels.
        scores: (N,) confidence of each pose.
        areas: (N,) square pixels of the crops.
        sigmas: (K,) OKS constants.
        threshold: poses more alike than this are one person.

    Returns:
        (N,) bool, True for the kept poses.

    Raises:
        UserError: the sigmas do not fit the keypoints, or a number is not finite.
    """
    keypoints, scores, areas = (np.asarray(a, np.float64) for a in (keypoints, scores, areas))
    for name, array in (("keypoints", keypoints), ("scores", scores), ("areas", areas)):
        if not np.isfinite(array).all():
            raise UserError(
                f"{name} of OKS-NMS contain NaN or infinity. "
                "Cure: check the network's output and the boxes"
            )
    spreads = check_sigmas(sigmas, keypoints.shape[1])
    kept = np.ones(len(scores), bool)
    best_first = np.lexsort((-scores, image_index))  # stable
    _, starts, counts = np.unique(
        np.asarray(image_index)[best_first], return_index=True, return_counts=True
    )
    # Pictures with equally many poses are compared together, a few at a time: what they need stays
    # in the processor's cache. Who is alone has nobody to be compared with.
    for count in np.unique(counts[counts > 1]):
        together = best_first[starts[counts == count, None] + np.arange(count)]
        for poses in np.array_split(together, 1 + together.size * count // 40_000):
            kept[poses] = _suppress(keypoints[poses], areas[poses], spreads, threshold)
    return kept


def _suppress(
    keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """(P, N) bool: the kept ones of N poses, best first, in each of P pictures."""
    (pictures, count), parts = areas.shape, len(sigmas)
    kept = np.ones((pictures, count), bool)
    better, worse = np.triu_indices(count, 1)
    middle = (areas[:, better] + areas[:, worse]) / 2
    # No term is above 1: a few keypoints that are far off show that two poses are two people. They
    # are compared in float32, with more room than its error.
    few = min(parts, math.ceil(parts * (1 - threshold)) + 2)
    x, y = keypoints[:, :, :few].transpose(3, 2, 0, 1).copy()  # (few, P, N) each
    with np.errstate(over="ignore"):
        dx, dy = ((c[..., better] - c[..., worse]).astype(np.float32) for c in (x, y))
        spread = (-8 * sigmas[:few, None, None] ** 2 * (middle + EPS)).astype(np.float32)
        terms = np.exp((dx * dx + dy * dy) / spread)
    picture, pair = np.nonzero(terms.sum(0) > parts * threshold - (parts - few) - 1e-3)
    better, worse = better[pair], worse[pair]
    terms = oks_terms(
        keypoints[picture, better], keypoints[picture, worse], middle[picture, pair], sigmas
    )
    alike = terms.sum(-1) / parts > threshold
    picture, better, worse = picture[alike], better[alike], worse[alike]
    order = np.argsort(better, kind="stable")
    ranks, starts = np.unique(better[order], return_index=True)
    for rank, rows in zip(ranks, np.split(order, starts)[1:], strict=True):
        rows = rows[kept[picture[rows], rank]]
        kept[picture[rows], worse[rows]] = False
    return kept


def rescore(
    box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Person score as both references compute it: box score x mean of the keypoint scores above
    `threshold`, 0 where none is above.

    Args:
        box_scores: (N,) confidence of the detector.
        keypoint_scores: (N, K) confidence of the keypoints.
        threshold: keypoints at or below it do not count.

    Returns:
        (N,) float64.
    """
    keypoint_scores = np.asarray(keypoint_scores, np.float64)
    counted = keypoint_scores > threshold
    mean = np.where(counted, keypoint_scores, 0).sum(-1) / np.maximum(counted.sum(-1), 1)
    return np.asarray(np.asarray(box_scores, np.float64) * mean)
