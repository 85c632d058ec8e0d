"""The pose network and the source of people of `predict` and `track`, as their options say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from simplepose.commands.options import Networks, PeopleInPictures
from simplepose.core.errors import UserError
from simplepose.core.progress import note
from simplepose.core.structures import Poses
from simplepose.data.categories import with_flip_pairs
from simplepose.detection.estimator import (
    PoseEstimator,
    default_boxes,
    default_weights,
    told,
)
from simplepose.detection.people import Detector, PeopleSource, people_source

T = TypeVar("T", bound=Networks)


def open_estimator(options: T, threads: int = 0) -> tuple[PoseEstimator, T]:
    """The pose network, and the options with the names of networks that nobody chose, which are
    told.

    Raises:
        UserError: it cannot be opened, or nobody said where people are and no detector fits.
    """
    weights = options.weights or default_weights()
    estimator = PoseEstimator.from_pretrained(
        weights,
        device=options.device,
        flip_test=getattr(options, "flip_test", True),
        threads=threads,
    )
    ellipses = isinstance(options, PeopleInPictures) and options.style["ellipses"]
    if ellipses and not estimator.knows_covariances:
        raise UserError(
            f"--draw ellipses, but {weights} carries no covariances. "
            "Cure: simplepose calibrate writes weights with them; or leave ellipses out"
        )
    boxes = options.boxes or default_boxes(estimator.schema)
    if not (options.weights and options.boxes):
        sentence = told("" if options.weights else weights, "" if options.boxes else boxes)
        note(sentence)
    schema = with_flip_pairs(estimator.schema, options.flip_pairs)
    estimator.spec = replace(estimator.spec, schema=schema)
    if estimator.flip_test and (sentence := schema.sides_note("--flip-pairs")):
        note(sentence)
    return estimator, replace(options, weights=weights, boxes=boxes)


def open_people(
    options: Networks,
    estimator: PoseEstimator,
    *,
    annotations: str = "",
    threads: int = 0,
    cut_border: bool = False,
) -> Detector | PeopleSource:
    """What finds people; see `people_source`."""
    return people_source(
        options.boxes,
        annotations=annotations or None,
        score_threshold=options.box_threshold,
        keypoints=estimator.schema.keypoints,
        device=options.device,
        threads=threads,
        cut_border=cut_border,
        person_class=options.person_class,
        tta=options.box_tta,
    )


def tell_skipped(broken: Mapping[str, str]) -> None:
    """The first pictures that could not be read, and why."""
    note(*[f"skipped {path}: {reason}" for path, reason in [*broken.items()][:3]])


class Seen:
    """Counts what a run finds, to say at its end why there is nothing to see."""

    def __init__(self, threshold: float) -> None:
        self.threshold, self.people, self.keypoints = threshold, 0, 0

    def add(self, poses: Poses) -> None:
        """The poses of one picture."""
        self.people += len(poses)
        self.keypoints += int(np.sum(poses.keypoint_scores >= self.threshold))

    def tell(self) -> None:
        """A sentence where there was nobody, or no keypoint is drawn."""
        if not self.people:
            note(
                "nobody was found. Cure: a lower --box-threshold, another detector, or "
                "--boxes whole where one person fills the picture"
            )
        elif not self.keypoints:
            note(
                f"no keypoint has a score of {self.threshold:g} or more, so none is drawn. "
                "Cure: a lower --keypoint-threshold, or look at the boxes: --draw boxes"
            )
