"""Files wherever they are: by path, or by address in a store (s3://, https://, ...) that fsspec
opens."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from simplepose.core.errors import UserError, brief

Answer = TypeVar("Answer")
TRIES, PAUSE = 5, 0.2
"""How often a store is asked that does not answer, and seconds before the second time; before each
further one twice as many."""


class StoreError(UserError):
    """A file of a store, or of many pictures, that cannot be read: no broken picture that may be
    skipped."""


def is_remote(address: str) -> bool:
    """Whether it is an address and no path."""
    return "://" in address


def shown(address: str) -> str:
    """An address without what follows its `?`, which may be a signature."""
    return address.split("?")[0] if is_remote(address) else address


def open_store(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path there. It signs in by itself, by
    environment or configuration.

    Raises:
        StoreError: a kind of address that fsspec does not know or lacks a package for, one with a
            password, or a store that does not let in (some are asked already here).
    """
    import fsspec  # late: only packs and lists of many pictures need it

    if not is_remote(address):
        return fsspec.filesystem("file"), os.path.abspath(address)
    kind, _, rest = address.partition("://")
    if "@" in rest.split("?")[0].split("/")[0]:
        raise StoreError(
            f"an address of {kind}:// holds a password, which would be written "
            "into the results. Cure: the store's own environment variables or configuration"
        )
    try:
        # other processes write, too
        store, path = fsspec.url_to_fs(address, use_listings_cache=False)
    except Exception as error:  # each kind of store has its own
        raise StoreError(
            f"{shown(address)} cannot be opened: {brief(error).rstrip(' .')}. Cure: check the "
            "address; s3:// and https:// need pip install 'simplepose[remote]', others the package "
            "that fsspec names"
        ) from error
    return store, path


def ask(address: str, question: Callable[[], Answer]) -> Answer:
    """The answer of a store, which is asked again where it fails.

    Raises:
        StoreError: the file is missing, or the store still fails.
    """
    for attempt in range(TRIES if is_remote(address) else 1):
        time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
        try:
            return question()
        # also a missing file: fsspec takes HTTP's 500 for one
        except Exception as error:
            failed = error
    missing = isinstance(failed, FileNotFoundError)
    said = os.strerror(errno.ENOENT) if missing else getattr(failed, "strerror", "")
    said = (said or brief(failed) or type(failed).__name__).replace(address, shown(address))
    again = "see that the store answers and lets you in, then the same command again, which goes on"
    cure = "check the path" if missing or not is_remote(address) else again
    raise StoreError(f"{shown(address)}: {said.rstrip('.')}. Cure: {cure}") from failed


def read_address(address: str) -> bytes:
    """The content of a file.

    Raises:
        StoreError: it is missing, or the store fails.
    """
    store, path = open_store(address)
    content: bytes = ask(address, lambda: store.cat_file(path))
    return content


def read_range(address: str, first: int, size: int) -> bytes:
    """`size` bytes of a file, from byte `first` on.

    Raises:
        StoreError: it is missing or shorter, the store fails, or knows no ranges.
    """
    store, path = open_store(address)
    content: bytes = ask(address, lambda: store.cat_file(path, start=first, end=first + size))
    if len(content) != size:
        raise StoreError(
            f"{shown(address)}: {len(content):,} bytes came where {size:,} were asked for, from "
            f"byte {first:,} on. Cure: copy the file again, or a server that answers byte ranges"
        )
    return content


def file_size(address: str) -> int:
    """Bytes of a file.

    Raises:
        StoreError: it is missing, or the store fails or does not tell.
    """
    store, path = open_store(address)
    size: int | None = ask(address, lambda: store.size(path))
    if size is None:
        raise StoreError(
            f"{shown(address)}: the server does not tell its size. "
            "Cure: a server that answers byte ranges"
        )
    return size
