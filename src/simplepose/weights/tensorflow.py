"""TensorFlow's checkpoints without TensorFlow: their variables, our names of them, and what Adam
remembers.

A V1 checkpoint is one file, a table of SavedTensorSlices: slim's `resnet_v1_50.ckpt`. A V2 is an
`.index`, a table of BundleEntryProto, which points into `.data-00000-of-00001` beside it: the
seed's snapshots. Tables are LevelDB's (`doc/table_format.md`): a row of blocks, each followed by a
compression byte and a masked CRC-32C; the last 48 bytes say where the index block is. What is
inside are protocol buffers: TensorFlow's `saved_tensor_slice.proto`, `tensor_bundle.proto`,
`tensor.proto`.

Beside each trained variable `X` a snapshot of the seed holds Adam's moments m (`X/Adam`) and v
(`X/Adam_1`). TensorFlow does not count updates: it keeps `beta1_power` and `beta2_power`,
.9^(t + 1) and .999^(t + 1) after t updates, each a float32 number that is multiplied once an
update. The product is repeated here number by number, so t is found exactly as long as
`beta2_power` is a normal float32 number, which is 87,292 updates (18 epochs of COCO in batches of
32; `beta1_power` lasts 827). Beyond it t cannot be known and does not matter: both bias corrections
are 1.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import torch

from simplepose.core.errors import UserError
from simplepose.core.files import read_bytes, reading
from simplepose.pose.checkpoints import shortened

TITLE = "a whole TensorFlow checkpoint"
FOOTER_BYTES = 48
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_TYPES = dict(zip((1, 2, 3, 4, 5, 6, 9), ["f4", "f8", "i4", "u1", "i2", "i1", "i8"], strict=True))
_TYPES |= dict(zip((10, 17, 19, 22, 23), ["?", "u2", "f2", "u4", "u8"], strict=True))
"""TensorFlow's DataType -> numpy; others (strings, bfloat16, ...) are no weights of this network
and are left out."""
_HALF_VALUES = 13
_VARINT_VALUES = (7, 10, 11, _HALF_VALUES, 16, 17)
"""Fields of TensorProto: int, int64, bool, half, uint32, uint64."""

Message = dict[int, list[Any]]
"""Values of a protocol buffer by field number: integers for varints, views for everything else."""


class Checkpoint(Mapping[str, np.ndarray]):
    """Variables by name; an array is read, and its checksum verified, when it is asked for."""

    def __init__(
        self, path: Path, version: int, readers: dict[str, Callable[[], np.ndarray]]
    ) -> None:
        self.path, self.version, self._readers = path, version, readers

    def __getitem__(self, name: str) -> np.ndarray:
        read = self._readers[name]
        with reading(self.path, TITLE):
            return read()

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def checkpoint_prefix(path: str | Path) -> Path:
    """`snapshot_140.ckpt` for itself, its `.index`, `.meta` and `.data-00000-of-00001`."""
    path = Path(path)
    return path.with_name(re.sub(r"(?<=.)\.(index|meta|data-.*)$", "", path.name))


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` has one of the names of a V2, or is a file that ends as a V1 does."""
    path = Path(path)
    if checkpoint_prefix(path) != path or path.with_name(path.name + ".index").exists():
        return True
    if not path.is_file() or path.stat().st_size < FOOTER_BYTES:
        return False
    with path.open("rb") as file:
        file.seek(-len(MAGIC), os.SEEK_END)
        return file.read() == MAGIC


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint.

    Args:
        path: a V1 file, or the prefix or any file of a V2 checkpoint.

    Returns:
        Arrays by variable name, in TensorFlow's own layout; strings and other exotic types are left
        out.

    Raises:
        UserError: missing, truncated, damaged, compressed, partitioned or big-endian files, and
            files that are something else. The checksum of a V2 variable is verified when it is
            read, every other one here.
    """
    prefix = checkpoint_prefix(path)
    index = prefix.with_name(prefix.name + ".index")
    with reading(prefix, TITLE):
        if index.exists():
            return Checkpoint(prefix, 2, _read_v2(prefix, index))
        if Path(path) != prefix:
            raise UserError(
                f"{path} is part of a TensorFlow checkpoint whose {index.name} is missing. "
                f"Cure: put {index.name} beside it"
            )
        if not prefix.exists():
            raise UserError(f"there is no file {path} and no {index.name}. Cure: check the path")
        return Checkpoint(prefix, 1, _read_v1(prefix))


def _verify(data: bytes, checksum: memoryview | bytes, what: str) -> None:
    """Compares with the masked CRC-32C: rotated right by 15 bits, plus a constant."""
    value = google_crc32c.value(data)
    masked = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    if masked != int.from_bytes(checksum, "little"):
        raise ValueError(f"the checksum of {what} does not fit")


def _table(path: Path) -> Iterator[tuple[str, Message]]:
    """Keys and values of a table in order; each block is verified before it is read."""
    data = memoryview(read_bytes(path))
    if len(data) < FOOTER_BYTES or data[-len(MAGIC) :] != MAGIC:
        raise UserError(
            f"{path} is not a whole TensorFlow checkpoint: its last bytes are not those of a table."
            " Cure: copy or download it again; if it is another format, give it its own ending"
        )
    with reading(path, TITLE):
        # The first two numbers of the footer are the handle of the meta index, which is not used.
        *_, offset, size = _varints(data[-FOOTER_BYTES:], 4)
        for _, handle in _block_entries(_block(data, offset, size, path)):
            offset, size = _varints(handle, 2)
            for key, value in _block_entries(_block(data, offset, size, path)):
                yield key.decode(), _message(value)


def _block(data: memoryview, offset: int, size: int, path: Path) -> memoryview:
    end = offset + size
    if end + 5 > len(data) - FOOTER_BYTES:
        raise ValueError(f"a block of {size} bytes at {offset} lies beyond its {len(data)} bytes")
    _verify(bytes(data[offset : end + 1]), data[end + 1 : end + 5], f"the block at byte {offset}")
    if data[end]:
        raise UserError(
            f"{path} holds compressed blocks, which this reader refuses. Cure: restore it in "
            "TensorFlow and save it again with tf.compat.v1.train.Saver, which does not compress"
        )
    return data[offset:end]


def _block_entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of one block; a key shares a prefix with the one before."""
    end = len(block) - 4 * (int.from_bytes(block[-4:], "little") + 1)
    key, place = b"", 0
    while place < end:
        shared, place = read_varint(block, place)
        unshared, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("an entry of its table lies beyond the end")
        value = place + unshared
        key = key[:shared] + bytes(block[place:value])
        place = value + length
        yield key, block[value:place]


