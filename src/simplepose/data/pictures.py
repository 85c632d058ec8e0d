"""Pictures of people: where they lie (every name is looked up for itself), their sizes, which the
annotations may not tell (MPII never does), the one place that decodes them and compares, and
threads that read them ahead of their use."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.images import PICTURE_ENDINGS, SWAPS, read_header, read_image
from simplepose.core.storage import StoreError
from simplepose.data.annotations import Annotations, Detections

Job = TypeVar("Job")
Result = TypeVar("Result")
Key = TypeVar("Key")
THREADS = 8
"""Files that are asked at once: most of the time is waiting for the disk."""
SKIP = "; or go on without such pictures: --data.skip-broken"
"""A second cure, where pictures that cannot be read may be left out."""


class WrongSizeError(UserError):
    """A picture is not the one that was annotated: no broken picture that may be skipped."""


@contextmanager
def skipping(broken: dict[Key, str] | None, key: Key) -> Iterator[None]:
    """Around the reading of a picture: where it cannot be read, the reason is put into `broken`
    under `key` and the block ends; None: that is an error. Another size than annotated always is,
    and a file of many pictures that cannot be read.

    Raises:
        UserError: see above.
    """
    try:
        yield
    except (WrongSizeError, StoreError):
        raise
    except UserError as error:
        if broken is None:
            raise UserError(f"{error}{SKIP}") from error
        broken[key] = str(error)


def in_order(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int
) -> Iterator[Result]:
    """Yields `function(job)` of each job, in order, from threads that work ahead; when the loop
    over it ends early, what has not begun is dropped and the rest waited for.

    Args:
        function: called by the threads.
        jobs: taken one by one.
        workers: threads, at least one.
        ahead: jobs that are begun or done while one result is used.

    Raises:
        Exception: what `function` raised, in the turn of its job.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="ahead") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def by_picture(
    people: Annotations | Detections, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """The people (indices, of `rows` alone if given) of each picture that has any, in the order of
    the pictures."""
    rows = np.arange(len(people)) if rows is None else rows
    order = rows[np.argsort(people.image_index[rows], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(people.image_index[order])) + 1)
    return groups if len(order) else []


def with_picture_sizes(annotations: Annotations, *, skip_broken: bool = False) -> Annotations:
    """The same people with the unknown sizes filled in: of the pictures as `read_picture` decodes
    them.

    Only pictures of people with keypoints who are no crowd are looked at, the ones that training
    reads.

    Args:
        annotations: N people in M pictures.
        skip_broken: leave the size 0 where a picture cannot be read, instead of stopping.

    Raises:
        UserError: a picture of unknown size cannot be read and `skip_broken` is off.
    """
    shown = ~annotations.is_crowd & (annotations.keypoint_counts > 0)
    wanted = np.unique(annotations.image_index[shown])
    unknown = wanted[(annotations.image_sizes_wh[wanted] <= 0).any(1)]
    if not len(unknown):
        return annotations

    def ask(picture: int) -> tuple[int, int]:
        try:
            return picture_size(annotations.image_paths[picture], upright=annotations.upright)
        except UserError as error:
            if skip_broken:
                return 0, 0
            raise UserError(
                f"{annotations.source} does not tell the size of every picture, and {error}{SKIP}"
            ) from error

    sizes = annotations.image_sizes_wh.copy()
    sizes[unknown] = list(in_order(ask, unknown.tolist(), THREADS, 8 * THREADS))
    failed = int((sizes[unknown] == 0).any(1).sum())
    note = (
        f"{annotations.source}: the sizes of {len(unknown)} pictures were unknown and are read "
        f"from their files" + (f"; {failed} of them cannot be read" if failed else "")
    )
    return replace(annotations, image_sizes_wh=sizes, warnings=(*annotations.warnings, note))


def picture_size(path: str | Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of a picture as `read_image` decodes it, from the header where that is
    enough.

    Raises:
        UserError: the file is missing or is no picture.
    """
    if header := read_header(path):
        size_wh, orientation = header
        return size_wh[::-1] if upright and orientation in SWAPS else size_wh
    height, width = read_image(path, upright=upright).shape[:2]
    return width, height


def turned_pictures(annotations: Annotations, limit: int | None = 200) -> list[str]:
    """Pictures with people, of up to `limit` spread over the set (None: all), that carry an EXIF
    orientation: `photo.jpg (6)`. They are asked where this matters: none with
    `annotations.upright`."""
    used = np.unique(annotations.image_index)
    if limit is not None and len(used) > limit:
        used = used[np.linspace(0, len(used) - 1, limit).astype(int)]
    paths = [] if annotations.upright else [annotations.image_paths[index] for index in used]
    headers = zip(paths, in_order(read_header, paths, THREADS, 8 * THREADS), strict=True)
    return [f"{path} ({header[1]})" for path, header in headers if header and header[1] != 1]


def with_orientation_note(annotations: Annotations) -> Annotations:
    """The same people, with a note where pictures carry an EXIF orientation that is not heeded."""
    turned = turned_pictures(annotations)
    if not turned:
        return annotations
    note = (
        f"{annotations.source}: {len(turned)} of the pictures that were looked at carry an EXIF "
        f"orientation, the first is {turned[0]}; they are used as stored. If they were annotated "
        "upright: --data.upright"
    )
    return replace(annotations, warnings=(*annotations.warnings, note))


def read_picture(annotations: Annotations, picture: int) -> np.ndarray:
    """Decodes an annotated picture (an index): (H, W, 3) uint8 RGB, as stored or, with
    `annotations.upright`, turned.

    Raises:
        UserError: it cannot be read.
        WrongSizeError: its size is not the annotated one.
    """
    path, upright = annotations.image_paths[picture], annotations.upright
    image = read_image(path, upright=upright)
    if problem := size_problem(annotations, picture, image.shape[1::-1]):
        raise WrongSizeError(problem)
    return image


def size_problem(annotations: Annotations, picture: int, size_wh: tuple[int, int]) -> str:
    """What is wrong where a picture (an index) was decoded in another size than the annotated one,
    with the cure; empty where they agree or no size is annotated."""
    path, (width, height) = annotations.image_paths[picture], annotations.image_sizes_wh[picture]
    if min(width, height) <= 0 or size_wh == (width, height):
        return ""
    header = read_header(path)
    cure = (
        "use the pictures that were annotated, or scale the sizes, boxes and keypoints of "
        f"{annotations.source}"
    )
    why = ""
    if size_wh == (height, width) and header and header[1] in SWAPS:
        turned = "was turned upright" if annotations.upright else "is read as stored"
        why = f": its EXIF orientation is {header[1]}, and it {turned}"
        cure = "leave --data.upright out" if annotations.upright else "--data.upright"
    return (
        f"{path} is {size_wh[0]}x{size_wh[1]}, its annotation says {width}x{height}{why}. "
        f"Cure: {cure}"
    )


def read_sized(annotations: Annotations, picture: int, broken: dict[int, str] | None) -> np.ndarray:
    """Decodes a picture (an index) of which parts were planned: (H, W, 3) uint8 RGB.

    Args:
        annotations: whose sizes were known, or asked for.
        picture: an index.
        broken: takes the reason why a picture cannot be read, and the answer has no pixels;
            None: that is an error.

    Raises:
        UserError: it cannot be read, or could not be when its size was asked for, or its size is
            not the one that is known of it.
    """
    with skipping(broken, picture):
        image = read_picture(annotations, picture)
        if (annotations.image_sizes_wh[picture] <= 0).any():
            raise UserError(
                f"picture {annotations.image_paths[picture]} could not be read when its size was "
                "asked for. Cure: start again"
            )
        return image
    return np.zeros((0, 0, 3), np.uint8)


AS_WRITTEN = ""
BESIDE = "of pictures start with a folder beside {folder}; they are looked up there"
TAIL = "of pictures have folders that are not below {folder}; the end of the path is looked up"
BARE = (
    "of pictures are looked up below {folder} without regard to case, Unicode form, folders, a "
    "missing ending and what web addresses add"
)
TAKEN = "fit a picture below {folder} that another name has; they are looked up as written"


def find_pictures(
    names: Sequence[str], folder: str | Path
) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    r"""The path of each picture: as written, below the folder or beside it; else the longest end of
    its path that exists; else what is left of it without regard to case, Unicode form and URL
    (`pics/T%C3%BCr.jpg?sig=1`), if one file alone fits.

    A name that leads nowhere, or to a picture that another name leads to, stays as written.

    Args:
        names: of files, with / or \ between folders.
        folder: where the pictures are.

    Returns:
        Full paths, and how many names were found in another way than as written: (3, "file names
        of ...").
    """
    base, slashed = str(Path(folder)), [name.replace("\\", "/") for name in names]
    written = {name: os.path.join(base, name) for name in slashed}
    found = dict(_look_up(written, base))
    if all(way == AS_WRITTEN for _, way in found.values()):
        return tuple(written[name] for name in slashed), []
    claims = Counter(os.path.normpath(path) for path, _ in found.values())
    ways: dict[str, list[str]] = defaultdict(list)
    for name, (path, way) in found.items():
        if way != AS_WRITTEN and claims[os.path.normpath(path)] > 1:
            found[name] = written[name], (way := TAKEN)
        ways[way].append(name)
    notes = []
    for way in (BESIDE, TAIL, BARE, TAKEN):
        if mine := ways[way]:
            example = f" (such as {mine[0]}: {found[mine[0]][0]})"
            notes.append((len(mine), f"file names {way.format(folder=base)}{example}"))
    return tuple(found[name][0] if name in found else written[name] for name in slashed), notes


def _look_up(written: dict[str, str], base: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name -> (path, way) of those that lead to a file."""

    @cache
    def listed(directory: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(directory))
        except (OSError, ValueError):
            return frozenset()

    def exists(path: str) -> bool:
        directory, name = os.path.split(path)
        return name in listed(directory)

    files: dict[str, set[str]] | None = None
    parent = str(Path(base).parent)
    for name, path in written.items():
        if exists(path):
            yield name, (path, AS_WRITTEN)
            continue
        if exists(beside := os.path.join(parent, name)):
            yield name, (beside, BESIDE)
            continue
        tails = (os.path.join(base, tail) for tail in _tails(name))
        if tail := next(filter(exists, tails), ""):
            yield name, (tail, TAIL)
            continue
        files = _files_by_key(base) if files is None else files
        ends = (files.get(tail, set()) for key in _keys(name) for tail in _tails(key))
        hits = next(filter(None, ends), set())
        if len(hits) == 1:
            yield name, (next(iter(hits)), BARE)


def _tails(name: str) -> list[str]:
    """`a/b/c.jpg` -> itself, `b/c.jpg`, `c.jpg`; without `.` and `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[index:]) for index in range(len(parts))]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _keys(name: str) -> list[str]:
    """What a name may mean: a path, one before a query, or one inside it (`?d=pics%2Fa.jpg`)."""
    path = re.split(r"[?#]", name)[0]
    values = re.findall("=([^&#]*)", name)
    return [_key(name), *(_key(unquote(one)) for one in (path, *values))]


def _files_by_key(base: str) -> dict[str, set[str]]:
    """The files below a folder by the key of each end of their path below it, of pictures also
    without the ending."""
    files: dict[str, set[str]] = defaultdict(set)
    for directory, _, names in os.walk(base):
        inside = os.path.relpath(directory, base).replace(os.sep, "/")
        for name in names:
            stem, ending = os.path.splitext(name)
            for known in {name, stem if ending.lower() in PICTURE_ENDINGS else name}:
                for tail in _tails(_key(f"{inside}/{known}")):
                    files[tail].add(os.path.join(directory, name))
    return files
