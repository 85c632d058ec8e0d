"""A detector that is exported: what its file is compared by."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from simplepose.core.boxes import iou
from simplepose.data.annotations import Annotations
from simplepose.data.pictures import read_picture
from simplepose.detection.trained import Boxes, TrainedDetector, fitted
from simplepose.evaluation.boxes import LEAST_SCORE, evaluate_detector
from simplepose.export.parity import Check, Kind
from simplepose.synthetic.scene import draw_people

COUNT = 64
"""Pictures that are compared."""
SAME_IOU, SAME_SCORE, LEAST_SAME = 0.99, 1e-3, 0.99
"""A box of an fp32 file is the network's where both hold; as many of them must be."""


class BoxSource:
    """A detector, and the pictures that it and its file are tested on."""

    def __init__(self, network: TrainedDetector, scored: Annotations | None = None) -> None:
        """Holds both.

        Args:
            network: opened on the processor.
            scored: boxes to test on; None compares numbers alone, on drawn pictures.
        """
        self.network, self.scored = network, scored

    def open(self, path: Path) -> TrainedDetector:
        """A file of the network."""
        return TrainedDetector.from_pretrained(path, device="cpu")

    def same_description(self, file: TrainedDetector) -> bool:
        """Whether all that must be known to use the network came back."""
        return file.spec == self.network.spec

    def fixed_batch(self, file: TrainedDetector) -> int:
        """How many pictures it takes, 0 for any number."""
        assert not isinstance(file.network, nn.Module)
        batch = file.network.inputs[0][1][0]
        return batch if isinstance(batch, int) else 0

    @cached_property
    def pictures(self) -> list[np.ndarray]:
        """`COUNT` pictures (H, W, 3) uint8 RGB spread over the set, fewer where there are fewer."""
        if self.scored is None:
            rng = np.random.default_rng(0)
            return [draw_people(rng, 4)[0] for _ in range(COUNT)]
        total = len(self.scored.image_ids)
        rows = np.unique(np.linspace(0, total, COUNT, endpoint=False).astype(int))[:total]
        return [read_picture(self.scored, int(row)) for row in rows]

    def inputs(self) -> np.ndarray:
        """(`COUNT`, H, W, 3) uint8: pictures in the corner of inputs of full size, some of them
        twice where there are fewer."""
        width, height = self.network.input_size_wh
        inputs = np.zeros((COUNT, height, width, 3), np.uint8)
        for index, canvas in enumerate(inputs):
            pixels, _ = fitted(self.pictures[index % len(self.pictures)], (width, height))
            canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
        return inputs

    def ask(self, one: TrainedDetector, inputs: np.ndarray) -> np.ndarray:
        """(B, N, 4) boxes in input pixels; 0 where they are too weak to count."""
        boxes, scores, _ = one.in_pixels(inputs)
        return np.where(scores[..., None] >= LEAST_SCORE, boxes, 0)

    def numbers(self, file: TrainedDetector, inputs: np.ndarray, kind: Kind) -> list[Check]:
        """How many boxes of each are the other's too, on the pictures themselves."""
        found = [
            _shared(*(side.detect([one])[0] for side in (self.network, file)))
            for one in self.pictures
        ]
        shared, total = np.sum(found, 0)
        if not total:
            return [Check("boxes", "none in these pictures", "some; give --annotations", False)]
        same, limit = shared / total, LEAST_SAME if kind == "fp32" else 0.0
        return [Check("boxes", f"{same:.2%} of {total} equal", f"{limit:.0%}", same >= limit)]

    score = ("AP", 1.0)
    """Name of the number of `test` that decides, and what brings it to 0..1."""

    def test(self, one: TrainedDetector) -> dict[str, float]:
        """The numbers of the test."""
        assert self.scored is not None
        return evaluate_detector(one, self.scored).metrics

    def about(self) -> dict[str, Any]:
        """For the record."""
        preset = self.network.spec.preset
        return {"preset": preset, "annotations": self.scored and self.scored.source}


def _shared(before: Boxes, after: Boxes) -> tuple[int, int]:
    """How many of both pictures' boxes have a partner, and how many there are."""
    strong = [[part[one[1] >= LEAST_SCORE] for part in one] for one in (before, after)]
    (boxes, scores, classes), (others, their_scores, their_classes) = strong
    partners = iou(boxes, others) >= SAME_IOU
    partners &= np.abs(scores[:, None] - their_scores) <= SAME_SCORE
    partners &= classes[:, None] == their_classes
    shared = partners.any(1).sum() + partners.any(0).sum()
    return int(shared), len(boxes) + len(others)
