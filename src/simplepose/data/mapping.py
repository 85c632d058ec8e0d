"""Several data sets in one training: keypoints mapped by name into one schema, data sets joined, sigmas from repeated annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import read_json
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import PER_PERSON, Annotations
from simplepose.data.categories import plain_name

ALIASES = (
    {"head_top", "top_head", "head"},
    {"neck", "upper_neck", "head_bottom"},
    {"pelvis", "mid_hip", "hip_center"},
)
"""Names of one place in different data sets: CrowdPose `head` is MPII `head_top`; CrowdPose `neck`, MPII `upper_neck` and PoseTrack
`head_bottom` are all marked where the neck meets the head. MPII's `thorax` lies lower and has no partner."""


def keypoint_places(source: KeypointSchema, target: KeypointSchema) -> np.ndarray:
    """(K_target,) int64: the keypoint of `source` for each keypoint of `target`, -1 where it has none. Exact names go before aliases."""
    names = {plain_name(name): index for index, name in enumerate(source.keypoints)}
    places = np.full(len(target), -1)
    for index, name in enumerate(map(plain_name, target.keypoints)):
        aliases = next((group for group in ALIASES if name in group), set())
        places[index] = names.get(
            name, next((names[alias] for alias in sorted(aliases) if alias in names), -1)
        )
    return places


def map_annotations(annotations: Annotations, target_schema: KeypointSchema) -> Annotations:
    """The same people with the keypoints of `target_schema`; keypoints that the data set lacks get visibility 0 (masked out of the loss).

    Raises:
        UserError: not one keypoint is common.
    """
    places = keypoint_places(annotations.schema, target_schema)
    found = places >= 0
    if not found.any():
        raise UserError(
            f"{annotations.source}: none of its keypoints {list(annotations.schema.keypoints)} is one of {list(target_schema.keypoints)}, "
            f"so {annotations.schema.name!r} cannot be mapped to {target_schema.name!r}. Cure: rename the keypoints, or train separately"
        )
    keypoints = np.where(found[:, None], annotations.keypoints[:, places], 0)
    visibility = np.where(found, annotations.visibility[:, places], 0)
    dropped = [
        name for index, name in enumerate(annotations.schema.keypoints) if index not in places
    ]
    lacking = [
        name for name, there in zip(target_schema.keypoints, found, strict=True) if not there
    ]
    sentence = f"{annotations.source}: {int(found.sum())} of {len(target_schema)} keypoints of {target_schema.name!r} mapped"
    sentence += f"; lacking {', '.join(lacking)}" if lacking else ""
    sentence += f"; left out {', '.join(dropped)}" if dropped else ""
    changed = () if target_schema.keypoints == annotations.schema.keypoints else (sentence,)
    return replace(
        annotations,
        schema=target_schema,
        keypoints=keypoints,
        visibility=visibility,
        warnings=(*annotations.warnings, *changed),
    )


def concatenate(parts: Sequence[Annotations]) -> Annotations:
    """Several data sets as one. Ids that collide are renumbered 1..; boxes are clipped first where the parts differ in `clip_boxes`.

    Raises:
        UserError: no parts, or parts of different keypoints.
    """
    if not parts:
        raise UserError("no data sets to join. Cure: give at least one")
    schema = parts[0].schema
    for part in parts:
        if part.schema.keypoints != schema.keypoints:
            raise UserError(
                f"{part.source} has the keypoints {part.schema.name!r}, {parts[0].source} {schema.name!r}. "
                "Cure: map_annotations(.., schema) first"
            )
    if len(parts) == 1:
        return parts[0]
    clip = all(part.clip_boxes for part in parts)
    if not clip:
        parts = [
            replace(part, bbox_xywh=part.clipped_bbox_xywh(), clip_boxes=False) for part in parts
        ]
    starts = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    columns: dict[str, Any] = {
        name: _joined([getattr(part, name) for part in parts], parts)
        for name in PER_PERSON - {"image_index"}
    }
    columns["image_index"] = np.concatenate(
        [part.image_index + start for part, start in zip(parts, starts[:-1], strict=True)]
    )
    columns["annotation_ids"] = _unique_ids([part.annotation_ids for part in parts])
    extras = any(part.image_extras is not None for part in parts)
    return replace(
        parts[0],
        source=" + ".join(part.source for part in parts),
        joined_files=tuple(file for part in parts for file in part.source_files),
        image_ids=_unique_ids([part.image_ids for part in parts]),
        image_paths=tuple(path for part in parts for path in part.image_paths),
        image_sizes_wh=np.concatenate([part.image_sizes_wh for part in parts]),
        image_extras=tuple(
            e for part in parts for e in part.image_extras or ({},) * len(part.image_ids)
        )
        if extras
        else None,
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        clip_boxes=clip,
        **columns,
    )


