"""The engine with a drawn estimator: order, batches, carried boxes, errors, early ends, memory."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, People, Poses
from simplepose.tracking.track import TrackConfig
from simplepose.video.engine import PoseTracker, Speed, overlapped

SHAPE = np.random.default_rng(1).uniform(0, 1, (17, 2))
SHAPE = (
    0.15 + (SHAPE - SHAPE.min(0)) / np.ptp(SHAPE, axis=0)
) / 1.3  # so that the keypoints' box plus 15 % is the box again


class BoxEstimator:
    """Draws the same figure into every box, and remembers how it was called."""

    schema = COCO_17

    def __init__(self) -> None:
        self.calls: list[int] = []

    def calibrated(self, poses: Poses) -> Poses:
        return poses

    def estimate_batch(self, images, people, *, calibrated: bool = True) -> list[Poses]:
        self.calls.append(len(images))
        return [self._one(one) for one in people]

    def _one(self, people: People) -> Poses:
        boxes = people.boxes_xyxy
        keypoints = boxes[:, None, :2] + SHAPE * (boxes[:, None, 2:] - boxes[:, None, :2])
        return Poses(keypoints, np.full((len(people), 17), 0.9), boxes, np.full(len(people), 0.9))


def scene(index: int, step: float = 4.0) -> np.ndarray:
    """A bright textured square that walks over a dark textured wall."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (120, 200, 3)).astype(np.uint8)
    left = int(20 + step * index)
    image[30:90, left : left + 40] = (
        rng.integers(120, 255, (15, 10, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    )
    return image


def bright_box(image: np.ndarray) -> People:
    """Finds the square."""
    rows, columns = np.nonzero(image.max(2) > 119)
    if not len(rows):
        return People.empty()
    return People([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], [0.9])


def frames(count: int, picture=scene) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(picture(index), "drawn", index, index / 10)


@pytest.mark.parametrize("detect_every", [1, 3, 5])
@pytest.mark.parametrize("batch_frames", [1, 4, 5, None])
def test_one_walker_is_one_id_in_every_frame(detect_every: int, batch_frames: int | None) -> None:
    looks = []

    def detector(image: np.ndarray) -> People:
        looks.append(1)
        return bright_box(image)

    engine = PoseTracker(
        BoxEstimator(),
        detector,
        detect_every=detect_every,
        batch_frames=batch_frames,
        config=TrackConfig(birth_frames=1),
    )
    found = list(engine(frames(22)))
    assert [frame.index for frame, _ in found] == list(range(22))
    assert len(looks) == -(-22 // detect_every)
    assert {tuple(poses.track_ids.tolist()) for _, poses in found} == {(1,)}
    for (
        frame,
        poses,
    ) in found:  # boxes carried by flow stay on the walker between the detector's looks
        box = bright_box(frame.image).boxes_xyxy[0]
        assert (
            np.abs(
                (poses.boxes_xyxy[0, :2] + poses.boxes_xyxy[0, 2:]) / 2 - (box[:2] + box[2:]) / 2
            ).max()
            < 8
        )


def test_crops_of_several_frames_go_together() -> None:
    estimator = BoxEstimator()
    assert len(list(PoseTracker(estimator, bright_box, detect_every=5)(frames(12)))) == 12
    assert estimator.calls == [5, 5, 2]


@pytest.mark.parametrize("mode", ["oks", "iou"])
def test_the_other_modes_run_without_flow(mode: str) -> None:
    def forbidden(previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        raise AssertionError("no flow in this mode")

    engine = PoseTracker(
        BoxEstimator(),
        bright_box,
        detect_every=1,
        config=TrackConfig(mode=mode, birth_frames=1),
        flow=forbidden,
    )
    assert {tuple(poses.track_ids.tolist()) for _, poses in engine(frames(8))} == {(1,)}


def test_nobody_for_minutes_costs_no_flow() -> None:
    calls = []

    def flow(previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.zeros((2, 2, 2), np.float32)

    dark = np.zeros((40, 40, 3), np.uint8)
    engine = PoseTracker(BoxEstimator(), bright_box, detect_every=5, flow=flow)
    found = [poses for _, poses in engine(frames(300, lambda index: dark.copy()))]
    assert len(found) == 300 and all(
        poses.track_ids.shape == (0,) and poses.keypoints.shape == (0, 17, 2) for poses in found
    )
    assert len(calls) <= 11
    assert engine.speed.frames["read"] >= 300


def test_the_resolution_changes_in_mid_stream() -> None:
    engine = PoseTracker(
        BoxEstimator(), bright_box, detect_every=2, config=TrackConfig(birth_frames=1)
    )
    found = [
        poses
        for _, poses in engine(
            frames(12, lambda index: scene(index, 0)[:: 1 + (index > 5), :: 1 + (index > 5)].copy())
        )
    ]
    assert [poses.track_ids.tolist() for poses in found] == [[1]] * 12


def test_no_frames_at_all() -> None:
    assert list(PoseTracker(BoxEstimator(), bright_box)(iter(()))) == []


@pytest.mark.parametrize("where", ["read", "detect", "pose"])
def test_an_error_in_a_stage_reaches_the_caller(where: str) -> None:
    estimator = BoxEstimator()

    def broken(*_: object, **options: object):
        raise UserError(f"{where} is broken")

    def reading() -> Iterator[Frame]:
        yield from frames(3)
        broken()

    if where == "pose":
        estimator.estimate_batch = broken  # type: ignore[method-assign]
    detector = broken if where == "detect" else bright_box
    with pytest.raises(UserError, match=f"{where} is broken"):
        list(PoseTracker(estimator, detector)(reading() if where == "read" else frames(3)))
    assert_no_threads_left()


def test_leaving_early_ends_all_threads() -> None:
    closed = []

    def endless() -> Iterator[Frame]:
        try:
            yield from frames(10**9)
        finally:
            closed.append(True)

    for _, _poses in PoseTracker(BoxEstimator(), bright_box)(endless()):
        break
    assert_no_threads_left()
    assert closed == [True]


@pytest.mark.parametrize(("patience", "finished"), [(None, True), (0.05, False)])
def test_the_end_waits_for_what_a_stage_is_at(patience: float | None, finished: bool) -> None:
    """A program that ends while a thread is inside a network is aborted; only a reader that may never come back is not waited for."""
    stop, begun, done = threading.Event(), threading.Event(), []

    def slow() -> Iterator[int]:
        yield 0
        begun.set()
        time.sleep(0.6)
        done.append(True)
        yield 1

    results = overlapped(slow(), 1, stop, patience)
    assert next(results) == 0 and begun.wait(5)
    stop.set()
    results.close()
    assert bool(done) == finished
    assert_no_threads_left()


def assert_no_threads_left() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if threading.active_count() == 1:
            return
        time.sleep(0.02)
    raise AssertionError(threading.enumerate())


def test_a_slow_caller_holds_the_reader_back() -> None:
    read = []

    def counted() -> Iterator[Frame]:
        for frame in frames(200, lambda index: np.zeros((8, 8, 3), np.uint8)):
            read.append(frame.index)
            yield frame

    results = PoseTracker(BoxEstimator(), bright_box, detect_every=5)(counted())
    next(results)
    time.sleep(0.3)
    assert len(read) < 80  # four queues of ten, and what is in the stages' hands
    results.close()


def test_memory_does_not_grow_with_the_length() -> None:
    """Pictures alive at any time: what the queues and stages hold, never the whole video. Ten thousand frames in benchmarks/engine.py."""
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def counted() -> Iterator[Frame]:
        nonlocal alive, most
        for index in range(600):
            image = np.zeros((16, 16, 3), np.uint8)
            weakref.finalize(image, gone)
            alive += 1
            most = max(most, alive)
            yield Frame(image, "drawn", index)

    assert sum(1 for _ in PoseTracker(BoxEstimator(), bright_box, detect_every=5)(counted())) == 600
    assert most < 100


def test_pictures_of_a_folder_are_not_followed(tmp_path) -> None:
    for index in range(3):
        write_image(tmp_path / f"{index}.png", scene(index * 9))
    estimator = BoxEstimator()
    found = list(PoseTracker(estimator, bright_box, detect_every=5, batch_frames=2)(tmp_path))
    assert [len(poses) for _, poses in found] == [1, 1, 1] and all(
        poses.track_ids is None for _, poses in found
    )
    assert estimator.calls == [2, 1]


@pytest.mark.parametrize("values", [{"detect_every": 0}, {"batch_frames": 0}])
def test_wrong_numbers_are_refused(values) -> None:
    with pytest.raises(UserError, match="whole numbers"):
        PoseTracker(BoxEstimator(), bright_box, **values)


def test_overlapped_keeps_order_and_really_overlaps() -> None:
    stop = threading.Event()

    def slow() -> Iterator[int]:
        for number in range(10):
            time.sleep(0.02)
            yield number

    seen = []
    for number in overlapped(slow(), 4, stop):
        seen.append((number, threading.current_thread() is threading.main_thread()))
    assert seen == [(number, True) for number in range(10)]


def test_speed_counts_work_not_waiting() -> None:
    speed = Speed()
    with speed.measure("read", 5):
        time.sleep(0.05)
    time.sleep(0.2)
    assert 20 < speed.fps()["read"] <= 100 and "read" in str(speed)


def test_ctrl_c_while_waiting_for_a_stage_ends_it() -> None:
    """The stage waits for room in its queue: without being told to stop it would be waited for without end."""
    stop = threading.Event()
    items = overlapped(itertools.count(), 1, stop)
    assert next(items) == 0

    def interrupt() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            items.throw(KeyboardInterrupt())

    runner = threading.Thread(target=interrupt, daemon=True)
    runner.start()
    runner.join(10)
    assert stop.is_set() and not runner.is_alive()
