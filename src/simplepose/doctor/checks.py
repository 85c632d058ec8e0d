"""What can be wrong with a data set, and how it is made, as pure functions.

Each check gives findings with a count, three examples and the cure: of annotations, of the pictures
and detections beside them. `broken` means that training or an AP would be wrong or 0; `warning`
that something deserves a look.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from simplepose.config import DataConfig
from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.schema import infer_flip_pairs
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.boxes import CLASSES
from simplepose.data.categories import plain_name
from simplepose.data.coco import read_detections
from simplepose.data.pictures import (
    WrongSizeError,
    by_picture,
    read_picture,
    turned_pictures,
    with_picture_sizes,
)

Level = Literal["broken", "warning"]
LOOSE = "wrist|elbow|knee|ankle|hand|foot|paw|toe|finger|hoof|tail|wing"
"""Parts that cross freely: they say nothing of the side a body is seen from."""
MANY = 0.2
"""The fraction of people or keypoints above which a fault is the whole file's."""
SAME_PIXELS = (
    "give boxes and keypoints in the same pixels as the pictures (not of another resolution), or "
    "correct the width and height of the pictures"
)
SIZE_EDGES = (0, 16, 32, 64, 96, 128, 192, 256, 384, np.inf)
"""Bins of the longer side of a box, pixels."""
ASPECT_EDGES = (0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, np.inf)
"""Bins of width / height."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem of a data set."""

    level: Level
    """`broken` makes the doctor exit with status 1."""
    problem: str
    """One sentence."""
    count: int = 1
    """How many rows, pictures or keypoints have it."""
    examples: Sequence[str] = ()
    """At most three."""
    cure: str = ""
    """What to do."""
    rows: Sequence[int] = ()
    """People (indices into the annotations) worth drawing, at most three."""

    def __str__(self) -> str:
        return f"{self.count} {self.problem}"


Findings = Iterator[Finding]


def _people(
    annotations: Annotations, who: np.ndarray, level: Level, problem: str, cure: str
) -> Findings:
    """One finding of the people of a mask (N,); none where it is empty."""
    rows = np.flatnonzero(who)[:3].tolist()
    names = [Path(annotations.image_paths[annotations.image_index[row]]).name for row in rows]
    boxes = annotations.bbox_xywh[rows].astype(np.float64).round(1).tolist()
    examples = [
        f"annotation {annotations.annotation_ids[row]} in {name}, box {box}"
        for row, name, box in zip(rows, names, boxes, strict=True)
    ]
    if rows:
        count = int(np.sum(who))
        yield Finding(
            level=level, problem=problem, count=count, examples=examples, cure=cure, rows=rows
        )


def _things(names: Sequence[str], level: Level, problem: str, cure: str) -> Findings:
    """One finding of pictures or keypoints; none where there are none."""
    if names:
        yield Finding(level=level, problem=problem, count=len(names), examples=names[:3], cure=cure)


def _level(who: np.ndarray, all_of: np.ndarray) -> Level:
    """Broken where more than a fifth have it: not slips of single rows, but how the file is
    made."""
    return "broken" if who.sum() > MANY * all_of.sum() else "warning"


def _part(who: np.ndarray, all_of: np.ndarray) -> str:
    return f" ({who.sum() / max(all_of.sum(), 1):.0%} of all)"


def _scored(annotations: Annotations) -> np.ndarray:
    """(N,) bool: people with keypoints, no crowds."""
    return (annotations.keypoint_counts > 0) & ~annotations.is_crowd


def check_annotations(annotations: Annotations) -> list[Finding]:
    """All checks that need only the annotations, the gravest first."""
    if not len(annotations):
        problem = "there is no annotated person: AP would be -1"
        return [Finding(level="broken", problem=problem, count=0, cure="check the exported file")]
    checks = BOX_CHECKS if annotations.schema.name == CLASSES else CHECKS
    findings = [finding for check in checks for finding in check(annotations)]
    return sorted(findings, key=lambda finding: finding.level)


