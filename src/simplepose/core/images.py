"""Reading and writing pictures: RGB uint8 inside, whatever stands in the file.

A picture is known by how its content begins, not by its ending. A JPEG is walked to its
end-of-image marker and a PNG to its IEND chunk: what follows (the video of a motion photo, a
second picture) does not belong to it. OpenCV decodes the pixels, Pillow those of GIF and AVIF;
Pillow reads the EXIF orientation, how the raster as stored has to be turned to stand upright
(1..8).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import ExifTags, Image

from simplepose.core.errors import MORE_MEMORY, UserError, brief, is_out_of_memory
from simplepose.core.files import atomic_path, read_bytes
from simplepose.core.progress import note

SWAPS, MIRRORS_X, MIRRORS_Y = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations whose turn exchanges x and y, and that mirror x or y after that."""
PICTURE_ENDINGS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jp2"),
    *(".gif", ".avif"),
)
"""A file of such a name is meant to be a picture, even where its content is damaged."""
MAX_PIXELS, ASK_FOR_MORE = 178_956_970, "SIMPLEPOSE_MAX_PIXELS"
"""Pixels of the largest picture that is decoded (Pillow's limit too: half a GB), and the
environment variable that asks for more."""
HEIC_CURE = (
    "convert it to JPEG (heif-convert a.heic a.jpg, magick a.heic a.jpg, or Export in Preview or "
    "Photos; an iPhone set to Most Compatible takes JPEGs)"
)
_KIND = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)"
    rb"|(?P<PNG>\x89PNG\r\n\x1a\n)"
    rb"|(?P<GIF>GIF8[79]a)"
    rb"|(?P<WEBP>RIFF.{4}WEBP)"
    rb"|(?P<TIFF>II[*+]\0|MM\0[*+])"
    rb"|(?P<BMP>BM.{4}\0{4}.{4}[\x0c-\x7c]\0{3})"
    rb"|(?P<PPM>P[1-6]\s+(?:\#[^\n]*\n\s*)*\d+\s)"
    rb"|(?P<JPEG2000>\0{3}\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)"
    rb"|(?P<AVIF>\0{2}.{2}ftyp(?:avi[fs]|m[is][af][1f].{4}(?:.{4}){0,9}?avi[fs]))"
    rb"|(?P<HEIC>\0{2}.{2}ftyp(?:he[iv][cmsx]|mif1|msf1))",
    re.DOTALL,
)
"""How a picture file begins, by the name that Pillow gives its kind."""
_SOI = b"\xff\xd8\xff"
_IEND_CRC = b"\xaeB`\x82"
_HEAD = 4096
"""Bytes of a file that are enough to know its kind."""


def read_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Reads a picture of any common kind (grey, CMYK, 16-bit, with alpha) as RGB.

    Args:
        path: the file.
        upright: turn it as its EXIF orientation says (a user's photo). COCO annotations belong to
            the raster as stored, so training and evaluation leave this off by default.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, is no picture, was cut short, or has more pixels than
            `MAX_PIXELS` or the environment variable `ASK_FOR_MORE` allow.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def decode_image(
    content: bytes, source: str, *, upright: bool = False, max_pixels: int | None = None
) -> np.ndarray:
    """Decodes the bytes of a picture file; see `read_image`.

    Args:
        content: the file.
        source: its name for messages.
        upright: see `read_image`.
        max_pixels: in place of what `read_image` allows; what does not tell its size before it is
            decoded is then refused too.
    """
    return _decode(content, source, upright, max_pixels)[0]


def decode_upright(content: bytes, source: str) -> tuple[np.ndarray, int]:
    """`decode_image` and `orientation_of` at once: the upright picture, and how its raster as
    stored was turned."""
    return _decode(content, source, True, None)


def _decode(
    content: bytes, source: str, upright: bool, max_pixels: int | None
) -> tuple[np.ndarray, int]:
    """The picture, and the orientation where it had to be known, else 1."""
    if not content:
        raise UserError(f"picture {source} is empty (0 bytes). Cure: copy the file again")
    kind = kind_of(content)
    if kind == "HEIC":
        raise UserError(f"picture {source} is HEIC, which is not read here. Cure: {HEIC_CURE}")
    end, size_wh = _structure(content, kind)
    if not end:
        raise UserError(
            f"picture {source} is cut short ({len(content)} bytes, no end marker). "
            "Cure: copy the file again"
        )
    _require_size(size_wh, source, max_pixels)
    image: np.ndarray | None
    try:
        if kind in ("GIF", "AVIF"):
            image = np.array(_open(BytesIO(content)).convert("RGB"))
        else:
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(content, np.uint8, end), flags)
    except Exception as error:  # OpenCV's own, and Pillow's of many kinds
        reason = brief(getattr(error, "err", None) or error) or "not enough memory"
        cure = MORE_MEMORY if is_out_of_memory(error) else "save it again as JPEG or PNG"
        raise UserError(f"picture {source} cannot be decoded: {reason}. Cure: {cure}") from error
    if image is None:
        raise UserError(
            f"{source} is not a picture that can be decoded. Cure: save it as JPEG or PNG"
        )
    turned = kind == "TIFF"  # OpenCV turns a TIFF, asked or not
    if not (upright or turned):
        return image, 1
    orientation = _orientation(content[:end])
    if upright == turned:
        return image, orientation
    back = {6: 8, 8: 6}.get(orientation, orientation) if turned else orientation
    return turn_picture(image, back), orientation


