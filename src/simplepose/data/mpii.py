"""MPII Human Pose -> Annotations: the original `.mat` and the references' JSON form (train.json, valid.json).

MPII counts pixels from 1 and describes a person by a centre and a scale (height / 200 px). Both references turn this into a square crop:
centre y += 15 x scale, then scale x 1.25, all coordinates minus 1. The box written here is the square of 200 x scale pixels around the
moved centre, so that the usual crop (aspect fix, then x 1.25) is exactly theirs, of 250 x scale pixels. Such a box may reach
outside the picture and must not be cut: `clip_boxes` is False, and stays so through a COCO file written by `write_coco`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import read_json
from simplepose.core.schema import MPII_16
from simplepose.data.annotations import Annotations
from simplepose.data.coco import AREA_FRACTION

UNIT = 200.0
"""Pixels of a person's height at scale 1."""
CENTRE_SHIFT = 15.0
"""Pixels at scale 1 by which the references move the centre down, towards the ankles."""


def read_mpii(path: str | Path, images_dir: str | Path, *, all_people: bool = False) -> Annotations:
    """Reads `mpii_human_pose_v1_u12_1.mat` or train.json / valid.json.

    Row n has annotation id n + 1, in the order of the file (the order of the `.mat` files of predictions and ground truth for scoring).
    The JSON form has no head boxes; those of valid.json are taken from a gt_valid.mat beside it, as the
    references do.

    Args:
        path: the annotation file; the form follows from the ending `.mat`.
        images_dir: folder of the pictures.
        all_people: also people without joints (the test split of the `.mat`).

    Raises:
        UserError: names the file, the entry and the cure.
    """
    people = _from_mat(path) if str(path).endswith(".mat") else _from_json(path)
    if not all_people:
        people = [
            person
            for person in people
            if person["visibility"].any() or not str(path).endswith(".mat")
        ]
    if not people:
        raise UserError(
            f"{path} holds no annotated person. Cure: give train.json, valid.json or mpii_human_pose_v1_u12_1.mat"
        )
    return _annotations(people, str(path), str(images_dir))


def mpii_boxes(centres: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(N, 4) float64 xywh squares from 1-based centres (N, 2) and scales (N,), 0-based; see the head of this file."""
    side = UNIT * np.asarray(scales, np.float64)
    centre = np.asarray(centres, np.float64) - 1
    left, top = centre[:, 0] - side / 2, centre[:, 1] + CENTRE_SHIFT * np.asarray(scales) - side / 2
    return np.stack([left, top, side, side], axis=1)


def _annotations(people: list[dict[str, Any]], source: str, images_dir: str) -> Annotations:
    names = list(dict.fromkeys(person["image"] for person in people))
    place = {name: index for index, name in enumerate(names)}
    stems = [name.rsplit(".", 1)[0] for name in names]
    numeric = all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(
        stems
    )
    scales = np.array([person["scale"] for person in people], np.float64)
    centres = np.array([person["center"] for person in people], np.float64).reshape(-1, 2)
    wrong = ~(np.isfinite(scales) & (scales > 0) & np.isfinite(centres).all(1))
    if wrong.any():
        index = int(np.argmax(wrong))
        raise UserError(
            f"{source}: person {index} ({people[index]['image']}) has centre {centres[index].tolist()} and scale {scales[index]}. "
            "Cure: correct or remove that person"
        )
    bbox = mpii_boxes(centres, scales)
    heads = np.array([person["head"] for person in people], np.float32)
    return Annotations(
        schema=MPII_16,
        source=source,
        image_ids=np.array([int(stem) for stem in stems], np.int64)
        if numeric
        else np.arange(1, len(names) + 1),
        image_paths=tuple(os.path.join(images_dir, name) for name in names),
        image_sizes_wh=np.zeros((len(names), 2)),
        annotation_ids=np.arange(1, len(people) + 1),
        image_index=np.array([place[person["image"]] for person in people], np.int64),
        bbox_xywh=bbox,
        keypoints=np.stack([person["joints"] for person in people]),
        visibility=np.stack([person["visibility"] for person in people]),
        area=AREA_FRACTION * bbox[:, 2] * bbox[:, 3],
        is_crowd=np.zeros(len(people), bool),
        warnings=(
            f"{source}: MPII has no areas; {AREA_FRACTION} x the square of 200 x scale is used (PCKh does not need it)",
        ),
        head_boxes_xyxy=heads if np.isfinite(heads).any() else None,
        clip_boxes=False,
    )


def _from_json(path: str | Path) -> list[dict[str, Any]]:
    """The references' form: a list of {image, center, scale, joints (16, 2), joints_vis (16,)}, all 1-based."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"image", "center", "scale"} <= set(row) for row in rows
    ):
        raise UserError(
            f"{path} is not MPII's JSON form (a list of image, center, scale, joints, joints_vis). Cure: give train.json or valid.json"
        )
    people = []
    for index, row in enumerate(rows):
        joints = np.array(row.get("joints", np.zeros((16, 2))), np.float64)
        seen = np.array(row.get("joints_vis", np.zeros(16)), np.float64)
        if joints.shape != (16, 2) or seen.shape != (16,):
            raise UserError(
                f"{path}: entry {index} ({row['image']}) has joints {joints.shape} and joints_vis {seen.shape}, "
                "MPII has 16 joints. Cure: correct that entry"
            )
        visibility = np.where(seen > 0, 2, 0).astype(np.uint8)
        people.append(_person(row["image"], row["center"], row["scale"], joints, visibility, None))
    heads_file = Path(path).with_name(f"gt_{Path(path).stem}.mat")
    return _with_heads(people, heads_file, str(path)) if heads_file.exists() else people


