"""What a run learns is its own: two streams at once, other processes; and a camera that is faster
than the network."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_constant_network, save_network

from simplepose.core.structures import Frame, People, Poses
from simplepose.detection.motion import WARM_UP, MotionDetector
from simplepose.detection.onnx import PersonDetector
from simplepose.pose.estimator import PoseEstimator
from simplepose.tracking.flow import dis_flow, farneback_flow
from simplepose.tracking.track import TrackConfig
from simplepose.video.engine import PoseTracker, overlapped

ONE_PERSON = {
    "dets": np.array([[[8, 8, 40, 56, 0.9]]], np.float32),
    "labels": np.zeros((1, 1), np.int64),
}


def texture(seed: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (96, width, 3)).astype(np.uint8)


def walk(seed: int, count: int, width: int = 128) -> Iterator[Frame]:
    picture = texture(seed, width)
    for index in range(count):
        yield Frame(np.roll(picture, (3 + seed) * index, 1), f"stream {seed}", index, index / 25)


@pytest.fixture
def networks(tmp_path: Path) -> tuple[PoseEstimator, PersonDetector]:
    pytest.importorskip("onnxruntime")
    estimator = PoseEstimator.from_pretrained(
        save_network(tmp_path / "pose.onnx"), flip_test=False, threads=1
    )
    return estimator, PersonDetector(
        save_constant_network(tmp_path / "people.onnx", ONE_PERSON), threads=1
    )


def poses_of(tracker: PoseTracker, frames: Iterator[Frame]) -> list[tuple[int, Poses]]:
    return [(frame.index, poses) for frame, poses in tracker(frames)]


def assert_equal(first: list[tuple[int, Poses]], second: list[tuple[int, Poses]]) -> None:
    assert [index for index, _ in first] == [index for index, _ in second]
    for (_, one), (_, two) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.keypoints, two.keypoints)
        np.testing.assert_array_equal(one.track_ids, two.track_ids)


@pytest.mark.parametrize("flow", [dis_flow, farneback_flow])
def test_two_streams_at_once_are_two_streams_one_after_the_other(networks, flow) -> None:
    settings = {"detect_every": 3, "config": TrackConfig(birth_frames=1), "flow": flow()}
    alone = [poses_of(PoseTracker(*networks, **settings), walk(seed, 24)) for seed in (0, 1)]
    shared = PoseTracker(*networks, **settings)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: poses_of(shared, walk(seed, 24)), (0, 1)))
    for one, two in zip(alone, together, strict=True):
        assert_equal(one, two)
    # interleaved in one thread: a run that goes on keeps its own stream and counts
    first = shared(walk(0, 12))
    next(first)
    assert len(list(shared(walk(1, 5)))) == 5 and shared.speed.frames["pose"] == 5
    assert len(list(first)) == 11 and shared.speed.frames["pose"] == 5


def test_each_stream_teaches_a_background_of_its_own(networks) -> None:
    """Two walls that change places would be all motion to one detector."""
    seen: dict[str, int] = {}

    class Counting(MotionDetector):
        def __call__(self, image: np.ndarray) -> People:
            people = super().__call__(image)
            seen[f"{id(self)}"] = self._seen
            return people

    tracker = PoseTracker(networks[0], Counting(), detect_every=1)
    still = [
        (Frame(texture(seed, 128), "wall", index) for index in range(WARM_UP + 4))
        for seed in (5, 6)
    ]
    runs = [tracker(frames) for frames in still]
    for pair in zip(*runs, strict=True):
        assert all(len(poses) == 0 for _, poses in pair)
    assert sorted(seen.values()) == [WARM_UP + 4] * 2


def count_people(tracker: PoseTracker) -> list[int]:
    """What a spawned worker does with what it got."""
    return [len(poses) for _, poses in tracker(walk(2, 6))]


def test_a_spawned_worker_gets_the_tracker(networks) -> None:
    tracker = PoseTracker(*networks, config=TrackConfig(birth_frames=1))
    expected = count_people(tracker)
    assert 1 in expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(count_people, (tracker,)) == expected


def test_a_detector_that_learns_leaves_what_it_learnt() -> None:
    detector = MotionDetector()
    detector(texture(0, 64))
    again = pickle.loads(pickle.dumps(detector))
    assert len(again(texture(0, 64))) == 0 and again._seen == 1


def test_a_camera_that_is_faster_than_the_network_loses_old_frames(networks) -> None:
    """The camera waits until the network has begun, shows 50 frames, then lets it go on."""
    begun, shown = threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        for frame in walk(0, 50):
            yield frame
            if frame.index == 0:
                assert begun.wait(20)
        shown.set()

    def slow(image: np.ndarray) -> People:
        begun.set()
        assert shown.wait(20)
        return networks[1](image)

    tracker = PoseTracker(networks[0], slow, detect_every=1, batch_frames=1)
    indices = [frame.index for frame, _ in tracker(camera(), drop_frames=True)]
    assert indices == sorted(set(indices)) and indices[0] == 0 and indices[-1] == 49
    assert len(indices) <= 4 and tracker.speed.dropped == 50 - len(indices)


def test_nothing_is_dropped_unasked() -> None:
    lost: list[int] = []
    items = overlapped(range(30), 1, threading.Event())
    found = []
    for item in items:
        time.sleep(0.001)
        found.append(item)
    assert found == list(range(30))
    kept = overlapped(range(30), 40, threading.Event(), dropped=lambda: lost.append(1))
    assert list(kept) == list(range(30)) and not lost
