"""PoseTrack18: one JSON file a sequence <-> one Annotations with track ids, head boxes and ignore
regions.

The files list 17 keypoints, of which the ears are never annotated; scoring and training use the
other 15 (`POSETRACK_15`). Ignore regions stay with their picture, as polygons:
`image_extras[i]["ignore_regions_x"]` and `["ignore_regions_y"]`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from simplepose.core.boxes import xyxy_to_xywh
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.schema import POSETRACK_15
from simplepose.data.annotations import Annotations
from simplepose.data.categories import Category
from simplepose.data.coco import File, Image, Row, annotations_of, load
from simplepose.data.posetrack17 import posetrack17_rows

FILE_KEYPOINTS = (*POSETRACK_15.keypoints[:3], "left_ear", "right_ear", *POSETRACK_15.keypoints[3:])
"""The 17 names of a PoseTrack18 file, in order."""


def read_posetrack(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads one sequence (`000001_mpii_test.json`) or a folder of them, in the order of their
    names.

    PoseTrack 2017 files in poseval's form (`annolist`) are read too.

    Args:
        path: a JSON file, or a folder of JSON files.
        images_dir: folder that the `file_name`s (`images/val/000001_mpii_test/000000.jpg`) are
            relative to.

    Raises:
        UserError: unknown or missing keypoint names, a sequence without frames, track ids that are
            missing or not whole numbers, duplicate ids.
    """
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(
            f"{path} holds no JSON file. Cure: give the folder of sequences (annotations/val)"
        )
    images: list[Image] = []
    rows: list[Row] = []
    warnings: list[str] = []
    for file in files:
        frames, people = read_sequence(file, len(images), len(rows))
        if not frames:
            raise UserError(
                f"{file} is an empty sequence (no frames). Cure: remove the file, or copy it again"
            )
        declared = frames[0].nframes
        if declared is not None and declared != len(frames):
            warnings.append(f"{file}: lists {len(frames)} of {declared} frames")
        images += frames
        rows += people
    content = File(images, rows)
    found = annotations_of(content, str(path), images_dir, POSETRACK_15, box_areas=True)
    track_ids = np.full(len(found), -1) if found.track_ids is None else found.track_ids
    lacking = [row.id for row in rows if row.track_id is None]
    if lacking:
        raise UserError(
            f"{path}: {len(lacking)} people have no track_id, first annotation {lacking[0]}. Cure: number the tracks"
        )
    return replace(found, track_ids=track_ids, warnings=(*warnings, *found.warnings))


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
        return posetrack17_rows(content.annolist, name, first_image, first_person)
    if isinstance(content, list) or content.images is None:
        raise UserError(
            f"{name} is not a PoseTrack file (no `images` list). Cure: give the official form, one file a sequence (annotations/val)"
        )
    category = [*content.listed, Category()][0]
    names = category.names or list(FILE_KEYPOINTS)
    absent = [name for name in POSETRACK_15.keypoints if name not in names]
    unknown = [name for name in names if name not in FILE_KEYPOINTS]
    if absent or unknown:
        raise UserError(
            f"{name}: unknown keypoints {unknown}, missing keypoints {absent}. Cure: give PoseTrack18's 17 names"
        )
    order = [names.index(name) for name in POSETRACK_15.keypoints]
    for row in content.rows:
        _reorder(row, order, len(names), name)
    return content.images, content.rows


def _reorder(row: Row, order: list[int], count: int, source: str) -> None:
    """Gives a row the keypoints of `POSETRACK_15`, and its head as corners."""
    triples, scores = row.flat_keypoints or [0.0] * (3 * count), row.scores or []
    if len(triples) != 3 * count or len(scores) not in (0, count):
        raise UserError(
            f"{source}: annotation {row.id} has {len(triples)} values and {len(scores)} scores "
            f"in its keypoints, {count} keypoints have {3 * count}. Cure: correct that annotation"
        )
    row.keypoints = [value for at in order for value in triples[3 * at : 3 * at + 3]]
    row.scores = [scores[at] for at in order] if scores else None
    if row.bbox_head:
        if len(row.bbox_head) != 4:
            raise UserError(
                f"{source}: annotation {row.id} has the bbox_head {row.bbox_head}. Cure: x, y, width, height, or leave it out"
            )
        x, y, width, height = row.bbox_head
        row.head_box_xyxy = [x, y, x + width, y + height]


