"""Checks of annotations as pure functions: each returns findings with a count, three examples and the cure.

`broken` means that training or an AP would be wrong or 0; `warning` that something deserves a look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.data.annotations import Annotations

Level = Literal["broken", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a data set."""

    level: Level
    """`broken` makes the doctor exit with status 1."""
    problem: str
    """One sentence."""
    count: int
    """How many rows, pictures or keypoints have it."""
    examples: tuple[str, ...] = ()
    """At most three."""
    cure: str = ""
    """What to do."""
    rows: tuple[int, ...] = ()
    """People (indices into the annotations) worth drawing, at most three."""


def check_annotations(annotations: Annotations) -> list[Finding]:
    """All checks that need only the annotations, the gravest first."""
    if not len(annotations):
        return [
            Finding(
                level="broken",
                problem="there is no annotated person: AP would be -1",
                count=0,
                cure="check the exported file",
            )
        ]
    findings = [finding for check in CHECKS for finding in check(annotations)]
    return sorted(findings, key=lambda finding: finding.level)


def check_scorable(annotations: Annotations) -> list[Finding]:
    """Would an AP be -1 whatever the predictions: no keypoints at all, or only crowds; or would nobody be trained on."""
    found = []
    labelled = annotations.keypoint_counts > 0
    if not labelled.any():
        cure = "export the keypoints with visibility 1 or 2; 0 means not labelled"
        found.append(
            _finding(
                annotations,
                ~labelled,
                "broken",
                "no keypoint is labelled: AP would be -1 and nothing could be trained",
                cure,
            )
        )
    elif annotations.is_crowd[labelled].all():
        problem = "everybody with keypoints is marked iscrowd: AP would be -1"
        found.append(
            _finding(
                annotations,
                annotations.is_crowd,
                "broken",
                problem,
                "set iscrowd to 0 for single people",
            )
        )
    elif not len(annotations.trainable()):
        problem = "nobody has both keypoints and a box of positive size inside the picture: nothing could be trained"
        found.append(
            _finding(
                annotations,
                labelled,
                "broken",
                problem,
                "correct bbox, area, and the width and height of the pictures",
            )
        )
    return found


def check_normalised(annotations: Annotations) -> list[Finding]:
    """Coordinates in 0..1 instead of pixels: every OKS would be 0."""
    labelled = annotations.keypoints[annotations.visibility > 0]
    if not len(labelled) or labelled.max() > 1.5 or labelled.min() < -0.5:
        return []
    everybody = annotations.keypoint_counts > 0
    problem = "keypoints lie in 0..1, they are fractions of the picture: OKS and AP against pixels would be 0"
    return [
        _finding(
            annotations,
            everybody,
            "broken",
            problem,
            "multiply x by the width and y by the height of the picture",
        )
    ]


def check_boxes(annotations: Annotations) -> list[Finding]:
    """Boxes without size, outside the picture, or that leave labelled keypoints outside."""
    boxes = xywh_to_xyxy(annotations.bbox_xywh.astype(np.float64))
    matters = (annotations.keypoint_counts > 0) & ~annotations.is_crowd
    empty = matters & ~(annotations.bbox_xywh[:, 2:] > 0).all(1)
    found = _some(
        annotations,
        empty,
        "warning",
        "boxes have no positive width and height; these people are not trained on",
        "correct bbox",
    )
    sizes = annotations.person_sizes_wh
    known = (sizes > 0).all(1)
    outside = (
        matters & ~empty & known & ((boxes[:, :2] >= sizes).any(1) | (boxes[:, 2:] <= 0).any(1))
    )
    found += _some(
        annotations,
        outside,
        "warning",
        "boxes lie wholly outside their picture",
        "correct bbox, or the width and height of the picture",
    )
    corners = _corner_boxes(annotations, matters & ~empty & known)
    if corners.any():
        problem = "boxes look like x1, y1, x2, y2: many reach outside their picture as x, y, width, height, and nearly all fit as corners"
        found += _some(
            annotations,
            corners,
            "broken",
            problem,
            "write bbox as x, y, width, height: x1, y1, x2 - x1, y2 - y1",
        )
    if annotations.clip_boxes and not corners.any():
        over = (
            matters
            & ~empty
            & ~outside
            & known
            & ((boxes[:, :2] < -1).any(1) | (boxes[:, 2:] > sizes + 1).any(1))
        )
        found += _some(
            annotations,
            over,
            "warning",
            "boxes reach outside their picture; training clips them",
            "none needed if that is meant",
        )
    x, y = annotations.keypoints[..., 0], annotations.keypoints[..., 1]
    margin = 0.25 * annotations.bbox_xywh[:, 2:].clip(min=0)
    far_x = (x < (boxes[:, 0] - margin[:, 0])[:, None]) | (
        x > (boxes[:, 2] + margin[:, 0])[:, None]
    )
    far_y = (y < (boxes[:, 1] - margin[:, 1])[:, None]) | (
        y > (boxes[:, 3] + margin[:, 1])[:, None]
    )
    away = (far_x | far_y) & (annotations.visibility > 0)
    lost = matters & ~empty & (2 * away.sum(1) >= annotations.keypoint_counts)
    share = lost.sum() / max(matters.sum(), 1)
    problem = (
        f"people have half or more of their keypoints far outside their box ({share:.0%} of all)"
    )
    cure = "check that bbox is x, y, width, height (not x1, y1, x2, y2) in the same pixels as the keypoints"
    return found + _some(annotations, lost, "broken" if share > 0.2 else "warning", problem, cure)


