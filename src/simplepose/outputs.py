"""What a video run leaves behind: poses as JSON lines while it runs, and from those COCO results and a PoseTrack folder.

The JSON lines are the record; everything else is made from them, frame by frame, so memory does not grow with the length.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import orjson

from simplepose.atomic import atomic_path, write_json
from simplepose.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.errors import UserError
from simplepose.schema import KeypointSchema
from simplepose.structures import Frame, Poses

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


def new_folder(folder: str | Path, *, overwrite: bool = False) -> Path:
    """The output folder, made if need be.

    Raises:
        UserError: it holds something already and `overwrite` is off, or it cannot be made.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder} is not empty. Cure: choose another --output, or add --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}. Cure: choose an output folder that is writable") from error
    return folder


def keep_sources(sources: Iterable[str | Path], outputs: Iterable[Path]) -> None:
    """Refuses to write over a file that is read, under whatever name it is reached.

    Raises:
        UserError: an output is one of the sources.
    """

    def identity(path: str | Path) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    read = {identity(path) for path in sources if os.path.isfile(path)}
    for path in outputs:
        if path.is_file() and identity(path) in read:
            raise UserError(f"{path} is read, and the result would be written over it. Cure: choose another --output")


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
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}.partial{self.path.suffix}")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> LinesWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._partial, "wb")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}. Cure: choose a folder that is writable and has space") from error
        return self

    def write(self, frame: Frame, poses: Poses, filled: np.ndarray | None = None) -> None:
        """Adds the line of one frame."""
        if self._file is None:
            raise UserError(f"{self.path} is not open. Cure: use LinesWriter in a with block")
        try:
            self._file.write(to_line(frame.index, frame.seconds, frame.source, poses, filled))
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}. Cure: make space on the disk") from error
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
            if error is None or self.frames:
                os.replace(self._partial, self.path)
                self.saved = True
        except OSError as failure:
            raise UserError(f"cannot write {self.path}: {failure.strerror}. Cure: make space on the disk") from failure
        finally:
            self._partial.unlink(missing_ok=True)


def to_line(frame: int, seconds: float, source: str, poses: Poses, filled: np.ndarray | None = None) -> bytes:
    """One frame as a line: `{"frame", "seconds", "source", "people": [{"track_id", "score", "bbox", "keypoints": [[x, y, score], ...]}]}`.

    `bbox` is x, y, width, height; people that gap filling put in carry `"filled": true`; NaN becomes null.
    """
    boxes = np.round(xyxy_to_xywh(poses.boxes_xyxy).astype(np.float64), DIGITS).tolist()
    joints = np.round(np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], 2).astype(np.float64), DIGITS).tolist()
    ids = [None] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    people = [
        {"track_id": track_id, "score": round(float(score), DIGITS), "bbox": box, "keypoints": joint}
        for track_id, score, box, joint in zip(ids, poses.scores, boxes, joints, strict=True)
    ]
    for index in np.flatnonzero(filled) if filled is not None else ():
        people[index]["filled"] = True
    return orjson.dumps({"frame": frame, "seconds": round(seconds, 4), "source": source, "people": people}) + b"\n"


def read_lines(path: str | Path) -> Iterator[Line]:
    """The frames of a file of JSON lines, one at a time.

    Raises:
        UserError: the file is missing, or a line is not whole.
    """
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    value = orjson.loads(text)
                    people = value["people"]
                    joints = np.array([one["keypoints"] for one in people], np.float64)
                    joints = joints.reshape(len(people), -1, 3) if len(people) else np.zeros((0, 0, 3))
                    ids = [one.get("track_id") for one in people]
                    poses = Poses(
                        joints[..., :2],
                        joints[..., 2],
                        xywh_to_xyxy(np.array([one["bbox"] for one in people], np.float64).reshape(-1, 4)),
                        np.array([one["score"] for one in people], np.float32),
                        None if None in ids else np.array(ids, np.int64),
                    )
                    filled = np.array([one.get("filled", False) for one in people], bool)
                    yield Line(frame=value["frame"], seconds=value["seconds"], source=value["source"], poses=poses, filled=filled)
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                    raise UserError(f"{path}: line {number} is not a frame of poses ({error}). Cure: use a whole file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error


def write_coco_results(path: str | Path, lines: Iterable[Line]) -> None:
    """COCO keypoint results with `track_id`: `image_id` is the frame's index. No `bbox`: with one, COCO's code measures other areas."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        separator = b"["
        for line in lines:
            joints = np.concatenate([line.poses.keypoints, line.poses.keypoint_scores[..., None]], 2).astype(np.float64)
            for row in range(len(line.poses)):
                entry: dict[str, Any] = {
                    "image_id": line.frame,
                    "category_id": 1,
                    "keypoints": np.round(joints[row], DIGITS).ravel().tolist(),
                    "score": round(float(line.poses.scores[row]), 6),
                }
                if line.poses.track_ids is not None:
                    entry["track_id"] = int(line.poses.track_ids[row])
                file.write(separator + orjson.dumps(entry))
                separator = b",\n"
        file.write(b"[]" if separator == b"[" else b"]")


def write_posetrack_results(folder: str | Path, name: str, lines: Iterable[Line], schema: KeypointSchema) -> Path:
    """One sequence as a PoseTrack18 prediction file, `FOLDER/NAME.json`: images, annotations with `track_id` and `scores`, categories.

    The keypoints are those of `schema`, named in `categories`; track ids count from 0. People who were not followed, those of pictures, have
    none: `simplepose evaluate --no-tracking` scores them.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for line in lines:
        images.append({"id": line.frame, "frame_id": line.frame, "file_name": f"images/{name}/{line.frame:06d}.jpg", "is_labeled": True})
        for row in range(len(line.poses)):
            scores = line.poses.keypoint_scores[row].astype(np.float64)
            joints = np.concatenate([line.poses.keypoints[row], (scores > 0)[:, None]], 1).astype(np.float64)
            entry = {
                "id": len(rows),
                "image_id": line.frame,
                "category_id": 1,
                "bbox": np.round(xyxy_to_xywh(line.poses.boxes_xyxy[row]).astype(np.float64), DIGITS).tolist(),
                "keypoints": np.round(joints, DIGITS).ravel().tolist(),
                "scores": np.round(scores, DIGITS).tolist(),
                "score": round(float(line.poses.scores[row]), 6),
            }
            if line.poses.track_ids is not None:
                entry["track_id"] = int(line.poses.track_ids[row]) - 1
            rows.append(entry)
    skeleton = [[a + 1, b + 1] for a, b in schema.skeleton]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(schema.keypoints), "skeleton": skeleton}
    path = Path(folder) / f"{name}.json"
    write_json(path, {"images": images, "annotations": rows, "categories": [category]})
    return path
