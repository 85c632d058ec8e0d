"""Optical flow between two pictures, and points and boxes carried along it.

A flow is any callable `(previous RGB, next RGB) -> (h, w, 2)`: displacement x, y in pixels of the
full picture, on a grid of any size that covers the picture. A network can be plugged in; the two
here need no weights and work on a shrunk grey picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]

STILL = np.zeros((1, 1, 2), np.float32)
"""The flow of a picture in which nothing moves."""
_FRACTIONS = np.linspace(0.25, 0.75, 7, dtype=np.float32)
MIDDLE = np.stack(np.meshgrid(_FRACTIONS, _FRACTIONS), -1).reshape(-1, 2)
"""(49, 2): points of the middle half of a box, in fractions of its sides."""


class ShrunkFlow:
    """A flow of grey pictures on a shrunk copy; each picture of a stream is shrunk once.

    Args:
        compute: (previous grey, next grey), both (h, w) uint8 -> (h, w, 2) float32 in their own
            pixels.
        short_side: pixels of the shrunk picture's short side.
    """

    def __init__(self, compute: Flow, short_side: int) -> None:
        self.compute, self.short_side = compute, short_side
        self._last: tuple[np.ndarray | None, np.ndarray] = (None, STILL)

    def __call__(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB twice, of one size -> (h, w, 2) float32 in pixels of the full
        picture."""
        last, small = self._last
        small = small if last is previous else self._shrink(previous)
        next_small = self._shrink(following)
        self._last = (following, next_small)
        ratio = np.divide(previous.shape[1::-1], small.shape[::-1], dtype=np.float32)
        field = self.compute(small, next_small)
        # a whole row of ratios: NumPy multiplies rows much faster than pairs
        return field * np.tile(ratio, (field.shape[1], 1))

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        scale = min(1.0, self.short_side / min(image.shape[:2]))
        # DIS crashes on 16 x 300
        size_wh = [max(32, round(side * scale)) for side in image.shape[1::-1]]
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def dis_flow(short_side: int = 192) -> ShrunkFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016): the default, two milliseconds at 192
    pixels."""
    return ShrunkFlow(_dis, short_side)


def _dis(previous: np.ndarray, following: np.ndarray) -> np.ndarray:
    # made anew for .05 ms: it keeps pictures in itself, and streams run at the same time
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return search.calc(previous, following, None)  # type: ignore[call-overload, no-any-return]


def farneback_flow(short_side: int = 192) -> ShrunkFlow:
    """Polynomial expansion (Farneback, SCIA 2003): smoother, some times slower."""
    return ShrunkFlow(_farneback, short_side)


def _farneback(previous: np.ndarray, following: np.ndarray) -> np.ndarray:
    settings = (0.5, 4, 15, 3, 5, 1.2, 0)
    return cv2.calcOpticalFlowFarneback(previous, following, None, *settings)  # type: ignore


def sample(field: np.ndarray, points: np.ndarray, image_size_wh: tuple[int, int]) -> np.ndarray:
    """Displacement at points, bilinear; a point outside takes that of the nearest border.

    Args:
        field: (h, w, 2) in pixels of the full picture, on a grid that covers it.
        points: (..., 2) x, y in pixels of the full picture.
        image_size_wh: size of the full picture.

    Returns:
        (..., 2) float32.
    """
    size_wh = field.shape[1::-1]
    ratio = np.divide(size_wh, image_size_wh, dtype=np.float32)
    # pixel centres at whole numbers
    at = (points + np.float32(0.5)) * ratio - np.float32(0.5)
    last = np.array(size_wh) - 1
    # a place that is not a number counts as 0; float64 from here
    at = np.fmin(np.fmax(at, 0), last)
    first = at.astype(np.int64)
    part, step = at - first, np.minimum(first + 1, last) - first
    index, right = first[..., 1] * size_wh[0] + first[..., 0], step[..., 0]
    below = step[..., 1] * size_wh[0]
    vectors = field.reshape(-1, 2)
    x, y = part[..., :1], part[..., 1:]
    above = vectors[index] * (1 - x) + vectors[index + right] * x
    under = vectors[index + below] * (1 - x) + vectors[index + below + right] * x
    return np.asarray(above * (1 - y) + under * y, np.float32)


def propagate(points: np.ndarray, field: np.ndarray, image_size_wh: tuple[int, int]) -> np.ndarray:
    """Points moved into the next frame: (..., 2) -> (..., 2) float32 (Simple Baselines, section
    3.2)."""
    points = np.asarray(points, np.float32)
    return points + sample(field, points, image_size_wh)


def carry_boxes(
    boxes_xyxy: np.ndarray, field: np.ndarray, image_size_wh: tuple[int, int]
) -> np.ndarray:
    """Boxes of which no keypoints are known yet, moved by the median flow of 7 x 7 points in their
    middle half: (N, 4) float32."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    if not len(boxes):
        return boxes
    first, last = boxes[:, None, :2], boxes[:, None, 2:]
    points = first + MIDDLE * (last - first)  # (N, 49, 2)
    shift = np.median(sample(field, points, image_size_wh), axis=1)  # (N, 2)
    return boxes + np.tile(shift, 2)
