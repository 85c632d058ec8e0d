"""Reading and writing pictures: RGB uint8 inside, whatever stands in the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import atomic_path
from simplepose.core.orientation import is_tiff, orientation_of, turn_picture, without_orientation

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jp2")


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Reads a picture of any common kind (grey, CMYK, 16-bit, with alpha) as RGB.

    Args:
        path: the file.
        upright: turn it as its EXIF orientation says (a user's photo). COCO annotations belong to the raster as stored, so training and
            evaluation leave this off.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, is no picture, or was cut short.
    """
    return decode_image(picture_bytes(path), str(path), upright=upright)


def picture_bytes(path: str | Path) -> bytes:
    """The bytes of a picture file, not decoded.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read picture {path}: {error.strerror}. Cure: check the path"
        ) from error


def decode_image(content: bytes, source: str, *, upright: bool = False) -> np.ndarray:
    """Decodes the bytes of a picture file; `source` is its name for messages. See `read_image`."""
    if not content:
        raise UserError(f"picture {source} is empty (0 bytes). Cure: copy the file again")
    if is_cut_short(content):
        raise UserError(
            f"picture {source} is cut short ({len(content)} bytes, no end marker). Cure: copy the file again"
        )
    rgb = getattr(
        cv2, "IMREAD_COLOR_RGB", None
    )  # since OpenCV 4.11; before, the channels are swapped afterwards
    flags = cv2.IMREAD_COLOR if rgb is None else rgb
    orientation = orientation_of(content) if upright else 1
    if not upright or orientation > 1:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        content = (
            without_orientation(content) if is_tiff(content) else content
        )  # OpenCV turns a TIFF, asked or not
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
    return turn_picture(
        image if rgb is not None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), orientation
    )


def is_cut_short(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; decoders silently fill such a picture with grey."""
    if content.startswith(b"\xff\xd8"):
        return not content.endswith(b"\xff\xd9") and content.rfind(b"\xff\xd9") <= content.rfind(
            b"\xff\xda"
        )
    if content.startswith(b"\x89PNG"):
        return content.rfind(b"IEND", -64) < 0
    return False


def write_image(path: str | Path, image: np.ndarray, *, quality: int = 92) -> None:
    """Writes an RGB uint8 picture atomically; the format follows the ending (JPEG `quality` 0..100).

    Raises:
        UserError: the ending names no format, or the file cannot be written.
    """
    try:
        ok, content = cv2.imencode(
            Path(path).suffix,
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, quality],
        )
    except cv2.error as error:
        raise UserError(
            f"cannot write {path}: its ending names no picture format. Cure: use .jpg or .png"
        ) from error
    if not ok:
        raise UserError(f"cannot encode {path}. Cure: use .jpg or .png")
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
            matches = sorted(
                path for path in source.iterdir() if path.suffix.lower() in PICTURE_ENDINGS
            )
        elif source.exists():
            matches = [source]
        elif any(letter in str(source) for letter in "*?["):
            anchor = Path(source.anchor) if source.is_absolute() else Path()
            matches = sorted(
                anchor.glob(str(source.relative_to(anchor) if source.is_absolute() else source))
            )
        else:
            raise UserError(f"no such picture or folder: {source}. Cure: check the path")
        if not matches:
            raise UserError(
                f"{source} holds no pictures ({', '.join(PICTURE_ENDINGS)}). Cure: name a folder with pictures"
            )
        found.extend(matches)
    return found


def require_rgb(image: np.ndarray) -> None:
    """Refuses what is no picture.

    Raises:
        UserError: the array is not (H, W, 3) uint8, or has no pixels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(
            f"the picture is {image.shape} {image.dtype}, expected (H, W, 3) uint8 RGB. Cure: convert it, or read it with simplepose.read_image"
        )
    if not image.size:
        raise UserError(
            f"the picture is {image.shape[1]} x {image.shape[0]} and has no pixels. Cure: leave it out, or check how it was cut"
        )
