"""PoseTrack's files: a network's results -> one file a sequence; annotations and results -> scores.

Files of PoseTrack18 and, in poseval's JSON form (`annolist`), of PoseTrack 2017 are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.categories import Id
from simplepose.data.coco import AREA_FRACTION, Image, Row, coco_content, exact_ids
from simplepose.data.posetrack import picture_name, read_sequence
from simplepose.evaluation.posetrack import NAMES, evaluate_posetrack
from simplepose.evaluation.posetrack_frames import PoseTrackFrame


@dataclass(slots=True)
class Frame:
    """One frame of a file."""

    regions: list[np.ndarray]
    """Ignore regions, (V, 2) each."""
    annotated: bool
    people: list[Row] = field(default_factory=list)
    tracks: list[int | None] = field(default_factory=list)
    """Identity of each of the people."""


Frames = dict[str, Frame]
"""Frames of a sequence by name, see `frames_of`."""


def score_posetrack(
    ground_truth: Path | str,
    predictions: Path | str,
    *,
    exact: bool = False,
    tracking: bool | None = None,
    ap_threshold: float = -np.inf,
    tracking_threshold: float = -np.inf,
) -> dict[str, float]:
    """`evaluate_posetrack` of two folders (or two files of the same name); see there.

    Args:
        ground_truth: folder of annotation files, one file, or the COCO file of many sequences that
            `simplepose convert` writes.
        predictions: folder of result files, or one file.
        exact: see `evaluate_posetrack`.
        tracking: whether identities are scored; None: where the predicted people have track ids.
        ap_threshold: see `evaluate_posetrack`.
        tracking_threshold: see `evaluate_posetrack`.

    Raises:
        UserError: a sequence or a frame is missing from the predictions, and whatever
            `evaluate_posetrack` does not accept.
    """
    truth, found = read_sequences(ground_truth, predictions)
    return score_frames(
        truth,
        found,
        exact=exact,
        tracking=tracking,
        ap_threshold=ap_threshold,
        tracking_threshold=tracking_threshold,
    )


def read_sequences(
    ground_truth: Path | str, predictions: Path | str
) -> tuple[dict[str, Frames], dict[str, Frames]]:
    """Annotated and predicted frames of each sequence, in the order of the annotations.

    Raises:
        UserError: names the file and what is missing in it.
    """
    ground_truth, predictions = Path(ground_truth), Path(predictions)
    files = sorted(ground_truth.glob("*.json")) if ground_truth.is_dir() else [ground_truth]
    if not files:
        raise UserError(
            f"{ground_truth} holds no JSON file. Cure: give the folder of annotations (annotations/val)"
        )
    truth = {file.stem: frames_of(file, str(file)) for file in files}
    for file, frames in zip(files, truth.values(), strict=True):
        if not frames:
            raise UserError(
                f"{file} is an empty sequence. Cure: check that it was copied completely"
            )
    if (
        predictions.is_dir()
        and ground_truth.is_file()
        and not (predictions / ground_truth.name).is_file()
    ):
        truth = by_sequence(truth[ground_truth.stem])
    results = {
        name: predictions / f"{name}.json" if predictions.is_dir() else predictions
        for name in truth
    }
    missing = [result.name for result in results.values() if not result.is_file()]
    if missing:
        raise UserError(
            f"{predictions} lacks {len(missing)} of {len(truth)} sequences, e.g. {missing[0]}. Cure: one result file a sequence"
        )
    found = {name: frames_of(result, str(result)) for name, result in results.items()}
    for name, result in results.items():
        _require_same_frames(truth[name], found[name], str(ground_truth), str(result))
    return truth, found


def score_frames(
    truth: Mapping[str, Frames],
    found: Mapping[str, Frames],
    *,
    exact: bool = False,
    tracking: bool | None = None,
    ap_threshold: float = -np.inf,
    tracking_threshold: float = -np.inf,
) -> dict[str, float]:
    """`evaluate_posetrack` of frames as `frames_of` gives them; arguments as `score_posetrack`.

    Raises:
        UserError: identities are to be scored, and a person has none.
    """
    ids = [
        track is not None
        for frames in found.values()
        for frame in frames.values()
        for track in frame.tracks
    ]
    tracking = (any(ids) or not ids) if tracking is None else tracking
    sequences = {
        name: [_frame(frame, found[name][key], tracking) for key, frame in frames.items()]
        for name, frames in truth.items()
    }
    return evaluate_posetrack(
        sequences,
        exact=exact,
        tracking=tracking,
        ap_threshold=ap_threshold,
        tracking_threshold=tracking_threshold,
    )


def by_sequence(frames: Frames) -> dict[str, Frames]:
    """Frames of many sequences, each by the name of its sequence: the folder of its pictures."""
    sequences: dict[str, Frames] = {}
    for key, frame in frames.items():
        sequences.setdefault(key.rpartition("/")[0], {})[key] = frame
    return sequences


def annotated_frames(annotations: Annotations) -> dict[str, Frames]:
    """The ground truth of each sequence.

    Raises:
        UserError: two pictures have the same sequence and frame.
    """
    content = coco_content(annotations)
    for image, path in zip(content["images"], annotations.image_paths, strict=True):
        image["file_name"] = picture_name(path)
    return by_sequence(frames_of(content, annotations.source))


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
    if score_decimals is not None:
        keypoint_scores, scores = (
            keypoint_scores.astype(np.float64).round(score_decimals),
            scores.round(score_decimals),
        )
    points = keypoints if coordinate_decimals is None else keypoints.round(coordinate_decimals)
    triples = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2).reshape(
        len(points), 3 * len(NAMES)
    )
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(NAMES),
        "skeleton": [],
    }
    sequences: dict[str, dict[str, Any]] = {}
    content_of = []
    for index, path in enumerate(annotations.image_paths):
        name = picture_name(path)
        sequence = _key(name).rpartition("/")[0]
        content = sequences.setdefault(
            sequence, {"images": [], "annotations": [], "categories": [category]}
        )
        extra = annotations.image_extras[index] if annotations.image_extras else {}
        kept = {
            field: extra[field]
            for field in ("vid_id", "frame_id", "nframes", "is_labeled")
            if field in extra
        }
        content["images"].append(
            {"id": int(annotations.image_ids[index]), "file_name": name} | kept
        )
        content_of.append(content)
    for row, index in enumerate(image_index.tolist()):
        people = content_of[index]["annotations"]
        people.append(
            {
                "id": len(people),
                "image_id": int(annotations.image_ids[index]),
                "category_id": 1,
                "keypoints": triples[row].tolist(),
                "scores": keypoint_scores[row].astype(np.float64).tolist(),
                "score": float(scores[row]),
            }
        )
    return sequences


def _require_same_frames(truth: Frames, found: Frames, truth_file: str, result_file: str) -> None:
    """Refuses results of other frames."""
    lost = [name for name in truth if name not in found]
    if lost:
        raise UserError(
            f"{result_file} lacks {len(lost)} of {len(truth)} frames, e.g. {lost[0]}. Cure: list every frame, also those without people"
        )
    unknown = [name for name in found if name not in truth]
    if unknown:
        raise UserError(
            f"{result_file} has {len(unknown)} frames that {truth_file} does not have, e.g. {unknown[0]}. Cure: same sequence in both"
        )


def _frame(truth: Frame, result: Frame, tracking: bool) -> PoseTrackFrame:
    people, found = truth.people, result.people
    true_points, points = _triples(people), _triples(found)
    nothing = [math.nan] * 4
    heads = np.array([row.head_box_xyxy or nothing for row in people], np.float64).reshape(-1, 4)
    sizes = np.array([row.bbox or nothing for row in people], np.float64).reshape(-1, 4)[:, 2:]
    areas = AREA_FRACTION * sizes.prod(1)
    scores = [row.scores or [math.nan] * len(NAMES) for row in found]
    return PoseTrackFrame(
        keypoints=true_points[..., :2],
        labelled=(true_points != 0).any(-1),
        head_boxes_xyxy=heads,
        track_ids=_track_ids(truth, tracking),
        predicted_keypoints=points[..., :2],
        predicted=(points != 0).any(-1),
        predicted_scores=np.array(scores, np.float64).reshape(-1, len(NAMES)),
        predicted_track_ids=_track_ids(result, tracking),
        ignore_regions=truth.regions,
        annotated=truth.annotated,
        areas=areas if np.isfinite(areas).all() else None,
    )


def _triples(rows: list[Row]) -> np.ndarray:
    empty = [0.0] * (3 * len(NAMES))
    lists = [row.keypoints or empty for row in rows]
    return np.array(lists, np.float64).reshape(-1, len(NAMES), 3)


def _track_ids(frame: Frame, tracking: bool) -> np.ndarray:
    """(N,) identities; where they are not scored, numbers stand for those that are missing."""
    if tracking and None in frame.tracks:
        lacking = frame.people[frame.tracks.index(None)]
        raise UserError(
            f"a person of frame {lacking.image_id} has no track_id. "
            "Cure: give every person of the data one, or no predicted person: AP only"
        )
    return np.array(
        [index if track is None else track for index, track in enumerate(frame.tracks)], np.int64
    )


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
    ids = exact_ids([image.id for image in images], lambda n: f"{source}: frame {n}", "id")
    if None in ids:
        raise UserError(
            f"{source}: frame {ids.index(None)} has the id None. Cure: give each a unique number"
        )
    frames: dict[Id | None, Frame] = {}
    names: Frames = {}
    for image, image_id in zip(images, ids, strict=True):
        key = _key(image.file_name or str(image_id))
        if key in names:
            raise UserError(
                f"{source}: frame {key} stands in it twice. Cure: one folder of pictures for each sequence, one file a frame"
            )
        labelled = image.is_labeled is None or bool(image.is_labeled)
        frames[image_id] = names[key] = Frame(
            _polygons(image, f"{source}: frame {image_id}"), labelled
        )

    def label(index: int) -> str:
        return f"{source}: the person of row {index}"

    wanted = exact_ids([row.image_id for row in rows], label, "image_id")
    tracks = exact_ids([row.track_id for row in rows], label, "track_id")
    for index, (row, image_id, track) in enumerate(zip(rows, wanted, tracks, strict=True)):
        frame = frames.get(image_id)
        if frame is None:
            raise UserError(
                f"{label(index)} is on frame {row.image_id} (image_id), which `images` does not list. Cure: list every frame"
            )
        if isinstance(track, str):
            raise UserError(
                f"{label(index)}, on {image_id}, has the track_id {row.track_id!r}, not a whole "
                "number. Cure: number the tracks, or score AP only"
            )
        if (row.bbox_head and len(row.bbox_head) != 4) or (row.bbox and len(row.bbox) != 4):
            raise UserError(
                f"{label(index)} has the bbox_head {row.bbox_head} and the bbox {row.bbox}. Cure: four numbers each"
            )
        frame.tracks.append(track)
        frame.people.append(row)
    return names


def _polygons(image: Image, where: str) -> list[np.ndarray]:
    """The ignore regions of a frame, (V, 2) each."""
    xs, ys = image.ignore_regions_x or [], image.ignore_regions_y or []
    try:
        return [
            np.stack([np.atleast_1d(np.array(x, np.float64)), np.array(y, np.float64, ndmin=1)], 1)
            for x, y in zip(xs, ys, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} has ignore_regions_x {str(xs)[:60]} and ignore_regions_y {str(ys)[:60]}, "
            "which do not fit. Cure: as many x as y in both"
        ) from error


def _key(name: str) -> str:
    """The last two parts of a picture's name: sequence and frame."""
    return "/".join(name.replace("\\", "/").split("/")[-2:])
