"""Poses as tables and as other libraries' values."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.atomic import atomic_path
from simplepose.errors import UserError, need
from simplepose.outputs import DIGITS, Line
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


def write_table(path: str | Path, lines: Iterable[Line], schema: KeypointSchema) -> None:
    """One row a person and frame: frame, seconds, track_id, score, box, then x, y, score of each keypoint. `.csv` or `.parquet`.

    Raises:
        UserError: another ending, or pandas is missing (Parquet).
    """
    path = Path(path)
    names = ["frame", "seconds", "track_id", "score", "filled", "left", "top", "right", "bottom"]
    names += [f"{keypoint}_{part}" for keypoint in schema.keypoints for part in ("x", "y", "score")]
    if path.suffix.lower() == ".csv":
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for line in lines:
                writer.writerows(_table_rows(line))
        return
    if path.suffix.lower() != ".parquet":
        raise UserError(f"{path}: tables are .csv or .parquet. Cure: use one of these endings")
    try:
        import pandas
    except ImportError as error:
        raise need("pandas", "tables", "a Parquet table") from error
    frame = pandas.DataFrame([row for line in lines for row in _table_rows(line)], columns=names)
    try:
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary)
    except ImportError as error:
        raise need("pyarrow", "tables", "a Parquet table") from error


def _table_rows(line: Line) -> Iterator[list[Any]]:
    """The rows of one frame."""
    poses = line.poses
    joints = np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], 2).astype(np.float64).round(DIGITS)
    for row in range(len(poses)):
        track_id = None if poses.track_ids is None else int(poses.track_ids[row])
        box = poses.boxes_xyxy[row].astype(np.float64).round(DIGITS).tolist()
        score = round(float(poses.scores[row]), DIGITS)
        yield [line.frame, line.seconds, track_id, score, bool(line.filled[row]), *box, *joints[row].ravel().tolist()]
