"""Person regions of a data set as JPEG members of one plain stored zip, and memory-mapped reading
of it.

NAME.zip holds `people/PICTURE_ANNOTATION.jpg` (smaller than in the picture where no random view of
the person shows more detail; empty where the picture could not be read) and, last, `pack.json`:
what the pack was made for, and where each person's bytes and region are. Any zip program opens it.
NAME.json beside it holds the same people as an ordinary COCO data set. While a pack is written,
the folder NAME.partial keeps finished shards, with which the next run of the same plan goes on.
"""

from __future__ import annotations

import hashlib
import mmap
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.core.files import (
    atomic_path,
    encode_json,
    read_json,
    reading,
    write_bytes,
    write_json,
)
from simplepose.core.images import decode_image
from simplepose.data.annotations import Annotations
from simplepose.data.augment import View, contains, person_views
from simplepose.data.coco import write_coco
from simplepose.data.pictures import by_picture, in_order, read_sized, with_picture_sizes

FORMAT, TABLE = 4, "pack.json"
COLUMNS: dict[str, tuple[int, ...]] = {
    "annotation_ids": (),
    "regions_xyxy": (4,),
    "stored_wh": (2,),
}
"""Columns of the table and the shape of a row."""
TOLD = ("upright", "format", "annotations_sha256", "annotations", "views")
"""Settings of the plan that decide whether a pack can be used, and messages."""
LOCAL_HEADER = 30
"""Bytes of a zip member's local header before its name; ours have no extra field."""
MEMBER_OVERHEAD = 160
"""Bytes of headers and table that a member costs, about."""
SAMPLE = 24
"""Pictures that are packed for the estimate."""
SHARD = 256
"""Pictures that are packed together and kept when packing is interrupted."""


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

    def encode_shard(
        self, file: Path, groups: list[np.ndarray], broken: dict[int, str] | None
    ) -> list[bytes]:
        """JPEGs of the people of a few pictures: kept in `file`, or read from it. With a picture
        that cannot be read they are not kept, so that the next run tries again."""
        if file.exists():
            return msgspec.msgpack.decode(file.read_bytes(), type=list[bytes])
        contents = [jpeg for rows in groups for jpeg in self.encode_picture(rows, broken)]
        if all(contents):
            write_bytes(file, msgspec.msgpack.encode(contents))
        return contents


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
    """Bytes of the zip and processor seconds, from a few pictures spread over the data set."""
    groups, began = by_picture(plan.people), time.thread_time()
    chosen = np.linspace(0, len(groups) - 1, min(SAMPLE, len(groups))).astype(int)
    contents = [content for index in chosen for content in plan.encode_picture(groups[index], {})]
    seconds = (time.thread_time() - began) / len(chosen) * len(groups)
    sizes = [len(content) + MEMBER_OVERHEAD for content in contents if content]
    return int(np.mean(sizes or [0]) * len(plan.people)), seconds


def check_output(path: Path, people: Annotations, *, overwrite: bool = False) -> None:
    """Makes sure that NAME.zip and NAME.json replace nothing that somebody may want to keep.

    Args:
        path: NAME.zip.
        people: who is going to be packed.
        overwrite: replace a pack that is there, but never the annotation files.

    Raises:
        UserError: a name without .zip, or a file is in the way.
    """
    if path.suffix != ".zip":
        raise UserError(f"the pack is to be called {path}. Cure: choose a name that ends in .zip")
    sources = [file for file in map(Path, people.source_files) if file.exists()]
    for file in (path, path.with_suffix(".json")):
        if file.exists() and any(map(file.samefile, sources)):
            raise UserError(
                f"{path} would replace {file}, the annotations that are packed. "
                "Cure: another --output"
            )
        if file.exists() and not overwrite:
            raise UserError(
                f"{file}, written by packing {path.name}, already exists. "
                "Cure: --overwrite, or another --output"
            )


