"""Pictures of people: their sizes, which the annotations may not tell (MPII never does), the one
place that decodes them and compares, and threads that read them ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.images import SWAPS, read_header, read_image
from simplepose.data.annotations import Annotations

Job, Result = TypeVar("Job"), TypeVar("Result")
THREADS = 8
"""Files that are asked at once: most of the time is waiting for the disk."""
SKIP = "; or go on without such pictures: --data.skip-broken"
"""A second cure, where pictures that cannot be read may be left out."""


class WrongSizeError(UserError):
    """A picture is not the one that was annotated: no broken picture that may be skipped."""


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


def by_picture(annotations: Annotations, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """The people (indices, of `rows` alone if given) of each picture, in the order of the
    pictures."""
    rows = np.arange(len(annotations)) if rows is None else rows
    order = rows[np.argsort(annotations.image_index[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(annotations.image_index[order])) + 1)


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
    try:
        image = read_picture(annotations, picture)
        if (annotations.image_sizes_wh[picture] <= 0).any():
            raise UserError(
                f"picture {annotations.image_paths[picture]} could not be read when its size was "
                "asked for. Cure: start again"
            )
    except WrongSizeError:
        raise
    except UserError as error:
        if broken is None:
            raise UserError(f"{error}{SKIP}") from error
        broken[picture] = str(error)
        return np.zeros((0, 0, 3), np.uint8)
    return image
