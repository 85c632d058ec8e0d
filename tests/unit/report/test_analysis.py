"""Groups, keypoints, calibration, worst people and differences of drawn results, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_results import write_people, write_results

from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.evaluation.coco import evaluate_coco, read_results
from simplepose.report.analysis import (
    Analysis,
    analyse,
    calibration_curve,
    compare,
    error_counts,
    group_numbers,
    groups_of,
    keypoint_table,
    worst_people,
)
from simplepose.report.charts import Series, line_chart, ticks


@pytest.fixture
def both(tmp_path: Path) -> tuple[Analysis, Analysis]:
    """The same eight people: spoilt results, and exact ones."""
    path = write_people(tmp_path)
    people = read_coco(path, tmp_path)
    files = [write_results(tmp_path / f"{flag}.json", path, spoil=flag) for flag in (True, False)]
    first, second = (analyse(file.name, people, read_results(file, people)) for file in files)
    return first, second


def test_people_and_their_errors(both: tuple[Analysis, Analysis]) -> None:
    first, second = both
    assert error_counts(first)[:, 3:].tolist() == [
        [4, 0, 0],
        [0, 7, 0],
        [0, 0, 5],
        *[[0, 0, 0]] * 5,
    ]
    assert first.pose_of.tolist() == [0, 1, 2, 3, 4, -1, 5, 6]
    assert first.person_oks[5] == 0 and first.person_oks[[3, 4, 6, 7]] == pytest.approx(1)
    assert second.person_oks == pytest.approx(np.ones(8))
    assert set(worst_people(first, 60)) == {0, 1, 2, 5} and worst_people(first, 60)[0] == 5
    assert len(worst_people(first, 2)) == 2 and worst_people(second, 60) == []


def test_keypoint_table(both: tuple[Analysis, Analysis]) -> None:
    rows = {row["name"]: row for row in keypoint_table(both[0])}
    nose, elbow, knee = rows["nose"], rows["left_elbow"], rows["left_knee"]
    assert (nose["labelled"], nose["swap"], nose["good"]) == (7, 1 / 7, 6 / 7)
    assert elbow["inversion"] == 1 / 7 and knee["miss"] == 1 / 7
    assert rows["left_hip"]["good"] == 1 and rows["left_hip"]["similarity"] == pytest.approx(1)


def test_calibration_curve(both: tuple[Analysis, Analysis]) -> None:
    error, points = calibration_curve(both[0])
    scores = np.tile(np.linspace(0.2, 0.9, 17), (7, 1))
    right = np.ones((7, 17))
    right[0, 7:11], right[1, :7], right[2, 12:] = 0, 0, 0
    bins = np.floor(scores * 15).astype(int)
    gaps = [abs((scores - right)[bins == one].sum()) for one in range(15)]
    assert error == pytest.approx(sum(gaps) / scores.size)
    assert sum(count for _, _, count in points) == scores.size
    assert sum(part * count for _, part, count in points) == pytest.approx(right.sum())


def test_groups_hold_everybody_once(both: tuple[Analysis, Analysis]) -> None:
    people = both[0].people
    crowd = np.arange(8) == 7
    people = replace(people, is_crowd=crowd)
    for by in groups_of(people).values():
        assert (np.sum([*by.values()], axis=0) == ~crowd).all()


def test_group_by_hand(both: tuple[Analysis, Analysis]) -> None:
    people, rows = both[1].people, [*both[1].rows]
    del rows[5]
    area, visibility = people.area.copy(), people.visibility.copy()
    area[:4], visibility[:2, 3:] = 300, 0
    people = replace(people, area=area, visibility=visibility)
    numbers = group_numbers(people, rows)
    assert {k: v["people"] for k, v in numbers["size, square root of the area"].items()} == {
        "0 to 32 px": 4,
        "64 to 96 px": 4,
    }
    assert {k: v["people"] for k, v in numbers["number of labelled keypoints"].items()} == {
        "1 to 4": 2,
        "14 to 17": 6,
    }
    # of the four large ones one was not found: recall stops at 3/4 and precision is 1
    large = numbers["size, square root of the area"]["64 to 96 px"]
    assert large["AP"] == pytest.approx(76 / 101) and large["AR"] == 0.75


def test_differences(both: tuple[Analysis, Analysis]) -> None:
    first, second = both
    found = compare(first, second)
    change, low, high, chance = found["metrics"]["AP"]
    sigmas = first.people.schema.sigmas
    numbers = [evaluate_coco(one.people, one.rows, sigmas=sigmas)["AP"] for one in both]
    assert change == pytest.approx(numbers[1] - numbers[0]) and low <= change <= high
    assert 0 <= chance <= 1 and {"APM", "APL", "AR75"} <= found["metrics"].keys()
    assert (found["better"], found["worse"], found["chance"]) == (3, 0, 0.25)
    same = compare(first, first)
    assert same["metrics"]["AP"][:3] == (0, 0, 0) and same["chance"] == 1
    assert same["metrics"]["AP"][3] == 1, "no difference is no surprise"


def test_no_people_and_no_poses(both: tuple[Analysis, Analysis]) -> None:
    people: Annotations = both[0].people
    nothing = analyse("nothing", people, [])
    assert nothing.metrics["AP"] == 0 and not nothing.has_keypoint_scores
    assert np.isnan(calibration_curve(nothing)[0]) and keypoint_table(nothing)[0]["labelled"] == 0
    nobody = analyse("nobody", people.select(np.zeros(8, bool)), both[0].rows)
    assert worst_people(nobody, 10) == [] and not any(group_numbers(nobody.people, []).values())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 3, [1, 2, 3, 4, 5]),
        (0, 0, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        (1e-5, 4e-5, [1e-5, 2e-5, 3e-5, 4e-5]),
        (-7, 230, [-50, 0, 50, 100, 150, 200, 250]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, expected: list[float]) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert np.allclose(np.diff(found), found[1] - found[0])
    if low != high:
        assert found == pytest.approx(expected)


def test_chart_places_points_and_escapes(both: tuple[Analysis, Analysis]) -> None:
    line = Series("<b>", [0, 1, float("nan")], [0, 1, 5], dots=True)
    text = str(line_chart([line], "x", "y & z", x_range=(0, 1), y_range=(0, 1)))
    assert '<polyline points="62.0,216.0 408.0,10.0"' in text and text.count("<circle") == 2
    assert "&lt;b&gt;" in text and "y &amp; z" in text and "<b>" not in text
    assert "<svg" in line_chart([], "x", "y")


def test_published_network_by_group(real_data: Callable[[str], Path]) -> None:
    """A group's AP is that of the file in which everybody else is a crowd."""
    folder = real_data("coco_val2017_visible150")
    people = read_coco(folder / "person_keypoints_val2017_visible150.json", None)
    results = real_data("reference_results_visible150") / "ultralight_visible150_gtbbox_flip.json"
    rows = read_results(results, people)
    ours = group_numbers(people, rows)["visibility, of the labelled keypoints"]["all visible"]
    labelled = people.keypoint_counts
    those = (labelled > 0) & ((people.visibility == 2).sum(1) == labelled) & ~people.is_crowd
    alone = replace(people, unscored=~those)
    theirs = evaluate_coco(alone, rows, sigmas=people.schema.sigmas, evaluator="pycocotools")
    assert ours["people"] == those.sum() and ours["AP"] == pytest.approx(theirs["AP"], abs=1e-12)
