"""Object keypoint similarity: the measure, the non-maximum suppression and the rescoring built on it. numpy only.

The formula is that of the COCO keypoint evaluation (cocodataset.org/#keypoints-eval): `mean_k exp(-d_k^2 / (2 s^2 (2 sigma_k)^2))` with
`s^2` the area of the subject and `sigma_k` the spread of human annotations of keypoint k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simplepose.core.errors import UserError

EPS = float(np.spacing(1.0))
"""Added to areas, as the COCO code does, so that an area of 0 does not divide by zero."""

CHUNK = 1 << 15
"""Keypoints that `oks_nms_batch` compares at a time: the temporary arrays stay in the processor's cache."""


def check_sigmas(sigmas: Sequence[float] | np.ndarray, keypoint_count: int) -> np.ndarray:
    """(K,) float64 of the sigmas.

    Raises:
        UserError: not one positive number for each of the `keypoint_count` keypoints.
    """
    array = np.asarray(sigmas, np.float64)
    if array.shape != (keypoint_count,):
        raise UserError(
            f"there are {keypoint_count} keypoints but {array.size} OKS sigmas. Cure: give one for each keypoint, from the same schema"
        )
    if not (np.isfinite(array) & (array > 0)).all():
        raise UserError(
            f"OKS sigmas must be positive numbers, got {array.tolist()}. Cure: correct the schema's sigmas"
        )
    return array


