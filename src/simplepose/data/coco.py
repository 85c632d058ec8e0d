"""Files that look like COCO, in and out: annotations, detections, results, box files, PoseTrack
2018.

`Image`, `Row` and `File` say once what such a file may hold; msgspec reads straight into them and
skips the rest (outlines, licences) while it parses. Every command takes its people from here.
What is repaired or left out is counted in `warnings` and `notes`; what would silently change a
result is an error that names the file, the row, the value and the cure.
"""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError, shown
from simplepose.core.files import decode_json, encode_json, read_bytes, write_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.categories import (
    Category,
    Id,
    category_choices,
    category_of,
    chosen_categories,
    people_rows,
    plain_name,
    schema_from_category,
    schema_from_count,
)
from simplepose.data.pictures import find_pictures

AREA_FRACTION = 0.53
"""The part of a person's box that stands for its area where nobody drew one (CrowdPose's)."""
BEYOND = 1e9
"""No box in pixels has a number as large; the area of one that has does not fit float32."""
FOUR = msgspec.Meta(min_length=4, max_length=4)
Four = Annotated[list[float | None], FOUR]
"""Left, top, right, bottom."""
KINDS = {"annotations": "annotation", "images": "picture", "categories": "category"}
"""What messages call the rows of a file's lists."""


class Image(msgspec.Struct, gc=False, omit_defaults=True):
    """One picture; from `spelled_id` on, what CrowdPose, PoseTrack and we say beside it."""

    id: Any = None
    file_name: str | None = None
    width: float | None = None
    height: float | None = None
    spelled_id: Any = None
    crowdIndex: Any = None
    vid_id: Any = None
    frame_id: Any = None
    nframes: Any = None
    is_labeled: Any = None
    ignore_regions_x: Any = None
    ignore_regions_y: Any = None


class Row(msgspec.Struct, gc=False):
    """One annotated, detected or estimated person. Null stands for missing."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: list[float] | None = None
    keypoints: list[float | list[float | None] | None] | None = None
    num_keypoints: Any = None
    area: Any = None
    score: float | None = None
    iscrowd: bool | float | None = None
    track_id: Any = None
    attributes: Any = None
    """CVAT's own: it keeps the `track_id` here."""
    head_box_xyxy: Four | None = None
    bbox_head: Annotated[list[float], FOUR] | None = None
    scores: list[float | None] | None = None

    @property
    def is_crowd(self) -> bool:
        """Whether it is a group drawn as one."""
        return (self.iscrowd or 0) > 0

    @property
    def flat_keypoints(self) -> list[Any]:
        """x, y, v, x, y, v, ... also where the file nests them; empty where there are none."""
        values = self.keypoints or []
        if list not in map(type, values):
            return values
        return list(chain(*(one if isinstance(one, list) else [one] for one in values)))


class File(msgspec.Struct, gc=False):
    """An annotation file; `annolist` is the form of PoseTrack 2017."""

    images: list[Image] | None = None
    annotations: list[Row] | None = None
    categories: list[Category] | None = None
    info: Any = None
    annolist: Any = None

    @property
    def rows(self) -> list[Row]:
        """The annotations; none where they are null or not there."""
        return self.annotations or []

    @property
    def listed(self) -> list[Category]:
        """The categories; none where they are null or not there."""
        return self.categories or []


def decode(source: Any, name: str, kind: Any = Any) -> Any:
    """JSON as a declared type; byte order marks, NaN and Infinity are read too.

    Args:
        source: a path, or the content as Python objects (numpy's too).
        name: what messages call it.
        kind: what it must be: a type that msgspec knows.

    Raises:
        UserError: missing, empty, not JSON, or a value of another type; names row, field, value.
    """
    content = read_bytes(source) if isinstance(source, (str, Path)) else encode_json(source)
    try:
        return decode_json(content, name, kind)
    except msgspec.ValidationError as error:
        # msgspec says: ... - at `$.annotations[3].bbox[1]`
        reason, _, place = str(error).partition(" - at `$")
        steps = [int(i) if i else word for word, i in re.findall(r"\.(\w+)|\[(\d+)\]", place)]
        steps = steps[: 3 if steps and isinstance(steps[0], str) else 2]
        row = value = decode_json(content, name)
        for step in steps:
            row, value = value, value[step]
        match steps:
            case [str(part), int(index), field]:
                where = f"{KINDS.get(part, part)} {row.get('id', index)} has the {field}"
            case [int(index), field]:
                where = f"row {index} has the {field}"
            case [str(part), index]:
                where = f"entry {index} of `{part}` is"
            case [part]:
                where = f"`{part}` is" if isinstance(part, str) else f"row {part} is"
            case _:
                where = "it is no COCO file but"
        reason = reason.replace("`", "").replace("array", "list").replace(" | ", " or ")
        raise UserError(
            f"{name}: {where} {shown(value)}: {reason}. Cure: correct or remove it"
        ) from error


