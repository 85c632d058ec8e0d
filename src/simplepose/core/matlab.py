"""MATLAB files of other people, read by scipy after their structure was looked at.

scipy's compiled reader follows the numbers of a damaged file to memory that is not its own, which
ends the process. So the elements of a file (MATLAB's MAT-file format, level 5) are walked first.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simplepose.core.files import read_bytes, reading

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, OBJECT, CHARACTERS, SPARSE = 1, 2, 3, 4, 5
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)
"""Types of elements that hold numbers; scipy looks up any other one beyond its table."""
TEXT = (*NUMBERS, 16, 17, 18)
LAST_CLASS = 15
"""Of arrays; functions and objects of other kinds are not read."""
LOGICAL = 0x200
"""Flag of an array of true and false."""
LARGEST = 2**31
"""Bytes that a compressed variable may have."""


_LEAF = {order: struct.Struct(f"{order}6I2i4I") for order in "<>"}
"""Flags, two sizes, no name, and the beginning of the data: nearly all matrices of a file."""

Element = tuple[int, int, int, int]
"""Type of an element, where its data begins, how many bytes they are, where the next one begins."""


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

    content = read_bytes(path)
    with reading(path, kind, cure):
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128], "")
        if not order or content[124:126] not in (b"\x00\x01", b"\x01\x00"):
            raise ValueError("it has no header of MATLAB 5 to 7.2")
        pair = struct.Struct(f"{order}II")
        for element in _elements(content, HEADER, len(content), pair):
            _check_variable(content, element, pair)
        variables: dict[str, Any] = loadmat(path, **options)
    return variables


def _element(data: bytes, start: int, end: int, pair: struct.Struct) -> Element:
    kind, size = pair.unpack_from(data, start)
    if small := kind >> 16:
        if small > 4:
            raise ValueError(f"a small element of {small} bytes")
        return kind & 0xFFFF, start + 4, small, start + 8
    begin = start + 8
    if begin + size > end:
        raise ValueError(f"an element of {size} bytes at byte {start} lies beyond the end")
    return kind, begin, size, begin + (size if kind == COMPRESSED else size + -size % 8)


def _check_variable(data: bytes, element: Element, pair: struct.Struct) -> None:
    kind, begin, size, _ = element
    if kind == COMPRESSED:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(memoryview(data)[begin : begin + size], LARGEST)
        if not unpacker.eof:
            raise ValueError("a compressed variable is cut short or too large")
        kind, begin, size, _ = _element(data, 0, len(data), pair)
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} in place of a matrix")
    _check_matrix(data, begin, begin + size, pair)


def _check_matrix(data: bytes, start: int, end: int, pair: struct.Struct) -> None:
    """Flags, sizes and name, then what the class of the matrix asks for, to its last byte."""
    if start >= end:
        return
    flags, sizes, name, *rest = _elements(data, start, end, pair)
    if (flags[0], flags[2], sizes[0], name[0]) != (6, 8, 5, 1) or sizes[2] % 4:
        raise ValueError("a matrix without flags, sizes and name")
    bits, _ = pair.unpack_from(data, flags[1])
    shape = struct.unpack_from(f"{pair.format[0]}{sizes[2] // 4}i", data, sizes[1])
    kind, count, kinds = bits & 0xFF, math.prod(shape), {MATRIX}
    wrong = ValueError(f"a matrix of class {kind} and shape {shape} has other contents")
    if min(shape, default=-1) < 0 or kind > LAST_CLASS:
        raise wrong
    if kind in (STRUCT, OBJECT):
        head = 2 + (kind == OBJECT)
        count *= _fields(data, rest[head - 2 : head], pair)
        rest = rest[head:]
    elif kind != CELL:
        count = 1 + bool(bits & 0x800) + 2 * (kind == SPARSE)
        kinds = {*TEXT} if kind == CHARACTERS else {*NUMBERS}
    if len(rest) != count or not {one[0] for one in rest} <= kinds:
        raise wrong
    leaf = _LEAF[pair.format[0]]
    for _, begin, size, _ in rest if MATRIX in kinds else ():
        if not _is_leaf(data, begin, size, leaf):
            _check_matrix(data, begin, begin + size, pair)


def _elements(data: bytes, start: int, end: int, pair: struct.Struct) -> Iterator[Element]:
    while start < end:
        yield (element := _element(data, start, end, pair))
        start = element[-1]


def _fields(data: bytes, parts: list[Element], pair: struct.Struct) -> int:
    """How many fields a structure has, by the length of a name and all names."""
    length, names = parts
    (width,) = struct.unpack_from(f"{pair.format[0]}i", data, length[1])
    if width < 1 or (length[0], names[0]) != (5, 1):
        raise ValueError("a structure without names")
    return names[2] // int(width)


def _is_leaf(data: bytes, start: int, size: int, leaf: struct.Struct) -> bool:
    """Whether a matrix has the usual form of a number or a word, whole to its last byte; what it
    says no to may still be good."""
    if size < leaf.size:
        return False
    six, eight, bits, _, five, also, rows, columns, one, none, kind, length = leaf.unpack_from(
        data, start
    )
    usual = six == 6 and eight == also == 8 and five == 5 and one == 1 and none == 0
    if not usual or rows < 0 or columns < 0 or not CHARACTERS <= bits & ~LOGICAL <= LAST_CLASS:
        return False
    if small := kind >> 16:
        kind, whole = kind & 0xFFFF, small <= 4 and size == 48
    else:
        whole = size == 48 + length + -length % 8
    allowed = TEXT if bits & 0xFF == CHARACTERS else NUMBERS
    return whole and kind in allowed and bits & 0xFF != SPARSE
