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
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import decode_json, encode_json, read_bytes, write_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.categories import (
    Category,
    Id,
    category_of,
    chosen_categories,
    people_rows,
    plain_name,
    schema_from_category,
    schema_from_count,
)

AREA_FRACTION = 0.53
"""The part of a person's box that stands for its area where nobody drew one (CrowdPose's)."""
BEYOND = 1e9
"""No box in pixels has a number as large; the area of one that has does not fit float32."""


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
    head_box_xyxy: list[float | None] | None = None
    bbox_head: list[float] | None = None
    scores: list[float | None] | None = None

    @property
    def is_crowd(self) -> bool:
        """Whether it is a group drawn as one."""
        return (self.iscrowd or 0) > 0

    @property
    def flat_keypoints(self) -> list[Any]:
        """x, y, v, x, y, v, ... also where the file nests them; empty where there are none."""
        values = self.keypoints
        if not values or type(values[0]) is not list:
            return values or []
        lists = [one if isinstance(one, list) else [one] for one in values]
        return list(chain.from_iterable(lists))


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


def load(source: Any, name: str = "") -> File | list[Row]:
    """Reads a file of rows or an annotation file; the one place where such JSON is parsed.

    Byte order marks, NaN and Infinity, which some tools write, are read too.

    Args:
        source: a path, or the content as Python objects (numpy's too).
        name: what messages call it; the path where it is empty.

    Raises:
        UserError: missing, empty, not JSON, or a value of another type than declared above.
    """
    name = name or str(source)
    given = isinstance(source, (str, Path))
    content = read_bytes(source) if given else encode_json(source)
    try:
        return decode_json(content, name, File | list[Row])
    except msgspec.ValidationError as error:
        raise _misfit(decode_json(content, name), str(error), name) from error


def load_file(source: Any, name: str = "") -> File:
    """`load` of an annotation file.

    Raises:
        UserError: also for a list of rows.
    """
    file = load(source, name)
    if isinstance(file, list) or file.images is None:
        raise UserError(
            f"{name or source} is not a COCO annotation file (no `images` list). Cure: export as COCO keypoints"
        )
    return file


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
    limit, types = 2**63, set(map(type, values))
    if types <= {type(None)} or (types == {int} and -limit <= min(values) <= max(values) < limit):
        return list(values)
    ids: list[Id | None] = []
    for index, value in enumerate(values):
        found = value
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            found = int(value)
        elif isinstance(value, str):
            found = int(value) if re.fullmatch(r"\s*[+-]?[0-9]{1,400}\s*", value) else value
        elif value is not None and type(value) is not int:
            raise UserError(
                f"{label(index)} has the {field} {value!r}, neither a whole number nor a word. Cure: correct it"
            )
        ids.append(str(found) if isinstance(found, int) and not -limit <= found < limit else found)
    return ids


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


