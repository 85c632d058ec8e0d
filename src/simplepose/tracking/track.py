"""Tracking by joint propagation and pose similarity, as *Simple Baselines* section 3 describes it; plain OKS and IoU modes beside it.

    tracker = Tracker(estimator.schema)
    for image in images:
        people, _ = join_boxes(detector(image), tracker.propagated_boxes(image))
        poses = tracker.update(image, estimator(image, people.boxes_xyxy, people.scores))

Axis letters: T tracks, M poses of a track's history, N poses, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simplepose.core.boxes import area, iou
from simplepose.core.oks import oks, oks_nms, rescore
from simplepose.core.schema import KeypointSchema
from simplepose.core.settings import AtLeast0, AtLeast1, Flag, Fraction, NotNegative, settings
from simplepose.core.structures import People, Poses
from simplepose.tracking.flow import Flow, chain, dis_flow, propagate
from simplepose.tracking.matching import keypoint_boxes, match

SPEED_FRAMES = 5
"""Sightings over which the speed of a track is averaged."""


@settings("track")
class TrackConfig:
    """How identities are carried from frame to frame."""

    mode: Literal["flow", "oks", "iou"] = "flow"
    """What is compared: poses propagated by optical flow (the paper), poses as they stood, or boxes as they stood."""
    matching: Literal["greedy", "hungarian"] = "greedy"
    """Best pair first (the paper), or the assignment of largest sum."""
    min_similarity: Fraction = 0.2
    """Pairs less alike are never one person."""
    history: AtLeast1 = 2
    """Poses of each track that are propagated and compared; the best counts."""
    coast: Flag = True
    """Flow mode: a lost track is also compared where its last speed would have brought it; flow at its place is that of what hides it."""
    keep_frames: AtLeast0 = 30
    """A track not seen for more frames is over."""
    carry_frames: AtLeast0 = 3
    """A track not seen for more frames no longer offers its box to the network."""
    max_unconfirmed: AtLeast0 = 6
    """Looks of the detector in a row that may miss a person whom the network sees; stops poses that live on their own box."""
    min_score: Fraction = 0.12
    """A pose below it is nobody: the network finds something in every box it is shown."""
    birth_score: Fraction = 0.3
    """A pose below it starts no track."""
    birth_frames: AtLeast1 = 2
    """Sightings in a row before a new track gets its id."""
    min_keypoint_score: Fraction = 0.2
    """Keypoints below it do not shape boxes."""
    duplicate_oks: Fraction = 0.6
    """Of two poses of one frame more alike than this the weaker goes."""
    box_margin: NotNegative = 0.15
    """Boxes around keypoints grow by this fraction of their side, on each side (the paper's 15 %)."""
    nms_threshold: Fraction = 0.5
    """Of a propagated and a detected box with a larger IoU the weaker goes."""


@dataclass(slots=True)
class Track:
    """One person followed: what the tracker remembers."""

    track_id: int
    keypoints: np.ndarray
    """(M, K, 2) float32 the last M poses, newest first, each propagated to the present frame."""
    keypoint_scores: np.ndarray
    """(K,) of the newest."""
    box_xyxy: np.ndarray
    """(4,) of the newest, propagated."""
    seen: np.ndarray
    """(K, 2) the newest pose where it was seen."""
    velocity: np.ndarray
    """(2,) pixels a frame, smoothed."""
    hits: int = 1
    """Sightings."""
    missed: int = 0
    """Frames since the last sighting."""
    unconfirmed: int = 0
    """Sightings by the network alone, in frames where the detector looked, since the detector last saw the person."""


class Tracker:
    """Gives poses their identities, frame by frame.

    Args:
        schema: whose sigmas measure similarity.
        config: the rules.
        flow: (previous, next) -> (h, w, 2), see `simplepose.tracking.flow`; DIS where None. Used in flow mode only.
    """

    def __init__(
        self, schema: KeypointSchema, config: TrackConfig | None = None, flow: Flow | None = None
    ) -> None:
        self.schema = schema
        self.config = config or TrackConfig()
        self.flow = flow or dis_flow()
        self.tracks: list[Track] = []
        self.next_id = 1
        self._image: np.ndarray | None = None

    def propagate(self, image: np.ndarray, field: np.ndarray | None = None) -> None:
        """Moves all tracks into the frame `image`; happens once a frame, by itself where it is not called.

        Args:
            image: (H, W, 3) uint8 RGB of the new frame.
            field: flow from the last frame to it, where it is known already.
        """
        previous, self._image = self._image, image
        if previous is None or previous is image or not self.tracks:
            return
        if previous.shape != image.shape:  # the stream changed its resolution
            ratio = np.array(
                [image.shape[1] / previous.shape[1], image.shape[0] / previous.shape[0]], np.float32
            )
            for track in self.tracks:
                track.keypoints, track.box_xyxy = (
                    track.keypoints * ratio,
                    track.box_xyxy * np.tile(ratio, 2),
                )
                track.seen = track.seen * ratio
                track.velocity = track.velocity * ratio
            return
        if self.config.mode != "flow":
            return
        field = self.flow(previous, image) if field is None else field
        size_wh = (image.shape[1], image.shape[0])
        moved = propagate(
            np.concatenate([track.keypoints for track in self.tracks]), field, size_wh
        )
        first = 0
        for track in self.tracks:
            before, track.keypoints = track.keypoints, moved[first : first + len(track.keypoints)]
            first += len(track.keypoints)
            track.box_xyxy = track.box_xyxy + np.tile(
                np.median(track.keypoints[0] - before[0], axis=0), 2
            )

    def propagated_boxes(self, image: np.ndarray | None = None) -> People:
        """The boxes of tracks seen lately, in the frame `image` (the last one where None), for the network to look at.

        The score is the mean of the keypoint scores above .2: as a detector's box of score 1 would be rescored.
        """
        if image is not None and image is not self._image:
            self.propagate(image)
        return self.carried_boxes([])[0]

    def carried_boxes(self, fields: Sequence[np.ndarray]) -> list[People]:
        """The boxes of tracks seen lately in the present frame and, chained over `fields`, in each of the frames to come: 1 + L People."""
        live = [track for track in self.tracks if track.missed <= self.config.carry_frames]
        if not live or self._image is None:
            return [People.empty()] * (1 + len(fields))
        size_wh = (self._image.shape[1], self._image.shape[0])
        keypoints = np.stack([track.keypoints[0] for track in live])
        scores = np.stack([track.keypoint_scores for track in live])
        rest = np.stack([track.box_xyxy for track in live])
        confidence = rescore(np.ones(len(live)), scores)
        found = []
        for moved in [keypoints, *chain(keypoints, fields, size_wh)]:
            around, known = keypoint_boxes(
                moved,
                scores,
                margin=self.config.box_margin,
                min_score=self.config.min_keypoint_score,
            )
            shifted = rest + np.tile(np.median(moved - keypoints, axis=1), 2)
            boxes = np.where(known[:, None], around, shifted)
            inside = (np.minimum(boxes[:, 2:], size_wh) - np.maximum(boxes[:, :2], 0) > 2).all(1)
            found.append(People(boxes[inside], confidence[inside]))
        return found

    def update(
        self,
        image: np.ndarray,
        poses: Poses,
        *,
        detected: np.ndarray | None = None,
        field: np.ndarray | None = None,
    ) -> Poses:
        """Takes the poses of the frame `image` and gives back those that belong to a person, with `track_ids`.

        Args:
            image: (H, W, 3) uint8 RGB.
            poses: estimated in this frame.
            detected: (N,) whether the detector saw that person, as `join_boxes` says; None where it did not look.
            field: flow from the last frame, where it is known already.
        """
        if image is not self._image:
            self.propagate(image, field)
        best = oks_nms(
            poses.keypoints,
            poses.scores,
            self._areas(poses),
            self.schema.sigmas,
            self.config.duplicate_oks,
        )
        best = best[poses.scores[best] >= self.config.min_score]
        poses, detected = poses[best], None if detected is None else np.asarray(detected)[best]
        pairs = match(
            self.similarity(poses),
            self.config.min_similarity,
            hungarian=self.config.matching == "hungarian",
        )
        track_of = {column: self.tracks[row] for row, column in pairs}
        for track in self.tracks:
            track.missed += 1
        for column, track in track_of.items():
            shift = np.median(poses.keypoints[column] - track.seen, axis=0) / track.missed
            track.velocity += (shift - track.velocity) / min(track.hits, SPEED_FRAMES)
            track.missed, track.hits, track.seen = 0, track.hits + 1, poses.keypoints[column]
            track.keypoints = np.concatenate(
                [poses.keypoints[column : column + 1], track.keypoints]
            )[: self.config.history]
            track.keypoint_scores, track.box_xyxy = (
                poses.keypoint_scores[column],
                poses.boxes_xyxy[column],
            )
            if detected is not None:
                track.unconfirmed = 0 if detected[column] else track.unconfirmed + 1
        self.tracks = [track for track in self.tracks if self._lives(track)]
        for column in range(len(poses)):
            if (
                column not in track_of
                and poses.scores[column] >= self.config.birth_score
                and (detected is None or detected[column])
            ):
                keypoints, scores, box = (
                    poses.keypoints[column],
                    poses.keypoint_scores[column],
                    poses.boxes_xyxy[column],
                )
                track = Track(0, keypoints[None], scores, box, keypoints, np.zeros(2, np.float32))
                self.tracks.append(track)
                track_of[column] = track
        known = []
        for column in sorted(track_of):
            track = track_of[column]
            if track.track_id == 0 and track.hits >= self.config.birth_frames:
                track.track_id, self.next_id = self.next_id, self.next_id + 1
            if track.track_id:
                known.append((column, track.track_id))
        columns, ids = [column for column, _ in known], [track_id for _, track_id in known]
        return replace(poses[np.array(columns, np.int64)], track_ids=np.array(ids, np.int64))

    def similarity(self, poses: Poses) -> np.ndarray:
        """(T, N): how alike each track and each pose are; the best of the track's history counts."""
        if not self.tracks or not len(poses):
            return np.zeros((len(self.tracks), len(poses)))
        if self.config.mode == "iou":
            return iou(np.stack([track.box_xyxy for track in self.tracks]), poses.boxes_xyxy)
        past = [track.keypoints for track in self.tracks]
        if self.config.mode == "flow" and self.config.coast:
            past = [
                np.concatenate(
                    [keypoints, (track.seen + track.velocity * (track.missed + 1))[None]]
                )
                if track.missed
                else keypoints
                for keypoints, track in zip(past, self.tracks, strict=True)
            ]
        owner = np.repeat(np.arange(len(past)), [len(keypoints) for keypoints in past])
        alike = oks(
            poses.keypoints, np.concatenate(past), self._areas(poses), self.schema.sigmas
        )  # (N, M of all tracks)
        best = np.zeros((len(past), len(poses)))
        np.maximum.at(best, owner, alike.T)
        return best

    def _areas(self, poses: Poses) -> np.ndarray:
        """(N,) square pixels of the box around the keypoints, of the estimation box where too few of them are known."""
        around, known = keypoint_boxes(
            poses.keypoints, poses.keypoint_scores, min_score=self.config.min_keypoint_score
        )
        return np.where(known, area(around), area(poses.boxes_xyxy))

    def _lives(self, track: Track) -> bool:
        """Death: not seen for long, not confirmed by the detector for long, or lost before it had its id."""
        if track.track_id == 0 and track.missed:
            return False
        return (
            track.missed <= self.config.keep_frames
            and track.unconfirmed <= self.config.max_unconfirmed
        )
