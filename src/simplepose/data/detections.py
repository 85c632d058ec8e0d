"""Detection files: a list of `{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`, as COCO's results are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.data.coco_columns import loads, number_column
from simplepose.data.columns import Annotations, Detections


def read_detections(path: str | Path, annotations: Annotations) -> Detections:
    """The boxes of a detection file on the pictures of `annotations`, in the order of the file.

    Kept: score > 0, the person category (those of the annotations, else 1), pictures of the annotations. Boxes without a positive
    width and height are dropped. What is left out is counted in `notes`.

    Raises:
        UserError: not a list of boxes, a box or score that is not finite, or no box on any of the pictures.
    """
    source = str(path)
    rows = loads(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(
            f"{source} is not a detection file (a JSON list of boxes). Cure: give COCO results: image_id, category_id, bbox, score"
        )
    if not rows:
        raise UserError(f"{source} holds no detection. Cure: check that the detector ran, or use the ground-truth boxes")
    missing = next((name for name in ("image_id", "bbox", "score") if name not in rows[0]), None)
    if missing:
        raise UserError(f"{source}: entry 0 has no {missing!r}. Cure: give COCO results: image_id, category_id, bbox, score")
    notes: list[tuple[int, str]] = []
    scores = number_column(rows, "score", np.nan)
    try:
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(len(rows), 4)
    except (KeyError, TypeError, ValueError):
        index = next(index for index, row in enumerate(rows) if not _is_box(row.get("bbox")))
        raise UserError(f"{source}: row {index} has the bbox {rows[index].get('bbox')}. Cure: give x, y, width, height") from None
    finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
    if not finite.all():
        index = int(np.argmin(finite))
        raise UserError(f"{source}: row {index} is not finite: bbox {boxes[index].tolist()}, score {scores[index]}. Cure: remove that row")

    kept = _person_rows(rows, annotations, notes, source)
    for good, sentence in (
        (scores > 0, "have no score above 0"),
        ((boxes[:, 2:] > 0).all(1), "have no positive width and height"),
    ):
        if (kept & ~good).any():
            notes.append((int((kept & ~good).sum()), f"{sentence} and are left out"))
        kept &= good
    image_index = _image_index(rows, annotations)
    elsewhere = int((kept & (image_index < 0)).sum())
    if (kept & (image_index >= 0)).sum() == 0:
        ids = [row["image_id"] for row in rows[:3]]
        raise UserError(
            f"{source}: none of its {len(rows)} boxes can be used on the pictures of {annotations.source} "
            f"({elsewhere} are on other pictures; its image ids start {ids}, the annotations' {_spelled_ids(annotations)[:3]}). "
            "Cure: give the detections of this split"
        )
    if elsewhere:
        notes.append((elsewhere, f"are on pictures that {annotations.source} does not have and are left out"))
    kept &= image_index >= 0
    return Detections(
        image_index=image_index[kept],
        boxes_xyxy=xywh_to_xyxy(boxes[kept]),
        scores=scores[kept],
        source=source,
        notes=tuple(notes),
    )


def _image_index(rows: list[dict], annotations: Annotations) -> np.ndarray:
    """(D,) int64 place of each box's picture, by its number or its word, -1 where the annotations do not have it."""
    if not len(annotations.image_ids):
        return np.full(len(rows), -1)
    ids = number_column(rows, "image_id", -1).astype(np.int64)
    order = np.argsort(annotations.image_ids)
    place = np.searchsorted(annotations.image_ids, ids, sorter=order).clip(max=len(order) - 1)
    index = order[place]
    index = np.where(annotations.image_ids[index] == ids, index, -1)
    if (index < 0).any() and annotations.image_extras is not None:
        spelled = {str(name): picture for picture, name in enumerate(_spelled_ids(annotations))}
        for box in np.flatnonzero(index < 0).tolist():
            index[box] = spelled.get(str(rows[box].get("image_id")), -1)
    return index


def _spelled_ids(annotations: Annotations) -> list[int | str]:
    """The ids of the pictures as their file spells them."""
    numbers = annotations.image_ids.tolist()
    return [
        extra.get("spelled_id", number) for extra, number in zip(annotations.image_extras or ({},) * len(numbers), numbers, strict=True)
    ]


def _person_rows(rows: list[dict], annotations: Annotations, notes: list[tuple[int, str]], source: str) -> np.ndarray:
    """(D,) bool: boxes of the person category; a file without categories holds people only."""
    category_id = annotations.category_id
    categories = number_column(rows, "category_id", category_id)
    for wanted in ((category_id, *annotations.more_categories), (1,)):
        person = np.isin(categories, wanted)
        if person.any():
            if category_id not in wanted:
                notes.append(
                    (int(person.sum()), f"of category 1 (COCO's person) are used: none has the annotations' category {category_id}")
                )
            if not person.all():
                notes.append((int((~person).sum()), "are of other categories and are left out"))
            return person
    found = np.unique(categories)[:5].astype(int).tolist()
    raise UserError(f"{source}: no box has category {category_id} (people); found {found}. Cure: set category_id to {category_id}")


def _is_box(value: object) -> bool:
    try:
        return np.array(value, np.float64).shape == (4,)
    except (TypeError, ValueError):
        return False
