"""Known public weights (`public.yaml`). What was fetched into ./weights or into the user's cache is
found by its name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from simplepose.core.errors import UserError
from simplepose.core.files import own_yaml

KINDS = ("pose network", "person detector", "ImageNet backbone")


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
    PublicWeights(**row) for row in own_yaml("simplepose.weights", "public.yaml")
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
