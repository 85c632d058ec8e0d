"""What a detector learns from: the boxes of an annotation file, and whole pictures as samples.

A detector shares the loop, the caches and the random views of the pose networks. A sample of theirs
is a person with keypoints; a sample of a detector is a picture whose keypoints are the corners of
its boxes. Corners move with the picture like any other point, and nothing else has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.categories import Category, plain_name
from simplepose.data.coco import File, Row, annotations_of, load_file, tight_box
from simplepose.data.pictures import with_picture_sizes
from simplepose.pose.geometry import BOX_PADDING

USUAL_REGION = 0.8
"""Part of a picture's sides that a sample shows before it is scaled and moved at random."""
CLASSES = "classes"
"""Name of a schema that lists the classes of boxes."""
NOTHING, IGNORED = -2, -1
"""Labels of a place without a box, and of a box that is neither learned nor background."""


def read_labelled_boxes(
    path: Any, images_dir: str | Path | None, *, category: str | None = None
) -> Annotations:
    """Reads the boxes of a COCO file: its keypoints, where it has some, are not looked at.

    Args:
        path: the JSON file, or its content as Python objects.
        images_dir: folder the `file_name`s are relative to; None where no picture is opened.
        category: ids or names, separated by commas; None takes all that the file lists.

    Returns:
        N boxes. The schema's keypoints are the C classes, and the one keypoint of a box is its
        centre, under the class. `category_id` and `more_categories` are the ids of the classes.

    Raises:
        UserError: no such category, no boxes, or a row that cannot be read; names the cure.
    """
    source = str(path) if isinstance(path, (str, Path)) else "ground truth"
    file = load_file(path, source)
    chosen = _classes(file, source, category)
    if not chosen:
        raise UserError(
            f"{source} has no categories and no annotation with a category_id. "
            "Cure: check the exported file"
        )
    index = {one.id: number for number, one in enumerate(chosen)}
    rows = [_centred(row, index) for row in file.rows if row.category_id in index]
    if not rows:
        wanted = ", ".join(str(one.name) for one in chosen)
        raise UserError(
            f"{source} has no box of {wanted}. "
            "Cure: choose categories by --data.category (doctor: --category)"
        )
    names = [plain_name(one.name or one.id) or str(one.id) for one in chosen]
    schema = KeypointSchema(name=CLASSES, keypoints=tuple(names), flip_pairs=((0, 0),))
    kept = File(file.images, rows, file.categories, file.info)
    return annotations_of(kept, source, images_dir, schema, people=[*index])


def _classes(file: File, source: str, category: str | None) -> list[Category]:
    """The categories to learn, in the order of the file or of `category`."""
    found = {row.category_id for row in file.rows} - {None}
    listed = file.listed or [Category(id=one, name=str(one)) for one in sorted(found, key=str)]
    if category is None:
        return listed
    wanted = [word.strip() for word in category.split(",") if word.strip()]
    known = {
        key: one
        for one in listed
        for key in (plain_name(one.name or ""), str(one.name), str(one.id))
    }
    if unknown := [word for word in wanted if word not in known]:
        shown = ", ".join(f"{one.id} {one.name}" for one in listed)
        raise UserError(
            f"{source} has no category {unknown[0]!r}. Cure: choose of {shown}, with commas between"
        )
    return [known[word] for word in dict.fromkeys(wanted)]


def _centred(row: Row, index: dict[Any, int]) -> Row:
    """The row with its centre as the only keypoint, under its class."""
    box = row.bbox or tight_box(row)
    row.bbox, row.num_keypoints = box, None
    row.keypoints = [0.0] * (3 * len(index))
    if len(box) == 4:
        start = 3 * index[row.category_id]
        row.keypoints[start : start + 3] = [box[0] + box[2] / 2, box[1] + box[3] / 2, 2.0]
    return row


def class_of(boxes: Annotations) -> np.ndarray:
    """(N,) int64: the class of each box."""
    return boxes.visibility.argmax(1)


def as_pictures(boxes: Annotations, *, skip_broken: bool = False) -> tuple[Annotations, np.ndarray]:
    """All pictures as samples of a training.

    Args:
        boxes: from `read_labelled_boxes`.
        skip_broken: go on where the size of a picture has to be read from its file and cannot be.

    Returns:
        The samples, one a picture, whose keypoints (M, 2 + 2 P, 2) are pairs of corners, upper left
        and lower right: of the picture, then of its up to P boxes; and the labels (M, 1 + P) int64
        of these pairs: a class, `IGNORED` or `NOTHING`.

    Raises:
        UserError: there is no box to learn, or the size of a picture is not known.
    """
    pictures, of = len(boxes.image_ids), boxes.image_index
    counts = np.bincount(of, minlength=pictures)
    order = np.argsort(of, kind="stable")
    place = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    labels = np.full((pictures, 1 + max(counts, default=0)), NOTHING)
    learned = ~boxes.is_crowd & (boxes.bbox_xywh[:, 2:] > 0).all(1)
    if not learned.any():
        raise UserError(
            f"{boxes.source} has no box to learn. Cure: set iscrowd to 0 for single ones"
        )
    labels[of[order], place] = np.where(learned, class_of(boxes), IGNORED)[order]
    corners = np.zeros((*labels.shape, 4))
    corners[of[order], place] = xywh_to_xyxy(boxes.bbox_xywh[order])
    seen = labels > NOTHING
    seen[:, 0] = True
    samples = Annotations(
        schema=_corners(labels.shape[1]),
        source=boxes.source,
        image_ids=boxes.image_ids,
        image_paths=boxes.image_paths,
        image_sizes_wh=boxes.image_sizes_wh,
        annotation_ids=np.arange(1, pictures + 1),
        image_index=np.arange(pictures),
        bbox_xywh=np.zeros((pictures, 4)),
        keypoints=corners.reshape(pictures, -1, 2),
        visibility=2 * seen.repeat(2, 1),
        area=np.ones(pictures),
        is_crowd=np.zeros(pictures),
        clip_boxes=False,
        upright=boxes.upright,
    )
    samples = with_picture_sizes(samples, skip_broken=skip_broken)
    sizes = samples.image_sizes_wh.astype(np.float64)
    corners[:, 0, 2:] = sizes
    # A box is told by the edges of its pixels, a point by their centres.
    points = corners.reshape(pictures, -1, 2) - 0.5
    # The region that is cut is this box, padded.
    inner = sizes * (USUAL_REGION / BOX_PADDING)
    inner = np.hstack([sizes / 2 - inner / 2, inner])
    return replace(samples, keypoints=points, bbox_xywh=inner), labels


def _corners(pairs: int) -> KeypointSchema:
    """Names of the corners of some boxes; mirrored, a pair stays a pair."""
    names = [f"{corner}_{index}" for index in range(pairs) for corner in ("first", "second")]
    return KeypointSchema(name="corners", keypoints=tuple(names), flip_pairs=((0, 0),))


def class_ids(boxes: Annotations) -> Sequence[int]:
    """The category id of each class."""
    return (boxes.category_id, *boxes.more_categories)