def read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """A little-endian base-128 number and the index behind it.

    Raises:
        IndexError, ValueError: there is none.
    """
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")


def _varints(data: memoryview, count: int | None = None) -> list[int]:
    """The first numbers of `data`, or all."""
    values: list[int] = []
    place = 0
    while place < len(data) if count is None else len(values) < count:
        value, place = read_varint(data, place)
        values.append(value)
    return values


def _message(data: memoryview) -> Message:
    fields: Message = defaultdict(list)
    place = 0
    while place < len(data):
        tag, place = read_varint(data, place)
        wire, number = tag & 7, 0
        if wire in (0, 2):
            number, place = read_varint(data, place)
        start, place = place, place + {0: 0, 1: 8, 2: number, 5: 4}[wire]
        if place > len(data):
            raise ValueError("a field lies beyond the end")
        fields[tag >> 3].append(data[start:place] if wire else number)
    return fields


def _number(fields: Message, field: int) -> int:
    """An integer, which is not written where it is 0."""
    return int(fields[field][-1]) if fields[field] else 0


def _shape(fields: list[Any]) -> tuple[int, ...]:
    """TensorShapeProto."""
    return tuple(_number(_message(size), 1) for shape in fields[-1:] for size in _message(shape)[2])


def _partitioned(path: Path, name: str) -> UserError:
    return UserError(
        f"{path} holds {name} in slices (a partitioned variable), which this reader refuses. "
        "Cure: restore it in TensorFlow without a partitioner and save it again"
    )