@_no_garbage_collection()
def read_coco(
    annotations_path: Any,
    images_dir: str | Path | None,
    schema: KeypointSchema | None = None,
    *,
    category: int | str | None = None,
    sigmas: Sequence[float] | None = None,
    allow_empty: bool = False,
    box_areas: bool = False,
) -> Annotations:
    """Reads a COCO-keypoints file.

    Args:
        annotations_path: the JSON file, or its content as Python objects.
        images_dir: folder the `file_name`s are relative to; None where no picture is opened.
        schema: expected keypoints; by default they come from the file's `categories`.
        category: id or name, where several categories have different keypoints.
        sigmas: K OKS constants that replace those of the schema.
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
    rows, own = _people(file, kept, category is not None, source, warnings)
    if not rows and not allow_empty:
        raise UserError(
            f"{source} holds no annotation with keypoints ({len(file.images or ())} pictures). Cure: check that the right file was exported"
        )
    schema = _schema(kept, rows, schema, sigmas, source, warnings)
    people = File(file.images, rows, file.categories, file.info)
    found = annotations_of(people, source, images_dir, schema, people=own, box_areas=box_areas)
    return replace(found, warnings=(*warnings, *found.warnings))


def _people(
    file: File, kept: Sequence[Category], chosen: bool, source: str, warnings: list[str]
) -> tuple[list[Row], list[Id]]:
    """The rows of people, and their categories."""
    own = _listed_ids(kept, source)
    _, named = category_choices(file.listed, source)
    people, taken = annotated_people(file, [own] if kept else [named], source, warnings)
    # a row without category may be of any of several
    if chosen and len(file.listed) > 1:
        people &= np.array([row.category_id is not None for row in file.rows], bool)
    rows = [row for row, mine in zip(file.rows, people, strict=True) if mine]
    if own and {*taken} <= {*own}:
        return rows, own
    only = _listed_ids(file.listed, source) if len(file.listed) == 1 else []
    return rows, taken or named or only or [1]


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
    warnings: list[str] = []
    images = file.images or []
    spelled = exact_ids([image.id for image in images], lambda n: f"{source}: picture {n}", "id")
    image_ids = _numbers(spelled, f"{source}, images", warnings)
    rows, image_index = _on_pictures(file.rows, spelled, source, warnings)

    def label(index: int) -> str:
        name = rows[index].id
        return f"{source}: annotation {index if name is None else name}"

    ids = exact_ids([row.id for row in rows], label, "id")
    keypoints, visibility = _keypoints(rows, len(schema), label, source, warnings)
    bbox = _boxes(rows, label, made=True).astype(np.float32)
    if absent := sum(not row.bbox for row in rows):
        warnings.append(
            f"{source}: {absent} people have no bbox; the tight box of their labelled keypoints is used"
        )
    info = file.info if isinstance(file.info, dict) else {}
    unscored = np.array([row.num_keypoints == 0 for row in rows], bool)
    unscored &= (visibility > 0).any(1)
    sizes = [(image.width or 0, image.height or 0) for image in images]
    return Annotations(
        schema=schema,
        source=source,
        image_ids=image_ids,
        image_paths=_paths(images, images_dir, source, warnings),
        image_sizes_wh=np.nan_to_num(np.array(sizes, np.float64)),
        annotation_ids=_numbers(ids, f"{source}, annotations", warnings, may_lack=True),
        image_index=image_index,
        bbox_xywh=bbox,
        keypoints=keypoints,
        visibility=visibility,
        area=_areas(rows, bbox, box_areas, source, warnings),
        is_crowd=np.array([row.is_crowd for row in rows], bool),
        track_ids=_track_ids(rows, label),
        warnings=tuple(warnings),
        head_boxes_xyxy=_head_boxes(rows, label),
        unscored=unscored if unscored.any() else None,
        image_extras=_extras(images, spelled, image_ids.tolist()),
        clip_boxes=bool(info.get("clip_boxes", True)),
        **_categories(file, rows, people, source),
    )


def _categories(
    file: File, rows: Sequence[Row], people: Sequence[Id], source: str
) -> dict[str, Any]:
    """The columns of `Annotations` on categories, those whose ids are words numbered from 1."""
    names = list(dict.fromkeys([*_listed_ids(file.listed, source), *people]))
    words = any(isinstance(name, str) for name in names)
    numbers: dict[Any, int] = {
        name: place if words else int(name) for place, name in enumerate(names, 1)
    }
    own, *more = (numbers[name] for name in people)
    theirs = [numbers.get(name, own) for name in category_ids(rows, source)]
    return {
        "category_id": own,
        "more_categories": tuple(more),
        "person_categories": np.array(theirs) if len({*theirs}) > 1 else None,
        "category_numbers": numbers,
    }


def _track_ids(rows: Sequence[Row], label: Callable[[int], str]) -> np.ndarray | None:
    """(N,) int64, -1 where one is missing; None where nobody has one."""
    tracks = exact_ids([row.track_id for row in rows], label, "track_id")
    if tracks.count(None) == len(tracks):
        return None
    word = next((index for index, track in enumerate(tracks) if isinstance(track, str)), None)
    if word is not None:
        raise UserError(
            f"{label(word)} has the track_id {tracks[word]!r}, not a whole number. Cure: number the tracks 0, 1, 2 ..."
        )
    return np.array([-1 if track is None else track for track in tracks], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
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
    used = np.flatnonzero(people & ~crowd)
    mine = [rows[index] for index in used.tolist()]

    def label(index: int) -> str:
        return f"{source}: row {used[index]}"

    ids = exact_ids([row.image_id for row in mine], label, "image_id")
    if None in ids:
        raise UserError(f"{label(ids.index(None))} has no image_id. Cure: name its picture")
    boxes = _boxes(mine, label, made=annotated)
    scores, lacking = _scores(mine, label, annotated)
    empty, low = ~(boxes[:, 2:] > 0).all(1), ~(scores > score_threshold)
    reasons = (
        (int((people & crowd).sum()), "are crowds"),
        (int(low.sum()), f"have no score above {score_threshold:g}"),
        (int((empty & ~low).sum()), "have no positive width and height"),
    )
    kept = np.flatnonzero(~empty & ~low)
    return PeopleBoxes(
        image_ids=[ids[index] for index in kept],  # type: ignore[misc]
        boxes_xyxy=xywh_to_xyxy(boxes[kept]),
        scores=scores[kept],
        left_out=[(count, reason) for count, reason in reasons if count],
        without_score=lacking,
    )


def _scores(
    rows: Sequence[Row], label: Callable[[int], str], annotated: bool
) -> tuple[np.ndarray, int]:
    """(N,) float64, and how many rows of a list have none and count with 1."""
    lacking = np.array([row.score is None for row in rows], bool)
    scores = np.array([1.0 if row.score is None else row.score for row in rows], np.float64)
    partly = lacking & (not annotated and not lacking.all())
    for bad in (~np.isfinite(scores), partly):
        if bad.any():
            index = int(np.argmax(bad))
            raise UserError(
                f"{label(index)} has the score {rows[index].score}. Cure: give a finite number; where no row has one, each is 1"
            )
    return scores, 0 if annotated else int(lacking.sum())


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
            f"{source} holds no detection. Cure: check that the detector ran, or use the ground-truth boxes"
        )
    own = (annotations.category_id, *annotations.more_categories)
    names = category_ids(rows, source)
    numbers: dict[Any, int] = {**annotations.category_numbers}
    theirs = [numbers.get(name, name) for name in names]
    people, taken = people_rows(theirs, [own], source)
    boxes = people_boxes(rows, people, source)
    notes = [(count, f"{reason} and are left out") for count, reason in boxes.left_out]
    if others := int((~people).sum()):
        notes.insert(0, (others, "are of other categories and are left out"))
    if taken and not set(taken) & set(own):
        sentence = f"of category {taken[0]} are used: none has the annotations' category {own[0]}"
        notes.insert(0, (int(people.sum()), sentence))
    if boxes.without_score:
        notes.append((boxes.without_score, "have no score and count with 1"))
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
    if not known.all():
        sentence = f"are on pictures that {annotations.source} does not have and are left out"
        notes.append((int((~known).sum()), sentence))
    return Detections(
        image_index=index[known],
        boxes_xyxy=boxes.boxes_xyxy[known],
        scores=boxes.scores[known],
        source=source,
        notes=tuple(notes),
    )


def picture_index(annotations: Annotations) -> dict[Id, int]:
    """The index of each picture, by the id that its file gives it and by its number."""
    numbers = annotations.image_ids.tolist()
    extras = annotations.image_extras or ({},) * len(numbers)
    places = {
        extra.get("spelled_id", n): i
        for i, (n, extra) in enumerate(zip(numbers, extras, strict=True))
    }
    return places | {number: index for index, number in enumerate(numbers)}


def category_choices(
    listed: Sequence[Category], source: str, keypoints: Sequence[str] = ()
) -> list[list[Id]]:
    """The categories that may be the people of a file, the best first.

    First those with keypoints (of several different ones those of the network, by their names,
    else by their number), then those named person.
    """
    ids = exact_ids([one.id for one in listed], lambda n: f"{source}: category {n}", "id")
    network = tuple(map(plain_name, keypoints))
    skeletons = [one.plain_names for one in listed]
    if len(set(skeletons) - {()}) > 1:
        fits = [names == network for names in skeletons]
        fits = fits if any(fits) else [0 < len(names) == len(network) for names in skeletons]
    else:
        fits = [bool(names) for names in skeletons]
    named = [plain_name(str(one.name)) == "person" for one in listed]
    return [
        [name for name, yes in zip(ids, flags, strict=True) if yes and name is not None]
        for flags in (fits, named)
    ]


def annotated_people(
    file: File, choices: Sequence[Sequence[Id]], source: str, warnings: list[str]
) -> tuple[np.ndarray, list[Id]]:
    """`people_rows` of an annotation file, which is taken at its word.

    Where all listed categories share their keypoints and everybody has as many, the rows of
    categories that are not listed are people too.
    """
    rows, listed = file.rows, file.listed
    found = category_ids(rows, source)
    known = _listed_ids(listed, source)
    present, skeletons = set(found) - {None}, {one.plain_names for one in listed}
    if present and not present & set(known) and len(skeletons) == 1 and skeletons != {()}:
        length = 3 * len(next(iter(skeletons)))
        if all(len(row.flat_keypoints) == length for row in rows):
            names = ", ".join(sorted(map(str, present))[:5])
            warnings.append(
                f"{source}: `category_id` ({names}) is not in `categories`, which all have the "
                "same keypoints; these annotations are read as theirs"
            )
            choices = [[name for name in present if name is not None]]
    people, taken = people_rows(found, choices, source, told=True)
    lost = [
        name for name, mine in zip(found, people, strict=True) if not mine and name not in known
    ]
    if lost:
        names = ", ".join(list(dict.fromkeys(map(str, lost)))[:5])
        warnings.append(
            f"{source}: {len(lost)} of {len(rows)} annotations are left out: their `category_id` ({names}) is not in `categories`"
        )
    return people, taken


def category_ids(rows: Sequence[Row], source: str) -> list[Id | None]:
    """The category of each row, None where it has none."""
    names = [row.category_id for row in rows]
    return exact_ids(names, lambda n: f"{source}: row {n}", "category_id")


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
    numbers, sizes = annotations.image_ids.tolist(), annotations.image_sizes_wh.tolist()
    images = [
        {"id": number, "file_name": os.path.relpath(name, root) if name else ""}
        | ({"width": width, "height": height} if width and height else {})
        | extra
        for number, name, (width, height), extra in zip(
            numbers,
            annotations.image_paths,
            sizes,
            annotations.image_extras or ({},) * len(numbers),
            strict=True,
        )
    ]
    return {
        "info": {"description": "written by simplepose", "clip_boxes": annotations.clip_boxes},
        "images": images,
        "annotations": person_rows(annotations),
        "categories": [category_of(annotations.schema, annotations.category_id)],
    }


def person_rows(annotations: Annotations) -> list[dict[str, Any]]:
    """The people as rows of a COCO file, all of `category_id`, numbers to 4 decimals."""
    exact = {
        name: getattr(annotations, name).astype(np.float64).round(4)
        for name in ("keypoints", "bbox_xywh", "area")
    }
    triples = np.concatenate([exact["keypoints"], annotations.visibility[..., None]], axis=2)
    flat = triples.reshape(len(annotations), 3 * len(annotations.schema)).tolist()
    for row, flags in zip(flat, annotations.visibility.tolist(), strict=True):
        row[2::3] = flags
    counts = annotations.keypoint_counts
    counts = counts if annotations.unscored is None else np.where(annotations.unscored, 0, counts)
    columns: dict[str, list[Any]] = {
        "id": annotations.annotation_ids.tolist(),
        "image_id": annotations.image_ids[annotations.image_index].tolist(),
        "category_id": [annotations.category_id] * len(annotations),
        "bbox": exact["bbox_xywh"].tolist(),
        "keypoints": flat,
        "num_keypoints": counts.tolist(),
        "area": exact["area"].tolist(),
        "iscrowd": annotations.is_crowd.astype(int).tolist(),
    }
    if annotations.track_ids is not None:
        columns["track_id"] = annotations.track_ids.tolist()
    if annotations.head_boxes_xyxy is not None:
        heads = annotations.head_boxes_xyxy.astype(np.float64).round(4)
        columns["head_box_xyxy"] = heads.tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _misfit(content: Any, problem: str, name: str) -> UserError:
    """What msgspec found at `$.annotations[3].bbox[1]`, said of the file, the row and the field."""
    reason, _, place = problem.partition(" - at `$")
    steps = [int(i) if i else word for word, i in re.findall(r"\.(\w+)|\[(\d+)\]", place)]
    part = steps.pop(0) if steps and isinstance(steps[0], str) else ""
    value = content[part] if part else content
    reason = reason.replace("`", "").replace("array", "list").replace(" | ", " or ")
    if not steps:
        where = f"`{part}` is {str(value)[:60]!r}" if part else "it is no COCO file"
        return UserError(f"{name}: {where}: {reason}. Cure: export as COCO JSON")
    row = value[steps[0]]
    kinds = {"annotations": "annotation", "images": "picture", "categories": "category"}
    kind = kinds.get(str(part), "row")
    if len(steps) == 1 or not isinstance(row, dict):
        entry = f"entry {steps[0]} of `{part}`" if part else f"row {steps[0]}"
        return UserError(
            f"{name}: {entry} is {str(row)[:60]!r}, no JSON object. Cure: correct or remove it"
        )
    number = row.get("id", steps[0]) if part else steps[0]
    shown = repr(row.get(steps[1]))
    shown = f"{shown[:80]} ..." if len(shown) > 80 else shown
    return UserError(
        f"{name}: {kind} {number} has the {steps[1]} {shown}: {reason}. Cure: correct or remove it"
    )


def _listed_ids(listed: Sequence[Category], source: str) -> list[Id]:
    """The ids of categories; one that has none is nobody's."""
    ids = exact_ids([one.id for one in listed], lambda n: f"{source}: category {n}", "id")
    return [name for name in ids if name is not None]


