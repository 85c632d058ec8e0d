"""MATLAB files of other people, read by scipy after their structure was looked at.

scipy's compiled reader follows the numbers of a damaged file to memory that is not its own, which
ends the process. So the elements of a file (MATLAB's MAT-file format, level 5) are walked first.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from simplepose.core.files import read_bytes, reading

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, OBJECT, CHARACTERS, SPARSE = 1, 2, 3, 4, 5
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)
"""Types of elements that hold numbers; scipy looks up any other one beyond its table."""
TEXT = (*NUMBERS, 16, 17, 18)
LAST_CLASS = 15
"""Of arrays; functions and objects of other kinds are not read."""
LARGEST = 2**31
"""Bytes that a compressed variable may have."""


class Element(NamedTuple):
    """One element, and where the next one begins."""

    kind: int
    data: memoryview
    end: int


def read_matlab(path: str | Path, kind: str, cure: str, **options: Any) -> dict[str, Any]:
    """`scipy.io.loadmat` of a file that is whole.

    Args:
        path: the file, of MATLAB 5 to 7.2.
        kind: what it should be, for messages.
        cure: what to do where it is not.
        options: of `loadmat`.

    Raises:
        UserError: missing, damaged, or of another format (7.3 is HDF5).
    """
    from scipy.io import loadmat

    content = memoryview(read_bytes(path))
    with reading(path, kind, cure):
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]), "")
        if not order or bytes(content[124:126]) not in (b"\x00\x01", b"\x01\x00"):
            raise ValueError("it has no header of MATLAB 5 to 7.2")
        start = HEADER
        while start < len(content):
            element = _element(content, start, order)
            _check_variable(element, order)
            start = element.end
        return loadmat(path, **options)


def _element(data: memoryview, start: int, order: str) -> Element:
    kind, size = struct.unpack_from(f"{order}II", data, start)
    if small := kind >> 16:
        if small > 4:
            raise ValueError(f"a small element of {small} bytes")
        return Element(kind & 0xFFFF, data[start + 4 : start + 4 + small], start + 8)
    begin = start + 8
    if begin + size > len(data):
        raise ValueError(f"an element of {size} bytes at byte {start} lies beyond the end")
    padded = size if kind == COMPRESSED else -(-size // 8) * 8
    return Element(kind, data[begin : begin + size], begin + padded)


def _check_variable(element: Element, order: str) -> None:
    if element.kind == COMPRESSED:
        unpacker = zlib.decompressobj()
        content = memoryview(unpacker.decompress(element.data, LARGEST))
        if not unpacker.eof:
            raise ValueError("a compressed variable is cut short or too large")
        element = _element(content, 0, order)
    if element.kind != MATRIX:
        raise ValueError(f"an element of type {element.kind} in place of a matrix")
    _check_matrix(element.data, order)


def _check_matrix(data: memoryview, order: str) -> None:
    """Flags, sizes and name, then what the class of the matrix asks for, to its last byte."""
    parts, start = [], 0
    while start < len(data):
        parts.append(_element(data, start, order))
        start = parts[-1].end
    if not parts:
        return
    flags, sizes, name, *rest = parts
    if (flags.kind, len(flags.data), sizes.kind, name.kind) != (6, 8, 5, 1) or len(sizes.data) % 4:
        raise ValueError("a matrix without flags, sizes and name")
    (bits,) = struct.unpack_from(f"{order}I", flags.data)
    shape = struct.unpack(f"{order}{len(sizes.data) // 4}i", sizes.data)
    kind, count = bits & 0xFF, math.prod(shape)
    if min(shape, default=-1) < 0 or kind > LAST_CLASS:
        raise ValueError(f"a matrix of class {kind} and shape {shape}")
    if kind in (STRUCT, OBJECT):
        *_, length, names = rest[: 2 + (kind == OBJECT)]
        rest = rest[2 + (kind == OBJECT) :]
        (width,) = struct.unpack_from(f"{order}i", length.data)
        if width < 1 or (length.kind, names.kind) != (5, 1):
            raise ValueError("a structure without names")
        count *= len(names.data) // width
    kinds: tuple[int, ...] = (MATRIX,)
    if kind not in (CELL, STRUCT, OBJECT):
        count = 1 + bool(bits & 0x800) + 2 * (kind == SPARSE)
        kinds = TEXT if kind == CHARACTERS else NUMBERS
    if len(rest) != count or any(one.kind not in kinds for one in rest):
        raise ValueError(f"a matrix of class {kind} and shape {shape} has other contents")
    for one in rest:
        if one.kind == MATRIX:
            _check_matrix(one.data, order)