def check_scorable(annotations: Annotations) -> Findings:
    """Would an AP be -1 whatever the predictions: no keypoints at all, or only crowds; or would
    nobody be trained on."""
    labelled = annotations.keypoint_counts > 0
    if not labelled.any():
        problem = "no keypoint is labelled: AP would be -1 and nothing could be trained"
        cure = "export the keypoints with visibility 1 or 2; 0 means not labelled"
        yield from _people(annotations, ~labelled, "broken", problem, cure)
    elif annotations.is_crowd[labelled].all():
        problem = "everybody with keypoints is marked iscrowd: AP would be -1"
        cure = "set iscrowd to 0 for single people"
        yield from _people(annotations, annotations.is_crowd, "broken", problem, cure)
    elif np.any([*annotations.left_out().values()], axis=0).all():
        note, cure = annotations.left_out_note()
        problem = f"people, none of whom can be trained on: {note}"
        yield from _people(annotations, labelled, "broken", problem, cure)


def check_normalised(annotations: Annotations) -> Findings:
    """Coordinates in 0..1 instead of pixels: every OKS would be 0."""
    labelled = (annotations.visibility > 0)[..., None]
    low = np.min(annotations.keypoints, axis=(1, 2), where=labelled, initial=np.inf)
    high = np.max(annotations.keypoints, axis=(1, 2), where=labelled, initial=-np.inf)
    small = (low >= -0.5) & (high <= 1.5) & (high > 0)
    if small.sum() > MANY * max((annotations.keypoint_counts > 0).sum(), 1):
        problem = (
            "people have keypoints in 0..1, fractions of the picture: "
            "OKS and AP against pixels would be 0"
        )
        cure = "multiply x by the width and y by the height of the picture"
        yield from _people(annotations, small, "broken", problem, cure)


def check_boxes(annotations: Annotations) -> Findings:
    """Boxes without size, outside the picture, or that leave labelled keypoints outside."""
    corners = xywh_to_xyxy(annotations.bbox_xywh.astype(np.float64))
    low, high = corners[:, :2], corners[:, 2:]
    scored, sizes = _scored(annotations), annotations.person_sizes_wh
    empty = scored & ~(annotations.bbox_xywh[:, 2:] > 0).all(1)
    problem = "boxes have no positive width and height; these people are not trained on"
    yield from _people(annotations, empty, "warning", problem, "correct bbox")
    usable = scored & ~empty
    known = usable & (sizes > 0).all(1)
    outside = known & ((low >= sizes).any(1) | (high <= 0).any(1))
    cure = "correct bbox, or the width and height of the picture"
    level = _level(outside, known)
    if level == "broken":
        cure = SAME_PIXELS
    problem = f"boxes lie wholly outside their picture{_part(outside, known)}"
    yield from _people(annotations, outside, level, problem, cure)
    if _are_corners(annotations, known):
        problem = (
            "boxes look like x1, y1, x2, y2: many reach outside their picture as x, y, width, "
            "height, and nearly all fit as corners"
        )
        cure = "write bbox as x, y, width, height: x1, y1, x2 - x1, y2 - y1"
        yield from _people(annotations, known, "broken", problem, cure)
    elif annotations.clip_boxes:
        over = known & ~outside & ((low < -1).any(1) | (high > sizes + 1).any(1))
        problem = "boxes reach outside their picture; training clips them"
        cure = "none needed if that is meant"
        yield from _people(annotations, over, "warning", problem, cure)
    margin = 0.25 * annotations.bbox_xywh[:, 2:].clip(min=0)
    points = np.moveaxis(annotations.keypoints, 1, 0)
    far = ((points < low - margin) | (points > high + margin)).any(2).T
    away = (far & (annotations.visibility > 0)).sum(1)
    lost = usable & (2 * away >= annotations.keypoint_counts)
    problem = (
        f"people have half or more of their keypoints far outside their box{_part(lost, scored)}"
    )
    cure = (
        "check that bbox is x, y, width, height (not x1, y1, x2, y2) in the same pixels as the "
        "keypoints"
    )
    yield from _people(annotations, lost, _level(lost, scored), problem, cure)


