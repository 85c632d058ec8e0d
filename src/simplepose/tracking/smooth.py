"""Steadier keypoints: the One Euro filter while a video runs, zero-phase smoothing and gap filling for finished tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from simplepose.core.errors import UserError
from simplepose.core.settings import NotNegative, Positive, settings
from simplepose.core.structures import Poses


@settings("smooth")
class OneEuroConfig:
    """The One Euro filter (Casiez et al., CHI 2012): a low-pass whose cut-off rises with speed, in heights of the person a second."""

    min_cutoff: Positive = 1.0
    """Hertz at rest: lower is steadier, and slower to follow."""
    beta: NotNegative = 5.0
    """Hertz that a speed of one height a second adds to the cut-off."""
    speed_cutoff: Positive = 1.0
    """Hertz of the low-pass on the speed itself."""
    forget_seconds: Positive = 1.0
    """A track not seen for longer starts anew."""


def smoothing_factor(seconds: float, cutoff: np.ndarray | float) -> np.ndarray | float:
    """Weight of the new value of an exponential low-pass with `cutoff` Hertz after `seconds` (Casiez et al., appendix)."""
    r = 2 * np.pi * np.asarray(cutoff) * seconds
    return r / (r + 1)


class PoseSmoother:
    """One Euro filter for each keypoint of each track; call it with the Poses of each frame in order."""

    def __init__(self, config: OneEuroConfig | None = None) -> None:
        self.config = config or OneEuroConfig()
        self._states: dict[
            int, tuple[float, np.ndarray, np.ndarray]
        ] = {}  # seconds, keypoints (K, 2), speed (K, 2)

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same poses with filtered keypoints; `seconds` is the time of the frame.

        Raises:
            UserError: the poses have no track ids.
        """
        if poses.track_ids is None:
            raise UserError("poses without track ids cannot be smoothed. Cure: track them first")
        keypoints = np.array(poses.keypoints)
        for row, track_id in enumerate(poses.track_ids.tolist()):
            keypoints[row] = self._step(
                track_id,
                keypoints[row],
                max(float(np.ptp(keypoints[row], axis=0).max()), 1.0),
                seconds,
            )
        old = [
            track_id
            for track_id, (last, _, _) in self._states.items()
            if seconds - last > self.config.forget_seconds
        ]
        for track_id in old:
            del self._states[track_id]
        return replace(poses, keypoints=keypoints)

    def _step(
        self, track_id: int, measured: np.ndarray, height: float, seconds: float
    ) -> np.ndarray:
        state = self._states.get(track_id)
        passed = seconds - state[0] if state else 0.0
        if state is None or passed <= 0 or passed > self.config.forget_seconds:
            self._states[track_id] = (seconds, measured, np.zeros_like(measured))
            return measured
        _, last, speed = state
        alpha = smoothing_factor(passed, self.config.speed_cutoff)
        speed = alpha * (measured - last) / passed + (1 - alpha) * speed
        cutoff = (
            self.config.min_cutoff
            + self.config.beta * np.linalg.norm(speed, axis=-1, keepdims=True) / height
        )
        weight = smoothing_factor(passed, cutoff)
        filtered = (weight * measured + (1 - weight) * last).astype(np.float32)
        self._states[track_id] = (seconds, filtered, speed)
        return filtered


def fill_gaps(sequence: Sequence[Poses], *, max_gap: int) -> tuple[list[Poses], list[np.ndarray]]:
    """Puts straight-line poses where a track is missing for at most `max_gap` frames between two sightings.

    Returns:
        The sequence, and for each frame (N,) bool: which of its poses were filled in. Filled poses carry the lower scores of the two ends.
    """
    out = [_tracked(poses) for poses in sequence]
    added: list[list[tuple[int, list[np.ndarray]]]] = [[] for _ in out]
    last: dict[int, int] = {}
    for index, poses in enumerate(out):
        for row, track_id in enumerate(poses.track_ids.tolist()):  # type: ignore[union-attr]
            before = last.get(track_id, index)
            if 1 < index - before <= max_gap + 1:
                old = int(np.flatnonzero(out[before].track_ids == track_id)[0])
                for between in range(before + 1, index):
                    share = (between - before) / (index - before)
                    added[between].append(
                        (
                            track_id,
                            [
                                _between(name, out[before], old, poses, row, share)
                                for name in FIELDS
                            ],
                        )
                    )
            last[track_id] = index
    filled = [
        np.arange(len(poses) + len(extra)) >= len(poses)
        for poses, extra in zip(out, added, strict=True)
    ]
    for index, extra in enumerate(added):
        if extra:
            new = {
                name: np.stack([values[place] for _, values in extra])
                for place, name in enumerate(FIELDS)
            }
            known = {name: getattr(out[index], name) for name in FIELDS} if len(out[index]) else {}
            columns = {
                name: np.concatenate([known[name], new[name]]) if known else new[name]
                for name in FIELDS
            }
            out[index] = replace(
                out[index],
                **columns,
                track_ids=np.r_[out[index].track_ids, [track_id for track_id, _ in extra]],
            )
    return out, filled


FIELDS = ("keypoints", "keypoint_scores", "boxes_xyxy", "scores")


def _between(
    name: str, before: Poses, old: int, after: Poses, new: int, share: float
) -> np.ndarray:
    """One field of a filled pose: places on the straight line, the lower of two scores."""
    a, b = getattr(before, name)[old], getattr(after, name)[new]
    return np.minimum(a, b) if "scores" in name else (1 - share) * a + share * b


def smooth_zero_phase(sequence: Sequence[Poses], *, sigma_frames: float = 1.5) -> list[Poses]:
    """Smooths finished tracks without delay: a Gaussian over time, weighted by the keypoint scores, within each unbroken run of a track.

    Args:
        sequence: Poses of each frame, with track ids.
        sigma_frames: width of the Gaussian in frames.

    Raises:
        UserError: the poses have no track ids, or the width is not positive.
    """
    if not sigma_frames > 0:
        raise UserError(f"sigma_frames is {sigma_frames}. Cure: give a positive number of frames")
    out = [_tracked(poses) for poses in sequence]
    keypoints = [np.array(poses.keypoints) for poses in out]
    runs: dict[int, list[list[tuple[int, int]]]] = {}
    for index, poses in enumerate(out):
        for row, track_id in enumerate(poses.track_ids.tolist()):  # type: ignore[union-attr]
            known = runs.setdefault(track_id, [])
            if not known or known[-1][-1][0] != index - 1:
                known.append([])
            known[-1].append((index, row))
    for run in (run for of_track in runs.values() for run in of_track):
        places = np.stack([out[index].keypoints[row] for index, row in run]).astype(
            np.float64
        )  # (L, K, 2)
        weights = (
            np.stack([out[index].keypoint_scores[row] for index, row in run])[..., None].astype(
                np.float64
            )
            + 1e-3
        )
        total = gaussian_filter1d(weights, sigma_frames, axis=0, mode="constant")
        steady = gaussian_filter1d(places * weights, sigma_frames, axis=0, mode="constant") / total
        for step, (index, row) in enumerate(run):
            keypoints[index][row] = steady[step]
    return [replace(poses, keypoints=places) for poses, places in zip(out, keypoints, strict=True)]


def _tracked(poses: Poses) -> Poses:
    """The poses, or the error that says what is missing."""
    if poses.track_ids is None:
        if len(poses):
            raise UserError("poses without track ids cannot be smoothed. Cure: track them first")
        return replace(poses, track_ids=np.zeros(0, np.int64))
    return poses
