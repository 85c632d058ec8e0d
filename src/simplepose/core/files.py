"""Files appear whole or not at all: everything is written to a temporary name beside its place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from simplepose.core.errors import UserError


def partial_name(path: Path) -> Path:
    """The temporary name beside `path`: of this process alone, and with the ending of `path`, so that writers who choose by it work."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def readable(name: str) -> str:
    """A file name as text that every file and terminal takes: bytes of it that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path in the same folder; renames it to `path` if the block succeeds, removes it otherwise.

    Args:
        path: where the file belongs.
        durable: wait until its bytes are on the disk before it gets its name, so that not even a power cut leaves an empty file. For files
            that cost hours; not for thousands of pictures.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Cure: choose an output folder that is writable and has space"
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = False) -> None:
    """Writes `content` to `path` atomically; `durable` as `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: Any, *, indent: bool = False, durable: bool = False) -> None:
    """Writes a JSON file atomically; numpy scalars and arrays are allowed, NaN becomes null; `durable` as `atomic_path`."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    write_bytes(path, orjson.dumps(value, option=option), durable=durable)


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: the file is missing, unreadable or not JSON.
    """
    try:
        return orjson.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}. Cure: check that the file was copied completely") from error
