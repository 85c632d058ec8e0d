"""Overlays: what is drawn, what is not, and that no keypoint can break it."""

from __future__ import annotations

import numpy as np
import pytest

from simplepose.core.draw import (
    contact_sheet,
    draw_heatmaps,
    draw_label,
    draw_poses,
    person_colours,
)
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, KeypointSchema
from simplepose.core.structures import Poses

GREY = np.full((120, 160, 3), 120, np.uint8)


def standing(count: int = 17, people: int = 1, *, track_ids: list[int] | None = None) -> Poses:
    """People whose keypoints are spread over a box of 60 x 90 pixels."""
    rng = np.random.default_rng(3)
    keypoints = rng.uniform([40, 15], [100, 105], (people, count, 2))
    boxes = np.tile([40.0, 15, 100, 105], (people, 1))
    return Poses(keypoints, np.full((people, count), 0.9), boxes, np.full(people, 0.5), track_ids)


def changed(image: np.ndarray, reference: np.ndarray = GREY) -> np.ndarray:
    """(H, W) bool."""
    return (image != reference).any(-1)


def test_nobody_changes_nothing_and_the_answer_is_a_copy():
    drawn = draw_poses(GREY, Poses.empty(17))
    assert np.array_equal(drawn, GREY)
    assert not np.shares_memory(drawn, GREY)


def test_the_input_is_not_touched():
    image = GREY.copy()
    draw_poses(image, standing(people=2, track_ids=[4, 9]), boxes=True, scores=True)
    assert np.array_equal(image, GREY)


@pytest.mark.parametrize("count", [1, 8, 14, 15, 16, 17, 21])
def test_any_keypoint_count_is_drawn(count: int):
    assert changed(draw_poses(GREY, standing(count))).any()


def test_schema_is_chosen_by_its_keypoint_count():
    for schema in (COCO_17, MPII_16, CROWDPOSE_14):
        poses = standing(len(schema))
        assert np.array_equal(draw_poses(GREY, poses), draw_poses(GREY, poses, schema))


def test_unknown_counts_have_dots_only():
    poses = standing(8)
    bare = KeypointSchema(name="bare", keypoints=tuple("abcdefgh"))
    assert np.array_equal(draw_poses(GREY, poses), draw_poses(GREY, poses, bare))
    ring = KeypointSchema(
        name="ring", keypoints=tuple("abcdefgh"), skeleton=tuple((i, (i + 1) % 8) for i in range(8))
    )
    assert changed(draw_poses(GREY, poses, ring)).sum() > changed(draw_poses(GREY, poses)).sum()


def test_a_schema_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"coco_17.*17.*16"):
        draw_poses(GREY, standing(16), COCO_17)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_other_pictures_are_refused(image: np.ndarray):
    with pytest.raises(UserError, match="picture .*uint8 RGB"):
        draw_poses(image, Poses.empty(17))


def test_weak_keypoints_are_not_drawn():
    poses = standing()
    scores = np.full((1, 17), 0.1)
    weak = Poses(poses.keypoints, scores, poses.boxes_xyxy, poses.scores)
    assert not changed(draw_poses(GREY, weak)).any()
    assert changed(draw_poses(GREY, weak, keypoint_threshold=0.05)).any()


BAD = [np.nan, np.inf, -np.inf, 1e9, -1e9, 1e30, -5000.0]


@pytest.mark.parametrize("value", BAD)
def test_a_wild_keypoint_is_safe_and_the_others_stay(value: float):
    poses = standing()
    keypoints = poses.keypoints.copy()
    keypoints[0, 9] = value  # left wrist
    keypoints[0, 10, 0] = value
    boxes = poses.boxes_xyxy.copy()
    wild = Poses(keypoints, poses.keypoint_scores, boxes, poses.scores, [7])
    drawn = draw_poses(GREY, wild, boxes=True, scores=True)
    nose = np.round(poses.keypoints[0, 0]).astype(int)
    assert changed(drawn)[nose[1], nose[0]]


