"""PoseTrack18: one JSON file a sequence <-> one Annotations with track ids, head boxes and ignore regions.

The files list 17 keypoints, of which the ears are never annotated; scoring and training use the other 15 (`POSETRACK_15`).
Ignore regions stay with their picture, as polygons: `image_extras[i]["ignore_regions_x"]` and `["ignore_regions_y"]`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.schema import POSETRACK_15
from simplepose.data.annotations import coco_annotations
from simplepose.data.coco_columns import dictionaries, loads
from simplepose.data.columns import Annotations
from simplepose.data.posetrack17 import is_posetrack17, posetrack17_rows

FILE_KEYPOINTS = (*POSETRACK_15.keypoints[:3], "left_ear", "right_ear", *POSETRACK_15.keypoints[3:])
"""The 17 names of a PoseTrack18 file, in order."""


def read_posetrack(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads one sequence (`000001_mpii_test.json`) or a folder of them, in the order of their names.

    PoseTrack 2017 files in poseval's form (`annolist`) are read too.

    Args:
        path: a JSON file, or a folder of JSON files.
        images_dir: folder that the `file_name`s (`images/val/000001_mpii_test/000000.jpg`) are relative to.

    Raises:
        UserError: unknown or missing keypoint names, a sequence without frames, track ids that are not whole numbers, duplicate ids.
    """
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no JSON file. Cure: give the folder of sequences (annotations/val)")
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    for file in files:
        content = loads(file)
        if is_posetrack17(content):
            sequence_images, sequence_rows = posetrack17_rows(content, str(file), len(images), len(rows))
        else:
            sequence_images, sequence_rows = _sequence(content, str(file))
        declared = sequence_images[0].get("nframes", len(sequence_images))
        if declared != len(sequence_images):
            warnings.append(f"{file}: lists {len(sequence_images)} of {declared} frames")
        images += sequence_images
        rows += sequence_rows
    return _annotations(images, rows, str(path), Path(images_dir), warnings)


def write_posetrack_annotations(folder: str | Path, annotations: Annotations) -> list[Path]:
    """Writes the official folder of JSON, one file a sequence, 17 keypoints with empty ears; `read_posetrack` gives the same people back.

    A sequence is the folder of its pictures; its file is named after it. Returns the files in their order.

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
            "annotations": [_person_entry(annotations, person, triples[person]) for index in pictures for person in people_of[index]],
            "categories": [{"supercategory": "person", "id": 1, "name": "person", "keypoints": list(FILE_KEYPOINTS), "skeleton": []}],
        }
        written.append(Path(folder) / f"{name}.json")
        write_json(written[-1], content)
    return written


def _sequence(content: Any, source: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and annotations of one PoseTrack18 file, with the keypoints reordered to the 15."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{source} is not a PoseTrack18 file (no `images` list). Cure: give a file of annotations/val")
    if not content["images"]:
        raise UserError(f"{source} is an empty sequence (no frames). Cure: remove the file, or copy it again")
    images, people, categories = (dictionaries(content.get(name), name, source) for name in ("images", "annotations", "categories"))
    categories = categories or [{}]
    names = list(categories[0].get("keypoints") or FILE_KEYPOINTS)
    absent = [name for name in POSETRACK_15.keypoints if name not in names]
    unknown = [name for name in names if name not in FILE_KEYPOINTS]
    if absent or unknown:
        raise UserError(f"{source}: unknown keypoints {unknown}, missing keypoints {absent}. Cure: give PoseTrack18's 17 names")
    columns = np.array([names.index(name) for name in POSETRACK_15.keypoints])
    rows = []
    for row in people:
        values = row.get("keypoints") or [0] * (3 * len(names))
        if not isinstance(values, list) or len(values) != 3 * len(names):
            have = len(values) if isinstance(values, list) else values
            raise UserError(
                f"{source}: annotation {row.get('id')} has {have} values for {len(names)} keypoints ({3 * len(names)} expected). "
                "Cure: correct that annotation"
            )
        rows.append({**row, "keypoints": [value for column in columns for value in values[3 * column : 3 * column + 3]]})
    return images, rows


def _annotations(
    images: list[dict[str, Any]], rows: list[dict[str, Any]], source: str, images_dir: Path, warnings: list[str]
) -> Annotations:
    track_ids = _track_ids(rows, source)
    heads = np.full((len(rows), 4), np.nan, np.float32)
    for head, row in zip(heads, rows, strict=True):
        try:
            head[:] = np.array(row.get("bbox_head") or [np.nan] * 4, np.float32).reshape(4)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{source}: annotation {row.get('id')} has the bbox_head {row['bbox_head']!r}. Cure: x, y, width, height, or leave it out"
            ) from error
    content = {"images": images, "annotations": rows}
    people = coco_annotations(content, source, images_dir, POSETRACK_15, allow_empty=True, box_areas=True)
    return replace(people, track_ids=track_ids, head_boxes_xyxy=xywh_to_xyxy(heads), warnings=(*warnings, *people.warnings))


def _track_ids(rows: list[dict[str, Any]], source: str) -> np.ndarray:
    """(N,) int64; here, unlike in COCO files, everybody has one."""
    ids = [row.get("track_id") for row in rows]
    for row, value in zip(rows, ids, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer() or abs(value) >= 2**53:
            raise UserError(f"{source}: annotation {row.get('id')} has the track id {value!r}, not a whole number. Cure: number the tracks")
    return np.array(ids, np.int64)


def _image_entry(annotations: Annotations, index: int) -> dict[str, Any]:
    parts = PurePosixPath(annotations.image_paths[index]).parts
    start = len(parts) - 1 - parts[::-1].index("images") if "images" in parts else max(len(parts) - 2, 0)
    width, height = annotations.image_sizes_wh[index].tolist()
    size = {"width": width, "height": height} if width and height else {}
    entry = {"id": int(annotations.image_ids[index]), "file_name": "/".join(parts[start:])} | size
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
    if annotations.head_boxes_xyxy is not None and np.isfinite(annotations.head_boxes_xyxy[person]).all():
        entry["bbox_head"] = xyxy_to_xywh(annotations.head_boxes_xyxy[person]).astype(np.float64).round(4).tolist()
    return entry