def load(source: Any, name: str = "") -> File | list[Row]:
    """Reads a file of rows or an annotation file: `decode`, with exact ids, see `exact_ids`.

    Raises:
        UserError: see `decode` and `exact_ids`.
    """
    name = name or str(source)
    file = decode(source, name, File | list[Row])
    if isinstance(file, list):
        _make_ids_exact(file, f"{name}: row", ("image_id", "category_id", "track_id"))
        return file
    for row in file.rows:
        if isinstance(row.attributes, dict) and row.track_id is None:
            row.track_id = row.attributes.get("track_id")
    _make_ids_exact(file.listed, f"{name}: category", ("id",))
    _make_ids_exact(file.images or [], f"{name}: picture", ("id",))
    fields = ("id", "image_id", "category_id", "track_id")
    _make_ids_exact(file.rows, f"{name}: annotation", fields)
    return file


def load_file(source: Any, name: str = "") -> File:
    """`load` of an annotation file.

    Raises:
        UserError: also for a list of rows.
    """
    file = load(source, name)
    if isinstance(file, list) or file.images is None:
        raise UserError(
            f"{name or source} is not a COCO annotation file (no `images` list). "
            "Cure: export as COCO keypoints"
        )
    return file


def has_keypoints(file: File) -> bool:
    """Whether a category names keypoints or a row has some; boxes alone train a detector."""
    return any(one.plain_names for one in file.listed) or any(row.keypoints for row in file.rows)


def load_rows(source: Any, name: str = "") -> list[Row]:
    """`load` of detections or results.

    Raises:
        UserError: also for an annotation file.
    """
    rows = load(source, name)
    if not isinstance(rows, list):
        raise UserError(
            f"{name or source} is not a list of COCO rows. "
            "Cure: give detections or results (image_id, category_id, score, bbox or keypoints)"
        )
    return rows


def exact_ids(values: Sequence[Any], label: Callable[[int], str], field: str) -> list[Id | None]:
    """Ids as they compare: 7, 7.0, "7" and "0007" are 7; other text is a word.

    Numbers are exact; one beyond 64 bits is a word.

    Args:
        values: what the file says.
        label: what messages call a row.
        field: the name of the id.

    Raises:
        UserError: a fraction, or no id at all (a list, true).
    """
    limit, ids = 2**63, list(values)
    if {*map(type, ids)} == {int} and -limit <= min(ids) <= max(ids) < limit:
        return ids
    for index, value in enumerate(ids):
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        if whole or (isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,400}\s*", value)):
            value = int(value)
        elif value is not None and type(value) not in (int, str):
            raise UserError(
                f"{label(index)} has the {field} {shown(value)}, neither a whole number nor "
                "a word. Cure: correct it"
            )
        ids[index] = value if type(value) is not int or -limit <= value < limit else str(value)
    return ids


def _make_ids_exact(rows: Sequence[Any], kind: str, fields: Sequence[str]) -> None:
    def label(index: int) -> str:
        known = "id" in fields and type(rows[index].id) in (int, str)
        return f"{kind} {rows[index].id if known else index}"

    for name in fields:
        found = [getattr(row, name) for row in rows]
        for row, old, new in zip(rows, found, exact_ids(found, label, name), strict=True):
            if new is not old:
                setattr(row, name, new)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of lists without cycles: the collector would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class _Repairs:
    """Counts what is repaired or left out in a file."""

    source: str
    warnings: list[str] = field(default_factory=list)

    def note(self, found: Any, sentence: str) -> None:
        """`found`: a number, or a mask."""
        if count := int(np.sum(found)):
            self.warnings.append(f"{self.source}: {count} {sentence}")


