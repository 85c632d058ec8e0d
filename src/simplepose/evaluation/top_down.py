"""The references' test: boxes -> crops of many pictures -> network -> rescoring -> OKS-NMS -> results
-> the numbers of the data set.

Each picture is decoded once, its crops wait in bounded queues, and suppression and result rows are computed for all people at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simplepose.config import EvaluateConfig
from simplepose.core.device import own_cores
from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.core.oks import oks_nms_batch, rescore
from simplepose.core.settings import build
from simplepose.data.annotations import GROUND_TRUTH, Annotations, Detections
from simplepose.data.pictures import in_order
from simplepose.evaluation.coco import coco_results, evaluate_boxes, spell
from simplepose.evaluation.mpii import mpii_results
from simplepose.evaluation.posetrack_files import posetrack_results
from simplepose.evaluation.tasks import TASKS, require_truth, score_task
from simplepose.pose import geometry
from simplepose.pose.calibration import Calibration, Matches, match_people
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator


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
            return (
                rows[:0],
                np.zeros((0, *estimator.input_size_wh[::-1], 3), np.uint8),
                np.zeros((0, 2, 3)),
            )
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

    for item in in_order(
        cut, zip(pictures.tolist(), groups, strict=True), workers, 2 * workers + 2
    ):
        held.append(item)
        if sum(len(rows) for rows, _, _ in held) >= estimator.batch_size:
            flush()
    if held:
        flush()
    rows = np.concatenate(done_rows) if done_rows else np.zeros(0, np.int64)
    _, sizes = geometry.fit_boxes(detections.boxes_xyxy[rows], estimator.input_size_wh)
    return Estimates(
        detections.image_index[rows],
        keypoints[rows],
        scores[rows],
        detections.scores[rows],
        sizes.prod(1),
        broken,
    )


def person_scores(estimates: Estimates, config: EvaluateConfig) -> np.ndarray:
    """(D,) float64 raw person scores, as `config.person_score` says."""
    if config.person_score == "keypoint_mean":
        return estimates.keypoint_scores.astype(np.float64).mean(1)
    return rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)


def match_estimates(
    estimates: Estimates, annotations: Annotations, config: EvaluateConfig
) -> Matches:
    """The estimates beside the annotated people, to fit or measure what scores mean; crowds are left out.

    A pose's score is the estimator's, box score x mean keypoint score, whatever `config.person_score` ranks by.
    """
    people = annotations.select(~annotations.is_crowd)
    scores = rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)
    return match_people(
        estimates.image_index,
        np.dstack([estimates.keypoints, estimates.keypoint_scores]),
        scores,
        people.image_index,
        np.dstack([people.keypoints, people.visibility]),
        people.area,
        people.schema.sigmas,
    )


def name_boxes(annotations: Annotations, detections: Detections) -> tuple[str, float | None]:
    """What stands beside an AP: the source of the boxes, and None for those of the ground truth.

    The name of a detection file comes with its box AP, and that AP beside it (0..1; -1 and `-` where
    there is nobody to find).
    """
    if detections.source in GROUND_TRUTH.values() or not len(annotations):
        return Path(detections.source).name, None
    quality = evaluate_boxes(annotations, detections)["AP"]
    return f"{Path(detections.source).name} (box AP {spell(100 * quality, '.1f')})", quality


def best_rows(
    estimates: Estimates,
    scores: np.ndarray,
    annotations: Annotations,
    config: EvaluateConfig,
) -> np.ndarray:
    """(R,) estimates that OKS-NMS and the limit of poses a picture leave, by picture and best first."""
    kept = np.ones(len(scores), bool)
    if config.oks_nms_threshold < 1:
        kept = oks_nms_batch(
            estimates.image_index,
            estimates.keypoints,
            scores,
            estimates.areas,
            annotations.schema.sigmas,
            config.oks_nms_threshold,
        )
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((-scores[rows], estimates.image_index[rows]))]  # stable
    if config.best_per_picture:
        image_index = estimates.image_index[rows]
        rank = np.arange(len(rows)) - np.searchsorted(image_index, image_index, side="left")
        rows = rows[rank < config.best_per_picture]
    return rows


def results_of(estimates: Estimates, annotations: Annotations, config: EvaluateConfig) -> Any:
    """The estimates as results of `config.task`, with raw scores; see `tasks.score_task`."""
    if config.task == "mpii":
        return mpii_results(
            annotations, estimates.image_index, estimates.keypoints, estimates.broken
        )
    if config.task != "posetrack":
        return suppress_and_write(estimates, annotations, config)
    scores = person_scores(estimates, config)
    rows = best_rows(estimates, scores, annotations, config)
    return posetrack_results(
        annotations,
        estimates.image_index[rows],
        estimates.keypoints[rows],
        estimates.keypoint_scores[rows],
        scores[rows],
        score_decimals=config.score_decimals,
        coordinate_decimals=config.coordinate_decimals,
    )


def suppress_and_write(
    estimates: Estimates,
    annotations: Annotations,
    config: EvaluateConfig,
    calibration: Calibration | None = None,
) -> list[dict[str, Any]]:
    """Rescoring, OKS-NMS and the best poses a picture, as COCO result rows; the scores in them are calibrated if there is a calibration.

    A calibrated person score is what the estimator gives: the expected OKS, from box score x mean keypoint score.
    """
    scores = person_scores(estimates, config)
    rows = best_rows(estimates, scores, annotations, config)
    keypoint_scores = estimates.keypoint_scores
    if calibration is not None:
        scores = calibration.expected_oks(
            rescore(estimates.box_scores, keypoint_scores, config.keypoint_threshold)
        )
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
    """The numbers of the task; -1 or NaN where there is nothing to find."""
    score: float
    """The one of them that chooses `best`."""
    results: Any
    """COCO result rows; for MPII and PoseTrack see `tasks.score_task`."""
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
    """The whole test of one network.

    Arguments as `estimate_boxes`, which `estimate` may replace (several processes).

    Raises:
        UserError: the task does not score these keypoints, or the annotations lack what it needs.
    """
    began = time.monotonic()
    require_truth(config.task, annotations)
    estimates = estimate(
        estimator,
        annotations,
        detections,
        workers=config.workers or own_cores(),
        skip_broken=skip_broken,
        progress=progress,
    )
    calibration = estimator.spec.calibration
    results = results_of(estimates, annotations, config)
    metrics = score_task(config.task, annotations, results, evaluator)
    matches = match_estimates(estimates, annotations, config)
    if calibration is not None:
        matches = replace(matches, keypoint_scores=calibration.keypoints(matches.keypoint_scores))
        # Ranks, and so AP, come from raw scores; PoseTrack's keypoint scores are ranks, and stay raw.
        if isinstance(results, list):
            results = suppress_and_write(estimates, annotations, config, calibration)
    return Evaluation(
        metrics,
        metrics[TASKS[config.task].score],
        results,
        time.monotonic() - began,
        len(estimates.box_scores),
        len(annotations.image_ids),
        estimates.broken,
        matches.calibration_error,
    )
