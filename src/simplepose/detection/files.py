"""Boxes from a file: COCO detections or annotations, looked up by picture."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.images import PICTURE_ENDINGS
from simplepose.core.orientation import SWAPS, turn_boxes
from simplepose.core.structures import Frame, People
from simplepose.data.categories import plain_name
from simplepose.data.coco_columns import loads, number_column

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFile:
    """Boxes read from a file, looked up by picture."""

    path: str
    by_id: dict[int, People] = field(repr=False)
    """People of each image id."""
    listed: dict[str, list[tuple[PurePath, int]]] = field(default_factory=dict, repr=False)
    """File name without folders -> the pictures listed under that name, each with its whole `file_name` and its image id."""
    sizes_wh: dict[int, tuple[float, float]] = field(default_factory=dict, repr=False)
    """Image id -> width and height that the file tells; 0 where it does not."""
    notes: tuple[tuple[int, str], ...] = ()
    """How many boxes of the file are left out, and why."""

    def people(self, frame: Frame) -> People:
        """By path where the file lists pictures, else by the number in a picture's name (COCO's rule), else by the frame's index.

        A picture that the file does not mention has nobody. Boxes belong to the raster as stored and turn with the frame's picture, unless the
        file tells the size of the upright one.
        """
        path = Path(frame.source)
        image_id = self.image_id(path) if path.suffix.lower() in PICTURE_ENDINGS else None
        image_id = frame.index if image_id is None else image_id
        found = self.by_id.get(image_id, People.empty())
        height, width = frame.image.shape[:2]
        told_upright = frame.orientation in SWAPS and width != height and self.sizes_wh.get(image_id) == (width, height)
        if frame.orientation == 1 or told_upright:
            return found
        return replace(found, boxes_xyxy=turn_boxes(found.boxes_xyxy, frame.orientation, (width, height)))

    def left_out(self, image_ids: Collection[int] | None = None) -> str:
        """One sentence on the boxes that nobody gets, those of other pictures than `image_ids` included; empty where all are used."""
        elsewhere = sum(len(people) for image_id, people in self.by_id.items() if image_ids is not None and image_id not in image_ids)
        notes = [*self.notes, *([(elsewhere, "are of other pictures")] if elsewhere else [])]
        return f"{self.path}: boxes left out: {', '.join(f'{count:,} {why}' for count, why in notes)}" if notes else ""

    def image_ids(self, paths: Sequence[Path]) -> list[int]:
        """The ids under which `people` looks up pictures in this order."""
        ids = [self.image_id(path) for path in paths]
        return [place if image_id is None else image_id for place, image_id in enumerate(ids)]

    def image_id(self, path: Path) -> int | None:
        """The id of a picture: by its path where pictures are listed (-1 if it is not among them), else the number in its name, else None.

        Of the pictures listed under its name, the one that shares most folders counted from the end; of those, one that fits wholly.

        Raises:
            UserError: two listed pictures fit equally well.
        """
        if not self.listed:
            digits = re.findall(r"\d+", path.stem)
            return int(digits[-1]) if digits else None
        entries = self.listed.get(path.name, [])
        picture = Path(os.path.abspath(path))  # the folder it is called from counts too
        best = max((_fit(picture, name) for name, _ in entries), default=None)
        found = {image_id: name for name, image_id in entries if _fit(picture, name) == best}
        if len(found) > 1:
            (a, first), (b, second) = list(found.items())[:2]
            raise UserError(
                f"{self.path}: the picture {path} may be {str(first)!r} (image id {a}) or {str(second)!r} (image id {b}). "
                "Cure: keep the pictures in folders named as in the file"
            )
        return next(iter(found), -1)


def read_boxes(
    path: str | Path, *, annotations: str | Path | None = None, score_threshold: float = 0.0, keypoints: Sequence[str] = ()
) -> BoxFile:
    """Boxes of a COCO detection file (a list of boxes with scores) or of an annotation file (ground truth, score 1).

    Boxes of other categories, crowds, and boxes without a positive width and height are left out and counted.

    Args:
        path: the JSON file.
        annotations: a COCO file whose `images` and `categories` name those of a detection file.
        score_threshold: detections must be above it; every score counts at 0.
        keypoints: names of the network's keypoints, which choose among categories with different ones.

    Raises:
        UserError: neither kind of file, a row that cannot be read, or no box of people.
    """
    source, content = str(path), loads(path)
    annotated = isinstance(content, dict)
    rows = content.get("annotations") if annotated else content
    if not isinstance(rows, list):
        raise UserError(f"{source} is neither a detection nor an annotation file. Cure: give COCO JSON whose rows have image_id and bbox")
    listing_source = source if annotated else str(annotations)
    listing = content if annotated else loads(annotations) if annotations else {}
    if not isinstance(listing, dict):
        raise UserError(f"{listing_source} is not a COCO annotation file (no `images` list). Cure: give the file that lists the pictures")
    rows = _objects(rows, source)
    images = _objects(listing.get("images") or [], f"{listing_source}, images")
    categories = _objects(listing.get("categories") or [], f"{listing_source}, categories")
    listed: dict[str, list[tuple[PurePath, int]]] = {}
    sizes_wh: dict[int, tuple[float, float]] = {}
    widths, heights = (number_column(images, name, 0).tolist() for name in ("width", "height"))
    for index, image in enumerate(images):
        if image.get("file_name"):
            name = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
            image_id = _read(image, "id", _whole, f"{listing_source}, images", index, "give each picture a whole number")
            listed.setdefault(name.name, []).append((name, image_id))
            sizes_wh[image_id] = (widths[index], heights[index])
    kept = _are_people(rows, categories, annotated, source, keypoints)
    by_id, notes = _people(rows, kept, score_threshold, source)
    others = kept.count(False)
    if others:
        theirs = {row["category_id"] for row, mine in zip(rows, kept, strict=True) if mine and row.get("category_id") is not None}
        names = [str(category.get("name", category["id"])) for category in categories if category.get("id") in theirs]
        notes.insert(0, (others, f"of other categories than {' and '.join(names or map(str, sorted(theirs, key=str)))}"))
    return BoxFile(path=source, by_id=by_id, listed=listed, sizes_wh=sizes_wh, notes=tuple(notes))


def _people(
    rows: list[dict[str, Any]], kept: list[bool], score_threshold: float, source: str
) -> tuple[dict[int, People], list[tuple[int, str]]]:
    """Image id -> the people among its rows; and how many rows are left out for which reason."""
    is_crowd = number_column(rows, "iscrowd", 0) > 0
    found: dict[int, list[tuple[list[float], float]]] = {}
    crowds, low, empty = "are crowds", f"have no score above the threshold {score_threshold:g}", "have no positive width and height"
    reasons: Counter[str] = Counter()
    for index, row in enumerate(rows):
        if not kept[index] or is_crowd[index]:
            reasons[crowds] += kept[index]
            continue
        image_id = _read(row, "image_id", _whole, source, index, "give the whole number of its picture")
        box = _read(row, "bbox", _box, source, index, "give x, y, width, height as finite numbers, or remove that row")
        score = _read(row, "score", _number, source, index, "give a finite number; without any, it is 1", missing=1.0)
        if score > score_threshold and box[2] > 0 and box[3] > 0:
            found.setdefault(image_id, []).append((box, score))
        else:
            reasons[empty if score > score_threshold else low] += 1
    people = {
        image_id: People(xywh_to_xyxy(np.array([box for box, _ in entries])), np.array([score for _, score in entries]))
        for image_id, entries in found.items()
    }
    return people, [(reasons[reason], reason) for reason in (crowds, low, empty) if reasons[reason]]


def _are_people(
    rows: list[dict[str, Any]], categories: list[dict[str, Any]], annotated: bool, source: str, keypoints: Sequence[str]
) -> list[bool]:
    """Whether each row is of the category of people: the one with keypoints, or named person, else 1, else the only one there is.

    Of several with different keypoints it is the one with those of the network, by their names, else by their number. A row without a
    category is one of people. An annotation file that says which category has the people is taken at its word.

    Raises:
        UserError: no row is one of people; names the categories found.
    """
    cure = "give the whole number of its category, or leave it out"
    theirs = [
        None if row.get("category_id") is None else _read(row, "category_id", _whole, source, index, cure) for index, row in enumerate(rows)
    ]
    present = {category for category in theirs if category is not None}
    ids = number_column(categories, "id", -1).astype(int).tolist()
    skeletons = [[plain_name(name) for name in category.get("keypoints") or ()] for category in categories]
    with_keypoints = {category_id for category_id, skeleton in zip(ids, skeletons, strict=True) if skeleton}
    if len({tuple(skeleton) for skeleton in skeletons if skeleton}) > 1:
        wanted_names = [plain_name(name) for name in keypoints]
        by_name, by_count = (
            {category_id for category_id, skeleton in zip(ids, skeletons, strict=True) if skeleton and fits(skeleton)}
            for fits in (wanted_names.__eq__, lambda skeleton: len(skeleton) == len(wanted_names))
        )
        with_keypoints = by_name or by_count
    named = {category_id for category_id, category in zip(ids, categories, strict=True) if plain_name(category.get("name", "")) == "person"}
    choices = [with_keypoints, named]
    if not (annotated and any(choices)):
        choices += [{1}, present if len(present) == 1 else set()]
    chosen = next((choice for choice in choices if choice & present), set())
    if present and not chosen and None not in theirs:
        wanted = sorted(set.union(*choices[:2]) or {1})
        raise UserError(
            f"{source}: none of its {len(rows)} boxes has the category of people, {wanted}; found {sorted(present)[:10]}. "
            "Cure: correct category_id, or name one category 'person' in `categories`"
        )
    return [category is None or category in chosen for category in theirs]


def _fit(picture: PurePath, name: PurePath) -> tuple[int, bool]:
    """How many parts two paths share, counted from the end, and whether these are the whole name."""
    shared = 0
    for ours, theirs in zip(reversed(picture.parts), reversed(name.parts), strict=False):
        if ours != theirs:
            break
        shared += 1
    return shared, shared == len(name.parts)


def _objects(rows: Any, where: str) -> list[dict[str, Any]]:
    """A list of JSON objects."""
    if not isinstance(rows, list):
        raise UserError(f"{where}: {str(rows)[:40]!r} is no list. Cure: export as COCO JSON")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{where}: row {index} is {str(row)[:40]!r}, no JSON object. Cure: export as COCO JSON")
    return rows


def _read(row: dict[str, Any], name: str, kind: Callable[[Any], T], where: str, index: int, cure: str, missing: Any = None) -> T:
    """One value of a row, converted by `kind`; `missing` stands for a value that is not there."""
    try:
        return kind(row.get(name, missing))
    except (TypeError, ValueError, OverflowError):
        problem = f"the {name} {row[name]!r}" if name in row else f"no {name}"
        raise UserError(f"{where}: row {index} has {problem}. Cure: {cure}") from None


def _whole(value: Any) -> int:
    """7, 7.0 and "7" are 7."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    """A finite number, also written as text."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _box(value: Any) -> list[float]:
    """x, y, width, height."""
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError
    return [_number(side) for side in value]