def estimate_sigmas(
    annotations: Annotations, *, min_iou: float = 0.5, min_pairs: int = 5
) -> tuple[float, ...]:
    """OKS sigmas from people annotated more than once (two rows of one picture whose boxes overlap by `min_iou`).

    The OKS paper's definition: sigma_k^2 = E[d_k^2 / s^2], s^2 the area, d_k the distance of an annotation from the true position. Two
    independent annotations differ by the errors of both, so E[d_12^2] = 2 E[d^2]. COCO's published k_k is 2 sigma_k, hence the
    numbers here compare with `COCO_17.sigmas`.

    Raises:
        UserError: a keypoint was annotated twice on fewer than `min_pairs` people.
    """
    total, pairs = np.zeros(len(annotations.schema)), np.zeros(len(annotations.schema), int)
    order = np.argsort(annotations.image_index, kind="stable")
    for rows in (
        np.split(order, np.flatnonzero(np.diff(annotations.image_index[order])) + 1)
        if len(order)
        else []
    ):
        rows = rows[~annotations.is_crowd[rows]]
        overlap = np.triu(iou(*(xywh_to_xyxy(annotations.bbox_xywh[rows]),) * 2), 1)
        while (
            overlap.size and overlap.max() >= min_iou
        ):  # the closest two are one person; a third annotation of it stays unused
            first, second = np.unravel_index(np.argmax(overlap), overlap.shape)
            overlap[[first, second]] = overlap[:, [first, second]] = 0
            a, b = rows[first], rows[second]
            both = (annotations.visibility[[a, b]] > 0).all(0)
            scale = max((float(annotations.area[a]) + float(annotations.area[b])) / 2, 1e-9)
            squared = (
                (annotations.keypoints[a].astype(np.float64) - annotations.keypoints[b]) ** 2
            ).sum(1) / scale
            total += np.where(both, squared / 2, 0)
            pairs += both
    short = [
        f"{name} ({count})"
        for name, count in zip(annotations.schema.keypoints, pairs, strict=True)
        if count < min_pairs
    ]
    if short:
        raise UserError(
            f"{annotations.source}: fewer than {min_pairs} repeated annotations of {', '.join(short)}. "
            "Cure: annotate more people twice, or give the sigmas in a file"
        )
    return tuple(float(sigma) for sigma in np.maximum(np.sqrt(total / pairs), 1e-4))


def read_sigmas(path: str | Path, schema: KeypointSchema) -> tuple[float, ...]:
    """OKS sigmas from a JSON file: a list of K numbers, or an object from keypoint name to number.

    Raises:
        UserError: wrong length (both numbers are named), unknown or missing names, or a value that is not positive.
    """
    value = read_json(path)
    if isinstance(value, dict):
        absent, unknown = (
            sorted(set(schema.keypoints) - set(value)),
            sorted(set(value) - set(schema.keypoints)),
        )
        if absent or unknown:
            raise UserError(
                f"{path}: no sigma for {absent}, unknown keypoints {unknown}. Cure: one number for each of {list(schema.keypoints)}"
            )
        value = [value[name] for name in schema.keypoints]
    if not isinstance(value, list) or len(value) != len(schema):
        have = len(value) if isinstance(value, list) else "no list of"
        raise UserError(
            f"{path}: {have} sigmas for {len(schema)} keypoints. Cure: one number for each of {list(schema.keypoints)}"
        )
    if not all(
        isinstance(sigma, (int, float)) and np.isfinite(sigma) and sigma > 0 for sigma in value
    ):
        raise UserError(
            f"{path}: sigmas must be positive numbers, got {value}. Cure: correct the file"
        )
    return tuple(float(sigma) for sigma in value)


def with_sigmas(annotations: Annotations, sigmas: Sequence[float]) -> Annotations:
    """The same people, scored with other OKS sigmas (K numbers; a wrong length is an error of the schema)."""
    return replace(
        annotations, schema=replace(annotations.schema, sigmas=tuple(map(float, sigmas)))
    )


def _joined(columns: list[np.ndarray | None], parts: Sequence[Annotations]) -> np.ndarray | None:
    """Rows of all parts; a column that only some have is filled: track ids with -1, head boxes with NaN, `unscored` with False."""
    given = next((column for column in columns if column is not None), None)
    if given is None:
        return None
    fill = {"i": -1, "b": False}.get(given.dtype.kind, np.nan)
    filled = [
        np.full((len(part), *given.shape[1:]), fill, given.dtype) if column is None else column
        for column, part in zip(columns, parts, strict=True)
    ]
    return np.concatenate(filled)


def _unique_ids(ids: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(ids)
    return joined if len(np.unique(joined)) == len(joined) else np.arange(1, len(joined) + 1)
