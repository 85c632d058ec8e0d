"""PoseTrack scores from two folders of JSON, annotations and predictions: one file a sequence, 2018 or 2017 (`annolist`) form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.data.annotations import AREA_FRACTION
from simplepose.data.coco_columns import dictionaries, loads
from simplepose.data.posetrack import FILE_KEYPOINTS
from simplepose.data.posetrack17 import is_posetrack17, posetrack17_rows
from simplepose.evaluation.posetrack import NAMES, evaluate_posetrack
from simplepose.evaluation.posetrack_frames import PoseTrackFrame


def score_posetrack(
    ground_truth: Path | str,
    predictions: Path | str,
    *,
    exact: bool = False,
    tracking: bool = True,
    ap_threshold: float = -np.inf,
    tracking_threshold: float = -np.inf,
) -> dict[str, float]:
    """`evaluate_posetrack` of two folders (or two files of the same name); see there.

    Raises:
        UserError: a sequence or a frame is missing from the predictions, and whatever `evaluate_posetrack` does not accept.
    """
    sequences = read_sequences(ground_truth, predictions, tracking=tracking)
    return evaluate_posetrack(sequences, exact=exact, tracking=tracking, ap_threshold=ap_threshold, tracking_threshold=tracking_threshold)


def read_sequences(ground_truth: Path | str, predictions: Path | str, *, tracking: bool = True) -> dict[str, list[PoseTrackFrame]]:
    """Frames of each sequence in the order of the annotations. A frame is known by the last two parts of its `file_name`.

    Args:
        ground_truth: folder of annotation files, or one file.
        predictions: folder of result files of the same names, or one file.
        tracking: False accepts predictions without track ids.

    Raises:
        UserError: names the file and what is missing in it.
    """
    ground_truth, predictions = Path(ground_truth), Path(predictions)
    files = sorted(ground_truth.glob("*.json")) if ground_truth.is_dir() else [ground_truth]
    if not files:
        raise UserError(f"{ground_truth} holds no JSON file. Cure: give the folder of annotations (annotations/val)")
    wanted = [(file, predictions / file.name if predictions.is_dir() else predictions) for file in files]
    missing = [result.name for _, result in wanted if not result.is_file()]
    if missing:
        raise UserError(
            f"{predictions} lacks {len(missing)} of {len(files)} sequences, e.g. {missing[0]}. Cure: one result file a sequence"
        )
    return {file.stem: _sequence(file, result, tracking) for file, result in wanted}


def _sequence(truth_file: Path, result_file: Path, tracking: bool) -> list[PoseTrackFrame]:
    truth, result = _frames(truth_file, True), _frames(result_file, tracking)
    if not truth:
        raise UserError(f"{truth_file} is an empty sequence. Cure: check that it was copied completely")
    lost = [name for name in truth if name not in result]
    if lost:
        raise UserError(
            f"{result_file} lacks {len(lost)} of {len(truth)} frames, e.g. {lost[0]}. Cure: list every frame, also those without people"
        )
    unknown = [name for name in result if name not in truth]
    if unknown:
        raise UserError(
            f"{result_file} has {len(unknown)} frames that {truth_file} does not have, e.g. {unknown[0]}. Cure: same sequence in both"
        )
    return [_frame(truth[name], result[name]) for name in truth]


def _frame(truth: dict[str, Any], result: dict[str, Any]) -> PoseTrackFrame:
    people, found = truth["people"], result["people"]
    shape = (-1, len(NAMES))

    def column(rows: list[dict[str, Any]], name: str, *shape: int) -> np.ndarray:
        return np.array([row[name] for row in rows], np.float64).reshape(shape)

    true_points, points = column(people, "triples", -1, len(NAMES), 3), column(found, "triples", -1, len(NAMES), 3)
    areas = column(people, "area", -1)
    return PoseTrackFrame(
        keypoints=true_points[..., :2],
        labelled=(true_points != 0).any(-1),
        head_boxes_xyxy=column(people, "head", -1, 4),
        track_ids=np.array([row["track"] for row in people]),
        predicted_keypoints=points[..., :2],
        predicted=(points != 0).any(-1),
        predicted_scores=column(found, "scores", *shape),
        predicted_track_ids=np.array([row["track"] for row in found]),
        ignore_regions=truth["regions"],
        annotated=truth["annotated"],
        areas=areas if np.isfinite(areas).all() else None,
    )


def _frames(file: Path, tracking: bool) -> dict[str, dict[str, Any]]:
    """Frames of a file by name: people (triples, scores, head, track, area), ignore regions, whether it was annotated."""
    images, rows, names = _rows(file)
    order = [names.index(name) for name in NAMES]
    frames: dict[Any, dict[str, Any]] = {}
    keys = {}
    for image in images:
        if not isinstance(image.get("id"), (int, float, str)):
            raise UserError(f"{file}: a frame has the id {image.get('id')!r}. Cure: give each frame a unique number")
        keys[image["id"]] = _key(str(image.get("file_name") or image["id"]))
        polygons = _polygons(image, f"{file}: frame {image['id']}")
        frames[keys[image["id"]]] = {"people": [], "regions": polygons, "annotated": bool(image.get("is_labeled", True))}
    for row in rows:
        if not isinstance(row.get("image_id"), (int, float, str)) or row["image_id"] not in keys:
            raise UserError(f"{file}: a person is on frame {row.get('image_id')}, which `images` does not list. Cure: list every frame")
        where = f"{file}: a person of frame {keys[row['image_id']]}"
        triples = _floats(row.get("keypoints") or np.zeros(3 * len(names)), "keypoints", where)
        scores = _floats(row.get("scores") or np.full(len(names), np.nan), "scores", where)
        if triples.size != 3 * len(names) or scores.size != len(names):
            raise UserError(
                f"{file}: {triples.size} keypoint numbers and {scores.size} scores for {len(names)} keypoints. Cure: correct it"
            )
        head, box = (_floats(row.get(name) or [np.nan] * 4, name, where, 4) for name in ("bbox_head", "bbox"))
        people = frames[keys[row["image_id"]]]["people"]
        if row.get("track_id") is None and tracking:
            raise UserError(f"{where} has no track id. Cure: track the people, or score AP only")
        track = len(people) if row.get("track_id") is None else row["track_id"]
        if isinstance(track, bool) or not isinstance(track, (int, float)) or not float(track).is_integer() or abs(track) >= 2**53:
            raise UserError(f"{where} has the track id {track!r}, not a whole number. Cure: number the tracks")
        people.append(
            {
                "triples": triples.reshape(-1, 3)[order],
                "scores": scores[order],
                "head": [head[0], head[1], head[0] + head[2], head[1] + head[3]],
                "track": int(track),
                "area": AREA_FRACTION * box[2] * box[3],
            }
        )
    return frames


def _rows(file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Images, people and keypoint names of a file of either form."""
    content = loads(file)
    if is_posetrack17(content):
        return *posetrack17_rows(content, str(file)), list(NAMES)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{file} is not a PoseTrack file (no `images` list). Cure: write the official form, one file a sequence")
    images, rows, categories = (dictionaries(content.get(name), name, str(file)) for name in ("images", "annotations", "categories"))
    names = list((categories or [{}])[0].get("keypoints") or FILE_KEYPOINTS)
    absent = [name for name in NAMES if name not in names]
    if absent:
        raise UserError(f"{file} lacks the keypoints {absent}. Cure: write PoseTrack's 17 (or 15) keypoint names")
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
            f"{where} has ignore_regions_x {str(xs)[:60]} and ignore_regions_y {str(ys)[:60]}, which do not fit. Cure: as many x as y in both"
        ) from error


def _floats(values: Any, name: str, where: str, count: int = 0) -> np.ndarray:
    """The numbers of a person, `count` of them where that is given."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros((0, 0))
    if numbers.ndim != 1 or (count and len(numbers) != count):
        raise UserError(f"{where} has the {name} {str(values)[:60]}, no list of {count or ''} numbers. Cure: correct it".replace("  ", " "))
    return numbers


def _key(name: str) -> str:
    """The last two parts of a picture's name: sequence and frame."""
    return "/".join(name.replace("\\", "/").split("/")[-2:])
