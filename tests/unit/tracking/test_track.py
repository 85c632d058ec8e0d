"""Identities: the parts as tables, the tracker on little stories with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.oks import oks
from simplepose.core.schema import COCO_17
from simplepose.core.structures import People, Poses
from simplepose.tracking.track import TrackConfig, Tracker, join_boxes, keypoint_boxes, match

SHAPE = np.random.default_rng(3).uniform(0, 1, (17, 2)).astype(np.float32) * [40, 100]
MOVED = np.array([30, 0, 30, 0])
BLACK = np.zeros((240, 640, 3), np.uint8)


def poses_at(*places: tuple[float, float], scores: list[float] | None = None) -> Poses:
    """People of one shape, each at a place."""
    keypoints = np.array([SHAPE + place for place in places]).reshape(-1, 17, 2)
    boxes = (
        np.concatenate([keypoints.min(1), keypoints.max(1)], 1) if len(places) else np.zeros((0, 4))
    )
    return Poses(
        keypoints,
        np.full((len(places), 17), 0.9),
        boxes,
        np.ones(len(places)) if scores is None else scores,
    )


def constant_flow(dx: float, dy: float = 0.0):
    return lambda previous, following: np.full((2, 2, 2), (dx, dy), np.float32)


def fresh() -> np.ndarray:
    return BLACK.copy()


def tracker(dx: float = 0.0, **config) -> Tracker:
    return Tracker(COCO_17, TrackConfig(**{"birth_frames": 1, **config}), constant_flow(dx))


# parts


@pytest.mark.parametrize("hungarian", [False, True])
@pytest.mark.parametrize(
    ("similarity", "pairs"),
    [
        (np.zeros((0, 0)), set()),
        (np.zeros((0, 3)), set()),
        (np.zeros((3, 0)), set()),
        ([[0.1]], set()),
        ([[0.3]], {(0, 0)}),
        ([[0.9, 0.8], [0.7, 0.1]], None),  # where the two differ
        ([[0.0, 0.5], [0.6, 0.0], [0.4, 0.4]], {(0, 1), (1, 0)}),
    ],
)
def test_match(similarity, pairs, hungarian: bool) -> None:
    pairs = ({(0, 1), (1, 0)} if hungarian else {(0, 0)}) if pairs is None else pairs
    assert set(match(np.array(similarity), 0.3, hungarian=hungarian)) == pairs


def test_keypoint_boxes_grow_by_15_percent_and_need_four_keypoints() -> None:
    assert keypoint_boxes(np.zeros((0, 17, 2)), np.zeros((0, 17)), 0.2)[0].shape == (0, 4)
    keypoints = np.zeros((2, 17, 2))
    keypoints[:, :5] = [(10, 20), (30, 20), (10, 120), (30, 120), (500, 500)]
    scores = np.zeros((2, 17))
    scores[0, :4], scores[1, :3] = 0.9, 0.9
    boxes, known = keypoint_boxes(keypoints, scores, 0.2)
    np.testing.assert_allclose(boxes[0], [7, 5, 33, 135], rtol=1e-5)
    assert known.tolist() == [True, False]


def test_join_boxes_keeps_the_better_and_remembers_who_was_seen() -> None:
    detected = People([[0, 0, 10, 10], [50, 0, 60, 10]], [0.5, 0.9])
    propagated = People([[0, 0, 10, 9], [51, 0, 61, 10], [100, 0, 110, 10]], [0.8, 0.3, 0.4])
    people, seen = join_boxes(detected, propagated)
    np.testing.assert_allclose(people.scores, [0.9, 0.8, 0.4])
    assert seen.tolist() == [True, True, False]
    assert len(join_boxes(People.empty(), People.empty())[0]) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "sort"},
        {"matching": "best"},
        {"history": 0},
        {"birth_frames": 0},
        {"keep_frames": -1},
    ],
)
def test_a_wrong_rule_is_refused(values) -> None:
    with pytest.raises(UserError, match="Cure"):
        TrackConfig(**values)


# stories


def test_nobody_for_minutes() -> None:
    follower = tracker()
    for _ in range(100):
        poses = follower.update(fresh(), Poses.empty(17))
        assert poses.track_ids.shape == (0,) and poses.keypoints.shape == (0, 17, 2)
    assert follower.propagated_boxes(fresh()).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("mode", ["flow", "oks", "iou"])
@pytest.mark.parametrize("matching", ["greedy", "hungarian"])
def test_two_standing_people_keep_their_ids_whatever_their_order(mode, matching) -> None:
    follower = tracker(mode=mode, matching=matching)
    seen = []
    for step in range(6):
        places = [(10, 10), (200, 10)]
        poses = follower.update(fresh(), poses_at(*places[:: 1 if step % 2 else -1]))
        seen.append(
            dict(
                zip(
                    poses.keypoints[:, 0, 0].round().astype(int).tolist(),
                    poses.track_ids.tolist(),
                    strict=True,
                )
            )
        )
    assert seen == [seen[0]] * 6 and sorted(seen[0].values()) == [1, 2]


@pytest.mark.parametrize(("mode", "kept"), [("flow", True), ("oks", False), ("iou", False)])
def test_only_flow_follows_a_fast_person(mode, kept) -> None:
    """60 pixels a frame, more than the person's width."""
    follower = tracker(dx=60, mode=mode)
    ids = [
        follower.update(fresh(), poses_at((60 * step, 20))).track_ids.tolist() for step in range(5)
    ]
    assert (ids == [[1]] * 5) is kept


