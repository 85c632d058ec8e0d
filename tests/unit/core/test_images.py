"""Pictures of every kind, and broken ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from jpegs import with_orientation
from PIL import Image

from simplepose import UserError, read_image
from simplepose.core.images import (
    ASK_FOR_MORE,
    decode_image,
    is_picture,
    is_still,
    kind_of,
    list_pictures,
    orientation_of,
    turn_boxes,
    turn_picture,
    write_image,
)

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
def test_every_kind_becomes_rgb_bytes(
    tmp_path: Path, array: np.ndarray, expected: np.ndarray
) -> None:
    image = read_image(png(tmp_path / "a.png", array))
    assert image.dtype == np.uint8 and image.shape == expected.shape
    np.testing.assert_array_equal(image, expected)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image_module.new("CMYK", (32, 24), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    image = read_image(tmp_path / "cmyk.jpg")
    assert (
        image.shape == (24, 32, 3) and image[12, 16, 0] > 200 and image[12, 16, 1:].max() < 60
    )  # red


def test_orientation_is_ignored_unless_upright(tmp_path: Path) -> None:
    write_image(tmp_path / "plain.jpg", RGB)
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation((tmp_path / "plain.jpg").read_bytes(), 6))
    assert read_image(path).shape == (24, 32, 3)
    assert read_image(path, upright=True).shape == (32, 24, 3)


def tag_block(orientation: int, order: str) -> bytes:
    """A TIFF block with nothing but the orientation, as EXIF has it."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def tiff(image: np.ndarray, orientation: int, order: str = "<", *, big: bool = False) -> bytes:
    """An uncompressed RGB TIFF (BigTIFF) with the orientation as its last tag."""
    height, width = image.shape[:2]
    start = 16 if big else 8
    values = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 2,
        273: start,
        277: 3,
        278: height,
        279: image.size,
        274: orientation,
    }
    size, count, step = ("Q", "Q", 8) if big else ("I", "H", 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), start + image.size
    )
    entries = [
        struct.pack(order + "HH" + size + "H", tag, 3, 1, value).ljust(4 + 2 * step, b"\0")
        for tag, value in sorted(values.items())
    ]
    return (
        head
        + image.tobytes()
        + struct.pack(order + count, len(entries))
        + b"".join(entries)
        + bytes(step)
    )


def turned_file(kind: str, orientation: int) -> bytes:
    """RGB as a file of a kind, with an orientation."""
    if kind.startswith("tiff"):
        return tiff(RGB, orientation, ">" if "MM" in kind else "<", big="big" in kind)
    content = cv2.imencode("." + kind, RGB[..., ::-1])[1].tobytes()
    if kind == "jpg":
        return with_orientation(content, orientation)
    block = tag_block(orientation, ">")
    if kind == "png":  # a chunk after the header's
        chunk = b"eXIf" + block
        return (
            content[:33]
            + struct.pack(">I", len(block))
            + chunk
            + struct.pack(">I", zlib.crc32(chunk))
            + content[33:]
        )
    extended = (
        b"VP8X"
        + struct.pack("<IB3x", 10, 8)
        + (31).to_bytes(3, "little")
        + (23).to_bytes(3, "little")
    )
    body = b"WEBP" + extended + content[12:] + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}
"""Orientation -> how the raster as stored becomes upright, as the EXIF standard says."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff", "tiff MM", "tiff big"])
def test_every_orientation_of_every_kind(kind: str, orientation: int) -> None:
    content = turned_file(kind, orientation)
    stored, upright = (decode_image(content, "a", upright=upright) for upright in (False, True))
    plain = decode_image(turned_file(kind, 1), "a")
    assert orientation_of(content) == orientation and plain.shape == RGB.shape
    np.testing.assert_array_equal(stored, plain)
    np.testing.assert_array_equal(upright, UPRIGHT[orientation](plain))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\0",
        b"II*\0\x08\0\0\0\x09\0",
        tag_block(9, "<"),
        b"\xff\xd8Exif\0\0MM",
        b"RIFF1234WEBP",
    ],
)
def test_no_orientation_is_as_stored(content: bytes) -> None:
    assert orientation_of(content) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_picture(orientation: int) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[3:7, 10:25] = 255
    turned = turn_picture(image, orientation)
    rows, columns = np.nonzero(turned[..., 0])
    expected = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert (
        turn_boxes(np.array([[10, 3, 25, 7]]), orientation, turned.shape[1::-1]).tolist()
        == expected
    )


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_short(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"cut{ending}"
    write_image(path, RGB)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"cut\.(jpg|png).*Cure"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "empty"), (b"hello", "not a picture"), (None, "No such file")]
)
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


def test_list_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.jpg", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_pictures([tmp_path])] == ["a.png", "b.jpg"]
    assert "notes.txt" in capsys.readouterr().err
    assert [path.name for path in list_pictures([tmp_path / "*.jpg"])] == ["b.jpg"]
    for wrong in (tmp_path / "none.jpg", tmp_path / "*.bmp"):
        with pytest.raises(UserError, match="Cure"):
            list_pictures([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        list_pictures([tmp_path / "empty"])


def saved(kind: str, image: np.ndarray = RGB, **options: object) -> bytes:
    """RGB as a file of a kind, written by Pillow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
VIDEO = b"\0\0\0\x1cftypisom\0\0\2\0isomiso2mp41" + bytes(range(256)) * 40 + b"\xff\xd9" * 3


