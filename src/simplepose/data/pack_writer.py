"""Writing a pack: members one after another, resumable, the table last."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import encode_json
from simplepose.data.annotations import Annotations
from simplepose.data.coco import write_coco
from simplepose.data.pack import (
    FORMAT,
    LOCAL_HEADER,
    PLAN,
    TABLE,
    data_offset,
    member,
    scan_members,
)
from simplepose.data.pack_plan import Estimate, PackPlan, encode_region, estimate_pack, plan_pack
from simplepose.data.picture_sizes import check_size, read_sized
from simplepose.data.read_ahead import in_order

__all__ = ["Estimate", "PackPlan", "check_output", "estimate_pack", "plan_pack", "write_pack"]


def check_output(path: str | Path, people: Annotations, *, overwrite: bool = False) -> None:
    """Makes sure that NAME.zip, NAME.json and NAME.partial replace nothing that somebody may want to keep.

    Args:
        path: NAME.zip.
        people: who is going to be packed.
        overwrite: replace a pack that is there, but never the annotation files.

    Raises:
        UserError: a name without .zip, or a file is in the way.
    """
    path = Path(path)
    table, partial = path.with_suffix(".json"), path.with_suffix(".partial")
    if path.suffix != ".zip":
        raise UserError(f"the pack is to be called {path}. Cure: choose a name that ends in .zip")
    for file in (path, table, partial):
        if file.exists() and any(
            os.path.exists(source) and file.samefile(source) for source in people.source_files
        ):
            raise UserError(
                f"{path} would replace {file}, the annotations that are packed. Cure: another --output"
            )
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists. Cure: --overwrite, or another --output")
    if (
        table.exists() and not overwrite and not partial.exists()
    ):  # beside a partial file it is from our interrupted run
        raise UserError(
            f"{table}, which is written beside {path.name}, already exists. Cure: --overwrite, or another --output"
        )


def write_pack(
    path: str | Path,
    plan: PackPlan,
    *,
    workers: int = 2,
    overwrite: bool = False,
    skip_broken: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes NAME.zip and, beside it, NAME.json: COCO keypoints of the regions, for any other program.

    An interrupted run leaves NAME.partial, which the next run of the same plan goes on with; NAME.zip appears when it is whole.

    Args:
        path: NAME.zip.
        plan: from `plan_pack`.
        workers: threads that decode and encode.
        overwrite: replace a pack that is there.
        skip_broken: give the people of unreadable pictures an empty member and leave them out of NAME.json, instead of stopping.
        say: takes a sentence about what was left out.
        progress: called with (people done, people in all).

    Raises:
        UserError: a file is in the way, a picture (with `skip_broken` every one) cannot be read, no space is left, or the partial file
            belongs to another plan.
    """
    path, people = Path(path), plan.people
    check_output(path, people, overwrite=overwrite)
    partial = path.with_suffix(".partial")
    order = np.argsort(people.image_index, kind="stable")
    broken: dict[int, str] | None = {} if skip_broken else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = _resume(partial, plan, order, broken)
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_STORED, allowZip64=True) as file:
            try:
                _append(file, entries, plan, order, broken, workers, progress)
            except BaseException:
                file._didModify = False  # type: ignore[attr-defined]  # no central directory: an unfinished file must not look like a whole zip
                raise
        kept = np.array([entry.file_size > 0 for entry in entries[1:]])
        if not kept.any():
            partial.unlink()
            raise UserError(
                f"no picture can be read, first: {_first(broken)}. Cure: check the folder of the training pictures"
            )
        names = [entry.filename for entry in entries[1:] if entry.file_size]
        write_coco(path.with_suffix(".json"), _as_regions(plan, order[kept], names), "")
        partial.replace(path)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
        raise UserError(
            f"cannot write {path}: {error.strerror or error} ({free / 1e9:.2f} GB free). Cure: make room and run the same command again; "
            f"it goes on with {partial}"
        ) from error
    if say is not None and broken:
        say(
            f"note: {len(broken)} unreadable pictures with {int((~kept).sum())} people left out, first: {_first(broken)}"
        )
    return path


def _first(broken: dict[int, str] | None) -> str:
    """Why the first picture cannot be read."""
    return broken[min(broken)] if broken else "unknown"


def _resume(
    partial: Path, plan: PackPlan, order: np.ndarray, broken: dict[int, str] | None
) -> list[zipfile.ZipInfo]:
    """The members that are already there. Taken off the end: a member cut short, and all from an empty one whose picture can be read now."""
    if not partial.exists():
        partial.touch()
        return []
    entries, end = scan_members(partial)
    if entries and entries[-1].filename == TABLE:
        end = entries.pop().header_offset
    names = [PLAN, *member_names(plan.people, order)]
    if (
        not _is_begun(partial, entries, plan)
        or [entry.filename for entry in entries] != names[: len(entries)]
    ):
        raise UserError(
            f"{partial} is an unfinished pack of another data set or preset. Cure: delete it, or choose another --output"
        )
    for place, entry in enumerate(entries[1:]):
        if not entry.file_size and _encode(plan, order[place : place + 1], broken) != [b""]:
            entries, end = entries[: place + 1], entry.header_offset
            break
    with partial.open("r+b") as file:
        file.truncate(end)
    return entries