def kind_of(content: bytes) -> str:
    """The kind of picture that a file's first bytes tell ("JPEG", ...); empty for anything
    else."""
    found = _KIND.match(content, 0, _HEAD)
    return (found and found.lastgroup) or ""


def is_picture(path: str | Path) -> bool:
    """Whether a file is one by its content, or is meant to be one by its ending."""
    return Path(path).suffix.lower() in PICTURE_ENDINGS or bool(kind_of(_head(path)))


def is_still(path: str | Path) -> bool:
    """Whether a file is a picture and no moving GIF, which is a short video."""
    if not is_picture(path):
        return False
    try:
        with Image.open(path, formats=["GIF"]) as picture:
            return not getattr(picture, "is_animated", False)
    except Exception:  # no GIF, or a damaged one
        return True


def _head(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _structure(content: bytes, kind: str) -> tuple[int, tuple[int, int]]:
    """How many bytes belong to the (first) picture of a file, and the width and height of its
    raster as stored.

    All bytes do, unless it is a JPEG or PNG that something follows. 0 where such a file is cut
    short: decoders fill it with grey. The size is (0, 0) where nothing tells it but decoding.
    """
    if kind == "JPEG":
        return _walk_jpeg(content)
    if kind == "PNG":
        width, height = (int.from_bytes(content[n : n + 4], "big") for n in (16, 20))
        return _walk_png(content), (width, height)
    header = _header(BytesIO(content))
    return len(content), header[0] if header else (0, 0)


def _walk_png(content: bytes) -> int:
    """The end of a PNG, chunk by chunk; 0: cut short."""
    start = 8
    while (name := content[start + 4 : start + 8]).isalpha():
        start += 12 + int.from_bytes(content[start : start + 4], "big")
        if name == b"IEND":
            return start if content[start - 4 : start] == _IEND_CRC else 0
    return 0


def _walk_jpeg(content: bytes) -> tuple[int, tuple[int, int]]:
    """The end of a JPEG's first picture (0: cut short), and its width and height."""
    data = np.frombuffer(content, np.uint8)
    markers = np.flatnonzero(data[:-1] == 0xFF)
    codes = data[markers + 1]
    # 0 after 0xff is a data byte, 0xff a filler, and restarts stand inside of the data.
    markers = markers[(codes != 0) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))]
    place, scan, size_wh = 2, 0, (0, 0)
    while (index := int(np.searchsorted(markers, place))) < len(markers):
        place = int(markers[index]) + 2
        marker = content[place - 1]
        # No such marker stands in a picture: these are the bytes of something else.
        if marker < 0xC0 or marker == 0xD8:
            break
        if marker == 0xD9:
            # A cut picture may run on into a video, whose bytes can hold the marker.
            whole = scan and any(size_wh) and content.find(b"ftyp", scan, place) < 0
            return (place if whole else 0), size_wh
        if marker == 0xDA:
            scan = scan or place
        elif marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (content[place + n : place + n + 2] for n in (3, 5))
            size_wh = int.from_bytes(width, "big"), int.from_bytes(height, "big")
        start, place = place, place + int.from_bytes(content[place : place + 2], "big")
        if _runs_into_another(content, start, place):
            break
    return 0, size_wh


def _runs_into_another(content: bytes, start: int, end: int) -> bool:
    """Whether a segment of a JPEG was cut short and what follows is another JPEG, whose header its
    length reaches into. A thumbnail lies in the segment with its pixels."""
    if _SOI in content[start : start + 4]:  # cut in the length itself
        return True
    place = content.find(_SOI, start, end + 2)
    while place >= 0:
        inner = place + 2
        while inner < end and content[inner] == 0xFF and content[inner + 1] not in (0xD9, 0xDA):
            inner += 2 + int.from_bytes(content[inner + 2 : inner + 4], "big")
        if inner >= end:
            return True
        place = content.find(_SOI, place + 1, end + 2)
    return False