def write_posetrack_annotations(folder: str | Path, annotations: Annotations) -> list[Path]:
    """Writes the official folder of JSON, one file a sequence, 17 keypoints with empty ears;
    `read_posetrack` gives the same people back.

    A sequence is the folder of its pictures; its file is named after it. Returns the files in their
    order.

    Raises:
        UserError: another schema, or people without track ids.
    """
    if annotations.schema.keypoints != POSETRACK_15.keypoints:
        raise UserError(
            f"PoseTrack files hold posetrack_15, not {annotations.schema.name!r}. Cure: map_annotations(.., POSETRACK_15) first"
        )
    if annotations.track_ids is None:
        raise UserError(f"{annotations.source} has no track ids. Cure: track the people first")
    sequences: dict[str, list[int]] = {}
    for index, name in enumerate(annotations.image_paths):
        sequences.setdefault(Path(name).parent.name, []).append(index)
    columns = [FILE_KEYPOINTS.index(name) for name in POSETRACK_15.keypoints]
    triples = np.zeros((len(annotations), len(FILE_KEYPOINTS), 3))
    triples[:, columns, :2] = annotations.keypoints
    triples[:, columns, 2] = annotations.visibility
    people_of: list[list[int]] = [[] for _ in annotations.image_ids]
    for person, picture in enumerate(annotations.image_index.tolist()):
        people_of[picture].append(person)
    written = []
    for name, pictures in sequences.items():
        content = {
            "images": [_image_entry(annotations, index) for index in pictures],
            "annotations": [
                _person_entry(annotations, person, triples[person])
                for index in pictures
                for person in people_of[index]
            ],
            "categories": [
                {
                    "supercategory": "person",
                    "id": 1,
                    "name": "person",
                    "keypoints": list(FILE_KEYPOINTS),
                    "skeleton": [],
                }
            ],
        }
        written.append(Path(folder) / f"{name}.json")
        write_json(written[-1], content)
    return written


def picture_name(path: str) -> str:
    """A picture's name in PoseTrack's files: from the folder `images` on, or sequence and frame."""
    parts = PurePosixPath(path).parts
    parts = parts if len(parts) > 1 else Path(path).resolve().parts
    start = max(len(parts) - 2, 0)
    if "images" in parts:
        start = len(parts) - 1 - parts[::-1].index("images")
    return "/".join(parts[start:])


def _image_entry(annotations: Annotations, index: int) -> dict[str, Any]:
    width, height = annotations.image_sizes_wh[index].tolist()
    size = {"width": width, "height": height} if width and height else {}
    name = picture_name(annotations.image_paths[index])
    entry = {"id": int(annotations.image_ids[index]), "file_name": name} | size
    return entry | (annotations.image_extras[index] if annotations.image_extras else {})


def _person_entry(annotations: Annotations, person: int, triples: np.ndarray) -> dict[str, Any]:
    assert annotations.track_ids is not None
    entry = {
        "id": int(annotations.annotation_ids[person]),
        "image_id": int(annotations.image_ids[annotations.image_index[person]]),
        "category_id": 1,
        "track_id": int(annotations.track_ids[person]),
        "bbox": annotations.bbox_xywh[person].astype(np.float64).round(4).tolist(),
        "keypoints": triples.round(4).ravel().tolist(),
        "num_keypoints": int(annotations.keypoint_counts[person]),
        "iscrowd": int(annotations.is_crowd[person]),
        "scores": [],
    }
    if (
        annotations.head_boxes_xyxy is not None
        and np.isfinite(annotations.head_boxes_xyxy[person]).all()
    ):
        entry["bbox_head"] = (
            xyxy_to_xywh(annotations.head_boxes_xyxy[person]).astype(np.float64).round(4).tolist()
        )
    return entry
