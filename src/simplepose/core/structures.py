"""The values that travel between stages: Frame -> People -> Poses.

Axis letters, used everywhere: B batch, N people, K keypoints, H W rows and columns of a picture or
heatmap. All coordinates are pixels of the full picture, x before y, pixel centres at whole numbers.
Zero people is a normal value.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.images import require_rgb
from simplepose.core.schema import KeypointSchema


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a stream."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    source: str = ""
    """File, stream or camera it came from."""
    index: int = 0
    """Place in the stream, from 0."""
    seconds: float = 0.0
    """Time in the stream."""
    orientation: int = 1
    """How the picture was turned from the raster as stored, by its EXIF orientation; 1: not at
    all."""

    def __post_init__(self) -> None:
        require_rgb(self.image)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return (
            f"Frame({width}x{height}, source={self.source!r}, index={self.index}, "
            f"seconds={self.seconds:.3f})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class _Rows:
    """What People and Poses share: read-only arrays of N rows, numpy indexing over them."""

    def _check(self, name: str, *shape: int | None, dtype: type = np.float32) -> np.ndarray:
        """Makes a field a read-only array of `dtype` whose shape fits (None fits any length)."""
        array: np.ndarray = np.array(getattr(self, name), dtype)
        if not array.size and array.ndim != len(shape):
            array = array.reshape([length or 0 for length in shape])
        fits = [want in (None, have) for want, have in zip(shape, array.shape, strict=False)]
        if array.ndim != len(shape) or not all(fits):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise UserError(
                f"{name} has shape {array.shape}, expected ({wanted}). "
                "Cure: pass an array of that shape"
            )
        array.flags.writeable = False
        object.__setattr__(self, name, array)
        return array

    def _arrays(self) -> dict[str, np.ndarray | None]:
        """The fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(type(self))}

    def __len__(self) -> int:
        return len(getattr(self, "scores"))  # noqa: B009

    def __getitem__(self, index: Any) -> Any:
        rows = np.atleast_1d(index) if isinstance(index, (int, np.integer)) else index
        return type(self)(
            **{name: None if a is None else a[rows] for name, a in self._arrays().items()}
        )

    def __repr__(self) -> str:
        shapes = (f"{name}={getattr(a, 'shape', None)}" for name, a in self._arrays().items())
        return f"{type(self).__name__}({', '.join(shapes)})"


@dataclass(frozen=True, eq=False, repr=False)
class People(_Rows):
    """N people found in one picture."""

    boxes_xyxy: np.ndarray
    """(N, 4) float32: left, top, right, bottom in pixels of the full picture."""
    scores: np.ndarray
    """(N,) float32 in 0..1."""

    def __post_init__(self) -> None:
        boxes = self._check("boxes_xyxy", None, 4)
        self._check("scores", len(boxes))

    @classmethod
    def empty(cls) -> People:
        """Nobody."""
        return cls(np.zeros((0, 4)), np.zeros(0))


@dataclass(frozen=True, eq=False, repr=False)
class Poses(_Rows):
    """N estimated poses of one picture: the public result."""

    keypoints: np.ndarray
    """(N, K, 2) float32: x, y in pixels of the full picture."""
    keypoint_scores: np.ndarray
    """(N, K) float32, confidence in 0..1 of each keypoint."""
    boxes_xyxy: np.ndarray
    """(N, 4) float32: the boxes the poses were estimated in."""
    scores: np.ndarray
    """(N,) float32: confidence of each pose."""
    track_ids: np.ndarray | None = None
    """(N,) int64 identities, or None where nothing was tracked."""

    def __post_init__(self) -> None:
        count, keypoint_count, _ = self._check("keypoints", None, None, 2).shape
        self._check("keypoint_scores", count, keypoint_count)
        self._check("boxes_xyxy", count, 4)
        self._check("scores", count)
        if self.track_ids is not None:
            self._check("track_ids", count, dtype=np.int64)

    @classmethod
    def empty(cls, keypoint_count: int) -> Poses:
        """Nobody, with K = `keypoint_count`."""
        keypoints = np.zeros((0, keypoint_count, 2))
        return cls(keypoints, keypoints[..., 0], np.zeros((0, 4)), np.zeros(0))

    def draw(self, image: np.ndarray, schema: Any = None, **style: Any) -> np.ndarray:
        """Draws the poses over a copy of the (H, W, 3) uint8 RGB picture; the styles are those of
        `simplepose.core.draw.draw_poses`."""
        from simplepose.core.draw import draw_poses

        return draw_poses(image, self, schema, **style)

    def to_supervision(self) -> tuple[Any, Any]:
        """`supervision.KeyPoints` and `supervision.Detections` of the same people in the same
        order; track ids travel as `tracker_id`.

        Raises:
            UserError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise need("supervision", "supervision", "Poses.to_supervision()") from error
        parameters = inspect.signature(supervision.KeyPoints).parameters
        # supervision 0.29 renamed the argument
        score = "keypoint_confidence" if "keypoint_confidence" in parameters else "confidence"
        classes = np.zeros(len(self), int)
        keypoints = supervision.KeyPoints(
            xy=np.array(self.keypoints), class_id=classes, **{score: np.array(self.keypoint_scores)}
        )
        detections = supervision.Detections(
            xyxy=np.array(self.boxes_xyxy),
            confidence=np.array(self.scores),
            class_id=classes,
            tracker_id=None if self.track_ids is None else np.array(self.track_ids),
        )
        return keypoints, detections

    def to_pandas(self, schema: KeypointSchema) -> Any:
        """A `pandas.DataFrame` with one row a person and keypoint: person, track_id, keypoint, x,
        y, score.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise need("pandas", "tables", "poses as a table") from error
        people, count = len(self), len(schema)
        ids = np.full(people, -1) if self.track_ids is None else self.track_ids
        return pandas.DataFrame(
            {
                "person": np.repeat(np.arange(people), count),
                "track_id": np.repeat(ids, count),
                "keypoint": np.tile(np.array(schema.keypoints), people),
                "x": self.keypoints[..., 0].ravel(),
                "y": self.keypoints[..., 1].ravel(),
                "score": self.keypoint_scores.ravel(),
            }
        )
