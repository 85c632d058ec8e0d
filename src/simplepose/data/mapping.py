"""Several data sets in one training: keypoints mapped by name into one schema, data sets joined,
sigmas from repeated annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError, shown
from simplepose.core.files import read_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import PER_PERSON, Annotations
from simplepose.data.categories import plain_name

ALIASES = (
    {"head_top", "top_head", "head"},
    {"neck", "upper_neck", "head_bottom"},
    {"pelvis", "mid_hip", "hip_center"},
)
"""Names of one point in different data sets: CrowdPose `head` is MPII `head_top`; CrowdPose `neck`,
MPII `upper_neck` and PoseTrack `head_bottom` are all marked where the neck meets the head. MPII's
`thorax` lies lower and has no partner."""


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
    starts = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    columns = {name: _joined(name, parts) for name in PER_PERSON}
    columns["image_index"] = np.concatenate(
        [part.image_index + start for part, start in zip(parts, starts[:-1], strict=True)]
    )
    columns["annotation_ids"] = _unique_ids(columns["annotation_ids"])
    return replace(
        first,
        source=" + ".join(part.source for part in parts),
        joined_files=tuple(chain(*(part.source_files for part in parts))),
        image_ids=_unique_ids(np.concatenate([part.image_ids for part in parts])),
        image_paths=tuple(chain(*(part.image_paths for part in parts))),
        image_sizes_wh=np.concatenate([part.image_sizes_wh for part in parts]),
        image_extras=tuple(chain(*(part.image_extras for part in parts))),
        warnings=tuple(dict.fromkeys(chain(*(part.warnings for part in parts)))),
        clip_boxes=clip,
        **columns,
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


def estimate_sigmas(
    annotations: Annotations, *, min_iou: float = 0.5, min_pairs: int = 5
) -> tuple[float, ...]:
    """OKS sigmas from people annotated more than once (two rows of one picture whose boxes overlap
    by `min_iou`).

    The OKS paper's definition: sigma_k^2 = E[d_k^2 / s^2], s^2 the area, d_k the distance of an
    annotation from the true position. Two independent annotations differ by the errors of both, so
    E[d_12^2] = 2 E[d^2]. COCO's published k_k is 2 sigma_k, hence the numbers here compare with
    `COCO_17.sigmas`.

    Raises:
        UserError: a keypoint was annotated twice on fewer than `min_pairs` people.
    """
    first, second = _repeated(annotations.select(~annotations.is_crowd), min_iou)
    both = (first.visibility > 0) & (second.visibility > 0)
    pairs = both.sum(0)
    if (pairs < min_pairs).any():
        names = zip(annotations.schema.keypoints, pairs, strict=True)
        short = ", ".join(f"{name} ({count})" for name, count in names if count < min_pairs)
        raise UserError(
            f"{annotations.source}: fewer than {min_pairs} repeated annotations of {short}. "
            "Cure: annotate more people twice, or give the sigmas in a file"
        )
    scale = np.maximum((first.area.astype(np.float64) + second.area) / 2, 1e-9)
    squared = ((first.keypoints.astype(np.float64) - second.keypoints) ** 2).sum(2)
    mean = (both * squared / scale[:, None]).sum(0) / pairs / 2
    return tuple(np.maximum(np.sqrt(mean), 1e-4).tolist())


def _repeated(people: Annotations, min_iou: float) -> tuple[Annotations, Annotations]:
    """The first and second annotation of each person who has two, the closest boxes first; a third
    annotation stays unused."""
    pairs = []
    for image in np.unique(people.image_index):
        rows = np.flatnonzero(people.image_index == image)
        boxes = xywh_to_xyxy(people.bbox_xywh[rows])
        overlap = np.triu(iou(boxes, boxes), 1)
        while overlap.max() >= min_iou:
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
    value, names, problem = read_json(path), list(schema.keypoints), ""
    if isinstance(value, dict):
        absent = [name for name in names if name not in value]
        unknown = [name for name in value if name not in names]
        if absent or unknown:
            problem = f"no sigma for {shown(absent)}, unknown keypoints {shown(unknown)}"
        value = [value.get(name) for name in names]
    elif not isinstance(value, list) or len(value) != len(names):
        have = len(value) if isinstance(value, list) else "no list of"
        problem = f"{have} sigmas for {len(names)} keypoints"
    if not problem and not all(isinstance(one, (int, float)) and 0 < one < 1e9 for one in value):
        problem = f"sigmas must be positive numbers, got {shown(value)}"
    if problem:
        raise UserError(f"{path}: {problem}. Cure: give one positive number for each of {names}")
    return tuple(map(float, value))


def with_sigmas(annotations: Annotations, sigmas: Sequence[float]) -> Annotations:
    """The same people, scored with other OKS sigmas (K numbers; a wrong length is an error of the
    schema)."""
    return replace(annotations, schema=replace(annotations.schema, sigmas=tuple(sigmas)))
