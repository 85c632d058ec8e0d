"""Poses as JSON lines, one a frame: written while a video runs, read back frame by frame, so memory does not grow with the length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError
from simplepose.core.files import encode_json, partial_name, readable
from simplepose.core.structures import Frame, Poses

DIGITS = 3
"""Decimals of coordinates and scores in files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One frame of a file of JSON lines."""

    frame: int
    seconds: float
    source: str
    poses: Poses
    filled: np.ndarray
    """(N,) bool: poses that gap filling put in."""


class LinesWriter:
    """Writes poses as JSON lines. Each frame is one line; the file gets its name when it is closed, after an interruption too.

    An error before the first line leaves what had the name before.

    Args:
        path: the .jsonl file.

    Attributes:
        frames: lines written so far.
        saved: whether the file has got its name.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.frames, self.saved = 0, False
        self._partial = partial_name(self.path)
        self._file: IO[bytes] | None = None

    def __enter__(self) -> LinesWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._partial, "wb")
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror}. Cure: choose a folder that is writable and has space"
            ) from error
        return self

    def write(self, frame: Frame, poses: Poses) -> None:
        """Adds the line of one frame."""
        if self._file is None:
            raise UserError(f"{self.path} is not open. Cure: use LinesWriter in a with block")
        try:
            self._file.write(to_line(frame.index, frame.seconds, frame.source, poses))
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror}. Cure: make space on the disk"
            ) from error
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
            if error is None or self.frames:
                os.replace(self._partial, self.path)
                self.saved = True
        except OSError as failure:
            raise UserError(
                f"cannot write {self.path}: {failure.strerror}. Cure: make space on the disk"
            ) from failure
        finally:
            self._partial.unlink(missing_ok=True)


def to_line(
    frame: int, seconds: float, source: str, poses: Poses, filled: np.ndarray | None = None
) -> bytes:
    """One frame as a line: `{"frame", "seconds", "source", "people": [{"track_id", "score", "bbox", "keypoints": [[x, y, score], ...]}]}`.

    `bbox` is x, y, width, height; people that gap filling put in carry `"filled": true`; NaN becomes null.
    Bytes of `source` that are not UTF-8 become `\\xNN`.
    """
    boxes = np.round(xyxy_to_xywh(poses.boxes_xyxy).astype(np.float64), DIGITS).tolist()
    rows = triples(poses.keypoints, poses.keypoint_scores).tolist()
    ids = [None] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    people = [
        {
            "track_id": track_id,
            "score": round(float(score), DIGITS),
            "bbox": box,
            "keypoints": keypoints,
        }
        for track_id, score, box, keypoints in zip(ids, poses.scores, boxes, rows, strict=True)
    ]
    for index in np.flatnonzero(filled) if filled is not None else ():
        people[index]["filled"] = True
    return (
        encode_json(
            {
                "frame": frame,
                "seconds": round(seconds, 4),
                "source": readable(source),
                "people": people,
            }
        )
        + b"\n"
    )


def read_lines(path: str | Path) -> Iterator[Line]:
    """The frames of a file of JSON lines, one at a time.

    Raises:
        UserError: the file is missing, or a line is not whole.
    """
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    value = msgspec.json.decode(text)
                    people = value["people"]
                    rows = np.array([one["keypoints"] for one in people], np.float64)
                    rows = rows.reshape(len(people), -1, 3) if len(people) else np.zeros((0, 0, 3))
                    ids = [one.get("track_id") for one in people]
                    poses = Poses(
                        rows[..., :2],
                        rows[..., 2],
                        xywh_to_xyxy(
                            np.array([one["bbox"] for one in people], np.float64).reshape(-1, 4)
                        ),
                        np.array([one["score"] for one in people], np.float32),
                        None if None in ids else np.array(ids, np.int64),
                    )
                    filled = np.array([one.get("filled", False) for one in people], bool)
                    yield Line(
                        frame=value["frame"],
                        seconds=value["seconds"],
                        source=value["source"],
                        poses=poses,
                        filled=filled,
                    )
                except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{path}: line {number} is not a frame of poses ({error}). Cure: use a whole file"
                    ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error


def triples(keypoints: np.ndarray, third: np.ndarray) -> np.ndarray:
    """(..., K, 2) keypoints and (..., K) scores or flags -> (..., K, 3) float64, rounded as files have them."""
    return np.concatenate([keypoints, third[..., None]], -1).astype(np.float64).round(DIGITS)
