"""Boxes from a file: COCO detections or annotations, looked up by picture."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath

from simplepose.core.errors import UserError
from simplepose.core.images import SWAPS, is_still, number_in, turn_boxes
from simplepose.core.structures import Frame, People
from simplepose.data.categories import Id, category_choices, people_rows
from simplepose.data.coco import (
    File,
    annotated_people,
    load,
    load_file,
    people_boxes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFile:
    """Boxes read from a file, looked up by picture."""

    path: str
    by_id: dict[Id, People] = field(repr=False)
    """People of each image id."""
    listed: dict[str, list[tuple[PurePath, Id]]] = field(default_factory=dict, repr=False)
    """File name without folders -> the pictures listed under that name, each with its whole
    `file_name` and its image id."""
    sizes_wh: dict[Id, tuple[float, float]] = field(default_factory=dict, repr=False)
    """Image id -> width and height that the file tells; 0 where it does not."""
    category_id: Id = 1
    """Of the people, as the file or the annotations beside it have it."""
    notes: tuple[tuple[int, str], ...] = ()
    """How many boxes of the file are left out, and why."""

    def people(self, frame: Frame) -> People:
        """By path where the file lists pictures, else by the number in a picture's name (COCO's
        rule), else by the frame's index.

        A picture that the file does not mention has nobody. Boxes belong to the raster as stored
        and turn with the frame's picture, unless the file tells the size of the upright one.
        """
        path = Path(frame.source)
        image_id = self.image_id(path) if is_still(path) else None
        image_id = frame.index if image_id is None else image_id
        found, size_wh = self.by_id.get(image_id, People.empty()), frame.image.shape[1::-1]
        swapped = frame.orientation in SWAPS and size_wh[0] != size_wh[1]
        if swapped and self.sizes_wh.get(image_id) == size_wh:
            return found
        return replace(found, boxes_xyxy=turn_boxes(found.boxes_xyxy, frame.orientation, size_wh))

    def left_out(self, image_ids: Collection[Id]) -> str:
        """One sentence on the boxes that nobody gets, those of other pictures than `image_ids`
        included; empty where all are used."""
        others = self.by_id.keys() - image_ids
        elsewhere = sum(len(self.by_id[image_id]) for image_id in others)
        notes = [*self.notes, (elsewhere, "are of other pictures")]
        told = ", ".join(f"{count:,} {why}" for count, why in notes if count)
        none = "" if len(others) < len(self.by_id) else "; none is used"
        return f"{self.path}: boxes left out: {told}{none}" if told else ""

    def image_ids(self, paths: Sequence[Path]) -> list[Id]:
        """The ids under which `people` looks up pictures in this order."""
        ids = [self.image_id(path) for path in paths]
        return [index if image_id is None else image_id for index, image_id in enumerate(ids)]

    def image_id(self, path: Path) -> Id | None:
        """The id of a picture: by its path where pictures are listed (-1 if it is not among them),
        else its name where ids are words, else the number in its name, else None.

        Of the pictures listed under its name, the one that shares most folders counted from the
        end; of those, one that fits wholly.

        Raises:
            UserError: two listed pictures fit equally well.
        """
        if not self.listed:
            if path.stem in self.by_id:
                return path.stem
            return number_in(path)
        entries = self.listed.get(path.name, [])
        picture = Path(os.path.abspath(path))  # the folder it is called from counts too
        best = max((_fit(picture, name) for name, _ in entries), default=None)
        found = {image_id: name for name, image_id in entries if _fit(picture, name) == best}
        if len(found) > 1:
            (a, first), (b, second) = list(found.items())[:2]
            raise UserError(
                f"{self.path}: the picture {path} may be {str(first)!r} "
                f"(image id {a}) or {str(second)!r} (image id {b}). "
                "Cure: keep the pictures in folders named as in the file"
            )
        return next(iter(found), -1)


def read_boxes(
    path: str | Path,
    *,
    annotations: str | Path | None = None,
    score_threshold: float = 0.0,
    keypoints: Sequence[str] = (),
) -> BoxFile:
    """Boxes of a COCO detection file (a list of boxes) or of an annotation file (score 1).

    Who counts as a person and which boxes are left out is `data.coco.people_boxes`'s to say.

    Args:
        path: the JSON file.
        annotations: a COCO file whose `images` and `categories` name those of a detection file.
        score_threshold: detections must be above it; every score counts at 0.
        keypoints: names of the network's keypoints, which choose among categories with different
            ones.

    Raises:
        UserError: neither kind of file, a row that cannot be read, or no box of people.
    """
    source, content = str(path), load(path)
    if isinstance(content, list):
        listing, naming = load_file(annotations) if annotations else File(), str(annotations)
        rows, annotated = content, False
        choices = category_choices(listing.listed, keypoints)
        people, taken = people_rows([row.category_id for row in rows], choices, source)
    elif content.annotations is None:
        raise UserError(
            f"{source} is neither a detection nor an annotation file. "
            "Cure: give COCO JSON whose rows have image_id and bbox"
        )
    else:
        listing, naming, rows, annotated = content, source, content.rows, True
        choices = category_choices(listing.listed, keypoints)
        people, taken = annotated_people(content, choices, source, [])
    found = people_boxes(rows, people, source, annotated=annotated, score_threshold=score_threshold)
    notes = found.left_out
    if others := int((~people).sum()):
        wanted = [str(name) for name in taken]
        names = [str(one.name or one.id) for one in listing.listed if str(one.id) in wanted]
        notes = [(others, f"of other categories than {' and '.join(names or wanted)}"), *notes]
    rows_of: dict[Id, list[int]] = {}
    for index, image_id in enumerate(found.image_ids):
        rows_of.setdefault(image_id, []).append(index)
    every = People(found.boxes_xyxy, found.scores)
    by_id = {image_id: every[rows] for image_id, rows in rows_of.items()}
    listed, sizes_wh = _listed(listing, naming)
    return BoxFile(
        path=source,
        by_id=by_id,
        listed=listed,
        sizes_wh=sizes_wh,
        category_id=_first(choices, taken),
        notes=tuple(notes),
    )


def read_listing(path: str | Path, keypoints: Sequence[str] = ()) -> BoxFile:
    """The pictures of an annotation file with their ids, without boxes; `keypoints` as in
    `read_boxes`."""
    file = load_file(path)
    listed, sizes_wh = _listed(file, str(path))
    category = _first(category_choices(file.listed, keypoints), [])
    return BoxFile(path=str(path), by_id={}, listed=listed, sizes_wh=sizes_wh, category_id=category)


def _first(choices: Sequence[Sequence[Id]], taken: Sequence[Id]) -> Id:
    """The category that `read_coco` gives people: the first that is listed, where rows have none
    but the listed ones."""
    listed = next(filter(None, choices), [])
    return [*(listed if {*taken} <= {*listed} else taken), 1][0]


def _listed(
    listing: File, source: str
) -> tuple[dict[str, list[tuple[PurePath, Id]]], dict[Id, tuple[float, float]]]:
    """The pictures of an annotation file by their names without folders, and their sizes."""
    images = [image for image in listing.images or [] if image.file_name]
    listed: dict[str, list[tuple[PurePath, Id]]] = {}
    sizes_wh: dict[Id, tuple[float, float]] = {}
    for image in images:
        image_id = image.id
        if image_id is None:
            raise UserError(
                f"{source}: the picture {image.file_name} has no id. Cure: give it a unique number"
            )
        name = PurePosixPath(str(image.file_name).replace("\\", "/"))
        listed.setdefault(name.name, []).append((name, image_id))
        sizes_wh[image_id] = (image.width or 0, image.height or 0)
    return listed, sizes_wh


def _fit(picture: PurePath, name: PurePath) -> tuple[int, bool]:
    """How many parts two paths share, counted from the end, and whether these are the whole
    name."""
    pairs = zip(reversed(picture.parts), reversed(name.parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared, shared == len(name.parts)
