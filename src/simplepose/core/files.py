"""Files appear whole or not at all: everything is written to a temporary name beside its place,
then renamed. What grows for hours is visible meanwhile."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, Any

import msgspec
import yaml

from simplepose.core.errors import MORE_MEMORY, UserError, brief, is_out_of_memory, shown

_BLOCKS = 8192
"""Two blocks of most file systems: a full one has less."""
YAML_NODES = 100_000
"""Values that a YAML file may have, aliases counted with all that they stand for."""


@contextmanager
def reading(path: str | Path, kind: str, cure: str = "copy or download it again") -> Iterator[None]:
    """Around the readers of other libraries, which raise classes of many kinds for damaged files:
    all of them become one sentence.

    Args:
        path: the file, for the message.
        kind: what it should be, e.g. `a MATLAB file`.
        cure: what to do about it.

    Raises:
        UserError: whatever was raised inside; one that was raised there stays as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        known = error.strerror if isinstance(error, OSError) else ""
        cure += f"; if it is whole, {MORE_MEMORY}" * is_out_of_memory(error)
        reason = known or brief(error).rstrip(".") or type(error).__name__
        raise UserError(f"{path} cannot be read as {kind}: {reason}. Cure: {cure}") from error


def require_whole_zip(path: str | Path | IO[bytes]) -> None:
    """Compares every member of a zip, such as PyTorch's files are, with its checksum (CRC-32).

    Raises:
        ValueError: one does not fit.
        zipfile.BadZipFile: it is no whole zip.
    """
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise ValueError(f"the checksum of its member {damaged} does not fit")


HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
"""This machine, in the names of partial files: several may write into one folder."""


def partial_name(path: Path) -> Path:
    """The hidden name beside `path` for what is written in one go: of this process alone, and with
    the ending of `path`, so that writers who choose by it work."""
    return path.with_name(f".{path.stem}.{HOST}-{os.getpid()}.partial{path.suffix}")


def visible_partial(path: Path) -> Path:
    """The name beside `path` for what grows for a long time, or could not get its own name: its
    owner finds it after whatever happened."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


@cache
def remove_dead_partials(folder: Path) -> None:
    """Removes the hidden partial files of this machine's dead processes, once a folder and
    process."""
    # Windows kills a process that is asked this way whether it lives.
    if os.name != "posix" or not folder.is_dir():
        return
    pattern = re.compile(rf"\..*\.{HOST}-(\d+)\.partial(\.[^.]*)?")
    for name in os.listdir(folder):
        found = pattern.fullmatch(name)
        if found and not _alive(int(found[1])):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def readable(name: str) -> str:
    """A file name as text that every file and terminal takes: bytes of it that are not UTF-8 become
    `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path in the same folder; renames it to `path` if the block succeeds,
    removes it otherwise. A whole file that cannot get its name gets its `visible_partial`.

    Args:
        path: where the file belongs.
        durable: wait until its bytes are on the disk before it gets its name, so that not even a
            power cut leaves an empty file. For files that cost hours; not for thousands of
            pictures.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_partials(path.parent)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        give_name(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def no_room_behind(path: Path) -> str:
    """Why a file could not have grown, for writers that do not say so; empty where it could."""
    size = path.stat().st_size
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(size)
            room = file.write(bytes(_BLOCKS)) == _BLOCKS
            file.truncate(size)
    except OSError as error:
        return error.strerror or str(error)
    return "" if room else os.strerror(errno.ENOSPC)


def take(file: IO[bytes], path: Path) -> None:
    """Makes an open file this process's own, until it is closed or the process dies.

    Raises:
        UserError: another process writes it.
    """
    try:
        import fcntl
    except ImportError:  # Windows renames and removes no open file
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another process writes {path}. Cure: wait for it, or choose another --output"
        ) from error
    except OSError:  # a file system without locks
        pass


def give_name(temporary: Path, path: Path) -> None:
    """Renames a whole file.

    Raises:
        UserError: it cannot have that name; says which one it got.
    """
    try:
        os.replace(temporary, path)
    except OSError as error:
        kept = visible_partial(path)
        os.replace(temporary, kept)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; what was to be written is {kept}. "
            "Cure: make way for it and rename that file"
        ) from error


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder with a hidden name beside `path`, for files that appear together: whoever
    makes them renames it or what is in it. What is left of it goes.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    folder = partial_name(path)
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_new(*paths: Path, overwrite: bool) -> None:
    """Refuses to replace a file or folder that nobody allowed to.

    Raises:
        UserError: names the first that is there.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists. Cure: --overwrite, or another --output")


def cannot_write(path: Path, error: OSError) -> UserError:
    """The sentence for a file that cannot be written."""
    return UserError(
        f"cannot write {path}: {error.strerror or error}. "
        "Cure: choose an output folder that is writable and has space"
    )


def write_bytes(path: str | Path, content: bytes, *, durable: bool = False) -> None:
    """Writes `content` to `path` atomically; `durable` as `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def encode_json(value: Any, *, indent: bool = False) -> bytes:
    """JSON of plain objects, numpy scalars and arrays; NaN becomes null."""
    content = msgspec.json.encode(value, enc_hook=lambda array: array.tolist())
    return msgspec.json.format(content, indent=2) if indent else content


