"""CRC-32C (Castagnoli) of large buffers with numpy alone: the checksum of TensorFlow's checkpoint files (RFC 3720, appendix B.4).

A checksum is linear over bits: with A the step "advance by four zero bytes", the register after words w_0 ... w_{n-1} is the exclusive
or of A^(n-i) w_i. So N interleaved lanes run side by side, each a Horner scheme in A^N, and are joined at the end by halving.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8
_LANES = 1 << 14


@lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    """(256,) uint32: the register after one byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(
            np.uint32
        )
    return table


@lru_cache(maxsize=64)
def _advance(words: int) -> tuple[np.ndarray, np.ndarray]:
    """A^words as two (65536,) uint32 tables for the low and high half of a register; `words` is a power of two."""
    if words == 1:
        bytes_ = _byte_table()
        columns = np.uint32(1) << np.arange(32, dtype=np.uint32)
        for _ in range(4):
            columns = bytes_[columns & 0xFF] ^ (columns >> 8)
    else:
        columns = _apply(
            _advance(words // 2),
            _apply(_advance(words // 2), np.uint32(1) << np.arange(32, dtype=np.uint32)),
        )
    halves = []
    for half in (columns[:16], columns[16:]):
        table = np.zeros(65536, np.uint32)
        for bit, column in enumerate(half):
            table[1 << bit : 2 << bit] = table[: 1 << bit] ^ column
        halves.append(table)
    return halves[0], halves[1]


def _apply(tables: tuple[np.ndarray, np.ndarray], registers: np.ndarray) -> np.ndarray:
    """(n,) uint32 -> (n,) uint32."""
    low_high = registers.view("<u2").reshape(-1, 2)
    return tables[0][low_high[:, 0]] ^ tables[1][low_high[:, 1]]


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of `data`: `crc32c(b"123456789") == 0xE3069283`."""
    view = memoryview(data).cast("B")
    length = len(view)
    if length < 64:
        table, register = _byte_table(), 0xFFFFFFFF
        for byte in view:
            register = int(table[(register ^ byte) & 0xFF]) ^ (register >> 8)
        return register ^ 0xFFFFFFFF
    lanes = 16
    while lanes < _LANES and lanes * lanes * 4 < length:
        lanes *= 2
    # zeros in front of the message change nothing, so the first row takes what does not fill a whole row
    head = length % (4 * lanes) or 4 * lanes
    first = np.zeros(4 * lanes, np.uint8)
    first[-head:] = np.frombuffer(view[:head], np.uint8)
    rest = np.frombuffer(view[head:], np.uint8)
    start = 4 * lanes - head
    first[start : start + 4] ^= 0xFF
    if head < 4:  # the initial register covers four bytes
        rest = rest.copy()
        rest[: 4 - head] ^= 0xFF
    registers = first.view("<u4").copy()
    tables = _advance(lanes)
    for row in rest.view("<u4").reshape(-1, lanes):
        registers = _apply(tables, registers)
        registers ^= row
    words = 1
    while len(registers) > 1:
        registers = _apply(_advance(words), np.ascontiguousarray(registers[0::2])) ^ registers[1::2]
        words *= 2
    return int(_apply(_advance(1), registers)[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as LevelDB and TensorFlow store it: rotated right by 15 bits, plus a constant."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF
