"""Moving regions of a still camera as people: background subtraction, no weights."""

from __future__ import annotations

import cv2
import numpy as np

from simplepose.core.structures import People


class MotionDetector:
    """Finds what moves before a still camera. Learns the background while it runs (OpenCV's mixture of Gaussians): needs frames in order.

    Args:
        min_area_fraction: regions smaller than this share of the picture are noise.
        working_side: the picture is shrunk until its short side has this many pixels.
        warm_up: frames that only teach the background; the first frame is all new.
        memory: frames after which a standing person melts into the background.
    """

    def __init__(
        self,
        *,
        min_area_fraction: float = 0.002,
        working_side: int = 240,
        warm_up: int = 5,
        memory: int = 500,
    ) -> None:
        self.min_area_fraction = min_area_fraction
        self.working_side = working_side
        self.warm_up = warm_up
        self.memory = memory
        self._reset((0, 0))

    def _reset(self, size_hw: tuple[int, int]) -> None:
        self._size_hw = size_hw
        self._seen = 0
        self._subtractor = cv2.createBackgroundSubtractorMOG2(
            history=self.memory, varThreshold=32, detectShadows=True
        )

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People; the score is the share of moving pixels in the box. Another picture size starts anew."""
        if image.shape[:2] != self._size_hw:
            self._reset((image.shape[0], image.shape[1]))
        scale = min(1.0, self.working_side / min(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mask = self._subtractor.apply(cv2.GaussianBlur(small, (5, 5), 0))
        self._seen += 1
        if self._seen <= self.warm_up:
            return People.empty()
        moving = (mask == 255).astype(np.uint8)  # 127 are shadows
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        joined = cv2.morphologyEx(
            moving, cv2.MORPH_CLOSE, np.ones((15, 9), np.uint8)
        )  # head, trunk and legs of one person
        count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
        if count > 1 and stats[1:, cv2.CC_STAT_AREA].sum() > 0.7 * joined.size:
            return People.empty()  # everything moves: the light or the camera changed
        left, top, width, height, area = stats[1:].T
        large = area >= self.min_area_fraction * joined.size
        boxes = np.stack([left, top, left + width, top + height], 1)[large] / scale
        scores = (area / np.maximum(width * height, 1))[large]
        inside = _inside_another(boxes)
        return People(boxes[~inside], scores[~inside])


def _inside_another(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes that lie within another one."""
    inner, outer = boxes_xyxy[:, None], boxes_xyxy[None]
    within = (inner[..., :2] >= outer[..., :2]).all(-1) & (inner[..., 2:] <= outer[..., 2:]).all(-1)
    return (within & (inner != outer).any(-1)).any(1)
