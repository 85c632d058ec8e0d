"""Person regions of a data set in a folder of shards, read by byte range wherever it lies.

people-00000.zip, people-00001.zip, ... are plain stored zips of `people/PICTURE_ANNOTATION.jpg`
(smaller than in the picture where no random view of the person shows more detail; empty where the
picture could not be read); any zip program opens them. pack.npz says what the pack was made for,
and where each person's bytes and region are. coco.json holds the same people as an ordinary COCO
data set, SHA256SUMS what `sha256sum -c` compares after a copy. While it is written the folder is
called NAME.partial; the next run of the same plan goes on with the finished shards in it.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.core.files import (
    atomic_path,
    decode_json,
    encode_json,
    give_name,
    read_json,
    reading,
    require_whole_zip,
    visible_partial,
    write_bytes,
    write_json,
)
from simplepose.core.images import decode_image
from simplepose.core.storage import file_size, read_address, read_range
from simplepose.data.annotations import Annotations
from simplepose.data.augment import View, contains, person_views
from simplepose.data.coco import write_coco
from simplepose.data.pictures import THREADS, by_picture, in_order, read_sized, with_picture_sizes

FORMAT = 5
INDEX, PLAN, COCO, SUMS = "pack.npz", "plan.json", "coco.json", "SHA256SUMS"
SHARDS, OURS = "people-{:05d}.zip", r"people-\d+\.zip|pack\.npz|plan\.json|coco\.json|SHA256SUMS"
COLUMNS = {"annotation_ids": (), "regions_xyxy": (4,), "stored_wh": (2,), "members": (4,)}
"""Columns of the index, int64, and the shape of a row; of a member: number of its shard, first
byte, bytes, CRC-32."""
TOLD = ("upright", "format", "annotations_sha256", "annotations", "views", "shards")
"""Settings of the plan that decide whether a pack can be used, messages, and each shard's bytes."""
LOCAL_HEADER = 30
"""Bytes of a zip member's local header before its name; ours have no extra field."""
MEMBER_OVERHEAD = 240
"""Bytes of headers and index that a member costs, about."""
SAMPLE = 24
"""Pictures that are packed for the estimate."""
SHARD = 1000
"""Pictures a shard: some 90 MB of COCO at 256x192."""


@dataclass(frozen=True)
class PackPlan:
    """What is going to be packed."""

    people: Annotations
    """N trainable people."""
    regions: np.ndarray
    """(N, 4) part of the picture of each; at least one pixel."""
    stored_wh: np.ndarray
    """(N, 2) size it is stored in."""
    settings: dict[str, Any]
    """Format, annotation file, its hash, views, quality and colour."""

    def encode_picture(self, rows: np.ndarray, broken: dict[int, str] | None) -> list[bytes]:
        """JPEGs of the people of one picture, black outside of it; empty ones where it cannot be
        read, its reason put into `broken` (None: an error)."""
        image = read_sized(self.people, int(self.people.image_index[rows[0]]), broken)
        chroma = f"IMWRITE_JPEG_SAMPLING_FACTOR_{self.settings['chroma'].replace(':', '')}"
        options = [cv2.IMWRITE_JPEG_QUALITY, self.settings["quality"]]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, chroma)]
        contents = []
        for row in rows if image.size else ():
            left, top, right, bottom = self.regions[row]
            part = image[top:bottom, left:right]
            part = part if part.size else np.zeros((1, 1, 3), np.uint8)
            part = cv2.resize(part, self.stored_wh[row].tolist(), interpolation=cv2.INTER_AREA)
            part = cv2.cvtColor(part, cv2.COLOR_RGB2BGR)
            contents.append(cv2.imencode(".jpg", part, options)[1].tobytes())
        return contents or [b""] * len(rows)

    def write_shard(
        self, file: Path, pictures: list[np.ndarray], workers: int, broken: dict[int, str] | None
    ) -> None:
        """Writes the people of a few pictures, unless they are there. Without a picture that cannot
        be read they do not count, so that the next run tries again."""
        if _is_full(file):
            return
        encode, people = partial(self.encode_picture, broken=broken), self.people
        jpegs = in_order(encode, pictures, workers, 2 * workers)
        with (
            atomic_path(file, durable=True) as temporary,
            zipfile.ZipFile(temporary, "w") as zipped,
        ):
            for rows, contents in zip(pictures, jpegs, strict=True):
                picture = people.image_ids[people.image_index[rows[0]]]
                for person, content in zip(people.annotation_ids[rows], contents, strict=True):
                    name = f"people/{picture:012d}_{person}.jpg"
                    zipped.writestr(zipfile.ZipInfo(name), content)