def _are_corners(annotations: Annotations, known: np.ndarray) -> bool:
    """Whether the boxes of the `known` people are corners, x1, y1, x2, y2, by all signs.

    Nine of ten, read as corners, lie inside their picture and hold their keypoints, and at least a
    fifth reach well beyond the picture when read as x, y, width, height: no true width and height
    do both.
    """
    low, high = np.split(annotations.bbox_xywh[:, None].astype(np.float64), 2, axis=2)
    sizes, margin = annotations.person_sizes_wh[:, None], 0.25 * (high - low).clip(min=0)
    points = annotations.keypoints
    held = ((points >= low - margin) & (points <= high + margin)).all(2)
    # of boxes alone the only point is the middle, made from the numbers that are in doubt
    held |= (annotations.visibility == 0) | (annotations.schema.name == CLASSES)
    fits = np.all((high > low) & (high <= sizes + 1), axis=(1, 2)) & held.all(1)
    beyond = np.any(low + high > 1.05 * sizes, axis=(1, 2))
    return bool(known.any() and fits[known].mean() >= 0.9 and beyond[known].mean() >= 0.2)


def check_keypoints(annotations: Annotations) -> Findings:
    """Labelled keypoints outside the picture or at (0, 0), keypoints nobody labelled."""
    sizes, labelled = annotations.person_sizes_wh[:, None], annotations.visibility > 0
    points = annotations.keypoints
    known = labelled & (sizes > 0).all(2)
    outside = ((points < -1) | (points > sizes)).any(2) & known
    problem = (
        "people have labelled keypoints outside their picture "
        f"({outside.sum()} of {known.sum()} keypoints)"
    )
    level = _level(outside, known)
    cure = "set their visibility to 0, or correct the size of the picture"
    cure = SAME_PIXELS if level == "broken" else cure
    yield from _people(annotations, np.any(outside, axis=1), level, problem, cure)
    origin = (points == 0).all(2) & labelled
    problem = (
        f"people have keypoints at exactly (0, 0) marked as labelled ({origin.sum()} keypoints)"
    )
    cure = "set their visibility to 0"
    yield from _people(annotations, origin.any(1), "warning", problem, cure)
    never = np.flatnonzero(~labelled.any(0))
    if len(never) < len(annotations.schema):
        names = [annotations.schema.keypoints[index] for index in never]
        problem = (
            "keypoints are never labelled; the network cannot learn them and they do not count in "
            "OKS"
        )
        yield from _things(names, "warning", problem, "label them, or leave them out")