@pytest.mark.parametrize(("gap", "same"), [(5, True), (20, True), (31, False)])
def test_a_gap_is_bridged_by_chained_flow_until_the_track_is_over(gap, same) -> None:
    follower = tracker(dx=4, keep_frames=30)
    follower.update(fresh(), poses_at((10, 20)))
    for _ in range(gap):
        follower.update(fresh(), Poses.empty(17))
    (track_id,) = follower.update(fresh(), poses_at((10 + 4 * (gap + 1), 20))).track_ids
    assert (int(track_id) == 1) is same


@pytest.mark.parametrize(("coast", "same"), [(True, True), (False, False)])
def test_a_walker_hidden_by_something_still_is_found_behind_it(coast: bool, same: bool) -> None:
    """Flow at the place of a hidden person is that of what hides them: none here. The last speed brings the track to the other side."""
    follower = Tracker(
        COCO_17,
        TrackConfig(birth_frames=1, coast=coast),
        lambda previous, _: np.full((1, 1, 2), flow_x, np.float32),
    )
    for step in range(6):
        flow_x = 8.0
        follower.update(fresh(), poses_at((10 + 8 * step, 20)), detected=np.array([True]))
    for _ in range(20):
        flow_x = 0.0
        follower.update(fresh(), Poses.empty(17), detected=np.zeros(0, bool))
    (track_id,) = follower.update(
        fresh(), poses_at((10 + 8 * 26, 20)), detected=np.array([True])
    ).track_ids
    assert (int(track_id) == 1) is same


def test_birth_needs_a_score_and_two_sightings() -> None:
    follower = tracker(birth_frames=2, birth_score=0.3)
    assert len(follower.update(fresh(), poses_at((10, 10), scores=[0.2]))) == 0
    assert len(follower.update(fresh(), poses_at((10, 10)))) == 0  # first sighting
    assert len(follower.update(fresh(), Poses.empty(17))) == 0  # lost before it counted
    assert len(follower.update(fresh(), poses_at((10, 10)))) == 0
    assert follower.update(fresh(), poses_at((10, 10), scores=[0.15])).track_ids.tolist() == [
        1
    ]  # a weak pose may continue a track
    assert (
        len(follower.update(fresh(), poses_at((10, 10), scores=[0.1]))) == 0
    )  # but this is nobody


def test_the_stronger_of_two_poses_of_one_person_stays() -> None:
    poses = tracker().update(fresh(), poses_at((10, 10), (11, 10), scores=[0.5, 0.9]))
    assert poses.track_ids.tolist() == [1] and poses.keypoints[0, 0, 0] == pytest.approx(
        SHAPE[0, 0] + 11
    )


def test_a_pose_the_detector_never_confirms_dies() -> None:
    """The network finds something in every box it is shown; a box of the tracker alone must not live for ever."""
    follower = tracker(max_unconfirmed=3)
    follower.update(fresh(), poses_at((10, 10)), detected=np.array([True]))
    alive = [
        len(follower.update(fresh(), poses_at((10, 10)), detected=np.array([False])))
        for _ in range(6)
    ]
    assert alive == [
        1,
        1,
        1,
        1,
        0,
        0,
    ]  # the fourth look in vain ends it, and an unseen pose starts nothing
    follower = tracker(max_unconfirmed=3)
    follower.update(fresh(), poses_at((10, 10)), detected=np.array([True]))
    assert [len(follower.update(fresh(), poses_at((10, 10)))) for _ in range(6)] == [
        1
    ] * 6  # nobody looked