def _schema(
    kept: Sequence[Category],
    rows: Sequence[Row],
    schema: KeypointSchema | None,
    sigmas: Sequence[float] | None,
    source: str,
    warnings: list[str],
) -> KeypointSchema:
    """The schema of the file, checked against the one expected."""
    names = kept[0].names if kept else []
    if schema is not None and names and len(names) != len(schema):
        raise UserError(
            f"{source} has {len(names)} keypoints, the schema {schema.name!r} has {len(schema)}. Cure: choose the schema of the file"
        )
    if names:
        given = sigmas if sigmas is not None or schema is None else schema.sigmas
        found, assumed = schema_from_category(kept[0], given, source)
        if schema is None:
            warnings.extend(assumed)
            return found
        if found.keypoints != schema.keypoints and {*found.keypoints} == {*schema.keypoints}:
            raise UserError(
                f"{source} lists the keypoints of {schema.name!r} in another order. Cure: read it without a schema and map it"
            )
    if schema is None:
        count = next((len(row.flat_keypoints) // 3 for row in rows if row.keypoints), 0)
        count = count or len(sigmas or ())
        if not count:
            raise UserError(
                f"{source} has no keypoints, neither names in `categories` nor values. Cure: export as COCO keypoints"
            )
        schema, warning = schema_from_count(count, source)
        warnings.append(warning)
    if sigmas is not None and len(sigmas) != len(schema):
        raise UserError(
            f"{source}: {len(sigmas)} sigmas for {len(schema)} keypoints. Cure: give one OKS sigma for each keypoint"
        )
    return schema if sigmas is None else replace(schema, sigmas=tuple(map(float, sigmas)))


def _numbers(
    ids: list[Id | None], what: str, warnings: list[str], *, may_lack: bool = False
) -> np.ndarray:
    """(N,) int64: the ids, or numbers from 1 where one is a word, or all are missing."""
    absent = ids.count(None)
    if absent and not (may_lack and absent == len(ids)):
        raise UserError(
            f"{what}: {absent} of {len(ids)} entries have no id, the first is entry {ids.index(None)}. Cure: give each one a unique number"
        )
    if absent:
        warnings.append(f"{what}: no entry has an id; they are numbered 1 to {len(ids)}")
        return np.arange(1, len(ids) + 1)
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise UserError(
            f"{what}: the id {twice[:5]} stands more than once ({len(twice)} such ids). Cure: make the ids unique"
        )
    word = next((name for name in ids if isinstance(name, str)), None)
    if word is None:
        return np.array(ids, np.int64)
    warnings.append(f"{what}: ids are words such as {word!r}; they are numbered 1 to {len(ids)}")
    return np.arange(1, len(ids) + 1)


def _on_pictures(
    rows: Sequence[Row], pictures: list[Id | None], source: str, warnings: list[str]
) -> tuple[list[Row], np.ndarray]:
    """The rows whose picture is listed, and its index; the others are counted."""
    places = {name: index for index, name in enumerate(pictures)}
    names = exact_ids([row.image_id for row in rows], lambda n: f"{source}: row {n}", "image_id")
    index = np.array([places.get(name, -1) for name in names], np.int64)
    if lost := [name for name, place in zip(names, index.tolist(), strict=True) if place < 0]:
        sentence = f"name a picture that is not in `images`, first {lost[:3]}"
        if len(lost) == len(rows):
            raise UserError(f"{source}: all {len(lost)} annotations {sentence}. Cure: export again")
        warnings.append(
            f"{source}: {len(lost)} of {len(rows)} annotations are left out: they {sentence}"
        )
        rows = [row for row, place in zip(rows, index.tolist(), strict=True) if place >= 0]
    return list(rows), index[index >= 0]


def _keypoints(
    rows: Sequence[Row], count: int, label: Callable[[int], str], source: str, warnings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) float32 coordinates and (N, K) uint8 visibility in {0, 1, 2}.

    A person without keypoints has none labelled; a visibility that is a confidence counts as 2
    where it is above 0.
    """
    empty = [0.0] * (3 * count)
    lists = [row.flat_keypoints or empty for row in rows]
    for index, values in enumerate(lists):
        if len(values) != 3 * count:
            have = f"{len(values) // 3} keypoints ({len(values)} values)"
            have = have if len(values) % 3 == 0 else f"{len(values)} values (not x, y, v triples)"
            raise UserError(
                f"{label(index)} has {have} in its keypoints, the schema has {count} keypoints "
                f"({3 * count} values). Cure: choose the schema of the file, or correct it"
            )
    with np.errstate(over="ignore"):
        try:
            triples = np.fromiter(chain.from_iterable(lists), np.float32, 3 * count * len(lists))
        except TypeError:  # null is NaN, which only the slower way knows
            triples = np.array(lists, np.float32)
    triples = triples.reshape(len(lists), count, 3)
    raw = np.nan_to_num(triples[..., 2], nan=0.0)
    visibility = np.where(
        (raw == 0) | (raw == 1) | (raw == 2), raw, np.where(raw > 0, 2, 0)
    ).astype(np.uint8)
    if strange := int((raw != visibility).sum()):
        warnings.append(
            f"{source}: {strange} visibility values are none of 0, 1, 2; those above 0 are read as 2 (visible), others as 0"
        )
    finite: np.ndarray = np.all(np.isfinite(triples[..., :2]), axis=2)
    wrong: np.ndarray = ~finite & (visibility > 0)
    if wrong.any():
        person, keypoint = np.argwhere(wrong)[0]
        raise UserError(
            f"{label(person)}: keypoint {keypoint} is labelled but not finite: "
            f"{triples[person, keypoint].tolist()} ({int(wrong.sum())} such keypoints). "
            "Cure: set its visibility to 0, or correct it"
        )
    return np.where(finite[..., None], triples[..., :2], np.float32(0)), visibility


def _boxes(rows: Sequence[Row], label: Callable[[int], str], *, made: bool) -> np.ndarray:
    """(N, 4) float64 xywh; where `made`, a missing box is the tight box of the keypoints."""
    boxes = [row.bbox or (_tight_box(row) if made else []) for row in rows]
    odd = next((index for index, box in enumerate(boxes) if len(box) != 4), None)
    if odd is not None:
        have = f"the bbox {rows[odd].bbox}, not" if rows[odd].bbox else "no bbox"
        raise UserError(f"{label(odd)} has {have} x, y, width, height. Cure: correct or remove it")
    array = np.array(boxes, np.float64).reshape(-1, 4)
    sane: np.ndarray = np.all(np.abs(array) < BEYOND, axis=1)
    if not sane.all():
        index = int(np.argmin(sane))
        what = "too large for any picture" if np.isfinite(array[index]).all() else "not finite"
        raise UserError(
            f"{label(index)} has the bbox {boxes[index]}, which is {what}. Cure: correct or remove it"
        )
    return array


def _tight_box(row: Row) -> list[float]:
    """The extent of the labelled keypoints; without any, a box without size."""
    values = row.flat_keypoints
    triples = np.array(values[: len(values) // 3 * 3], np.float32).reshape(-1, 3)
    points = triples[triples[:, 2] > 0, :2]
    if not len(points):
        return [0.0] * 4
    low = points.min(0)
    return [*low.tolist(), *(points.max(0) - low).tolist()]


def _areas(
    rows: Sequence[Row], bbox: np.ndarray, box_areas: bool, source: str, warnings: list[str]
) -> np.ndarray:
    """(N,) float32; that of the box where the file has none."""
    given = [row.area for row in rows]
    try:
        area = np.array(given, np.float32)
    except (TypeError, ValueError):
        area = np.array([_number(value) for value in given], np.float32)
    unknown = np.full(len(rows), True) if box_areas else ~np.isfinite(area)
    area[unknown] = AREA_FRACTION * bbox[unknown, 2].clip(min=0) * bbox[unknown, 3].clip(min=0)
    if unknown.any() and not box_areas:
        warnings.append(
            f"{source}: {unknown.sum()} people have no area; {AREA_FRACTION} x the area of the box is used (it scales the OKS)"
        )
    return area


def _number(value: Any) -> float:
    """A number, also written as text; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _head_boxes(rows: Sequence[Row], label: Callable[[int], str]) -> np.ndarray | None:
    """(N, 4) float32, NaN where one is missing."""
    heads = [row.head_box_xyxy or [np.nan] * 4 for row in rows]
    odd = next((index for index, head in enumerate(heads) if len(head) != 4), None)
    if odd is not None:
        raise UserError(f"{label(odd)} has the head_box_xyxy {heads[odd]}. Cure: give four numbers")
    return np.array(heads, np.float32) if any(row.head_box_xyxy for row in rows) else None


def _extras(
    images: Sequence[Image], names: Sequence[Id | None], numbers: Sequence[int]
) -> tuple[dict[str, Any], ...] | None:
    """What is said beside a picture; an id that became another number stays as `spelled_id`."""
    # dictionaries of what a picture has, nothing else
    extras: list[dict[str, Any]] = msgspec.to_builtins(list(images))
    for extra, name, number in zip(extras, names, numbers, strict=True):
        for field in ("id", "file_name", "width", "height"):
            extra.pop(field, None)
        if name != number:
            extra["spelled_id"] = name
    return tuple(extras) if any(extras) else None


def _paths(
    images: Sequence[Image], images_dir: str | Path | None, source: str, warnings: list[str]
) -> tuple[str, ...]:
    """Full paths; a name may repeat the folder's own, or carry folders of the tool it is from."""
    if images_dir is None:
        return tuple(image.file_name or "" for image in images)
    bad = next((image for image in images if not image.file_name), None)
    if bad is not None:
        raise UserError(
            f"{source}: picture {bad.id} has no file_name. Cure: add the name of the picture file"
        )
    names = [str(image.file_name).replace("\\", "/") for image in images]
    folder, base = Path(images_dir), str(Path(images_dir))
    if names and folder.is_dir() and not (folder / names[0]).exists():
        bare = [name.rsplit("/", 1)[-1] for name in names]
        if (folder.parent / names[0]).exists():
            base = str(folder.parent)
            warnings.append(
                f"{source}: file names include the folder {folder.name!r}; pictures are looked up in {base}"
            )
        elif bare != names and len({*bare}) == len(bare) and (folder / bare[0]).exists():
            names = bare
            warnings.append(
                f"{source}: the folders in file names are left out; pictures lie directly in {base}"
            )
    return tuple(name if name.startswith("/") else f"{base}/{name}" for name in names)
