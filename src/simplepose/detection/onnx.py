"""A person detector from an ONNX file: YOLOX's raw grid, or the boxes-and-labels output of RTMDet
and of YOLOX exported with its NMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.core.boxes import nms
from simplepose.core.errors import UserError, need
from simplepose.core.files import reading
from simplepose.core.structures import People

STRIDES = (8, 16, 32)
"""Of the three grids of YOLOX, finest first."""
NMS_IOU = 0.65
"""Of two boxes of a grid with a larger IoU the weaker goes, as YOLOX evaluates; the other layout
went through an NMS of its own."""
PADDING_GREY = 114
"""What YOLOX and RTMDet put beside the picture."""
RTMDET_MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)[:, None, None]
RTMDET_STD_BGR = np.array([57.375, 57.12, 58.395], np.float32)[:, None, None]

Shapes = list[tuple[str, tuple[Any, ...]]]
"""Names and shapes of the inputs or outputs; symbolic lengths are strings or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What an ONNX detector takes and gives."""

    kind: str
    """`grid` (YOLOX, needs decoding and NMS) or `boxes` (dets and labels)."""
    input_name: str
    input_size_wh: tuple[int, ...]
    flexible: bool
    """Whether other input sizes fit than `input_size_wh`."""
    normalised: bool
    """Whether the network wants mean and deviation removed (RTMDet); YOLOX takes 0..255."""


class PersonDetector:
    """Finds people: picture -> People.

    The picture is scaled to fit, put in the top left corner on grey 114, and goes in as BGR float.
    Where the file allows other heights and widths than its own, the grey border is cut off to a
    multiple of 32 (`cut_border`): a wide picture then costs about half.

    Args:
        path: the ONNX file.
        score_threshold: boxes below it are dropped.
        person_class: index of the class of people; 0 in COCO's 80 classes.
        threads: processor threads of one call; None leaves it to ONNX Runtime.
        cut_border: leave out the grey border where the file allows it: half the time on a wide
            picture, .005 less box AP with YOLOX-nano.

    Raises:
        UserError: the file is missing or no ONNX file, or its outputs are of another layout.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        score_threshold: float = 0.3,
        person_class: int = 0,
        threads: int | None = None,
        cut_border: bool = False,
    ) -> None:
        self.score_threshold, self.person_class = score_threshold, person_class
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise need(error.name or "onnxruntime", "onnx", "an ONNX detector") from error
        if not Path(path).is_file():
            raise UserError(f"no such detector: {path}. Cure: check the path")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0

        def start(content: bytes | str) -> Any:
            return onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )

        self.path = str(path)
        with reading(path, "an ONNX network", "export or copy it again"):
            model = onnx.load(self.path)
            self.session = start(self.path)
        self.layout = read_layout(
            str(path),
            [(item.name, tuple(item.shape)) for item in self.session.get_inputs()],
            [(item.name, tuple(item.shape)) for item in self.session.get_outputs()],
            normalised="Slice" not in _first_layers(model),
        )
        if cut_border and self.layout.kind == "grid" and not self.layout.flexible:
            free = _free_size(model, self.session, self.layout, start)
            self.session = free or self.session
            self.layout = replace(self.layout, flexible=free is not None)

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first."""
        layout = self.layout
        scale, size_wh = fit(image.shape[1::-1], layout.input_size_wh, layout.flexible)
        pixels = letterbox(image, scale, size_wh)
        if layout.normalised:
            pixels = (pixels - RTMDET_MEAN_BGR) / RTMDET_STD_BGR
        names = ["dets", "labels"] if layout.kind == "boxes" else None
        with reading(self.path, "a network that runs", "export or copy it again"):
            output, *labels = self.session.run(names, {layout.input_name: pixels})
        if labels:
            dets = output[0]
            person = (labels[0][0] == self.person_class) & (dets[:, 4] >= self.score_threshold)
            boxes, scores = dets[person, :4], dets[person, 4]
        else:
            boxes, scores = decode_grid(output[0], size_wh, self.person_class, self.score_threshold)
            best = nms(boxes, scores, NMS_IOU)
            boxes, scores = boxes[best], scores[best]
        return people_within(boxes / scale, scores, image)


def people_within(boxes_xyxy: np.ndarray, scores: np.ndarray, image: np.ndarray) -> People:
    """Boxes (N, 4) cut to the picture, best score first; those that are not finite or leave nothing
    are dropped."""
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(boxes_xyxy[order]).all(1)]
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
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None, ::-1], np.float32)


def decode_grid(
    output: np.ndarray, size_wh: tuple[int, ...], person_class: int, score_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """YOLOX's raw output -> boxes in input pixels, before NMS.

    A cell at (column, row) of stride s predicts centre `(cell + xy) s` and size `exp(wh) s` (YOLOX,
    arXiv 2107.08430, section 2).

    Args:
        output: (A, 5 + classes): x, y, w, h, objectness, class probabilities; the grids of
            `STRIDES` one after another.
        size_wh: what the network got.
        person_class: the column counted.
        score_threshold: on objectness x class probability.

    Returns:
        boxes_xyxy (M, 4) float32, scores (M,) float32.
    """
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size_wh[1] // stride, : size_wh[0] // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    scores = output[:, 4] * output[:, 5 + person_class]
    kept = np.flatnonzero(scores >= score_threshold)
    cell, stride = np.concatenate(cells).astype(np.float32)[kept], np.concatenate(strides)[kept]
    centre = (output[kept, :2] + cell) * stride
    half = np.exp(output[kept, 2:4]) * stride / 2
    return np.concatenate([centre - half, centre + half], 1), scores[kept]


def cell_count(size_wh: tuple[int, ...]) -> int:
    """Cells of the three grids."""
    return sum((size_wh[0] // stride) * (size_wh[1] // stride) for stride in STRIDES)


def read_layout(path: str, inputs: Shapes, outputs: Shapes, *, normalised: bool = False) -> Layout:
    """Recognises the layout from names and shapes.

    Raises:
        UserError: neither of the layouts; says what was found.
    """
    match inputs:
        case [(name, (_, 3, height, width))]:
            size_wh = tuple(side if isinstance(side, int) else 640 for side in (width, height))
            flexible = size_wh != (width, height)
            kind = _output_kind(outputs, size_wh, flexible)
            if kind:
                return Layout(
                    kind=kind,
                    input_name=name,
                    input_size_wh=size_wh,
                    flexible=flexible,
                    normalised=normalised and kind == "boxes",
                )
    found = "; ".join(
        f"{side} " + ", ".join(f"{name} {shape}" for name, shape in values)
        for side, values in (("input", inputs), ("output", outputs))
    )
    raise UserError(
        f"{path} is a detector of another layout: {found}. Cure: export YOLOX's raw grid "
        "(1, A, 5 + classes), or `dets` (1, N, 5) with `labels` (1, N) as RTMDet and "
        "YOLOX-with-NMS have them"
    )


def _output_kind(outputs: Shapes, size_wh: tuple[int, ...], flexible: bool) -> str:
    """The layout's kind; empty where it is none that is known."""
    match dict(outputs):
        case {"dets": (_, _, 5), "labels": (_, _)}:
            return "boxes"
    match outputs:
        case [(_, (_, cells, int(columns)))] if columns >= 6:
            free = flexible and not isinstance(cells, int)
            return "grid" if free or cells == cell_count(size_wh) else ""
    return ""


