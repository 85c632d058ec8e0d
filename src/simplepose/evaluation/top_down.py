"""The references' test: boxes -> crops of many pictures -> network -> rescoring -> OKS-NMS -> COCO results -> the ten numbers.

Each picture is decoded once, its crops wait in bounded queues, and suppression and result rows are computed for all people at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simplepose.core.device import own_cores
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.core.oks import oks_nms_batch, rescore
from simplepose.core.settings import build, require_ranges
from simplepose.data.annotations import Annotations, Detections, coco_content
from simplepose.data.columns import GROUND_TRUTH
from simplepose.data.read_ahead import in_order
from simplepose.evaluation.coco import METRICS, coco_results, evaluate_boxes, evaluate_coco, spell
from simplepose.pose import geometry
from simplepose.pose.calibration import Calibration, Matches, match_people
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a network is tested."""

    flip_test: bool = True
    """Average with the mirrored crop."""
    batch_size: int = 64
    """Crops that go through the network together; crops of many pictures share a batch."""
    person_score: Literal["rescored", "keypoint_mean"] = "rescored"
    """A pose's score: box score x mean of its keypoints above the threshold (COCO), or the mean of all keypoints (PoseTrack)."""
    keypoint_threshold: float = 0.2
    """Keypoints above it count in the person's score."""
    oks_nms_threshold: float = 0.9
    """Of two poses more alike than this the weaker one goes; 1 switches the suppression off."""
    best_per_picture: int = 20
    """Poses a picture that are written, as many as COCO counts; 0 writes all."""
    visibility_column: Literal["score", "one"] = "score"
    """Third number of each keypoint in the results: its score (ms) or 1 (tf)."""
    score_decimals: int | None = None
    """Decimals of the scores in the results: 4 in tf, unrounded in ms."""
    coordinate_decimals: int | None = None
    """Decimals of x and y in the results: 3 in tf, unrounded in ms."""
    workers: int = 0
    """Threads that read and cut pictures; 0: one for each core."""

    def __post_init__(self) -> None:
        ranges = {
            "batch_size": (1, math.inf), "keypoint_threshold": (-1, 1), "oks_nms_threshold": (0, 1), "best_per_picture": (0, math.inf),
            "workers": (0, math.inf), "score_decimals": (0, math.inf), "coordinate_decimals": (0, math.inf),
        }  # fmt: skip
        require_ranges("evaluate", self, {name: limits for name, limits in ranges.items() if getattr(self, name) is not None})


def stored_settings(spec: ModelSpec, source: str | Path) -> EvaluateConfig:
    """The settings of the test that a trained network carries (they depend on its family), or the defaults; `source` names it in errors."""
    stored = spec.config.get("evaluate")
    return build(EvaluateConfig, stored, str(source)) if stored else EvaluateConfig()


@dataclass(frozen=True, slots=True)
class Estimates:
    """Poses of D boxes, before anything is suppressed."""

    image_index: np.ndarray
    """(D,) pictures."""
    keypoints: np.ndarray
    """(D, K, 2) float64 in picture pixels: rounding to 3 decimals must not see float32's steps."""
    keypoint_scores: np.ndarray
    """(D, K) float32, not calibrated."""
    box_scores: np.ndarray
    """(D,)."""
    areas: np.ndarray
    """(D,) area of the padded crop in picture pixels: the references' OKS-NMS uses it."""
    broken: dict[str, str] = field(default_factory=dict)
    """Pictures that could not be read and were skipped: path -> reason."""


