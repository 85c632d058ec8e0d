"""Writes small TensorFlow checkpoints for tests, V1 and V2, with deliberate faults on request. Not a test itself.

Run as a script it writes the committed fixtures: python tests/helpers/tf_checkpoint_writer.py tests/fixtures/tf
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

TYPES = {"<f4": 1, "<f8": 2, "<i4": 3, "<i8": 9, "|b1": 10, "<f2": 19}
VALUE_FIELDS = {"<f4": 5, "<f8": 6, "<i4": 7, "<i8": 10, "|b1": 11, "<f2": 13}


def slow_crc32c(data: bytes) -> int:
    """Bit by bit: the definition, independent of the package's."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


_REMAINDERS = [slow_crc32c(bytes([byte])) ^ slow_crc32c(b"\0") for byte in range(256)]
"""What a byte changes in the register; the checksum is linear."""


def checksum(data: bytes) -> int:
    """Byte by byte: eight times as fast as the definition, for tensors of some size."""
    register = 0xFFFFFFFF
    for byte in data:
        register = (register >> 8) ^ _REMAINDERS[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = checksum(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def shape_proto(shape: tuple[int, ...]) -> bytes:
    return b"".join(field(2, field(1, size)) for size in shape)


def block(
    entries: list[tuple[bytes, bytes]], compression: int = 0, restart_interval: int = 16
) -> bytes:
    """Prefix-compressed entries, restart points, compression byte and masked checksum."""
    out, restarts, last = bytearray(), [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += (
            varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        )
        last = key
    restarts = restarts or [0]
    for place in (*restarts, len(restarts)):
        out += place.to_bytes(4, "little")
    content = bytes(out) + bytes([compression])
    return content + masked(content)


def table(
    entries: list[tuple[bytes, bytes]], *, block_bytes: int = 4096, compression: int = 0
) -> bytes:
    out, index, pending = bytearray(), [], []

    def flush() -> None:
        if pending:
            handle = len(out)
            out.extend(block(pending, compression))
            index.append((pending[-1][0], varint(handle) + varint(len(out) - handle - 5)))
            pending.clear()

    for key, value in sorted(entries):
        pending.append((key, value))
        if sum(len(k) + len(v) for k, v in pending) >= block_bytes:
            flush()
    flush()
    meta_at = len(out)
    out += block([])
    index_at = len(out)
    out += block(index)
    handles = (
        varint(meta_at)
        + varint(index_at - meta_at - 5)
        + varint(index_at)
        + varint(len(out) - index_at - 5)
    )
    return bytes(out) + handles.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def values_of(array: np.ndarray) -> bytes:
    """The value field of TensorProto, packed as TensorFlow packs it."""
    kind = array.dtype.str
    if kind in ("<f4", "<f8"):
        packed = array.tobytes()
    elif kind == "<f2":
        packed = b"".join(varint(int(bits)) for bits in array.ravel().view(np.uint16))
    else:
        packed = b"".join(varint(int(value)) for value in array.ravel())
    return field(VALUE_FIELDS[kind], packed)


def write_v1(
    path: Path,
    variables: Mapping[str, np.ndarray],
    *,
    partitioned: bool = False,
    compression: int = 0,
    forget: str = "",
) -> None:
    meta, entries = b"", []
    for name in sorted(variables):
        array = np.asarray(variables[name])
        extents = b"".join(
            field(1, field(1, 0) + field(2, size) if partitioned else b"") for size in array.shape
        )
        slice_meta = (
            field(1, name.encode())
            + field(2, shape_proto(array.shape))
            + field(3, TYPES[array.dtype.str])
            + field(4, extents)
        )
        meta += field(1, slice_meta)
        if name != forget:
            saved = field(1, name.encode()) + field(2, extents) + field(3, values_of(array))
            entries.append((b"\0" + name.encode() + b"\0\1", field(2, saved)))
    entries.append((b"", field(1, meta + field(2, field(1, 21)))))
    path.write_bytes(table(entries, compression=compression))


def write_v2(
    prefix: Path,
    variables: Mapping[str, np.ndarray],
    *,
    partitioned: bool = False,
    endianness: int = 0,
) -> None:
    data, entries = (
        b"",
        [
            (
                b"",
                field(1, 1) + (field(2, endianness) if endianness else b"") + field(3, field(1, 1)),
            )
        ],
    )
    for name in sorted(variables):
        array = np.asarray(variables[name])
        raw = array.tobytes()
        entry = field(1, TYPES[array.dtype.str]) + field(2, shape_proto(array.shape))
        entry += (
            (field(4, len(data)) if data else b"")
            + field(5, len(raw))
            + varint(6 << 3 | 5)
            + masked(raw)
        )
        entries.append((name.encode(), entry + (field(7, field(1, b"")) if partitioned else b"")))
        data += raw
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)


def example() -> dict[str, np.ndarray]:
    """Small variables of every type, with names as the seed writes them."""
    rng = np.random.default_rng(21)
    unit = "resnet_v1_50/block1/unit_{}/bottleneck_v1/conv{}/"
    variables = {
        (unit + "weights").format(number, layer): rng.normal(size=(1, 1, 8, 4)).astype(np.float32)
        for number in (1, 2, 3)
        for layer in (1, 3)
    }
    return variables | {
        "up1/weights": rng.normal(size=(4, 4, 6, 8)).astype(np.float32),
        "up1/BatchNorm/gamma": np.ones(6, np.float32),
        "out/biases": np.zeros(0, np.float32),
        "beta1_power": np.array(0.9, np.float32),
        "global_step": np.array(-3, np.int64),
        "large": rng.normal(size=(40, 60)).astype(np.float32),
        "doubles": rng.normal(size=5),
        "integers": np.arange(-4, 4, dtype=np.int32),
        "flags": np.array([True, False, True]),
        "halves": rng.normal(size=(2, 3)).astype(np.float16),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_v1(folder / "v1.ckpt", example())
    write_v2(folder / "v2.ckpt", example())