def _corner_boxes(annotations: Annotations, known: np.ndarray) -> np.ndarray:
    """(N,) bool: the `known` people if their boxes are corners, x1, y1, x2, y2, by all signs; else nobody.

    Nine of ten, read as corners, lie inside their picture and hold their keypoints, and at least a fifth reach well beyond the
    picture when read as x, y, width, height: no true width and height do both.
    """
    low, high = (
        annotations.bbox_xywh[:, None, :2].astype(np.float64),
        annotations.bbox_xywh[:, None, 2:].astype(np.float64),
    )
    sizes, margin = annotations.person_sizes_wh[:, None], 0.25 * (high - low).clip(min=0)
    held = ((annotations.keypoints >= low - margin) & (annotations.keypoints <= high + margin)).all(
        2
    ) | (annotations.visibility == 0)
    fits = np.all((high > low) & (high <= sizes + 1), axis=(1, 2)) & np.all(held, axis=1)
    beyond = np.any(low + high > 1.05 * sizes, axis=(1, 2))
    yes = known.any() and fits[known].mean() >= 0.9 and beyond[known].mean() >= 0.2
    return known if yes else np.zeros_like(known)


def check_keypoints(annotations: Annotations) -> list[Finding]:
    """Labelled keypoints outside the picture, keypoints nobody labelled, visibility that never varies."""
    sizes = annotations.person_sizes_wh[:, None]
    outside = (
        ((annotations.keypoints < -1) | (annotations.keypoints > sizes)).any(2)
        & (annotations.visibility > 0)
        & (sizes > 0).all(2)
    )
    problem = (
        f"people have labelled keypoints outside their picture ({int(outside.sum())} keypoints)"
    )
    found = _some(
        annotations,
        np.any(outside, axis=1),
        "warning",
        problem,
        "set their visibility to 0, or correct the size of the picture",
    )
    at_origin = (annotations.keypoints == 0).all(2) & (annotations.visibility > 0)
    problem = f"people have keypoints at exactly (0, 0) marked as labelled ({int(at_origin.sum())} keypoints)"
    found += _some(
        annotations, np.any(at_origin, axis=1), "warning", problem, "set their visibility to 0"
    )
    never = ~np.any(annotations.visibility > 0, axis=0)
    if never.any() and not never.all():
        names = [
            name for name, absent in zip(annotations.schema.keypoints, never, strict=True) if absent
        ]
        problem = "keypoints are never labelled; the network cannot learn them and they do not count in OKS"
        found.append(
            Finding(
                level="warning",
                problem=problem,
                count=len(names),
                examples=tuple(names[:3]),
                cure="label them, or leave them out",
            )
        )
    return found


def check_sides(annotations: Annotations) -> list[Finding]:
    """Left and right by the mirror test.

    Seen from the front a body's left side lies right in the picture, seen from the back left: the pairs of one person never disagree
    unless it is twisted. A person is suspect where two pairs disagree that are each apart by a fifth of the box. Where both eyes are
    visible the face is seen from the front, so the left eye must lie right of the right one; that also finds names swapped throughout.
    """
    steady = [
        pair
        for pair in annotations.schema.flip_pairs
        if not any(word in annotations.schema.keypoints[pair[0]] for word in LOOSE)
    ]
    if not steady:
        return []
    left, right = np.array(steady).T
    labelled = (
        (annotations.visibility[:, left] > 0)
        & (annotations.visibility[:, right] > 0)
        & ~annotations.is_crowd[:, None]
    )
    apart = (annotations.keypoints[:, left, 0] - annotations.keypoints[:, right, 0]) / np.maximum(
        annotations.bbox_xywh[:, 2:3], 1
    )
    vote = np.sign(apart) * (labelled & (np.abs(apart) > 0.2))
    found = []
    mixed, tested = (vote > 0).any(1) & (vote < 0).any(1), (vote != 0).sum(1) > 1
    share = mixed.sum() / max(tested.sum(), 1)
    if share > 0.03:
        problem = f"people whose left and right disagree between parts of the body ({share:.1%} of {int(tested.sum())} that can be tested)"
        cure = "look at the examples; more than a few per cent mean that left and right are swapped in some keypoints"
        level: Level = "broken" if share > 0.3 and mixed.sum() > 5 else "warning"
        found += _some(annotations, mixed, level, problem, cure)
    eyes = [
        index for index, pair in enumerate(steady) if "eye" in annotations.schema.keypoints[pair[0]]
    ]
    if eyes:
        seen = (annotations.visibility[:, steady[eyes[0]]] == 2).all(1) & (
            np.abs(apart[:, eyes[0]]) > 0.02
        )
        wrong = seen & (apart[:, eyes[0]] < 0)
        if wrong.sum() > 0.5 * max(seen.sum(), 1) and wrong.sum() > 5:
            problem = f"faces have their left eye on the left of the picture ({wrong.sum() / seen.sum():.0%} of {int(seen.sum())} visible faces)"
            cure = "left and right are the person's own, not the viewer's: swap the names, or the coordinates of each pair"
            found += _some(annotations, wrong, "broken", problem, cure)
    return found


