"""One PoseTrack frame with its annotated and predicted people, and what is removed from it before scoring. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simplepose.core.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseTrackFrame:
    """One frame with N annotated and M predicted people, K keypoints."""

    keypoints: np.ndarray
    """(N, K, 2) x, y in pixels."""
    labelled: np.ndarray
    """(N, K) bool, annotated keypoints."""
    head_boxes_xyxy: np.ndarray
    """(N, 4) pixels."""
    track_ids: np.ndarray
    """(N,) whole numbers."""
    predicted_keypoints: np.ndarray
    """(M, K, 2)."""
    predicted: np.ndarray
    """(M, K) bool, keypoints that were reported."""
    predicted_scores: np.ndarray
    """(M, K); NaN, a missing score, counts as the lowest."""
    predicted_track_ids: np.ndarray
    """(M,) whole numbers."""
    ignore_regions: Sequence[np.ndarray] = ()
    """Polygons (V, 2) in which neither annotations nor predictions count."""
    annotated: bool = True
    """False for a frame nobody looked at; it is not scored."""
    areas: np.ndarray | None = None
    """(N,) square pixels, needed for OKS similarity only."""


def inside_regions(points: np.ndarray, regions: Sequence[np.ndarray]) -> np.ndarray:
    """Points (..., 2) strictly inside one of the polygons (V, 2) -> (...) bool; a point on an edge is outside. Even-odd rule."""
    points = np.asarray(points, np.float64)
    result = np.zeros(points.shape[:-1], bool)
    for region in regions:
        start = np.asarray(region, np.float64).reshape(-1, 2)
        if len(start) < 3:
            continue
        side = np.roll(start, -1, axis=0) - start  # (V, 2)
        x, y = (points[..., None, axis] - start[:, axis] for axis in (0, 1))  # (..., V)
        cross = side[:, 0] * y - side[:, 1] * x
        along = (x * side[:, 0] + y * side[:, 1]) / np.maximum((side**2).sum(1), 1e-300)
        on_edge = ((cross == 0) & (along >= 0) & (along <= 1)).any(-1)
        crosses = (y >= 0) != (
            y - side[:, 1] >= 0
        )  # the edge passes the point's height, on its right where the signs agree
        to_the_right = (cross > 0) == (side[:, 1] < 0)
        result |= ((crosses & to_the_right).sum(-1) % 2 == 1) & ~on_edge
    return result


def cleaned(frame: PoseTrackFrame, keypoint_count: int, source: str) -> PoseTrackFrame:
    """The frame with proper arrays, checked."""
    people, predictions = len(frame.track_ids), len(frame.predicted_track_ids)
    wanted = {
        "keypoints": (people, keypoint_count, 2),
        "labelled": (people, keypoint_count),
        "head_boxes_xyxy": (people, 4),
        "predicted_keypoints": (predictions, keypoint_count, 2),
        "predicted": (predictions, keypoint_count),
        "predicted_scores": (predictions, keypoint_count),
    }
    arrays: dict[str, Any] = {name: np.asarray(getattr(frame, name)) for name in wanted}
    for name, shape in wanted.items():
        if arrays[name].size == 0 and 0 in shape:
            arrays[name] = np.zeros(shape, bool if name in ("labelled", "predicted") else float)
        if arrays[name].shape != shape:
            raise UserError(
                f"{source}: {name} has shape {arrays[name].shape}, expected {shape}. Cure: bring the file to the {keypoint_count} keypoints"
            )
    heads = arrays["head_boxes_xyxy"]
    bad = arrays["labelled"].any(1) & ~(
        np.isfinite(heads).all(1) & (heads[:, 2:] != heads[:, :2]).any(1)
    )
    if bad.any():
        raise UserError(
            f"{source}: person {int(np.argmax(bad))} (track {frame.track_ids[int(np.argmax(bad))]}) has no head box, which PCKh needs. "
            "Cure: annotate bbox_head, or score with COCO AP"
        )
    scores = np.where(np.isnan(arrays["predicted_scores"]), -np.inf, arrays["predicted_scores"])
    tracks = {
        name: np.asarray(getattr(frame, name)) for name in ("track_ids", "predicted_track_ids")
    }
    return replace(frame, **{**arrays, **tracks, "predicted_scores": scores})


def without_regions(frame: PoseTrackFrame, exact: bool = False) -> PoseTrackFrame:
    """Removes keypoints in ignore regions, then people without keypoints; `exact`: those only in frames with regions, as poseval does."""
    if exact and not len(frame.ignore_regions):
        return frame
    labelled = frame.labelled & ~inside_regions(frame.keypoints, frame.ignore_regions)
    predicted = frame.predicted & ~inside_regions(frame.predicted_keypoints, frame.ignore_regions)
    return with_keypoints(replace(frame, labelled=labelled, predicted=predicted))


def above(frame: PoseTrackFrame, threshold: float) -> PoseTrackFrame:
    """Removes predicted keypoints with a lower score (a missing score is the lowest), then predictions that have lost all of theirs."""
    predicted = frame.predicted & (frame.predicted_scores >= threshold)
    kept = predicted.any(1) | ~frame.predicted.any(1)
    return _people(replace(frame, predicted=predicted), np.ones(len(frame.keypoints), bool), kept)


def with_keypoints(frame: PoseTrackFrame) -> PoseTrackFrame:
    """Only people with keypoints."""
    return _people(frame, frame.labelled.any(1), frame.predicted.any(1))


def _people(frame: PoseTrackFrame, true: Any, found: Any) -> PoseTrackFrame:
    """Only the people of two boolean masks, (N,) annotated and (M,) predicted."""
    return replace(
        frame,
        keypoints=frame.keypoints[true],
        labelled=frame.labelled[true],
        head_boxes_xyxy=frame.head_boxes_xyxy[true],
        track_ids=frame.track_ids[true],
        areas=None if frame.areas is None else np.asarray(frame.areas)[true],
        predicted_keypoints=frame.predicted_keypoints[found],
        predicted=frame.predicted[found],
        predicted_scores=frame.predicted_scores[found],
        predicted_track_ids=frame.predicted_track_ids[found],
    )
