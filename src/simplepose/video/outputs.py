"""What `predict` and `track` leave behind: JSON lines, a header and one a picture or frame, and
what is made from them: COCO results, a PoseTrack file, a table.

All but a Parquet table is written and read back frame by frame, so memory does not grow with the
length.
"""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import chain, starmap
from pathlib import Path, PurePath
from typing import IO, Any, Self

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError, need
from simplepose.core.files import (
    atomic_path,
    cannot_write,
    encode_json,
    readable,
    remove_dead_partials,
    take,
    visible_partial,
    write_json,
)
from simplepose.core.images import number_in
from simplepose.core.lines import Header, Line, Person, line_of, rounded
from simplepose.core.progress import note
from simplepose.core.schema import KeypointSchema
from simplepose.core.structures import VISIBILITY, Frame, Poses
from simplepose.detection.files import BoxFile


def picture_ids(paths: Sequence[Path], listing: BoxFile | None) -> list[int | str]:
    """The image ids of pictures: those of the file that lists them or knows their boxes; else the
    numbers in their names, if each has one of its own; else their positions from 0.

    A picture that such a file does not list has its name for an id.
    """
    if listing:
        ids = listing.image_ids(paths)
        unlisted = {-1} if listing.listed else set()
        return [path.name if i in unlisted else i for path, i in zip(paths, ids, strict=True)]
    numbers = [number for path in paths if (number := number_in(path)) is not None]
    whole = len(set(numbers)) == len(paths)
    return [*numbers] if whole else list(range(len(paths)))


class LinesWriter:
    """Writes poses as JSON lines, each at once. The file grows under its `visible_partial` name and
    gets its own when it is closed, after an interruption or on a full disk too: whole lines stay.
    An error before the first line leaves what had the name before.

    Args:
        path: the .jsonl file.
        header: its first line.
        image_ids: of each frame, by its index; of a video the index itself (None).
        before: lines of an earlier try, which come first.

    Attributes:
        frames, people, track_ids: lines, poses and identities in the file so far.
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
        before: Sequence[Line] = (),
    ) -> None:
        self.path, self.header, self.image_ids = Path(path), header, image_ids
        self.before, self.saved = before, False
        self.frames, self.people = len(before), sum(len(line.people) for line in before)
        self.track_ids: set[int] = set()
        self._partial, self._whole = visible_partial(self.path), 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_dead_partials(self.path.parent)
            self._file: IO[bytes] = self._partial.open("ab")
            take(self._file, self.path)
            self._file.truncate(0)
            lines = [encode_json(self.header) + b"\n", *(line.encoded() for line in self.before)]
            self._add(b"".join(lines))
        except OSError as error:
            self._close()
            self._partial.unlink(missing_ok=True)
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

    def _close(self) -> None:
        # There may be no space for the rest of a line.
        with suppress(OSError, AttributeError):
            self._file.close()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._close()
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


@contextmanager
def finished(lines: LinesWriter, finish: Callable[[], None]) -> Iterator[None]:
    """Writes lines in the block, then makes the other files from them; after an error or an
    interruption too, of the lines that are there."""
    try:
        with lines:
            yield
    except (Exception, KeyboardInterrupt):
        if lines.saved:
            print(f"stopped after {lines.frames:,}; {lines.path} holds them", file=sys.stderr)
            try:
                finish()
            except UserError as error:
                note(str(error))
        raise
    finish()


def free_folder(name: str | Path) -> tuple[Path, Path | None]:
    """The first of `name`, `name-2`, `name-3`, ... that is not there or is empty, and the one
    before it."""
    before = None
    for number in itertools.count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return folder, before
        before = folder
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


def write_coco_results(path: str | Path, lines: Iterable[Line], category_id: int | str = 1) -> None:
    """COCO keypoint results with `file_name` and, of followed people, `track_id`; all of one
    category. No `bbox`: with one, COCO's code measures other areas."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        separator = b"["
        for line in lines:
            for person in line.people:
                entry = {
                    "image_id": line.image_id,
                    "file_name": PurePath(line.source).name,
                    "category_id": category_id,
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


def require_table(kind: str) -> None:
    """Refuses a table that could not be written when the last frame is done.

    Raises:
        UserError: a package is missing.
    """
    for package in ("pandas", "pyarrow") if kind == "parquet" else ():
        try:
            import_module(package)
        except ImportError as error:
            raise need(package, "tables", "--table parquet") from error


def write_table(path: str | Path, lines: Iterable[Line], schema: KeypointSchema) -> None:
    """One row a person and frame: frame, seconds, image id, file, track_id, score, box, then x, y,
    score of each keypoint; where the first person has them also xx, xy, yy of each covariance, and
    absent, hidden, visible. `.csv` or `.parquet`.

    Raises:
        UserError: another ending, or pandas is missing (Parquet).
    """
    path = Path(path)
    names, rows = _table(lines, schema)
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


def _table(lines: Iterable[Line], schema: KeypointSchema) -> tuple[list[str], Iterator[list[Any]]]:
    """The columns' names, and the rows."""
    everybody = ((line, person) for line in lines for person in line.people)
    first = next(everybody, None)
    parts = {"keypoints": ("x", "y", "score")}
    for name, columns in {"covariances": ("xx", "xy", "yy"), "visibility": VISIBILITY}.items():
        if first is not None and getattr(first[1], name) is not None:
            parts[name] = columns
    names = ["frame", "seconds", "image_id", "file_name", "track_id", "score", "filled"]
    names += ["left", "top", "right", "bottom"]
    names += [f"{one}_{part}" for of in parts.values() for one in schema.keypoints for part in of]
    nothing = [(None, None, None)] * len(schema)

    def row(line: Line, person: Person) -> list[Any]:
        triples = chain(*(getattr(person, name) or nothing for name in parts))
        return [*_table_row(line, person), *chain(*triples)]

    return names, starmap(row, chain([] if first is None else [first], everybody))


def _table_row(line: Line, person: Person) -> list[Any]:
    box = rounded(xywh_to_xyxy(person.bbox))
    where = [line.frame, line.seconds, line.image_id, PurePath(line.source).name]
    who = [person.track_id, person.score, person.filled]
    return [*where, *who, *box]