def write_pack(
    path: Path,
    plan: PackPlan,
    *,
    workers: int = 2,
    overwrite: bool = False,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, str]:
    """Writes NAME.zip and, beside it, NAME.json: COCO keypoints of the regions, for any other
    program.

    An interrupted run leaves NAME.partial, which the next run of the same plan goes on with;
    NAME.zip appears when it is whole. Both together need the space of two packs.

    Args:
        path: NAME.zip.
        plan: from `plan_pack`.
        workers: threads that decode and encode.
        overwrite: replace a pack that is there.
        skip_broken: give the people of unreadable pictures an empty member and leave them out of
            NAME.json, instead of stopping.
        progress: called with (people done, people in all).

    Returns:
        the pictures (indices) that could not be read, with the reasons.

    Raises:
        UserError: a file is in the way, a picture (with `skip_broken` every one) cannot be read,
            no space is left, or the partial folder belongs to another plan.
    """
    check_output(path, plan.people, overwrite=overwrite)
    people, folder = plan.people, path.with_suffix(".partial")
    begun = folder / "plan.json"
    if folder.exists() and not (begun.exists() and read_json(begun) == plan.settings):
        raise UserError(
            f"{folder} is no unfinished pack of this data set and preset. "
            "Cure: delete it, or choose another --output"
        )
    write_json(begun, plan.settings)
    groups, broken = by_picture(people), dict[int, str]()

    def pack_shard(first: int) -> list[bytes]:
        file, pictures = folder / f"{first:08}.shard", groups[first : first + SHARD]
        return plan.encode_shard(file, pictures, broken if skip_broken else None)

    shards = in_order(pack_shard, range(0, len(groups), SHARD), workers, 2 * workers)
    order = np.concatenate(groups)
    pictures = people.image_ids[people.image_index[order]]
    names = (
        f"people/{picture:012d}_{annotation}.jpg"
        for picture, annotation in zip(pictures, people.annotation_ids[order], strict=True)
    )
    with atomic_path(path, durable=True) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for contents in shards:
            for content in contents:
                file.writestr(zipfile.ZipInfo(next(names)), content)
            progress(len(file.infolist()), len(people))
        written = {
            row: one for row, one in zip(order, file.infolist(), strict=True) if one.file_size
        }
        if not written:
            shutil.rmtree(folder)
            raise UserError(
                f"no picture can be read, first: {broken[min(broken)]}. "
                "Cure: check the folder of the training pictures"
            )
        columns = (people.annotation_ids, plan.regions, plan.stored_wh)
        table = {name: rows[order] for name, rows in zip(COLUMNS, columns, strict=True)}
        file.writestr(zipfile.ZipInfo(TABLE), encode_json({"plan": plan.settings, **table}))
        members = tuple(entry.filename for entry in written.values())
        regions = _as_regions(plan, np.array([*written]), members)
        write_coco(path.with_suffix(".json"), regions, "")
    shutil.rmtree(folder)
    return broken


