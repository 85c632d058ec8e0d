"""Steadier keypoints: the One Euro filter while a video runs, zero-phase smoothing and gap filling
for finished tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.settings import NotNegative, Positive, settings
from simplepose.core.structures import Poses


@settings("smooth")
class OneEuroConfig:
    """The One Euro filter (Casiez et al., CHI 2012): a low-pass whose cut-off rises with speed, in
    heights of the person a second."""

    min_cutoff: Positive = 1.0
    """Hertz at rest: lower is steadier, and slower to follow."""
    beta: NotNegative = 5.0
    """Hertz that a speed of one height a second adds to the cut-off."""
    speed_cutoff: Positive = 1.0
    """Hertz of the low-pass on the speed itself."""
    forget_seconds: Positive = 1.0
    """A track not seen for longer starts anew."""


def smoothing_factor(seconds: float, cutoff: np.ndarray | float) -> np.ndarray | float:
    """Weight of the new value of an exponential low-pass with `cutoff` Hertz after `seconds`
    (Casiez et al., appendix)."""
    r = 2 * np.pi * cutoff * seconds
    return r / (r + 1)


class PoseSmoother:
    """One Euro filter for each keypoint of each track; call it with the Poses of each frame in
    order."""

    def __init__(self, config: OneEuroConfig | None = None) -> None:
        self.config = config or OneEuroConfig()
        # track id -> seconds, keypoints (K, 2), speed (K, 2)
        self._states: dict[int, tuple[float, np.ndarray, np.ndarray]] = {}

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same poses with filtered keypoints; `seconds` is the time of the frame.

        Raises:
            UserError: the poses have no track ids.
        """
        self._states = {
            track_id: state
            for track_id, state in self._states.items()
            if 0 < seconds - state[0] <= self.config.forget_seconds
        }
        keypoints = np.array(poses.keypoints)
        for track_id, ((_, row),) in sightings([poses]).items():
            keypoints[row] = self._step(track_id, keypoints[row], seconds)
        return replace(poses, keypoints=keypoints)

    def _step(self, track_id: int, measured: np.ndarray, seconds: float) -> np.ndarray:
        """(K, 2) -> (K, 2)."""
        filtered, speed = measured.copy(), np.zeros_like(measured)
        if track_id in self._states:
            before, last, speed = self._states[track_id]
            passed = seconds - before
            alpha = smoothing_factor(passed, self.config.speed_cutoff)
            speed = alpha * (measured - last) / passed + (1 - alpha) * speed
            heights = np.linalg.norm(speed, axis=-1, keepdims=True) / max(
                np.ptp(measured, axis=0).max(), 1.0
            )
            cutoff = self.config.min_cutoff + self.config.beta * heights
            weight = smoothing_factor(passed, cutoff)
            filtered = weight * measured + (1 - weight) * last
        self._states[track_id] = (seconds, filtered, speed)
        return filtered


def fill_gaps(sequence: Sequence[Poses], *, max_gap: int) -> tuple[list[Poses], list[np.ndarray]]:
    """Puts straight-line poses where a track is missing for at most `max_gap` frames between two
    sightings.

    Returns:
        The sequence, and for each frame (N,) bool: which of its poses were filled in. Filled poses
        carry the lower scores of the two ends, and no covariances or visibility (NaN).
    """
    parts = [[poses] for poses in sequence]
    for track in sightings(sequence).values():
        for (before, old), (after, new) in pairwise(track):
            if after - before <= max_gap + 1:
                ends = sequence[before][old], sequence[after][new]
                for index in range(before + 1, after):
                    parts[index].append(_between(*ends, (index - before) / (after - before)))
    filled = [np.arange(len(one) + len(more)) >= len(one) for one, *more in parts]
    return [_join(of_frame) for of_frame in parts], filled


def _unknown(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.full_like(array, np.nan)


def _between(a: Poses, b: Poses, fraction: float) -> Poses:
    """One person on the way from `a` to `b`."""
    return Poses(
        (1 - fraction) * a.keypoints + fraction * b.keypoints,
        np.minimum(a.keypoint_scores, b.keypoint_scores),
        (1 - fraction) * a.boxes_xyxy + fraction * b.boxes_xyxy,
        np.minimum(a.scores, b.scores),
        a.track_ids,
        covariances=_unknown(a.covariances),
        visibility=_unknown(a.visibility),
    )


def _join(parts: list[Poses]) -> Poses:
    """All their people; an empty frame read from a file does not know how many keypoints there
    are."""
    parts = [poses for poses in parts if len(poses)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    names = [name for name, column in parts[0].arrays().items() if column is not None]
    columns = {name: np.concatenate([getattr(one, name) for one in parts]) for name in names}
    return replace(parts[0], **columns)  # type: ignore[arg-type]


def smooth_zero_phase(sequence: Sequence[Poses], *, sigma_frames: float = 1.5) -> list[Poses]:
    """Smooths finished tracks without delay: a Gaussian over time, weighted by the keypoint scores,
    within each unbroken run of a track.

    Args:
        sequence: Poses of each frame, with track ids.
        sigma_frames: width of the Gaussian in frames.

    Raises:
        UserError: the poses have no track ids, or the width is not positive.
    """
    from scipy.ndimage import gaussian_filter1d

    if not sigma_frames > 0:
        raise UserError(f"sigma_frames is {sigma_frames}. Cure: give a positive number of frames")
    steady = [np.array(poses.keypoints) for poses in sequence]
    for track in sightings(sequence).values():
        ends = np.flatnonzero(np.diff(np.array(track)[:, 0]) > 1) + 1
        for run in np.split(np.array(track), ends):
            keypoints = np.array([sequence[index].keypoints[row] for index, row in run], float)
            scores = [sequence[index].keypoint_scores[row] for index, row in run]
            weights = np.array(scores, float)[..., None] + 1e-3
            weighted = np.concatenate([keypoints * weights, weights], -1)  # (L, K, 3)
            total = gaussian_filter1d(weighted, sigma_frames, axis=0, mode="constant")
            for (index, row), values in zip(run, total, strict=True):
                steady[index][row] = values[:, :2] / values[:, 2:]
    return [replace(poses, keypoints=moved) for poses, moved in zip(sequence, steady, strict=True)]


def sightings(sequence: Sequence[Poses]) -> dict[int, list[tuple[int, int]]]:
    """Track id -> frame and row of each sighting.

    Raises:
        UserError: poses without track ids.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for index, poses in enumerate(sequence):
        if poses.track_ids is not None:
            for row, track_id in enumerate(poses.track_ids.tolist()):
                found.setdefault(track_id, []).append((index, row))
        elif len(poses):
            raise UserError("poses without track ids cannot be smoothed. Cure: track them first")
    return found
