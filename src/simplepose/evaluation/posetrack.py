"""PoseTrack: keypoint AP and MOTA as poseval computes them, IDF1 and HOTA of whole people; files.

A predicted keypoint is right when it is no farther from the annotated one than half the head size
(PCKh@0.5), the head size being 0.6 x the diagonal of the head box. Two modes:

* `exact=True` repeats the original tool: it drops frames without annotated people and then, for
  tracking, the last frame of each sequence; it counts a frame in which nobody is annotated or
  nobody predicted as one miss and one false positive of every keypoint, however many people there
  are; and people without keypoints, who are left out otherwise, stand for somebody there in frames
  without ignore regions.
* `exact=False` (default) scores every annotated frame and counts what is there.

Files of PoseTrack18 and, in poseval's JSON form (`annolist`), of PoseTrack 2017 are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hotcoco import metrics

from simplepose.core.errors import UserError
from simplepose.core.schema import POSETRACK_15
from simplepose.data.annotations import Annotations
from simplepose.data.categories import Id, category_of
from simplepose.data.coco import Image, Row, coco_content, track_numbers
from simplepose.data.posetrack import picture_name, read_sequence
from simplepose.evaluation.coco import rounded
from simplepose.evaluation.mpii import head_sizes
from simplepose.evaluation.tracking import (
    ClearMot,
    Hota,
    Identity,
    TrackedFrame,
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """N people of one frame, annotated or predicted."""

    keypoints: np.ndarray
    """(N, 15, 2) float64 x, y in pixels."""
    labelled: np.ndarray
    """(N, 15) bool, keypoints that are annotated or reported."""
    head_sizes: np.ndarray
    """(N,) pixels; NaN where unknown. Only those of annotated people count."""
    scores: np.ndarray
    """(N, 15), of predicted people; -inf where one is missing."""
    track_ids: np.ndarray
    """(N,) int64, -1 where one is missing."""
    regions: Sequence[np.ndarray] = ()
    """Polygons (V, 2) in which neither annotations nor predictions count."""
    annotated: bool = True
    """False for a frame nobody looked at; it is not scored."""

    def select(self, people: Any) -> Frame:
        """The people of a boolean mask (N,) or of indices."""
        names = ("keypoints", "labelled", "head_sizes", "scores", "track_ids")
        return replace(self, **{name: getattr(self, name)[people] for name in names})

    @property
    def posed(self) -> Frame:
        """Only the people with keypoints."""
        return self.select(self.labelled.any(1))


Pair = tuple[Frame, Frame]
"""A frame as annotated and as predicted."""


def evaluate_posetrack(
    sequences: Mapping[str, Sequence[Pair]],
    *,
    exact: bool = False,
    ap_threshold: float = -math.inf,
    tracking_threshold: float = -math.inf,
) -> dict[str, float]:
    """All PoseTrack numbers of a set of sequences, in percent.

    Args:
        sequences: frames in order, by the name of the sequence.
        exact: repeat the original tool's quirks (see the head of this file).
        ap_threshold: keypoints with a lower score do not count for AP. Low ones help AP and hurt
            MOTA, hence two thresholds.
        tracking_threshold: keypoints with a lower score do not count for MOTA, MOTP, IDF1, HOTA.

    Returns:
        `AP` and `AP head` .. `AP ankle`; where predicted people have track ids (or nobody is
        predicted) also `MOTA`, `MOTP`, `Prec`, `Rec` averaged over the keypoints, `MOTA head` ..
        `MOTA ankle`, and `IDF1`, `HOTA`, `DetA`, `AssA` of people. NaN where nothing was annotated.
        MOTP is 100 x (1 - mean distance of the matches in head sizes).

    Raises:
        UserError: an empty sequence, a missing head box, track ids that are missing or stand twice.
    """
    if not sequences:
        raise UserError("there is no sequence to score. Cure: check the folder of the annotations")
    scored = {name: _scored_frames(name, frames, exact) for name, frames in sequences.items()}
    everything = [pair for frames in scored.values() for pair in frames]
    columns = {"AP": _average_precision([_above(pair, ap_threshold) for pair in everything], exact)}
    numbers = {"AP": _mean(columns["AP"])}
    tracks = [found.track_ids for frames in sequences.values() for _, found in frames]
    if not sum(map(len, tracks)) or (np.concatenate(tracks) >= 0).any():
        columns["MOTA"], tracking = _tracking_numbers(scored, tracking_threshold, exact)
        numbers |= {"MOTA": _mean(columns["MOTA"]), **tracking}
    for measure, values in columns.items():
        for group, members in GROUPS.items():
            numbers[f"{measure} {group}"] = np.mean([values[NAMES.index(name)] for name in members])
    return {name: 100 * float(value) for name, value in numbers.items()}


def _tracking_numbers(
    scored: Mapping[str, Sequence[Pair]], threshold: float, exact: bool
) -> tuple[np.ndarray, dict[str, float]]:
    """(15,) MOTA of each keypoint; means of the others, and those of whole people."""
    tracked = {
        name: [_above(pair, threshold) for pair in (frames[:-1] if exact else frames)]
        for name, frames in scored.items()
    }
    _require_track_ids(tracked, exact)
    sequences = list(tracked.values())
    joints = _keypoint_tracking(sequences, exact)
    measured = [joint for joint in joints if exact or joint.matches + joint.misses]
    means = {
        "MOTP": _mean([joint.motp for joint in measured]),
        "Prec": _mean([joint.precision for joint in joints]),
        "Rec": _mean([joint.recall for joint in joints]),
    }
    return np.array([joint.mota for joint in joints]), means | _people_tracking(sequences)


def _scored_frames(name: str, frames: Sequence[Pair], exact: bool) -> list[Pair]:
    """The frames of a sequence that count, without what lies in ignore regions."""
    if not frames:
        raise UserError(
            f"sequence {name} has no frames. Cure: check that its file was copied completely"
        )
    for index, (truth, _) in enumerate(frames):
        headless = ~(np.isfinite(truth.head_sizes) & (truth.head_sizes > 0))
        if (bad := np.flatnonzero(headless & truth.labelled.any(1))).size:
            raise UserError(
                f"{name}, frame {index}: person {bad[0]} (track {truth.track_ids[bad[0]]}) has no "
                "head box, which PCKh needs. Cure: annotate bbox_head, or score with COCO AP"
            )
    kept = [pair for pair in frames if (len(pair[0].labelled) if exact else pair[0].annotated)]
    # poseval drops people without keypoints only in frames with regions.
    return [pair if exact and not pair[0].regions else _without_regions(*pair) for pair in kept]


def _without_regions(truth: Frame, found: Frame) -> Pair:
    """Removes keypoints in ignore regions, then people without keypoints."""

    def outside(side: Frame) -> Frame:
        left = side.labelled & ~inside_regions(side.keypoints, truth.regions)
        return replace(side, labelled=left).posed

    return outside(truth), outside(found)


def inside_regions(points: np.ndarray, regions: Sequence[np.ndarray]) -> np.ndarray:
    """Points (..., 2) inside one of the polygons (V, 2) -> (...) bool; on an edge is outside."""
    inside = np.zeros(points.shape[:-1], bool)
    for region in regions:
        if len(region) > 2:
            contour = np.asarray(region, np.float32)
            places = points.reshape(-1, 2).tolist()
            one = [cv2.pointPolygonTest(contour, place, False) > 0 for place in places]
            inside |= np.array(one, bool).reshape(inside.shape)
    return inside


def _above(pair: Pair, threshold: float) -> Pair:
    """Removes predicted keypoints of a lower score, then predictions that lost all of theirs."""
    truth, found = pair
    left = found.labelled & (found.scores >= threshold)
    kept = left.any(1) | ~found.labelled.any(1)
    return truth, replace(found, labelled=left).select(kept)


def _require_track_ids(tracked: Mapping[str, Sequence[Pair]], exact: bool) -> None:
    for name, frames in tracked.items():
        for truth, found in frames:
            for what, ids in (("ground truth", truth.track_ids), ("predictions", found.track_ids)):
                if (ids < 0).any():
                    raise UserError(
                        f"{what} of {name}: a person has no track_id (from 0). Cure: give every "
                        "person of the data one, or no predicted person: AP only"
                    )
                if len({*ids.tolist()}) < len(ids):
                    raise UserError(
                        f"{what} of {name}: a track id stands twice in one frame: "
                        f"{sorted(ids.tolist())}. Cure: one person a track in a frame"
                    )
            if exact and (found.track_ids >= MAX_TRACKS).any():
                raise UserError(
                    f"predictions of {name}: track ids must lie in 0..{MAX_TRACKS - 1}, got "
                    f"{found.track_ids.max()}. Cure: number the tracks from 0"
                )


def _keypoint_tracking(sequences: Sequence[Sequence[Pair]], exact: bool) -> list[ClearMot]:
    """CLEAR MOT counts of each keypoint: similarity is 1 - distance, at least 0.5 for a match."""
    counts = [ClearMot()] * len(NAMES)
    nobody = np.zeros(1, np.int64)
    stand_in = TrackedFrame(nobody, nobody, np.zeros((1, 1)))
    for frames in sequences:
        seen: list[list[TrackedFrame]] = [[] for _ in NAMES]
        for truth, found in frames:
            similarity = 1 - _distances(truth, found)
            for k, view in enumerate(seen):
                if exact and not similarity.size:
                    view.append(stand_in)
                    continue
                rows, columns = truth.labelled[:, k], found.labelled[:, k]
                alike = similarity[rows][:, columns, k]
                view.append(TrackedFrame(truth.track_ids[rows], found.track_ids[columns], alike))
        counts = [
            total + clear_mot(view, DISTANCE) for total, view in zip(counts, seen, strict=True)
        ]
    return counts


def _people_tracking(sequences: Sequence[Sequence[Pair]]) -> dict[str, float]:
    """IDF1 and HOTA; two people are alike by the fraction of annotated keypoints that are right."""
    identities, higher = Identity(), Hota()
    for frames in sequences:
        people = [_alike(*pair) for pair in frames]
        identities, higher = identities + identity(people), higher + hota(people)
    names = {"HOTA": higher.hota, "DetA": higher.deta, "AssA": higher.assa}
    return {"IDF1": identities.idf1, **names}


def people_of(frames: Sequence[Pair]) -> tuple[list[int], list[TrackedFrame]]:
    """Whole people as IDF1 and HOTA see them: the indices of the annotated frames, and who is like
    whom in each."""
    seen = [index for index, (truth, _) in enumerate(frames) if truth.annotated]
    return seen, [_alike(*_without_regions(*frames[index])) for index in seen]


def _alike(truth: Frame, found: Frame) -> TrackedFrame:
    truth, found = truth.posed, found.posed
    return TrackedFrame(truth.track_ids, found.track_ids, _fractions(truth, found))


def _distances(truth: Frame, found: Frame) -> np.ndarray:
    """(N, M, 15) in head sizes; inf where one of the two keypoints is missing."""
    pixels = np.linalg.norm(found.keypoints - truth.keypoints[:, None], axis=-1)
    both = truth.labelled[:, None] & found.labelled
    # Nobody needs a head without keypoints.
    heads, nowhere = truth.head_sizes[:, None, None], np.full(pixels.shape, np.inf)
    return np.divide(pixels, heads, out=nowhere, where=both)


def _fractions(truth: Frame, found: Frame) -> np.ndarray:
    """(N, M) fraction of the annotated keypoints that are right."""
    right = (_distances(truth, found) <= DISTANCE).sum(2)
    return right / np.maximum(truth.labelled.sum(1), 1)[:, None]


def _average_precision(frames: Sequence[Pair], exact: bool) -> np.ndarray:
    """(15,) area under each keypoint's monotone precision-recall curve; NaN if never annotated."""
    annotated = np.zeros(len(NAMES))
    scores, right = [np.zeros((0, len(NAMES)))], [np.zeros((0, len(NAMES)), bool)]
    for truth, found in frames:
        annotated += truth.labelled.sum(0)
        scores.append(np.where(found.labelled, found.scores, np.nan))
        right.append(_right(truth, found))
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    result = np.full(len(NAMES), np.nan)
    for k in range(len(NAMES)):
        reported, count = ~np.isnan(all_scores[:, k]), int(annotated[k])
        if count:
            reports = all_scores[reported, k], all_right[reported, k]
            # Read at every recall that there can be, it is the whole area.
            recalls = np.arange(1, count + 1) / count
            result[k] = metrics.average_precision(*reports, count, rec_thrs=recalls)
        elif exact and not reported.any():
            result[k] = 0
    return result