def _with_heads(
    people: list[dict[str, Any]], heads_file: Path, source: str
) -> list[dict[str, Any]]:
    """The people with the head boxes of gt_valid.mat, which has one column a person and counts from 1.

    Raises:
        UserError: the file cannot be read, or is of other people.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(heads_file)
        heads = (
            np.asarray(content["headboxes_src"], np.float64).transpose(2, 0, 1).reshape(-1, 4) - 1
        )
        joints = np.moveaxis(np.asarray(content["pos_gt_src"], np.float64), 2, 0) - 1
        labelled = np.asarray(content["jnt_missing"]).T == 0
    except Exception as error:  # scipy raises many kinds
        raise UserError(
            f"cannot read head boxes from {heads_file} ({error!r}). Cure: take it from the download of the references, or away"
        ) from error
    if len(heads) != len(people):
        raise UserError(
            f"{heads_file} has {len(heads)} people, {source} has {len(people)}. Cure: take both from the same download"
        )
    for index, person in enumerate(people):
        both = labelled[index] & (person["visibility"] > 0)
        if (np.abs(joints[index] - person["joints"])[both] > 1).any():
            raise UserError(
                f"{heads_file}: person {index} has other joints than in {source}. Cure: take both from the same download"
            )
    return [{**person, "head": head.tolist()} for person, head in zip(people, heads, strict=True)]


def _from_mat(path: str | Path) -> list[dict[str, Any]]:
    """The original structure RELEASE.annolist(i).annorect(j) with annopoints.point(k).{x, y, id, is_visible}."""
    from scipy.io import loadmat

    try:
        release = loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        pictures, in_training = _items(release.annolist), np.atleast_1d(release.img_train)
    except (OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"cannot read {path} as MPII annotations ({error}). Cure: give mpii_human_pose_v1_u12_1.mat"
        ) from error
    people = []
    for picture, training in zip(pictures, in_training, strict=True):
        name = str(picture.image.name)
        for rect in _items(getattr(picture, "annorect", None)):
            scale: Any = getattr(rect, "scale", None)
            objpos: Any = getattr(rect, "objpos", None)
            if not np.size(scale) or not hasattr(objpos, "x"):
                continue  # the .mat holds people without a rough place, which nobody uses
            points = (
                _items(getattr(getattr(rect, "annopoints", None), "point", None))
                if training
                else []
            )
            joints, visibility = _points(points, f"{path}: {name}")
            corners = [getattr(rect, corner, np.nan) for corner in ("x1", "y1", "x2", "y2")]
            head = [float(value) - 1 if np.size(value) == 1 else np.nan for value in corners]
            people.append(
                _person(
                    name, (float(objpos.x), float(objpos.y)), float(scale), joints, visibility, head
                )
            )
    return people


def _points(points: list[Any], where: str) -> tuple[np.ndarray, np.ndarray]:
    """(16, 2) 1-based joints and (16,) visibility; a joint that is marked hidden has 1, one without a mark (head, neck) 2."""
    joints, visibility = np.ones((16, 2)), np.zeros(16, np.uint8)
    for point in points:
        joint = int(point.id)
        if not 0 <= joint < 16:
            raise UserError(
                f"{where} has a joint of id {joint}; MPII knows 0 to 15. Cure: correct that joint"
            )
        joints[joint] = float(point.x), float(point.y)
        mark = getattr(point, "is_visible", 1)
        visibility[joint] = 1 if np.size(mark) == 1 and str(mark) in ("0", "0.0") else 2
    return joints, visibility


def _person(
    image: str,
    center: Sequence[float],
    scale: float,
    joints: np.ndarray,
    visibility: np.ndarray,
    head: list[float] | None,
) -> dict[str, Any]:
    zero_based = np.where(visibility[:, None] > 0, joints - 1, 0).astype(np.float32)
    return {
        "image": image,
        "center": center,
        "scale": scale,
        "joints": zero_based,
        "visibility": visibility,
        "head": head or [np.nan] * 4,
    }


def _items(value: Any) -> list[Any]:
    """A MATLAB struct array of any length as a list."""
    return (
        []
        if value is None or (isinstance(value, np.ndarray) and value.size == 0)
        else list(np.atleast_1d(value))
    )
