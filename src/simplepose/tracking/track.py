"""Tracking by joint propagation and pose similarity, as *Simple Baselines* section 3 describes it;
plain OKS and IoU modes beside it.

    tracker = Tracker(estimator.schema)
    for image in images:
        people, seen = join_boxes(detector(image), tracker.propagated_boxes(image))
        (poses,) = estimator.estimate_batch([image], [people])
        poses = tracker.update(image, poses, detected=seen)

Axis letters: T tracks, M poses of a track's history, N poses, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simplepose.core.boxes import area, iou, nms
from simplepose.core.oks import EPS, oks_nms, oks_terms, rescore
from simplepose.core.schema import KeypointSchema
from simplepose.core.settings import AtLeast0, AtLeast1, Flag, Fraction, NotNegative, settings
from simplepose.core.structures import People, Poses
from simplepose.tracking.flow import Flow, dis_flow, propagate

SPEED_FRAMES = 5
"""Sightings over which the speed of a track is averaged."""


@settings("track")
class TrackConfig:
    """How identities are carried from frame to frame."""

    mode: Literal["flow", "oks", "iou"] = "flow"
    """What is compared: poses propagated by optical flow (the paper), poses as they stood, or boxes
    as they stood."""
    matching: Literal["greedy", "hungarian"] = "greedy"
    """Best pair first (the paper), or the assignment of largest sum."""
    min_similarity: Fraction = 0.2
    """Pairs less alike are never one person."""
    history: AtLeast1 = 2
    """Poses of each track that are propagated and compared; the best counts."""
    coast: Flag = True
    """Flow mode: a lost track is also compared where its last speed would have brought it; flow at
    its place is that of what hides it."""
    keep_frames: AtLeast0 = 30
    """A track not seen for more frames is over."""
    carry_frames: AtLeast0 = 3
    """A track not seen for more frames no longer offers its box to the network."""
    max_unconfirmed: AtLeast0 = 6
    """Looks of the detector in a row that may miss a person whom the network sees; stops poses that
    live on their own box."""
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
    """Boxes around keypoints grow by this fraction of their side, on each side (the paper's
    15 %)."""
    nms_threshold: Fraction = 0.5
    """Of a propagated and a detected box with a larger IoU the weaker goes."""


@dataclass(slots=True)
class Track:
    """One person followed: what the tracker remembers."""

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
    track_id: int = 0
    """0 until the track has been seen `birth_frames` times."""
    hits: int = 1
    """Sightings."""
    missed: int = 0
    """Frames since the last sighting."""
    unconfirmed: int = 0
    """Sightings by the network alone, in frames where the detector looked, since the detector last
    saw the person."""

    def sight(self, keypoints: np.ndarray, shift: np.ndarray, history: int) -> None:
        """Takes the (K, 2) pose found in the present frame, (2,) pixels from where it was seen."""
        self.velocity += (shift / self.missed - self.velocity) / min(self.hits, SPEED_FRAMES)
        self.missed, self.hits, self.seen = 0, self.hits + 1, keypoints
        self.keypoints = np.concatenate([keypoints[None], self.keypoints])[:history]

    def scale(self, ratio: np.ndarray) -> None:
        """The picture has got another size; `ratio` (2,) is new / old width and height."""
        self.keypoints, self.seen = self.keypoints * ratio, self.seen * ratio
        self.velocity, self.box_xyxy = self.velocity * ratio, self.box_xyxy * np.tile(ratio, 2)


class Tracker:
    """Gives poses their identities, frame by frame.

    Args:
        schema: whose sigmas measure similarity.
        config: the rules.
        flow: (previous, next) -> (h, w, 2), see `simplepose.tracking.flow`; DIS where None. Used in
            flow mode only, where nobody gives the field.
    """

    def __init__(
        self, schema: KeypointSchema, config: TrackConfig | None = None, flow: Flow | None = None
    ) -> None:
        self.schema, self.config = schema, config or TrackConfig()
        self.flow = flow or dis_flow()
        self.tracks: list[Track] = []
        self.next_id = 1
        self._image: np.ndarray | None = None

    def propagate(self, image: np.ndarray, field: np.ndarray | None = None) -> None:
        """Moves all tracks into the frame `image`, once; by itself where it is not called.

        Args:
            image: (H, W, 3) uint8 RGB of the new frame.
            field: flow from the last frame to it, where it is known already.
        """
        previous, self._image = self._image, image
        if previous is None or previous is image or not self.tracks:
            return
        size_wh = image.shape[1::-1]
        if previous.shape != image.shape:  # the stream changed its resolution
            for track in self.tracks:
                track.scale(np.divide(size_wh, previous.shape[1::-1], dtype=np.float32))
        elif self.config.mode == "flow":
            field = self.flow(previous, image) if field is None else field
            before = np.concatenate([track.keypoints for track in self.tracks])
            moved = propagate(before, field, size_wh)
            ends = np.cumsum([len(track.keypoints) for track in self.tracks])
            firsts = [0, *ends[:-1]]
            shifts = np.median((moved - before)[firsts], axis=1)  # of the newest poses
            for track, first, end, shift in zip(self.tracks, firsts, ends, shifts, strict=True):
                track.keypoints = moved[first:end]
                track.box_xyxy = track.box_xyxy + np.tile(shift, 2)

    def propagated_boxes(self, image: np.ndarray) -> People:
        """The boxes of tracks seen lately, in the frame `image`, for the network to look at."""
        self.propagate(image)
        return self.carried_boxes()[0]

    def carried_boxes(self, fields: Sequence[np.ndarray] = ()) -> list[People]:
        """The boxes of tracks seen lately in the present frame and, chained over the flows
        `fields`, in each of the frames to come: 1 + L People.

        The score is the mean of the keypoint scores above .2: as a detector's box of score 1 would
        be rescored.
        """
        live = [track for track in self.tracks if track.missed <= self.config.carry_frames]
        if not live or self._image is None:
            return [People.empty()] * (1 + len(fields))
        size_wh = self._image.shape[1::-1]
        places = [np.stack([track.keypoints[0] for track in live])]
        for field in fields:
            places.append(propagate(places[-1], field, size_wh))
        moved = np.stack(places)  # (1 + L, T, K, 2)
        scores = np.stack([track.keypoint_scores for track in live])
        rest = np.stack([track.box_xyxy for track in live])
        confidence = rescore(np.ones(len(live)), scores)
        around, known = keypoint_boxes(
            moved, scores, self.config.min_keypoint_score, self.config.box_margin
        )
        shifted = rest + np.tile(np.median(moved - moved[0], axis=2), 2)
        boxes = np.where(known[..., None], around, shifted)
        sides = np.minimum(boxes[..., 2:], size_wh) - np.maximum(boxes[..., :2], 0)
        inside = np.all(sides > 2, axis=-1)
        return [
            People(found[kept], confidence[kept]) for found, kept in zip(boxes, inside, strict=True)
        ]

    def update(
        self,
        image: np.ndarray,
        poses: Poses,
        *,
        detected: np.ndarray | None = None,
        field: np.ndarray | None = None,
    ) -> Poses:
        """Takes the poses of the frame `image` and gives back those that belong to a person, with
        `track_ids`.

        Args:
            image: (H, W, 3) uint8 RGB.
            poses: estimated in this frame.
            detected: (N,) whether the detector saw that person, as `join_boxes` says; None where it
                did not look.
            field: flow from the last frame, where it is known already.
        """
        self.propagate(image, field)
        kept = self._people(poses)
        poses, confirmed = poses[kept], np.ones(len(kept), bool)
        if detected is not None:
            confirmed = detected[kept]
        hungarian = self.config.matching == "hungarian"
        pairs = match(self.similarity(poses), self.config.min_similarity, hungarian=hungarian)
        owner_of = {column: self.tracks[row] for row, column in pairs}
        for track in self.tracks:
            track.missed += 1
        found = poses.keypoints[list(owner_of)]
        seen = [track.seen for track in owner_of.values()]
        shifts = np.median(found - np.array(seen).reshape(found.shape), axis=1)
        for (column, track), shift in zip(owner_of.items(), shifts, strict=True):
            track.sight(poses.keypoints[column], shift, self.config.history)
            track.keypoint_scores = poses.keypoint_scores[column]
            track.box_xyxy = poses.boxes_xyxy[column]
            if detected is not None:
                track.unconfirmed = 0 if confirmed[column] else track.unconfirmed + 1
        self.tracks = [track for track in self.tracks if self._lives(track)]
        born = confirmed & (poses.scores >= self.config.birth_score)
        ids = np.zeros(len(poses), np.int64)
        for column in range(len(poses)):
            if column in owner_of:
                track = owner_of[column]
            elif born[column]:
                track = self._start(poses, column)
            else:
                continue
            if not track.track_id and track.hits >= self.config.birth_frames:
                track.track_id, self.next_id = self.next_id, self.next_id + 1
            ids[column] = track.track_id
        return replace(poses[ids > 0], track_ids=ids[ids > 0])

    def similarity(self, poses: Poses) -> np.ndarray:
        """(T, N): how alike each track and each pose are; the best of the track's history
        counts."""
        if not self.tracks or not len(poses):
            return np.zeros((len(self.tracks), len(poses)))
        if self.config.mode == "iou":
            return iou(np.stack([track.box_xyxy for track in self.tracks]), poses.boxes_xyxy)
        past = [self._candidates(track) for track in self.tracks]
        alike = self._alike(poses, np.concatenate(past))
        first = np.cumsum([0, *map(len, past[:-1])])
        return np.maximum.reduceat(alike.T, first)

    def _alike(self, poses: Poses, others: np.ndarray) -> np.ndarray:
        """(N, M) OKS of poses and (M, K, 2) others; 0 where it cannot reach `min_similarity`, which
        is most pairs of a crowd: no keypoint is nearer than the boxes around them."""
        sigmas, areas = np.asarray(self.schema.sigmas), self._areas(poses)
        ours, theirs = (part.astype(np.float64) for part in (poses.keypoints, others))
        apart = np.zeros((len(ours), len(theirs)))
        for axis in range(2):
            one, other = ours[..., axis], theirs[..., axis]
            gap = np.maximum(
                one.min(1)[:, None] - other.max(1), other.min(1) - one.max(1)[:, None]
            ).clip(0)
            apart += gap * gap
        most = np.exp(-apart / (8 * sigmas.max() ** 2 * (areas + EPS))[:, None])
        near = np.nonzero(most >= 0.99 * self.config.min_similarity)
        alike = np.zeros(apart.shape)
        alike[near] = oks_terms(ours[near[0]], theirs[near[1]], areas[near[0]], sigmas).mean(-1)
        return alike

    def _candidates(self, track: Track) -> np.ndarray:
        """(M, K, 2) where the person may be now."""
        if self.config.mode == "flow" and self.config.coast and track.missed:
            coasted = track.seen + track.velocity * (track.missed + 1)
            return np.concatenate([track.keypoints, coasted[None]])
        return track.keypoints

    def _people(self, poses: Poses) -> np.ndarray:
        """Indices of poses that are people and not seen twice, best score first."""
        best = oks_nms(
            poses.keypoints,
            poses.scores,
            self._areas(poses),
            self.schema.sigmas,
            self.config.duplicate_oks,
        )
        return best[poses.scores[best] >= self.config.min_score]

    def _areas(self, poses: Poses) -> np.ndarray:
        """(N,) square pixels of the box around the keypoints, of the estimation box where too few
        of them are known."""
        around, known = keypoint_boxes(
            poses.keypoints, poses.keypoint_scores, self.config.min_keypoint_score
        )
        return np.where(known, area(around), area(poses.boxes_xyxy))

    def _start(self, poses: Poses, column: int) -> Track:
        """A new track without an id."""
        keypoints, scores = poses.keypoints[column], poses.keypoint_scores[column]
        box, still = poses.boxes_xyxy[column], np.zeros(2, np.float32)
        self.tracks.append(Track(keypoints[None], scores, box, keypoints, still))
        return self.tracks[-1]

    def _lives(self, track: Track) -> bool:
        """Death: not seen for long, not confirmed by the detector for long, or lost before it had
        its id."""
        return (
            track.missed <= (self.config.keep_frames if track.track_id else 0)
            and track.unconfirmed <= self.config.max_unconfirmed
        )


def keypoint_boxes(
    keypoints: np.ndarray, keypoint_scores: np.ndarray, min_score: float, margin: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around keypoints, grown by `margin` of their side on each side (Simple Baselines,
    section 3.2).

    Args:
        keypoints: (..., N, K, 2).
        keypoint_scores: (N, K).
        min_score: keypoints below it do not count.
        margin: fraction of the side added on each side.

    Returns:
        boxes_xyxy (..., N, 4) float32 and (..., N) bool: whether enough keypoints (4, or all there
        are) told the box.
    """
    counted = keypoint_scores >= min_score
    low = np.where(counted[..., None], keypoints, np.inf).min(-2, initial=np.inf)
    high = np.where(counted[..., None], keypoints, -np.inf).max(-2, initial=-np.inf)
    known = (counted.sum(-1) >= min(4, counted.shape[-1])) & (high > low).all(-1)
    low, high = (np.where(known[..., None], side, 0).astype(np.float32) for side in (low, high))
    grow = margin * (high - low)
    return np.concatenate([low - grow, high + grow], -1), known


