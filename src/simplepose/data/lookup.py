"""Where the pictures of an annotation file lie: every name is looked up for itself, and the folders
are listed once."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from simplepose.core.images import PICTURE_ENDINGS

AS_WRITTEN = ""
BESIDE = "of pictures start with a folder beside {folder}; they are looked up there"
TAIL = "of pictures have folders that are not below {folder}; the end of the path is looked up"
BARE = (
    "of pictures are looked up below {folder} without regard to case, Unicode form, folders, a "
    "missing ending and what web addresses add"
)
TAKEN = "fit a picture below {folder} that another name has; they are looked up as written"


def find_pictures(
    names: Sequence[str], folder: str | Path
) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    r"""The path of each picture: as written, below the folder or beside it; else the longest end of
    its path that exists; else what is left of it without regard to case, Unicode form and URL
    (`pics/T%C3%BCr.jpg?sig=1`), if one file alone fits.

    A name that leads nowhere, or to a picture that another name leads to, stays as written.

    Args:
        names: of files, with / or \ between folders.
        folder: where the pictures are.

    Returns:
        Full paths, and how many names were found in another way than as written: (3, "file names
        of ...").
    """
    base, slashed = str(Path(folder)), [name.replace("\\", "/") for name in names]
    written = {name: os.path.join(base, name) for name in slashed}
    found = dict(_look_up(written, base))
    if all(way == AS_WRITTEN for _, way in found.values()):
        return tuple(written[name] for name in slashed), []
    claims = Counter(os.path.normpath(path) for path, _ in found.values())
    ways: dict[str, list[str]] = defaultdict(list)
    for name, (path, way) in found.items():
        if way != AS_WRITTEN and claims[os.path.normpath(path)] > 1:
            found[name] = written[name], (way := TAKEN)
        ways[way].append(name)
    notes = []
    for way in (BESIDE, TAIL, BARE, TAKEN):
        if mine := ways[way]:
            example = f" (such as {mine[0]}: {found[mine[0]][0]})"
            notes.append((len(mine), f"file names {way.format(folder=base)}{example}"))
    return tuple(found[name][0] if name in found else written[name] for name in slashed), notes


def _look_up(written: dict[str, str], base: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name -> (path, way) of those that lead to a file."""

    @cache
    def listed(directory: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(directory))
        except (OSError, ValueError):
            return frozenset()

    def exists(path: str) -> bool:
        directory, name = os.path.split(path)
        return name in listed(directory)

    files: dict[str, set[str]] | None = None
    parent = str(Path(base).parent)
    for name, path in written.items():
        if exists(path):
            yield name, (path, AS_WRITTEN)
            continue
        if exists(beside := os.path.join(parent, name)):
            yield name, (beside, BESIDE)
            continue
        tails = (os.path.join(base, tail) for tail in _tails(name))
        if tail := next(filter(exists, tails), ""):
            yield name, (tail, TAIL)
            continue
        files = _files_by_key(base) if files is None else files
        ends = (files.get(tail, set()) for key in _keys(name) for tail in _tails(key))
        hits = next(filter(None, ends), set())
        if len(hits) == 1:
            yield name, (next(iter(hits)), BARE)


def _tails(name: str) -> list[str]:
    """`a/b/c.jpg` -> itself, `b/c.jpg`, `c.jpg`; without `.` and `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[index:]) for index in range(len(parts))]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _keys(name: str) -> list[str]:
    """What a name may mean: a path, one before a query, or one inside it (`?d=pics%2Fa.jpg`)."""
    path = re.split(r"[?#]", name)[0]
    values = re.findall("=([^&#]*)", name)
    return [_key(name), *(_key(unquote(one)) for one in (path, *values))]


def _files_by_key(base: str) -> dict[str, set[str]]:
    """The files below a folder by the key of each end of their path below it, of pictures also
    without the ending."""
    files: dict[str, set[str]] = defaultdict(set)
    for directory, _, names in os.walk(base):
        inside = os.path.relpath(directory, base).replace(os.sep, "/")
        for name in names:
            stem, ending = os.path.splitext(name)
            for known in {name, stem if ending.lower() in PICTURE_ENDINGS else name}:
                for tail in _tails(_key(f"{inside}/{known}")):
                    files[tail].add(os.path.join(directory, name))
    return files
