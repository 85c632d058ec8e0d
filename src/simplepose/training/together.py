"""The estimates of the test shared out to several processes: every box on one of them, everything gathered on all."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations, Detections
from simplepose.evaluation.top_down import Estimates, estimate_boxes
from simplepose.pose.estimator import PoseEstimator
from simplepose.training.distributed import Processes, gather


def estimate_together(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    *,
    who: Processes,
    **options: Any,
) -> Estimates:
    """`estimate_boxes` on several processes; every process gets all estimates, in the order one process gives them.

    A picture belongs to one process, so no box is estimated twice; the gathered boxes are counted against those that went in.

    Args:
        estimator: the network, the same on all processes.
        annotations: knows the pictures.
        detections: all boxes.
        who: which of the processes this is.
        options: as `estimate_boxes`.
    """
    if who.count == 1:
        return estimate_boxes(estimator, annotations, detections, **options)
    mine = detections.image_index % who.count == who.rank
    parts = gather(estimate_boxes(estimator, annotations, detections.select(mine), **options), who)
    return merge_estimates(parts, annotations, detections)


def merge_estimates(
    parts: list[Estimates], annotations: Annotations, detections: Detections
) -> Estimates:
    """Joins the estimates of disjoint sets of pictures, ordered by picture.

    Raises:
        UserError: a picture's boxes came from two processes, or boxes were lost: both would falsify the score.
    """
    names = [field.name for field in fields(Estimates) if field.name != "broken"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    broken = {path: reason for part in parts for path, reason in part.broken.items()}
    unread = (
        np.isin(np.asarray(annotations.image_paths, object)[detections.image_index], list(broken))
        if broken
        else np.zeros(0, bool)
    )
    expected = np.bincount(
        detections.image_index if not broken else detections.image_index[~unread],
        minlength=len(annotations.image_ids),
    )
    found = np.bincount(columns["image_index"], minlength=len(annotations.image_ids))
    if (wrong := np.flatnonzero(expected != found)).size:
        raise UserError(
            f"the processes estimated {found[wrong[0]]} boxes of picture {annotations.image_ids[wrong[0]]}, expected {expected[wrong[0]]}. "
            "Cure: start all processes with the same data"
        )
    order = np.argsort(columns["image_index"], kind="stable")
    return Estimates(**{name: column[order] for name, column in columns.items()}, broken=broken)
