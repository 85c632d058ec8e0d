"""MPII Human Pose -> Annotations: the original `.mat` and the references' JSON form (train.json,
valid.json).

MPII counts pixels from 1 and describes a person by a centre and a scale (height / 200 px). Both
references turn this into a square crop: centre y += 15 x scale, then scale x 1.25, all coordinates
minus 1. The box written here is the square of 200 x scale pixels around the moved centre, so that
the usual crop (aspect fix, then x 1.25) is exactly theirs, of 250 x scale pixels. Such a box may
reach outside the picture and must not be cut: `clip_boxes` is False, and stays so through a COCO
file written by `write_coco`.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import read_bytes, reading
from simplepose.core.schema import MPII_16
from simplepose.data.annotations import Annotations
from simplepose.data.coco import AREA_FRACTION, BEYOND, decode
from simplepose.data.pictures import find_pictures

UNIT = 200.0
"""Pixels of a person's height at scale 1."""
CENTRE_SHIFT = 15.0
"""Pixels at scale 1 by which the references move the centre down, towards the ankles."""
SIXTEEN = msgspec.Meta(min_length=16, max_length=16)
LOAD_MATLAB = """
import io, json, pickle, sys
from scipy.io import loadmat
file = io.BytesIO(sys.stdin.buffer.read())
pickle.dump(loadmat(file, **json.loads(sys.argv[1])), sys.stdout.buffer)
"""


class Person(msgspec.Struct):
    """One person as the references' JSON has them; all pixels count from 1."""

    image: str
    center: tuple[float, float]
    scale: float
    joints: Annotated[Sequence[tuple[float, float]], SIXTEEN] = ((0.0, 0.0),) * 16
    joints_vis: Annotated[Sequence[float], SIXTEEN] = (0.0,) * 16
    """Above 0 where a joint is labelled; in our reading of the `.mat` 1 hidden, 2 visible."""
    head: tuple[float, float, float, float] = (np.nan,) * 4
    """Left, top, right, bottom; of the `.mat` alone."""


