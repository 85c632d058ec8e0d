"""Sizes of pictures: asked of the files where the annotations do not tell them (MPII never does), and checked when pixels are read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.data.annotations import Annotations

HEADERS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of files whose header tells the size that decoding gives."""
THREADS = 8
"""Files that are asked at once: most of the time is waiting for the disk."""


def with_picture_sizes(annotations: Annotations, *, skip_broken: bool = False) -> Annotations:
    """The same people with the unknown sizes filled in: of the raster as stored, as `read_image` decodes it.

    Only pictures of people with keypoints who are no crowd are looked at, the ones that training reads.

    Args:
        annotations: N people in M pictures.
        skip_broken: leave the size 0 where a picture cannot be read, instead of stopping.

    Raises:
        UserError: a picture of unknown size cannot be read and `skip_broken` is off.
    """
    wanted = np.unique(
        annotations.image_index[~annotations.is_crowd & (annotations.keypoint_counts > 0)]
    )
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
                f"{annotations.source} does not tell the size of every picture, and {error}; or go on without such pictures: --data.skip-broken"
            ) from error

    sizes = annotations.image_sizes_wh.copy()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="sizes") as pool:
        sizes[unknown] = list(pool.map(ask, unknown.tolist()))
    failed = int((sizes[unknown] == 0).any(1).sum())
    note = f"{annotations.source}: the sizes of {len(unknown)} pictures were unknown and are read from their files"
    note += f"; {failed} of them cannot be read" if failed else ""
    return replace(annotations, image_sizes_wh=sizes, warnings=(*annotations.warnings, note))


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` decodes it, from the header where that is enough.

    Raises:
        UserError: the file is missing or is no picture.
    """
    import imagesize  # not at the top: it loads urllib, and few runs need it

    if Path(path).suffix.lower() in HEADERS:
        width, height = imagesize.get(Path(path), exif_rotation=False)
        if width > 0 and height > 0:
            return int(width), int(height)
    height, width = read_image(path).shape[:2]
    return width, height


def read_sized(annotations: Annotations, picture: int) -> np.ndarray:
    """Decodes a picture (an index) whose size has to be known, because parts of it were planned: (H, W, 3) uint8 RGB.

    Raises:
        UserError: it cannot be read, or could not be when its size was asked for.
    """
    path = annotations.image_paths[picture]
    image = read_image(path)
    if (annotations.image_sizes_wh[picture] <= 0).any():
        raise UserError(
            f"picture {path} could not be read when its size was asked for. Cure: start again"
        )
    return image


def check_size(annotations: Annotations, picture: int, image: np.ndarray) -> None:
    """Makes sure that pixels (H, W, 3) have the size that is known of the picture (an index).

    Raises:
        UserError: they have another.
    """
    found, wanted = image.shape[1::-1], tuple(annotations.image_sizes_wh[picture].tolist())
    if found != wanted:
        path = annotations.image_paths[picture]
        raise UserError(
            f"{path} is {found[0]} x {found[1]}, its annotation says {wanted}. Cure: correct the annotation file"
        )
