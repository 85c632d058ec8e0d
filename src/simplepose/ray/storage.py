"""Local paths and addresses of object stores (s3://, gs://, ...), by PyArrow's file systems, which
sign in and try again by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from simplepose.core.errors import UserError, brief
from simplepose.core.files import read_bytes, write_bytes
from simplepose.core.images import PICTURE_ENDINGS, is_picture, natural
from simplepose.video.streams import VIDEO_ENDINGS


def is_remote(address: str) -> bool:
    """Whether it is an address and no path."""
    return "://" in address


def is_video(address: str) -> bool:
    """By its ending."""
    return address.split("?")[0].lower().endswith(VIDEO_ENDINGS)


def shown(address: str) -> str:
    """An address without what follows its `?`."""
    return address.split("?")[0] if is_remote(address) else address


def open_store(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path there.

    Raises:
        UserError: a kind of address that PyArrow does not know, or one with a password.
    """
    if not is_remote(address):
        return fs.LocalFileSystem(), os.path.abspath(address)
    if "@" in urlsplit(address).netloc:
        raise UserError(
            f"an address of {urlsplit(address).scheme}:// holds a password, which would be written "
            "into the results. Cure: the store's own environment variables or configuration"
        )
    try:
        store, path = fs.FileSystem.from_uri(address)
    except (OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{shown(address)} cannot be opened: {brief(error)}. "
            "Cure: a path, or an address of s3://, gs://, abfs:// or hdfs://"
        ) from error
    return store, path


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Around what asks an object store.

    Raises:
        UserError: it still fails after the tries of its own client.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{shown(address)}: {brief(error)}. Cure: see that the store answers, "
            "then the same command again, which goes on"
        ) from error


def read_address(address: str) -> bytes:
    """The content of a file, wherever it is.

    Raises:
        UserError: it is missing (local), or the store fails.
    """
    if not is_remote(address):
        return read_bytes(address)
    store, path = open_store(address)
    with answering(address), store.open_input_file(path) as file:
        content: bytes = file.read()
    return content


@contextmanager
def local_copy(address: str) -> Iterator[str]:
    """A path of the file, for readers that take no bytes."""
    if not is_remote(address):
        yield address
        return
    store, path = open_store(address)
    with TemporaryDirectory(prefix="simplepose-") as folder:
        target = str(Path(folder) / PurePosixPath(path).name)
        with answering(address):
            fs.copy_files(path, target, source_filesystem=store)
        yield target


class OutputFolder:
    """A folder that files appear in whole or not at all."""

    def __init__(self, address: str) -> None:
        """`address` is a path or an address."""
        self.address = address if is_remote(address) else os.path.abspath(address)
        self.store, self.path = open_store(address)

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["address"])  # type: ignore[misc]

    def names(self) -> set[str]:
        """What is there."""
        with answering(self.address):
            found = self.store.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return {one.base_name for one in found}

    def read(self, name: str) -> Any:
        """An open file."""
        with answering(self.address):
            return self.store.open_input_file(f"{self.path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Writes a file."""
        if not is_remote(self.address):
            write_bytes(Path(self.path) / name, content, durable=True)
            return
        with answering(self.address), self.store.open_output_stream(f"{self.path}/{name}") as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Removes a file."""
        with answering(self.address):
            self.store.delete_file(f"{self.path}/{name}")


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
    store, path = open_store(source)
    with answering(source):
        infos = [store.get_file_info(path)]
        if infos[0].type != fs.FileType.File:
            infos = store.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    mark = source.find("?")
    query = source[mark:] if mark >= 0 else ""
    known = (*PICTURE_ENDINGS, *VIDEO_ENDINGS)
    names = [one.path for one in infos if one.path.lower().endswith(known)]
    for name in sorted(names, key=lambda one: natural(Path(one))):
        yield f"{urlsplit(source).scheme}://{name}{query}"


def _column(source: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    store, path = open_store(source)
    with answering(source):
        try:
            file = pq.ParquetFile(path, filesystem=store)
            for batch in file.iter_batches(1024, columns=["path"]):
                if "path" not in batch.schema.names:
                    names = ", ".join(file.schema_arrow.names)
                    raise UserError(
                        f"{shown(source)} has the columns {names}, none of them path. "
                        "Cure: a column `path` with the file or address of each picture"
                    )
                for one in batch.column("path").to_pylist():
                    yield one if is_remote(one) else os.path.abspath(one)
        except (ValueError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{shown(source)} is not Parquet: {brief(error)}. Cure: write it again"
            ) from error
