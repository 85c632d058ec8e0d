"""COCO-keypoints JSON in and out: the door to annotated data.

`read_coco` accepts what COCO, CVAT, Roboflow, Label Studio and FiftyOne write; whatever it repairs or synthesises is counted in
`Annotations.warnings`, and whatever would silently change a result is an error that names the file and the cure.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.categories import (
    category_of,
    keypoint_categories,
    people_categories,
    rows_of_categories,
    schema_from_category,
    schema_from_count,
)
from simplepose.data.coco_columns import bbox_column, dictionaries, id_column, keypoint_columns, loads, number_column
from simplepose.data.columns import Annotations, Detections, ground_truth_boxes
from simplepose.data.detections import read_detections

__all__ = ["Annotations", "Detections", "ground_truth_boxes", "read_coco", "read_detections", "write_coco"]

AREA_FRACTION = 0.53
"""Share of a person's box that stands for its area where nobody drew one: the constant of the CrowdPose evaluation."""
IMAGE_EXTRAS = ("spelled_id", "crowdIndex", "vid_id", "frame_id", "nframes", "is_labeled", "ignore_regions_x", "ignore_regions_y")


def read_coco(
    annotations_path: str | Path,
    images_dir: str | Path,
    schema: KeypointSchema | None = None,
    *,
    category: int | str | None = None,
    sigmas: Sequence[float] | None = None,
    allow_empty: bool = False,
    box_areas: bool = False,
) -> Annotations:
    """Reads a COCO-keypoints file.

    Args:
        annotations_path: the JSON file.
        images_dir: folder the `file_name`s are relative to.
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
    with _no_garbage_collection():
        return coco_annotations(
            loads(annotations_path), str(annotations_path), images_dir, schema, category=category, sigmas=sigmas, allow_empty=allow_empty,
            box_areas=box_areas,
        )  # fmt: skip


def write_coco(path: str | Path, annotations: Annotations, images_dir: str | Path | None = None) -> None:
    """Writes a COCO-keypoints file atomically; `read_coco` gives the same people back (coordinates to 4 decimals).

    Args:
        path: the JSON file.
        annotations: what to write.
        images_dir: folder the `file_name`s become relative to; by default the deepest folder that holds all pictures.
    """
    write_json(path, coco_content(annotations, images_dir))


def coco_content(annotations: Annotations, images_dir: str | Path | None = None) -> dict[str, Any]:
    """What a COCO-keypoints file of these people holds, see `write_coco`: their ground truth as it was read, repairs included."""
    folders = {os.path.dirname(name) for name in annotations.image_paths} or {""}
    root = str(images_dir) if images_dir is not None else (os.path.commonpath(folders) if len(folders) > 1 else next(iter(folders)))
    images: list[dict[str, Any]] = []
    for index, (image_id, name) in enumerate(zip(annotations.image_ids.tolist(), annotations.image_paths, strict=True)):
        width, height = annotations.image_sizes_wh[index].tolist()
        image = {"id": image_id, "file_name": os.path.relpath(name, root or ".")}
        image |= {"width": width, "height": height} if width and height else {}
        images.append(image | (annotations.image_extras[index] if annotations.image_extras else {}))
    triples = np.concatenate([annotations.keypoints.astype(np.float64).round(4), annotations.visibility[..., None]], axis=2)
    flat = triples.reshape(len(annotations), 3 * len(annotations.schema)).tolist()
    visibility = annotations.visibility.astype(int).tolist()
    for row, flags in zip(flat, visibility, strict=True):
        row[2::3] = flags
    columns: dict[str, list[Any]] = {
        "id": annotations.annotation_ids.tolist(),
        "image_id": annotations.image_ids[annotations.image_index].tolist(),
        "bbox": annotations.bbox_xywh.astype(np.float64).round(4).tolist(),
        "keypoints": flat,
        "num_keypoints": annotations.keypoint_counts.tolist(),
        "area": annotations.area.astype(np.float64).round(4).tolist(),
        "iscrowd": annotations.is_crowd.astype(int).tolist(),
    }
    if annotations.track_ids is not None:
        columns["track_id"] = annotations.track_ids.tolist()
    if annotations.head_boxes_xyxy is not None:
        columns["head_box_xyxy"] = annotations.head_boxes_xyxy.astype(np.float64).round(4).tolist()
    names = [*columns, "category_id"]
    people = [dict(zip(names, (*row, annotations.category_id), strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        "info": {"description": "written by simplepose", "clip_boxes": annotations.clip_boxes},
        "images": images,
        "annotations": people,
        "categories": [category_of(annotations.schema, annotations.category_id)],
    }


def coco_annotations(
    content: Any, source: str, images_dir: str | Path, schema: KeypointSchema | None = None, *, category: int | str | None = None,
    sigmas: Sequence[float] | None = None, allow_empty: bool = False, box_areas: bool = False,
) -> Annotations:  # fmt: skip
    """`read_coco` of a file that has been parsed; `source` names it in messages."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{source} is not a COCO annotation file (no `images` list). Cure: export as COCO keypoints")
    warnings: list[str] = []
    images, rows, listed = (dictionaries(content.get(name), name, source) for name in ("images", "annotations", "categories"))
    kept = keypoint_categories(listed, source, category)
    if kept:
        rows = rows_of_categories(rows, kept, listed, source, warnings)
        if len(kept) > 1:
            warnings.append(f"{source}: {len(kept)} categories share the same keypoints and are read as one")
    if not rows and not allow_empty:
        raise UserError(
            f"{source} holds no annotation with keypoints ({len(images)} pictures). Cure: check that the right file was exported"
        )
    schema = _schema(kept, rows, schema, sigmas, source, warnings)

    image_ids = id_column(images, "id", f"{source}, images", warnings)
    _unique(image_ids, f"{source}: image id")
    annotation_ids = id_column(rows, "id", f"{source}, annotations", warnings, missing="number")
    _unique(annotation_ids, f"{source}: annotation id")
    image_index = _image_index(images, rows)
    if (image_index < 0).any():
        lost = [row.get("image_id") for row, index in zip(rows, image_index, strict=True) if index < 0]
        raise UserError(f"{source}: {len(lost)} annotations name a picture that is not in `images`, first {lost[:3]}. Cure: export again")

    keypoints, visibility = keypoint_columns(rows, annotation_ids, len(schema), source, warnings)
    bbox = bbox_column(rows, annotation_ids, keypoints, visibility, source, warnings)
    area = number_column(rows, "area", np.nan).astype(np.float32)
    unknown = np.full(len(rows), True) if box_areas else ~np.isfinite(area)
    area[unknown] = AREA_FRACTION * np.maximum(bbox[unknown, 2], 0) * np.maximum(bbox[unknown, 3], 0)
    if unknown.any() and not box_areas:
        warnings.append(f"{source}: {unknown.sum()} people have no area; {AREA_FRACTION} x the area of the box is used (it scales the OKS)")
    ids = people_categories(kept, rows, listed)
    sizes = np.stack([number_column(images, "width", 0), number_column(images, "height", 0)], axis=1) if images else np.zeros((0, 2))
    return Annotations(
        schema=schema,
        source=source,
        image_ids=image_ids,
        image_paths=_paths(images, Path(images_dir), source, warnings),
        image_sizes_wh=np.nan_to_num(sizes),
        annotation_ids=annotation_ids,
        image_index=image_index,
        bbox_xywh=bbox,
        keypoints=keypoints,
        visibility=visibility,
        area=area,
        is_crowd=np.nan_to_num(number_column(rows, "iscrowd", 0)) > 0,
        track_ids=_track_ids(rows, source),
        category_id=ids[0],
        more_categories=ids[1:],
        warnings=tuple(warnings),
        head_boxes_xyxy=_head_boxes(rows),
        image_extras=_extras(images, image_ids),
        clip_boxes=bool((content.get("info") or {}).get("clip_boxes", True)) if isinstance(content.get("info") or {}, dict) else True,
    )


