"""Who was followed through a video and for how long; against annotated identities also switches and
interruptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.lines import Line
from simplepose.core.oks import oks
from simplepose.data.annotations import Annotations
from simplepose.data.coco import picture_index
from simplepose.evaluation.tracking import TrackedFrame, clear_mot, clear_pairs, hota, identity

Spans = list[tuple[int, int, int]]
"""First frame, the frame after the last, and a number that is a colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One identity."""

    name: int
    frames: np.ndarray
    """(F,) frames in which it is there, rising."""
    filled: int
    """In how many of them gap filling put it in."""
    score: float
    """Mean pose score."""

    @property
    def spans(self) -> Spans:
        """Its uninterrupted stretches."""
        return [
            (int(part[0]), int(part[-1]) + 1, self.name)
            for part in np.split(self.frames, np.flatnonzero(np.diff(self.frames) > 1) + 1)
        ]

    @property
    def lost(self) -> int:
        """Frames between its first and last in which it is not there."""
        return int(self.frames[-1] - self.frames[0]) + 1 - len(self.frames)


Sighting = tuple[int, int, bool, float]
"""Frame, identity, whether gap filling put it in, and score."""


def sightings_of(lines: Sequence[Line]) -> Iterator[Sighting]:
    """All of a poses.jsonl."""
    for line in lines:
        for person in line.people:
            if person.track_id is not None:
                yield line.frame, person.track_id, person.filled, person.score


def tracks_of(sightings: Iterable[Sighting]) -> list[Track]:
    """The identities of sightings in the order of their frames, as they appear."""
    seen: dict[int, list[tuple[int, bool, float]]] = {}
    for frame, name, filled, score in sightings:
        seen.setdefault(name, []).append((frame, filled, score))
    return [
        Track(
            name,
            np.array([frame for frame, _, _ in rows]),
            sum(filled for _, filled, _ in rows),
            float(np.mean([score for _, _, score in rows])),
        )
        for name, rows in seen.items()
    ]


def against_truth(lines: Sequence[Line], people: Annotations) -> dict[str, Any]:
    """The tracks beside annotated identities; a pair may match from OKS .5 on.

    Args:
        lines: the frames of one video.
        people: of the same pictures, with track ids.

    Returns:
        See `followed`.

    Raises:
        UserError: the annotations have no track ids, or lack a frame.
    """
    if people.track_ids is None:
        raise UserError(
            f"{people.source} has no track_id, so nobody knows who is who. "
            "Cure: annotations with track_id, or leave --annotations out"
        )
    pictures, frames = picture_index(people), []
    for line in lines:
        if line.image_id not in pictures:
            raise UserError(
                f"{people.source} has no picture {line.image_id} (frame {line.frame} of "
                f"{line.source}). Cure: annotations of the same video"
            )
        rows = (people.image_index == pictures[line.image_id]) & (people.track_ids >= 0)
        rows = np.flatnonzero(rows & (people.keypoint_counts > 0) & ~people.is_crowd)
        named = [one for one in line.people if one.track_id is not None]
        found = np.array([one.keypoints for one in named], np.float64)
        found = found.reshape(len(named), -1, 3) if named else np.zeros((0, len(people.schema), 3))
        truth = people.keypoints[rows], found[..., :2], people.area[rows]
        alike = oks(*truth, people.schema.sigmas, people.visibility[rows])
        names = np.array([one.track_id for one in named], np.int64)
        frames.append(TrackedFrame(people.track_ids[rows], names, alike))
    return followed([line.frame for line in lines], frames)


def followed(places: Sequence[int], frames: Sequence[TrackedFrame]) -> dict[str, Any]:
    """How well annotated identities were followed; a pair may match from a similarity of .5 on.

    Args:
        places: of the frames in their sequence.
        frames: who is there.

    Returns:
        `numbers`: name -> MOTA, IDF1 and HOTA (0..1), switches, interruptions, misses and false
        positives; `spans`: annotated identity -> stretches in which it was followed by one
        identity; `switches`: (frame, annotated identity, before, after).
    """
    counts = clear_mot(frames)
    spans, switches, interruptions = _spans(places, frames)
    numbers = {
        "MOTA": counts.mota,
        "IDF1": identity(frames).idf1,
        "HOTA": hota(frames).hota,
        "switches": counts.switches,
        "interruptions": interruptions,
        "misses": counts.misses,
        "false positives": counts.false_positives,
    }
    return {"numbers": numbers, "spans": spans, "switches": switches}


def _spans(
    places: Sequence[int], frames: Sequence[TrackedFrame]
) -> tuple[dict[int, Spans], list[tuple[int, int, int, int]], int]:
    """Stretches of each annotated identity, its switches, and how often it was lost and found
    again."""
    spans: dict[int, Spans] = {}
    switches, interruptions, there = [], 0, set[int]()
    for place, frame, pairs in zip(places, frames, clear_pairs(frames), strict=True):
        now = {int(frame.ids[row]): int(frame.predicted_ids[column]) for row, column in pairs}
        for person, name in now.items():
            own = spans.setdefault(person, [])
            if own and own[-1][2] != name:
                switches.append((place, person, own[-1][2], name))
            if own and person not in there:
                interruptions += 1
            if own and person in there and own[-1][2] == name:
                own[-1] = own[-1][0], place + 1, name
            else:
                own.append((place, place + 1, name))
        there = {*now}
    return spans, switches, interruptions