def check_sides(annotations: Annotations) -> Findings:
    """Left and right: whether they are known, and the mirror test.

    Seen from the front a body's left side lies right in the picture, seen from the back left: the
    pairs of one person never disagree unless it is twisted. A person is suspect where two pairs
    disagree that are each apart by a fifth of the box. Where both eyes are visible the face is seen
    from the front, so the left eye must lie right of the right one; that also finds names swapped
    throughout.
    """
    names = annotations.schema.keypoints
    pairs = annotations.schema.flip_pairs
    problem = (
        "keypoints mirror onto themselves, as no left/right pair is known: mirrored training and "
        "the flip test are off"
    )
    cure = "name the pairs, --data.flip-pairs FILE, or call them left_... and right_..."
    yield from _things([] if pairs else names, "warning", problem, cure)
    plain = list(map(plain_name, names))
    # the order of pairs that somebody listed need not be left, right
    named = {*infer_flip_pairs(names), *infer_flip_pairs(plain)} & {*pairs}
    steady = [one for one in pairs if one in named and not re.search(LOOSE, names[one[0]])]
    left, right = np.array(steady, np.int64).reshape(-1, 2).T
    seen = np.minimum(annotations.visibility[:, left], annotations.visibility[:, right])
    apart = annotations.keypoints[:, left, 0] - annotations.keypoints[:, right, 0]
    apart /= np.maximum(annotations.bbox_xywh[:, 2:3], 1)
    counts = (seen > 0) & ~annotations.is_crowd[:, None] & (np.abs(apart) > 0.2)
    mixed = (counts & (apart > 0)).any(1) & (counts & (apart < 0)).any(1)
    tested = int((counts.sum(1) > 1).sum())
    fraction = mixed.sum() / max(tested, 1)
    if fraction > 0.03:
        problem = (
            "people whose left and right disagree between parts of the body "
            f"({fraction:.1%} of {tested} that can be tested)"
        )
        cure = (
            "look at the examples; more than a few per cent mean that left and right are swapped "
            "in some keypoints"
        )
        level: Level = "broken" if fraction > 0.3 and mixed.sum() > 5 else "warning"
        yield from _people(annotations, mixed, level, problem, cure)
    eyes = [index for index, pair in enumerate(steady) if "eye" in names[pair[0]]][:1]
    faces = ((seen[:, eyes] == 2) & (np.abs(apart[:, eyes]) > 0.02)).any(1)
    wrong = faces & (apart[:, eyes] < 0).any(1)
    if wrong.sum() > max(0.5 * faces.sum(), 5):
        problem = (
            "faces have their left eye on the left of the picture "
            f"({wrong.sum() / faces.sum():.0%} of {faces.sum()} visible faces)"
        )
        cure = (
            "left and right are the person's own, not the viewer's: swap the names, or the "
            "coordinates of each pair"
        )
        yield from _people(annotations, wrong, "broken", problem, cure)


def check_duplicates(annotations: Annotations) -> Findings:
    """The same person twice in one picture (the same keypoints, and boxes that differ by less than
    2 % of their longer side), the same file twice."""
    twice = np.zeros(len(annotations), bool)
    boxes = xywh_to_xyxy(annotations.bbox_xywh)
    order = np.argsort(annotations.image_index, kind="stable")
    pictures = annotations.image_index[order]
    for step in range(1, int(np.bincount(pictures).max(initial=1))):
        same = pictures[step:] == pictures[:-step]
        a, b = order[:-step][same], order[step:][same]
        sides = annotations.bbox_xywh[a, 2:].max(1, keepdims=True)
        alike = (np.abs(boxes[a] - boxes[b]) < 0.02 * sides).all(1)
        alike &= (np.abs(annotations.keypoints[a] - annotations.keypoints[b]) < 1).all((1, 2))
        twice[b[alike]] = True
    problem = "people are annotated twice with the same box and keypoints"
    yield from _people(annotations, twice, "warning", problem, "remove one of the two")
    paths, counts = np.unique(np.array(annotations.image_paths, str), return_counts=True)
    problem = (
        "pictures are listed more than once; their people would not be matched with one another"
    )
    yield from _things(paths[counts > 1].tolist(), "warning", problem, "merge the entries")


def check_areas(annotations: Annotations) -> Findings:
    """Areas that are zero, tiny or larger than the box: the OKS is scaled by them. Those of whole
    pictures make every pose right."""
    scored, box_area = _scored(annotations), annotations.bbox_xywh[:, 2:].clip(min=0).prod(1)
    zero = scored & (annotations.area <= 0)
    cure = "leave `area` out (it is then made from the box), or correct it"
    problem = f"people have area 0: their OKS is 0 whatever the prediction{_part(zero, scored)}"
    yield from _people(annotations, zero, _level(zero, scored), problem, cure)
    tiny = scored & ~zero & (annotations.area < 0.01 * box_area)
    problem = f"people have an area below 1 % of their box{_part(tiny, scored)}: AP will be about 0"
    yield from _people(annotations, tiny, _level(tiny, scored), problem, cure)
    huge = scored & (annotations.area > 4 * box_area) & (box_area > 0)
    problem = f"people have an area above 4 x their box{_part(huge, scored)}: AP will be too high"
    yield from _people(annotations, huge, _level(huge, scored), problem, cure)
    large = scored & ~huge & (annotations.area > 1.1 * box_area) & (box_area > 0)
    problem = "people have an area larger than their box, which makes OKS lenient"
    yield from _people(annotations, large, "warning", problem, cure)


