"""How a data set is made: people a picture, sizes, aspect ratios, visibility. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simplepose.data.annotations import Annotations

SIZE_EDGES = (0, 16, 32, 64, 96, 128, 192, 256, 384, np.inf)
"""Bins of the longer side of a box, pixels."""
ASPECT_EDGES = (0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, np.inf)
"""Bins of width / height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts in named bins."""

    title: str
    """What is counted."""
    labels: tuple[str, ...]
    """Names of the bins."""
    counts: tuple[int, ...]
    """One count a bin."""

    def lines(self, width: int = 30) -> list[str]:
        """The histogram as text, one line a bin, the largest `width` marks long."""
        largest = max(self.counts, default=0) or 1
        column = max([12, *map(len, self.labels)])
        return [
            f"  {label:>{column}} {count:>8}  {'#' * round(width * count / largest)}"
            for label, count in zip(self.labels, self.counts, strict=True)
        ]


def overview(annotations: Annotations) -> dict[str, int]:
    """Counts: pictures, pictures with people, people, with keypoints, crowds, trainable people, labelled keypoints."""
    return {
        "pictures": len(annotations.image_ids),
        "pictures with people": len(np.unique(annotations.image_index)),
        "people": len(annotations),
        "people with keypoints": int((annotations.keypoint_counts > 0).sum()),
        "crowds": int(annotations.is_crowd.sum()),
        "people to train on": len(annotations.trainable()),
        "labelled keypoints": int(annotations.keypoint_counts.sum()),
        "of these hidden": int((annotations.visibility == 1).sum()),
    }


def histograms(annotations: Annotations) -> list[Histogram]:
    """People a picture; longer side and width / height of the boxes of people with keypoints; how often each keypoint is labelled."""
    people = annotations.select((annotations.keypoint_counts > 0) & ~annotations.is_crowd)
    per_picture = np.bincount(annotations.image_index, minlength=len(annotations.image_ids))
    few = tuple(int((per_picture == count).sum()) for count in range(10))
    sides = people.bbox_xywh[:, 2:].max(1, initial=0)
    aspect = people.bbox_xywh[:, 2] / np.maximum(people.bbox_xywh[:, 3], 1e-6)
    return [
        Histogram(
            title="people per picture",
            labels=(*map(str, range(10)), "10 or more"),
            counts=(*few, int((per_picture >= 10).sum())),
        ),
        _binned("longer side of the box, pixels", sides, SIZE_EDGES),
        _binned("width / height of the box", aspect, ASPECT_EDGES),
        Histogram(
            title="people on whom a keypoint is labelled",
            labels=annotations.schema.keypoints,
            counts=tuple((people.visibility > 0).sum(0).tolist()),
        ),
    ]


def _binned(title: str, values: np.ndarray, edges: tuple[float, ...]) -> Histogram:
    labels = tuple(
        f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
        for low, high in pairwise(edges)
    )
    return Histogram(
        title=title, labels=labels, counts=tuple(np.histogram(values, edges)[0].tolist())
    )
