"""Several data sets in one training: keypoints mapped by name into one schema, data sets joined,
sigmas from repeated annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError, shown
from simplepose.core.files import read_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import COLUMNS, Annotations
from simplepose.data.categories import plain_name
from simplepose.data.pictures import by_picture

ALIASES = (
    {"head_top", "top_head", "head"},
    {"neck", "upper_neck", "head_bottom"},
    {"pelvis", "mid_hip", "hip_center"},
)
"""Names of one point in different data sets: CrowdPose `head` is MPII `head_top`; CrowdPose `neck`,
MPII `upper_neck` and PoseTrack `head_bottom` are all marked where the neck meets the head. MPII's
`thorax` lies lower and has no partner."""


REPEATED, REPEATED_IOU = 5, 0.5
"""People who must have a keypoint annotated twice, and the IoU of boxes that are of one person."""


def keypoint_indices(source: KeypointSchema, target: KeypointSchema) -> np.ndarray:
    """(K_target,) int64: the keypoint of `source` for each keypoint of `target`, -1 where it has
    none. Exact names go before aliases."""
    names = {plain_name(name): index for index, name in enumerate(source.keypoints)}
    found = []
    for name in map(plain_name, target.keypoints):
        others = chain(*(sorted(group) for group in ALIASES if name in group))
        found.append(next((names[one] for one in (name, *others) if one in names), -1))
    return np.array(found)


def map_annotations(annotations: Annotations, target_schema: KeypointSchema) -> Annotations:
    """The same people with the keypoints of `target_schema`; keypoints that the data set lacks get
    visibility 0 (masked out of the loss).

    Raises:
        UserError: not one keypoint is common.
    """
    source, target = annotations.schema, target_schema
    indices = keypoint_indices(source, target)
    found = indices >= 0
    if not found.any():
        raise UserError(
            f"{annotations.source}: {source.name!r} cannot be mapped to {target.name!r}: none of "
            f"its keypoints {list(source.keypoints)} is one of {list(target.keypoints)}. "
            "Cure: rename the keypoints, or train separately"
        )
    sentence = f"{annotations.source}: {found.sum()} of {len(target)} keypoints of {target.name!r}"
    lacking = [name for name, there in zip(target.keypoints, found, strict=True) if not there]
    dropped = [name for index, name in enumerate(source.keypoints) if index not in indices]
    sentence += f" mapped; lacking {', '.join(lacking) or 'none'}"
    sentence += f"; left out {', '.join(dropped) or 'none'}"
    changed = () if target.keypoints == source.keypoints else (sentence,)
    return replace(
        annotations,
        schema=target,
        keypoints=np.where(found[:, None], annotations.keypoints[:, indices], 0),
        visibility=np.where(found, annotations.visibility[:, indices], 0),
        warnings=(*annotations.warnings, *changed),
    )


def concatenate(parts: Sequence[Annotations]) -> Annotations:
    """Several data sets as one. Ids that collide are renumbered 1..; boxes are clipped first where
    the parts differ in `clip_boxes`.

    Raises:
        UserError: no parts, or parts of different keypoints.
    """
    if not parts:
        raise UserError("no data sets to join. Cure: give at least one")
    first, clip = parts[0], all(part.clip_boxes for part in parts)
    for part in parts:
        if part.schema.keypoints != first.schema.keypoints:
            raise UserError(
                f"{part.source} has the keypoints {part.schema.name!r}, {first.source} "
                f"{first.schema.name!r}. Cure: map them to one schema first"
            )
    if len(parts) == 1:
        return first
    if not clip:
        parts = [
            replace(part, bbox_xywh=part.clipped_bbox_xywh(), clip_boxes=False) for part in parts
        ]
    columns: dict[str, Any] = {name: _joined(name, parts) for name in COLUMNS}
    counts = [len(part.image_ids) for part in parts]
    columns["image_index"] += np.repeat(np.cumsum([0, *counts[:-1]]), [*map(len, parts)])
    for name in ("image_ids", "annotation_ids"):
        columns[name] = _unique_ids(columns[name])
    for name in ("image_paths", "image_extras", "warnings"):
        columns[name] = tuple(chain(*(getattr(part, name) for part in parts)))
    return replace(
        first,
        source=" + ".join(part.source for part in parts),
        joined_files=tuple(chain(*(part.source_files for part in parts))),
        clip_boxes=clip,
        **columns | {"warnings": tuple(dict.fromkeys(columns["warnings"]))},
    )


def _joined(name: str, parts: Sequence[Annotations]) -> np.ndarray | None:
    """Rows of all parts; a column that only some have is filled: track ids with -1, head boxes with
    NaN, `unscored` with False."""
    columns = [getattr(part, name) for part in parts]
    given = next((column for column in columns if column is not None), None)
    if given is None:
        return None
    fill = {"i": -1, "b": False}.get(given.dtype.kind, np.nan)
    filled = [
        np.full((len(part), *given.shape[1:]), fill) if column is None else column
        for column, part in zip(columns, parts, strict=True)
    ]
    return np.concatenate(filled)


def _unique_ids(ids: np.ndarray) -> np.ndarray:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1)


def estimate_sigmas(annotations: Annotations) -> tuple[float, ...]:
    """OKS sigmas from people annotated more than once (two rows of one picture whose boxes overlap
    by `REPEATED_IOU`).

    The OKS paper's definition: sigma_k^2 = E[d_k^2 / s^2], s^2 the area, d_k the distance of an
    annotation from the true position. Two independent annotations differ by the errors of both, so
    E[d_12^2] = 2 E[d^2]. COCO's published k_k is 2 sigma_k, hence the numbers here compare with
    `COCO_17.sigmas`.

    Raises:
        UserError: a keypoint was annotated twice on fewer than `REPEATED` people.
    """
    first, second = _repeated(annotations.select(~annotations.is_crowd))
    both = (first.visibility > 0) & (second.visibility > 0)
    pairs = both.sum(0)
    if (pairs < REPEATED).any():
        names = zip(annotations.schema.keypoints, pairs, strict=True)
        short = ", ".join(f"{name} ({count})" for name, count in names if count < REPEATED)
        raise UserError(
            f"{annotations.source}: fewer than {REPEATED} repeated annotations of {short}. "
            "Cure: annotate more people twice, or give the sigmas in a file"
        )
    scale = np.maximum((first.area.astype(np.float64) + second.area) / 2, 1e-9)
    squared = ((first.keypoints.astype(np.float64) - second.keypoints) ** 2).sum(2)
    mean = (both * squared / scale[:, None]).sum(0) / pairs / 2
    return tuple(np.maximum(np.sqrt(mean), 1e-4).tolist())


def _repeated(people: Annotations) -> tuple[Annotations, Annotations]:
    """The first and second annotation of each person who has two, the closest boxes first; a third
    annotation stays unused."""
    pairs = []
    for rows in by_picture(people):
        boxes = xywh_to_xyxy(people.bbox_xywh[rows])
        overlap = np.triu(iou(boxes, boxes), 1)
        while overlap.max() >= REPEATED_IOU:
            pair = np.unravel_index(np.argmax(overlap), overlap.shape)
            pairs.append(rows[list(pair)])
            overlap[pair, :] = overlap[:, pair] = 0
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return people.select(first), people.select(second)


def read_sigmas(path: str | Path, schema: KeypointSchema) -> tuple[float, ...]:
    """OKS sigmas from a JSON file: a list of K numbers, or an object from keypoint name to number.

    Raises:
        UserError: wrong length (both numbers are named), unknown or missing names, or a value that
            is not positive.
    """
    kind: Any = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]
    names = list(schema.keypoints)
    value, problem = read_json(path), ""
    try:
        sigmas = msgspec.convert(value, dict[str, kind] | list[kind])
    except (msgspec.ValidationError, UnicodeEncodeError):  # half a surrogate pair is no text
        sigmas, problem = [], f"sigmas must be positive numbers, got {shown(value)}"
    if isinstance(sigmas, dict) and (differ := {*sigmas} ^ {*names}):
        absent, unknown = sorted(differ & {*names}), sorted(differ - {*names})
        problem = f"no sigma for {shown(absent)}, unknown keypoints {shown(unknown)}"
    elif len(sigmas) != len(names):
        problem = problem or f"{len(sigmas)} sigmas for {len(names)} keypoints"
    if problem:
        raise UserError(f"{path}: {problem}. Cure: give one positive number for each of {names}")
    return tuple(sigmas[name] for name in names) if isinstance(sigmas, dict) else tuple(sigmas)


def with_sigmas(annotations: Annotations, sigmas: Sequence[float]) -> Annotations:
    """The same people, scored with other OKS sigmas (K numbers; a wrong length is an error of the
    schema)."""
    return replace(annotations, schema=replace(annotations.schema, sigmas=tuple(sigmas)))
