"""What `predict` and `track` leave behind: JSON lines, a header and one a picture or frame, and
what is made from them: COCO results, a PoseTrack file, a table.

All but a Parquet table is written and read back frame by frame, so memory does not grow with the
length.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePath
from typing import IO, Any, Self

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError, need
from simplepose.core.files import (
    atomic_path,
    cannot_write,
    encode_json,
    readable,
    visible_partial,
    write_json,
)
from simplepose.core.schema import KeypointSchema
from simplepose.core.structures import Frame, Poses
from simplepose.detection.files import BoxFile

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


class Header(msgspec.Struct, forbid_unknown_fields=True):
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


def picture_ids(paths: Sequence[Path], listing: BoxFile | None) -> list[int | str]:
    """The image ids of pictures: those of the file that lists them or knows their boxes; else the
    numbers in their names, if each has one of its own; else their positions from 0.

    A picture that such a file does not list has its name for an id.
    """
    if listing:
        ids = listing.image_ids(paths)
        unlisted = {-1} if listing.listed else set()
        return [path.name if i in unlisted else i for path, i in zip(paths, ids, strict=True)]
    numbers = [re.findall(r"\d+", path.stem)[-1:] for path in paths]
    found = {int(number) for one in numbers for number in one}
    if len(found) == len(paths):
        return [int(one[0]) for one in numbers]
    return list(range(len(paths)))


def _rounded(values: np.ndarray) -> list[Any]:
    return values.astype(np.float64).round(DIGITS).tolist()


class LinesWriter:
    """Writes poses as JSON lines, each at once. The file grows under its `visible_partial` name and
    gets its own when it is closed, after an interruption or on a full disk too: whole lines stay.
    An error before the first line leaves what had the name before.

    Args:
        path: the .jsonl file.
        header: its first line.
        image_ids: of each frame, by its index; of a video the index itself (None).
        go_on: keep the lines that the file has already.

    Attributes:
        frames, people, track_ids: lines, poses and identities written so far.
        saved: whether the file has got its name.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        header: Header,
        *,
        image_ids: Sequence[int | str] | None = None,
        go_on: bool = False,
    ) -> None:
        self.path, self.header, self.image_ids = Path(path), header, image_ids
        self.go_on = go_on
        self.frames, self.people, self.saved = 0, 0, False
        self.track_ids: set[int] = set()
        self._partial, self._whole = visible_partial(self.path), 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            before = self.path.read_bytes() if self.go_on else encode_json(self.header) + b"\n"
            self._file: IO[bytes] = self._partial.open("wb")
            self._add(before)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def write(self, frame: Frame, poses: Poses) -> None:
        """Adds the line of one frame."""
        image_id = self.image_ids[frame.index] if self.image_ids else frame.index
        try:
            self._add(line_of(frame, poses, image_id).encoded())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.frames, self.people = self.frames + 1, self.people + len(poses)
        self.track_ids.update([] if poses.track_ids is None else poses.track_ids.tolist())

    def _add(self, text: bytes) -> None:
        self._file.write(text)
        self._file.flush()
        self._whole += len(text)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with suppress(OSError):  # the rest of a line for which there was no space
            self._file.close()
        try:
            if error is None or self.frames:
                os.truncate(self._partial, self._whole)
                os.replace(self._partial, self.path)
                self.saved = True
            else:
                self._partial.unlink(missing_ok=True)
        except OSError as failure:
            raise UserError(
                f"cannot write {self.path}: {failure.strerror}; its lines are in {self._partial}. "
                "Cure: make way for it and rename that file"
            ) from failure


def read_header(path: str | Path) -> Header:
    """The first line of a file of JSON lines.

    Raises:
        UserError: the file is missing, or begins otherwise.
    """
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.readline(), type=Header)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error
    except msgspec.DecodeError as error:
        raise UserError(
            f"{path}: line 1 does not name the keypoints ({error}). "
            "Cure: a poses.jsonl of simplepose predict or track"
        ) from error


def read_lines(path: str | Path) -> Iterator[Line]:
    """The frames of a file of JSON lines, one at a time.

    Raises:
        UserError: the file is missing, or a line is not whole.
    """
    read_header(path)
    decoder = msgspec.json.Decoder(Line)
    try:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                if number == 1:
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


def free_folder(name: str | Path) -> Path:
    """`name`, or `name-2`, `name-3`, ...: the first that is not there or is empty."""
    for number in itertools.count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return folder
    raise AssertionError


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
    """COCO keypoint results with `file_name` and, of followed people, `track_id`. No `bbox`: with
    one, COCO's code measures other areas."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        separator = b"["
        for line in lines:
            for person in line.people:
                entry = {
                    "image_id": line.image_id,
                    "file_name": PurePath(line.source).name,
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
    """One row a person and frame: frame, seconds, image id, file, track_id, score, box, then x, y,
    score of each keypoint. `.csv` or `.parquet`.

    Raises:
        UserError: another ending, or pandas is missing (Parquet).
    """
    path = Path(path)
    names = ["frame", "seconds", "image_id", "file_name", "track_id", "score", "filled"]
    names += ["left", "top", "right", "bottom"]
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
    where = [line.frame, line.seconds, line.image_id, PurePath(line.source).name]
    who = [person.track_id, person.score, person.filled]
    return [*where, *who, *box, *chain(*person.keypoints)]
