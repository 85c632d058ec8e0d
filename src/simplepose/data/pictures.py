"""Pictures of people: their sizes, which the annotations may not tell (MPII never does), and
threads that read them ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations

Job, Result = TypeVar("Job"), TypeVar("Result")
THREADS = 8
"""Files that are asked at once: most of the time is waiting for the disk."""
SKIP = "; or go on without such pictures: --data.skip-broken"
"""A second cure, where pictures that cannot be read may be left out."""


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
    """The same people with the unknown sizes filled in: of the raster as stored, as `read_image`
    decodes it.

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
            return picture_size(annotations.image_paths[picture])
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


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` decodes it, from the header where that is
    enough.

    Raises:
        UserError: the file is missing or is no picture.
    """
    try:
        with Image.open(path) as image:
            # Pillow tells the size of a TIFF as turned.
            if image.format != "TIFF":
                return image.size
    # Whatever Pillow cannot open the decoder may; if not, its error has the cure.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    height, width = read_image(path).shape[:2]
    return width, height


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
    path, wanted = annotations.image_paths[picture], annotations.image_sizes_wh[picture]
    try:
        image = read_image(path)
        if (wanted <= 0).any():
            raise UserError(
                f"picture {path} could not be read when its size was asked for. Cure: start again"
            )
    except UserError as error:
        if broken is None:
            raise UserError(f"{error}{SKIP}") from error
        broken[picture] = str(error)
        return np.zeros((0, 0, 3), np.uint8)
    if (image.shape[1::-1] != wanted).any():
        raise UserError(
            f"{path} is {image.shape[1]} x {image.shape[0]}, its annotation says "
            f"{wanted[0]} x {wanted[1]}. Cure: correct the annotation file"
        )
    return image