@_no_garbage_collection()
def read_coco(
    annotations_path: Any,
    images_dir: str | Path | None,
    schema: KeypointSchema | None = None,
    *,
    category: int | str | None = None,
    allow_empty: bool = False,
    box_areas: bool = False,
) -> Annotations:
    """Reads a COCO-keypoints file.

    Args:
        annotations_path: the JSON file, or its content as Python objects.
        images_dir: folder the `file_name`s are relative to; None where no picture is opened.
        schema: expected keypoints; by default they come from the file's `categories`.
        category: id or name, where several categories have different keypoints.
        allow_empty: accept a file with pictures but no person (an official test split).
        box_areas: take every area from the box, whatever the file says (CrowdPose, PoseTrack).

    Returns:
        All people of the category, crowds and people without keypoints included.

    Raises:
        UserError: names the file, the annotation and the cure.
    """
    source = str(annotations_path) if isinstance(annotations_path, (str, Path)) else "ground truth"
    file, warnings = load_file(annotations_path, source), list[str]()
    kept = chosen_categories(file.listed, source, category)
    if len(kept) > 1:
        warnings.append(f"{source}: {len(kept)} categories share their keypoints, read as one")
    rows, own = _people_of(file, kept, source, category is not None, warnings)
    if not rows and not allow_empty:
        raise UserError(
            f"{source} holds no annotation with keypoints ({len(file.images or ())} pictures). "
            "Cure: check that the right file was exported"
        )
    schema, assumed = _schema(kept, rows, schema, source)
    check_lengths(rows, len(schema), source, annotations_path)
    people = File(file.images, rows, file.categories, file.info)
    found = annotations_of(people, source, images_dir, schema, people=own, box_areas=box_areas)
    return replace(found, warnings=(*warnings, *assumed, *found.warnings))


def _people_of(
    file: File, kept: Sequence[Category], source: str, chosen: bool, warnings: list[str]
) -> tuple[list[Row], list[Id]]:
    """The rows of people, and their categories; `chosen`: somebody named the one that is kept."""
    own, listed = [one.id for one in kept if one.id is not None], file.listed
    choices = [own] if chosen else category_choices(listed)
    people, taken = annotated_people(file, choices, source, warnings)
    rows = list(compress(file.rows, people))
    if chosen and len(listed) > 1:  # a row without category may be of any of several
        rows = [row for row in rows if row.category_id is not None]
    if not own or not {*taken} <= {*own}:
        own = taken or choices[-1] or [one.id for one in listed if not listed[1:]] or [1]
    return rows, own


def annotated_people(
    file: File, choices: Sequence[Sequence[Id]], source: str, warnings: list[str]
) -> tuple[np.ndarray, list[Id]]:
    """`people_rows` of an annotation file, which is taken at its word.

    Where all listed categories share their keypoints and everybody has as many, the rows of
    categories that are not listed are people too.
    """
    rows, found = file.rows, [row.category_id for row in file.rows]
    known, present = {one.id for one in file.listed}, {*found} - {None}
    skeletons = {one.plain_names for one in file.listed}
    lengths = {len(row.flat_keypoints) for row in rows}
    if not present & known and len(skeletons) == 1 and lengths == {3 * len(*skeletons)} - {0}:
        names = ", ".join(sorted(map(str, present))[:5])
        warnings.append(
            f"{source}: `category_id` ({names}) is not in `categories`, which all have the "
            "same keypoints; these annotations are read as theirs"
        )
        choices = [list(present)]
    people, taken = people_rows(found, choices, source, told=True)
    lost = [one for one, mine in zip(found, people, strict=True) if not mine and one not in known]
    if lost:
        names = ", ".join(sorted({*map(str, lost)})[:5])
        warnings.append(
            f"{source}: {len(lost)} of {len(rows)} annotations are left out: "
            f"their `category_id` ({names}) is not in `categories`"
        )
    return people, taken