def join_boxes(
    detected: People, propagated: People, threshold: float = 0.5
) -> tuple[People, np.ndarray]:
    """The detector's and the tracker's boxes as one, by NMS (Simple Baselines, section 3.2).

    Returns:
        People, best score first, and (N,) bool: whether the detector saw that person, with its own
        box or one that NMS took away.
    """
    if not (len(detected) or len(propagated)):
        return detected, np.zeros(0, bool)
    boxes = np.concatenate([detected.boxes_xyxy, propagated.boxes_xyxy])
    scores = np.concatenate([detected.scores, propagated.scores])
    kept = nms(boxes, scores, threshold)
    seen = (iou(boxes[kept], detected.boxes_xyxy) > threshold).any(1) | (kept < len(detected))
    return People(boxes[kept], scores[kept]), seen


def match(
    similarity: np.ndarray, minimum: float, *, hungarian: bool = False
) -> list[tuple[int, int]]:
    """Pairs (row, column) of a (T, N) similarity that are at least `minimum` alike, each row and
    column at most once.

    Args:
        similarity: larger is more alike.
        minimum: pairs below it are no pairs.
        hungarian: the pairs of largest sum; else greedily the best pair first (Simple Baselines,
            algorithm 1).
    """
    if hungarian:
        from scipy.optimize import linear_sum_assignment

        found = linear_sum_assignment(np.where(similarity >= minimum, similarity, 0), maximize=True)
        rows, columns = (index[similarity[found] >= minimum] for index in found)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))
    rows, columns = np.nonzero(similarity >= minimum)
    order = np.argsort(-similarity[rows, columns], kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return list(pairs.items())
