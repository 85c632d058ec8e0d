"""PoseTrack: one JSON file a sequence -> one Annotations with track ids, head boxes and ignore
regions. Files of 2018, and those of 2017 in poseval's form (`annolist`), are read.

The files of 2018 list 17 keypoints, of which the ears are never annotated; scoring and training use
the other 15 (`POSETRACK_15`). Ignore regions stay with their picture, as polygons:
`image_extras[i]["ignore_regions_x"]` and `["ignore_regions_y"]`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from simplepose.core.errors import UserError, shown
from simplepose.core.schema import POSETRACK_15
from simplepose.data.annotations import Annotations
from simplepose.data.categories import Category
from simplepose.data.coco import File, Image, Row, annotations_of, check_lengths, decode, load

NAMES = POSETRACK_15.keypoints
FILE_KEYPOINTS = (*NAMES[:3], "left_ear", "right_ear", *NAMES[3:])
"""The 17 names of a PoseTrack18 file, in order."""
JOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "head_bottom",
    "nose",
    "head_top",
)
"""The joint of each id, 0 to 14, as poseval numbers them."""


def read_posetrack(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads one sequence (`000001_mpii_test.json`) or a folder of them, in the order of their
    names.

    Args:
        path: a JSON file, or a folder of JSON files.
        images_dir: folder that the `file_name`s (`images/val/000001_mpii_test/000000.jpg`) are
            relative to.

    Raises:
        UserError: unknown or missing keypoint names, a sequence without frames, track ids that are
            missing or not whole numbers, duplicate ids.
    """
    path, images, rows, warnings = Path(path), list[Image](), list[Row](), list[str]()
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(
            f"{path} holds no JSON file. Cure: give the folder of sequences (annotations/val)"
        )
    for file in files:
        frames, people = read_sequence(file, len(images), len(rows))
        if not frames:
            raise UserError(
                f"{file} is an empty sequence (no frames). Cure: remove the file, or copy it again"
            )
        if frames[0].nframes not in (None, len(frames)):
            warnings.append(f"{file}: lists {len(frames)} of {frames[0].nframes} frames")
        images += frames
        rows += people
    lacking = [row.id for row in rows if row.track_id is None]
    if lacking:
        raise UserError(
            f"{path}: {len(lacking)} people have no track_id, first annotation {lacking[0]}. "
            "Cure: number the tracks"
        )
    content = File(images, rows)
    found = annotations_of(content, str(path), images_dir, POSETRACK_15, box_areas=True)
    # a sequence without people is tracked too
    tracks = np.zeros(0) if found.track_ids is None else found.track_ids
    return replace(found, track_ids=tracks, warnings=(*warnings, *found.warnings))


def read_sequence(
    file: Any, first_image: int = 0, first_person: int = 0, *, name: str = ""
) -> tuple[list[Image], list[Row]]:
    """Frames and people of one file of either form, for training and scoring alike.

    `keypoints` and `scores` of the rows have the order of `POSETRACK_15`; the `bbox_head` becomes
    `head_box_xyxy`.

    Args:
        file: a PoseTrack18 file, or one of 2017 in poseval's form; or its content.
        first_image: pictures of a 2017 file, which have no ids, are numbered from here on.
        first_person: the same for its people.
        name: what messages call it; the path where it is empty.

    Raises:
        UserError: unknown or missing keypoint names, or a row of another length.
    """
    name = name or str(file)
    content = load(file, name)
    if isinstance(content, File) and content.annolist is not None:
        return _rows_of_2017(content.annolist, name, first_image, first_person)
    if isinstance(content, list) or content.images is None:
        raise UserError(
            f"{name} is not a PoseTrack file (no `images` list). "
            "Cure: give the official form, one file a sequence (annotations/val)"
        )
    names = [*content.listed, Category()][0].names or list(FILE_KEYPOINTS)
    absent, unknown = sorted({*NAMES} - {*names}), sorted({*names} - {*FILE_KEYPOINTS})
    if absent or unknown:
        raise UserError(
            f"{name}: unknown keypoints {shown(unknown)}, missing keypoints {absent}. "
            "Cure: give PoseTrack18's 17 names"
        )
    check_lengths(content.rows, len(names), name, file)
    order = np.array([names.index(one) for one in NAMES])
    for row in content.rows:
        _reorder(row, order, len(names), name)
    return content.images, content.rows


