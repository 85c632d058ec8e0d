"""Identities over time: planted interruptions and switches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_results import write_people

from simplepose import UserError
from simplepose.core.lines import Line, Person
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.report.tracks import against_truth, sightings_of, tracks_of

FRAMES = 8


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    """Two people in eight pictures, identities 1 and 2."""
    return read_coco(write_people(tmp_path, pictures=FRAMES), tmp_path)


def lines_of(people: Annotations, names: list[tuple[int | None, int | None]]) -> list[Line]:
    lines = []
    for frame, pair in enumerate(names):
        both = []
        for side, name in enumerate(pair):
            points = people.keypoints[2 * frame + side].tolist()
            if name is not None:
                both.append(Person(name, 0.5, (0, 0, 9, 9), [(x, y, 0.9) for x, y in points]))
        lines.append(Line(frame, 0.0, "a.mp4", frame + 1, 400, 240, both))
    return lines


def test_spans_and_gaps(people: Annotations) -> None:
    names = [(5, None), (5, None), (None, 7), (5, 7), (None, None), (5, None), (5, None), (5, None)]
    first, second = tracks_of(sightings_of(lines_of(people, names)))
    assert first.spans == [(0, 2, 5), (3, 4, 5), (5, 8, 5)] and first.lost == 2
    assert second.spans == [(2, 4, 7)] and second.lost == 0 and second.score == 0.5
    assert tracks_of(sightings_of(lines_of(people, [(None, None)]))) == []


def test_switches_interruptions_and_misses(people: Annotations) -> None:
    names = [(5, 6), (5, 6), (None, 6), (5, 6), (6, 5), (6, 5), (6, None), (6, 8)]
    found = against_truth(lines_of(people, names), people)
    numbers = found["numbers"]
    assert found["switches"] == [(4, 1, 5, 6), (4, 2, 6, 5), (7, 2, 5, 8)]
    assert (numbers["switches"], numbers["interruptions"], numbers["misses"]) == (3, 2, 2)
    assert numbers["false positives"] == 0 and numbers["MOTA"] == pytest.approx(1 - 5 / 16)
    assert found["spans"][1] == [(0, 2, 5), (3, 4, 5), (4, 8, 6)]


def test_perfect_tracks(people: Annotations) -> None:
    found = against_truth(lines_of(people, [(3, 9)] * FRAMES), people)
    numbers = found["numbers"]
    assert (numbers["MOTA"], numbers["IDF1"], numbers["HOTA"]) == pytest.approx((1, 1, 1))
    assert found["switches"] == [] and found["spans"] == {1: [(0, 8, 3)], 2: [(0, 8, 9)]}


def test_another_video_is_refused(people: Annotations) -> None:
    lines = lines_of(people, [(1, 2)] * 2)
    lines[1].image_id = 99
    with pytest.raises(UserError, match="99"):
        against_truth(lines, people)
    with pytest.raises(UserError, match="track_id"):
        against_truth(lines[:1], replace(people, track_ids=None))
    nobody = against_truth(lines_of(people, [(None, None)]), people)
    assert nobody["numbers"]["misses"] == 2 and np.isfinite(nobody["numbers"]["MOTA"])
