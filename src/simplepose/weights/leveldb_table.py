"""Reads LevelDB's sorted tables, the container of TensorFlow's checkpoints, and the protocol buffers inside.

A table is a row of blocks, each followed by a compression byte and a masked CRC-32C; the last 48 bytes say where the index block is
(LevelDB's `doc/table_format.md`). Keys inside a block share prefixes with the key before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simplepose.core.errors import UserError
from simplepose.weights.crc32c import masked_crc32c

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57


def damaged(path: str, what: str) -> UserError:
    """The sentence for a file that cannot be trusted."""
    return UserError(
        f"{path} is damaged or truncated: {what}. Cure: copy or download the file again"
    )


def read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """A little-endian base-128 number and the place behind it. Raises IndexError or ValueError on nonsense."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def proto_fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a protocol buffer: integers for varints, views for everything else.

    Raises:
        ValueError, IndexError: the bytes are not a protocol buffer.
    """
    place = 0
    while place < len(data):
        tag, place = read_varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = read_varint(data, place)
            yield number, value
            continue
        if wire == 2:
            length, place = read_varint(data, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if number == 0 or place + length > len(data):
            raise ValueError("a field beyond the end")
        yield number, data[place : place + length]
        place += length


def is_table(data: memoryview) -> bool:
    """Whether the last eight bytes are a table's."""
    return len(data) >= FOOTER_BYTES and int.from_bytes(data[-8:], "little") == MAGIC


def table_entries(data: memoryview, path: str) -> Iterator[tuple[bytes, memoryview]]:
    """Every key and value of a table in order; each block's checksum is verified before it is read.

    Args:
        data: the whole file, for which `is_table` holds.
        path: its name, for messages.

    Raises:
        UserError: a block is compressed, damaged or cut off.
    """
    try:
        footer = data[-FOOTER_BYTES:]
        place = read_varint(footer, read_varint(footer, 0)[1])[
            1
        ]  # behind the handle of the meta index, which is not used
        offset, place = read_varint(footer, place)
        size, _ = read_varint(footer, place)
        for _, handle in _block_entries(_block(data, offset, size, path)):
            offset, place = read_varint(handle, 0)
            size, _ = read_varint(handle, place)
            yield from _block_entries(_block(data, offset, size, path))
    except (IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(path, f"a block of its table makes no sense ({error})") from error


def _block(data: memoryview, offset: int, size: int, path: str) -> memoryview:
    """A block's content, verified."""
    if offset + size + 5 > len(data) - FOOTER_BYTES:
        raise damaged(
            path, f"a block of {size} bytes at {offset} lies beyond its {len(data)} bytes"
        )
    if masked_crc32c(data[offset : offset + size + 1]) != int.from_bytes(
        data[offset + size + 1 : offset + size + 5], "little"
    ):
        raise damaged(path, f"the checksum of the block at byte {offset} does not fit")
    if data[offset + size]:
        raise UserError(
            f"{path} holds compressed blocks, which this reader refuses. Cure: restore it in TensorFlow and save it again "
            "with tf.compat.v1.train.Saver, which does not compress"
        )
    return data[offset : offset + size]


def _block_entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of one block."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("more restart points than bytes")
    key, place = b"", 0
    while place < end:
        shared, place = read_varint(block, place)
        unshared, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("an entry beyond the end")
        key = key[:shared] + bytes(block[place : place + unshared])
        place += unshared
        yield key, block[place : place + length]
        place += length
