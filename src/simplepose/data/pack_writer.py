"""Writing a pack: estimate, then members one after another, resumable, the table last."""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from simplepose.data.annotations import Annotations, write_coco
from simplepose.data.augment import AugmentConfig
from simplepose.data.pack import FORMAT, PLAN, TABLE, data_offset, file_hash, member, scan_members, stored_sizes
from simplepose.data.regions import person_views
from simplepose.errors import UserError
from simplepose.images import read_image

SAMPLE = 24
"""Pictures that are packed for the estimate."""
MEMBER_OVERHEAD = 160
"""Bytes of headers and table a member costs, about."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What is going to be packed."""

    people: Annotations
    """N trainable people."""
    regions: np.ndarray
    """(N, 4) part of the picture of each; at least one pixel."""
    stored_wh: np.ndarray
    """(N, 2) size it is stored in."""
    settings: dict[str, Any]
    """Member `plan.json`: annotation file, its hash, margins, resolution, quality, format."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What packing will cost, from a sample of pictures."""

    bytes: int
    """Size of the zip."""
    core_seconds: float
    """Processor time."""


def plan_pack(
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
    quality: int = 90,
    full_colour: bool = False,
) -> PackPlan:
    """Decides each person's region, all that the augmentation can show of the picture, and the resolution that its closest view can use.

    Args:
        people: trainable people.
        augment: random changes of the training.
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.geometry`.
        quality: of the JPEGs, 1 to 100.
        full_colour: keep colour at full resolution (4:4:4), not at half as most photographs do (4:2:0).

    Raises:
        UserError: nobody to pack, or pictures of unknown size.
    """
    if not len(people):
        raise UserError(f"{people.source} has no person to train on. Cure: annotate keypoints with visibility 1 or 2")
    if not (people.person_sizes_wh > 0).all():
        raise UserError(f"{people.source} does not tell the size of every picture. Cure: write width and height into `images`")
    rotation = 2 * augment.rotation_degrees if augment.rotation_probability else 0.0
    margins = (
        f"scale up to {1 + augment.scale_factor:g}, rotation up to {rotation:g} degrees, half body {'yes' if augment.half_body_probability else 'no'}, "
        f"shift up to {augment.shift_factor:g}, aspect {input_size_wh[0]}:{input_size_wh[1]}"
    )
    if not 1 <= quality <= 100:
        raise UserError(f"JPEG quality {quality} is outside 1 to 100. Cure: --quality 90, or 95 for a larger pack")
    regions, ratios = person_views(people, augment, input_size_wh, udp=udp)
    beside = np.where(ratios < 1, np.ceil(1 / ratios), 0).astype(np.int64)[:, None]  # a stored pixel more, to interpolate with
    low, high = np.maximum(regions[:, :2] - beside, 0), np.minimum(regions[:, 2:] + beside, people.person_sizes_wh)
    regions = np.concatenate([low, np.where((high <= low).any(1)[:, None], low + 1, high)], axis=1)  # empty ones are stored as one pixel
    stored = stored_sizes(regions, ratios)
    settings = {
        "format": FORMAT, "annotations": str(people.source), "annotations_sha256": file_hash(people.source), "people": len(people),
        "margins": margins, "input_size": f"{input_size_wh[0]}x{input_size_wh[1]}", "smallest_scale": round(1 - augment.scale_factor, 6),
        "quality": quality, "chroma": "4:4:4" if full_colour else "4:2:0", "channel_order": "rgb",
        "regions_sha256": hashlib.sha256(np.concatenate([regions, stored], axis=1).tobytes()).hexdigest(),
    }  # fmt: skip
    return PackPlan(people, regions, stored, settings)


def encode_region(image: np.ndarray, plan: PackPlan, row: int) -> bytes:
    """One person's region as JPEG; one outside the picture becomes a black pixel."""
    left, top, right, bottom = plan.regions[row].tolist()
    part = image[top:bottom, left:right]
    part = part if part.size else np.zeros((1, 1, 3), np.uint8)
    if part.shape[1::-1] != (size := tuple(plan.stored_wh[row].tolist())):
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if plan.settings["chroma"] == "4:4:4" else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    settings = [cv2.IMWRITE_JPEG_QUALITY, plan.settings["quality"], cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colour]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), settings)[1])


def estimate_pack(plan: PackPlan) -> Estimate:
    """Packs a few pictures into nothing and scales up by people and pictures."""
    people = plan.people
    pictures = np.unique(people.image_index)
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(SAMPLE, len(pictures))).astype(int)]
    size = count = 0
    began = time.thread_time()
    for picture in chosen.tolist():
        try:
            image = read_image(people.image_paths[picture])
        except UserError:  # the packing itself will say so
            continue
        for row in np.flatnonzero(people.image_index == picture).tolist():
            size += len(encode_region(image, plan, row)) + MEMBER_OVERHEAD
            count += 1
    seconds = time.thread_time() - began
    return Estimate(int(size / max(count, 1) * len(people)), seconds / max(len(chosen), 1) * len(pictures))