def _read_v1(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    variables: dict[str, tuple[tuple[int, ...], str | None]] = {}
    tensors = {}
    for _, value in _table(path):
        for meta in map(_message, value[1]):
            for entry in map(_message, meta[1]):
                name = bytes(entry[1][-1]).decode()
                # A whole variable is one slice, none of whose extents has a start or a length.
                extents = [extent for part in entry[4] for extent in _message(part)[1]]
                if len(entry[4]) > 1 or any(map(len, extents)):
                    raise _partitioned(path, name)
                variables[name] = _shape(entry[2]), _TYPES.get(_number(entry, 3))
        for saved in map(_message, value[2]):
            tensors[bytes(saved[1][-1]).decode()] = saved[3][-1]
    if lost := [name for name in variables if name not in tensors]:
        raise ValueError(
            f"{len(lost)} of its {len(variables)} variables are not there, {lost[0]} first"
        )
    return {
        name: partial(_v1_array, tensors[name], name, shape, dtype)
        for name, (shape, dtype) in variables.items()
        if dtype
    }


def _v1_array(tensor: memoryview, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A TensorProto's values: packed in the field of their type, or raw."""
    fields = _message(tensor)
    for field, raw in ((4, dtype), (5, "f4"), (6, "f8")):
        if fields[field]:
            flat = np.frombuffer(b"".join(fields[field]), _little(raw))
            break
    else:
        parts = [part for field in _VARINT_VALUES for part in fields[field]]
        numbers = (_varints(part) if isinstance(part, memoryview) else [part] for part in parts)
        flat = np.fromiter(chain.from_iterable(numbers), np.uint64)
        half = fields[_HALF_VALUES]
        flat = flat.astype(np.uint16).view(np.float16) if half else flat.view(np.int64)
    if flat.size != math.prod(shape):
        raise ValueError(f"{name} has {flat.size} values for shape {shape}")
    return flat.astype(dtype).reshape(shape)


def _read_v2(prefix: Path, index: Path) -> dict[str, Callable[[], np.ndarray]]:
    entries = dict(_table(index))
    header = entries.pop("", defaultdict(list))
    if _number(header, 2):
        raise UserError(
            f"{index} was written on a big-endian machine. Cure: save it on a little-endian one"
        )

    @cache
    def shard(number: int) -> Path:
        path = prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{_number(header, 1):05d}")
        if not path.exists():
            raise UserError(
                f"{index.name} is there, but its data shard {path} is missing. "
                "Cure: put it beside the index"
            )
        return path

    readers: dict[str, Callable[[], np.ndarray]] = {}
    for name, entry in entries.items():
        if entry[7]:
            raise _partitioned(index, name)
        dtype = _TYPES.get(_number(entry, 1))
        if dtype is None:
            continue
        path, shape, count = shard(_number(entry, 3)), _shape(entry[2]), _number(entry, 5)
        end = _number(entry, 4) + count
        if count != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"{name} of shape {shape} should not take {count} bytes")
        if end > path.stat().st_size:
            raise ValueError(f"{name} should end at byte {end}, which is behind {path.name}'s end")
        readers[name] = partial(_v2_array, path, entry, name, shape, dtype)
    return readers


def _v2_array(
    path: Path, entry: Message, name: str, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    data = np.fromfile(path, np.uint8, _number(entry, 5), offset=_number(entry, 4))
    _verify(data.tobytes(), (entry[6] or [b""])[-1], name)
    return data.view(_little(dtype)).astype(dtype).reshape(shape)


def _little(dtype: str) -> np.dtype:
    return np.dtype(dtype).newbyteorder("<")


_PARTS = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def tensorflow_name(name: str) -> str | None:
    """The seed's name of a variable of the network in ours; None for everything else.

    `resnet_v1_50/block2/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma` is
    `backbone.layer2.0.downsample.1.weight`.
    """
    path, _, part = name.rpartition("/")
    layer = path.removesuffix("/BatchNorm")
    is_norm = layer != path
    if part not in _PARTS:
        return None
    part = _PARTS[part]
    kind = "bn" if is_norm else "conv"
    if re.fullmatch(r"resnet_v1_\d+/conv1", layer):
        return f"backbone.{kind}1.{part}"
    unit = re.fullmatch(
        r"resnet_v1_\d+/block(\d)/unit_(\d+)/bottleneck_v1/(?:conv([123])|shortcut)", layer
    )
    if unit:
        inner = f"{kind}{unit[3]}" if unit[3] else f"downsample.{int(is_norm)}"
        return f"backbone.layer{unit[1]}.{int(unit[2]) - 1}.{inner}.{part}"
    if up := re.fullmatch(r"up([123])", layer):
        return f"deconv_layers.{3 * int(up[1]) - 3 + is_norm}.{part}"
    return f"final_layer.{part}" if path == "out" else None


def torch_layout(array: np.ndarray) -> torch.Tensor:
    """(h, w, in, out) of a convolution or (h, w, out, in) of a deconvolution as torch has it.

    One order of axes serves both, because the channel that is summed over differs. A variable with
    fewer axes stays as it is.
    """
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))


FIRST, SECOND = "/Adam", "/Adam_1"
_BETA1, _BETA2 = np.float32(0.9), np.float32(0.999)
_SMALLEST = np.finfo(np.float32).smallest_normal
_POWERS = ("beta1_power", "beta2_power")


