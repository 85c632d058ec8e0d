"""Known public weights (`public.yaml`), and a download that can be resumed and is verified.

Nothing is downloaded without being asked for. What was fetched into ./weights or into the user's
cache is found by its name.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock

from simplepose import __version__
from simplepose.core.errors import UserError
from simplepose.core.files import cannot_write

_TIMEOUT_SECONDS = 30
KINDS = ("pose network", "person detector", "ImageNet backbone")

Progress = Callable[[int, int | None], object]
"""Called with bytes so far and bytes in all (None where the server does not say)."""


def _silent(have: int, total: int | None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class PublicWeights:
    """One row of the table."""

    name: str
    """What `simplepose weights get` calls it."""
    url: str
    """Where it is published; a page where it cannot be fetched directly."""
    licence: str
    """Licence its publisher states."""
    sha256: str = ""
    """Whole sha256 or its published beginning; empty where none is published."""
    size_mb: float | None = None
    """Published size in megabytes (MiB); None where none is published."""
    score: str = ""
    """Reported score and what it was measured on."""
    preset: str = ""
    """Preset to import it as; empty for backbones and detectors."""
    by_hand: str = ""
    """How to get it where it cannot be fetched directly; empty otherwise."""
    people: bool = False
    """Whether `simplepose weights get people` fetches it, and it is then the default."""

    @property
    def file_name(self) -> str:
        """Name of the downloaded file."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def kind(self) -> str:
        """What it is, in words."""
        pose, detector, backbone = KINDS
        if self.preset:
            return pose
        return detector if self.file_name.endswith(".onnx") else backbone

    @property
    def size(self) -> str:
        """In words."""
        return f"{self.size_mb:g} MiB" if self.size_mb else "size not published"

    def found(self) -> Path | None:
        """What is used of it, where it was fetched: the imported checkpoint of a pose network, else
        the file itself."""
        name = f"{self.name}.safetensors" if self.preset else self.file_name
        paths = (folder / name for folder in (Path("weights"), cache_folder()))
        return next((path for path in paths if path.exists()), None)


PUBLIC_WEIGHTS = tuple(
    PublicWeights(**row)
    for row in yaml.safe_load(Path(__file__).with_name("public.yaml").read_text("utf-8"))
)


def cache_folder() -> Path:
    """The user's cache of downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simplepose"


def named(name: str) -> str:
    """A name of the table -> the path of what was fetched; anything else stays as it is.

    Raises:
        UserError: it was not fetched yet.
    """
    row = next((row for row in PUBLIC_WEIGHTS if row.name == name), None)
    if row is None or os.path.exists(name):
        return name
    if path := row.found():
        return str(path)
    raise UserError(
        f"{name} ({row.kind}, {row.size}, licence {row.licence}) is not on this machine. "
        f"Cure: simplepose weights get {name}"
    )


def fetched(kind: str) -> str:
    """The name of what was fetched of a `kind`, those of `weights get people` first; else empty."""
    rows = sorted(PUBLIC_WEIGHTS, key=lambda row: not row.people)
    return next((row.name for row in rows if row.kind == kind and row.found()), "")


def find_public(name: str) -> PublicWeights:
    """The row called `name`.

    Raises:
        UserError: there is none; lists the names.
    """
    rows = {row.name: row for row in PUBLIC_WEIGHTS}
    if name not in rows:
        raise UserError(f"there are no public weights {name!r}. Cure: one of {', '.join(rows)}")
    return rows[name]


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