@pytest.mark.parametrize(
    "box", [[np.nan] * 4, [1e30, 0, 2e30, 5], [-1e9, -1e9, 1e9, 1e9], [30, 30, 30, 30]]
)
def test_a_wild_box_is_safe(box: list[float]):
    poses = standing(track_ids=[1])
    draw_poses(
        GREY, Poses(poses.keypoints, poses.keypoint_scores, [box], poses.scores, [1]), boxes=True
    )


def test_a_far_keypoint_keeps_the_direction_of_its_limb():
    schema = KeypointSchema(name="line", keypoints=("a", "b"), skeleton=((0, 1),))
    poses = Poses([[[80, 60], [80, 500_000]]], np.ones((1, 2)), [[70, 50, 90, 119]], [1.0])
    drawn = changed(draw_poses(GREY, poses, schema))
    assert drawn[60:, 80].all()
    assert not drawn[:50].any()
    assert not drawn[:, :60].any()


def test_left_right_and_centre_look_different():
    image = np.full((480, 640, 3), 120, np.uint8)
    small = standing()
    poses = Poses(
        small.keypoints * 4,
        *(getattr(small, n) for n in ("keypoint_scores", "boxes_xyxy", "scores")),
    )
    for row, other in ((5, 6), (0, 5), (0, 6)):
        colours = []
        for index in (row, other):
            scores = np.zeros((1, 17))
            scores[0, index] = 1
            x, y = np.round(poses.keypoints[0, index]).astype(int)
            big = Poses(poses.keypoints, scores, poses.boxes_xyxy, poses.scores)
            colours.append(draw_poses(image, big)[y, x].astype(int))
        assert np.abs(colours[0] - colours[1]).sum() > 100


def test_a_track_keeps_its_colour_wherever_it_stands_in_the_list():
    poses = standing(people=2, track_ids=[5, 8])
    first, second = draw_poses(GREY, poses[[0]]), draw_poses(GREY, poses[[1]])
    assert np.array_equal(
        first,
        draw_poses(
            GREY,
            Poses(
                *[
                    getattr(poses, n)[:1]
                    for n in ("keypoints", "keypoint_scores", "boxes_xyxy", "scores")
                ],
                [5],
            ),
        ),
    )
    assert not np.array_equal(first, second)
    hues = [person_colours(number)[1] for number in range(6)]
    assert min(np.abs(np.subtract(a, b)).sum() for i, a in enumerate(hues) for b in hues[:i]) > 60


@pytest.mark.parametrize(
    ("option", "value"),
    [("boxes", True), ("scores", True), ("ids", False)],
)
def test_each_option_changes_the_picture(option: str, value: bool):
    poses = standing(track_ids=[3])
    assert not np.array_equal(draw_poses(GREY, poses), draw_poses(GREY, poses, **{option: value}))


def test_lines_grow_with_the_picture():
    shares = []
    for factor in (1, 8):
        image = np.full((120 * factor, 160 * factor, 3), 120, np.uint8)
        poses = standing()
        large = Poses(
            poses.keypoints * factor, poses.keypoint_scores, poses.boxes_xyxy * factor, poses.scores
        )
        shares.append(changed(draw_poses(image, large), image).mean())
    assert shares[1] > 0.4 * shares[0]


def test_heatmaps_show_where_they_are_high():
    heatmaps = np.zeros((17, 12, 16), np.float32)
    heatmaps[3, 6, 8] = 1.0
    stretched = changed(draw_heatmaps(GREY, heatmaps))
    assert stretched[65, 85]
    assert not stretched[:40].any()


