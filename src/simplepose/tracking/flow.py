"""Optical flow between two pictures, and points and boxes carried along it.

A flow is any callable `(previous RGB, next RGB) -> (h, w, 2)`: displacement x, y in pixels of the full picture, on a grid of any size
that covers the picture. A network can be plugged in; the two here need no weights and work on a shrunk grey picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]


STILL = np.zeros((1, 1, 2), np.float32)
"""The flow of a picture in which nothing moves."""


class ShrunkFlow:
    """A flow of grey pictures, computed on a shrunk copy; each picture of a stream is shrunk once.

    Args:
        compute: (previous grey, next grey), both (h, w) uint8 -> (h, w, 2) float32 in their own pixels.
        short_side: pixels of the shrunk picture's short side.
    """

    def __init__(
        self, compute: Callable[[np.ndarray, np.ndarray], np.ndarray], short_side: int = 192
    ) -> None:
        self.compute = compute
        self.short_side = short_side
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB twice, of one size -> (h, w, 2) float32 in pixels of the full picture."""
        small = self._shrink(previous)
        self._last = (previous, small)
        next_small = self._shrink(following)
        field = self.compute(small, next_small)
        self._last = (following, next_small)
        return field * np.array(
            [previous.shape[1] / small.shape[1], previous.shape[0] / small.shape[0]], np.float32
        )

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        if self._last is not None and self._last[0] is image:
            return self._last[1]
        height, width = image.shape[:2]
        scale = min(1.0, self.short_side / min(height, width))
        size_wh = (
            max(32, round(width * scale)),
            max(32, round(height * scale)),
        )  # DIS crashes on 16 x 300
        return cv2.cvtColor(
            cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )


def dis_flow(short_side: int = 192) -> ShrunkFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016): the default, under a millisecond at 192 pixels."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return ShrunkFlow(
        lambda previous, following: search.calc(previous, following, None), short_side
    )  # type: ignore[call-overload]


def farneback_flow(short_side: int = 192) -> ShrunkFlow:
    """Polynomial expansion (Farneback, SCIA 2003): smoother, some times slower."""
    return ShrunkFlow(
        lambda previous, following: cv2.calcOpticalFlowFarneback(
            previous, following, None, 0.5, 4, 15, 3, 5, 1.2, 0
        ),  # type: ignore[call-overload]
        short_side,
    )


def sample(field: np.ndarray, points: np.ndarray, image_size_wh: tuple[int, int]) -> np.ndarray:
    """Displacement at points, bilinear; a point outside the picture takes that of the nearest border.

    Args:
        field: (h, w, 2) in pixels of the full picture, on a grid that covers it.
        points: (..., 2) x, y in pixels of the full picture.
        image_size_wh: size of the full picture.

    Returns:
        (..., 2) float32.
    """
    points = np.asarray(points, np.float32)
    height, width = field.shape[:2]
    ratio = np.array([width / image_size_wh[0], height / image_size_wh[1]], np.float32)
    at = (points + 0.5) * ratio - 0.5  # pixel centres at whole numbers
    at = np.clip(np.nan_to_num(at), 0, np.array([width - 1, height - 1], np.float32))
    first = np.minimum(at.astype(np.int64), [max(width - 2, 0), max(height - 2, 0)])
    fx, fy = np.moveaxis(at - first, -1, 0)[..., None]
    x0, y0 = np.moveaxis(first, -1, 0)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    upper = field[y0, x0] * (1 - fx) + field[y0, x1] * fx
    lower = field[y1, x0] * (1 - fx) + field[y1, x1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def propagate(points: np.ndarray, field: np.ndarray, image_size_wh: tuple[int, int]) -> np.ndarray:
    """Points moved into the next frame: (..., 2) -> (..., 2) float32 (Simple Baselines, section 3.2)."""
    points = np.asarray(points, np.float32)
    return points + sample(field, points, image_size_wh) if points.size else points


def chain(
    points: np.ndarray, fields: Sequence[np.ndarray], image_size_wh: tuple[int, int]
) -> list[np.ndarray]:
    """Points carried over several frames: (..., 2) and L flows -> L arrays, one for each following frame."""
    carried = []
    for field in fields:
        points = propagate(points, field, image_size_wh)
        carried.append(points)
    return carried


def carry_boxes(
    boxes_xyxy: np.ndarray, field: np.ndarray, image_size_wh: tuple[int, int]
) -> np.ndarray:
    """Boxes of which no keypoints are known yet, moved by the median flow of 7 x 7 points in their middle half: (N, 4) float32."""
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    share = np.linspace(0.25, 0.75, 7, dtype=np.float32)
    grid = np.stack(np.meshgrid(share, share), -1).reshape(-1, 2)  # (49, 2)
    points = boxes[:, None, :2] + grid * (boxes[:, None, 2:] - boxes[:, None, :2])  # (N, 49, 2)
    shift = np.median(sample(field, points, image_size_wh), axis=1)  # (N, 2)
    return boxes + np.tile(shift, 2)
