"""PoseTrack's measures on hand-made sequences with known answers, and the folder-of-JSON door."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.evaluation.mpii import head_sizes
from simplepose.evaluation.posetrack import Frame, Pair, evaluate_posetrack, inside_regions

RNG = np.random.default_rng(0)
BODY = RNG.integers(0, 100, (15, 2)).astype(float)
HEAD = 30.0


def people(places: list[float]) -> np.ndarray:
    """(N, 15, 2): the same body at several places of the x axis."""
    return BODY[None] + np.array([[place, 0.0] for place in places]).reshape(-1, 1, 2)


def frame(
    tracks: dict[int, float], predicted: dict[int, float], scores: float = 0.9, **truth: Any
) -> Pair:
    """Annotated and predicted people: track id -> place."""
    annotated, found = (
        Frame(
            keypoints=people(list(side.values())),
            labelled=np.ones((len(side), 15), bool),
            head_sizes=np.full(len(side), HEAD),
            scores=np.full((len(side), 15), scores),
            track_ids=np.array(list(side), np.int64),
        )
        for side in (tracks, predicted)
    )
    return replace(annotated, **truth), found


def truth_of(pair: Pair, **truth: Any) -> Pair:
    return replace(pair[0], **truth), pair[1]


def found_of(pair: Pair, **found: Any) -> Pair:
    return pair[0], replace(pair[1], **found)


A, B = 0.0, 1000.0
BOTH = frame({1: A, 2: B}, {5: A, 6: B})
PERFECT = [BOTH] * 10
SWITCH = [BOTH] * 5 + [frame({1: A, 2: B}, {7: A, 6: B})] * 5
SWAPPED = [BOTH] * 5 + [frame({1: A, 2: B}, {6: A, 5: B})] * 5
MISS = [BOTH] * 4 + [frame({1: A, 2: B}, {5: A})] + [BOTH] * 5
FALSE = [BOTH] * 4 + [frame({1: A, 2: B}, {5: A, 6: B, 9: 500.0}, scores=0.9)] + [BOTH] * 5
EMPTY_TRUTH = [BOTH] * 4 + [frame({}, {5: A})] + [BOTH] * 5
NOBODY = [BOTH] * 4 + [frame({}, {})] + [BOTH] * 5
UNFOUND = [BOTH] * 4 + [frame({1: A, 2: B}, {})] + [BOTH] * 5
BAD_END = [BOTH] * 9 + [frame({1: A, 2: B}, {9: 500.0})]
BESIDE = np.array([[400.0, -50], [700, -50], [700, 200], [400, 200]])
IGNORED = [*PERFECT[:9], frame({1: A, 2: B}, {5: A, 6: B, 9: 500.0}, regions=[BESIDE])]
UNLABELLED = [BOTH] * 9 + [frame({}, {5: A}, annotated=False)]

# sequence, MOTA of the corrected mode, MOTA of the exact mode (its last frame is dropped), IDF1 corrected
CASES = {
    "perfect": (PERFECT, 100.0, 100.0, 100.0),
    "one identity switch": (SWITCH, 95.0, 100 * (1 - 1 / 18), 75.0),
    "swapped for half the time": (SWAPPED, 90.0, 100 * (1 - 2 / 18), 50.0),
    "one miss": (MISS, 95.0, 100 * (1 - 1 / 18), 100 * 38 / 39),
    "one false positive": (FALSE, 95.0, 100 * (1 - 1 / 18), 100 * 40 / 41),
    "a frame without people": (EMPTY_TRUTH, 100 * (1 - 1 / 18), 100.0, 100 * 36 / 37),
    "an empty frame": (NOBODY, 100.0, 100.0, 100.0),
    # poseval: the stand-in frame has one annotated and one predicted person that do not match
    "a frame without predictions": (UNFOUND, 90.0, 100 * (1 - 2 / 17), 100 * 36 / 38),
    "a bad last frame": (BAD_END, 100 * (1 - 3 / 20), 100.0, 100 * 36 / 39),
    "ignore region": (IGNORED, 100.0, 100.0, 100.0),
    "a frame nobody looked at": (UNLABELLED, 100.0, 100.0, 100.0),
}


@pytest.mark.parametrize("name", CASES)
def test_known_sequences(name: str) -> None:
    frames, corrected, exact, idf1 = CASES[name]
    result = evaluate_posetrack({"a": frames})
    assert result["MOTA"] == pytest.approx(corrected)
    assert result["MOTA head"] == pytest.approx(corrected)
    assert result["IDF1"] == pytest.approx(idf1)
    assert evaluate_posetrack({"a": frames}, exact=True)["MOTA"] == pytest.approx(exact)


def test_perfect_is_hundred_everywhere() -> None:
    for exact in (False, True):
        result = evaluate_posetrack({"a": PERFECT, "b": PERFECT}, exact=exact)
        assert all(value == pytest.approx(100) for value in result.values()), result


def test_sequences_are_apart() -> None:
    """The same track id in another sequence is another person: no switch."""
    other = [frame({1: A, 2: B}, {6: A, 5: B})] * 10
    assert evaluate_posetrack({"a": PERFECT, "b": other})["MOTA"] == 100


def test_average_precision() -> None:
    """Four annotated, three found with scores .9 .8 .7 of which the second is wrong: AP = (1 + 2/3) / 4."""
    frames = [
        frame({1: A}, {1: A}, 0.9),
        frame({1: A}, {1: 500.0}, 0.8),
        frame({1: A}, {1: A}, 0.7),
        frame({1: A}, {}),
    ]
    assert evaluate_posetrack({"a": frames})["AP"] == pytest.approx(100 * (1 + 2 / 3) / 4)


def test_two_thresholds() -> None:
    frames = [
        frame({1: A}, {1: A}, 0.9),
        frame({1: A}, {1: A}, 0.3),
        frame({1: A}, {1: 500.0}, 0.1),
    ]
    free = evaluate_posetrack({"a": frames})
    strict = evaluate_posetrack({"a": frames}, tracking_threshold=0.2)
    assert free["AP"] == strict["AP"] == pytest.approx(200 / 3)
    assert (free["MOTA"], strict["MOTA"]) == (pytest.approx(100 / 3), pytest.approx(200 / 3))
    assert evaluate_posetrack({"a": frames}, ap_threshold=0.5)["AP"] == pytest.approx(100 / 3)


def test_distance_and_motp() -> None:
    """15 px are half a head size, which still counts: in AP, in MOTA and for whole people."""
    for exact in (False, True):
        at, beyond = (
            evaluate_posetrack({"a": [frame({1: A}, {1: x})] * 2}, exact=exact)
            for x in (15.0, 15.0 + 1e-9)
        )
        for name in ("AP", "MOTA", "Rec", "IDF1", "HOTA"):
            assert at[name] == pytest.approx(100), name
        assert at["MOTP"] == pytest.approx(50)
        for name in ("AP", "Rec", "IDF1", "HOTA"):
            assert beyond[name] == 0, name


def test_best_prediction_of_a_person_wins() -> None:
    """Of two predictions for one person the one with more keypoints right stays; the other's are all wrong, also those in place."""
    twice = frame({1: A}, {1: A, 2: A})
    partly = twice[1].keypoints.copy()
    partly[0, :8] += 300
    for scores, expected in (((0.5, 0.9), 100), ((0.9, 0.5), 50)):
        rows = np.repeat(np.array(scores)[:, None], 15, 1)
        result = evaluate_posetrack(
            {"a": [found_of(twice, keypoints=partly, scores=rows)]},
        )
        assert result["AP"] == pytest.approx(expected)


