"""Reads TensorFlow checkpoints without TensorFlow: V1 (one file) and V2 (`.index` beside `.data-00000-of-00001`).

V1 is a table of SavedTensorSlices protocol buffers: slim's `resnet_v1_50.ckpt`. V2 is a table of BundleEntryProto that points into
data shards: the seed's snapshots. Layouts: TensorFlow's `saved_tensor_slice.proto`, `tensor_bundle.proto`, `tensor.proto`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.weights.crc32c import masked_crc32c
from simplepose.weights.leveldb_table import (
    damaged,
    is_table,
    proto_fields,
    read_varint,
    table_entries,
)

_TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
"""TensorFlow's DataType -> numpy; other types (strings, bfloat16, ...) are not weights of this network and are left out."""

_TENSOR_CONTENT, _HALF_VALUE = 4, 13  # fields of TensorProto
_RAW_VALUES = {5: "<f4", 6: "<f8"}
_VARINT_VALUES = (7, 10, 11, _HALF_VALUE, 16, 17)  # int, int64, bool, half, uint32, uint64


class Checkpoint(Mapping[str, np.ndarray]):
    """Variables by name; an array is read, and its checksum verified, when it is asked for."""

    def __init__(
        self, path: Path, version: int, readers: dict[str, Callable[[], np.ndarray]]
    ) -> None:
        self.path = path
        self.version = version
        self._readers = readers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def checkpoint_prefix(path: str | Path) -> Path:
    """`snapshot_140.ckpt` for itself, its `.index`, its `.meta` and its `.data-00000-of-00001`."""
    path = Path(path)
    name = path.name
    for ending in (".index", ".meta"):
        if name.endswith(ending):
            return path.with_name(name.removesuffix(ending))
    stem, found, _ = name.rpartition(".data-")
    return path.with_name(stem) if found else path


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` looks like a TensorFlow checkpoint: one of the names of a V2, or a file that ends as a V1 does."""
    path = Path(path)
    if checkpoint_prefix(path) != path or path.with_name(path.name + ".index").exists():
        return True
    return path.is_file() and path.stat().st_size >= 48 and is_table(_map(path)[-48:])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint.

    Args:
        path: a V1 file, or the prefix or any file of a V2 checkpoint.

    Returns:
        Arrays by variable name, in TensorFlow's own layout; strings and other exotic types are left out.

    Raises:
        UserError: missing, truncated, damaged, compressed, partitioned or big-endian files, and files that are something else. The
            checksum of a V2 variable is verified when it is read, every other one here.
    """
    prefix = checkpoint_prefix(path)
    index = prefix.with_name(prefix.name + ".index")
    if index.exists():
        return _read_v2(prefix, index)
    if Path(path) != prefix:
        raise UserError(
            f"{path} is part of a TensorFlow checkpoint whose {index.name} is missing. Cure: put {index.name} beside it"
        )
    if not prefix.exists():
        raise UserError(f"there is no file {path} and no {index.name}. Cure: check the path")
    return _read_v1(prefix)


def _map(path: Path) -> memoryview:
    """The bytes of a file without reading them."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}. Cure: check the path and its permissions"
        ) from error
    except ValueError:  # an empty file cannot be mapped
        return memoryview(b"")


def _open_table(path: Path) -> Iterator[tuple[bytes, memoryview]]:
    data = _map(path)
    if not is_table(data):
        raise UserError(
            f"{path} is not a whole TensorFlow checkpoint: its last bytes are not those of a table. "
            "Cure: copy or download it again; if it is another format, give it its own ending"
        )
    return table_entries(data, str(path))


def _partitioned(path: Path, name: str) -> UserError:
    return UserError(
        f"{path} holds {name} in slices (a partitioned variable), which this reader refuses. "
        "Cure: restore it in TensorFlow without a partitioner and save it again"
    )


def _shape(data: memoryview) -> tuple[int, ...]:
    """TensorShapeProto."""
    return tuple(
        next((size for field, size in proto_fields(dim) if field == 1), 0)
        for number, dim in proto_fields(data)
        if number == 2
    )


def _read_v1(path: Path) -> Checkpoint:
    variables: dict[str, tuple[tuple[int, ...], str | None]] = {}
    readers: dict[str, Callable[[], np.ndarray]] = {}
    seen = set()
    try:
        for key, value in _open_table(path):
            for number, part in proto_fields(value):
                if number == 1 and not key:
                    variables = _v1_meta(part, path)
                elif number == 2:
                    fields = dict(proto_fields(part))
                    name, tensor = bytes(fields[1]).decode(), fields[3]
                    if name not in variables:
                        raise damaged(str(path), f"{name} is not in its list of variables")
                    seen.add(name)
                    shape, dtype = variables[name]
                    if dtype is not None:
                        readers[name] = _v1_reader(tensor, shape, dtype, str(path), name)
    except (IndexError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(str(path), f"a variable makes no sense ({error})") from error
    lost = [name for name in variables if name not in seen]
    if lost:
        raise damaged(
            str(path),
            f"{len(lost)} of its {len(variables)} variables are not there, {lost[0]} first",
        )
    return Checkpoint(path, 1, readers)


def _v1_meta(data: memoryview, path: Path) -> dict[str, tuple[tuple[int, ...], str | None]]:
    """SavedTensorSliceMeta: shape and numpy type by name."""
    variables: dict[str, tuple[tuple[int, ...], str | None]] = {}
    for number, entry in proto_fields(data):
        if number != 1:
            continue
        name, shape, kind, slices = "", memoryview(b""), 0, []
        for field, value in proto_fields(entry):
            if field == 1:
                name = bytes(value).decode()
            elif field == 2:
                shape = value
            elif field == 3:
                kind = value
            elif field == 4:
                slices.append(value)
        # a whole variable is one slice, none of whose extents has a start or a length
        if len(slices) > 1 or any(
            len(extent) for part in slices for _, extent in proto_fields(part)
        ):
            raise _partitioned(path, name)
        variables[name] = _shape(shape), _TYPES.get(kind)
    return variables


def _v1_reader(
    tensor: memoryview, shape: tuple[int, ...], dtype: str, path: str, name: str
) -> Callable[[], np.ndarray]:
    """Reads one TensorProto when called. Its values stand in the field of their type, packed; TensorFlow leaves its type field empty."""

    def read() -> np.ndarray:
        chunks: list[np.ndarray] = []
        for number, value in proto_fields(tensor):
            if number in _RAW_VALUES or number == _TENSOR_CONTENT:
                chunks.append(np.frombuffer(value, _RAW_VALUES.get(number, dtype)))
            elif number in _VARINT_VALUES:
                numbers = np.array([value] if isinstance(value, int) else _packed(value), np.uint64)
                chunks.append(
                    numbers.astype(np.uint16).view(np.float16)
                    if number == _HALF_VALUE
                    else numbers.view(np.int64)
                )
        flat = np.concatenate(chunks) if chunks else np.zeros(0, dtype)
        if flat.size != math.prod(shape):
            raise damaged(path, f"{name} has {flat.size} values for shape {shape}")
        return flat.astype(dtype).reshape(shape)

    return read


def _packed(data: memoryview) -> list[int]:
    """Packed varints."""
    values, place = [], 0
    while place < len(data):
        value, place = read_varint(data, place)
        values.append(value)
    return values


def _read_v2(prefix: Path, index: Path) -> Checkpoint:
    readers: dict[str, Callable[[], np.ndarray]] = {}
    shards: dict[int, memoryview] = {}
    shard_count = 1
    try:
        for key, value in _open_table(index):
            fields: dict[int, Any] = {}
            slices = 0
            for number, part in proto_fields(value):
                fields[number] = part
                slices += number == 7
            if not key:  # BundleHeaderProto
                shard_count = int(fields.get(1, 0))
                if fields.get(2, 0):
                    raise UserError(
                        f"{index} was written on a big-endian machine. Cure: save it again on a little-endian one"
                    )
                continue
            name = key.decode()
            if slices:
                raise _partitioned(index, name)
            dtype = _TYPES.get(fields.get(1, 0))
            if dtype is None:
                continue
            shard = int(fields.get(3, 0))
            if shard not in shards:
                data_path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shard_count:05d}")
                if not data_path.exists():
                    raise UserError(
                        f"{index.name} is there, but its data shard {data_path} is missing. Cure: put it beside the index"
                    )
                shards[shard] = _map(data_path)
            readers[name] = _v2_reader(name, fields, dtype, shards[shard], str(prefix))
    except (IndexError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(str(index), f"an entry makes no sense ({error})") from error
    return Checkpoint(prefix, 2, readers)


def _v2_reader(
    name: str, fields: dict[int, Any], dtype: str, data: memoryview, path: str
) -> Callable[[], np.ndarray]:
    """Reads one BundleEntryProto's tensor when called; its place and size are checked now."""
    shape = _shape(fields.get(2, memoryview(b"")))
    offset, size = int(fields.get(4, 0)), int(fields.get(5, 0))
    expected = int.from_bytes(fields.get(6, b"\0\0\0\0"), "little")
    if size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise damaged(path + ".index", f"{name} of shape {shape} should not take {size} bytes")
    if offset + size > len(data):
        raise damaged(
            path, f"{name} should end at byte {offset + size} of a data shard of {len(data)} bytes"
        )

    def read() -> np.ndarray:
        content = data[offset : offset + size]
        if masked_crc32c(content) != expected:
            raise damaged(path, f"the checksum of {name} does not fit")
        return np.frombuffer(content, dtype).reshape(shape).copy()

    return read