def _is_full(shard: Path) -> bool:
    """Whether a shard is there, with a JPEG of everybody."""
    try:
        with zipfile.ZipFile(shard) as zipped:
            return all(one.file_size for one in zipped.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def plan_pack(
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
    quality: int = 90,
    full_colour: bool = False,
) -> PackPlan:
    """Decides each person's region, all that the augmentation can show of the picture, and the
    resolution that its closest view can use.

    Args:
        people: trainable people.
        augment: random changes of the training.
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.pose.geometry`.
        quality: of the JPEGs, 1 to 100.
        full_colour: keep colour at full resolution (4:4:4), not at half as most photographs do
            (4:2:0).

    Raises:
        UserError: nobody to pack, or an annotation file that is gone.
    """
    if not len(people):
        raise UserError(f"{people.source} has no person to pack. Cure: simplepose doctor says why")
    # Broken pictures are reported when they are packed.
    people = with_picture_sizes(people, skip_broken=True)
    regions, ratios = person_views(people, augment, input_size_wh, udp=udp)
    # A stored pixel more on each side, to interpolate with; empty regions are stored as one pixel.
    beside = np.where(ratios < 1, np.ceil(1 / ratios), 0).astype(np.int64)[:, None]
    low = np.maximum(regions[:, :2] - beside, 0)
    high = np.minimum(regions[:, 2:] + beside, people.person_sizes_wh)
    high = np.where((high <= low).any(1)[:, None], low + 1, high)
    regions = np.concatenate([low, high], axis=1)
    stored = stored_sizes(regions, ratios)
    settings = {
        "format": FORMAT,
        "annotations": people.source,
        "annotations_sha256": annotations_hash(people),
        "upright": people.upright,
        "views": _views(augment, input_size_wh),
        "quality": quality,
        "chroma": "4:4:4" if full_colour else "4:2:0",
        "regions_sha256": hashlib.sha256(np.hstack([regions, stored]).tobytes()).hexdigest(),
    }
    return PackPlan(people, regions, stored, settings)


def estimate_pack(plan: PackPlan) -> tuple[int, float]:
    """Bytes of the shards and processor seconds, from a few pictures spread over the data set."""
    groups, began = by_picture(plan.people), time.thread_time()
    chosen = np.linspace(0, len(groups) - 1, min(SAMPLE, len(groups))).astype(int)
    contents = [content for index in chosen for content in plan.encode_picture(groups[index], {})]
    seconds = (time.thread_time() - began) / len(chosen) * len(groups)
    sizes = [len(content) + MEMBER_OVERHEAD for content in contents if content]
    return int(np.mean(sizes or [0]) * len(plan.people)), seconds


def check_output(path: Path, people: Annotations, *, overwrite: bool = False) -> None:
    """Makes sure that the folder of the pack replaces nothing that somebody may want to keep.

    Args:
        path: the folder.
        people: who is going to be packed.
        overwrite: replace a pack that is there, but nothing else.

    Raises:
        UserError: something is in the way.
    """
    there = [*path.iterdir()] if path.is_dir() else [path] * path.exists()
    sources = {Path(file).resolve() for file in people.source_files}
    for file in there:
        if file == path or not re.fullmatch(OURS, file.name) or file.resolve() in sources:
            raise UserError(
                f"{file} is in the way: it is no part of a pack, or what is to be packed. "
                "Cure: choose another --output"
            )
    if there and not overwrite:
        raise UserError(f"{path} already exists. Cure: --overwrite, or another --output")


def write_pack(
    path: Path,
    plan: PackPlan,
    *,
    shard: int = SHARD,
    workers: int = 2,
    overwrite: bool = False,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, str]:
    """Writes the shards, their index and, for any other program, COCO keypoints of the regions.

    An interrupted run leaves NAME.partial, which the next run of the same plan goes on with; the
    folder has its name when it is whole.

    Args:
        path: the folder.
        plan: from `plan_pack`.
        shard: pictures a shard.
        workers: threads that decode and encode.
        overwrite: replace a pack that is there.
        skip_broken: give the people of unreadable pictures an empty member and leave them out of
            the COCO file, instead of stopping.
        progress: called with (people done, people in all).

    Returns:
        the pictures (indices) that could not be read, with the reasons.

    Raises:
        UserError: something is in the way, a picture (with `skip_broken` every one) cannot be read,
            no space is left, or the partial folder belongs to another plan.
    """
    path = path.resolve()  # not the link is replaced, but where it leads
    check_output(path, plan.people, overwrite=overwrite)
    folder, settings = visible_partial(path), plan.settings | {"pictures_per_shard": shard}
    begun = folder / PLAN
    if folder.exists() and not (begun.exists() and read_json(begun) == settings):
        raise UserError(
            f"{folder} is no unfinished pack of this data set and preset. "
            "Cure: delete it, or choose another --output"
        )
    write_json(begun, settings)
    groups, broken, done = by_picture(plan.people), dict[int, str](), 0
    files = [folder / SHARDS.format(number) for number in range(-(-len(groups) // shard))]
    for number, file in enumerate(files):
        pictures = groups[number * shard : (number + 1) * shard]
        plan.write_shard(file, pictures, workers, broken if skip_broken else None)
        done += sum(map(len, pictures))
        progress(done, len(plan.people))
    if len(broken) == len(groups):
        shutil.rmtree(folder)
        raise UserError(
            f"no picture can be read, first: {broken[min(broken)]}. "
            "Cure: check the folder of the training pictures"
        )
    _write_index(folder, plan, settings, np.concatenate(groups), files)
    if path.exists():
        shutil.rmtree(path)
    give_name(folder, path)
    return broken


def _write_index(
    folder: Path, plan: PackPlan, settings: dict[str, Any], order: np.ndarray, files: list[Path]
) -> None:
    """Writes all that stands beside finished shards, whose people are `order`."""
    members, names = [], []
    for number, file in enumerate(files):
        with zipfile.ZipFile(file) as zipped:
            for one in zipped.infolist():
                first = one.header_offset + LOCAL_HEADER + len(one.filename)
                members.append((number, first, one.file_size, one.CRC))
                names.append(one.filename)
    shards = {file.name: file.stat().st_size for file in files}
    columns = plan.people.annotation_ids[order], plan.regions[order], plan.stored_wh[order], members
    arrays: dict[str, Any] = {
        name: np.array(rows, np.int64) for name, rows in zip(COLUMNS, columns, strict=True)
    }
    arrays["plan"] = np.frombuffer(encode_json(settings | {"shards": shards}), np.uint8)
    index = io.BytesIO()
    np.savez_compressed(index, **arrays)
    written = np.flatnonzero([size for _, _, size, _ in members])
    regions = _as_regions(plan, order[written], tuple(names[place] for place in written))
    write_coco(folder / COCO, regions, "")
    write_bytes(folder / INDEX, index.getvalue(), durable=True)
    sums = []
    for file in (*files, folder / COCO, folder / INDEX):
        with file.open("rb") as content:
            sums.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n")
    write_bytes(folder / SUMS, "".join(sums).encode())


@dataclass(frozen=True)
class Pack:
    """An open pack: each person's region is read, by its range of bytes, when it is asked for."""

    path: str
    """The folder, or its address."""
    shards: list[str]
    """Names of the shards."""
    members: np.ndarray
    """(N, 4) int64 of each person's JPEG: number of its shard, first byte, bytes (0 where the
    picture could not be read when it was packed), CRC-32."""
    regions: np.ndarray
    """(N, 4) int64 part of the picture."""

    def view(self, row: int) -> View:
        """The person's region.

        Raises:
            UserError: the picture was left out, or the member is damaged.
            StoreError: the shard cannot be read.
        """
        shard, first, size, checksum = self.members[row].tolist()
        file = f"{self.path}/{self.shards[shard]}"
        where = f"{file}, member at byte {first}"
        if not size:
            raise UserError(
                f"{where}: its picture could not be read when it was packed. "
                "Cure: repair the picture and pack the data set again"
            )
        content = read_range(file, first, size)
        if zlib.crc32(content) != checksum:
            raise UserError(
                f"{where}: its checksum does not fit. "
                f"Cure: copy the shard again; sha256sum -c {SUMS} says which others"
            )
        image = decode_image(content, where)
        left, top, right, bottom = self.regions[row]
        height, width = image.shape[:2]
        return View(image, (left, top), (width / (right - left), height / (bottom - top)))


def open_pack(
    path: str | Path,
    people: Annotations,
    augment: AugmentConfig,
    input_size_wh: tuple[int, int],
    *,
    udp: bool = False,
) -> Pack:
    """Opens a pack for these people: reads its index, and asks for the size of each shard.

    Args:
        path: the folder, or its address.
        people: N people to train on.
        augment: random changes of the training; the pack has to hold all that they can show.
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.pose.geometry`.

    Raises:
        UserError: the index or a shard is missing or cut short, no pack, of another format, made
            from another annotation file or another state of it, or its margins or its resolution
            are too small for the preset; the message says which.
    """
    path = str(path).rstrip("/")
    content, cure = read_address(f"{path}/{INDEX}"), "copy it again, or run simplepose pack again"
    with reading(f"{path}/{INDEX}", "the index of a pack", cure):
        plan, ids, columns = _read_index(content)
    again = "Cure: run simplepose pack again for this preset and annotation file"
    if plan["format"] != FORMAT:
        raise UserError(f"{path} is of format {plan['format']}, not {FORMAT}. {again}")
    if plan["annotations_sha256"] != annotations_hash(people):
        raise UserError(
            f"{path} was packed from {plan['annotations']} as it was then; "
            f"{people.source} is another file or has changed since. {again}"
        )
    if plan["upright"] != people.upright:
        ways = {True: "turned upright", False: "as stored"}
        raise UserError(
            f"{path} does not hold the pictures {ways[people.upright]} (--data.upright). {again}"
        )
    index = {annotation: row for row, annotation in enumerate(ids.tolist())}
    rows = np.array([index.get(annotation, -1) for annotation in people.annotation_ids.tolist()])
    regions, stored, members = (column[rows] for column in columns)
    needed, ratios = person_views(people, augment, input_size_wh, udp=udp)
    # Nothing is asked of those that were left out: `view` says so.
    for problem, wrong in (
        ("are not in it", rows < 0),
        ("are cut too narrowly", (members[:, 2] > 0) & ~contains(regions, needed)),
        ("are stored too small", (stored < stored_sizes(regions, ratios)).any(1)),
    ):
        if wrong.any():
            first = people.annotation_ids[np.argmax(wrong)]
            raise UserError(
                f"{path} does not fit the preset: it was packed for {plan['views']}, the preset "
                f"wants {_views(augment, input_size_wh)}; {wrong.sum()} of {len(people)} people "
                f"{problem}, first annotation {first}. {again}"
            )
    shards = plan["shards"]
    sizes = in_order(file_size, (f"{path}/{name}" for name in shards), THREADS, 8 * THREADS)
    for (name, expected), found in zip(shards.items(), sizes, strict=True):
        if found != expected:
            raise UserError(
                f"{path}/{name} has {found:,} bytes, its pack says {expected:,}. "
                f"Cure: copy it again; sha256sum -c {SUMS} says which others"
            )
    return Pack(path, [*shards], members, regions)


def _read_index(content: bytes) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray]]:
    """The plan of a pack, its N annotation ids, and the other `COLUMNS`.

    Raises:
        ValueError, LookupError, zipfile.BadZipFile: it is no whole index.
    """
    require_whole_zip(io.BytesIO(content))
    with np.load(io.BytesIO(content)) as index:
        plan = decode_json(index["plan"].tobytes(), "its plan")
        ids, *columns = (index[name] for name in COLUMNS)
    plan = {name: plan[name] for name in TOLD}
    for rows, shape in zip((ids, *columns), COLUMNS.values(), strict=True):
        if rows.shape != (len(ids), *shape) or rows.dtype != np.int64:
            raise ValueError("its columns are not as long as its list of people")
    return plan, ids, columns


def annotations_hash(people: Annotations) -> str:
    """sha256 of the annotation files.

    Raises:
        UserError: a file is gone.
    """
    digest = hashlib.sha256()
    try:
        for name in people.source_files:
            digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}. "
            "Cure: check the path of the annotation file"
        ) from error
    return digest.hexdigest()