def decode_json(content: bytes, name: str, kind: Any = Any) -> Any:
    """JSON as `kind`, numbers written as text included.

    Byte order marks, NaN and Infinity, which some tools write although JSON has none, are read.

    Args:
        content: the text.
        name: where it is from, for messages.
        kind: what it must be: a type that msgspec knows.

    Raises:
        UserError: empty, or not JSON.
        msgspec.ValidationError: not of this kind.
    """
    if not content.strip():
        raise UserError(f"{name} is empty. Cure: check that the file was copied completely")
    try:
        return msgspec.json.decode(content, type=kind, strict=False)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return msgspec.convert(json.loads(content), kind, strict=False)
        except msgspec.ValidationError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name} is not valid JSON: {brief(error)}. "
                "Cure: check that the file was copied completely"
            ) from error


class _YamlLoader(yaml.SafeLoader):
    """Plain values only; a key that stands twice in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, after a look at its keys."""
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise ValueError(f"the key {shown(key.value)} stands twice{key.start_mark}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def decode_yaml(content: bytes, name: str) -> Any:
    """YAML as plain values.

    Args:
        content: the text.
        name: where it is from, for messages.

    Raises:
        UserError: not YAML, a key that stands twice, values of other kinds than YAML's own, or
            aliases that stand for themselves or for more than `YAML_NODES` values.
    """
    with reading(name, "YAML", "correct that line; the text is UTF-8"):
        loader = _YamlLoader(content)
        loader.name = "it"
        node = loader.get_single_node()
        if _size(node, {}) > YAML_NODES:
            raise ValueError(f"its aliases stand for more than {YAML_NODES} values")
        return None if node is None else loader.construct_document(node)


def own_yaml(package: str, name: str) -> Any:
    """A file of the package, by libyaml where it is: eight times faster, at the start of every
    command."""
    text = (resources.files(package) / name).read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _size(node: Any, known: dict[int, float]) -> float:
    """Values below a YAML node, with those that aliases stand for; infinite for one that holds
    itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for one in below for part in (one if isinstance(one, tuple) else (one,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def write_json(
    path: str | Path, value: Any, *, indent: bool = False, durable: bool = False
) -> None:
    """Writes `encode_json` of `value` atomically; `durable` as `atomic_path`."""
    write_bytes(path, encode_json(value, indent=indent), durable=durable)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}. Cure: check the path") from error


def read_json(path: str | Path) -> Any:
    """`decode_json` of a file.

    Raises:
        UserError: the file is missing, empty or not JSON.
    """
    return decode_json(read_bytes(path), str(path))
