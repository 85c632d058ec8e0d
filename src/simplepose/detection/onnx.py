"""A person detector from an ONNX file; which networks it knows stands in
`simplepose.detection.layouts`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import reading
from simplepose.core.images import require_rgb
from simplepose.core.onnx import OnnxSession
from simplepose.core.structures import People
from simplepose.detection.layouts import (
    STRIDES,
    cell_count,
    class_names,
    decode,
    find_class,
    read_input,
    read_layout,
)

PADDING_GREY = 114
"""What YOLOX, RTMDet and the others put beside the picture."""
RTMDET_MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)[:, None, None]
RTMDET_STD_BGR = np.array([57.375, 57.12, 58.395], np.float32)[:, None, None]
LARGEST_BOX = 100
"""Sides of the picture; a longer box is no detector's opinion but a number gone wrong."""


class PersonDetector:
    """Finds people: picture -> People.

    The picture is scaled to fit and put in the top left corner on grey 114 (for RT-DETR and D-FINE
    it is stretched). Where the file allows other heights and widths than its own, the grey border
    is cut off to a multiple of 32 (`cut_border`): a wide picture then costs about half.

    Args:
        path: the ONNX file.
        score_threshold: boxes below it are dropped.
        person_class: number of the class of people, or its name in the file's metadata; by default
            the one named person, or 0 where the file names none.
        device: see `simplepose.core.device.onnx_providers`.
        threads: processor threads of one call; 0 takes the cores that this process may use.
        cut_border: leave out the grey border where the file allows it: half the time on a wide
            picture, .005 less box AP with YOLOX-nano.

    Raises:
        UserError: the file is missing or no ONNX file, its outputs are of another layout, it has no
            such class, or the device is not there.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        score_threshold: float = 0.3,
        person_class: str | int = "",
        device: str = "auto",
        threads: int = 0,
        cut_border: bool = False,
    ) -> None:
        try:
            import onnx
        except ImportError as error:
            raise need(error.name or "onnx", "predict", "an ONNX detector") from error
        self.path, self.score_threshold = str(path), score_threshold
        self.session = OnnxSession(self.path, device=device, threads=threads)
        inputs = [(name, shape) for name, shape, _ in self.session.inputs]
        self.input_size_wh, self.flexible = read_input(self.path, inputs)
        self._bytes = "uint8" in self.session.inputs[0][2]
        with reading(path, "an ONNX network", "export or copy it again"):
            model = onnx.load(self.path)
        names = class_names(self.session.metadata)
        slices = "Slice" in _first_layers(model)
        # noise: what comes out says which layout it is
        noise = np.random.default_rng(0).uniform(0, 1, (1, 3, *self.input_size_wh[::-1]))
        noise *= 255 if slices or self._bytes else 1
        try:
            answer = self._ask(noise.astype(np.float32), self.input_size_wh)
        except Exception as error:  # ONNX Runtime's are of many kinds
            raise UserError(
                f"{path} does not run: {(str(error).splitlines() or [''])[0]}. "
                "Cure: export it for pictures of one size, one at a time"
            ) from error
        self.layout = read_layout(
            self.path, inputs, answer, self.input_size_wh, slices=slices, names=names
        )
        classes, option = self.layout.classes, "--person-class (person_class from Python)"
        self.person_class = find_class(person_class, names, classes, self.path, option)
        if cut_border and self.layout.units == "raw" and not self.flexible:
            free = self._free_size(model, noise.astype(np.float32), device, threads)
            self.session, self.flexible = free or self.session, free is not None

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first.

        Raises:
            UserError: no such picture.
        """
        return self.together([image])[0]

    def together(self, images: Sequence[np.ndarray]) -> list[People]:
        """The people of several pictures; where the file takes several (`batches`), those that are
        of one size for the network go through it at once."""
        for image in images:
            require_rgb(image)
        fitted = [self._fitted(image) for image in images]
        groups = [[row] for row in range(len(images))]
        if len(images) > 1 and self.batches:
            groups = same_shapes([pixels for pixels, _ in fitted])
        people: dict[int, People] = {}
        for rows in groups:
            pixels = np.concatenate([fitted[row][0] for row in rows])
            answer = self._ask(pixels, images[rows[0]].shape[1::-1])
            for index, row in enumerate(rows):
                own = {name: value[index : index + 1] for name, value in answer.items()}
                one = own if len(rows) > 1 else answer
                people[row] = self._decoded(one, pixels.shape[:1:-1], fitted[row][1], images[row])
        return [people[row] for row in range(len(images))]

    def _fitted(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the network wants of a picture, (1, 3, h, w), and its scales (x, y)."""
        picture_wh = image.shape[1::-1]
        if self.layout.stretched:
            size_wh = self.input_size_wh
            scale = np.divide(size_wh, picture_wh, dtype=np.float32)
            pixels = _as_network(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR))
            return self._prepare(pixels), scale
        factor, part_wh = fit(picture_wh, self.input_size_wh, self.flexible)
        return self._prepare(letterbox(image, factor, part_wh)), np.full(2, factor, np.float32)

    def _decoded(
        self,
        answer: dict[str, np.ndarray],
        size_wh: tuple[int, ...],
        scale: np.ndarray,
        image: np.ndarray,
    ) -> People:
        layout = self.layout
        boxes, scores = decode(layout, answer, size_wh, self.person_class, self.score_threshold)
        return people_within(
            boxes if layout.kind == "deployed" else boxes / np.tile(scale, 2), scores, image
        )

    @cached_property
    def batches(self) -> bool:
        """Whether two pictures at once have the answers of each alone; a file that says so may have
        a fixed size inside."""
        (_, shape, _), *more = self.session.inputs
        if more or isinstance(shape[0], int):
            return False
        noise = np.random.default_rng(0).integers(0, 256, (2, *self.input_size_wh[::-1], 3))
        first, second = (self._fitted(picture)[0] for picture in noise.astype(np.uint8))
        alone = self._ask(second, self.input_size_wh)
        try:
            both = self._ask(np.concatenate([first, second]), self.input_size_wh)
        except Exception:  # ONNX Runtime's are of many kinds
            return False
        return all(
            value.shape == (2, *alone[name].shape[1:])
            and np.allclose(value[1:], alone[name], rtol=1e-3, atol=1e-3)
            for name, value in both.items()
        )

    def _prepare(self, pixels: np.ndarray) -> np.ndarray:
        """(1, 3, h, w) BGR 0..255 -> what the network wants; bytes stay bytes."""
        colours = self.layout.colours
        if colours == "rgb":
            pixels = pixels[:, ::-1]
        if self._bytes:
            return pixels
        if colours == "bgr_normalised":
            return (pixels - RTMDET_MEAN_BGR) / RTMDET_STD_BGR
        return pixels / 255 if colours == "rgb" else pixels

    def _ask(self, pixels: np.ndarray, picture_wh: tuple[int, ...]) -> dict[str, np.ndarray]:
        values = {name: np.array([picture_wh]) for name, *_ in self.session.inputs[1:]}
        return self.session.run({self.session.inputs[0][0]: pixels, **values})

    def _free_size(
        self, model: Any, noise: np.ndarray, device: str, threads: int
    ) -> OnnxSession | None:
        """The same network with free height and width, if it then still gives the same numbers."""
        shape = model.graph.input[0].type.tensor_type.shape
        shape.dim[2].dim_param, shape.dim[3].dim_param = "H", "W"
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "A"
        del model.graph.value_info[:]
        width, height = self.input_size_wh
        half = height // 2 // STRIDES[-1] * STRIDES[-1]
        known, name = self._ask(noise, (width, height)), self.session.inputs[0][0]
        (output,) = self.layout.outputs
        try:
            content = model.SerializeToString()
            free = OnnxSession(self.path, content=content, device=device, threads=threads)
            whole, part = (
                free.run({name: pixels})[output] for pixels in (noise, noise[:, :, :half])
            )
        except Exception:  # a fixed shape inside the network: keep the file's own size
            return None
        same = np.allclose(whole, known[output], rtol=1e-3, atol=1e-3)
        return free if same and part.shape[1] == cell_count((width, half)) else None


def same_shapes(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """Indices of arrays of the same shape, together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, array in enumerate(arrays):
        groups.setdefault(array.shape, []).append(index)
    return list(groups.values())


def people_within(boxes_xyxy: np.ndarray, scores: np.ndarray, image: np.ndarray) -> People:
    """Boxes (N, 4) cut to the picture, best score first.

    Those that are not finite, have no finite score, are longer than `LARGEST_BOX` pictures, or
    leave nothing are dropped: none of them may become the whole picture.
    """
    order = np.argsort(-scores, kind="stable")
    limit = LARGEST_BOX * max(image.shape[:2])
    with np.errstate(invalid="ignore"):
        sane = (np.abs(boxes_xyxy) <= limit).all(1) & np.isfinite(scores)
    order = order[sane[order]]
    boxes = np.clip(boxes_xyxy[order], 0, [*image.shape[1::-1]] * 2)
    good = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return People(boxes[good], scores[order][good])


def fit(
    image_size_wh: tuple[int, ...], input_size_wh: tuple[int, ...], flexible: bool
) -> tuple[float, tuple[int, ...]]:
    """Scale of the picture, and the size (w, h) the network gets: the input, or where `flexible`
    the part of it that the picture fills, rounded up to a multiple of 32."""
    scale = min(np.divide(input_size_wh, image_size_wh).tolist())
    if not flexible:
        return scale, input_size_wh
    step, sides = STRIDES[-1], zip(image_size_wh, input_size_wh, strict=True)
    filled = (min(limit, -(-max(1, int(side * scale)) // step) * step) for side, limit in sides)
    return scale, tuple(filled)


def letterbox(image: np.ndarray, scale: float, size_wh: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32 BGR 0..255, scaled into the top left corner of a
    grey canvas."""
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    canvas = np.full((*size_wh[::-1], 3), PADDING_GREY, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return _as_network(canvas)


def _as_network(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB -> (1, 3, h, w) float32 BGR 0..255."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None, ::-1], np.float32)


def _first_layers(model: Any) -> set[str]:
    """Kinds of the layers that read the picture, behind those that only change its type. YOLOX
    starts with slices (its Focus layer), RTMDet with a convolution."""
    weights = {weight.name for weight in model.graph.initializer}
    pictures = {value.name for value in model.graph.input} - weights
    kinds = set()
    for node in model.graph.node:  # in the order in which they run
        if pictures & set(node.input):
            kinds.add(node.op_type)
            if node.op_type in ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear"):
                pictures |= set(node.output)
    return kinds
