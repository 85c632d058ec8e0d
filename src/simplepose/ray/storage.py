"""What goes in and out of Ray: lists of pictures and videos, and the folder of shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from simplepose.core.errors import UserError, brief
from simplepose.core.files import write_bytes
from simplepose.core.images import PICTURE_ENDINGS, is_picture, natural
from simplepose.core.storage import ask, is_remote, open_store, shown
from simplepose.video.streams import VIDEO_ENDINGS

BLOCK = 2**20
"""Bytes of a remote Parquet file that are read at once."""


def is_video(address: str) -> bool:
    """By its ending."""
    return address.split("?")[0].lower().endswith(VIDEO_ENDINGS)


@contextmanager
def local_copy(address: str) -> Iterator[str]:
    """A path of the file, for readers that take no bytes."""
    if not is_remote(address):
        yield address
        return
    store, path = open_store(address)
    with TemporaryDirectory(prefix="simplepose-") as folder:
        target = str(Path(folder) / PurePosixPath(shown(path)).name)
        ask(address, lambda: store.get_file(path, target))
        yield target


class OutputFolder:
    """A folder that files appear in whole or not at all."""

    def __init__(self, address: str) -> None:
        """`address` is a path or an address."""
        self.address = address if is_remote(address) else os.path.abspath(address)
        self.store, self.path = open_store(address)

    def names(self) -> set[str]:
        """What is there."""

        def listed() -> list[str]:
            try:
                names: list[str] = self.store.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
            return names

        return {PurePosixPath(name).name for name in ask(self.address, listed)}

    def open(self, name: str) -> Any:
        """An open file."""
        return ask(self.address, lambda: self.store.open(f"{self.path}/{name}", block_size=BLOCK))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file."""
        if not is_remote(self.address):
            write_bytes(Path(self.path) / name, content, durable=True)
            return
        ask(self.address, lambda: self.store.pipe_file(f"{self.path}/{name}", content))

    def remove(self, name: str) -> None:
        """Removes a file."""
        ask(self.address, lambda: self.store.rm_file(f"{self.path}/{name}"))


def addresses(sources: tuple[str, ...]) -> Iterator[str]:
    """The pictures and videos that are named: files, folders, patterns, addresses of either, and
    .parquet files with a column `path`, which are read piece by piece.

    Raises:
        UserError: a source names nothing.
    """
    for source in sources:
        count = 0
        for address in _named(source):
            yield address
            count += 1
        if not count:
            raise UserError(f"{shown(source)} names no picture or video. Cure: check the path")


def _named(source: str) -> Iterator[str]:
    if shown(source).lower().endswith(".parquet"):
        yield from _column(source)
    elif is_remote(source):
        yield from _remote(source)
    elif os.path.isdir(source):
        for path in sorted(Path(os.path.abspath(source)).iterdir(), key=natural):
            if is_video(path.name) or is_picture(path):
                yield str(path)
    else:
        found = [source] if os.path.exists(source) else glob(source, recursive=True)
        yield from map(os.path.abspath, sorted(found, key=lambda one: natural(Path(one))))


def _remote(source: str) -> Iterator[str]:
    """A file, or all below a folder."""
    known = (*PICTURE_ENDINGS, *VIDEO_ENDINGS)
    if shown(source).lower().endswith(known):
        yield source
        return
    store, path = open_store(source)
    names = ask(source, lambda: store.find(path))
    found = [name for name in names if shown(name).lower().endswith(known)]
    for name in sorted(found, key=lambda one: natural(Path(one))):
        yield store.unstrip_protocol(name)


def _column(source: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    store, path = open_store(source)
    try:
        with ask(source, lambda: store.open(path, block_size=BLOCK)) as content:
            file = pq.ParquetFile(content)
            for batch in file.iter_batches(1024, columns=["path"]):
                if "path" not in batch.schema.names:
                    names = ", ".join(file.schema_arrow.names)
                    raise UserError(
                        f"{shown(source)} has the columns {names}, none of them path. "
                        "Cure: a column `path` with the file or address of each picture"
                    )
                for one in batch.column("path").to_pylist():
                    yield one if is_remote(one) else os.path.abspath(one)
    except (ValueError, KeyError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{shown(source)} cannot be read as Parquet: {brief(error)}. Cure: write it again"
        ) from error