CHECKS = (
    check_normalised,
    check_boxes,
    check_scorable,
    check_keypoints,
    check_sides,
    check_duplicates,
    check_areas,
)
BOX_CHECKS = (check_boxes, check_duplicates)
"""Those of a file of boxes alone, read for a detector."""


def check_images(annotations: Annotations, limit: int | None = 200) -> list[Finding]:
    """Missing pictures (all are looked up), unreadable ones and wrong sizes (`limit` spread over
    the set are decoded; None: all)."""
    used = np.unique(annotations.image_index)
    paths = {index: annotations.image_paths[index] for index in used.tolist()}
    present = [index for index, path in paths.items() if os.path.exists(path)]
    missing = [paths[index] for index in sorted({*paths} - {*present})]
    count = len(present) if limit is None else min(limit, len(present))
    chosen = np.linspace(0, len(present) - 1, count).astype(int)
    unreadable, resized = [], []
    for index in (present[place] for place in chosen):
        try:
            read_picture(annotations, index)
        except WrongSizeError as error:
            resized.append(error.problem)
        except UserError as error:
            unreadable.append(error.problem)
    without = "training can leave them out with --data.skip-broken"
    return [
        *_things(
            missing,
            "broken",
            f"pictures with people are missing ({len(missing)} of {len(paths)})",
            f"correct --images, or copy the pictures; {without}",
        ),
        *_things(
            unreadable,
            "broken",
            f"pictures cannot be read ({len(unreadable)} of {count} looked at)",
            f"copy them again; {without}",
        ),
        *_things(
            resized,
            "broken",
            "pictures have another size than annotated, so keypoints would be off "
            f"({len(resized)} of {count} looked at)",
            "use the pictures that were annotated, or scale the annotations; where EXIF explains "
            "it, --data.upright",
        ),
        *_things(
            [] if resized else turned_pictures(annotations, limit),
            "warning",
            "pictures carry an EXIF orientation; they are used as stored",
            "if they were annotated upright (do keypoints stand right in the examples?), "
            "--data.upright; else none is needed",
        ),
    ]


def check_detections(
    path: str | Path, annotations: Annotations
) -> tuple[list[Finding], Detections | None, float]:
    """Findings on a detection file, its boxes (None where it cannot be used), and the fraction of
    the people with keypoints who have a box of IoU 0.5."""
    try:
        detections = read_detections(path, annotations)
    except UserError as error:
        problem = f"{error.problem} AP would be 0"
        return [Finding(level="broken", problem=problem, cure=error.cure)], None, 0.0
    cure = "none needed if meant"
    found = [
        Finding(level="warning", problem=f"boxes {what} ({path})", count=count, cure=cure)
        for count, what in detections.notes
    ]
    if detections.boxes_xyxy.max() <= 1.5:
        problem = "boxes lie in 0..1, they are fractions of the picture: AP would be 0"
        cure = "multiply by the width and height of the picture"
        found.append(Finding(level="broken", problem=problem, count=len(detections), cure=cure))
    best, scored = coverage(annotations, detections), _scored(annotations)
    covered = float((best[scored] >= 0.5).mean()) if scored.any() else float("nan")
    if covered < 0.8:
        problem = (
            "people with keypoints have no detection of IoU 0.5 or more "
            f"({1 - covered:.0%}): they bound AP and AR from above"
        )
        cure = (
            "check that bbox is x, y, width, height in pixels, that low scores are kept, and that "
            "pictures match"
        )
        level: Level = "broken" if covered < 0.05 else "warning"
        found += _people(annotations, scored & (best < 0.5), level, problem, cure)
    return found, detections, covered