@pytest.mark.parametrize("name", ["photo", "photo.jfif", "photo.txt", "IMG_1.JPG"])
@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "AVIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"]
)
def test_a_picture_is_known_by_its_content(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(saved(kind))
    assert kind_of((tmp_path / name).read_bytes()) == kind and is_picture(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == RGB.shape and image.dtype == np.uint8
    assert np.abs(image[2, 16].astype(int) - RGB[2, 16]).max() < 60
    assert list_pictures([tmp_path]) == [tmp_path / name]


@pytest.mark.parametrize(
    "content", [b"", b"P1 is the first plan", b"BMW is a car, not a bitmap at all", VIDEO, b"{}"]
)
def test_other_files_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip").write_bytes(content)
    assert kind_of(content) == "" and not is_picture(tmp_path / "clip")


def test_the_first_frame_of_a_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(file.getvalue(), "a")[3, 4].tolist() == [255, 0, 0]
    (tmp_path / "moves.gif").write_bytes(file.getvalue())
    (tmp_path / "still.gif").write_bytes(saved("GIF"))
    (tmp_path / "photo").write_bytes(saved("JPEG"))
    still = {path.name: is_still(path) for path in tmp_path.iterdir()}
    assert still == {"moves.gif": False, "still.gif": True, "photo": True}


def test_an_avif_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x112] = 8
    content = saved("AVIF", exif=exif.tobytes())
    stored, upright = (decode_image(content, "a", upright=upright) for upright in (False, True))
    assert stored.shape == RGB.shape and orientation_of(content) == 8
    np.testing.assert_array_equal(upright, np.rot90(stored))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_what_follows_a_jpeg_is_not_the_picture(options: dict[str, object]) -> None:
    content = saved("JPEG", **options)
    whole = decode_image(content, "a")
    turned = with_orientation(content, 6)
    for more in (VIDEO, turned, b"\xff\xda", b"\xff" * 9):
        assert orientation_of(content + more) == 1
        np.testing.assert_array_equal(decode_image(content + more, "a", upright=True), whole)
    assert decode_image(turned + content, "a", upright=True).shape == (32, 24, 3)
    padded = content[:2] + b"\xff\xff" + content[2:]
    np.testing.assert_array_equal(decode_image(padded, "a"), whole)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("more", [b"", VIDEO, b"second"])
def test_a_cut_picture_is_refused_whatever_follows(kind: str, more: bytes) -> None:
    content = saved(kind)
    more = saved(kind) if more == b"second" else more
    for length in [*range(20, len(content), 61), len(content) - 1]:
        with pytest.raises(UserError, match=r"cut\.x is cut short.*Cure"):
            decode_image(content[:length] + more, "cut.x")


THUMBNAIL = Image.Exif().tobytes() + saved("JPEG", RGB[:8, :8])


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"progressive": True},
        {"exif": THUMBNAIL},
        {"exif": THUMBNAIL, "icc_profile": bytes(range(256)) * 20},
    ],
)
@pytest.mark.parametrize("second", [{}, {"progressive": True}, {"exif": THUMBNAIL}])
def test_a_header_cut_anywhere_does_not_become_the_picture_behind_it(
    first: dict[str, object], second: dict[str, object]
) -> None:
    """The decoder would make the second picture, or a mixture of both."""
    content, more = saved("JPEG", **first), saved("JPEG", RGB[::-1], **second)
    wanted = decode_image(saved("JPEG", **{**first, "exif": b""}), "alone")
    np.testing.assert_array_equal(decode_image(content + more, "whole"), wanted)
    for length in range(2, content.rfind(b"\xff\xda") + 20):
        with pytest.raises(UserError, match=r"cut\.jpg is cut short"):
            decode_image(content[:length] + more, "cut.jpg")


def test_what_follows_a_png_is_not_the_picture() -> None:
    content, turned = saved("PNG"), turned_file("png", 3)
    for more in (VIDEO, turned, b"IEND"):
        assert orientation_of(content + more) == 1
        np.testing.assert_array_equal(decode_image(content + more, "a", upright=True), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF"])
def test_many_pixels_are_to_be_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(kind)
    monkeypatch.setenv(ASK_FOR_MORE, "767")
    with pytest.raises(UserError, match=rf"big\.x is 32 x 24.*{ASK_FOR_MORE}=768"):
        decode_image(content, "big.x")
    monkeypatch.setenv(ASK_FOR_MORE, "768")
    assert decode_image(content, "big.x").shape == RGB.shape
    monkeypatch.setenv(ASK_FOR_MORE, "many")
    with pytest.raises(UserError, match="many"):
        decode_image(content, "big.x")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">II5B", 20_000, 9_000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    with pytest.raises(UserError, match="20000 x 9000"):
        decode_image(content, "bomb.png")


def test_heic_is_named_with_the_way_to_convert_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.jpg").write_bytes(saved("JPEG"))
    (tmp_path / "c.HEIC").write_bytes(HEIC)
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "more").mkdir()
    assert [path.name for path in list_pictures([tmp_path])] == ["b.jpg"]
    note = capsys.readouterr().err
    assert "c.HEIC" in note and "heif-convert" in note and "more/" in note
    assert ".hidden" not in note
    with pytest.raises(UserError, match=r"d\.jpg is HEIC.*Cure.*JPEG"):
        decode_image(HEIC, "d.jpg")


def test_frames_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["a9b2.png", "a9b11.png", "a10b1.png", "shot1.png", "shot02.png", "shot3.png"]
    for name in reversed(names):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_pictures([tmp_path])] == names
    assert [path.name for path in list_pictures([tmp_path / "a*.png"])] == names[:3]
