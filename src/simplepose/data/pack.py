"""Person regions of a data set as JPEG members of one plain stored zip, and memory-mapped reading of it.

NAME.zip holds `plan.json` (what the pack was made for), `people/PICTURE_ANNOTATION.jpg` (smaller than in the picture where no random view of
the person shows more detail; empty where the picture could not be read) and `pack.json` (where each person's bytes and region are). Any zip
program opens it. `pack.json` is written last: a file without it was cut short.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.core.images import decode_image
from simplepose.data.annotations import Annotations
from simplepose.data.regions import View, contains, person_views

FORMAT = 2
PLAN, TABLE = "plan.json", "pack.json"
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""A zip member's local header: signature, version, flags, method, time, date, CRC, stored size, size, lengths of name and extra field."""


@dataclass(frozen=True, slots=True)
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
    stored_wh: np.ndarray
    """(N, 2) int64 size it is stored in."""

    def view(self, row: int) -> View:
        """The person's region.

        Raises:
            UserError: the picture was left out, or the member does not decode, or to another size.
        """
        offset, size = int(self.offsets[row]), int(self.sizes[row])
        if not size:
            raise UserError(
                f"{self.path}: the member at byte {offset} is empty, because its picture could not be read when it was packed. "
                "Cure: repair the picture and pack the data set again"
            )
        left, top, right, bottom = self.regions[row].tolist()
        image = decode_image(
            self.content[offset : offset + size], f"{self.path}, member at byte {offset}"
        )
        width, height = self.stored_wh[row].tolist()
        if image.shape[:2] != (height, width):
            raise UserError(
                f"{self.path}: the member at byte {offset} is {image.shape[1]} x {image.shape[0]}, expected {width} x {height}. "
                "Cure: pack the data set again"
            )
        return View(image, (left, top), (width / (right - left), height / (bottom - top)))


def file_hash(path: str | Path) -> str:
    """sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def annotations_hash(people: Annotations) -> str:
    """sha256 of the annotation file; of several joined ones: of their hashes in order.

    Raises:
        UserError: a file is gone.
    """
    try:
        hashes = [file_hash(file) for file in people.source_files]
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}. Cure: check the path of the annotation file"
        ) from error
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def stored_sizes(regions: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """(N, 2) int64 size in which regions (N, 4) are stored at `ratios` (N,) of their pixels."""
    return np.maximum(
        np.ceil((regions[:, 2:] - regions[:, :2]) * ratios[:, None] - 1e-6), 1
    ).astype(np.int64)


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
        UserError: the file is missing, cut short, no pack, made from another annotation file or another state of it, or its margins or its
            resolution are too small for the preset; the message says which.
    """
    needed, ratios = person_views(people, augment, input_size_wh, udp=udp)
    table = read_table(path)
    plan = table["plan"]
    if plan["annotations_sha256"] != annotations_hash(people):
        raise UserError(
            f"{path} was packed from {plan['annotations']} as it was then; {people.source} is another file or has changed since. "
            "Cure: run simplepose pack again, or name the annotation file it was packed from"
        )
    place = {annotation: row for row, annotation in enumerate(table["annotation_ids"])}
    missing = [
        int(annotation) for annotation in people.annotation_ids.tolist() if annotation not in place
    ]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of {len(people)} people, first annotation {missing[0]}. Cure: run simplepose pack again for this preset"
        )
    rows = np.array([place[annotation] for annotation in people.annotation_ids.tolist()], np.int64)
    regions = np.array(table["regions_xyxy"], np.int64).reshape(-1, 4)[rows]
    offsets, sizes = (np.array(table[name], np.int64)[rows] for name in ("offsets", "sizes"))
    held = sizes > 0  # nothing is asked of those that were left out: `view` says so
    if (small := np.flatnonzero(held & ~contains(regions, needed))).size:
        first = int(small[0])
        raise UserError(
            f"{path} does not fit the preset: it was packed with {plan['margins']}, and {len(small)} of {len(people)} regions are too small (annotation "
            f"{people.annotation_ids[first]}: packed {regions[first].tolist()}, needed {needed[first].tolist()}). Cure: run simplepose pack with this "
            "preset, or weaken scale, rotation or half body"
        )
    stored = np.array(table["stored_wh"], np.int64).reshape(-1, 2)[rows]
    if (coarse := np.flatnonzero((stored < stored_sizes(regions, ratios)).any(1))).size:
        first = int(coarse[0])
        raise UserError(
            f"{path} does not fit the preset: it was packed for crops of {plan['input_size']}, scale from {plan['smallest_scale']:g}, and {len(coarse)} of "
            f"{len(people)} people are stored too small (annotation {people.annotation_ids[first]}). Cure: run simplepose pack with this preset"
        )
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Pack(str(path), content, offsets, sizes, regions, stored)


def read_table(path: str | Path) -> dict[str, Any]:
    """The member `pack.json`.

    Raises:
        UserError: the file is missing, cut short, or no pack of this version.
    """
    try:
        with zipfile.ZipFile(path) as file:
            table: dict[str, Any] = msgspec.json.decode(file.read(TABLE))
    except OSError as error:
        raise UserError(
            f"cannot read pack {path}: {error.strerror}. Cure: write it with simplepose pack"
        ) from error
    except (zipfile.BadZipFile, KeyError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} is no whole pack ({error}): cut short, or no pack at all. Cure: copy it again, or run simplepose pack again"
        ) from error
    if table.get("format") != FORMAT:
        raise UserError(
            f"{path} is a pack of format {table.get('format')}, this version reads {FORMAT}. Cure: run simplepose pack again"
        )
    return table


def scan_members(path: str | Path) -> tuple[list[zipfile.ZipInfo], int]:
    """The whole members of an unfinished zip, found from its beginning: their entries, and the byte where they end.

    A member counts when its header, name and bytes are there and its checksum is right.
    """
    import zlib

    entries: list[zipfile.ZipInfo] = []
    end = 0
    with open(path, "rb") as file:
        while True:
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size:
                return entries, end
            (
                signature,
                version,
                flags,
                method,
                _,
                _,
                crc,
                stored,
                size,
                name_length,
                extra_length,
            ) = LOCAL_HEADER.unpack(header)
            if (
                signature != b"PK\x03\x04"
                or method != zipfile.ZIP_STORED
                or flags & 0x08
                or stored != size
            ):
                return entries, end
            name, extra, data = file.read(name_length), file.read(extra_length), file.read(size)
            if (
                len(name) < name_length
                or len(extra) < extra_length
                or len(data) < size
                or zlib.crc32(data) != crc
            ):
                return entries, end
            entry = member(name.decode())
            entry.header_offset, entry.CRC, entry.compress_size, entry.file_size = (
                end,
                crc,
                size,
                size,
            )
            entry.extract_version = entry.create_version = version
            entries.append(entry)
            end = file.tell()


def member(name: str) -> zipfile.ZipInfo:
    """A stored member of a fixed date, so that the same pictures give the same pack."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_STORED, 0o644 << 16
    return entry


def data_offset(entry: zipfile.ZipInfo) -> int:
    """First byte of a member's content; our local headers have no extra field."""
    return entry.header_offset + LOCAL_HEADER.size + len(entry.filename.encode())