def _schema(
    kept: Sequence[Category],
    rows: Sequence[Row],
    wanted: KeypointSchema | None,
    source: str,
) -> tuple[KeypointSchema, list[str]]:
    """The schema of the file, or the one expected where the file's fits; and what was assumed."""
    names = kept[0].plain_names if kept else ()
    if wanted is None and names:
        return schema_from_category(kept[0], source)
    if wanted is None:
        count = max((len(row.flat_keypoints) // 3 for row in rows), default=0)
        if not count:
            raise UserError(
                f"{source} has no keypoints, neither names in `categories` nor values. "
                "Cure: export as COCO keypoints; boxes alone train a detector, "
                "simplepose train person_lite0_320"
            )
        return schema_from_count(count, source)
    plain = tuple(map(plain_name, wanted.keypoints))
    if names and (len(names) != len(plain) or (names != plain and {*names} == {*plain})):
        raise UserError(
            f"{source} has {len(names)} keypoints, {names}, not the {len(plain)} of "
            f"{wanted.name!r} in their order. Cure: read it without a schema and map it"
        )
    return wanted, []


def check_lengths(rows: Sequence[Row], count: int, source: str, content: Any) -> None:
    """Refuses keypoints that are not x, y, v of each of `count`.

    Raises:
        UserError: names the row and, where another field of the file's rows fits, that field.
    """
    length = 3 * count
    for index, row in enumerate(rows):
        if (have := len(row.flat_keypoints)) not in (0, length):
            fields = chain(*(one.items() for one in decode(content, source)["annotations"]))
            fits = {n for n, v in fields if type(v) is list and len(v) == length} - {"keypoints"}
            cure = "correct it, or choose the schema of the file"
            lengths = {len(one.flat_keypoints) for one in rows}
            if have < length and not have % 3 and lengths <= {0, have}:
                cure = f"everybody has {have // 3}: name in `categories` only these, in their order"
            if fits:
                cure = f"the field `{min(fits)}` fits: rename it to `keypoints`"
            raise UserError(
                f"{source}: annotation {index if row.id is None else row.id} has {have} values in "
                f"its keypoints, {count} keypoints have {length}. "
                f"Cure: {cure}"
            )


@np.errstate(over="ignore")
def annotations_of(
    file: File,
    source: str,
    images_dir: str | Path | None,
    schema: KeypointSchema,
    *,
    people: Sequence[Id] = (1,),
    box_areas: bool = False,
) -> Annotations:
    """Rows that are all people of one schema -> columns, see `read_coco`.

    Args:
        people: their categories.
    """
    images, repairs = file.images or [], _Repairs(source)
    spelled = [image.id for image in images]
    image_ids = _numbers(spelled, "images", repairs)
    sizes = _sizes(images, source)
    rows, image_index = _on_pictures(file.rows, spelled, repairs)

    def label(index: int) -> str:
        name = rows[index].id
        return f"{source}: annotation {index if name is None else name}"

    keypoints, visibility = _keypoints(rows, len(schema), label, repairs)
    bbox = _boxes(rows, label, made=True).astype(np.float32)
    repairs.note(
        [not row.bbox for row in rows],
        "people have no bbox; the tight box of their labelled keypoints is used",
    )
    bbox, area = _repaired(rows, bbox, repairs, box_areas=box_areas)
    heads = np.array([row.head_box_xyxy or [np.nan] * 4 for row in rows], np.float64)
    unscored = (visibility > 0).any(1) & np.array([row.num_keypoints == 0 for row in rows], bool)
    info = file.info if isinstance(file.info, dict) else {}
    return Annotations(
        schema=schema,
        source=source,
        image_ids=image_ids,
        image_paths=_paths(images, images_dir, repairs),
        image_sizes_wh=sizes,
        annotation_ids=_numbers([row.id for row in rows], "annotations", repairs),
        image_index=image_index,
        bbox_xywh=bbox,
        keypoints=keypoints,
        visibility=visibility,
        area=area,
        is_crowd=np.array([row.is_crowd for row in rows], bool),
        track_ids=track_numbers(rows, label),
        warnings=tuple(repairs.warnings),
        head_boxes_xyxy=heads if np.isfinite(heads).any() else None,
        unscored=unscored if unscored.any() else None,
        image_extras=_extras(images, image_ids.tolist()),
        clip_boxes=bool(info.get("clip_boxes", True)),
        **_categories(file, rows, people),
    )


def _sizes(images: Sequence[Image], source: str) -> np.ndarray:
    """(M, 2) width and height; 0 where they are unknown."""
    sizes = np.array([(image.width or 0, image.height or 0) for image in images], np.float64)
    wrong = ((sizes < 0) | (sizes >= BEYOND)).reshape(-1, 2).any(1)
    for index in np.flatnonzero(wrong)[:1]:
        raise UserError(
            f"{source}: picture {shown(images[index].id)} has the size {sizes[index].tolist()}. "
            "Cure: correct its width and height, or remove them"
        )
    return np.nan_to_num(sizes)


def _numbers(ids: list[Id | None], what: str, repairs: _Repairs) -> np.ndarray:
    """(N,) int64: the ids, or numbers from 1 where one is a word, or all people lack them."""
    absent, numbers = ids.count(None), np.arange(1, len(ids) + 1)
    if absent and (what == "images" or absent < len(ids)):
        raise UserError(
            f"{repairs.source}, {what}: {absent} of {len(ids)} entries have no id, the first is "
            f"entry {ids.index(None)}. Cure: give each one a unique number"
        )
    twice = [name for name, count in Counter(ids).items() if count > 1 and name is not None]
    if twice:
        raise UserError(
            f"{repairs.source}, {what}: the id {twice[:5]} stands more than once "
            f"({len(twice)} such ids). Cure: make the ids unique"
        )
    repairs.note(absent, f"{what} have no id; they are numbered from 1")
    words = [name for name in ids if isinstance(name, str)]
    repairs.note(len(words), f"ids of {what} are words, such as {words[:1]}; numbered from 1")
    return numbers if words or absent else np.array(ids, np.int64)


def _on_pictures(
    rows: Sequence[Row], pictures: list[Id | None], repairs: _Repairs
) -> tuple[list[Row], np.ndarray]:
    """The rows whose picture is listed, and its index; the others are counted."""
    indices = {name: index for index, name in enumerate(pictures)}
    kept = [row for row in rows if row.image_id in indices]
    lost = [row.image_id for row in rows if row.image_id not in indices]
    sentence = f"name a picture that is not in `images`, first {lost[:3]}"
    if lost and len(lost) == len(rows):
        raise UserError(
            f"{repairs.source}: all {len(rows)} annotations {sentence}. Cure: export again"
        )
    repairs.note(len(lost), f"of {len(rows)} annotations are left out: they {sentence}")
    return kept, np.array([indices[row.image_id] for row in kept], np.int64)


def _keypoints(
    rows: Sequence[Row], count: int, label: Callable[[int], str], repairs: _Repairs
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) float32 coordinates and (N, K) uint8 visibility in {0, 1, 2}.

    A person without keypoints has none labelled; a visibility that is a confidence counts as 2
    where it is above 0.
    """
    empty = [0.0] * (3 * count)
    triples = np.array([row.flat_keypoints or empty for row in rows], np.float32)
    triples = triples.reshape(len(rows), count, 3)
    raw = np.nan_to_num(triples[..., 2])
    visibility = np.where(np.isin(raw, (0, 1, 2)), raw, 2 * (raw > 0)).astype(np.uint8)
    repairs.note(
        raw != visibility,
        "visibility values are none of 0, 1, 2; those above 0 are read as 2 (visible), others as 0",
    )
    near: Any = (np.abs(triples[..., :2]) < BEYOND).all(2)
    for person, keypoint in np.argwhere(~near & (visibility > 0))[:1]:
        raise UserError(
            f"{label(person)}: keypoint {keypoint} is labelled but not finite, or too large for "
            f"any picture: {triples[person, keypoint].tolist()}. "
            "Cure: set its visibility to 0, or correct it"
        )
    return np.where(near[..., None], triples[..., :2], np.float32(0)), visibility


def _boxes(rows: Sequence[Row], label: Callable[[int], str], *, made: bool) -> np.ndarray:
    """(N, 4) float64 xywh; where `made`, a missing box is the tight box of the keypoints."""
    boxes = [row.bbox or (tight_box(row) if made else []) for row in rows]
    for index, box in enumerate(boxes):
        if len(box) != 4:
            have = f"the bbox {shown(box)}, not" if box else "no bbox"
            raise UserError(
                f"{label(index)} has {have} x, y, width, height. Cure: correct or remove it"
            )
    array = np.array(boxes, np.float64).reshape(-1, 4)
    for index in np.flatnonzero(~(np.abs(array) < BEYOND).all(1))[:1]:
        raise UserError(
            f"{label(index)} has the bbox {shown(boxes[index])}, which is not finite or too "
            "large for any picture. Cure: correct or remove it"
        )
    return array


def _repaired(
    rows: Sequence[Row], bbox: np.ndarray, repairs: _Repairs, *, box_areas: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes and (N,) areas in which those without size, beside labelled keypoints, are made
    as missing ones are, wherever that gives them a size."""
    tight = np.array([tight_box(row) for row in rows], np.float32).reshape(-1, 4)
    sized, labelled = (tight[:, 2:] > 0).all(1), tight.any(1)
    flat: Any = sized & ~(bbox[:, 2:] > 0).all(1)
    repairs.note(
        flat,
        "people have a bbox without width or height beside labelled keypoints; the tight box of "
        "these is used",
    )
    bbox = np.where(flat[:, None], tight, bbox)
    made = AREA_FRACTION * bbox[:, 2].clip(min=0) * bbox[:, 3].clip(min=0)
    if box_areas:
        return bbox, made
    area = np.array([_number(row.area) for row in rows], np.float32)
    for wrong, what in (
        (~np.isfinite(area), "no area"),
        ((area <= 0) & labelled & (made > 0), "an area of 0 or less beside labelled keypoints"),
    ):
        repairs.note(
            wrong, f"people have {what}; {AREA_FRACTION} x that of the box is used (it scales OKS)"
        )
        area = np.where(wrong, made, area)
    return bbox, area


def tight_box(row: Row) -> list[float]:
    """The extent of the labelled keypoints; without any, a box without size."""
    values = row.flat_keypoints
    triples = np.array(values[: len(values) // 3 * 3], np.float32).reshape(-1, 3)
    points = triples[triples[:, 2] > 0, :2]
    if not len(points):
        return [0.0] * 4
    return [*points.min(0).tolist(), *np.ptp(points, 0).tolist()]


def _number(value: Any) -> float:
    """A number, also written as text; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def track_numbers(rows: Sequence[Row], label: Callable[[int], str]) -> np.ndarray | None:
    """(N,) int64 track ids, -1 where one is missing; None where nobody has one.

    Raises:
        UserError: one is a word; `label` names the row.
    """
    tracks = [-1 if row.track_id is None else row.track_id for row in rows]
    for index, track in enumerate(tracks):
        if isinstance(track, str):
            raise UserError(
                f"{label(index)} has the track_id {shown(track)}, not a whole number. "
                "Cure: number the tracks 0, 1, 2 ..."
            )
    return np.array(tracks, np.int64) if any(row.track_id is not None for row in rows) else None


def _categories(file: File, rows: Sequence[Row], people: Sequence[Id]) -> dict[str, Any]:
    """The columns of `Annotations` on categories, those whose ids are words numbered from 1."""
    listed = [one.id for one in file.listed if one.id is not None]
    names = list(dict.fromkeys([*listed, *people]))
    words = any(isinstance(name, str) for name in names)
    numbers = {name: at if words else name for at, name in enumerate(names, 1)}
    own, *more = (numbers[name] for name in people)
    theirs = [numbers.get(row.category_id, own) for row in rows]
    return {
        "category_id": own,
        "more_categories": tuple(more),
        "person_categories": theirs if len({*theirs}) > 1 else None,
        "category_numbers": numbers,
    }


def _extras(images: Sequence[Image], numbers: Sequence[int]) -> tuple[dict[str, Any], ...]:
    """What is said beside a picture; an id that became another number stays as `spelled_id`."""
    # dictionaries of what a picture has, nothing else
    extras: list[dict[str, Any]] = msgspec.to_builtins(list(images))
    for extra, number in zip(extras, numbers, strict=True):
        if extra["id"] != number:
            extra["spelled_id"] = extra["id"]
        for name in ("id", "file_name", "width", "height"):
            extra.pop(name, None)
    return tuple(extras)


def _paths(
    images: Sequence[Image], images_dir: str | Path | None, repairs: _Repairs
) -> tuple[str, ...]:
    """Full paths, see `find_pictures`."""
    names = [image.file_name or "" for image in images]
    if not images_dir:
        return tuple(names)
    if "" in names:
        raise UserError(
            f"{repairs.source}: picture {images[names.index('')].id} has no file_name. "
            "Cure: add the name of the picture file"
        )
    paths, notes = find_pictures(names, images_dir)
    for count, sentence in notes:
        repairs.note(count, sentence)
    return paths


@dataclass(frozen=True, kw_only=True)
class PeopleBoxes:
    """D boxes of people as a file has them, before their pictures are looked up."""

    image_ids: list[Id]
    boxes_xyxy: np.ndarray
    """(D, 4) float64, pixels."""
    scores: np.ndarray
    """(D,) float64."""
    left_out: list[tuple[int, str]]
    """How many boxes are left out, and why."""
    without_score: int
    """How many have none and count with 1."""


def people_boxes(
    rows: Sequence[Row],
    people: np.ndarray,
    source: str,
    *,
    annotated: bool = False,
    score_threshold: float = 0.0,
) -> PeopleBoxes:
    """The boxes of people among rows: the one rule for evaluate, predict, track and doctor.

    Left out: crowds, scores not above the threshold, boxes without a positive width and height.
    A missing score is 1 in an annotation file, and in a list where no person has one.

    Args:
        rows: all rows of the file.
        people: (N,) bool, which of them are people.
        source: the file, for messages.
        annotated: rows of an annotation file: a missing box is made from the keypoints.
        score_threshold: a score must be above it.

    Raises:
        UserError: a person without picture, four finite numbers as box, or a finite score.
    """
    crowd = np.array([row.is_crowd for row in rows], bool)
    used = np.flatnonzero(people & ~crowd).tolist()
    mine = [rows[index] for index in used]

    def label(index: int) -> str:
        return f"{source}: row {used[index]}"

    given, pictures = [row.score for row in mine], [row.image_id for row in mine]
    one_each = annotated or given.count(None) == len(given)
    scores = np.array([1 if one is None and one_each else one for one in given], np.float64)
    if None in pictures:
        raise UserError(f"{label(pictures.index(None))} has no image_id. Cure: name its picture")
    wrong = np.flatnonzero(~(np.abs(scores) < BEYOND)).tolist()
    for index in sorted(wrong, key=lambda index: given[index] is None)[:1]:
        raise UserError(
            f"{label(index)} has the score {given[index]}. "
            "Cure: give a finite number; where no row has one, each is 1"
        )
    boxes = _boxes(mine, label, made=annotated)
    empty, low = ~(boxes[:, 2:] > 0).all(1), ~(scores > score_threshold)
    reasons = {
        "are crowds": people & crowd,
        f"have no score above {score_threshold:g}": low,
        "have no positive width and height": empty & ~low,
    }
    kept = np.flatnonzero(~empty & ~low)
    return PeopleBoxes(
        image_ids=[pictures[index] for index in kept],
        boxes_xyxy=xywh_to_xyxy(boxes[kept]),
        scores=scores[kept],
        left_out=[(int(found.sum()), why) for why, found in reasons.items() if found.any()],
        without_score=0 if annotated else given.count(None),
    )


def read_detections(path: Any, annotations: Annotations) -> Detections:
    """The boxes of a detection file on the pictures of `annotations`, in the order of the file.

    Kept: people by `people_rows` and `people_boxes`, on pictures of the annotations. What is left
    out is counted in `notes`.

    Raises:
        UserError: not a list of boxes, a box or score that is not finite, or no box on any of the
            pictures.
    """
    source, rows = str(path), load_rows(path)
    if not rows:
        raise UserError(
            f"{source} holds no detection. "
            "Cure: check that the detector ran, or use the ground-truth boxes"
        )
    own = (annotations.category_id, *annotations.more_categories)
    numbers: dict[Any, int] = {**annotations.category_numbers}
    theirs = [numbers.get(row.category_id, row.category_id) for row in rows]
    people, taken = people_rows(theirs, [own], source)
    boxes = people_boxes(rows, people, source)
    pictures = picture_index(annotations)
    index = np.array([pictures.get(name, -1) for name in boxes.image_ids], np.int64)
    known = index >= 0
    if not known.any():
        raise UserError(
            f"{source}: none of its {len(rows)} boxes can be used on the pictures of "
            f"{annotations.source} ({int((~known).sum())} are on other pictures; its image ids "
            f"start {[row.image_id for row in rows[:3]]}, the annotations' {list(pictures)[:3]}). "
            "Cure: give the detections of this split"
        )
    other = people.sum() if taken and not {*taken} & {*own} else 0
    notes = [
        (
            other,
            f"of category {[*taken, 0][0]} are used: none has the annotations' category {own[0]}",
        ),
        ((~people).sum(), "are of other categories and are left out"),
        *((count, f"{reason} and are left out") for count, reason in boxes.left_out),
        (boxes.without_score, "have no score and count with 1"),
        ((~known).sum(), f"are on pictures that {annotations.source} lacks and are left out"),
    ]
    return Detections(
        image_index=index[known],
        boxes_xyxy=boxes.boxes_xyxy[known],
        scores=boxes.scores[known],
        source=source,
        notes=tuple((int(count), sentence) for count, sentence in notes if count),
    )


def picture_index(annotations: Annotations) -> dict[Id, int]:
    """The index of each picture, by the id that its file gives it and by its number."""
    numbers = annotations.image_ids.tolist()
    spelled = [
        extra.get("spelled_id", number)
        for number, extra in zip(numbers, annotations.image_extras, strict=True)
    ]
    return {name: index for names in (spelled, numbers) for index, name in enumerate(names)}


def write_coco(
    path: str | Path, annotations: Annotations, images_dir: str | Path | None = None
) -> None:
    """Writes a COCO-keypoints file atomically; `read_coco` gives the same back (4 decimals).

    Args:
        path: the JSON file.
        annotations: what to write.
        images_dir: folder the `file_name`s become relative to; by default the deepest folder that
            holds all pictures.
    """
    write_json(path, coco_content(annotations, images_dir))


def coco_content(annotations: Annotations, images_dir: str | Path | None = None) -> dict[str, Any]:
    """What a COCO-keypoints file of these people holds, see `write_coco`; repairs included."""
    folders = {os.path.dirname(name) for name in annotations.image_paths} or {""}
    common = os.path.commonpath(folders) if len(folders) > 1 else next(iter(folders))
    root = (common if images_dir is None else str(images_dir)) or "."
    columns = (
        annotations.image_ids.tolist(),
        annotations.image_paths,
        annotations.image_sizes_wh.tolist(),
        annotations.image_extras,
    )
    images = []
    for number, name, (width, height), extra in zip(*columns, strict=True):
        size = {"width": width, "height": height} if width and height else {}
        name = os.path.relpath(name, root) if name else ""
        images.append({"id": number, "file_name": name, **size, **extra})
    return {
        "info": {"description": "written by simplepose", "clip_boxes": annotations.clip_boxes},
        "images": images,
        "annotations": person_rows(annotations),
        "categories": [category_of(annotations.schema, annotations.category_id)],
    }


def person_rows(annotations: Annotations) -> list[dict[str, Any]]:
    """The people as rows of a COCO file, all of `category_id`; numbers to 4 decimals, or the fewest
    that give the same float32 back, so that what was read is written as it stood."""

    def exact(column: np.ndarray) -> np.ndarray:
        found = column.astype(np.float64).round(4)
        for decimals in (3, 2, 1, 0):
            shorter = found.round(decimals)
            found = np.where(shorter.astype(np.float32) == column, shorter, found)
        return found

    visibility = annotations.visibility
    unscored = False if annotations.unscored is None else annotations.unscored
    triples = np.concatenate([exact(annotations.keypoints), visibility[..., None]], axis=2)
    flat = triples.reshape(len(annotations), 3 * len(annotations.schema)).tolist()
    for row, flags in zip(flat, visibility.tolist(), strict=True):
        row[2::3] = flags
    columns = {
        "id": annotations.annotation_ids,
        "image_id": annotations.image_ids[annotations.image_index],
        "category_id": np.full(len(annotations), annotations.category_id),
        "bbox": exact(annotations.bbox_xywh),
        "num_keypoints": np.where(unscored, 0, annotations.keypoint_counts),
        "area": exact(annotations.area),
        "iscrowd": annotations.is_crowd.astype(int),
    }
    if annotations.track_ids is not None:
        columns["track_id"] = annotations.track_ids
    if annotations.head_boxes_xyxy is not None:
        columns["head_box_xyxy"] = exact(annotations.head_boxes_xyxy)
    return rows_of(**columns, keypoints=flat)


def rows_of(**columns: np.ndarray | list[Any]) -> list[dict[str, Any]]:
    """Columns of one length as a dictionary of plain values for each row."""
    lists = [one if isinstance(one, list) else one.tolist() for one in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