def _right(truth: Frame, found: Frame) -> np.ndarray:
    """(M, 15) bool: predicted keypoints that are right, people matched as poseval does.

    A prediction goes to the annotated person of whom it has the largest fraction right; of those
    that go to one person the best stays.
    """
    right = np.zeros(found.labelled.shape, bool)
    fractions = _fractions(truth, found)
    if fractions.size:
        close = _distances(truth, found) <= DISTANCE
        chosen = np.arange(len(fractions))[:, None] == fractions.argmax(0)
        wished = np.where(chosen, fractions, 0)
        for person, winner in enumerate(wished.argmax(1)):
            if wished[person, winner] > 0:
                right[winner] = close[person, winner]
    return right


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of what is not NaN; NaN where all is."""
    measured = np.asarray(values, np.float64)[~np.isnan(values)]
    return float(measured.mean()) if measured.size else math.nan


Frames = dict[str, Frame]
"""Frames of a sequence by name, see `frames_of`."""


def read_sequences(ground_truth: Path | str, predictions: Path | str) -> dict[str, list[Pair]]:
    """Annotated and predicted frames of each sequence, in the order of the annotations.

    Args:
        ground_truth: folder of annotation files, one file, or the COCO file of many sequences that
            `simplepose convert` writes.
        predictions: folder of result files, or one file.

    Raises:
        UserError: names the file and what is missing in it.
    """
    ground_truth, predictions = Path(ground_truth), Path(predictions)
    files = sorted(ground_truth.glob("*.json")) if ground_truth.is_dir() else [ground_truth]
    if not files:
        raise UserError(
            f"{ground_truth} holds no JSON file. "
            "Cure: give the folder of annotations (annotations/val)"
        )
    truth = {file.stem: frames_of(file, str(file)) for file in files}
    folder = predictions.is_dir()
    if folder and ground_truth.is_file() and not (predictions / ground_truth.name).is_file():
        truth = _by_sequence(truth[ground_truth.stem])
    results = {name: predictions / f"{name}.json" if folder else predictions for name in truth}
    if missing := [result.name for result in results.values() if not result.is_file()]:
        raise UserError(
            f"{predictions} lacks {len(missing)} of {len(truth)} sequences, e.g. {missing[0]}. "
            "Cure: one result file a sequence"
        )
    return {
        name: _pairs(truth[name], frames_of(result, str(result)), ground_truth, result)
        for name, result in results.items()
    }


def _pairs(truth: Frames, found: Frames, truth_file: Path, result_file: Path) -> list[Pair]:
    """The frames of two files of one sequence, which must be the same."""
    for lacking, frames, others in ((result_file, truth, found), (truth_file, found, truth)):
        if lost := [key for key in frames if key not in others]:
            raise UserError(
                f"{lacking} lacks {len(lost)} of {len(frames)} frames, e.g. {lost[0]}. "
                "Cure: list every frame in both, also those without people"
            )
    return [(frame, found[key]) for key, frame in truth.items()]


def pair_results(
    annotations: Annotations, results: Mapping[str, dict[str, Any]]
) -> dict[str, list[Pair]]:
    """What `posetrack_results` made beside the annotated frames.

    Raises:
        UserError: two pictures have the same sequence and frame.
    """
    content = coco_content(annotations)
    for image, path in zip(content["images"], annotations.image_paths, strict=True):
        image["file_name"] = picture_name(path)
    pairs = {}
    for name, truth in _by_sequence(frames_of(content, annotations.source)).items():
        found = frames_of(results[name], f"the results of {name}")
        pairs[name] = [(frame, found[key]) for key, frame in truth.items()]
    return pairs


def _by_sequence(frames: Frames) -> dict[str, Frames]:
    """Frames of many sequences, each by the name of its sequence: the folder of its pictures."""
    sequences: dict[str, Frames] = {}
    for key, frame in frames.items():
        sequences.setdefault(key.rpartition("/")[0], {})[key] = frame
    return sequences


def frames_of(content: Any, source: str) -> Frames:
    """Frames of a file or its content by name: people, ignore regions, whether it was annotated.

    A frame is known by the last two parts of its `file_name`: sequence and frame.

    Args:
        content: a path or its content: PoseTrack18, PoseTrack 2017 (`annolist`), or COCO as
            `simplepose convert` writes it (`head_box_xyxy`).
        source: names the file in messages.

    Raises:
        UserError: names the file, the frame and what is wrong with it.
    """
    images, rows = read_sequence(content, name=source)
    ids = [image.id for image in images]
    if None in ids:
        raise UserError(
            f"{source}: frame {ids.index(None)} has the id None. Cure: give each a unique number"
        )

    def label(index: int) -> str:
        return f"{source}: the person of row {index}, on {rows[index].image_id},"

    people: dict[Id, list[int]] = {image_id: [] for image_id in ids}
    for index, row in enumerate(rows):
        if row.image_id not in people:
            raise UserError(
                f"{label(index)} is on a frame (image_id) that `images` does not list. "
                "Cure: list every frame"
            )
        people[row.image_id].append(index)
    everybody = _as_people(rows, track_numbers(rows, label))
    frames: Frames = {}
    for image in images:
        key = _key(image.file_name or str(image.id))
        if key in frames:
            raise UserError(
                f"{source}: frame {key} stands in it twice. "
                "Cure: one folder of pictures for each sequence, one file a frame"
            )
        frames[key] = replace(
            everybody.select(np.array(people[image.id], np.int64)),
            regions=_polygons(image, f"{source}: frame {image.id}"),
            annotated=image.is_labeled is None or bool(image.is_labeled),
        )
    return frames


def _as_people(rows: Sequence[Row], tracks: np.ndarray | None) -> Frame:
    """All people of a file."""
    count, nothing = len(NAMES), [math.nan]
    points = np.array([row.keypoints or [0.0] * 3 * count for row in rows], np.float64)
    points = points.reshape(-1, count, 3)
    heads = np.array([row.head_box_xyxy or nothing * 4 for row in rows], np.float64)
    scores = np.array([row.scores or nothing * count for row in rows], np.float64)
    return Frame(
        keypoints=points[..., :2],
        labelled=(points != 0).any(-1),
        head_sizes=head_sizes(heads.reshape(-1, 4)),
        scores=np.where(np.isnan(scores), -np.inf, scores).reshape(-1, count),
        track_ids=np.full(len(rows), -1) if tracks is None else tracks,
    )


def _polygons(image: Image, where: str) -> list[np.ndarray]:
    """The ignore regions of a frame, (V, 2) each."""
    xs, ys = image.ignore_regions_x or [], image.ignore_regions_y or []
    try:
        return [
            np.stack([np.array(values, np.float64, ndmin=1) for values in axes], 1)
            for axes in zip(xs, ys, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} has ignore_regions_x {str(xs)[:60]} and ignore_regions_y {str(ys)[:60]}, "
            "which do not fit. Cure: as many x as y in both"
        ) from error


def _key(name: str) -> str:
    """The last two parts of a picture's name: sequence and frame."""
    return "/".join(name.replace("\\", "/").split("/")[-2:])


