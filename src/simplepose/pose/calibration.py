"""Scores that mean something: the probability that a keypoint is right, and a pose's expected OKS.

Fitted on held-out people by logistic regression on the logit of the raw score (Platt 1999): two
numbers each, monotone. Whatever ranks, suppresses or follows poses goes by the raw scores;
calibrated ones are for output. "Right" means that the keypoint's own term of the OKS,
exp(-d^2 / (2 s^2 (2 sigma)^2)), exceeds one half.

Covariances are the second moments of the heatmaps (`codec.spread`) times a factor that falls with
the raw score, fitted by quantile regression (Koenker and Bassett 1978): whatever the tails of the
errors are (people taken for each other, left for right), ellipses hold `COVERED` of the true
positions, of sure keypoints and of unsure ones.

Visibility has one number, the temperature of its softmax (Guo et al. 2017).
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
    visibility_temperature: float | None = None
    """What the visibility head's logits are divided by; None where there is no such head."""

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

    def visibility(self, probabilities: np.ndarray) -> np.ndarray:
        """(..., 3) raw probabilities -> calibrated ones, float32."""
        return tempered(probabilities, self.visibility_temperature or 1).astype(np.float32)

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
    visibility: np.ndarray | None = None
    """(M, K, 3) probabilities, if known."""
    annotated_visibility: np.ndarray | None = None
    """(M, K) 0, 1 or 2; known where `visibility` is."""
    rows: tuple[np.ndarray, np.ndarray] | None = None
    """(M,) each: which annotated people and which poses they are, of those that were matched."""

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
        rows=(people, poses),
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
    temperature = None
    if matches.visibility is not None and matches.annotated_visibility is not None:
        temperature = fit_temperature(matches.visibility, matches.annotated_visibility)
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
        visibility_temperature=temperature,
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


def fit_temperature(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """What logits are divided by so that the classes are likeliest, .05 to 20.

    Args:
        probabilities: (..., C).
        classes: (...) int, of the C.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        likely = tempered(probabilities, float(np.exp(logarithm)))
        right = np.take_along_axis(likely, classes[..., None], -1)
        return float(-np.log(right.clip(1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(..., C) probabilities as if their logits were divided by the temperature, float64."""
    logs = np.log(np.asarray(probabilities, np.float64).clip(1e-12)) / temperature
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def visibility_measures(matches: Matches) -> dict[str, float]:
    """How good the visibility is; empty where none is known or nobody is annotated.

    Returns:
        Over all keypoints of matched people, 0..1: `visibility_accuracy`; `visibility_majority`,
        the accuracy of always saying what is most frequent of that keypoint among these people;
        `visibility_error`, expected calibration error of the likeliest class; `visibility_auc`, of
        a labelled visible and a labelled hidden keypoint the chance that the former is told to be
        more visible (NaN without both).
    """
    seen, truth = matches.visibility, matches.annotated_visibility
    if seen is None or truth is None or not truth.size:
        return {}
    from scipy.stats import rankdata

    right = seen.argmax(-1) == truth
    counts = np.stack([(truth == one).sum(0) for one in range(seen.shape[-1])])
    visible = truth[truth > 0] == 2
    ranks = rankdata((seen[..., 2] / (seen[..., 1] + seen[..., 2]).clip(1e-12))[truth > 0])
    pairs = int(visible.sum()) * int((~visible).sum())
    above = ranks[visible].sum() - visible.sum() * (visible.sum() + 1) / 2
    return {
        "visibility_accuracy": float(right.mean()),
        "visibility_majority": float(counts.max(0).sum() / truth.size),
        "visibility_error": expected_calibration_error(seen.max(-1).ravel(), right.ravel()),
        "visibility_auc": float(above / pairs) if pairs else float("nan"),
    }


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
