"""JPEG files with chosen markers. No test in here."""

from __future__ import annotations


def with_orientation(content: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation written into it by hand."""
    tiff = (
        b"II*\0\x08\0\0\0"
        + b"\x01\0"
        + b"\x12\x01\x03\0\x01\0\0\0"
        + bytes([orientation, 0, 0, 0])
        + b"\0\0\0\0"
    )
    exif = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]