def stored_sizes(regions: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """(N, 2) int64 size in which regions (N, 4) are stored at `ratios` (N,) of their pixels."""
    sizes = np.ceil((regions[:, 2:] - regions[:, :2]) * ratios[:, None] - 1e-6)
    return np.maximum(sizes, 1).astype(np.int64)


def _views(augment: AugmentConfig, input_size_wh: tuple[int, int]) -> str:
    """What a training can show, in words."""
    turned = 2 * augment.rotation_degrees if augment.rotation_probability else 0
    return (
        f"crops of {input_size_wh[0]}x{input_size_wh[1]}, scale {1 - augment.scale_factor:g} to "
        f"{1 + augment.scale_factor:g}, rotation up to {turned:g} degrees, shift up to "
        f"{augment.shift_factor:g}, half body {'yes' if augment.half_body_probability else 'no'}"
    )


def _as_regions(plan: PackPlan, rows: np.ndarray, names: tuple[str, ...]) -> Annotations:
    """The people of `rows` as others see them: one picture a person, coordinates in its pixels."""
    mine, regions, stored = plan.people.select(rows), plan.regions[rows], plan.stored_wh[rows]
    corners = regions[:, None, :2]
    ratios = (stored / (regions[:, 2:] - regions[:, :2]))[:, None]
    boxes, heads = mine.bbox_xywh.reshape(-1, 2, 2), mine.head_boxes_xyxy
    moved = np.concatenate([boxes[:, :1] - corners, boxes[:, 1:]], axis=1) * ratios
    if heads is not None:
        heads = ((heads.reshape(-1, 2, 2) - corners) * ratios).reshape(-1, 4)
    # A pixel's centre is at a whole number.
    keypoints = (mine.keypoints - corners + 0.5) * ratios - 0.5
    return replace(
        mine,
        image_ids=np.arange(1, len(rows) + 1),
        image_paths=names,
        image_sizes_wh=stored,
        image_index=np.arange(len(rows)),
        bbox_xywh=moved.reshape(-1, 4),
        area=mine.area * ratios.prod((1, 2)),
        keypoints=np.where(mine.visibility[..., None] > 0, keypoints, 0),
        head_boxes_xyxy=heads,
        image_extras=(),
        upright=False,
    )