def test_unannotated_keypoint_is_left_out() -> None:
    labelled = np.ones((1, 15), bool)
    labelled[:, 0] = False
    one = frame({1: A}, {1: A})
    one = found_of(truth_of(one, labelled=labelled), labelled=labelled)
    result = evaluate_posetrack({"a": [one, one]})
    assert (result["AP"], result["MOTA"], result["MOTP"]) == (100, 100, 100)
    assert math.isnan(result["AP head"])
    assert evaluate_posetrack({"a": [one, one]}, exact=True)["AP"] == pytest.approx(
        100 * 14 / 15
    )  # poseval counts it as 0


def test_people_without_track_ids_have_an_ap_only() -> None:
    nobody = found_of(BOTH, track_ids=np.full(2, -1))
    numbers = evaluate_posetrack({"a": [nobody] * 2})
    assert numbers["AP"] == 100 and "MOTA" not in numbers


def test_head_size() -> None:
    assert head_sizes(np.array([[0.0, 0, 30, 40]])).tolist() == [30]


def test_polygons() -> None:
    polygon = np.array([[0, 0], [10, 0], [10, 10], [5, 4], [0, 10]])
    y, x = np.mgrid[-2:13, -2:13]
    points = np.stack([x, y], -1).astype(float)
    # A square whose lower side is notched up to (5, 4); its edges are outside.
    expected = (x > 0) & (x < 10) & (y > 0) & (5 * (y - 4) < 6 * np.abs(x - 5))
    assert 20 < expected.sum() < 100
    assert (inside_regions(points, [polygon]) == expected).all()
    assert (inside_regions(points, [polygon[::-1]]) == expected).all()
    assert not inside_regions(points, []).any() and not inside_regions(points, [polygon[:2]]).any()


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ({}, "no sequence"),
        ({"000001": []}, "000001 .*no frames"),
        ({"a": [truth_of(BOTH, head_sizes=np.full(2, np.nan))]}, "a, frame 0: person 0 .*head box"),
        ({"a": [truth_of(BOTH, head_sizes=np.zeros(2))]}, "person 0 .*head box"),
        ({"a": [truth_of(BOTH, track_ids=np.array([-1, 2]))]}, "ground truth of a: .*track_id"),
        ({"a": [found_of(BOTH, track_ids=np.array([1, -1]))]}, "predictions of a: .*track_id"),
        ({"a": [found_of(BOTH, track_ids=np.array([1, 1]))]}, r"track id .*\[1, 1\]"),
    ],
)
def test_bad_input(sequences: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        evaluate_posetrack(sequences)
    assert "Cure" in str(caught.value)


def test_people_without_keypoints() -> None:
    """poseval drops them only where the frame has an ignore region; elsewhere nobody is missed and each prediction is wrong."""
    one = frame({1: A}, {5: A})
    bare = truth_of(
        frame({1: A}, {5: 500.0, 6: 800.0, 7: 1100.0}),
        labelled=np.zeros((1, 15), bool),
        head_sizes=np.zeros(1),
    )
    frames = [one] * 4 + [bare] + [one] * 5
    assert evaluate_posetrack({"a": frames}, exact=True)["MOTA"] == pytest.approx(100 * (1 - 3 / 8))
    frames[4] = truth_of(bare, regions=[BESIDE + 5000])
    assert evaluate_posetrack({"a": frames}, exact=True)["MOTA"] == pytest.approx(
        100 * (1 - 2 / 9)
    )  # the stand-in
    for number in (4, 5):
        assert evaluate_posetrack(
            {"a": [*frames[:4], truth_of(bare, regions=()), *[one] * number]}
        )["MOTA"] == pytest.approx(100 * (1 - 3 / (4 + number)))


def test_exact_mode_takes_ids_below_thousand() -> None:
    frames = [found_of(BOTH, track_ids=np.array([5, 1000]))] * 3
    assert evaluate_posetrack({"a": frames})["MOTA"] == 100
    with pytest.raises(UserError, match=r"0\.\.999"):
        evaluate_posetrack({"a": frames}, exact=True)
