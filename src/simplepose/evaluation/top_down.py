"""The references' test: boxes -> crops of many pictures -> network -> rescoring -> OKS-NMS ->
results -> the numbers of the data set.

Each picture is decoded once, its crops wait in bounded queues, and suppression and result rows are
computed for all people at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.config import EvaluateConfig
from simplepose.core.device import own_cores
from simplepose.core.errors import UserError
from simplepose.core.oks import oks_nms_batch, rescore
from simplepose.core.settings import build
from simplepose.data.annotations import GROUND_TRUTH, Annotations, Detections
from simplepose.data.pictures import by_picture, in_order, read_picture, skipping
from simplepose.evaluation.coco import Evaluator, coco_results, evaluate_boxes
from simplepose.evaluation.mpii import mpii_results
from simplepose.evaluation.posetrack import posetrack_results
from simplepose.evaluation.tasks import TASKS, require_truth, score_task, spell
from simplepose.pose import geometry
from simplepose.pose.calibration import Calibration, Matches, match_people, visibility_measures
from simplepose.pose.checkpoints import ModelSpec, epoch_weights, kept_epochs
from simplepose.pose.estimator import PoseEstimator


def stored_settings(spec: ModelSpec, source: str | Path) -> EvaluateConfig:
    """The settings of the test that a trained network carries (they depend on its family), or the
    defaults; `source` names it in errors."""
    stored = spec.config.get("evaluate")
    return build(EvaluateConfig, stored, str(source)) if stored else EvaluateConfig()


def weights_of_epochs(run: str, epochs: str) -> dict[int, Path]:
    """The weights of the epochs that are asked for, in order.

    Args:
        run: folder of a run that was trained with `train.keep_every`.
        epochs: `140`, or `100:140:10` (both ends, every tenth), or `100:140`.

    Raises:
        UserError: other text, no run that keeps epochs, or an epoch that it has not kept.
    """
    wanted, kept = parse_epochs(epochs), kept_epochs(run)
    if not kept:
        raise UserError(
            f"{run} keeps no weights of single epochs (no checkpoints/epoch_*.safetensors). Cure: "
            "name the folder of a run that was trained with --train.keep-every, or leave "
            "--epochs out"
        )
    missing = next((epoch for epoch in wanted if epoch not in kept), None)
    if missing is not None:
        listed = ", ".join(map(str, kept))
        raise UserError(f"{run} keeps no weights of epoch {missing}. Cure: --epochs of {listed}")
    return {epoch: epoch_weights(run, epoch) for epoch in wanted}


def parse_epochs(text: str) -> range:
    """`140`, `100:140` or `100:140:10` as numbers; both ends belong to it.

    Raises:
        UserError: it is none of these, or no epoch lies between its ends.
    """
    if re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9}){0,2}", text):
        first, *more = map(int, text.split(":"))
        last, step = [*more, *(first, 1)[len(more) :]]
        if 1 <= first <= last and step:
            return range(first, last + 1, step)
    raise UserError(f"--epochs is {text!r}. Cure: FIRST:LAST:STEP as 100:140:10, or one epoch")


@dataclass(frozen=True)
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
    covariances: np.ndarray | None = None
    """(D, K, 2, 2) second moments in square picture pixels, not calibrated, where asked for."""
    visibility: np.ndarray | None = None
    """(D, K, 3), not calibrated, where the network knows it."""
    broken: dict[str, str] = field(default_factory=dict)
    """Pictures that could not be read and were skipped: path -> reason."""


def estimate_boxes(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    *,
    workers: int = 0,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
    covariances: bool = False,
) -> Estimates:
    """Runs the network on every box.

    Args:
        estimator: the network.
        annotations: knows the pictures.
        detections: the boxes.
        workers: reading threads; 0: one a core.
        skip_broken: go on without pictures that cannot be read.
        progress: called with (boxes done, boxes in all).
        covariances: also take the second moments of the heatmaps.

    Returns:
        One estimate a box, grouped by picture; never more than a few batches of crops or heatmaps
        are held.
    """
    workers = workers or own_cores()
    broken: dict[str, str] = {}

    def cut(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        picture = int(detections.image_index[rows[0]])
        with skipping(broken if skip_broken else None, annotations.image_paths[picture]):
            image = read_picture(annotations, picture)
            return rows, *estimator.cut(image, detections.boxes_xyxy[rows])
        return None

    size_wh, rows = estimator.input_size_wh, [np.zeros(0, np.int64)]
    nothing = np.zeros((0, *size_wh[::-1], 3), np.uint8), np.zeros((0, 2, 3))
    found = [estimator.estimate_crops(*nothing, covariances=covariances)]
    cuts = in_order(cut, by_picture(detections), workers, 2 * workers + 2)

    def estimate(crops: tuple[np.ndarray, ...]) -> tuple[np.ndarray, Any]:
        return crops[0], estimator.estimate_crops(*crops[1:], covariances=covariances)

    # The network has a thread of its own: an accelerator does not wait for crops to be joined.
    for done, estimates in in_order(estimate, _batches(cuts, estimator.batch_size), 1, 1):
        rows.append(done)
        found.append(estimates)
        if progress is not None:
            progress(sum(map(len, rows)), len(detections))
    done = np.concatenate(rows)
    _, sizes = geometry.fit_boxes(detections.boxes_xyxy[done], size_wh)
    parts: list[Any] = [
        None if part[0] is None else np.concatenate(part) for part in zip(*found, strict=True)
    ]
    keypoints, scores, moments, visibility = parts
    return Estimates(
        detections.image_index[done],
        keypoints,
        scores,
        detections.scores[done],
        sizes.prod(1),
        moments,
        visibility,
        broken,
    )


def _batches(
    crops: Iterable[tuple[np.ndarray, ...] | None], batch_size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Joins the crops of pictures until there are at least `batch_size`; None is left out."""
    held: list[tuple[np.ndarray, ...]] = []
    for one in filter(None, crops):
        held.append(one)
        if sum(len(rows) for rows, *_ in held) >= batch_size:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))
            held = []
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))


