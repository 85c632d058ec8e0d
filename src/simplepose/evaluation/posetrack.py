"""PoseTrack: keypoint AP and keypoint MOTA as poseval computes them, and IDF1 and HOTA of whole people.

A predicted keypoint is right when it is no farther from the annotated one than half the head size (PCKh@0.5), the head size being 0.6 x the
diagonal of the head box. Two modes:

* `exact=True` repeats the original tool: it drops frames without annotated people and then, for tracking, the last frame of each sequence;
  it counts a frame in which nobody is annotated or nobody predicted as one miss and one false positive of every keypoint, however many
  people there are; and people without keypoints, who are left out otherwise, stand for somebody there in frames without ignore regions.
* `exact=False` (default) scores every annotated frame and counts what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.oks import oks
from simplepose.core.schema import POSETRACK_15
from simplepose.evaluation.posetrack_frames import (
    PoseTrackFrame,
    above,
    cleaned,
    with_keypoints,
    without_regions,
)
from simplepose.evaluation.tracking import (
    ClearMot,
    Hota,
    Identity,
    TrackedFrame,
    check_track_ids,
    clear_mot,
    hota,
    identity,
)

NAMES = POSETRACK_15.keypoints
DISTANCE = 0.5
"""A keypoint is right up to this distance, in head sizes."""
MAX_TRACKS = 1000
"""The official tool takes track ids 0..999."""
GROUPS: dict[str, tuple[str, ...]] = {
    "head": ("head_top", "head_bottom", "nose"),
    **{
        name: (f"left_{name}", f"right_{name}")
        for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    },
}
"""The columns of the official table."""


def evaluate_posetrack(
    sequences: Mapping[str, Sequence[PoseTrackFrame]],
    *,
    exact: bool = False,
    ap_threshold: float = -np.inf,
    tracking_threshold: float = -np.inf,
    tracking: bool = True,
    similarity: Literal["pckh", "oks"] = "pckh",
) -> dict[str, float]:
    """All PoseTrack numbers of a set of sequences, in percent.

    Args:
        sequences: frames in order, by the name of the sequence.
        exact: repeat the original tool's quirks (see the head of this file).
        ap_threshold: keypoints with a lower score do not count for AP. Low ones help AP and hurt MOTA, hence two thresholds.
        tracking_threshold: keypoints with a lower score do not count for MOTA, MOTP, IDF1 and HOTA.
        tracking: False scores AP only; the track ids of the predictions are then not looked at.
        similarity: of two people, for IDF1 and HOTA: share of the annotated keypoints that are right, or OKS.

    Returns:
        `AP`, `MOTA`, `MOTP`, `Prec`, `Rec` averaged over the keypoints, `AP head` .. `AP ankle` and `MOTA head` .. `MOTA ankle`, and
        `IDF1`, `HOTA`, `DetA`, `AssA` of people. NaN where nothing was annotated.
        MOTP is 100 x (1 - mean distance of the matches in head sizes).

    Raises:
        UserError: an empty sequence, a missing head box, bad track ids, arrays that do not fit PoseTrack's 15 keypoints.
    """
    if not sequences:
        raise UserError("there is no sequence to score. Cure: check the folder of the annotations")
    prepared = {
        name: [cleaned(f, len(NAMES), f"{name}, frame {i}") for i, f in enumerate(frames)]
        for name, frames in sequences.items()
    }
    for name, frames in prepared.items():
        if not frames:
            raise UserError(
                f"sequence {name} has no frames. Cure: check that its file was copied completely"
            )
    kept = {
        name: [f for f in frames if (len(f.track_ids) if exact else f.annotated)]
        for name, frames in prepared.items()
    }
    kept = {name: [without_regions(f, exact) for f in frames] for name, frames in kept.items()}
    precision = _average_precision(
        [above(f, ap_threshold) for frames in kept.values() for f in frames], len(NAMES), exact
    )
    columns = {"AP": precision}
    result = {"AP": _mean(precision)}
    if tracking:
        tracked = {
            name: [above(f, tracking_threshold) for f in (frames[:-1] if exact else frames)]
            for name, frames in kept.items()
        }
        for name, frames in tracked.items():
            for f in frames:
                check_track_ids(f.track_ids, f"ground truth of {name}")
                check_track_ids(
                    f.predicted_track_ids, f"predictions of {name}", MAX_TRACKS if exact else None
                )
        joints = _keypoint_tracking(list(tracked.values()), len(NAMES), exact)
        columns["MOTA"] = np.array([joint.mota for joint in joints])
        result |= {
            "MOTA": _mean(columns["MOTA"]),
            "MOTP": _mean(
                [
                    joint.motp if exact or joint.matches + joint.misses else np.nan
                    for joint in joints
                ]
            ),
            "Prec": _mean([joint.precision for joint in joints]),
            "Rec": _mean([joint.recall for joint in joints]),
        }
        people = [
            [_person_frame(with_keypoints(f), similarity) for f in frames]
            for frames in tracked.values()
        ]
        identities: Identity = sum((identity(frames) for frames in people), Identity())
        higher: Hota = sum((hota(frames) for frames in people), Hota())
        result |= {
            "IDF1": identities.idf1,
            "HOTA": higher.hota,
            "DetA": higher.deta,
            "AssA": higher.assa,
        }
    for measure, values in columns.items():
        for group, members in GROUPS.items():
            result[f"{measure} {group}"] = float(
                np.mean(values[[NAMES.index(name) for name in members]])
            )
    return {name: 100 * float(value) for name, value in result.items()}


def _keypoint_tracking(
    sequences: Sequence[Sequence[PoseTrackFrame]], keypoint_count: int, exact: bool
) -> list[ClearMot]:
    """CLEAR MOT counts of each keypoint: similarity is 1 - distance, at least 0.5 for a match."""
    counts = [ClearMot()] * keypoint_count
    for frames in sequences:
        seen: list[list[TrackedFrame]] = [[] for _ in range(keypoint_count)]
        for frame in frames:
            if exact and not (len(frame.track_ids) and len(frame.predicted_track_ids)):
                stand_in = TrackedFrame(
                    np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 1))
                )  # poseval's
                for view in seen:
                    view.append(stand_in)
                continue
            similarity = 1 - _distances(frame).transpose(2, 1, 0)  # (K, N, M)
            for k, view in enumerate(seen):
                true, found = frame.labelled[:, k], frame.predicted[:, k]
                view.append(
                    TrackedFrame(
                        frame.track_ids[true],
                        frame.predicted_track_ids[found],
                        similarity[k][true][:, found],
                    )
                )
        counts = [
            total + clear_mot(view, DISTANCE) for total, view in zip(counts, seen, strict=True)
        ]
    return counts


def _distances(frame: PoseTrackFrame) -> np.ndarray:
    """(M, N, K) distance of predicted and annotated keypoints in head sizes; inf where one of them is missing."""
    heads = 0.6 * np.linalg.norm(
        frame.head_boxes_xyxy[:, 2:] - frame.head_boxes_xyxy[:, :2], axis=1
    )  # (N,)
    pixels = np.linalg.norm(
        frame.predicted_keypoints[:, None].astype(np.float64) - frame.keypoints[None], axis=-1
    )
    both = frame.predicted[:, None] & frame.labelled[None]
    return np.divide(
        pixels, heads[None, :, None], out=np.full(pixels.shape, np.inf), where=both
    )  # nobody needs a head without keypoints


def _shares(frame: PoseTrackFrame) -> np.ndarray:
    """(M, N) share of the annotated keypoints that are right."""
    return (_distances(frame) <= DISTANCE).sum(2) / np.maximum(frame.labelled.sum(1), 1)[None]


def _average_precision(
    frames: Sequence[PoseTrackFrame], keypoint_count: int, exact: bool
) -> np.ndarray:
    """(K,) AP of each keypoint: area under the monotone precision-recall curve; NaN where the keypoint was never annotated."""
    scores, right, annotated = (
        [np.zeros((0, keypoint_count))],
        [np.zeros((0, keypoint_count), bool)],
        np.zeros(keypoint_count),
    )
    for frame in frames:
        annotated += frame.labelled.sum(0)
        scores.append(np.where(frame.predicted, frame.predicted_scores, np.nan))
        right.append(_right(frame))
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    result = np.full(keypoint_count, np.nan)
    for k in range(keypoint_count):
        reported = ~np.isnan(all_scores[:, k])
        if not reported.any():
            result[k] = 0.0 if exact or annotated[k] else np.nan
        elif annotated[k]:
            order = np.argsort(-all_scores[reported, k], kind="stable")
            hits = all_right[reported, k][order]
            found = np.cumsum(hits)
            best = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
            result[k] = best[hits].sum() / annotated[k]
    return result


def _right(frame: PoseTrackFrame) -> np.ndarray:
    """(M, K) bool: predicted keypoints that are right, people matched as poseval does.

    A prediction goes to the annotated person of whom it has the largest share right; of those that go to one person the best stays.
    """
    right = np.zeros(frame.predicted.shape, bool)
    if not right.size or not len(frame.keypoints):
        return right
    close, share = _distances(frame) <= DISTANCE, _shares(frame)
    wish = share.argmax(1)
    wished = np.where(np.arange(share.shape[1])[None] == wish[:, None], share, 0)
    for person, winner in enumerate(wished.argmax(0)):
        if wished[winner, person] > 0:
            right[winner] = close[winner, person]
    return right


def _person_frame(frame: PoseTrackFrame, similarity: Literal["pckh", "oks"]) -> TrackedFrame:
    """The frame as IDF1 and HOTA see it."""
    if similarity == "pckh":
        alike = _shares(frame).T
    else:
        if frame.areas is None:
            raise UserError(
                "OKS similarity needs the areas of the annotated people. Cure: pass areas, or similarity='pckh'"
            )
        alike = oks(
            frame.keypoints,
            frame.predicted_keypoints,
            frame.areas,
            POSETRACK_15.sigmas,
            frame.labelled,
        )
    return TrackedFrame(frame.track_ids, frame.predicted_track_ids, alike)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of what is not NaN; NaN where all is."""
    measured = np.asarray(values, np.float64)[~np.isnan(values)]
    return float(measured.mean()) if measured.size else float("nan")
