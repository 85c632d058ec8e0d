"""PoseTrack's files: a network's results -> one file a sequence; annotations and results -> scores.

Files of PoseTrack18 and, in poseval's JSON form (`annolist`), of PoseTrack 2017 are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.data.annotations import AREA_FRACTION, coco_content
from simplepose.data.coco_columns import dictionaries, loads
from simplepose.data.columns import Annotations
from simplepose.data.posetrack import FILE_KEYPOINTS, picture_name
from simplepose.data.posetrack17 import is_posetrack17, posetrack17_rows
from simplepose.evaluation.posetrack import NAMES, evaluate_posetrack
from simplepose.evaluation.posetrack_frames import PoseTrackFrame

Frames = dict[str, dict[str, Any]]
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


def read_sequences(ground_truth: Path | str, predictions: Path | str) -> tuple[dict[str, Frames], dict[str, Frames]]:
    """Annotated and predicted frames of each sequence, in the order of the annotations.

    Raises:
        UserError: names the file and what is missing in it.
    """
    ground_truth, predictions = Path(ground_truth), Path(predictions)
    files = sorted(ground_truth.glob("*.json")) if ground_truth.is_dir() else [ground_truth]
    if not files:
        raise UserError(f"{ground_truth} holds no JSON file. Cure: give the folder of annotations (annotations/val)")
    truth = {file.stem: frames_of(loads(file), str(file)) for file in files}
    for file, frames in zip(files, truth.values(), strict=True):
        if not frames:
            raise UserError(f"{file} is an empty sequence. Cure: check that it was copied completely")
    if predictions.is_dir() and ground_truth.is_file() and not (predictions / ground_truth.name).is_file():
        truth = by_sequence(truth[ground_truth.stem])
    results = {name: predictions / f"{name}.json" if predictions.is_dir() else predictions for name in truth}
    missing = [result.name for result in results.values() if not result.is_file()]
    if missing:
        raise UserError(
            f"{predictions} lacks {len(missing)} of {len(truth)} sequences, e.g. {missing[0]}. Cure: one result file a sequence"
        )
    found = {name: frames_of(loads(result), str(result)) for name, result in results.items()}
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
    ids = [person["track"] is not None for frames in found.values() for frame in frames.values() for person in frame["people"]]
    tracking = (any(ids) or not ids) if tracking is None else tracking
    sequences = {name: [_frame(frame, found[name][key], tracking) for key, frame in frames.items()] for name, frames in truth.items()}
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
    triples = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2).reshape(len(points), 3 * len(NAMES))
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
        content = sequences.setdefault(sequence, {"images": [], "annotations": [], "categories": [category]})
        extra = annotations.image_extras[index] if annotations.image_extras else {}
        kept = {field: extra[field] for field in ("vid_id", "frame_id", "nframes", "is_labeled") if field in extra}
        content["images"].append({"id": int(annotations.image_ids[index]), "file_name": name} | kept)
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


def _frame(truth: dict[str, Any], result: dict[str, Any], tracking: bool) -> PoseTrackFrame:
    people, found = truth["people"], result["people"]
    shape = (-1, len(NAMES))

    def column(rows: list[dict[str, Any]], name: str, *shape: int) -> np.ndarray:
        return np.array([row[name] for row in rows], np.float64).reshape(shape)

    true_points, points = (
        column(people, "triples", -1, len(NAMES), 3),
        column(found, "triples", -1, len(NAMES), 3),
    )
    areas = column(people, "area", -1)
    return PoseTrackFrame(
        keypoints=true_points[..., :2],
        labelled=(true_points != 0).any(-1),
        head_boxes_xyxy=column(people, "head", -1, 4),
        track_ids=_track_ids(people, tracking),
        predicted_keypoints=points[..., :2],
        predicted=(points != 0).any(-1),
        predicted_scores=column(found, "scores", *shape),
        predicted_track_ids=_track_ids(found, tracking),
        ignore_regions=truth["regions"],
        annotated=truth["annotated"],
        areas=areas if np.isfinite(areas).all() else None,
    )


def _track_ids(people: list[dict[str, Any]], tracking: bool) -> np.ndarray:
    """(N,) identities; where they are not scored, numbers stand for those that are missing."""
    lacking = next((person for person in people if person["track"] is None), None)
    if lacking is not None and tracking:
        raise UserError(f"{lacking['where']} has no track id. Cure: give every person of the data one, or no predicted person: AP only")
    return np.array([index if person["track"] is None else person["track"] for index, person in enumerate(people)])


def frames_of(content: Any, source: str) -> Frames:
    """Frames of a file's content by name: people, ignore regions, whether it was annotated.

    A frame is known by the last two parts of its `file_name`: sequence and frame.

    Args:
        content: PoseTrack18, PoseTrack 2017 (`annolist`), or COCO as `simplepose convert` writes it
            (`head_box_xyxy`).
        source: names the file in messages.

    Raises:
        UserError: names the file, the frame and what is wrong with it.
    """
    images, rows, names = _rows(content, source)
    order = [names.index(name) for name in NAMES]
    frames: Frames = {}
    keys = {}
    for image in images:
        if not isinstance(image.get("id"), (int, float, str)):
            raise UserError(f"{source}: a frame has the id {image.get('id')!r}. Cure: give each frame a unique number")
        key = keys[image["id"]] = _key(str(image.get("file_name") or image["id"]))
        if key in frames:
            raise UserError(f"{source}: frame {key} stands in it twice. Cure: one folder of pictures for each sequence, one file a frame")
        polygons = _polygons(image, f"{source}: frame {image['id']}")
        frames[key] = {
            "people": [],
            "regions": polygons,
            "annotated": bool(image.get("is_labeled", True)),
        }
    for row in rows:
        if not isinstance(row.get("image_id"), (int, float, str)) or row["image_id"] not in keys:
            raise UserError(f"{source}: a person is on frame {row.get('image_id')}, which `images` does not list. Cure: list every frame")
        frames[keys[row["image_id"]]]["people"].append(_person(row, names, order, f"{source}: a person of frame {keys[row['image_id']]}"))
    return frames


def _person(row: dict[str, Any], names: list[str], order: list[int], where: str) -> dict[str, Any]:
    """One annotated or predicted person."""
    triples = _floats(row.get("keypoints") or np.zeros(3 * len(names)), "keypoints", where)
    scores = _floats(row.get("scores") or np.full(len(names), np.nan), "scores", where)
    if triples.size != 3 * len(names) or scores.size != len(names):
        raise UserError(
            f"{where} has {triples.size} keypoint numbers and {scores.size} scores for {len(names)} keypoints. Cure: correct it"
        )
    head, box = (_floats(row.get(name) or [np.nan] * 4, name, where, 4) for name in ("bbox_head", "bbox"))
    head[2:] += head[:2]
    if row.get("head_box_xyxy"):
        head = _floats(row["head_box_xyxy"], "head_box_xyxy", where, 4)
    track = row.get("track_id")
    if track is not None and (
        isinstance(track, bool) or not isinstance(track, (int, float)) or not float(track).is_integer() or abs(track) >= 2**53
    ):
        raise UserError(f"{where} has the track id {track!r}, not a whole number. Cure: number the tracks")
    return {
        "where": where,
        "triples": triples.reshape(-1, 3)[order],
        "scores": scores[order],
        "head": head,
        "track": None if track is None else int(track),
        "area": AREA_FRACTION * box[2] * box[3],
    }


def _rows(content: Any, source: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Images, people and keypoint names of a file of either form."""
    if is_posetrack17(content):
        return *posetrack17_rows(content, source), list(NAMES)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{source} is not a PoseTrack file (no `images` list). Cure: write the official form, one file a sequence")
    images, rows, categories = (dictionaries(content.get(name), name, source) for name in ("images", "annotations", "categories"))
    names = list((categories or [{}])[0].get("keypoints") or FILE_KEYPOINTS)
    absent = [name for name in NAMES if name not in names]
    if absent:
        raise UserError(f"{source} lacks the keypoints {absent}. Cure: write PoseTrack's 17 (or 15) keypoint names")
    return images, rows, names


def _polygons(image: dict[str, Any], where: str) -> list[np.ndarray]:
    """The ignore regions of a frame, (V, 2) each."""
    xs, ys = (image.get(f"ignore_regions_{axis}") or [] for axis in "xy")
    try:
        return [
            np.stack([np.atleast_1d(np.array(x, np.float64)), np.array(y, np.float64, ndmin=1)], 1) for x, y in zip(xs, ys, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} has ignore_regions_x {str(xs)[:60]} and ignore_regions_y {str(ys)[:60]}, "
            "which do not fit. "
            "Cure: as many x as y in both"
        ) from error


def _floats(values: Any, name: str, where: str, count: int = 0) -> np.ndarray:
    """The numbers of a person, `count` of them where that is given."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros((0, 0))
    if numbers.ndim != 1 or (count and len(numbers) != count):
        wanted = f"{count} numbers" if count else "numbers"
        raise UserError(f"{where} has the {name} {str(values)[:60]}, no list of {wanted}. Cure: correct it")
    return numbers


def _key(name: str) -> str:
    """The last two parts of a picture's name: sequence and frame."""
    return "/".join(name.replace("\\", "/").split("/")[-2:])
