"""A person detector from an ONNX file: YOLOX's raw grid, or the boxes-and-labels output of RTMDet and of YOLOX exported with its NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.core.boxes import nms
from simplepose.core.errors import UserError, need
from simplepose.core.structures import People

STRIDES = (8, 16, 32)
"""Of the three grids of YOLOX, finest first."""
NMS_IOU = 0.65
"""Of two boxes of a grid with a larger IoU the weaker goes, as YOLOX evaluates; the other layout went through an NMS of its own."""
PADDING_GREY = 114
"""What YOLOX and RTMDet put beside the picture."""
RTMDET_MEAN_BGR = (103.53, 116.28, 123.675)
RTMDET_STD_BGR = (57.375, 57.12, 58.395)
LAYOUTS = "YOLOX's raw grid (1, A, 5 + classes), or `dets` (1, N, 5) with `labels` (1, N) as RTMDet and YOLOX-with-NMS have them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What an ONNX detector takes and gives."""

    kind: str
    """`grid` (YOLOX, needs decoding and NMS) or `boxes` (dets and labels)."""
    input_name: str
    input_size_wh: tuple[int, int]
    batched: bool
    """Whether several pictures fit into one call."""
    flexible: bool
    """Whether other input sizes fit than `input_size_wh`."""
    outputs: tuple[str, ...]
    normalised: bool
    """Whether the network wants mean and deviation removed (RTMDet); YOLOX takes 0..255."""


class PersonDetector:
    """Finds people: picture -> People.

    The picture is scaled to fit, put in the top left corner on grey 114, and goes in as BGR float. Where the file allows other
    heights and widths than its own, the grey border is cut off to a multiple of 32 (`cut_border`): a wide picture then costs about half.

    Args:
        path: the ONNX file.
        score_threshold: boxes below it are dropped.
        person_class: index of the class of people; 0 in COCO's 80 classes.
        threads: processor threads of one call; None leaves it to ONNX Runtime.
        cut_border: leave out the grey border where the file allows it: half the time on a wide picture, .005 less box AP with YOLOX-nano.
        normalised: whether mean and deviation are removed; None finds out from the network's first layer.
        providers: ONNX Runtime execution providers, best first.

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
        normalised: bool | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.path = Path(path)
        self.score_threshold = score_threshold
        self.person_class = person_class
        self.session, self.layout = _open(self.path, threads, cut_border, normalised, providers)

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[People]:
        """Several pictures; one call of the network where the file has a dynamic batch and the pictures are of one size."""
        if not images:
            return []
        if self.layout.batched and len({image.shape for image in images}) == 1:
            return self._run(images)
        return [self._run([image])[0] for image in images]

    def _run(self, images: Sequence[np.ndarray]) -> list[People]:
        scale, size_wh = fit(
            images[0].shape[1::-1], self.layout.input_size_wh, self.layout.flexible
        )
        pixels = np.concatenate([letterbox(image, scale, size_wh) for image in images])
        if self.layout.normalised:
            pixels -= np.array(RTMDET_MEAN_BGR, np.float32)[:, None, None]
            pixels /= np.array(RTMDET_STD_BGR, np.float32)[:, None, None]
        outputs = self.session.run(list(self.layout.outputs), {self.layout.input_name: pixels})
        found = []
        for index, image in enumerate(images):
            if self.layout.kind == "grid":
                boxes, scores = decode_grid(
                    outputs[0][index], size_wh, self.person_class, self.score_threshold
                )
                best = nms(boxes, scores, NMS_IOU)
            else:
                dets, labels = outputs[0][index], outputs[1][index]
                person = (labels == self.person_class) & (dets[:, 4] >= self.score_threshold)
                boxes, scores = dets[person, :4], dets[person, 4]
                best = np.argsort(-scores, kind="stable")
            limits = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
            boxes = np.clip(boxes[best] / scale, 0, limits)
            good = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
            found.append(People(boxes[good], scores[best][good]))
        return found

    def __repr__(self) -> str:
        width, height = self.layout.input_size_wh
        return f"PersonDetector({self.path.name}, {self.layout.kind}, {width}x{height}, score_threshold={self.score_threshold})"


def fit(
    image_size_wh: tuple[int, int], input_size_wh: tuple[int, int], flexible: bool
) -> tuple[float, tuple[int, int]]:
    """Scale of the picture, and the size (w, h) the network gets: the input, or where `flexible` the part of it that the picture fills,
    rounded up to a multiple of 32."""
    (width, height), (input_width, input_height) = image_size_wh, input_size_wh
    scale = min(input_width / width, input_height / height)
    if not flexible:
        return scale, input_size_wh
    step = STRIDES[-1]
    filled = (
        min(limit, -(-max(1, int(side * scale)) // step) * step)
        for side, limit in zip(image_size_wh, input_size_wh, strict=True)
    )
    return scale, tuple(filled)  # type: ignore[return-value]


def letterbox(image: np.ndarray, scale: float, size_wh: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32 BGR 0..255, scaled into the top left corner of a grey canvas."""
    height, width = max(1, int(image.shape[0] * scale)), max(1, int(image.shape[1] * scale))
    canvas = np.full((size_wh[1], size_wh[0], 3), PADDING_GREY, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None, ::-1], np.float32)