def coverage(annotations: Annotations, detections: Detections) -> np.ndarray:
    """(N,) the best IoU of each annotated person with any detection of the picture; 0 where there
    is none."""
    best, boxes = np.zeros(len(annotations)), xywh_to_xyxy(annotations.bbox_xywh)
    found = {detections.image_index[one[0]]: one for one in by_picture(detections)}
    for rows in by_picture(annotations):
        there = found.get(annotations.image_index[rows[0]])
        if there is not None:
            best[rows] = iou(boxes[rows], detections.boxes_xyxy[there]).max(1)
    return best


def overview(annotations: Annotations) -> dict[str, int]:
    """Counts of pictures, people and keypoints."""
    return {
        "pictures": len(annotations.image_ids),
        "pictures with people": len(np.unique(annotations.image_index)),
        "people": len(annotations),
        "people with keypoints": int((annotations.keypoint_counts > 0).sum()),
        "crowds": int(annotations.is_crowd.sum()),
        "people to train on": int((~np.any([*annotations.left_out().values()], axis=0)).sum()),
        "labelled keypoints": int(annotations.keypoint_counts.sum()),
        "of these hidden": int((annotations.visibility == 1).sum()),
    }


def histograms(annotations: Annotations) -> dict[str, dict[str, int]]:
    """Title -> bin -> count: people a picture; longer side and width / height of the boxes of
    people with keypoints; how often each keypoint is labelled."""
    people = annotations.select(_scored(annotations))
    crowding = np.bincount(annotations.image_index, minlength=len(annotations.image_ids))
    widths, heights = people.bbox_xywh[:, 2:].T
    labelled = (people.visibility > 0).sum(0).tolist()
    are_boxes = annotations.schema.name == CLASSES
    return {
        "people per picture": dict(
            zip(
                [*map(str, range(10)), "10 or more"],
                np.bincount(np.minimum(crowding, 10), minlength=11).tolist(),
                strict=True,
            )
        ),
        "longer side of the box, pixels": _binned(np.maximum(widths, heights), SIZE_EDGES),
        "width / height of the box": _binned(widths / np.maximum(heights, 1e-6), ASPECT_EDGES),
        "boxes of a class" if are_boxes else "people on whom a keypoint is labelled": dict(
            zip(annotations.schema.keypoints, labelled, strict=True)
        ),
    }


def _binned(values: np.ndarray, edges: Sequence[float]) -> dict[str, int]:
    names = [
        f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        for low, high in pairwise(edges)
    ]
    return dict(zip(names, np.histogram(values, edges)[0].tolist(), strict=True))


def require_sound(annotations: Annotations, config: DataConfig) -> Annotations:
    """The same annotations, if the doctor finds nothing broken in them.

    Args:
        annotations: N people in M pictures; without any there is nothing to check.
        config: `accept_findings` goes on.

    Returns:
        `warnings` name the findings that were accepted.

    Raises:
        UserError: something is broken; names the first finding and how many more there are.
    """
    if not len(annotations):
        return annotations
    sized = with_picture_sizes(annotations, skip_broken=True)
    broken = [found for found in check_annotations(sized) if found.level == "broken"]
    notes = [f"accepted: {found}" for found in broken]
    if broken and not config.accept_findings:
        first, examples = broken[0], "; ".join(broken[0].examples)
        more = f"; and {len(broken) - 1} more findings" if len(broken) > 1 else ""
        raise UserError(
            f"{annotations.source}: {first} ({examples}){more}. "
            f"Cure: {first.cure}; simplepose doctor shows all, --data.accept-findings goes on"
        )
    said = [f"{annotations.source}: {note}" for note in notes]
    return replace(annotations, warnings=(*annotations.warnings, *said))