def _require_size(size_wh: tuple[int, int], source: str, most: int | None) -> None:
    """Refuses a picture of more pixels than were asked for, before it is decoded."""
    count, asked = size_wh[0] * size_wh[1], os.environ.get(ASK_FOR_MORE) or str(MAX_PIXELS)
    if not asked.isdecimal():
        raise UserError(f"{ASK_FOR_MORE} is {asked!r}. Cure: a number of pixels, as {MAX_PIXELS}")
    size = f"{size_wh[0]} x {size_wh[1]}" if count else "of unknown size"
    limit, more = most, ""
    if limit is None:
        limit, more = int(asked), f", or set the environment variable {ASK_FOR_MORE}={count}"
    if count > limit or not (count or more):
        raise UserError(
            f"picture {source} is {size}, more than {limit:,} pixels. Cure: make it smaller{more}"
        )


def read_header(path: str | Path) -> tuple[tuple[int, int], int] | None:
    """Width and height of the raster as stored and its orientation, from a file's header alone;
    None where only decoding can tell."""
    try:
        with open(path, "rb") as file:
            return _header(file)
    except OSError:
        return None


def orientation_of(content: bytes) -> int:
    """The orientation 1..8 that the bytes of a picture file ask for; 1 (as stored) where they do
    not say. A second picture behind the first is not asked."""
    kind = kind_of(content)
    end = _structure(content, kind)[0] if kind in ("JPEG", "PNG") else len(content)
    return _orientation(content[:end])


def _orientation(content: bytes) -> int:
    header = _header(BytesIO(content))
    return header[1] if header else 1


def _open(file: IO[bytes]) -> Image.Image:
    """A picture as Pillow opens it: of the kind that it begins as alone, and of any size."""
    kind = kind_of(file.read(_HEAD))
    file.seek(0)
    if kind not in Image.OPEN:
        Image.init()
    return Image.OPEN[kind][0](file, "")


def _header(file: IO[bytes]) -> tuple[tuple[int, int], int] | None:
    """Width and height of the raster as stored, and its orientation; None where the header does
    not say."""
    try:
        picture = _open(file)
        # The getexif of Pillow's PNG would decode all pixels to look behind them.
        value = Image.Image.getexif(picture).get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's are of many kinds; the decoder says what is wrong
        return None
    orientation = int(value or 1) if value in range(1, 9) else 1
    # Pillow tells the size of a TIFF as turned.
    turned = picture.format == "TIFF" and orientation in SWAPS
    return picture.size[::-1] if turned else picture.size, orientation


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


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an RGB uint8 picture atomically; the format follows the ending (JPEG of quality 92).

    Raises:
        UserError: the ending names no format, or the file cannot be written.
    """
    bgr, ending = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), Path(path).suffix
    # OpenCV warns where a format does not know an option
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if ending.lower() in (".jpg", ".jpeg") else []
    try:
        _, content = cv2.imencode(ending, bgr, options)
    except cv2.error as error:
        raise UserError(
            f"cannot write {path}: its ending names no picture format. Cure: use .jpg or .png"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


def list_pictures(sources: Iterable[str | Path]) -> list[Path]:
    """The picture files named by files, folders (their pictures) and glob patterns; numbers in
    names count as numbers, so that frame 2 stands before frame 10.

    Args:
        sources: what is named.

    Raises:
        UserError: a source matches nothing.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            matches, others = _pictures_inside(source)
            if others:
                note(others)
        else:
            named = [source] if source.exists() else glob(str(source), recursive=True)
            matches, others = sorted(map(Path, named), key=natural), ""
        if not matches:
            problem = "holds no pictures" if source.is_dir() else "is no such picture or folder"
            raise UserError(f"{source} {problem}. Cure: check the path")
        found.extend(matches)
    return found


def _pictures_inside(folder: Path) -> tuple[list[Path], str]:
    """The pictures of a folder, and a sentence on what else is there (hidden files apart)."""
    pictures: list[Path] = []
    heic: list[str] = []
    others: list[str] = []
    for path in sorted(folder.iterdir(), key=natural):
        if path.is_file() and kind_of(_head(path)) == "HEIC":
            heic.append(path.name)
        elif is_picture(path):
            pictures.append(path)
        elif not path.name.startswith("."):
            others.append(path.name + "/" * path.is_dir())
    told = []
    if heic:
        told.append(f"{_listed(heic)}: HEIC, which is not read here. Cure: {HEIC_CURE}")
    if others:
        told.append(f"{_listed(others)}: no pictures")
    return pictures, f"{folder}: left out {'; '.join(told)}" if told else ""


def _listed(names: list[str]) -> str:
    """`3 (a, b, c)`."""
    more = f", and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} ({', '.join(names[:5])}{more})"


def natural(path: Path) -> tuple[list[str | int], str]:
    """The key of natural order: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part for part in parts], str(path)


def number_in(name: str | Path) -> int | None:
    """The last number in a picture's name, without its folder and ending: often its image id."""
    # No Path here: it keeps every name that it has ever split.
    digits = re.findall(r"\d+", os.path.splitext(os.path.basename(name))[0])
    return int(digits[-1]) if digits else None


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
