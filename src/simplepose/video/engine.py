"""The engine: reading, detecting, flow, network and the caller's own work (drawing, writing)
overlap, each in its thread.

    for frame, poses in PoseTracker(estimator, detector)("match.mp4"):
        ...

Frames travel through bounded queues, so memory does not grow with the length of a video. The crops
of several frames go through the network together: within such a group the boxes come from the
detector and from the tracks as they stood before the group, carried along the flow.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from simplepose.core.errors import UserError, shown
from simplepose.core.structures import Frame, People, Poses
from simplepose.detection.people import Detector, PeopleSource, people_in
from simplepose.tracking.flow import STILL, Flow, carry_boxes, dis_flow
from simplepose.tracking.smooth import OneEuroConfig, PoseSmoother
from simplepose.tracking.track import TrackConfig, Tracker, join_boxes
from simplepose.video.streams import PictureStream, VideoStream, open_stream

if TYPE_CHECKING:
    from simplepose.pose.estimator import PoseEstimator

T = TypeVar("T")


@dataclass(slots=True)
class Looked:
    """A frame on its way."""

    frame: Frame
    people: People | None
    """What the detector saw; None where it did not look."""
    field: np.ndarray
    """Flow from the frame before, where somebody may be."""


class PoseTracker:
    """Estimates and follows people through a video, or estimates them in pictures.

    Args:
        estimator: makes the poses.
        detector: picture -> People, or a source that knows frames; see
            `simplepose.detection.people`.
        config: rules of tracking.
        detect_every: the detector looks at every so many frames; between them the tracker carries
            the boxes.
        batch_frames: frames whose crops go through the network together; 1 gives the least delay.
            Where None: `detect_every` if that is 2 to 8, else 4.
        smoothing: One Euro filter for the keypoints of each track.
        flow: (previous, next) -> (h, w, 2), see `simplepose.tracking.flow`; DIS where None.
        track: whether people are followed; pictures of a folder never are.

    One tracker can run over several streams at the same time: what a run learns is its own, and it
    can be pickled for another process.

    Attributes:
        speed: frames per second of each stage in the run that started last.
        stream: its stream, with its counts of frames and of those that did not decode.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        detector: Detector | PeopleSource,
        *,
        config: TrackConfig | None = None,
        detect_every: int = 5,
        batch_frames: int | None = None,
        smoothing: OneEuroConfig | None = None,
        flow: Flow | None = None,
        track: bool = True,
    ) -> None:
        if detect_every < 1 or (batch_frames is not None and batch_frames < 1):
            raise UserError(
                f"detect_every is {detect_every}, batch_frames {batch_frames}. "
                "Cure: give whole numbers from 1"
            )
        self.estimator, self.detector = estimator, detector
        self.config = config or TrackConfig()
        self.detect_every = detect_every
        self.batch_frames = batch_frames or (detect_every if 2 <= detect_every <= 8 else 4)
        self.smoothing, self.flow, self.track = smoothing, flow or dis_flow(), track
        self.speed = Speed()
        self.stream: VideoStream | PictureStream | Iterable[Frame] | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"stream": None}  # an open file stays here

    def __call__(
        self, source: str | Path | int | Iterable[Frame], *, drop_frames: bool = False
    ) -> Iterator[tuple[Frame, Poses]]:
        """Runs over a video file, camera number, picture, folder, glob pattern, or any iterable of
        Frames.

        Args:
            source: where the frames come from.
            drop_frames: leave out the oldest frames where they come faster than the network works
                (a camera), so that what comes out is not late; counted in `speed.dropped`.

        Yields:
            Each frame with its poses; `track_ids` are set where people are followed.
        """
        if not isinstance(source, (Path, int, Iterable)):
            raise UserError(
                f"{shown(source)} is no source of frames. "
                "Cure: a video, a camera number, pictures, or an iterable of Frame"
            )
        stream = open_stream(source) if isinstance(source, (str, Path, int)) else source
        self.stream = stream
        self.speed = Speed()
        run = copy(self)  # another run may start while this one goes on
        # what learns from frames, as MotionDetector does, starts anew
        run.detector = getattr(self.detector, "fresh", lambda: self.detector)()
        return run._run(stream, drop_frames)

    def _run(self, stream: Iterable[Frame], drop: bool) -> Iterator[tuple[Frame, Poses]]:
        """One run; the object is its own."""
        stop, depth = threading.Event(), 1 if drop else 2 * self.batch_frames
        dropped = self._drop if drop else None
        frames = overlapped(self._read(stream), depth, stop, patience=5, dropped=dropped)
        follow = self.track and getattr(stream, "is_video", True)
        looked = overlapped(self._look(frames, self.detect_every if follow else 1), depth, stop)
        if follow and self.config.mode == "flow":
            looked = overlapped(self._see_motion(looked), depth, stop)
        tracker = Tracker(self.estimator.schema, self.config, self.flow) if follow else None
        results = overlapped(self._estimate(looked, tracker), depth, stop)
        try:
            yield from results
        finally:
            stop.set()

    def _drop(self) -> None:
        self.speed.dropped += 1

    def _read(self, stream: Iterable[Frame]) -> Iterator[Frame]:
        frames = iter(stream)
        try:
            while True:
                with self.speed.measure("read"):
                    frame = next(frames, None)
                if frame is None:
                    return
                yield frame
        finally:
            close(frames)  # lets go of the file or camera

    def _look(self, frames: Iterable[Frame], every: int) -> Iterator[Looked]:
        for count, frame in enumerate(frames):
            with self.speed.measure("detect"):
                people = None if count % every else people_in(self.detector, frame)
            yield Looked(frame, people, STILL)

    def _see_motion(self, items: Iterable[Looked]) -> Iterator[Looked]:
        """Adds the flow where somebody may be: for as long as a track may outlive the detector's
        last sight of a person. The rest costs nothing."""
        last = self.detect_every * (2 + self.config.max_unconfirmed) + self.config.keep_frames
        quiet, previous = last, None
        for item in items:
            quiet = 0 if item.people else quiet + 1
            image = item.frame.image
            if previous is not None and previous.shape == image.shape and quiet <= last:
                with self.speed.measure("flow"):
                    item.field = self.flow(previous, image)
            previous = image
            yield item

    def _estimate(
        self, items: Iterable[Looked], tracker: Tracker | None
    ) -> Iterator[tuple[Frame, Poses]]:
        """The network's answers, for several frames of one picture size together."""
        smoother = PoseSmoother(self.smoothing)
        for _, run in itertools.groupby(items, lambda item: item.frame.image.shape):
            while group := list(itertools.islice(run, self.batch_frames)):
                looks = self._boxes(group, tracker)
                with self.speed.measure("pose", len(group)):
                    found = self.estimator.estimate_batch(
                        [item.frame.image for item in group],
                        [people for people, _ in looks],
                        calibrated=False,
                    )
                for item, poses, (_, seen) in zip(group, found, looks, strict=True):
                    if tracker:
                        with self.speed.measure("track"):
                            poses = tracker.update(
                                item.frame.image, poses, detected=seen, field=item.field
                            )
                    if tracker and self.smoothing:
                        poses = smoother(poses, item.frame.seconds)
                    yield item.frame, self.estimator.calibrated(poses)

    def _boxes(
        self, group: list[Looked], tracker: Tracker | None
    ) -> list[tuple[People, np.ndarray | None]]:
        """Where the network looks in each frame of a group, and whom the detector saw there."""
        if tracker is None:
            return [(item.people or People.empty(), None) for item in group]
        size_wh = group[0].frame.image.shape[1::-1]
        tracker.propagate(group[0].frame.image, group[0].field)
        carried = tracker.carried_boxes([item.field for item in group[1:]])
        # the detector's last view, carried along
        lately, looks = People.empty(), []
        for item, tracked in zip(group, carried, strict=True):
            if item.people is None:
                moved = carry_boxes(lately.boxes_xyxy, item.field, size_wh)
                lately = replace(lately, boxes_xyxy=moved)
            else:
                lately = item.people
                if self.config.mode != "flow":
                    # boxes that stand still help only where nobody looked
                    tracked = People.empty()
            joined, seen = join_boxes(lately, tracked, self.config.nms_threshold)
            looks.append((joined, None if item.people is None else seen))
        return looks


