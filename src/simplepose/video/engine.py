"""The engine: reading, detecting, flow, network and the caller's own work (drawing, writing) overlap, each in its thread.

    for frame, poses in PoseTracker(estimator, detector)("match.mp4"):
        ...

Frames travel through bounded queues, so memory does not grow with the length of a video. The crops of several frames go through the network
together: within such a group the boxes come from the detector and from the tracks as they stood before the group, carried along the flow.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.core.structures import Frame, People, Poses
from simplepose.detection.people import Detector, PeopleSource, people_in
from simplepose.tracking.flow import STILL, Flow, carry_boxes, dis_flow
from simplepose.tracking.smooth import OneEuroConfig, PoseSmoother
from simplepose.tracking.track import TrackConfig, Tracker, join_boxes
from simplepose.video.engine_threads import Speed, overlapped
from simplepose.video.streams import PictureStream, VideoStream, open_stream


class Estimator(Protocol):
    """What the engine needs of a `PoseEstimator`."""

    @property
    def schema(self) -> KeypointSchema: ...

    def estimate_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People], *, calibrated: bool
    ) -> list[Poses]: ...

    def calibrated(self, poses: Poses) -> Poses: ...


@dataclass(slots=True)
class Looked:
    """A frame on its way."""

    frame: Frame
    people: People | None
    """What the detector saw; None where it did not look."""
    field: np.ndarray | None = None
    """Flow from the frame before, where it was needed."""


def share_processor() -> int:
    """Gives each of the two networks that run at the same time half of the processor; sets OpenCV's and torch's threads for this process.

    Returns:
        Threads for each ONNX Runtime session.
    """
    import cv2
    import torch

    threads = max(1, (os.cpu_count() or 1) // 2)
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    return threads


class PoseTracker:
    """Estimates and follows people through a video, or estimates them in pictures.

    Args:
        estimator: a `PoseEstimator`.
        detector: picture -> People, or a source that knows frames; see `simplepose.detection.people`.
        config: rules of tracking.
        detect_every: the detector looks at every so many frames; between them the tracker carries the boxes.
        batch_frames: frames whose crops go through the network together; 1 gives the least delay. Where None: `detect_every` if that is
            2 to 8, else 4.
        smoothing: One Euro filter for the keypoints of each track.
        flow: (previous, next) -> (h, w, 2), see `simplepose.tracking.flow`; DIS where None.
        track: whether people are followed; pictures of a folder never are.

    Attributes:
        speed: frames per second of each stage in the current or last run.
        stream: the current or last stream, with its counts of frames and of those that did not decode.
    """

    def __init__(
        self,
        estimator: Estimator,
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
                f"detect_every is {detect_every}, batch_frames {batch_frames}. Cure: give whole numbers from 1"
            )
        self.estimator, self.detector = estimator, detector
        self.config = config or TrackConfig()
        self.detect_every = detect_every
        self.batch_frames = batch_frames or (detect_every if 2 <= detect_every <= 8 else 4)
        self.smoothing = smoothing
        self.track = track
        self._plain_flow, self._flow_lock = flow or dis_flow(), threading.Lock()
        self.speed = Speed()
        self.stream: VideoStream | PictureStream | Iterable[Frame] | None = None

    def __call__(self, source: str | Path | int | Iterable[Frame]) -> Iterator[tuple[Frame, Poses]]:
        """Runs over a video file, camera number, picture, folder, glob pattern, or any iterable of Frames.

        Yields:
            Each frame with its poses; `track_ids` are set where people are followed.
        """
        self.stream = open_stream(source) if isinstance(source, (str, Path, int)) else source
        self.speed = Speed()
        self._tracker = Tracker(self.estimator.schema, self.config, self._flow)
        follow = self.track and getattr(self.stream, "is_video", True)
        stop = threading.Event()
        depth = 2 * self.batch_frames
        frames = overlapped(self._read(self.stream), depth, stop, patience=5)
        looked = overlapped(self._look(frames, self.detect_every if follow else 1), depth, stop)
        moved = (
            overlapped(self._see_motion(looked), depth, stop)
            if follow and self.config.mode == "flow"
            else looked
        )
        results = overlapped(self._estimate(moved, follow), depth, stop)
        try:
            for result in results:
                yield result
        finally:
            stop.set()
            results.close()

    def _flow(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """One flow object, asked by two threads."""
        with self._flow_lock:
            return self._plain_flow(previous, following)

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
            close = getattr(frames, "close", None)
            if close:
                close()  # lets go of the file or camera

    def _look(self, frames: Iterable[Frame], every: int) -> Iterator[Looked]:
        for count, frame in enumerate(frames):
            people = None
            with self.speed.measure("detect"):
                if count % every == 0:
                    people = people_in(self.detector, frame)
            yield Looked(frame, people)

    def _see_motion(self, items: Iterable[Looked]) -> Iterator[Looked]:
        """Adds the flow where somebody may be: seen by the detector lately, or followed. The rest costs nothing."""
        previous: np.ndarray | None = None
        quiet = 0
        for item in items:
            quiet = 0 if item.people is not None and len(item.people) else quiet + 1
            image = item.frame.image
            if (
                previous is not None
                and previous.shape == image.shape
                and (quiet <= 2 * self.detect_every or self._tracker.tracks)
            ):
                with self.speed.measure("flow"):
                    item.field = self._flow(previous, image)
            previous = image
            yield item

    def _estimate(self, items: Iterable[Looked], follow: bool) -> Iterator[tuple[Frame, Poses]]:
        smoother = PoseSmoother(self.smoothing) if self.smoothing and follow else None
        for group in in_groups(items, self.batch_frames):
            with self.speed.measure("pose", len(group)):
                images = [item.frame.image for item in group]
                people, seen = (
                    self._boxes(group)
                    if follow
                    else ([item.people or People.empty() for item in group], [])
                )
                poses = self.estimator.estimate_batch(images, people, calibrated=False)
            if follow:
                with self.speed.measure("track", len(group)):
                    poses = [
                        self._tracker.update(
                            item.frame.image, found, detected=who, field=item.field
                        )
                        for item, found, who in zip(group, poses, seen, strict=True)
                    ]
                    if smoother is not None:
                        poses = [
                            smoother(found, item.frame.seconds)
                            for item, found in zip(group, poses, strict=True)
                        ]
            yield from (
                (item.frame, self.estimator.calibrated(found))
                for item, found in zip(group, poses, strict=True)
            )

    def _boxes(self, group: list[Looked]) -> tuple[list[People], list[np.ndarray | None]]:
        """Where the network looks in each frame of a group, and whom the detector saw there."""
        size_wh = (group[0].frame.image.shape[1], group[0].frame.image.shape[0])
        fields = [
            STILL if item.field is None else item.field for item in group
        ]  # none was needed, or is known at a new resolution
        self._tracker.propagate(group[0].frame.image, group[0].field)
        carried = self._tracker.carried_boxes(fields[1:])
        lately = People.empty()  # the detector's last view, carried along
        people: list[People] = []
        seen: list[np.ndarray | None] = []
        for item, tracked, field in zip(group, carried, fields, strict=True):
            lately = (
                item.people
                if item.people is not None
                else replace(lately, boxes_xyxy=carry_boxes(lately.boxes_xyxy, field, size_wh))
            )
            if item.people is not None and self.config.mode != "flow":
                tracked = People.empty()  # boxes that stand still help only where nobody looked
            joined, who = join_boxes(lately, tracked, self.config.nms_threshold)
            people.append(joined)
            seen.append(who if item.people is not None else None)
        return people, seen


def in_groups(items: Iterable[Looked], size: int) -> Iterator[list[Looked]]:
    """Lists of up to `size` frames of one picture size, as they come."""
    group: list[Looked] = []
    for item in items:
        if group and item.frame.image.shape != group[0].frame.image.shape:
            yield group
            group = []
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