@dataclass(frozen=True, kw_only=True)
class AdamState:
    """Adam's memory after a number of updates, in our names and layouts."""

    first_moments: dict[str, torch.Tensor]
    """m of each trained parameter, float32, shaped as the parameter."""
    second_moments: dict[str, torch.Tensor]
    """v of each trained parameter, likewise."""
    updates: int
    """Updates so far (t), or the most that can be told where `underflowed`."""
    underflowed: bool
    """There were at least `updates` updates: `beta2_power` has left the range of float32."""
    learning_rate: float | None
    """Of the last update, as the seed saves it (`Variable`); None where it is not in the file."""


def require_adam(names: Mapping[str, np.ndarray], path: str) -> None:
    """Refuses a snapshot that lacks what Adam remembers, before anything large is read.

    Args:
        names: the variables of a TensorFlow checkpoint.
        path: names the file in messages.

    Raises:
        UserError: slots or powers are missing; says which and how many.
    """
    wanted = [name + slot for name in _trained(names) for slot in (FIRST, SECOND)]
    missing = [name for name in (*_POWERS, *wanted) if name not in names]
    if missing or not wanted:
        raise UserError(
            f"{path} cannot go on where it stopped: it holds no "
            f"{shortened(missing or ['network'])} ({len(missing)} of the {len(wanted) + 2} "
            "variables of Adam are missing). "
            f"Cure: --train.weights {path} starts from its weights with a new optimiser"
        )


def read_adam(variables: Mapping[str, np.ndarray], path: str) -> AdamState:
    """Reads the moments, the count of updates and the last learning rate.

    Args:
        variables: a TensorFlow checkpoint.
        path: names the file in messages.

    Raises:
        UserError: something is missing, not finite, negative (v) or of another shape than its
            variable; or the powers are not those of an Adam with .9 and .999.
    """
    require_adam(variables, path)
    moments: dict[str, dict[str, torch.Tensor]] = {FIRST: {}, SECOND: {}}
    for name, ours in _trained(variables).items():
        shape = variables[name].shape
        for slot, found in moments.items():
            array = variables[name + slot]
            if array.shape != shape:
                raise UserError(
                    f"{path}: {name + slot} has shape {array.shape}, {name} has {shape}. "
                    "Cure: use another snapshot of that run"
                )
            if not np.isfinite(array).all() or (slot == SECOND and (array < 0).any()):
                raise UserError(
                    f"{path} holds numbers in {name + slot} that Adam cannot have made (NaN, "
                    "infinite or negative). Cure: use an earlier snapshot of that run"
                )
            found[ours] = torch_layout(array.astype(np.float32))
    beta1_power, beta2_power = (float(variables[name]) for name in _POWERS)
    updates, underflowed = count_updates(beta1_power, beta2_power, path)
    rate = variables.get("Variable")
    return AdamState(
        first_moments=moments[FIRST],
        second_moments=moments[SECOND],
        updates=updates,
        underflowed=underflowed,
        learning_rate=float(rate) if rate is not None and rate.ndim == 0 else None,
    )


def count_updates(beta1_power: float, beta2_power: float, path: str) -> tuple[int, bool]:
    """The number of updates that Adam's powers tell.

    Args:
        beta1_power: .9^(t + 1) in float32.
        beta2_power: .999^(t + 1) in float32.
        path: names the file in messages.

    Returns:
        t, and whether the power has underflowed, which makes t the least it can be.

    Raises:
        UserError: the two numbers are not powers of .9 and .999 with the same exponent.
    """
    powers = np.multiply.accumulate(np.full(90_000, _BETA2))
    powers = powers[powers >= _SMALLEST].astype(np.float64)  # after 0, 1, 2, ... updates
    underflowed = 0 <= beta2_power < powers[-1]
    updates = len(powers) if underflowed else int(np.abs(powers - beta2_power).argmin())
    least = float(_SMALLEST)
    expected = max(float(_BETA1) ** (updates + 1), least)
    fits = underflowed or abs(beta2_power / powers[updates] - 1) < 5e-4
    if not fits or abs(max(beta1_power, least) / expected - 1) > 0.01:
        raise UserError(
            f"{path}: beta1_power {beta1_power:g} and beta2_power {beta2_power:g} are not those of "
            "one Adam with .9 and .999, so its count of updates cannot be told. "
            f"Cure: --train.weights {path} starts from its weights with a new optimiser"
        )
    return updates, underflowed


def _trained(names: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The variables that the optimiser changes, and their names here."""
    ours = {name: tensorflow_name(name) or "_mean" for name in names}
    return {name: new for name, new in ours.items() if not new.endswith(("_mean", "_var"))}
