"""Drawn videos: exact identities, the promised occlusions, and textures that optical flow can follow."""

from __future__ import annotations

from itertools import islice, pairwise

import cv2
import numpy as np
import pytest

from simplepose.data import synthetic_video
from simplepose.data.synthetic_video import SCENARIOS, DrawnFrame, endless


def presence(frames: list[DrawnFrame], track_id: int) -> str:
    """One letter a frame: x present, . not."""
    return "".join("x" if track_id in frame.track_ids else "." for frame in frames)


@pytest.fixture(scope="module")
def videos() -> dict[str, list[DrawnFrame]]:
    """Every scenario, drawn once."""
    return {name: list(scenario(0)) for name, scenario in SCENARIOS.items()}


def test_shapes_and_ranges(videos):
    for frames in videos.values():
        for frame in frames:
            people = len(frame.track_ids)
            assert frame.image.dtype == np.uint8
            assert frame.keypoints.shape == (people, 17, 2)
            assert frame.visibility.shape == (people, 17)
            assert frame.boxes_xyxy.shape == (people, 4)
            assert (frame.boxes_xyxy[:, 2:] > frame.boxes_xyxy[:, :2]).all()
            assert len(set(frame.track_ids.tolist())) == people
            assert (np.diff(frame.track_ids) > 0).all()


@pytest.mark.parametrize("hidden", [5, 20])
def test_occlusion_lasts_exactly_as_long_as_promised(videos, hidden: int):
    assert presence(videos[f"occlusion_{hidden}"], 1).strip("x") == "." * hidden
    assert set(presence(videos[f"occlusion_{hidden}"], 2)) == {"x"}


def test_whoever_leaves_comes_back_as_the_same(videos):
    frames = videos["leave_and_return"]
    assert 8 <= len(presence(frames, 1).strip("x")) <= 30
    assert set(presence(frames, 1).strip("x")) == {"."}
    assert presence(frames, 1)[0] == presence(frames, 1)[-1] == "x"


def test_crossing_people_change_sides_and_hide_each_other(videos):
    frames = videos["crossing"]
    first, last = frames[0], frames[-1]
    assert first.keypoints[0, 11, 0] < first.keypoints[1, 11, 0]
    assert last.keypoints[0, 11, 0] > last.keypoints[1, 11, 0]
    assert min((frame.visibility[0] == 2).mean() for frame in frames if len(frame.track_ids) == 2) < 0.4


def test_scale_changes_by_more_than_two(videos):
    heights = np.array([frame.boxes_xyxy[:, 3] - frame.boxes_xyxy[:, 1] for frame in videos["scale_change"]])
    assert heights[-1, 0] / heights[0, 0] > 2
    assert heights[0, 1] / heights[-1, 1] > 2


def test_the_camera_shakes_everybody_alike(videos):
    steps = np.diff([frame.keypoints[:, 11] for frame in videos["camera_shake"]], axis=0)
    assert np.abs(steps).max() > 4
    assert np.std(steps - steps.mean(1, keepdims=True)) < 0.35 * np.std(steps)


def test_motion_between_frames_is_small(videos):
    for name, frames in videos.items():
        for before, after in pairwise(frames):
            common = np.intersect1d(before.track_ids, after.track_ids)
            one, two = (frame.keypoints[np.isin(frame.track_ids, common)] for frame in (before, after))
            assert not len(common) or np.abs(one - two).max() < 40, name


def test_optical_flow_follows_the_clothes(videos):
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    frames = videos["camera_shake"][:8]
    errors, still = [], []
    for before, after in pairwise(frames):
        field = flow.calc(*(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in (before, after)), None)
        seen = (before.visibility == 2) & (after.visibility == 2)
        start, end = before.keypoints[seen], after.keypoints[seen]
        columns, rows = np.round(start).astype(int).T
        errors.append(np.linalg.norm(start + field[rows, columns] - end, axis=1))
        still.append(np.linalg.norm(start - end, axis=1))
    assert np.median(np.concatenate(errors)) < 0.35 * np.median(np.concatenate(still))


def test_same_seed_same_frames():
    one, two, other = (next(synthetic_video.crossing(seed)) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one.image, other.image)


def test_endless_repeats_for_ever_with_two_people():
    frames = list(islice(endless(0, period=12), 30))
    assert all(np.array_equal(a, b) for a, b in zip(frames[0], frames[24], strict=True))
    assert not np.array_equal(frames[0].image, frames[6].image)
    assert all(frame.track_ids.tolist() == [1, 2] for frame in frames)
    assert frames[0].image.shape == (112, 160, 3)
    frames[0].image[:] = 0  # what a caller does to a frame stays with that frame
    assert frames[12].image.any()