def test_sheets_hold_every_picture():
    images = [np.full((30 + i, 40, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(images, 2, cell_size_wh=(40, 32))
    assert sheet.dtype == np.uint8
    assert all((sheet == 10 * i).all(-1).sum() > 500 for i in range(5))
    assert sheet.shape[0] > 3 * 32


def test_a_sheet_of_one_and_a_title_too_long_are_fine():
    assert (
        contact_sheet(
            [GREY], 4, ["a title that is far too long for so small a cell"], cell_size_wh=(32, 24)
        ).shape[1]
        < 50
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: contact_sheet([]),
        lambda: contact_sheet([GREY], 0),
        lambda: contact_sheet([GREY], 4, ["a", "b"]),
    ],
)
def test_sheets_refuse_nonsense(call):
    with pytest.raises(UserError, match="Cure"):
        call()


@pytest.mark.parametrize("corner", [(-50, -50), (150, 110), (0, 0), (1e5, 5)])
def test_labels_stay_on_the_picture(corner: tuple[float, float]):
    image = GREY.copy()
    draw_label(image, "Jos\u00e9 #3", corner, 14, plate=(250, 200, 10))
    assert changed(image).sum() > 100


def test_a_picture_of_nobody_stays_whoever_was_looked_for():
    nobody = Poses(np.zeros((0, 0, 2)), np.zeros((0, 0)), np.zeros((0, 4)), np.zeros(0))
    assert np.array_equal(draw_poses(GREY, nobody), GREY)


def test_each_limb_has_the_colour_of_its_side():
    # a square whose upper limb joins left and right, whose sides are left and right
    schema = KeypointSchema(
        name="square",
        keypoints=("left_a", "right_a", "left_b", "right_b"),
        skeleton=((0, 1), (0, 2), (1, 3)),
        flip_pairs=((0, 1), (2, 3)),
    )
    keypoints = [[[40, 20], [120, 20], [40, 100], [120, 100]]]
    poses = Poses(keypoints, np.ones((1, 4)), [[30, 10, 130, 110]], [1.0])
    drawn = draw_poses(GREY, poses, schema)
    centre, left, right = person_colours(0)
    assert [tuple(drawn[y, x]) for x, y in ((80, 20), (40, 60), (120, 60))] == [centre, left, right]


def test_what_is_unsure_lets_the_picture_through() -> None:
    poses = standing()
    strength = []
    for score in (0.25, 0.45, 0.9):
        scores = np.full(poses.keypoint_scores.shape, score)
        drawn = draw_poses(GREY, Poses(poses.keypoints, scores, poses.boxes_xyxy, poses.scores))
        strength.append(np.abs(drawn.astype(int) - GREY).sum())
    faint, half, sure = strength
    assert 0.3 < faint / sure < 0.4 and 0.6 < half / sure < 0.7


def test_one_unsure_keypoint_makes_its_limbs_faint_and_no_others() -> None:
    schema = KeypointSchema(name="bones", keypoints=tuple("abcd"), skeleton=((0, 1), (2, 3)))
    keypoints = np.array([[[20.0, 20], [120, 20], [20, 90], [120, 90]]])
    poses = Poses(keypoints, [[0.9, 0.3, 0.9, 0.9]], [[10, 10, 130, 100]], [0.9])
    drawn = draw_poses(GREY, poses, schema)
    colour = np.array(person_colours(0)[0])
    np.testing.assert_array_equal(drawn[90, 70], colour)
    np.testing.assert_allclose(drawn[20, 70], 0.35 * colour + 0.65 * GREY[20, 70], atol=1)


@pytest.mark.parametrize("far", [-1e6, 1e6])
def test_unsure_keypoints_far_away_break_nothing(far: float) -> None:
    schema = KeypointSchema(name="bones", keypoints=tuple("ab"), skeleton=((0, 1),))
    poses = Poses([[[far, far], [80, 60]]], [[0.3, 0.3]], [[10, 10, 130, 100]], [0.9])
    assert changed(draw_poses(GREY, poses, schema)).any()


def test_limbs_and_dots_leave_the_eyes_free() -> None:
    image = np.full((400, 500, 3), 120, np.uint8)
    poses = Poses([[[100, 200], [400, 200]]], [[0.9, 0.9]], [[90, 100, 410, 300]], [0.9])
    free = {}
    for names in (("left_eye", "left_ear"), ("left_hand", "left_ear")):
        schema = KeypointSchema(name="two", keypoints=names, skeleton=((0, 1),))
        row = changed(draw_poses(image, poses, schema), image)[200]
        free[names[0]] = int((~row[100:400]).sum())
        assert row[100] and row[250] and row[399]
    assert free["left_hand"] == 0 and free["left_eye"] >= 2