def _first_layers(model: Any) -> set[str]:
    """Kinds of the layers that read the picture. YOLOX starts with slices (its Focus layer), RTMDet
    with a convolution."""
    weights = {weight.name for weight in model.graph.initializer}
    pictures = {value.name for value in model.graph.input} - weights
    return {node.op_type for node in model.graph.node if pictures & set(node.input)}


def _free_size(
    model: Any, session: Any, layout: Layout, start: Callable[[bytes], Any]
) -> Any | None:
    """The same network with free height and width, if it then still gives the same numbers."""
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[2].dim_param, shape.dim[3].dim_param = "H", "W"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "A"
    del model.graph.value_info[:]
    width, height = layout.input_size_wh
    half = height // 2 // STRIDES[-1] * STRIDES[-1]
    probe = np.random.default_rng(0).uniform(0, 255, (1, 3, height, width)).astype(np.float32)
    (known,) = session.run(None, {layout.input_name: probe})
    try:
        free = start(model.SerializeToString())
        whole, part = (
            free.run(None, {layout.input_name: pixels})[0] for pixels in (probe, probe[:, :, :half])
        )
    except Exception:  # a fixed shape inside the network: keep the file's own size
        return None
    same = np.allclose(whole, known, rtol=1e-3, atol=1e-3)
    return free if same and part.shape[1] == cell_count((width, half)) else None