def decode_grid(
    output: np.ndarray, size_wh: tuple[int, int], person_class: int, score_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """YOLOX's raw output -> boxes in input pixels, before NMS.

    A cell at (column, row) of stride s predicts centre `(cell + xy) s` and size `exp(wh) s` (YOLOX, arXiv 2107.08430, section 2).

    Args:
        output: (A, 5 + classes): x, y, w, h, objectness, class probabilities; the grids of `STRIDES` one after another.
        size_wh: what the network got.
        person_class: the column counted.
        score_threshold: on objectness x class probability.

    Returns:
        boxes_xyxy (M, 4) float32, scores (M,) float32.
    """
    scores = output[:, 4] * output[:, 5 + person_class]
    kept = np.flatnonzero(scores >= score_threshold)
    cells, strides = _cells(size_wh)
    centre = (output[kept, :2] + cells[kept]) * strides[kept]
    half = np.exp(output[kept, 2:4]) * strides[kept] / 2
    return np.concatenate([centre - half, centre + half], 1), scores[kept]


def _cells(size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(A, 2) float32 column and row of each cell, (A, 1) float32 its stride."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size_wh[1] // stride, : size_wh[0] // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _open(
    path: Path,
    threads: int | None,
    cut_border: bool,
    normalised: bool | None,
    providers: Sequence[str],
) -> tuple[Any, Layout]:
    """The session and the layout found in the file."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise need(error.name or "onnxruntime", "onnx", "an ONNX detector") from error
    if not path.is_file():
        raise UserError(f"no such detector: {path}. Cure: check the path")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    try:
        model = onnx.load(str(path))
        first_layers = _first_layers(model)
        session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # protobuf and ONNX Runtime have no common class of error
        raise UserError(
            f"{path} cannot be loaded as an ONNX network: {str(error).splitlines()[0]}. Cure: check the file"
        ) from error
    layout = read_layout(
        str(path),
        [(item.name, tuple(item.shape)) for item in session.get_inputs()],
        [(item.name, tuple(item.shape)) for item in session.get_outputs()],
        normalised="Slice" not in first_layers if normalised is None else normalised,
    )
    if cut_border and layout.kind == "grid" and not layout.flexible:
        session, layout = _free_size(model, session, layout, options, list(providers))
    return session, layout


def read_layout(
    path: str,
    inputs: list[tuple[str, tuple[Any, ...]]],
    outputs: list[tuple[str, tuple[Any, ...]]],
    *,
    normalised: bool = False,
) -> Layout:
    """Recognises the layout from names and shapes; symbolic lengths are strings or None.

    Raises:
        UserError: neither of the layouts; says what was found.
    """
    found = "; ".join(
        f"{side} " + ", ".join(f"{name} {shape}" for name, shape in values)
        for side, values in (("input", inputs), ("output", outputs))
    )
    refusal = UserError(f"{path} is a detector of another layout: {found}. Cure: export {LAYOUTS}")
    if len(inputs) != 1 or len(inputs[0][1]) != 4 or inputs[0][1][1] not in (3, "3"):
        raise refusal
    name, (batch, _, height, width) = inputs[0]
    flexible = not (isinstance(height, int) and isinstance(width, int))
    size_wh = (width if isinstance(width, int) else 640, height if isinstance(height, int) else 640)
    common: dict[str, Any] = {
        "input_name": name,
        "input_size_wh": size_wh,
        "batched": not isinstance(batch, int),
        "flexible": flexible,
    }
    shapes = dict(outputs)
    if (
        {"dets", "labels"} <= shapes.keys()
        and len(shapes["dets"]) == 3
        and shapes["dets"][2] == 5
        and len(shapes["labels"]) == 2
    ):
        return Layout(kind="boxes", outputs=("dets", "labels"), normalised=normalised, **common)
    if len(outputs) == 1 and len(outputs[0][1]) == 3:
        cells, columns = outputs[0][1][1:]
        expected = sum((size_wh[0] // stride) * (size_wh[1] // stride) for stride in STRIDES)
        if (
            isinstance(columns, int)
            and columns >= 6
            and (cells == expected or (flexible and not isinstance(cells, int)))
        ):
            return Layout(kind="grid", outputs=(outputs[0][0],), normalised=False, **common)
    raise refusal


def _first_layers(model: Any) -> set[str]:
    """Kinds of the layers that read the picture. YOLOX starts with slices (its Focus layer), RTMDet with a convolution."""
    weights = {weight.name for weight in model.graph.initializer}
    pictures = {value.name for value in model.graph.input} - weights
    return {node.op_type for node in model.graph.node if pictures & set(node.input)}


def _free_size(
    model: Any, session: Any, layout: Layout, options: Any, providers: list[str]
) -> tuple[Any, Layout]:
    """The same network with free height and width, if it then still gives the same numbers; else what came in."""
    import onnxruntime

    for dimension, letter in zip(
        model.graph.input[0].type.tensor_type.shape.dim[2:], "HW", strict=True
    ):
        dimension.dim_param = letter
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "A"
    del model.graph.value_info[:]
    width, height = layout.input_size_wh
    probe = np.random.default_rng(0).uniform(0, 255, (1, 3, height, width)).astype(np.float32)
    shorter = probe[:, :, : max(STRIDES[-1], height // 2 // STRIDES[-1] * STRIDES[-1])]
    try:
        free = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        same = np.allclose(
            free.run(None, {layout.input_name: probe})[0],
            session.run(None, {layout.input_name: probe})[0],
            rtol=1e-3,
            atol=1e-3,
        )
        fits = free.run(None, {layout.input_name: shorter})[0].shape[1] == len(
            _cells((width, shorter.shape[2]))[0]
        )
    except Exception:  # a fixed shape inside the network: keep the file's own size
        return session, layout
    if not (same and fits):
        return session, layout
    return free, replace(layout, flexible=True)
