"""Poses as other libraries' values."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from simplepose.errors import need
from simplepose.schema import KeypointSchema
from simplepose.structures import Poses


def to_supervision(poses: Poses) -> tuple[Any, Any]:
    """`supervision.KeyPoints` and `supervision.Detections` of the same people in the same order; track ids travel as `tracker_id`.

    Raises:
        UserError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise need("supervision", "supervision", "Poses.to_supervision()") from error
    parameters = inspect.signature(supervision.KeyPoints).parameters
    score = "keypoint_confidence" if "keypoint_confidence" in parameters else "confidence"  # renamed in supervision 0.29
    keypoints = supervision.KeyPoints(
        xy=np.array(poses.keypoints), class_id=np.zeros(len(poses), int), **{score: np.array(poses.keypoint_scores)}
    )
    detections = supervision.Detections(
        xyxy=np.array(poses.boxes_xyxy),
        confidence=np.array(poses.scores),
        class_id=np.zeros(len(poses), int),
        tracker_id=None if poses.track_ids is None else np.array(poses.track_ids),
    )
    return keypoints, detections


def to_pandas(poses: Poses, schema: KeypointSchema) -> Any:
    """A `pandas.DataFrame` with one row a person and keypoint: person, track_id, keypoint, x, y, score.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise need("pandas", "tables", "poses as a table") from error
    people, count = len(poses), len(schema)
    ids = np.full(people, -1) if poses.track_ids is None else poses.track_ids
    return pandas.DataFrame(
        {
            "person": np.repeat(np.arange(people), count),
            "track_id": np.repeat(ids, count),
            "keypoint": np.tile(np.array(schema.keypoints), people),
            "x": poses.keypoints[..., 0].ravel(),
            "y": poses.keypoints[..., 1].ravel(),
            "score": poses.keypoint_scores.ravel(),
        }
    )