@dataclass(frozen=True)
class Pack:
    """An open pack: pixels of each person's region, read from the memory-mapped file."""

    path: str
    """The zip."""
    content: mmap.mmap
    """All of it."""
    offsets: np.ndarray
    """(N,) int64 first byte of each person's JPEG."""
    sizes: np.ndarray
    """(N,) int64 bytes; 0 where the picture could not be read when it was packed."""
    regions: np.ndarray
    """(N, 4) int64 part of the picture."""
    checksums: np.ndarray
    """(N,) int64 CRC-32 of each member."""

    def view(self, row: int) -> View:
        """The person's region.

        Raises:
            UserError: the picture was left out, or the member is damaged.
        """
        offset, size = int(self.offsets[row]), int(self.sizes[row])
        where = f"{self.path}, member at byte {offset}"
        if not size:
            raise UserError(
                f"{where}: its picture could not be read when it was packed. "
                "Cure: repair the picture and pack the data set again"
            )
        content = self.content[offset : offset + size]
        if zlib.crc32(content) != self.checksums[row]:
            raise UserError(f"{where}: its checksum does not fit. Cure: copy the pack again")
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
    """Opens a pack for these people.

    Args:
        path: the zip.
        people: N people to train on.
        augment: random changes of the training; the pack has to hold all that they can show.
        input_size_wh: size of the crop.
        udp: unit convention, see `simplepose.pose.geometry`.

    Raises:
        UserError: the file is missing, cut short, no pack, of another format, made from another
            annotation file or another state of it, or its margins or its resolution are too small
            for the preset; the message says which.
    """
    with reading(path, "a whole pack", "copy it again, or run simplepose pack again"):
        plan, ids, columns = _read_table(Path(path))
    again = "Cure: run simplepose pack again for this preset and annotation file"
    if plan["format"] != FORMAT:
        raise UserError(f"{path} is of format {plan['format']}, not {FORMAT}. {again}")
    if plan["annotations_sha256"] != annotations_hash(people):
        raise UserError(
            f"{path} was packed from {plan['annotations']} as it was then; "
            f"{people.source} is another file or has changed since. {again}"
        )
    if plan.get("upright") != people.upright:
        ways = {True: "turned upright", False: "as stored"}
        raise UserError(
            f"{path} does not hold the pictures {ways[people.upright]} (--data.upright). {again}"
        )
    index = {annotation: row for row, annotation in enumerate(ids.tolist())}
    rows = np.array([index.get(annotation, -1) for annotation in people.annotation_ids.tolist()])
    offsets, sizes, regions, stored, checksums = (column[rows] for column in columns)
    needed, ratios = person_views(people, augment, input_size_wh, udp=udp)
    # Nothing is asked of those that were left out: `view` says so.
    for problem, wrong in (
        ("are not in it", rows < 0),
        ("are cut too narrowly", (sizes > 0) & ~contains(regions, needed)),
        ("are stored too small", (stored < stored_sizes(regions, ratios)).any(1)),
    ):
        if wrong.any():
            first = people.annotation_ids[np.argmax(wrong)]
            raise UserError(
                f"{path} does not fit the preset: it was packed for {plan['views']}, the preset "
                f"wants {_views(augment, input_size_wh)}; {wrong.sum()} of {len(people)} people "
                f"{problem}, first annotation {first}. {again}"
            )
    with open(path, "rb") as zipped:
        content = mmap.mmap(zipped.fileno(), 0, access=mmap.ACCESS_READ)
    return Pack(str(path), content, offsets, sizes, regions, checksums)


def _read_table(path: Path) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray]]:
    """The plan of a pack, its N annotation ids, and offsets, sizes, regions, stored sizes and
    checksums of its members, all int64.

    Raises:
        ValueError, LookupError, zipfile.BadZipFile, msgspec.MsgspecError: it is no whole pack.
    """
    with zipfile.ZipFile(path) as file:
        *members, last = file.infolist()
        # A stored member is never larger than the file; a compressed one may be of any size.
        if last.filename != TABLE or any(one.compress_type for one in (*members, last)):
            raise ValueError(f"{TABLE} is not its last member, or a member is compressed")
        table = msgspec.json.decode(file.read(last), type=dict[str, Any])
    ids, regions, stored = (
        np.asarray(table[name], np.int64).reshape(len(members), *shape)
        for name, shape in COLUMNS.items()
    )
    if (regions[:, 2:] <= regions[:, :2]).any() or (stored < 1).any():
        raise ValueError(f"{TABLE} tells of regions that cannot be")
    places = [
        (one.header_offset + LOCAL_HEADER + len(one.filename), one.file_size, one.CRC)
        for one in members
    ]
    offsets, sizes, checksums = np.array(places, np.int64).reshape(-1, 3).T
    plan = {name: table["plan"][name] for name in TOLD}
    return plan, ids, [offsets, sizes, regions, stored, checksums]


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