def oks_terms(
    keypoints: np.ndarray, others: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Each keypoint's share of the OKS, `exp(-d^2 / (2 sigma)^2 / (area + eps) / 2)` in the operation order of the reference.

    Args:
        keypoints: (..., K, 2) float64 x, y in pixels.
        others: (..., K, 2) float64, compared with them; leading axes broadcast.
        areas: (...) float64 square pixels.
        sigmas: (K,) OKS constants, see `check_sigmas`.

    Returns:
        (..., K) float64 in 0..1.
    """
    dx, dy = keypoints[..., 0] - others[..., 0], keypoints[..., 1] - others[..., 1]
    return np.exp(-((dx * dx + dy * dy) / (2 * sigmas) ** 2 / (areas + EPS)[..., None] / 2))


def oks(
    keypoints: np.ndarray,
    others: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    visibility: np.ndarray | None = None,
) -> np.ndarray:
    """Similarity of every pair, COCO form: `e = d^2 / (2 sigma)^2 / (area + eps) / 2`, mean of `exp(-e)` over the labelled keypoints.

    Args:
        keypoints: (N, K, 2) x, y in pixels: the annotated people.
        others: (M, K, 2) the people compared with them.
        areas: (N,) square pixels: the area of each annotated person.
        sigmas: (K,) OKS constants.
        visibility: (N, K) of 0, 1, 2; keypoints with 0 do not count. All count where it is None.

    Returns:
        (N, M) float64 in 0..1; 0 for a person without a labelled keypoint. (COCO compares such a person by the distance to its doubled box;
        the evaluators do that, this function does not.)

    Raises:
        UserError: the sigmas do not fit the keypoints.
    """
    keypoints, others = _poses(keypoints, "keypoints"), _poses(others, "others")
    if keypoints.shape[1] != others.shape[1]:
        raise UserError(
            f"cannot compare {keypoints.shape[1]} with {others.shape[1]} keypoints. Cure: bring both to one schema"
        )
    spreads = check_sigmas(sigmas, keypoints.shape[1])
    similarity = oks_terms(
        keypoints[:, None], others[None], np.asarray(areas, np.float64)[:, None], spreads
    )  # (N, M, K)
    if visibility is None:
        return similarity.mean(-1)
    labelled = (np.asarray(visibility) > 0)[:, None]  # (N, 1, K)
    return (similarity * labelled).sum(-1) / np.maximum(labelled.sum(-1), 1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
) -> np.ndarray:
    """Greedy suppression of one picture's duplicates: a pose goes when its OKS with a better kept one exceeds `threshold`.

    The form of Microsoft's reference: `e = d^2 / (2 sigma)^2 / ((a1 + a2) / 2 + eps) / 2`, the area is that of the padded
    aspect-fixed crop, and every keypoint counts whatever its score. Of two equal scores the earlier pose wins.

    Args:
        keypoints: (N, K, 2) x, y in pixels.
        scores: (N,) confidence of each pose.
        areas: (N,) square pixels of the crops.
        sigmas: (K,) OKS constants.
        threshold: poses more alike than this are one person.

    Returns:
        Indices of the kept poses, best score first.

    Raises:
        UserError: the sigmas do not fit the keypoints, or a number is not finite.
    """
    keypoints, scores, areas, spreads = _nms_input(keypoints, scores, areas, sigmas)
    kept: list[int] = []
    remaining = np.argsort(-scores, kind="stable")
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        alike = _pair_oks(
            keypoints[best], keypoints[remaining], (areas[best] + areas[remaining]) / 2, spreads
        )
        remaining = remaining[alike <= threshold]
    return np.array(kept, np.int64)


def oks_nms_batch(
    image_index: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
) -> np.ndarray:
    """`oks_nms` of many pictures at once, with exactly the same result.

    Pictures with equally many poses are handled together. The greedy choice runs over ranks, all pictures at a time. The few
    keypoints of smallest sigma tell for most pairs that the OKS is below the threshold; only the others are computed in full.

    Args:
        image_index: (N,) integers: the picture of each pose, in any order.
        keypoints: (N, K, 2); scores: (N,); areas: (N,); sigmas: (K,); threshold: as `oks_nms`.

    Returns:
        (N,) bool, True for the kept poses.

    Raises:
        UserError: as `oks_nms`.
    """
    keypoints, scores, areas, spreads = _nms_input(keypoints, scores, areas, sigmas)
    image_index = np.asarray(image_index)
    if image_index.shape != scores.shape:
        raise UserError(
            f"image_index has shape {image_index.shape}, expected {scores.shape}. Cure: pass one picture for each pose"
        )
    kept = np.ones(len(scores), bool)
    order = np.argsort(image_index, kind="stable")
    image_index = image_index[order]
    starts = np.flatnonzero(
        np.r_[True, image_index[1:] != image_index[:-1]][: len(order)]
    )  # (pictures,)
    counts = np.diff(starts, append=len(order))
    for count in np.unique(counts[counts > 1]):
        pictures = order[starts[counts == count][:, None] + np.arange(count)]  # (pictures, count)
        best_first = np.argsort(-scores[pictures], axis=1, kind="stable")
        pictures = np.ascontiguousarray(
            np.take_along_axis(pictures, best_first, 1).T
        )  # (count, pictures)
        step = max(1, CHUNK // (2 * count))
        for begin in range(0, pictures.shape[1], step):
            _suppress(kept, pictures[:, begin : begin + step], keypoints, areas, spreads, threshold)
    return kept


def rescore(
    box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Person score as both references compute it: box score x mean of the keypoint scores above `threshold`, 0 where none is above.

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
    return np.asarray(box_scores, np.float64) * mean


def _poses(keypoints: np.ndarray, name: str) -> np.ndarray:
    """(N, K, 2) float64, or the error that says so."""
    array = np.asarray(keypoints, np.float64)
    if array.ndim != 3 or array.shape[2] != 2:
        raise UserError(
            f"{name} has shape {array.shape}, expected (N, K, 2). Cure: pass x and y of K keypoints for N people"
        )
    return array


def _nms_input(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four arrays as float64, checked."""
    keypoints = _poses(keypoints, "keypoints")
    scores, areas = np.asarray(scores, np.float64), np.asarray(areas, np.float64)
    for name, array in (("scores", scores), ("areas", areas)):
        if array.shape != keypoints.shape[:1]:
            raise UserError(
                f"{name} has shape {array.shape}, expected ({len(keypoints)},). Cure: pass one for each pose"
            )
    for name, array in (("keypoints", keypoints), ("scores", scores), ("areas", areas)):
        if not np.isfinite(array).all():
            raise UserError(
                f"{name} of OKS-NMS contain NaN or infinity. Cure: check the network's output and the boxes"
            )
    return keypoints, scores, areas, check_sigmas(sigmas, keypoints.shape[1])


def _pair_oks(a: np.ndarray, b: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """The mean of `oks_terms` over the keypoints. One function for both forms of NMS: their numbers agree to the last bit."""
    return oks_terms(a, b, area, sigmas).sum(-1) / len(sigmas)


def _suppress(
    kept: np.ndarray,
    poses: np.ndarray,
    keypoints: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    threshold: float,
) -> None:
    """Clears `kept` for the suppressed among `poses` (n, P): a column a picture, best first."""
    lost = len(sigmas) * max(
        1 - threshold, 0
    )  # the OKS is at most the threshold once the keypoints' shares have lost so much,
    misses = int(lost) + 1  # which is so when as many keypoints as this
    farness = (
        -np.log(1 - lost / misses) * (1 + 1e-9) + 1e-12
    )  # have an e above this (and a margin over all rounding)
    sharpest = np.argsort(sigmas, kind="stable")[:misses]
    few = np.ascontiguousarray(
        np.moveaxis(keypoints[poses[..., None], sharpest], (2, 3), (0, 1))
    )  # (S, 2, n, P)
    limit = farness * (2 * sigmas[sharpest, None, None]) ** 2
    area = areas[poses] + EPS  # (n, P)
    for rank in range(len(poses) - 1):  # a pose is settled once all better ones have spoken
        d = few[:, :, rank + 1 :] - few[:, :, rank, None]  # (S, 2, n - rank - 1, P)
        d *= d
        squared = d[:, 0] + d[:, 1]
        far = squared > limit * (area[rank] + area[rank + 1 :])
        undecided = far.sum(0) < misses
        undecided &= kept[poses[rank]]
        below, column = np.nonzero(undecided)
        better, worse = poses[rank, column], poses[rank + 1 + below, column]
        alike = _pair_oks(
            keypoints[better], keypoints[worse], (areas[better] + areas[worse]) / 2, sigmas
        )
        kept[worse[alike > threshold]] = False