def person_scores(estimates: Estimates, config: EvaluateConfig) -> np.ndarray:
    """(D,) float64 raw person scores, as `config.person_score` says."""
    if config.person_score == "keypoint_mean":
        return estimates.keypoint_scores.astype(np.float64).mean(1)
    return rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)


def match_estimates(
    estimates: Estimates, annotations: Annotations, config: EvaluateConfig
) -> Matches:
    """The estimates beside the annotated people, to fit or measure what scores mean; crowds are
    left out.

    A pose's score is the estimator's, box score x mean keypoint score, whatever
    `config.person_score` ranks by.
    """
    people = annotations.select(~annotations.is_crowd)
    scores = rescore(estimates.box_scores, estimates.keypoint_scores, config.keypoint_threshold)
    matches = match_people(
        estimates.image_index,
        np.dstack([estimates.keypoints, estimates.keypoint_scores]),
        scores,
        people.image_index,
        np.dstack([people.keypoints, people.visibility]),
        people.area,
        people.schema.sigmas,
        estimates.covariances,
    )
    if estimates.visibility is None or matches.rows is None:
        return matches
    truth, seen = people.visibility[matches.rows[0]], estimates.visibility[matches.rows[1]]
    return replace(matches, visibility=seen, annotated_visibility=truth.astype(np.int64))


def name_boxes(annotations: Annotations, detections: Detections) -> tuple[str, float | None]:
    """What stands beside an AP: the source of the boxes, and None for those of the ground truth.

    The name of a detection file comes with its box AP, and that AP beside it (0..1; -1 and `-`
    where there is nobody to find).
    """
    if detections.source in GROUND_TRUTH.values() or not len(annotations):
        return Path(detections.source).name, None
    quality = evaluate_boxes(annotations, detections)["AP"]
    return f"{Path(detections.source).name} (box AP {spell(100 * quality, '.1f')})", quality