LOOSE = (
    "wrist",
    "elbow",
    "knee",
    "ankle",
    "hand",
    "foot",
    "paw",
    "toe",
    "finger",
    "hoof",
    "tail",
    "wing",
)
"""Parts that cross freely: they say nothing of the side a body is seen from."""


def check_duplicates(annotations: Annotations) -> list[Finding]:
    """The same person twice in one picture (boxes with IoU above .95 and the same keypoints), the same file twice."""
    twice = np.zeros(len(annotations), bool)
    order = np.argsort(annotations.image_index, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(annotations.image_index[order])) + 1):
        if len(rows) > 1:
            boxes = xywh_to_xyxy(annotations.bbox_xywh[rows])
            for a, b in np.argwhere(np.triu(iou(boxes, boxes) > 0.95, 1)):
                twice[rows[b]] |= bool(
                    np.abs(annotations.keypoints[rows[a]] - annotations.keypoints[rows[b]]).max()
                    < 1
                )
    found = _some(
        annotations,
        twice,
        "warning",
        "people are annotated twice with the same box and keypoints",
        "remove one of the two",
    )
    paths, counts = np.unique(
        np.array(annotations.image_paths, dtype=object).astype(str), return_counts=True
    )
    again = paths[counts > 1]
    if len(again):
        problem = (
            "pictures are listed more than once; their people would not be matched with one another"
        )
        found.append(
            Finding(
                level="warning",
                problem=problem,
                count=len(again),
                examples=tuple(again[:3].tolist()),
                cure="merge the entries",
            )
        )
    return found


def check_areas(annotations: Annotations) -> list[Finding]:
    """Areas that are zero or larger than the box: the OKS is scaled by them."""
    box_area = annotations.bbox_xywh[:, 2:].clip(min=0).prod(1)
    matters = (annotations.keypoint_counts > 0) & ~annotations.is_crowd
    zero = matters & (annotations.area <= 0)
    share = zero.sum() / max(matters.sum(), 1)
    cure = "leave `area` out (it is then made from the box), or correct it"
    level: Level = "broken" if share > 0.5 else "warning"
    found = _some(
        annotations,
        zero,
        level,
        f"people have area 0: their OKS is 0 whatever the prediction ({share:.0%} of all)",
        cure,
    )
    large = matters & (annotations.area > 1.1 * box_area) & (box_area > 0)
    return found + _some(
        annotations,
        large,
        "warning",
        "people have an area larger than their box, which makes OKS lenient",
        cure,
    )


CHECKS: tuple[Callable[[Annotations], list[Finding]], ...] = (
    check_scorable,
    check_normalised,
    check_boxes,
    check_keypoints,
    check_sides,
    check_duplicates,
    check_areas,
)


def _finding(
    annotations: Annotations, rows: np.ndarray, level: Level, problem: str, cure: str
) -> Finding:
    first = np.flatnonzero(rows)[:3]
    examples = tuple(
        f"annotation {annotations.annotation_ids[row]} in {annotations.image_paths[annotations.image_index[row]].rsplit('/', 1)[-1]}, "
        f"box {annotations.bbox_xywh[row].astype(np.float64).round(1).tolist()}"
        for row in first
    )
    return Finding(
        level=level,
        problem=problem,
        count=int(np.sum(rows)),
        examples=examples,
        cure=cure,
        rows=tuple(first.tolist()),
    )


def _some(
    annotations: Annotations, rows: np.ndarray, level: Level, problem: str, cure: str
) -> list[Finding]:
    return [_finding(annotations, rows, level, problem, cure)] if rows.any() else []