def posetrack_results(
    annotations: Annotations,
    image_index: np.ndarray,
    keypoints: np.ndarray,
    keypoint_scores: np.ndarray,
    scores: np.ndarray,
    *,
    score_decimals: int | None = None,
    coordinate_decimals: int | None = None,
) -> dict[str, dict[str, Any]]:
    """The content of one PoseTrack18 result file a sequence; people carry no track ids.

    Args:
        annotations: knows the frames; all of them are listed, also those without people.
        image_index: (N,) frame of each pose.
        keypoints: (N, 15, 2) x, y in pixels of the full picture.
        keypoint_scores: (N, 15).
        scores: (N,) confidence of each pose.
        score_decimals: round the scores; None leaves them.
        coordinate_decimals: round x and y; None leaves them.

    Returns:
        Name of the sequence (the folder of its pictures) -> images, annotations, categories.
    """
    points = rounded(keypoints, coordinate_decimals)
    triples = np.concatenate([points, np.ones_like(points[..., :1])], 2)
    columns = {
        "keypoints": triples.reshape(len(points), -1).tolist(),
        "scores": rounded(keypoint_scores, score_decimals).tolist(),
        "score": rounded(scores, score_decimals).tolist(),
    }
    image_ids = annotations.image_ids.tolist()
    sequences: dict[str, dict[str, Any]] = {}
    content_of = []
    for image_id, path, extra in zip(
        image_ids, annotations.image_paths, annotations.image_extras, strict=True
    ):
        name = picture_name(path)
        empty = {"images": [], "annotations": [], "categories": [category_of(POSETRACK_15)]}
        content = sequences.setdefault(_key(name).rpartition("/")[0], empty)
        told = ("vid_id", "frame_id", "nframes", "is_labeled")
        kept = {field: extra[field] for field in told if field in extra}
        content["images"].append({"id": image_id, "file_name": name} | kept)
        content_of.append(content)
    for row, index in enumerate(image_index.tolist()):
        people = content_of[index]["annotations"]
        person = {"id": len(people), "image_id": image_ids[index], "category_id": 1}
        people.append(person | {name: values[row] for name, values in columns.items()})
    return sequences
