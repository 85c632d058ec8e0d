"""What a video run leaves behind: JSON lines, one a frame, and what is made from them: COCO
results, a PoseTrack file, a table.

All but a Parquet table is written and read back frame by frame, so memory does not grow with the
length.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, Self

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path, encode_json, partial_name, readable, write_json
from simplepose.core.schema import KeypointSchema
from simplepose.core.structures import Frame, Poses

DIGITS = 3
"""Decimals of coordinates and scores in files."""
Keypoint = tuple[float | None, float | None, float | None]
"""x, y and score; null where it is not a number."""


class Person(msgspec.Struct, omit_defaults=True):
    """One person of a line."""

    track_id: int | None
    score: float
    bbox: tuple[float, float, float, float]
    keypoints: list[Keypoint]
    filled: bool = False
    """Whether gap filling put the pose in."""


class Line(msgspec.Struct):
    """One frame of a file of JSON lines."""

    frame: int
    seconds: float
    source: str
    people: list[Person]

    @property
    def poses(self) -> Poses:
        """Its people as Poses; of a frame without people nobody knows K."""
        if not self.people:
            return Poses.empty(0)
        rows = np.array([one.keypoints for one in self.people], np.float64)
        ids = [one.track_id for one in self.people]
        return Poses(
            rows[..., :2],
            rows[..., 2],
            xywh_to_xyxy([one.bbox for one in self.people]),
            [one.score for one in self.people],
            None if None in ids else ids,
        )

    def with_poses(self, poses: Poses, filled: np.ndarray | None = None) -> Line:
        """The line with other people; `filled` (N,) bool."""
        columns = zip(
            poses.track_ids.tolist() if poses.track_ids is not None else [None] * len(poses),
            _rounded(poses.scores),
            _rounded(xyxy_to_xywh(poses.boxes_xyxy)),
            _rounded(np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], -1)),
            [False] * len(poses) if filled is None else filled.tolist(),
            strict=True,
        )
        people = [Person(*values) for values in columns]
        return Line(self.frame, self.seconds, self.source, people)

    def encoded(self) -> bytes:
        """As the file has it."""
        return encode_json(self) + b"\n"


def line_of(frame: Frame, poses: Poses) -> Line:
    """The line of one frame."""
    source = readable(frame.source)
    return Line(frame.index, round(frame.seconds, 4), source, []).with_poses(poses)


def _rounded(values: np.ndarray) -> list[Any]:
    return values.astype(np.float64).round(DIGITS).tolist()


class LinesWriter:
    """Writes poses as JSON lines. The file gets its name when it is closed, after an interruption
    too. An error before the first line leaves what had the name before.

    Args:
        path: the .jsonl file.

    Attributes:
        frames, people, track_ids: lines, poses and identities written so far.
        saved: whether the file has got its name.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.frames, self.people, self.saved = 0, 0, False
        self.track_ids: set[int] = set()
        self._partial = partial_name(self.path)

    def __enter__(self) -> Self:
        try:
            self._file: IO[bytes] = self._partial.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def write(self, frame: Frame, poses: Poses) -> None:
        """Adds the line of one frame."""
        try:
            self._file.write(line_of(frame, poses).encoded())
        except OSError as error:
            raise self._failed(error) from error
        self.frames, self.people = self.frames + 1, self.people + len(poses)
        self.track_ids.update([] if poses.track_ids is None else poses.track_ids.tolist())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._file.close()
            if error is None or self.frames:
                os.replace(self._partial, self.path)
                self.saved = True
        except OSError as failure:
            raise self._failed(failure) from failure
        finally:
            self._partial.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> UserError:
        cure = "choose a folder that is writable and has space"
        return UserError(f"cannot write {self.path}: {error.strerror}. Cure: {cure}")