def results_of(
    estimates: Estimates,
    annotations: Annotations,
    config: EvaluateConfig,
    calibration: Calibration | None = None,
) -> Any:
    """The estimates as results of `config.task`, see `tasks.score_task`.

    COCO result rows and PoseTrack's files have rescored people, after OKS-NMS, and only the best of
    a picture. The scores in COCO rows are calibrated if there is a calibration: a calibrated person
    score is what the estimator gives, the expected OKS, from box score x mean keypoint score. What
    ranks, and so AP, are raw scores; PoseTrack's keypoint scores are ranks, and stay raw.
    """
    if config.task == "mpii":
        return mpii_results(
            annotations, estimates.image_index, estimates.keypoints, estimates.broken
        )
    scores, keypoint_scores = person_scores(estimates, config), estimates.keypoint_scores
    rows = _best_rows(estimates, scores, annotations.schema.sigmas, config)
    decimals = {
        "score_decimals": config.score_decimals,
        "coordinate_decimals": config.coordinate_decimals,
    }
    keypoints, image_index = estimates.keypoints[rows], estimates.image_index[rows]
    if config.task == "posetrack":
        return posetrack_results(
            annotations, image_index, keypoints, keypoint_scores[rows], scores[rows], **decimals
        )
    if calibration is not None:
        raw = rescore(estimates.box_scores, keypoint_scores, config.keypoint_threshold)
        scores = calibration.expected_oks(raw)
        keypoint_scores = calibration.keypoints(keypoint_scores)
    return coco_results(
        annotations.image_ids[image_index],
        keypoints,
        keypoint_scores[rows],
        scores[rows],
        category_id=annotations.category_id,
        visibility_column=config.visibility_column,
        **decimals,
    )


def _best_rows(
    estimates: Estimates, scores: np.ndarray, sigmas: Sequence[float], config: EvaluateConfig
) -> np.ndarray:
    """(R,) estimates that OKS-NMS and the limit of a picture leave, by picture, best first."""
    kept = np.ones(len(scores), bool)
    if config.oks_nms_threshold < 1:
        kept = oks_nms_batch(
            estimates.image_index,
            estimates.keypoints,
            scores,
            estimates.areas,
            sigmas,
            config.oks_nms_threshold,
        )
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((-scores[rows], estimates.image_index[rows]))]  # stable
    if config.best_per_picture:
        image_index = estimates.image_index[rows]
        rank = np.arange(len(rows)) - np.searchsorted(image_index, image_index, side="left")
        rows = rows[rank < config.best_per_picture]
    return rows


@dataclass(frozen=True)
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
    coverage: float = float("nan")
    """Fraction of true positions within their ellipses (`core.oks.COVERED` is meant); NaN
    where the weights carry no covariances."""
    visibility: dict[str, float] = field(default_factory=dict)
    """See `visibility_measures`."""


def evaluate_network(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    config: EvaluateConfig,
    *,
    evaluator: Evaluator = "hotcoco",
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
        workers=config.workers,
        skip_broken=skip_broken,
        progress=progress,
        covariances=estimator.knows_covariances,
    )
    results = results_of(estimates, annotations, config)
    metrics = score_task(config.task, annotations, results, evaluator)
    matches = match_estimates(estimates, annotations, config)
    coverage = float("nan")
    if (calibration := estimator.spec.calibration) is not None:
        coverage = calibration.coverage(matches)
        seen = matches.visibility
        matches = replace(
            matches,
            keypoint_scores=calibration.keypoints(matches.keypoint_scores),
            visibility=None if seen is None else calibration.visibility(seen),
        )
        results = results_of(estimates, annotations, config, calibration)
    return Evaluation(
        metrics,
        metrics[TASKS[config.task].score],
        results,
        time.monotonic() - began,
        len(estimates.box_scores),
        len(annotations.image_ids),
        estimates.broken,
        matches.calibration_error,
        coverage,
        visibility_measures(matches),
    )
