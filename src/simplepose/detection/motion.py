"""Moving regions of a still camera as people: background subtraction, no weights."""

from __future__ import annotations

import cv2
import numpy as np

from simplepose.core.images import require_rgb
from simplepose.core.structures import People

MIN_AREA_FRACTION = 0.002
"""Regions smaller than this fraction of the picture are noise."""
WORKING_SIDE = 240
"""The picture is shrunk until its short side has this many pixels."""
WARM_UP = 5
"""Frames that only teach the background; the first frame is all new."""
MEMORY = 500
"""Frames after which a standing person melts into the background."""


class MotionDetector:
    """Finds what moves before a still camera. Learns the background while it runs (OpenCV's mixture
    of Gaussians): needs frames in order."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()

    def fresh(self) -> MotionDetector:
        """Another one that has seen nothing yet: for another stream."""
        return type(self)()

    def __reduce__(self) -> tuple[type[MotionDetector], tuple[()]]:
        """What was learnt stays here."""
        return type(self), ()

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People; the score is the fraction of moving pixels in the box.
        Another picture size starts anew."""
        require_rgb(image)
        if image.shape != self._shape:
            self._shape, self._seen = image.shape, 0
            self._subtractor = cv2.createBackgroundSubtractorMOG2(MEMORY, varThreshold=32)
        scale = min(1.0, WORKING_SIDE / min(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mask = self._subtractor.apply(cv2.GaussianBlur(small, (5, 5), 0))
        self._seen += 1
        if self._seen <= WARM_UP:
            return People.empty()
        moving = (mask == 255).astype(np.uint8)  # 127 are shadows
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        # head, torso and legs of one person
        joined = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((15, 9), np.uint8))
        stats = cv2.connectedComponentsWithStats(joined)[2][1:]
        left, top, width, height, area = stats.T
        if area.sum() > 0.7 * joined.size:
            return People.empty()  # everything moves: the light or the camera changed
        large = area >= MIN_AREA_FRACTION * joined.size
        boxes = np.stack([left, top, left + width, top + height], 1)[large] / scale
        scores = (area / (width * height))[large]
        # boxes within another one are a part of it
        inner, outer = boxes[:, None], boxes[None]
        within = (inner[..., :2] >= outer[..., :2]) & (inner[..., 2:] <= outer[..., 2:])
        part = (within.all(-1) & (inner != outer).any(-1)).any(1)
        return People(boxes[~part], scores[~part])
