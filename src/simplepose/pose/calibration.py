"""Scores that mean something: the probability that a keypoint is right, and a pose's expected OKS.

Fitted on held-out people by logistic regression on the logit of the raw score (Platt 1999): two
numbers each, monotone. Whatever ranks, suppresses or follows poses goes by the raw scores;
calibrated ones are for output. "Right" means that the keypoint's own term of the OKS,
exp(-d^2 / (2 s^2 (2 sigma)^2)), exceeds one half.

Covariances are the second moments of the heatmaps (`codec.spread`) times a factor that falls with
the raw score, fitted by quantile regression (Koenker and Bassett 1978): whatever the tails of the
errors are (people taken for each other, left for right), ellipses hold `COVERED` of the true
positions, of sure keypoints and of unsure ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.oks import COVERED, ELLIPSE, oks, oks_terms
from simplepose.core.settings import settings

FEWEST_PEOPLE = 100
"""Fewer held-out people say too little; scores stay raw."""
BINS = 15
"""Of the expected calibration error (Guo et al. 2017)."""


@settings("calibration")
class Calibration:
    """Curves and where they come from; stored in `ModelSpec.calibration`."""

    keypoint_slope: float
    """Factor on the logit of a raw keypoint score."""
    keypoint_offset: float
    """Added to it."""
    pose_slope: float
    """Factor on the logit of a raw person score (box score x mean keypoint score)."""
    pose_offset: float
    """Added to it."""
    people: int
    """Held-out people it was fitted on."""
    error_raw: float
    """Expected calibration error of the raw keypoint scores on them."""
    error: float
    """The same afterwards, on the very people it was fitted on; `simplepose evaluate` measures it
    on others."""
    spread_slope: float | None = None
    """By the logit of a raw keypoint score, in the logarithm of the factor on the second moments of
    its heatmap; None where the network shows none."""
    spread_offset: float | None = None
    """Added to it."""

    def keypoints(self, keypoint_scores: np.ndarray) -> np.ndarray:
        """(..., K) raw scores -> probabilities, float32."""
        curve = self.keypoint_slope * logit(keypoint_scores) + self.keypoint_offset
        return logistic(curve).astype(np.float32)

    def covariances(self, moments: np.ndarray, keypoint_scores: np.ndarray) -> np.ndarray:
        """(..., 2, 2) second moments and (...) raw scores -> calibrated covariances, float32."""
        return np.asarray(moments * self.spread(keypoint_scores), np.float32)

    def spread(self, keypoint_scores: np.ndarray) -> np.ndarray:
        """(...) raw scores -> (..., 1, 1) float64: the factor on second moments."""
        assert self.spread_slope is not None and self.spread_offset is not None
        curve = self.spread_slope * logit(keypoint_scores) + self.spread_offset
        return np.exp(curve)[..., None, None]

    def coverage(self, matches: Matches) -> float:
        """Fraction of labelled keypoints within their ellipses; NaN where there are none.

        Args:
            matches: people with raw scores.
        """
        if self.spread_offset is None or matches.distances is None or not matches.labelled.any():
            return float("nan")
        most = ELLIPSE * self.spread(matches.keypoint_scores)[..., 0, 0]
        return float((matches.distances <= most)[matches.labelled].mean())

    def expected_oks(self, scores: np.ndarray) -> np.ndarray:
        """(N,) raw person scores -> float64: the expected OKS with the nearest annotated person."""
        return logistic(self.pose_slope * logit(scores) + self.pose_offset)


@dataclass(frozen=True, slots=True)
class Matches:
    """What is known of M annotated people that were estimated, and of all D poses."""

    keypoint_scores: np.ndarray
    """(M, K)."""
    right: np.ndarray
    """(M, K) bool."""
    labelled: np.ndarray
    """(M, K) bool: only these count."""
    pose_scores: np.ndarray
    """(D,) raw person scores."""
    pose_oks: np.ndarray
    """(D,) with the most similar annotated person of the picture, 0 where there is none."""
    distances: np.ndarray | None = None
    """(M, K) squared Mahalanobis distance of the true position by the second moments, if known."""

    def __len__(self) -> int:
        return len(self.keypoint_scores)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the keypoint scores; NaN without people."""
        return expected_calibration_error(
            self.keypoint_scores[self.labelled], self.right[self.labelled]
        )


