"""The test of a detector: pictures -> boxes -> result rows -> box AP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from simplepose.data.annotations import Annotations, Detections
from simplepose.data.boxes import class_ids
from simplepose.data.coco import rows_of
from simplepose.data.pictures import in_order, read_picture, skipping
from simplepose.detection.trained import TrainedDetector
from simplepose.evaluation.coco import Evaluator, evaluate_boxes, rounded
from simplepose.evaluation.tasks import Kind
from simplepose.evaluation.top_down import Evaluation

BOX_TEST = Kind(
    columns={
        "AP": "AP",
        "AP50": "AP .5",
        "AP75": "AP .75",
        "APS": "AP (S)",
        "APM": "AP (M)",
        "APL": "AP (L)",
        "AR": "AR",
    },
    unit="box AP, 0..1",
)
"""The numbers of `evaluate_boxes`."""
LEAST_SCORE = 0.05
"""Weaker boxes would cost time and change no AP."""
Found = list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]
"""Index of a picture, and what `TrainedDetector.detect` says of it."""


def detect_pictures(
    detector: TrainedDetector,
    annotations: Annotations,
    pictures: range,
    *,
    workers: int = 1,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Found, dict[str, str]]:
    """The boxes of some pictures, which threads read ahead, and why pictures could not be read.

    Raises:
        UserError: a picture cannot be read and `skip_broken` is off.
    """
    found, broken = Found(), dict[str, str]()

    def read(picture: int) -> np.ndarray | None:
        with skipping(broken if skip_broken else None, annotations.image_paths[picture]):
            return read_picture(annotations, picture)
        return None

    images = in_order(read, pictures, workers, 2 * workers)
    for done, (picture, image) in enumerate(zip(pictures, images, strict=True), 1):
        if image is not None:
            found.append((picture, *detector.detect([image])[0]))
        progress(done, len(pictures))
    return found, broken


def evaluate_detector(
    detector: TrainedDetector,
    annotations: Annotations,
    *,
    evaluator: Evaluator = "hotcoco",
    detect: Callable[..., tuple[Found, dict[str, str]]] = detect_pictures,
    **options: Any,
) -> Evaluation:
    """The whole test of one detector, a mean over its classes.

    Args:
        detector: of the classes of `annotations`.
        annotations: from `data.boxes.read_labelled_boxes`.
        evaluator: see `evaluate_boxes`.
        detect: in place of `detect_pictures` (several processes).
        options: as `detect_pictures`.

    Raises:
        UserError: other classes, or a picture that cannot be read.
    """
    began = time.monotonic()
    found, broken = detect(detector, annotations, range(len(annotations.image_ids)), **options)
    detections, classes = joined(found, "its own")
    categories = np.array(class_ids(annotations))[classes]
    metrics = evaluate_boxes(annotations, detections, categories=categories, evaluator=evaluator)
    results = rows_of(
        image_id=annotations.image_ids[detections.image_index],
        category_id=categories,
        bbox=detections.bbox_xywh.round(2),
        score=rounded(detections.scores, 5),
    )
    return Evaluation(
        metrics=metrics,
        score=metrics["AP"],
        results=results,
        seconds=time.monotonic() - began,
        people=len(annotations),
        pictures=len(annotations.image_ids),
        broken=broken,
    )


def joined(found: Found, source: str) -> tuple[Detections, np.ndarray]:
    """All boxes of some pictures, and the class of each (D,) int64."""

    def column(parts: list[np.ndarray], *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape)), *parts])

    counts = [len(scores) for _, _, scores, _ in found]
    detections = Detections(
        image_index=np.repeat(np.array([picture for picture, *_ in found], int), counts),
        boxes_xyxy=column([boxes for _, boxes, _, _ in found], 4),
        scores=column([scores for _, _, scores, _ in found]),
        source=source,
    )
    return detections, column([classes for *_, classes in found]).astype(int)


def detected_people(
    detector: TrainedDetector, annotations: Annotations, source: str, **options: Any
) -> Detections:
    """The people that a detector finds in annotated pictures, for a test of pose networks: boxes
    of its class of people with a score of `LEAST_SCORE` or more.

    Args:
        detector: any.
        annotations: whose pictures are looked at.
        source: name of the boxes.
        options: as `detect_pictures`; a picture that cannot be read has nobody.
    """
    found, _ = detect_pictures(detector, annotations, range(len(annotations.image_ids)), **options)
    detections, classes = joined(found, source)
    wanted = detections.scores >= LEAST_SCORE
    if detector.person_class is not None:
        wanted &= classes == detector.person_class
    return detections.select(wanted)