def test_propagated_boxes_move_with_the_flow_and_stop_after_carry_frames() -> None:
    follower = tracker(dx=30, carry_frames=1)
    follower.update(fresh(), poses_at((10, 20)))
    still = follower.carried_boxes()[0].boxes_xyxy
    image = fresh()
    np.testing.assert_allclose(
        follower.propagated_boxes(image).boxes_xyxy, still + MOVED, rtol=1e-5
    )
    np.testing.assert_allclose(
        follower.propagated_boxes(image).boxes_xyxy, still + MOVED, rtol=1e-5
    )  # once a frame
    follower.update(image, Poses.empty(17))
    assert len(follower.propagated_boxes(fresh())) == 1
    follower.update(fresh(), Poses.empty(17))
    assert len(follower.propagated_boxes(fresh())) == 0


def test_boxes_carried_ahead_do_not_change_the_tracker() -> None:
    follower = tracker()
    follower.update(fresh(), poses_at((10, 20)))
    ahead = follower.carried_boxes(
        [np.full((1, 1, 2), 5, np.float32), np.full((1, 1, 2), 700, np.float32)]
    )
    np.testing.assert_allclose(ahead[1].boxes_xyxy, ahead[0].boxes_xyxy + 5, rtol=1e-5)
    assert len(ahead[2]) == 0  # out of the picture
    np.testing.assert_array_equal(follower.carried_boxes()[0].boxes_xyxy, ahead[0].boxes_xyxy)


def test_few_sure_joints_move_the_old_box() -> None:
    """A box around two keypoints would be too small: the estimation box moves instead."""
    follower = tracker(dx=30)
    poses = poses_at((10, 20))
    scores = np.full((1, 17), 0.1)
    scores[0, :2] = 0.9
    follower.update(fresh(), Poses(poses.keypoints, scores, poses.boxes_xyxy, poses.scores))
    np.testing.assert_allclose(
        follower.propagated_boxes(fresh()).boxes_xyxy, poses.boxes_xyxy + MOVED, rtol=1e-5
    )


@pytest.mark.parametrize("mode", ["flow", "oks", "iou"])
def test_the_resolution_changes_in_mid_stream(mode) -> None:
    follower = tracker(mode=mode)
    follower.update(fresh(), poses_at((100, 20)))
    half = poses_at((100, 20))
    half = Poses(half.keypoints / 2, half.keypoint_scores, half.boxes_xyxy / 2, half.scores)
    assert follower.update(np.zeros((120, 320, 3), np.uint8), half).track_ids.tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("minimum", [0.0, 0.4, 1.0])
def test_greedy_pairs_are_those_of_the_definition(seed: int, minimum: float) -> None:
    similarity = np.random.default_rng(seed).choice([0, 0.3, 0.4, 0.7, 1], (6, 9))
    left, wanted = similarity.copy(), []
    while left.size and left.max() >= minimum:
        row, column = np.unravel_index(left.argmax(), left.shape)
        wanted.append((int(row), int(column)))
        left[row], left[:, column] = -1, -1
    assert match(similarity, minimum) == wanted


def test_a_crowd_is_compared_only_where_it_can_be_alike() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 600, (30, 1, 2)) + rng.uniform(0, [60, 120], (30, 17, 2))
    boxes = np.concatenate([base.min(1), base.max(1)], 1)
    crowd, image = Tracker(COCO_17), np.zeros((720, 720, 3), np.uint8)
    crowd.update(image, Poses(base, np.full((30, 17), 0.9), boxes, np.full(30, 0.9)))
    moved = (base + rng.normal(0, 4, base.shape)).astype(np.float32)
    poses = Poses(moved, np.full((30, 17), 0.9), boxes, np.full(30, 0.9))
    found = crowd.similarity(poses)
    last = np.stack([track.keypoints[0] for track in crowd.tracks])
    whole = oks(poses.keypoints, last, crowd._areas(poses), COCO_17.sigmas).T
    assert (whole >= 0.2).sum() > 20 and (found > 0).sum() < whole.size / 4
    np.testing.assert_array_equal(found[whole >= 0.2], whole[whole >= 0.2])
    assert (found[whole < 0.2] < 0.2).all()