def read_mpii(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads `mpii_human_pose_v1_u12_1.mat` or train.json / valid.json.

    Row n has annotation id n + 1, in the order of the file (the order of the `.mat` files of
    predictions and ground truth for scoring). The JSON form has no head boxes; those of valid.json
    are taken from a gt_valid.mat beside it, as the references do.

    Args:
        path: the annotation file; the form follows from the ending `.mat`.
        images_dir: folder of the pictures.

    Raises:
        UserError: names the file, the entry and the cure.
    """
    source, from_mat = str(path), str(path).endswith(".mat")
    people = _read_people(path)
    columns: Any
    images, *columns = zip(*map(msgspec.structs.astuple, people), strict=True)
    centres, scales, joints, visibility, heads = (np.array(one, np.float64) for one in columns)
    joints, heads = joints - 1, heads - 1
    visibility = visibility if from_mat else np.where(visibility > 0, 2.0, 0.0)
    names = list(dict.fromkeys(images))
    stems = [name.rsplit(".", 1)[0] for name in names]
    ids = list(dict.fromkeys(int(stem) for stem in stems if stem.isdecimal()))
    labelled = np.where(visibility[..., None] > 0, joints, 0)
    far = ~(np.abs(labelled) < BEYOND).all((1, 2))
    for index in np.flatnonzero(far)[:1]:
        raise UserError(
            f"{source}: person {index} ({images[index]}) has joints that are too large for "
            "any picture. Cure: correct or remove that person"
        )
    heads_file = Path(path).with_name(f"gt_{Path(path).stem}.mat")
    if not from_mat and heads_file.exists():
        heads = _read_heads(heads_file, joints, visibility > 0, source)
    side, place = UNIT * scales, {name: index for index, name in enumerate(names)}
    corner = centres - 1 + scales[:, None] * [0, CENTRE_SHIFT] - side[:, None] / 2
    paths, notes = find_pictures(list(names), images_dir) if images_dir else (tuple(names), [])
    return Annotations(
        schema=MPII_16,
        source=source,
        image_ids=np.array(ids if len(ids) == len(names) else range(1, len(names) + 1)),
        image_paths=paths,
        image_sizes_wh=np.zeros((len(names), 2)),
        annotation_ids=np.arange(1, len(people) + 1),
        image_index=np.array([place[name] for name in images]),
        bbox_xywh=np.column_stack([corner, side, side]),
        keypoints=labelled,
        visibility=visibility,
        area=AREA_FRACTION * side * side,
        is_crowd=np.zeros(len(people)),
        warnings=(
            f"{source}: MPII has no areas; {AREA_FRACTION} x the square of 200 x scale is used "
            "(PCKh does not need it)",
            *(f"{source}: {count} {sentence}" for count, sentence in notes),
        ),
        head_boxes_xyxy=heads if np.isfinite(heads).any() else None,
        clip_boxes=False,
    )


def read_matlab(path: str | Path, kind: str, cure: str, **options: Any) -> dict[str, Any]:
    """`scipy.io.loadmat` in a process of its own: in a damaged file its compiled reader follows
    numbers to memory that is not its own, which ends the process.

    Args:
        path: the file, of MATLAB 4 to 7.2.
        kind: what it should be, for messages.
        cure: what to do where it is not.
        options: of `loadmat`, plain values.

    Raises:
        UserError: missing, damaged, or of another format (7.3 is HDF5).
    """
    command = [sys.executable, "-P", "-c", LOAD_MATLAB, json.dumps(options)]
    content = read_bytes(path)
    with reading(path, kind, cure):
        done = subprocess.run(command, input=content, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ValueError(said[-1] if said else "it is damaged")
        variables: dict[str, Any] = pickle.loads(done.stdout)
    return variables


def _read_people(path: str | Path) -> list[Person]:
    """The annotated people of either form, at places that make sense."""
    if str(path).endswith(".mat"):
        # The test split of the .mat has no joints.
        people = [person for person in _read_mat(path) if any(person.joints_vis)]
    else:
        people = decode(path, str(path), list[Person])
    if not people:
        raise UserError(
            f"{path} holds no annotated person. "
            "Cure: give train.json, valid.json or mpii_human_pose_v1_u12_1.mat"
        )
    for index, person in enumerate(people):
        near = np.abs(person.center).max() < BEYOND and person.scale < BEYOND / UNIT
        if not (near and person.scale > 0):
            raise UserError(
                f"{path}: person {index} ({person.image}) has centre {list(person.center)} and "
                f"scale {person.scale}. Cure: correct or remove that person"
            )
    return people


def _read_heads(path: Path, joints: np.ndarray, labelled: np.ndarray, source: str) -> np.ndarray:
    """(N, 4) head boxes of gt_valid.mat, which has one column a person and counts from 1.

    Raises:
        UserError: the file cannot be read, or is of other people.
    """
    cure = "take it from the download of the references, or away"
    with reading(path, "MPII's head boxes", cure):
        content = read_matlab(path, "a MATLAB file", cure)
        heads = np.asarray(content["headboxes_src"], np.float64).transpose(2, 0, 1) - 1
        theirs = np.moveaxis(np.asarray(content["pos_gt_src"], np.float64), 2, 0) - 1
        marked = np.asarray(content["jnt_missing"]).T == 0
        shapes = [one.shape[1:] for one in (heads, theirs, marked)]
        if shapes != [(2, 2), (16, 2), (16,)]:
            raise ValueError(f"a person has arrays of the shapes {shapes}")
    if not len(heads) == len(theirs) == len(marked) == len(joints):
        raise UserError(
            f"{path} has {len(heads)} people, {source} has {len(joints)}. "
            "Cure: take both from the same download"
        )
    other = ((np.abs(theirs - joints) > 1).any(2) & marked & labelled).any(1)
    for person in np.flatnonzero(other)[:1]:
        raise UserError(
            f"{path}: person {person} has other joints than in {source}. "
            "Cure: take both from the same download"
        )
    return heads.reshape(-1, 4)


def _read_mat(path: str | Path) -> list[Person]:
    """The original structure RELEASE.annolist(i).annorect(j) with annopoints.point(k).{x, y, id,
    is_visible}."""
    title, cure = "MPII annotations", "give mpii_human_pose_v1_u12_1.mat"
    content = read_matlab(path, title, cure, struct_as_record=False, squeeze_me=True)
    with reading(path, title, cure):
        release: Any = content["RELEASE"]
        return _people(release, str(path))


def _people(release: Any, source: str) -> list[Person]:
    people = []
    pictures, in_training = _items(release.annolist), np.atleast_1d(release.img_train)
    for picture, training in zip(pictures, in_training, strict=True):
        for rect in _items(getattr(picture, "annorect", None)):
            scale: Any = getattr(rect, "scale", None)
            objpos: Any = getattr(rect, "objpos", None)
            # the .mat holds people without a rough position, which nobody uses
            if not np.size(scale) or not hasattr(objpos, "x"):
                continue
            x1, y1, x2, y2 = (
                float(one) if np.size(one := getattr(rect, corner, np.nan)) == 1 else np.nan
                for corner in ("x1", "y1", "x2", "y2")
            )
            person = Person(
                image=str(picture.image.name),
                center=(float(objpos.x), float(objpos.y)),
                scale=float(scale),
                head=(x1, y1, x2, y2),
            )
            if training:
                points = _items(getattr(getattr(rect, "annopoints", None), "point", None))
                person.joints, person.joints_vis = _joints(points, f"{source}: {person.image}")
            people.append(person)
    return people


def _joints(points: list[Any], where: str) -> tuple[list[Any], list[float]]:
    """(16, 2) joints and (16,) visibility; a joint that is marked hidden has 1, one without a mark
    (head, neck) 2."""
    joints, visibility = np.zeros((16, 2)), np.zeros(16)
    for point in points:
        if not 0 <= int(point.id) < 16:
            raise UserError(
                f"{where} has a joint of id {point.id}; MPII knows 0 to 15. "
                "Cure: correct that joint"
            )
        joints[int(point.id)] = float(point.x), float(point.y)
        mark = getattr(point, "is_visible", 1)
        visibility[int(point.id)] = 1 if str(mark) in ("0", "0.0") else 2
    return joints.tolist(), visibility.tolist()


def _items(value: Any) -> list[Any]:
    """A MATLAB struct array of any length as a list."""
    return [] if value is None or np.size(value) == 0 else list(np.atleast_1d(value))