def read_lines(path: str | Path) -> Iterator[Line]:
    """The frames of a file of JSON lines, one at a time.

    Raises:
        UserError: the file is missing, or a line is not whole.
    """
    decoder = msgspec.json.Decoder(Line)
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    yield decoder.decode(text)
                except msgspec.DecodeError as error:
                    raise UserError(
                        f"{path}: line {number} is not a frame of poses ({error}). "
                        "Cure: use a whole file"
                    ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error


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
        raise UserError(
            f"cannot make {folder}: {error.strerror}. "
            "Cure: choose an output folder that is writable"
        ) from error
    return folder


def keep_sources(sources: Iterable[str | Path], outputs: Iterable[Path]) -> None:
    """Refuses to write over a file that is read, under whatever name it is reached.

    Raises:
        UserError: an output is one of the sources.
    """
    read = [path for path in sources if os.path.isfile(path)]
    for path in outputs:
        if path.is_file() and any(os.path.samefile(path, source) for source in read):
            raise UserError(
                f"{path} is read, and the result would be written over it. "
                "Cure: choose another --output"
            )


def write_coco_results(path: str | Path, lines: Iterable[Line]) -> None:
    """COCO keypoint results with `track_id`: `image_id` is the frame's index. No `bbox`: with one,
    COCO's code measures other areas."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        separator = b"["
        for line in lines:
            for person in line.people:
                entry = {
                    "image_id": line.frame,
                    "category_id": 1,
                    "keypoints": [*chain(*person.keypoints)],
                    "score": person.score,
                } | _identity(person)
                file.write(separator + encode_json(entry))
                separator = b",\n"
        file.write(b"[]" if separator == b"[" else b"]")


def _identity(person: Person, first: int = 1) -> dict[str, int]:
    """The `track_id`, counted from `first`; people who were not followed have none."""
    return {} if person.track_id is None else {"track_id": person.track_id - 1 + first}


def write_posetrack_results(
    folder: str | Path, name: str, lines: Iterable[Line], schema: KeypointSchema
) -> Path:
    """One sequence as a PoseTrack18 prediction file, `FOLDER/NAME.json`: images, annotations with
    `track_id` and `scores`, categories.

    The keypoints are those of `schema`, named in `categories`; track ids count from 0. People who
    were not followed, those of pictures, have none: `simplepose score` then prints AP only.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for line in lines:
        file_name = f"images/{readable(name)}/{line.frame:06d}.jpg"
        ids = {"id": line.frame, "frame_id": line.frame}
        images.append(ids | {"file_name": file_name, "is_labeled": True})
        for person in line.people:
            places = [(x, y, float((score or 0) > 0)) for x, y, score in person.keypoints]
            entry = {
                "id": len(rows),
                "image_id": line.frame,
                "category_id": 1,
                "bbox": person.bbox,
                "keypoints": [*chain(*places)],
                "scores": [score for _, _, score in person.keypoints],
                "score": person.score,
            }
            rows.append(entry | _identity(person, first=0))
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": schema.keypoints,
        "skeleton": [[a + 1, b + 1] for a, b in schema.skeleton],
    }
    path = Path(folder) / f"{name}.json"
    write_json(path, {"images": images, "annotations": rows, "categories": [category]})
    return path


def write_table(path: str | Path, lines: Iterable[Line], schema: KeypointSchema) -> None:
    """One row a person and frame: frame, seconds, track_id, score, box, then x, y, score of each
    keypoint. `.csv` or `.parquet`.

    Raises:
        UserError: another ending, or pandas is missing (Parquet).
    """
    path = Path(path)
    names = ["frame", "seconds", "track_id", "score", "filled", "left", "top", "right", "bottom"]
    names += [f"{keypoint}_{part}" for keypoint in schema.keypoints for part in ("x", "y", "score")]
    rows = (_table_row(line, person) for line in lines for person in line.people)
    if path.suffix.lower() == ".csv":
        with (
            atomic_path(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([names])
            csv.writer(file).writerows(rows)
    elif path.suffix.lower() == ".parquet":
        try:
            import pandas

            with atomic_path(path) as temporary:
                pandas.DataFrame(rows, columns=names).to_parquet(temporary)
        except ImportError as error:
            raise need(error.name or "pyarrow", "tables", "a Parquet table") from error
    else:
        raise UserError(f"{path}: tables are .csv or .parquet. Cure: use one of these endings")


def _table_row(line: Line, person: Person) -> list[Any]:
    box = _rounded(xywh_to_xyxy(person.bbox))
    head = [line.frame, line.seconds, person.track_id, person.score, person.filled, *box]
    return [*head, *chain(*person.keypoints)]
