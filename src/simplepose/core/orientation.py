"""The EXIF orientation of a picture: how the raster as stored has to be turned to stand upright (TIFF tag 0x112, values 1..8)."""

from __future__ import annotations

import struct

import cv2
import numpy as np

TAG = 0x112
UNSIGNED = {3: "H", 4: "I"}
"""TIFF types in which the orientation is found: short, as the standard says, and long."""
SWAPS, MIRRORS_X, MIRRORS_Y = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations whose turn exchanges x and y, and that mirror x or y after that."""


def is_tiff(content: bytes) -> bool:
    """Whether the bytes of a file begin as TIFF or BigTIFF does."""
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def orientation_of(content: bytes) -> int:
    """The orientation 1..8 that the bytes of a JPEG, PNG, WebP or TIFF file ask for; 1 (as stored) where they do not say."""
    found = _find_tag(content)
    value = struct.unpack_from(found[1], content, found[0])[0] if found else 1
    return value if 1 <= value <= 8 else 1


def without_orientation(content: bytes) -> bytes:
    """The same file with orientation 1, if it tells any."""
    found = _find_tag(content)
    if found is None:
        return content
    changed = bytearray(content)
    struct.pack_into(found[1], changed, found[0], 1)
    return bytes(changed)


def _find_tag(content: bytes) -> tuple[int, str] | None:
    """Where the orientation stands in the file, and its format for `struct`."""
    start = _tiff_start(content)
    order = {b"II": "<", b"MM": ">"}.get(content[start : start + 2])
    if order is None:
        return None
    big = content[start + 2 : start + 4] in (b"+\0", b"\0+")
    first, offset, count, length, value = (8, "Q", "Q", 20, 12) if big else (4, "I", "H", 12, 8)
    try:
        directory = start + struct.unpack_from(order + offset, content, start + first)[0]
        entries = directory + struct.calcsize(order + count)
        for place in range(
            entries,
            entries + length * struct.unpack_from(order + count, content, directory)[0],
            length,
        ):
            tag, kind = struct.unpack_from(order + "HH", content, place)
            if tag == TAG and kind in UNSIGNED:
                struct.unpack_from(
                    order + UNSIGNED[kind], content, place + value
                )  # it is all there
                return place + value, order + UNSIGNED[kind]
    except struct.error:  # cut short: nothing is known
        pass
    return None


def _tiff_start(content: bytes) -> int:
    """Where the TIFF block begins that holds the tag: the file itself, or EXIF within it; the end of the file where there is none."""
    if is_tiff(content):
        return 0
    if content.startswith(b"\xff\xd8"):
        found, skip = content.find(b"Exif\0\0"), 6
    elif content.startswith(b"\x89PNG"):
        found, skip = content.find(b"eXIf"), 4
    elif content[8:12] == b"WEBP":
        found, skip = content.rfind(b"EXIF"), 8
        skip += 6 if content[found + 8 : found + 14] == b"Exif\0\0" else 0
    else:
        found, skip = -1, 0
    return found + skip if found >= 0 else len(content)


def turn_picture(image: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored -> upright; (W, H, 3) for orientations 5 to 8."""
    image = cv2.transpose(image) if orientation in SWAPS else image
    x, y = orientation in MIRRORS_X, orientation in MIRRORS_Y
    return cv2.flip(image, -1 if x and y else int(x)) if x or y else image


def turn_boxes(boxes_xyxy: np.ndarray, orientation: int, size_wh: tuple[int, int]) -> np.ndarray:
    """Boxes of the raster as stored -> of the upright picture: (N, 4) -> (N, 4). Their edges lie between pixels.

    Args:
        boxes_xyxy: (N, 4).
        orientation: 1..8.
        size_wh: of the upright picture.
    """
    turned = np.array(boxes_xyxy)[:, [1, 0, 3, 2] if orientation in SWAPS else [0, 1, 2, 3]]
    for axis, mirrors in enumerate((MIRRORS_X, MIRRORS_Y)):
        if orientation in mirrors:
            turned[:, [axis, axis + 2]] = size_wh[axis] - turned[:, [axis + 2, axis]]
    return turned