class Speed:
    """How many frames each stage has handled, and how long it worked for them (waiting does not
    count)."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.started = time.perf_counter()
        self.dropped = 0
        """Frames left out because the network was still at work."""

    @contextmanager
    def measure(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Times one piece of work."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - begin  # type: ignore[assignment]
        self.frames[stage] += frames

    def fps(self) -> dict[str, float]:
        """Frames per second of each stage alone, and of `all`: frames that came out per second of
        wall time."""
        rates = {
            stage: self.frames[stage] / (seconds or 1e-9) for stage, seconds in self.seconds.items()
        }
        return rates | {"all": self.frames["pose"] / (time.perf_counter() - self.started)}

    def __str__(self) -> str:
        return ", ".join(f"{stage} {rate:.0f}" for stage, rate in self.fps().items())


def overlapped(
    items: Iterable[T],
    depth: int,
    stop: threading.Event,
    patience: float | None = None,
    dropped: Callable[[], None] | None = None,
) -> Generator[T]:
    """Iterates over `items` in a thread of its own, at most `depth` ahead; an error there is raised
    here.

    Args:
        items: what the thread works through.
        depth: length of the queue.
        stop: set by whoever gives up early; all threads then end.
        patience: seconds to wait for the thread at the end; None waits until it has finished what
            it is at, because a program that ends while a thread is inside a network is aborted.
            What may wait for ever, as a camera does, needs a limit.
        dropped: where given, a full queue loses its oldest item, and this is told of each.
    """
    ready: queue.Queue[list[T]] = queue.Queue(depth)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for item in items:
                _put(ready, [item], stop, dropped)
                if stop.is_set():
                    break
        except BaseException as error:
            # whatever it was, it belongs to the caller
            errors.append(error)
        finally:
            _put(ready, [], stop)  # it waits for room, so that the last item is not lost
            close(items)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not stop.is_set():
            try:
                value = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if not value:
                break
            yield value[0]
    except (GeneratorExit, KeyboardInterrupt, SystemExit):
        # Ctrl-C may arrive in here; the thread waits for room in the queue until it hears of it
        stop.set()
        raise
    finally:
        thread.join(patience)
    for error in errors:
        raise error


def _put(
    ready: queue.Queue[list[T]],
    value: list[T],
    stop: threading.Event,
    dropped: Callable[[], None] | None = None,
) -> None:
    """Waits for room, or with `dropped` makes some, until `stop` is set."""
    while not stop.is_set():
        try:
            return ready.put(value, timeout=0 if dropped else 0.1)
        except queue.Full:
            if dropped:
                with suppress(queue.Empty):
                    ready.get_nowait()
                    dropped()


def close(items: object) -> None:
    """Ends a generator; other iterables have nothing to end."""
    getattr(items, "close", lambda: None)()
