"""The form of `poses.jsonl`, which `predict` and `track` write and `score` reads: a header, then a
line a picture or frame."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError
from simplepose.core.files import encode_json, readable
from simplepose.core.schema import KeypointSchema
from simplepose.core.shards import RUN, read_rows, read_run
from simplepose.core.structures import Frame, Poses

LINES = "poses.jsonl"
"""Name of the file."""
DIGITS = 3
"""Decimals of coordinates and scores in files."""
Keypoint = tuple[float | None, float | None, float | None]
"""x, y and score, or three other numbers; null where it is not a number."""


class Person(msgspec.Struct, omit_defaults=True):
    """One person of a line."""

    track_id: int | None
    score: float
    bbox: tuple[float, float, float, float]
    keypoints: list[Keypoint]
    filled: bool = False
    """Whether gap filling put the pose in."""
    covariances: list[Keypoint] | None = None
    """xx, xy and yy of each keypoint's `Poses.covariances`, where they are known."""
    visibility: list[Keypoint] | None = None
    """Of each keypoint `Poses.visibility`, where it is known."""


class Header(msgspec.Struct):
    """The first line of a file of JSON lines."""

    keypoints: tuple[str, ...]
    """Names, in the order of each person's keypoints."""
    skeleton: tuple[tuple[int, int], ...]
    """Pairs of keypoints that a line joins, counted from 0."""
    schema: str
    """Name of the schema."""
    weights: str = ""
    """The network's file or run folder, as it was given."""
    preset: str = ""
    """The network's preset."""
    boxes: str = ""
    """Where the boxes are from, as it was given."""


class Line(msgspec.Struct):
    """One picture or frame of a file of JSON lines."""

    frame: int
    """Position in the video, or among the pictures, from 0."""
    seconds: float
    """Time in the video; 0 for pictures."""
    source: str
    """The video or picture as it was given."""
    image_id: int | str
    """Of a video the frame; of a picture see `picture_ids`."""
    width: int
    """Of the picture that the coordinates belong to, upright."""
    height: int
    people: list[Person]

    @property
    def poses(self) -> Poses:
        """Its people as Poses; of a frame without people nobody knows K."""
        if not self.people:
            return Poses.empty(0)
        rows = np.array([one.keypoints for one in self.people], np.float64)
        ids = [one.track_id for one in self.people]
        spread = [one.covariances for one in self.people]
        seen = [one.visibility for one in self.people]
        return Poses(
            rows[..., :2],
            rows[..., 2],
            xywh_to_xyxy([one.bbox for one in self.people]),
            np.array([one.score for one in self.people]),
            None if None in ids else np.array(ids),
            None if None in spread else _matrices(np.array(spread, np.float64)),
            None if None in seen else np.array(seen, np.float64),
        )

    def with_poses(self, poses: Poses, filled: np.ndarray | None = None) -> Line:
        """The line with other people; `filled` (N,) bool."""
        columns = zip(
            poses.track_ids.tolist() if poses.track_ids is not None else [None] * len(poses),
            rounded(poses.scores),
            rounded(xyxy_to_xywh(poses.boxes_xyxy)),
            rounded(np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], -1)),
            [False] * len(poses) if filled is None else filled.tolist(),
            [None] * len(poses) if (c := poses.covariances) is None else rounded(_triples(c)),
            [None] * len(poses) if (v := poses.visibility) is None else rounded(v),
            strict=True,
        )
        people = [Person(*values) for values in columns]
        return msgspec.structs.replace(self, people=people)

    def encoded(self) -> bytes:
        """As the file has it."""
        return encode_json(self) + b"\n"


def line_of(frame: Frame, poses: Poses, image_id: int | str) -> Line:
    """The line of one frame."""
    source, (height, width) = readable(frame.source), frame.image.shape[:2]
    seconds = round(frame.seconds, 4)
    return Line(frame.index, seconds, source, image_id, width, height, []).with_poses(poses)


def header_of(schema: KeypointSchema, **made_by: str) -> Header:
    """The header of poses with these keypoints; `made_by` as the fields of `Header`."""
    told = {name: readable(value) for name, value in made_by.items()}
    return Header(tuple(schema.keypoints), tuple(schema.skeleton), schema.name, **told)


def read_header(path: str | Path) -> Header:
    """The first line of a file of JSON lines, or what the file beside shards says.

    Raises:
        UserError: the file is missing, or begins otherwise.
    """
    if Path(path).name == RUN:
        return msgspec.convert(read_run(path).header, Header)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.readline().removeprefix(BOM_UTF8), type=Header)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error
    except msgspec.DecodeError as error:
        raise UserError(
            f"{path}: line 1 does not name the keypoints ({error}). "
            "Cure: a poses.jsonl of simplepose predict or track"
        ) from error


def read_lines(path: str | Path) -> Iterator[Line]:
    """The frames of a file of JSON lines, or of the shards beside a `RUN` file, one at a time.

    Raises:
        UserError: the file is missing, or a line is not whole.
    """
    if Path(path).name == RUN:
        yield from (msgspec.convert(row, Line) for row in read_rows(Path(path)))
        return
    read_header(path)
    decoder = msgspec.json.Decoder(Line)
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                if number == 1 or text.isspace():
                    continue
                try:
                    yield decoder.decode(text)
                except msgspec.DecodeError as error:
                    raise UserError(
                        f"{path}: line {number} is not a frame of poses ({error}). "
                        "Cure: use a whole file"
                    ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error


def _triples(matrices: np.ndarray) -> np.ndarray:
    """(..., 2, 2) symmetric -> (..., 3): xx, xy, yy."""
    return np.stack([matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]], -1)


def _matrices(triples: np.ndarray) -> np.ndarray:
    """The inverse of `_triples`."""
    return triples[..., [[0, 1], [1, 2]]]


def rounded(values: np.ndarray) -> list[Any]:
    """Plain numbers with `DIGITS` decimals."""
    return list(values.astype(np.float64).round(DIGITS).tolist())
