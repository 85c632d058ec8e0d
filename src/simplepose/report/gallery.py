"""The people that came off worst, ground truth beside what was found, with a line from each wrong
keypoint to its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.structures import Poses
from simplepose.data.annotations import Annotations
from simplepose.data.pictures import read_picture
from simplepose.report.analysis import Analysis, error_counts, worst_people
from simplepose.report.findings import annotated_pose
from simplepose.report.html import data_uri, person_picture, region_around
from simplepose.report.taxonomy import KINDS

Heatmap = Callable[[np.ndarray, np.ndarray], np.ndarray | None]
"""(picture, box (4,) xyxy) -> what the network sees there, or None where it makes no maps."""


class Gallery:
    """The cards of the worst people, with pictures; reads each picture once."""

    def __init__(self, analyses: Sequence[Analysis], heatmap: Heatmap | None = None) -> None:
        self.analyses, self.heatmap = analyses, heatmap
        self.counts = [error_counts(one) for one in analyses]
        self.keypoints = [one.keypoints for one in analyses]
        self.unread = 0
        """Cards whose picture could not be read."""
        self._last: tuple[int, np.ndarray | None] = (-1, None)

    def cards(self, most: int) -> list[dict[str, Any]]:
        """At most `most` people and a fifth as many poses that found nobody, worst first."""
        people = self.analyses[0].people
        chosen = worst_people(self.analyses[0], most)
        for other in self.analyses[1:]:
            chosen += [one for one in worst_people(other, most // 2) if one not in chosen]
        drawn = {
            one: self._person(one) for one in sorted(chosen, key=people.image_index.__getitem__)
        }
        return [*map(drawn.__getitem__, chosen), *self._nobody(most // 5)]

    def _person(self, person: int) -> dict[str, Any]:
        people = self.analyses[0].people
        pose, corners = annotated_pose(people, person)
        found = [one.pose_of[person] for one in self.analyses]
        rows = [
            keypoints[row] if row >= 0 else None
            for keypoints, row in zip(self.keypoints, found, strict=True)
        ]
        counts = self.counts[0][person]
        kinds = {name: int(counts[code]) for code, name in enumerate(KINDS) if code > 1}
        lost = found[0] < 0
        return {
            **self._panels(people.image_index[person], pose, corners, rows, person),
            "title": f"annotation {people.annotation_ids[person]}",
            "oks": f"{self.analyses[0].person_oks[person]:.3f}",
            "all_oks": [f"{one.person_oks[person]:.2f}" for one in self.analyses],
            "size": round(float(np.sqrt(max(people.area[person], 0)))),
            "score": f"{self.analyses[0].rows[found[0]]['score']:.3f}" if not lost else "0",
            "counts": kinds,
            "errors": sum(kinds.values()),
            "kinds": [name for name, n in kinds.items() if n] + ["not found"] * bool(lost),
        }

    def _nobody(self, most: int) -> list[dict[str, Any]]:
        """Poses of the first results that found nobody, the best scores first."""
        first, people = self.analyses[0], self.analyses[0].people
        located = first.taxonomy.located
        poses = np.flatnonzero(located.person[0] < 0)
        poses = poses[np.argsort(-located.scores[poses], kind="stable")][:most]
        numbers = {number: index for index, number in enumerate(people.image_ids.tolist())}
        cards = []
        for row in located.rows[poses].tolist():
            points = self.keypoints[0][row]
            picture = numbers[first.rows[row]["image_id"]]
            blank = [None] * (len(self.analyses) - 1)
            size = float(np.sqrt(np.prod(np.ptp(points[:, :2], axis=0))))
            cards.append(
                {
                    **self._panels(picture, None, points[:, :2], [points, *blank]),
                    "title": f"row {row} of the results",
                    "oks": "0",
                    "all_oks": [],
                    "size": round(size),
                    "score": f"{first.rows[row]['score']:.3f}",
                    "counts": {},
                    "errors": 0,
                    "kinds": ["background FP"],
                }
            )
        return cards

    def _panels(
        self,
        picture: int,
        truth: Poses | None,
        corners: np.ndarray,
        found: Sequence[np.ndarray | None],
        person: int = -1,
    ) -> dict[str, Any]:
        """The pictures of a card: annotated, then each result's; and the heatmaps."""
        people = self.analyses[0].people
        path = Path(people.image_paths[picture])
        card: dict[str, Any] = {"picture": path.name, "panels": [], "heatmap": ""}
        image = self._read(people, int(picture))
        if image is None:
            self.unread += 1
            return card
        region, factor = _region(image, corners, found)
        if truth is None:
            truth = _everybody(people, int(picture))
        panels: list[tuple[str, Poses, list[dict[str, Any]]]] = [("annotated", truth, [])]
        for index, (one, points) in enumerate(zip(self.analyses, found, strict=True)):
            if points is not None:
                box = corners_box(points[:, :2])
                pose = Poses(points[None, :, :2], np.ones((1, len(points))), box[None], np.ones(1))
                marks = self._marks(index, person, region, factor)
                panels.append((one.name if len(self.analyses) > 1 else "found", pose, marks))
        for caption, pose, marks in panels:
            canvas = person_picture(image, region, factor, pose, people.schema)
            height, width = canvas.shape[:2]
            panel = {"caption": caption, "picture": data_uri(canvas), "marks": marks}
            card["panels"].append(panel | {"width": width, "height": height})
        if self.heatmap is not None:
            box = xywh_to_xyxy(people.bbox_xywh[person]) if person >= 0 else corners_box(corners)
            maps = self.heatmap(image, box.astype(np.float64))
            card["heatmap"] = "" if maps is None else data_uri(maps)
        return card

    def _marks(
        self, index: int, person: int, region: np.ndarray, factor: float
    ) -> list[dict[str, Any]]:
        """Lines from each wrong keypoint to its place, in pixels of the panel."""
        if person < 0:
            return []
        one, taxonomy = self.analyses[index], self.analyses[index].taxonomy
        place = np.flatnonzero(taxonomy.located.person[0, taxonomy.poses] == person)
        if not len(place):
            return []
        found = self.keypoints[index][one.pose_of[person], :, :2]
        ends = (np.stack([found, one.people.keypoints[person]], 1) - region[:2]) * factor
        marks = []
        for k in np.flatnonzero(taxonomy.errors.kinds[place[0]] > 1).tolist():
            kind, name = KINDS[taxonomy.errors.kinds[place[0], k]], one.people.schema.keypoints[k]
            likeness = taxonomy.errors.similarity[place[0], k]
            title = f"{name}: {kind}, similarity {likeness:.2f}"
            line = ends[k].ravel().round(1).tolist()
            marks.append({"kind": kind, "title": title, "line": line})
        return marks

    def _read(self, people: Annotations, picture: int) -> np.ndarray | None:
        if self._last[0] != picture:
            try:
                self._last = picture, read_picture(people, picture)
            except UserError:
                self._last = picture, None
        return self._last[1]


def corners_box(points: np.ndarray) -> np.ndarray:
    """(4,) xyxy around points (V, 2)."""
    return np.concatenate([points.min(0), points.max(0)])


def _region(
    image: np.ndarray, corners: np.ndarray, found: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, float]:
    """Around the annotated person, and around poses as far as they are not farther away than half
    of his or her size."""
    low, high = corners.min(0), corners.max(0)
    reach = 0.5 * (high - low)
    near = [points[:, :2].clip(low - reach, high + reach) for points in found if points is not None]
    return region_around(np.concatenate([corners, *near]), (image.shape[1], image.shape[0]))


def _everybody(people: Annotations, picture: int) -> Poses:
    """All annotated people of a picture, labelled or not."""
    rows = np.flatnonzero(people.image_index == picture)
    return Poses(
        people.keypoints[rows],
        (people.visibility[rows] > 0).astype(float),
        xywh_to_xyxy(people.bbox_xywh[rows].astype(np.float64)),
        np.ones(len(rows)),
    )
