"""The values that travel between stages: Frame -> People -> Poses.

Axis letters, used everywhere: B batch, N people, K keypoints, H W rows and columns of a picture or
heatmap. All coordinates are pixels of the full picture, x before y, pixel centres at whole numbers.
Zero people is a normal value.
"""

from __future__ import annotations

import base64
import html
import inspect
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from simplepose.core.errors import UserError, need, shown
from simplepose.core.files import atomic_path, write_json
from simplepose.core.images import PICTURE_ENDINGS, read_image, require_rgb
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

    @classmethod
    def of(cls, picture: Any) -> Frame:
        """A file's path, a Pillow picture (both are turned upright, as their EXIF orientation
        says), an (H, W, 3) uint8 RGB array, or a Frame as it is.

        Raises:
            UserError: something else, or a file that is missing or no picture.
        """
        if isinstance(picture, Frame):
            return picture
        if isinstance(picture, (str, Path)):
            return cls(read_image(picture, upright=True), str(picture))
        if isinstance(picture, Image.Image):
            return cls(np.array(ImageOps.exif_transpose(picture).convert("RGB")))
        if isinstance(picture, np.ndarray):
            return cls(picture)
        raise UserError(
            f"{shown(picture)} ({type(picture).__name__}) is no picture. "
            "Cure: give a path, a Pillow picture or an (H, W, 3) uint8 RGB array"
        )

    def _repr_html_(self) -> str:
        return f"{_html_picture(self.image)}<br>{html.escape(repr(self))}"

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return (
            f"Frame({width}x{height}, source={self.source!r}, index={self.index}, "
            f"seconds={self.seconds:.3f})"
        )


VISIBILITY = ("absent", "hidden", "visible")
"""What a keypoint can be, as v = 0, 1, 2 of COCO's files: not labelled or outside, labelled though
something hides it, seen."""
_NO_ROWS = ("schema", "frame")
"""Fields of Poses that belong to all people together."""


