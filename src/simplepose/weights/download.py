"""A download that can be resumed and is verified. Nothing is downloaded without being asked for."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from simplepose import __version__
from simplepose.core.errors import UserError
from simplepose.core.files import cannot_write
from simplepose.weights.public import PublicWeights

_TIMEOUT_SECONDS = 30

Progress = Callable[[int, int | None], object]
"""Called with bytes so far and bytes in all (None where the server does not say)."""


def _silent(have: int, total: int | None) -> None: ...


def download(row: PublicWeights, folder: str | Path, progress: Progress = _silent) -> Path:
    """Fetches a file, continuing where an earlier attempt broke off.

    The bytes grow in `NAME.partial` beside the target, which is kept when the connection breaks.
    The file gets its name only when its checksum fits; a file that does not fit is removed. Of
    several processes that ask for one file, one fetches it and the others wait.

    Args:
        row: what to fetch.
        folder: where to put it; made where it is missing.
        progress: called after each piece.

    Returns:
        The file; at once where it is already there and fits.

    Raises:
        UserError: it must be fetched by hand, the connection broke, the server refused, or the
            checksum does not fit.
    """
    if row.by_hand:
        raise UserError(
            f"{row.name} cannot be fetched directly. Cure: {row.by_hand} ({row.url}), then "
            f"simplepose import FILE --as {row.preset}"
        )
    target = Path(folder) / row.file_name
    partial = target.with_name(target.name + ".partial")
    lock = target.with_name(f".{target.name}.lock")
    if not target.exists():
        with _said(row, target, partial):
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, mode=0o644):
                if not target.exists():
                    _fetch(row.url, partial, progress)
                    _require_fit(partial, row)
                    partial.replace(target)
                lock.unlink(missing_ok=True)
    _require_fit(target, row)
    return target


@contextmanager
def _said(row: PublicWeights, target: Path, partial: Path) -> Iterator[None]:
    """What went wrong with a download, as a sentence."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{row.url} answered {error.code} {error.reason}. "
            f"Cure: try again later, or fetch it with a browser into {target}"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        kept = f"; {_size(partial)} bytes are kept in {partial}" if _size(partial) else ""
        raise UserError(
            f"the download of {row.url} broke off: {reason}{kept}. "
            "Cure: run the command again to go on"
        ) from error
    except OSError as error:
        raise cannot_write(partial, error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _open_itself(name: str, flags: int) -> int:
    """Never writes through a symbolic link into another file."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _fetch(url: str, partial: Path, progress: Progress) -> None:
    """Appends what is missing to `partial`, or starts again where the server ignores ranges."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"User-Agent": f"simplepose/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing lies behind what we have: it is whole, or it is wrong and the checksum will tell.
        error.close()
        return
    with answer:
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or not start or int(start[1]) != have:
            have = 0  # the server sends the whole file
        total = have + answer.length if answer.length is not None else None
        with open(partial, "ab" if have else "wb", opener=_open_itself) as file:
            while chunk := answer.read(1 << 16):
                have += file.write(chunk)
                progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"{have} of {total} bytes arrived")


def _require_fit(path: Path, row: PublicWeights) -> None:
    """Compares the sha256 with the published one; a download that does not fit is removed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(row.sha256):
        return
    problem = f"its sha256 {digest[:16]}... is not the published {row.sha256[:16]}..."
    if path.suffix != ".partial":
        raise UserError(
            f"{path} is there already, but {problem}. Cure: move it away and fetch it again"
        )
    path.unlink()
    raise UserError(
        f"{path} was removed: {problem}. "
        "Cure: try again; if it happens twice, the publisher has changed the file"
    )
