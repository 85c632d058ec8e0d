"""Pictures of every kind, and broken ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from simplepose import UserError, read_image
from simplepose.images import list_pictures, write_image

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
RGB[:8] = (250, 10, 20)


def png(path: Path, array: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB[..., ::-1], RGB),
        (RGB[..., 0], np.repeat(RGB[..., :1], 3, 2)),
        (np.dstack([RGB[..., ::-1], np.full(RGB.shape[:2], 9, np.uint8)]), RGB),
        (RGB[..., ::-1].astype(np.uint16) * 257, RGB),
    ],
    ids=["colour", "grey", "alpha", "16-bit"],
)
def test_every_kind_becomes_rgb_bytes(tmp_path: Path, array: np.ndarray, expected: np.ndarray) -> None:
    image = read_image(png(tmp_path / "a.png", array))
    assert image.dtype == np.uint8 and image.shape == expected.shape
    np.testing.assert_array_equal(image, expected)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image_module.new("CMYK", (32, 24), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    image = read_image(tmp_path / "cmyk.jpg")
    assert image.shape == (24, 32, 3) and image[12, 16, 0] > 200 and image[12, 16, 1:].max() < 60  # red


def with_orientation(content: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation written into it by hand."""
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


def test_orientation_is_ignored_unless_upright(tmp_path: Path) -> None:
    write_image(tmp_path / "plain.jpg", RGB)
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation((tmp_path / "plain.jpg").read_bytes(), 6))
    assert read_image(path).shape == (24, 32, 3)
    assert read_image(path, upright=True).shape == (32, 24, 3)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_short(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"cut{ending}"
    write_image(path, RGB)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"cut\.(jpg|png).*Cure"):
        read_image(path)


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"hello", "not a picture"), (None, "No such file")])
def test_no_picture(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=word):
        read_image(path)


def test_trailing_bytes_are_harmless(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", RGB)
    whole = read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"\0" * 20)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), whole)


def test_write_names_the_ending(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ending"):
        write_image(tmp_path / "a.xyz", RGB)
    assert not list(tmp_path.iterdir())


def test_list_pictures(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_pictures([tmp_path])] == ["a.png", "b.jpg"]
    assert [path.name for path in list_pictures([tmp_path / "*.jpg"])] == ["b.jpg"]
    for wrong in (tmp_path / "none.jpg", tmp_path / "*.bmp"):
        with pytest.raises(UserError, match="Cure"):
            list_pictures([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        list_pictures([tmp_path / "empty"])
