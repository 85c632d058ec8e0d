"""A folder of drawn pictures appears whole or not at all, and never on top of somebody else's files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simplepose.core import files as atomic
from simplepose.core.errors import UserError

MARKER = "synthetic.json"
"""File that says a folder was drawn, and with which settings."""
VERSION = 3
"""Raised when the drawings change, so that an old folder is not taken for a new one."""


@contextmanager
def drawn_folder(root: Path, *, kind: str, settings: dict[str, Any], counts: tuple[str, ...]) -> Iterator[Path | None]:
    """Yields a temporary folder that becomes `root` when the block succeeds, or None where `root` holds these very drawings already.

    Args:
        root: the final place.
        kind: what is drawn, for the marker.
        settings: what the drawings depend on.
        counts: names of the settings that must be positive.

    Raises:
        UserError: `root` holds something else, a count is not positive, or the place cannot be written.
    """
    for name in counts:
        if settings[name] < 1:
            raise UserError(f"{name} is {settings[name]}. Cure: ask for at least 1")
    marker = {"kind": kind, "version": VERSION, **settings}
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file, not a folder. Cure: choose another folder")
    if root.is_dir() and any(root.iterdir()):
        if not (root / MARKER).is_file():
            raise UserError(f"{root} is not empty and was not drawn by simplepose. Cure: choose a folder that does not exist yet")
        found = atomic.read_json(root / MARKER)
        if found != marker:
            raise UserError(f"{root} holds other drawings: {found}, wanted {marker}. Cure: choose another folder, or remove this one")
        yield None
        return
    temporary = atomic.partial_name(root)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        atomic.write_json(temporary / MARKER, marker, indent=True)
        if root.is_dir():
            root.rmdir()
        temporary.rename(root)
    except OSError as error:
        raise UserError(f"cannot write {root}: {error.strerror or error}. Cure: choose a folder that is writable and has space") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