def _is_begun(partial: Path, entries: list[zipfile.ZipInfo], plan: PackPlan) -> bool:
    """Whether a file is the beginning of this pack: empty, cut inside the first member, or with the plan as its first member."""
    with partial.open("rb") as file:
        if not entries:
            head = file.read(LOCAL_HEADER.size + len(PLAN))
            return not head or head.endswith(PLAN.encode())
        file.seek(data_offset(entries[0]))
        return file.read(entries[0].file_size) == _plan_bytes(plan)


def _plan_bytes(plan: PackPlan) -> bytes:
    """Member `plan.json`."""
    return msgspec.json.encode(plan.settings, order="sorted")


def _encode(plan: PackPlan, rows: np.ndarray, broken: dict[int, str] | None) -> list[bytes]:
    """The members of people of one picture; empty ones where it cannot be read, its reason put into `broken` (None: an error)."""
    people, picture = plan.people, int(plan.people.image_index[rows[0]])
    try:
        image = read_sized(people, picture)
    except UserError as error:
        if broken is None:
            raise UserError(
                f"{error}; or go on without such pictures: --data.skip-broken"
            ) from error
        broken[picture] = str(error)
        return [b""] * len(rows)
    check_size(people, picture, image)
    return [encode_region(image, plan, row) for row in rows.tolist()]


def _append(
    file: zipfile.ZipFile,
    entries: list[zipfile.ZipInfo],
    plan: PackPlan,
    order: np.ndarray,
    broken: dict[int, str] | None,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Adds what is missing, in the order of the pictures, and the table."""
    file.filelist.extend(entries)
    file.NameToInfo.update({entry.filename: entry for entry in entries})
    if not entries:
        entries.append(_add(file, PLAN, _plan_bytes(plan)))
    people = plan.people
    names = member_names(people, order)
    done = len(entries) - 1
    groups = (
        np.split(order[done:], np.flatnonzero(np.diff(people.image_index[order[done:]])) + 1)
        if done < len(order)
        else []
    )
    for contents in in_order(
        lambda rows: _encode(plan, rows, broken), groups, workers, 4 * workers
    ):
        for content in contents:
            entries.append(_add(file, names[done], content))
            done += 1
        if progress is not None:
            progress(done, len(people))
    mine = entries[1:]
    table = {
        "format": FORMAT,
        "plan": plan.settings,
        "annotation_ids": people.annotation_ids[order],
        "regions_xyxy": plan.regions[order],
        "stored_wh": plan.stored_wh[order],
        "offsets": [data_offset(entry) for entry in mine],
        "sizes": [entry.file_size for entry in mine],
    }
    _add(file, TABLE, encode_json(table))


def member_names(people: Annotations, order: np.ndarray) -> list[str]:
    """`people/PICTURE_ANNOTATION.jpg` in the order of the zip."""
    pictures = people.image_ids[people.image_index[order]].tolist()
    return [
        f"people/{picture:012d}_{annotation}.jpg"
        for picture, annotation in zip(pictures, people.annotation_ids[order].tolist(), strict=True)
    ]


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> zipfile.ZipInfo:
    entry = member(name)
    file.writestr(entry, content)
    return entry


def _as_regions(plan: PackPlan, rows: np.ndarray, names: list[str]) -> Annotations:
    """The people of `rows` as others see them: one picture a person, coordinates in its pixels."""
    count = len(rows)
    regions, stored, mine = plan.regions[rows], plan.stored_wh[rows], plan.people.select(rows)
    ratios = stored / (regions[:, 2:] - regions[:, :2])

    def boxes(values: np.ndarray, corners: int) -> np.ndarray:
        """Edges of boxes: their first `corners` pairs are places, the others sizes."""
        moved = values.reshape(count, -1, 2) - np.where(
            np.arange(2)[:, None] < corners, regions[:, None, :2], 0
        )
        return (moved * ratios[:, None]).reshape(count, -1).astype(np.float32)

    keypoints = (mine.keypoints - regions[:, None, :2] + 0.5) * ratios[
        :, None
    ] - 0.5  # a pixel's centre is at a whole number
    return replace(
        mine,
        image_ids=np.arange(1, count + 1),
        image_paths=tuple(names),
        image_sizes_wh=stored,
        image_index=np.arange(count),
        bbox_xywh=boxes(mine.bbox_xywh, 1),
        area=(mine.area * ratios.prod(1)).astype(np.float32),
        keypoints=np.where(mine.visibility[..., None] > 0, keypoints, 0).astype(np.float32),
        head_boxes_xyxy=None if mine.head_boxes_xyxy is None else boxes(mine.head_boxes_xyxy, 2),
        image_extras=None,
    )
