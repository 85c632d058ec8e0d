"""Reading and writing pictures: RGB uint8 inside, whatever stands in the file.

OpenCV decodes the pixels; Pillow reads the EXIF orientation, how the raster as stored has to be
turned to stand upright (1..8).
"""

from __future__ import annotations

from collections.abc import Iterable
from glob import glob
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from simplepose.core.errors import UserError
from simplepose.core.files import atomic_path, read_bytes

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jp2")
SWAPS, MIRRORS_X, MIRRORS_Y = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations whose turn exchanges x and y, and that mirror x or y after that."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Reads a picture of any common kind (grey, CMYK, 16-bit, with alpha) as RGB.

    Args:
        path: the file.
        upright: turn it as its EXIF orientation says (a user's photo). COCO annotations belong to
            the raster as stored, so training and evaluation leave this off.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, is no picture, or was cut short.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def decode_image(content: bytes, source: str, *, upright: bool = False) -> np.ndarray:
    """Decodes the bytes of a picture file; `source` is its name for messages. See `read_image`."""
    if not content:
        raise UserError(f"picture {source} is empty (0 bytes). Cure: copy the file again")
    if is_cut_short(content):
        raise UserError(
            f"picture {source} is cut short ({len(content)} bytes, no end marker). "
            "Cure: copy the file again"
        )
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise UserError(
            f"picture {source} cannot be decoded: {error.err}. Cure: save it again as JPEG or PNG"
        ) from error
    if image is None:
        raise UserError(
            f"{source} is not a picture that can be decoded. Cure: save it as JPEG or PNG"
        )
    turned = content.startswith(_TIFF)  # OpenCV turns a TIFF, asked or not
    if upright == turned:
        return image
    orientation = orientation_of(content)
    return turn_picture(
        image, {6: 8, 8: 6}.get(orientation, orientation) if turned else orientation
    )


def orientation_of(content: bytes) -> int:
    """The orientation 1..8 that the bytes of a picture file ask for; 1 (as stored) where they do
    not say."""
    try:
        with Image.open(BytesIO(content)) as picture:
            # The getexif of Pillow's PNG would decode all pixels to look behind them.
            value = Image.Image.getexif(picture).get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's are of many kinds; nothing is known of a damaged file
        return 1
    return int(value or 1) if value in range(1, 9) else 1


def turn_picture(image: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored -> upright; (W, H, 3) for orientations 5 to 8."""
    image = image.swapaxes(0, 1) if orientation in SWAPS else image
    image = image[:, ::-1] if orientation in MIRRORS_X else image
    return np.ascontiguousarray(image[::-1] if orientation in MIRRORS_Y else image)


def turn_boxes(boxes_xyxy: np.ndarray, orientation: int, size_wh: tuple[int, int]) -> np.ndarray:
    """Boxes of the raster as stored -> of the upright picture. Their edges lie between pixels.

    Args:
        boxes_xyxy: (N, 4).
        orientation: 1..8.
        size_wh: of the upright picture.

    Returns:
        (N, 4).
    """
    turned = np.array(boxes_xyxy)[:, [1, 0, 3, 2] if orientation in SWAPS else [0, 1, 2, 3]]
    for axis, mirrors in enumerate((MIRRORS_X, MIRRORS_Y)):
        if orientation in mirrors:
            turned[:, [axis, axis + 2]] = size_wh[axis] - turned[:, [axis + 2, axis]]
    return turned


def is_cut_short(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; decoders fill such a picture with grey."""
    if content.startswith(b"\xff\xd8"):
        end, scan = content.rfind(b"\xff\xd9"), content.rfind(b"\xff\xda")
        return end < len(content) - 2 and end <= scan
    return content.startswith(b"\x89PNG") and content.rfind(b"IEND", -64) < 0


def write_image(path: str | Path, image: np.ndarray, *, quality: int = 92) -> None:
    """Writes an RGB uint8 picture atomically; the format follows the ending (JPEG `quality`
    0..100).

    Raises:
        UserError: the ending names no format, or the file cannot be written.
    """
    bgr, options = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        _, content = cv2.imencode(Path(path).suffix, bgr, options)
    except cv2.error as error:
        raise UserError(
            f"cannot write {path}: its ending names no picture format. Cure: use .jpg or .png"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


def list_pictures(sources: Iterable[str | Path]) -> list[Path]:
    """The picture files named by files, folders (their pictures, sorted) and glob patterns.

    Raises:
        UserError: a source matches nothing.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            inside = sorted(source.iterdir())
            matches = [path for path in inside if path.suffix.lower() in PICTURE_ENDINGS]
        else:
            named = [source] if source.exists() else glob(str(source), recursive=True)
            matches = sorted(map(Path, named))
        if not matches:
            problem = "holds no pictures" if source.is_dir() else "is no such picture or folder"
            raise UserError(
                f"{source} {problem} ({', '.join(PICTURE_ENDINGS)}). Cure: check the path"
            )
        found.extend(matches)
    return found


def require_rgb(image: np.ndarray) -> None:
    """Refuses what is no picture.

    Raises:
        UserError: the array is not (H, W, 3) uint8, or has no pixels.
    """
    shape: tuple[int, ...] = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", type(image).__name__)
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise UserError(
            f"the picture is {shape or 'no array:'} {dtype}, expected (H, W, 3) uint8 RGB. "
            "Cure: convert it, or read it with simplepose.read_image"
        )
    if not image.size:
        raise UserError(
            f"the picture is {image.shape[1]} x {image.shape[0]} and has no pixels. "
            "Cure: leave it out, or check how it was cut"
        )