@dataclass(frozen=True, eq=False, repr=False)
class _Rows:
    """What People and Poses share: read-only arrays of N rows, numpy indexing over them."""

    def _check(self, name: str, *shape: int | None, dtype: type = np.float32) -> np.ndarray:
        """Makes a field a read-only array of `dtype` whose shape fits (None fits any length)."""
        given = getattr(self, name)
        try:
            array: np.ndarray = np.array(given, dtype)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name} is {shown(given)}. Cure: pass an array of numbers with a row a person"
            ) from error
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

    def arrays(self) -> dict[str, np.ndarray | None]:
        """The columns by name."""
        names = (one.name for one in fields(type(self)) if one.name not in _NO_ROWS)
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return len(getattr(self, "scores"))  # noqa: B009

    def __getitem__(self, index: Any) -> Any:
        rows = np.atleast_1d(index) if isinstance(index, (int, np.integer)) else index
        columns = self.arrays().items()
        return replace(self, **{name: None if a is None else a[rows] for name, a in columns})

    def __repr__(self) -> str:
        shapes = (f"{name}={getattr(a, 'shape', None)}" for name, a in self.arrays().items())
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
    covariances: np.ndarray | None = None
    """(N, K, 2, 2) float32, square pixels of the full picture: how far off each keypoint may be.
    The ellipse d' C^-1 d <= 4.6 (`core.oks.ELLIPSE`) holds the true position nine times in ten. NaN
    where nobody knows; None where the weights carry no such calibration."""
    visibility: np.ndarray | None = None
    """(N, K, 3) float32: probability that each keypoint is absent, hidden, visible (`VISIBILITY`).
    NaN where nobody knows; None where the network has no `model.visibility`."""
    schema: KeypointSchema | None = None
    """What the keypoints are, where that is known."""
    frame: Frame | None = None
    """The picture, where `PoseEstimator()(picture)` keeps it to draw upon."""

    def __post_init__(self) -> None:
        count, keypoint_count, _ = self._check("keypoints", None, None, 2).shape
        self._check("keypoint_scores", count, keypoint_count)
        self._check("boxes_xyxy", count, 4)
        self._check("scores", count)
        if self.track_ids is not None:
            self._check("track_ids", count, dtype=np.int64)
        if self.covariances is not None:
            self._check("covariances", count, keypoint_count, 2, 2)
        if self.visibility is not None:
            self._check("visibility", count, keypoint_count, len(VISIBILITY))

    @classmethod
    def empty(cls, keypoint_count: int) -> Poses:
        """Nobody, with K = `keypoint_count`."""
        keypoints = np.zeros((0, keypoint_count, 2))
        return cls(keypoints, keypoints[..., 0], np.zeros((0, 4)), np.zeros(0))

    def draw(
        self, image: np.ndarray | None = None, schema: KeypointSchema | None = None, **style: Any
    ) -> Image.Image:
        """Draws the poses over a copy of the picture.

        Args:
            image: (H, W, 3) uint8 RGB; by default the picture that they were estimated in.
            schema: skeleton and sides, by default their own.
            style: see `simplepose.core.draw.draw_poses`, which gives an array.

        Returns:
            A Pillow picture, which can be saved, shown and made an array of.

        Raises:
            UserError: nobody knows the picture.
        """
        from simplepose.core.draw import draw_poses

        if image is None:
            if self.frame is None:
                raise UserError(
                    "these poses do not know their picture. Cure: draw(image), an (H, W, 3) uint8 "
                    "RGB array"
                )
            image = self.frame.image
        return Image.fromarray(draw_poses(image, self, schema or self.schema, **style))

    def save(self, path: str | Path) -> None:
        """Writes the poses as the ending says: .json (COCO results), .csv or .parquet (see
        `to_pandas`), or a picture with the poses drawn upon.

        Raises:
            UserError: another ending, a package is missing, or the file cannot be written.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending == ".json":
            return write_json(path, self.to_coco())
        if ending not in (".csv", ".parquet", *PICTURE_ENDINGS):
            raise UserError(
                f"{path}: poses are not saved as {ending or 'a file without ending'}. "
                "Cure: .json, .csv, .parquet, .jpg or .png"
            )
        what: Any = self.draw() if ending in PICTURE_ENDINGS else self.to_pandas()
        with atomic_path(path) as temporary:
            if ending == ".csv":
                what.to_csv(temporary, index=False)
            elif ending == ".parquet":
                what.to_parquet(temporary)
            else:
                what.save(temporary)
        return None

    def to_coco(self, image_id: int | str = 0, category_id: int = 1) -> list[dict[str, Any]]:
        """Rows of COCO keypoint results: x, y, score of each keypoint, the pose's score, and the
        `track_id` of who was followed."""
        triples = np.dstack([self.keypoints, self.keypoint_scores]).astype(float)
        ids = {"image_id": image_id, "category_id": category_id}
        rows = [
            {**ids, "keypoints": one.ravel().tolist(), "score": float(score)}
            for one, score in zip(triples, self.scores, strict=True)
        ]
        if self.track_ids is not None:
            for row, track_id in zip(rows, self.track_ids.tolist(), strict=True):
                row["track_id"] = track_id
        return rows

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

    def to_pandas(self, schema: KeypointSchema | None = None) -> Any:
        """A `pandas.DataFrame` with one row a person and keypoint: person, track_id, keypoint, x,
        y, score; where they are known xx, xy, yy of the covariance, and absent, hidden, visible.

        Args:
            schema: names the keypoints, by default their own; numbers from 0 where there is none.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise need("pandas", "tables", "poses as a table") from error
        people, count = self.keypoint_scores.shape
        schema = schema or self.schema
        names = schema.keypoints if schema else tuple(map(str, range(count)))
        ids = np.full(people, -1) if self.track_ids is None else self.track_ids
        columns = {
            "person": np.repeat(np.arange(people), count),
            "track_id": np.repeat(ids, count),
            "keypoint": np.tile(np.array(names), people),
            "x": self.keypoints[..., 0].ravel(),
            "y": self.keypoints[..., 1].ravel(),
            "score": self.keypoint_scores.ravel(),
        }
        if self.covariances is not None:
            for name, (row, column) in {"xx": (0, 0), "xy": (0, 1), "yy": (1, 1)}.items():
                columns[name] = self.covariances[..., row, column].ravel()
        if self.visibility is not None:
            for index, name in enumerate(VISIBILITY):
                columns[name] = self.visibility[..., index].ravel()
        return pandas.DataFrame(columns)

    def _repr_html_(self) -> str:
        picture = _html_picture(np.array(self.draw())) if self.frame else ""
        return f"{picture}<br>{html.escape(repr(self))}"


def _html_picture(image: np.ndarray, longest: int = 640) -> str:
    """A picture (H, W, 3) as an element of a page, made smaller where it is larger."""
    picture, file = Image.fromarray(image), BytesIO()
    picture.thumbnail((longest, longest))
    picture.save(file, "JPEG", quality=90)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