def _reorder(row: Row, order: np.ndarray, count: int, source: str) -> None:
    """Gives a row of `count` keypoints those of `POSETRACK_15`, and its head as corners."""
    scores = row.scores or []
    if len(scores) not in (0, count):
        raise UserError(
            f"{source}: annotation {row.id} has {len(scores)} scores for {count} keypoints. "
            "Cure: give one score each"
        )
    flat = row.flat_keypoints or [0.0] * 3 * count
    row.keypoints = [value for at in order for value in flat[3 * at : 3 * at + 3]]
    row.scores = [scores[at] for at in order] if scores else None
    if row.bbox_head:
        x, y, width, height = row.bbox_head
        row.head_box_xyxy = [x, y, x + width, y + height]


def picture_name(path: str) -> str:
    """A picture's name in PoseTrack's files: from the folder `images` on, or sequence and frame."""
    parts = PurePosixPath(path).parts
    parts = parts if len(parts) > 1 else Path(path).resolve().parts
    start = max(len(parts) - 2, 0)
    if "images" in parts:
        start = len(parts) - 1 - parts[::-1].index("images")
    return "/".join(parts[start:])


class _Point(msgspec.Struct):
    """One joint of a person, or one corner of an ignore region."""

    x: float
    y: float
    id: int = -1
    score: float = math.nan


class _Points(msgspec.Struct):
    point: list[_Point] = []


class _Person(msgspec.Struct):
    annopoints: list[_Points] = []
    track_id: int | None = None
    x1: float | None = None
    y1: float | None = None
    x2: float | None = None
    y2: float | None = None


class _ImageName(msgspec.Struct):
    name: str = ""


class _Frame(msgspec.Struct):
    image: list[_ImageName] = []
    annorect: list[_Person] = []
    ignore_regions: list[_Points] = []
    imgnum: int | None = None
    is_labeled: float = 1


def _plain(value: Any) -> Any:
    """poseval wraps numbers in lists of one, and says nothing with empty lists and null."""
    if isinstance(value, dict):
        return {name: plain for name, one in value.items() if (plain := _plain(one)) is not None}
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict):
        return value[0]
    return [_plain(one) for one in value] or None if isinstance(value, list) else value


def _rows_of_2017(
    annolist: Any, source: str, first_image: int, first_person: int
) -> tuple[list[Image], list[Row]]:
    """One sequence -> pictures and people of the PoseTrack18 kind; `scores` are NaN for none."""
    images: list[Image] = []
    rows: list[Row] = []
    for number, frame in enumerate(decode(_plain(annolist) or [], source, list[_Frame])):
        name = frame.image[0].name if frame.image else ""
        if not name:
            raise UserError(
                f"{source}: frame {number} has no image name. Cure: add the name of the picture"
            )
        folder = PurePosixPath(name).parent.name
        image = Image(
            id=first_image + number + 1,
            file_name=name,
            frame_id=number if frame.imgnum is None else frame.imgnum,
            vid_id=(re.findall(r"\d+", folder) or [folder])[0],
            is_labeled=bool(frame.is_labeled),
            ignore_regions_x=[[point.x for point in one.point] for one in frame.ignore_regions],
            ignore_regions_y=[[point.y for point in one.point] for one in frame.ignore_regions],
        )
        images.append(image)
        for person in frame.annorect:
            row = _row_of_2017(person, f"{source}: {name}")
            row.id, row.image_id = first_person + len(rows) + 1, image.id
            rows.append(row)
    return images, rows


def _row_of_2017(person: _Person, where: str) -> Row:
    triples, scores = np.zeros((len(NAMES), 3)), np.full(len(NAMES), np.nan)
    for point in (point for some in person.annopoints for point in some.point):
        if not 0 <= point.id < len(JOINTS):
            raise UserError(
                f"{where} has a joint of id {point.id}; PoseTrack knows 0 to {len(JOINTS) - 1}. "
                "Cure: correct that joint"
            )
        index = NAMES.index(JOINTS[point.id])
        triples[index] = point.x, point.y, 1
        scores[index] = point.score
    corners = [person.x1, person.y1, person.x2, person.y2]
    return Row(
        track_id=person.track_id,
        keypoints=[*triples.ravel().tolist()],
        scores=scores.tolist(),
        head_box_xyxy=None if None in corners else corners,
    )