def match_people(
    estimated_image_index: np.ndarray,
    estimated: np.ndarray,
    scores: np.ndarray,
    image_index: np.ndarray,
    annotated: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    moments: np.ndarray | None = None,
) -> Matches:
    """Gives each annotated person the most similar pose of its picture, and each pose its OKS.

    Args:
        estimated_image_index: (D,) picture of each pose.
        estimated: (D, K, 3) x, y and score.
        scores: (D,) of the poses.
        image_index: (N,) picture of each annotated person.
        annotated: (N, K, 3) x, y and visibility; people without a labelled keypoint are left out.
        areas: (N,) square pixels.
        sigmas: (K,).
        moments: (D, K, 2, 2) second moments of the poses' heatmaps, square pixels.
    """
    estimated, areas = np.asarray(estimated, np.float64), np.asarray(areas, np.float64)
    labelled = annotated[..., 2] > 0
    pairs, pose_oks = [], np.zeros(len(estimated))
    for person in np.flatnonzero(labelled.any(1)):
        rows = np.flatnonzero(estimated_image_index == image_index[person])
        if not len(rows):
            continue
        one = slice(person, person + 1)
        truth, found = annotated[one, :, :2], estimated[rows, :, :2]
        alike = oks(truth, found, areas[one], sigmas, labelled[one])[0]
        pairs.append((person, rows[alike.argmax()]))
        pose_oks[rows] = np.maximum(pose_oks[rows], alike)
    people, poses = np.array(pairs, np.int64).reshape(-1, 2).T
    truth, found = annotated[people, :, :2], estimated[poses, :, :2]
    terms = oks_terms(truth, found, areas[people], np.asarray(sigmas))
    distances = None
    if moments is not None:
        off = (truth - found)[..., None]
        distances = (off * np.linalg.solve(moments[poses], off)).sum((-2, -1))
    return Matches(
        estimated[poses, :, 2],
        terms > 0.5,
        labelled[people],
        np.asarray(scores),
        pose_oks,
        distances,
    )


def fit(matches: Matches, source: str) -> Calibration:
    """Fits all curves.

    Args:
        matches: held-out people with raw scores.
        source: names the data in messages.

    Raises:
        UserError: fewer than `FEWEST_PEOPLE` people, or scores that are not finite.
    """
    if len(matches) < FEWEST_PEOPLE:
        raise UserError(
            f"{source} has {len(matches)} people to calibrate on, at least {FEWEST_PEOPLE} are "
            "needed: scores stay raw. Cure: held-out annotations of more people, none of which was "
            "trained on"
        )
    if not (np.isfinite(matches.keypoint_scores).all() and np.isfinite(matches.pose_scores).all()):
        raise UserError(
            f"the network gives scores that are not finite on {source}. Cure: train it again; "
            "scores stay raw"
        )
    raw, right = matches.keypoint_scores[matches.labelled], matches.right[matches.labelled]
    slope, offset = fit_logistic(logit(raw), right.astype(np.float64))
    pose_slope, pose_offset = fit_logistic(logit(matches.pose_scores), matches.pose_oks)
    spread_slope, spread_offset = None, None
    if matches.distances is not None:
        far = np.log(matches.distances[matches.labelled].clip(1e-9) / ELLIPSE)
        spread_slope, spread_offset = fit_quantile(logit(raw), far, COVERED)
    return Calibration(
        keypoint_slope=slope,
        keypoint_offset=offset,
        pose_slope=pose_slope,
        pose_offset=pose_offset,
        people=len(matches),
        error_raw=matches.calibration_error,
        error=expected_calibration_error(logistic(slope * logit(raw) + offset), right),
        spread_slope=spread_slope,
        spread_offset=spread_offset,
    )


def fit_logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of the logistic curve of greatest likelihood.

    A slope of less than .001 is not accepted, so ranks stay.

    Args:
        x: (N,).
        y: (N,) in 0..1, labels or expected values.
    """

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = weights[0] * x + weights[1]
        error = (logistic(z) - y) / len(x)
        return float(np.mean(np.logaddexp(0, z) - y * z)), np.array([error @ x, error.sum()])

    limits = [(1e-3, 1e3), (-1e3, 1e3)]
    from scipy.optimize import minimize

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=limits)
    return float(found.x[0]), float(found.x[1])


def fit_quantile(x: np.ndarray, y: np.ndarray, fraction: float) -> tuple[float, float]:
    """(slope, offset) of the line that `fraction` of the values lie below (quantile regression).

    The slope is -3 to 0.

    Args:
        x: (N,).
        y: (N,).
        fraction: 0..1.
    """

    def offset(slope: float) -> float:
        return float(np.quantile(y - slope * x, fraction))

    def loss(slope: float) -> float:
        above = y - slope * x - offset(slope)
        return float(np.mean(np.maximum(fraction * above, (fraction - 1) * above)))

    from scipy.optimize import minimize_scalar

    slope = float(minimize_scalar(loss, bounds=(-3, 0), method="bounded").x)
    return slope, offset(slope)


def expected_calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of score and fraction of right answers over equal bins of 0..1.

    Weighted by the bins' filling (Guo et al. 2017, eq. 3).

    Args:
        scores: (N,) in 0..1.
        right: (N,) bool.

    Returns:
        0..1; NaN where N is 0.
    """
    if not len(scores):
        return float("nan")
    from hotcoco.metrics import calibration_error

    return float(calibration_error(scores, right, BINS)[0])


def logistic(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-values)), in the dtype of the values."""
    from scipy.special import expit  # takes .2 s, which nobody pays whose scores are raw

    return np.asarray(expit(values))


def logit(probability: np.ndarray) -> np.ndarray:
    """The inverse of `logistic`, float64; 0 and 1 are moved inward by a ten-thousandth."""
    clipped = np.clip(np.asarray(probability, np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