def write_pack(
    path: str | Path, plan: PackPlan, *, workers: int = 2, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Writes NAME.zip and, beside it, NAME.json: COCO keypoints of the regions, for any other program.

    An interrupted run leaves NAME.partial, which the next run of the same plan goes on with; NAME.zip appears when it is whole.

    Args:
        path: NAME.zip.
        plan: from `plan_pack`.
        workers: threads that decode and encode.
        overwrite: replace a pack that is there.
        progress: called with (people done, people in all).

    Raises:
        UserError: the pack exists, a picture cannot be read, no space is left, or the partial file belongs to another plan.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise UserError(f"the pack is to be called {path}. Cure: choose a name that ends in .zip")
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists. Cure: --overwrite, or another --output")
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = _resume(partial, plan)
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_STORED, allowZip64=True) as file:
            try:
                _append(file, entries, plan, workers, progress)
            except BaseException:
                file._didModify = False  # type: ignore[attr-defined]  # no central directory: an unfinished file must not look like a whole zip
                raise
        names = [entry.filename for entry in entries if entry.filename.startswith("people/")]
        write_coco(path.with_suffix(".json"), _as_regions(plan, names), "")
        partial.replace(path)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
        raise UserError(
            f"cannot write {path}: {error.strerror or error} ({free / 1e9:.2f} GB free). Cure: make room and run the same command again; "
            f"it goes on with {partial}"
        ) from error
    return path


def _resume(partial: Path, plan: PackPlan) -> list[zipfile.ZipInfo]:
    """The members that are already there; a member cut short is taken off the end."""
    wanted = orjson.dumps(plan.settings, option=orjson.OPT_SORT_KEYS)
    if not partial.exists():
        partial.touch()
        return []
    entries, end = scan_members(partial)
    if entries:
        first = entries[0]
        with partial.open("rb") as file:
            content = file.read(data_offset(first) + first.file_size)[data_offset(first) :]
        if first.filename != PLAN or content != wanted:
            raise UserError(f"{partial} is an unfinished pack of another data set or preset. Cure: delete it, or choose another --output")
    if entries and entries[-1].filename == TABLE:
        end = entries.pop().header_offset
    with partial.open("r+b") as file:
        file.truncate(end)
    return entries


def _append(
    file: zipfile.ZipFile, entries: list[zipfile.ZipInfo], plan: PackPlan, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    """Adds what is missing, in the order of the pictures, and the table."""
    file.filelist.extend(entries)
    file.NameToInfo.update({entry.filename: entry for entry in entries})
    if not entries:
        entries.append(_add(file, PLAN, orjson.dumps(plan.settings, option=orjson.OPT_SORT_KEYS)))
    people = plan.people
    order = np.argsort(people.image_index, kind="stable")
    names = member_names(people, order)
    done = len(entries) - 1
    if [entry.filename for entry in entries[1:]] != names[:done]:
        raise UserError(f"{file.filename} is an unfinished pack of another data set. Cure: delete it, or choose another --output")
    groups = np.split(order[done:], np.flatnonzero(np.diff(people.image_index[order[done:]])) + 1) if done < len(order) else []

    def encode(rows: np.ndarray) -> list[bytes]:
        image = read_image(people.image_paths[people.image_index[rows[0]]])
        size = tuple(people.person_sizes_wh[rows[0]].tolist())
        if image.shape[1::-1] != size:
            path = people.image_paths[people.image_index[rows[0]]]
            raise UserError(f"{path} is {image.shape[1]} x {image.shape[0]}, its annotation says {size}. Cure: correct the annotation file")
        return [encode_region(image, plan, row) for row in rows.tolist()]

    ahead: deque[Future[list[bytes]]] = deque()

    def write_first() -> None:
        nonlocal done
        for content in ahead.popleft().result():
            entries.append(_add(file, names[done], content))
            done += 1
        if progress is not None:
            progress(done, len(people))

    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="pack") as pool:
        try:
            for rows in groups:
                ahead.append(pool.submit(encode, rows))
                if len(ahead) > 4 * workers:
                    write_first()
            while ahead:
                write_first()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    mine = entries[1:]
    table = {
        "format": FORMAT, "plan": plan.settings, "annotation_ids": people.annotation_ids[order], "regions_xyxy": plan.regions[order],
        "stored_wh": plan.stored_wh[order], "offsets": [data_offset(entry) for entry in mine], "sizes": [entry.file_size for entry in mine],
    }  # fmt: skip
    _add(file, TABLE, orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY))


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


def _as_regions(plan: PackPlan, names: list[str]) -> Annotations:
    """The data set as others see it: one picture a person, coordinates in its pixels."""
    people, count = plan.people, len(plan.people)
    order = np.argsort(people.image_index, kind="stable")
    regions, stored, mine = plan.regions[order], plan.stored_wh[order], people.select(order)
    ratios = stored / (regions[:, 2:] - regions[:, :2])

    def boxes(values: np.ndarray, corners: int) -> np.ndarray:
        """Edges of boxes: their first `corners` pairs are places, the others sizes."""
        moved = values.reshape(count, -1, 2) - np.where(np.arange(2)[:, None] < corners, regions[:, None, :2], 0)
        return (moved * ratios[:, None]).reshape(count, -1).astype(np.float32)

    keypoints = (mine.keypoints - regions[:, None, :2] + 0.5) * ratios[:, None] - 0.5  # a pixel's centre is at a whole number
    return replace(
        mine,
        image_ids=np.arange(1, count + 1), image_paths=tuple(names), image_sizes_wh=stored, image_index=np.arange(count),
        bbox_xywh=boxes(mine.bbox_xywh, 1), area=(mine.area * ratios.prod(1)).astype(np.float32),
        keypoints=np.where(mine.visibility[..., None] > 0, keypoints, 0).astype(np.float32),
        head_boxes_xyxy=None if mine.head_boxes_xyxy is None else boxes(mine.head_boxes_xyxy, 2),
        image_extras=None,
    )  # fmt: skip