def _schema(
    kept: list[dict[str, Any]], rows: list[dict[str, Any]], schema: KeypointSchema | None, sigmas: Sequence[float] | None, source: str,
    warnings: list[str],
) -> KeypointSchema:  # fmt: skip
    """The schema of the file, checked against the one expected."""
    named = bool(kept and kept[0].get("keypoints"))
    if named and (schema is None or len(kept[0]["keypoints"]) == len(schema)):
        found, assumed = schema_from_category(kept[0], sigmas or (list(schema.sigmas) if schema else None), source)
        if schema is not None and found.keypoints != schema.keypoints and set(found.keypoints) == set(schema.keypoints):
            raise UserError(f"{source} lists the keypoints of {schema.name!r} in another order. Cure: read it without a schema and map it")
        if schema is None:
            warnings.extend(assumed)
            return found
    if named and schema is not None and len(kept[0]["keypoints"]) != len(schema):
        count = len(kept[0]["keypoints"])
        raise UserError(
            f"{source} has {count} keypoints, the schema {schema.name!r} has {len(schema)}. Cure: choose the schema of the file"
        )
    if schema is None:
        count = next((len(row["keypoints"]) // 3 for row in rows if row.get("keypoints")), 0)
        if not count:
            raise UserError(f"{source} has no keypoints, neither names in `categories` nor values. Cure: export as COCO keypoints")
        schema, warning = schema_from_count(count, source)
        warnings.append(warning)
    if sigmas is not None and len(sigmas) != len(schema):
        raise UserError(f"{source}: {len(sigmas)} sigmas for {len(schema)} keypoints. Cure: give one OKS sigma for each keypoint")
    return schema if sigmas is None else replace(schema, sigmas=tuple(map(float, sigmas)))


def _image_index(images: list[dict[str, Any]], rows: list[dict[str, Any]]) -> np.ndarray:
    """(N,) int64 picture of each person, -1 where it is not there; 7 and "7" are one id."""
    places = {image["id"]: index for index, image in enumerate(images)}
    try:
        found = np.fromiter((places.get(row.get("image_id"), -1) for row in rows), np.int64, len(rows))
    except TypeError:  # a list or an object
        found = np.full(len(rows), -1)
    if (found < 0).any():
        spelled = {str(name): index for name, index in places.items()}
        found = np.fromiter((spelled.get(str(row.get("image_id")), -1) for row in rows), np.int64, len(rows))
    return found


def _paths(images: list[dict[str, Any]], images_dir: Path, source: str, warnings: list[str]) -> tuple[str, ...]:
    """Full paths. A `file_name` may repeat the folder's own name, or carry folders of the tool that wrote it."""
    names: list[Any] = [image.get("file_name") for image in images]
    if not all(isinstance(name, str) and name for name in names):
        bad = next(image.get("id") for image, name in zip(images, names, strict=True) if not (isinstance(name, str) and name))
        raise UserError(f"{source}: picture {bad} has no file_name. Cure: add the name of the picture file")
    names = [name.replace("\\", "/") if "\\" in name else name for name in names]
    folder, base = str(images_dir), str(images_dir)
    if names and images_dir.is_dir() and not os.path.exists(os.path.join(folder, names[0])):
        bare = [name.rsplit("/", 1)[-1] for name in names]
        if os.path.exists(os.path.join(images_dir.parent, names[0])):
            base = str(images_dir.parent)
            warnings.append(f"{source}: file names include the folder {images_dir.name!r}; pictures are looked up in {base}")
        elif bare[0] != names[0] and len(set(bare)) == len(bare) and os.path.exists(os.path.join(folder, bare[0])):
            names = bare
            warnings.append(f"{source}: the folders in file names are left out; pictures lie directly in {folder}")
    return tuple(name if name.startswith("/") else f"{base}/{name}" for name in names)


def _track_ids(rows: list[dict[str, Any]], source: str) -> np.ndarray | None:
    if not any("track_id" in row for row in rows):
        return None
    values = [row.get("track_id") for row in rows]
    try:
        numbers = np.array([-1 if value is None else float(value) for value in values])
        whole = numbers == np.round(numbers)
    except (TypeError, ValueError):
        whole = np.array([value is None or isinstance(value, int) for value in values])
        numbers = np.zeros(len(values))
    if not whole.all():
        raise UserError(f"{source}: track_id {values[int(np.argmin(whole))]!r} is not a whole number. Cure: number the tracks 0, 1, 2 ...")
    return numbers.astype(np.int64)


def _head_boxes(rows: list[dict[str, Any]]) -> np.ndarray | None:
    if not any("head_box_xyxy" in row for row in rows):
        return None
    return np.array([row.get("head_box_xyxy") or [None] * 4 for row in rows], np.float32)


def _extras(images: list[dict[str, Any]], image_ids: np.ndarray) -> tuple[dict[str, Any], ...] | None:
    """What `IMAGE_EXTRAS` names, and ids that are words, by which results and detections of the same data name the pictures."""
    extras = tuple({name: image[name] for name in IMAGE_EXTRAS if name in image} for image in images)
    for extra, image, number in zip(extras, images, image_ids.tolist(), strict=True):
        if isinstance(image["id"], str) and image["id"] != str(number):
            extra["spelled_id"] = image["id"]
    return extras if any(extras) else None


def _unique(ids: np.ndarray, what: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    twice = values[counts > 1]
    if len(twice):
        raise UserError(f"{what} {twice[:5].tolist()} stands more than once ({len(twice)} such ids). Cure: make the ids unique")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Millions of small objects without cycles: the collector would walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