def estimate_boxes(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    *,
    workers: int = 2,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Estimates:
    """Runs the network on every box.

    Args:
        estimator: the network.
        annotations: knows the pictures.
        detections: the boxes.
        workers: reading threads.
        skip_broken: go on without pictures that cannot be read.
        progress: called with (boxes done, boxes in all).

    Returns:
        One estimate a box, grouped by picture; never more than a few batches of crops or heatmaps are held.
    """
    order = np.argsort(detections.image_index, kind="stable")
    pictures, starts = np.unique(detections.image_index[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []
    broken: dict[str, str] = {}

    def cut(job: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        picture, rows = job
        path = annotations.image_paths[picture]
        try:
            crops, to_crop = estimator.cut(read_image(path), detections.boxes_xyxy[rows])
        except UserError as error:
            if not skip_broken:
                raise
            broken[path] = str(error)
            return rows[:0], np.zeros((0, *estimator.input_size_wh[::-1], 3), np.uint8), np.zeros((0, 2, 3))
        return rows, crops, to_crop

    count = len(estimator.schema)
    keypoints, scores = np.zeros((len(order), count, 2)), np.zeros((len(order), count), np.float32)
    done_rows: list[np.ndarray] = []
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    done = 0

    def flush() -> None:
        nonlocal done
        rows, crops, to_crop = (np.concatenate(parts) for parts in zip(*held, strict=True))
        keypoints[rows], scores[rows] = estimator.estimate_crops(crops, to_crop)
        done_rows.append(rows)
        done += len(rows)
        held.clear()
        if progress is not None:
            progress(done, len(order))

    for item in in_order(cut, zip(pictures.tolist(), groups, strict=True), workers, 2 * workers + 2):
        held.append(item)
        if sum(len(rows) for rows, _, _ in held) >= estimator.batch_size:
            flush()
    if held:
        flush()
    rows = np.concatenate(done_rows) if done_rows else np.zeros(0, np.int64)
    _, sizes = geometry.fit_boxes(detections.boxes_xyxy[rows], estimator.input_size_wh)
    return Estimates(
        detections.image_index[rows], keypoints[rows], scores[rows], detections.scores[rows], sizes.prod(1), broken
    )  # fmt: skip


def person_scores(estimates: Estimates, config: EvaluateConfig) -> np.ndarray:
    """(D,) float64 raw person scores, as `config.person_score` says."""
    if config.person_score == "keypoint_mean":
        return estimates.keypoint_scores.astype(np.float64).mean(1)
    return rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)


def match_estimates(estimates: Estimates, annotations: Annotations, config: EvaluateConfig) -> Matches:
    """The estimates beside the annotated people, to fit or measure what scores mean; crowds are left out.

    A pose's score is the estimator's, box score x mean keypoint score, whatever `config.person_score` ranks by.
    """
    people = annotations.select(~annotations.is_crowd)
    scores = rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)
    return match_people(
        estimates.image_index, estimates.keypoints, estimates.keypoint_scores, scores, people.image_index, people.keypoints, people.visibility,
        people.area, people.schema.sigmas,
    )  # fmt: skip


def name_boxes(annotations: Annotations, detections: Detections) -> tuple[str, float | None]:
    """What stands beside an AP: `ground truth` and None, or the detection file's name with its box AP, and that AP (0..1; -1 and `-`: nobody to find)."""
    if detections.source == GROUND_TRUTH or not len(annotations):
        return Path(detections.source).name, None
    quality = evaluate_boxes(annotations, detections)["AP"]
    return f"{Path(detections.source).name} (box AP {spell(100 * quality, '.1f')})", quality


def suppress_and_write(
    estimates: Estimates, annotations: Annotations, config: EvaluateConfig, calibration: Calibration | None = None
) -> list[dict[str, Any]]:
    """Rescoring, OKS-NMS and the best poses a picture, as COCO result rows; the scores in them are calibrated if there is a calibration.

    A calibrated person score is what the estimator gives: the expected OKS, from box score x mean keypoint score.
    """
    scores = person_scores(estimates, config)
    kept = np.ones(len(scores), bool)
    if config.oks_nms_threshold < 1:
        kept = oks_nms_batch(
            estimates.image_index, estimates.keypoints, scores, estimates.areas, annotations.schema.sigmas, config.oks_nms_threshold
        )
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((-scores[rows], estimates.image_index[rows]))]  # by picture, best first; stable
    if config.best_per_picture:
        image_index = estimates.image_index[rows]
        rank = np.arange(len(rows)) - np.searchsorted(image_index, image_index, side="left")
        rows = rows[rank < config.best_per_picture]
    keypoint_scores = estimates.keypoint_scores
    if calibration is not None:
        scores = calibration.expected_oks(rescore(estimates.box_scores, keypoint_scores, config.keypoint_threshold))
        keypoint_scores = calibration.keypoints(keypoint_scores)
    return coco_results(
        annotations.image_ids[estimates.image_index[rows]],
        estimates.keypoints[rows],
        keypoint_scores[rows],
        scores[rows],
        category_id=annotations.category_id,
        visibility_column=config.visibility_column,
        score_decimals=config.score_decimals,
        coordinate_decimals=config.coordinate_decimals,
    )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one test."""

    metrics: dict[str, float]
    """AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL in 0..1; -1 where there is nothing to find."""
    results: list[dict[str, Any]]
    """COCO result rows."""
    seconds: float
    """Wall-clock time, scoring included."""
    people: int
    """Boxes that were estimated."""
    pictures: int
    """Pictures of the ground truth."""
    broken: dict[str, str]
    """Pictures that were skipped."""
    calibration_error: float = float("nan")
    """Expected calibration error of the keypoint scores, 0..1; NaN where nobody was matched."""


def evaluate_network(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    config: EvaluateConfig,
    *,
    evaluator: Literal["hotcoco", "pycocotools"] = "hotcoco",
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
    estimate: Callable[..., Estimates] = estimate_boxes,
) -> Evaluation:
    """The whole COCO keypoint test of one network; arguments as `estimate_boxes`, which `estimate` may replace (several processes)."""
    began = time.monotonic()
    estimates = estimate(
        estimator, annotations, detections, workers=config.workers or own_cores(), skip_broken=skip_broken, progress=progress
    )  # fmt: skip
    calibration = estimator.spec.calibration
    results = suppress_and_write(estimates, annotations, config)
    metrics = dict.fromkeys(METRICS, -1.0)  # nothing to find: the pictures of a test split
    if len(annotations):
        metrics = evaluate_coco(coco_content(annotations), results, sigmas=annotations.schema.sigmas, evaluator=evaluator)
    matches = match_estimates(estimates, annotations, config)
    if calibration is not None:  # ranks, and so AP, come from raw scores
        results = suppress_and_write(estimates, annotations, config, calibration)
        matches = replace(matches, keypoint_scores=calibration.keypoints(matches.keypoint_scores))
    return Evaluation(
        metrics, results, time.monotonic() - began, len(estimates.box_scores), len(annotations.image_ids), estimates.broken,
        matches.calibration_error,
    )  # fmt: skip
