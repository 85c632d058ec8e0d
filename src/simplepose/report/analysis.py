"""What a page says of results beside the taxonomy: AP of groups of people, keypoint by keypoint,
what scores mean, which people came off worst, and two results beside each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import hotcoco
import numpy as np
from scipy.stats import binomtest

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.oks import oks
from simplepose.data.annotations import Annotations
from simplepose.data.pictures import by_picture
from simplepose.evaluation.coco import Rows, run_evaluator, score_rows
from simplepose.evaluation.matches import counted_people
from simplepose.pose.calibration import expected_calibration_error
from simplepose.report.taxonomy import (
    EXACT,
    JITTER,
    KINDS,
    NEAR,
    Taxonomy,
    break_down,
    keypoints_of,
)

SIZES = (0, 32, 64, 96, 160, np.inf)
"""Edges of the groups of sqrt(area), pixels."""
OVERLAP = 0.1
"""IoU from which on two annotated boxes crowd each other, as in Ronchi and Perona."""
BOOTSTRAPS = 1000
"""Draws of pictures for the chance of a difference."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Analysis:
    """One set of results against its people."""

    name: str
    """As it was given."""
    people: Annotations
    rows: Rows
    metrics: dict[str, float]
    """The ten COCO numbers."""
    taxonomy: Taxonomy
    person_oks: np.ndarray
    """(N,) of everybody with the pose that found him or her at `LOCATED`; 0 where none did, NaN
    for people who do not count."""
    pose_of: np.ndarray
    """(N,) that pose, an index into `rows`, or -1."""

    @property
    def has_keypoint_scores(self) -> bool:
        """Whether the third number of a keypoint says anything."""
        scores = self.keypoints[..., 2]
        return bool(scores.size) and bool(np.ptp(scores) > 0)

    @property
    def keypoints(self) -> np.ndarray:
        """(D, K, 3) x, y, score of all rows."""
        return keypoints_of(self.rows, len(self.people.schema))


def analyse(name: str, people: Annotations, rows: Rows) -> Analysis:
    """All that is measured once."""
    taxonomy = break_down(people, rows)
    located, counted = taxonomy.located, counted_people(people)
    pose_of, person_oks = np.full(len(people), -1), np.where(counted, 0, np.nan)
    keypoints = keypoints_of(rows, len(people.schema))
    for pose in taxonomy.poses.tolist():
        person, row = located.person[0, pose], located.rows[pose]
        one = slice(person, person + 1)
        alike = oks(
            people.keypoints[one],
            keypoints[row : row + 1, :, :2],
            people.area[one],
            people.schema.sigmas,
            people.visibility[one],
        )
        pose_of[person], person_oks[person] = row, alike[0, 0]
    return Analysis(
        name=name,
        people=people,
        rows=rows,
        metrics=score_rows(people, rows, people.schema.sigmas, "hotcoco"),
        taxonomy=taxonomy,
        person_oks=person_oks,
        pose_of=pose_of,
    )


def groups_of(people: Annotations) -> dict[str, dict[str, np.ndarray]]:
    """What people are grouped by -> group -> (N,) bool, of people who count."""
    counted, count = counted_people(people), len(people.schema)
    size = np.sqrt(people.area.astype(np.float64).clip(0))
    boxes, near = xywh_to_xyxy(people.bbox_xywh.astype(np.float64)), np.zeros(len(people), int)
    for rows in by_picture(people):
        near[rows] = (iou(boxes[rows], boxes[rows]) > OVERLAP).sum(1) - 1
    labelled = people.keypoint_counts
    visible = (people.visibility == 2).sum(1) / np.maximum(labelled, 1)
    edges = np.unique(np.round(np.linspace(0, count, 5)).astype(int)).tolist()
    groups = {
        "size, square root of the area": {
            f"{low} to {high} px" if np.isfinite(high) else f"{low} px and more": (size >= low)
            & (size < high)
            for low, high in pairwise(SIZES)
        },
        "crowding, others whose box overlaps": {
            "nobody": near <= 0,
            "1 or 2": (near > 0) & (near < 3),
            "3 and more": near >= 3,
        },
        "visibility, of the labelled keypoints": {
            "all visible": visible == 1,
            "half or more": (visible >= 0.5) & (visible < 1),
            "less than half": visible < 0.5,
        },
        "number of labelled keypoints": {
            f"{low + 1} to {high}" if high > low + 1 else str(high): (labelled > low)
            & (labelled <= high)
            for low, high in pairwise(edges)
        },
    }
    return {name: {key: one & counted for key, one in by.items()} for name, by in groups.items()}


def group_numbers(people: Annotations, rows: Rows) -> dict[str, dict[str, dict[str, float]]]:
    """The COCO numbers of each group that has people, and its `people`.

    Everybody else is ignored, and so are the poses that found them; poses that found nobody count
    against every group, as in Ronchi and Perona.
    """
    return {
        name: {
            group: {
                "people": int(those.sum()),
                **score_rows(
                    replace(people, unscored=~those), rows, people.schema.sigmas, "hotcoco"
                ),
            }
            for group, those in by.items()
            if those.any()
        }
        for name, by in groups_of(people).items()
    }


def keypoint_table(analysis: Analysis) -> list[dict[str, Any]]:
    """Keypoint by keypoint, of the poses that found somebody: how many are labelled, the fraction
    of each kind of error, the mean similarity."""
    errors, table = analysis.taxonomy.errors, []
    for index, name in enumerate(analysis.people.schema.keypoints):
        kinds = errors.kinds[:, index]
        labelled = int((kinds > 0).sum())
        row: dict[str, Any] = {"name": name, "labelled": labelled}
        for code, kind in enumerate(KINDS[1:], 1):
            row[kind] = (kinds == code).sum() / labelled if labelled else np.nan
        row["similarity"] = np.nanmean(errors.similarity[:, index]) if labelled else np.nan
        table.append(row)
    return table


def calibration_curve(analysis: Analysis) -> tuple[float, list[tuple[float, float, int]]]:
    """What keypoint scores mean: the expected calibration error, and (mean score, fraction right,
    count) of each tenth of 0..1 that has any. Right is a similarity above one half."""
    taxonomy = analysis.taxonomy
    scores = analysis.keypoints[taxonomy.located.rows[taxonomy.poses], :, 2]
    labelled = taxonomy.errors.kinds > 0
    scores, right = scores[labelled], taxonomy.errors.similarity[labelled] > NEAR
    bins = (scores.clip(0, 0.999) * 10).astype(int)
    points = [
        (float(scores[bins == one].mean()), float(right[bins == one].mean()), int(number))
        for one, number in enumerate(np.bincount(bins, minlength=10))
        if number
    ]
    return expected_calibration_error(scores.clip(0, 1), right), points


def worst_people(analysis: Analysis, most: int) -> list[int]:
    """At most `most` people who count, worst first: of each kind of error, and of those whom nobody
    found, about as many as of the others."""
    counted = np.flatnonzero(~np.isnan(analysis.person_oks))
    errors = error_counts(analysis)[counted]
    lost = analysis.pose_of[counted] < 0
    kinds = np.column_stack([lost, errors[:, JITTER:]])
    chosen: list[int] = []
    each = -(-most // kinds.shape[1])
    for column in kinds.T[::-1]:
        order = np.lexsort((analysis.person_oks[counted], -column))
        fresh = [row for row in order.tolist() if column[row] and row not in chosen]
        chosen += fresh[:each]
    chosen += [
        row
        for row in np.argsort(analysis.person_oks[counted], kind="stable").tolist()
        if row not in chosen and analysis.person_oks[counted][row] < EXACT
    ]
    best_last = sorted(chosen[:most], key=lambda row: analysis.person_oks[counted][row])
    return counted[best_last].tolist()


def error_counts(analysis: Analysis) -> np.ndarray:
    """(N, 6) int: keypoints of each of `KINDS` of each person; 0 where nobody found him or her."""
    taxonomy = analysis.taxonomy
    counts = np.zeros((len(analysis.people), len(KINDS)), int)
    person = taxonomy.located.person[0, taxonomy.poses]
    for code in range(len(KINDS)):
        counts[person, code] = (taxonomy.errors.kinds == code).sum(1)
    return counts


def compare(first: Analysis, second: Analysis) -> dict[str, Any]:
    """What the second has more than the first, on the same pictures.

    Returns:
        `metrics`: name -> (difference, lower, upper, chance): its 95 % interval under a bootstrap
        over pictures, and the two-sided chance of a difference like it where there is none;
        `better`, `worse`: pictures whose people's mean OKS rose and fell, and `chance` of that
        split by the sign test.
    """
    sigmas = first.people.schema.sigmas
    both = [
        run_evaluator(
            one.people,
            [{**row, "category_id": one.people.category_id} for row in one.rows],
            sigmas,
            "hotcoco",
        )
        for one in (first, second)
    ]
    found = hotcoco.compare(both[0], both[1], n_bootstrap=BOOTSTRAPS, seed=0)
    turned = hotcoco.compare(both[1], both[0], n_bootstrap=BOOTSTRAPS, seed=0)
    metrics = {}
    for name, interval in found["ci"].items():
        # Draws without any difference speak for both sides.
        above, below = interval["prob_positive"], turned["ci"][name]["prob_positive"]
        chance = min(1.0, 2 * min(1 - above, 1 - below))
        row = found["deltas"][name], interval["lower"], interval["upper"], chance
        metrics[name.upper()] = row
    change = second.person_oks - first.person_oks
    means = [
        np.mean(change[rows][~np.isnan(change[rows])])
        for rows in by_picture(first.people)
        if not np.isnan(change[rows]).all()
    ]
    better, worse = int(np.sum(np.array(means) > 0)), int(np.sum(np.array(means) < 0))
    chance = binomtest(better, better + worse).pvalue if better + worse else 1.0
    return {"metrics": metrics, "better": better, "worse": worse, "chance": float(chance)}
