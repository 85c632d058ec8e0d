"""What an ONNX detector answers: recognised by names, shapes and the values of one answer, then
decoded to boxes.

A layout that is not certain is refused: a wrong guess would be boxes in the wrong places.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from simplepose.core.boxes import nms
from simplepose.core.errors import UserError

STRIDES = (8, 16, 32)
"""Of the three grids of YOLOX and its like, finest first."""
NMS_IOU = 0.65
"""Of two boxes of a grid with a larger IoU the weaker goes, as YOLOX evaluates; the other layouts
went through an NMS of their own or need none."""
COCO_CLASSES = 80

Answer = Mapping[str, np.ndarray]
"""Output name -> array, for one picture."""
Shapes = list[tuple[str, tuple[Any, ...]]]
"""Names and shapes of the inputs; symbolic lengths are strings or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What an ONNX detector takes and gives."""

    kind: str
    """`grid` (a row a cell, needs NMS), `rows` (x, y, x, y, score, class), `boxes` (dets and
    labels), `queries` (logits and boxes of RT-DETR and D-FINE), `deployed` (their labels, boxes and
    scores, which take the picture's size)."""
    outputs: tuple[str, ...]
    """Names of the outputs, in the order in which they are decoded."""
    classes: int = 0
    """How many there are; 0 where nothing says it."""
    units: str = "pixels"
    """Coordinates: `pixels` of the input, `fraction` of it, or `raw` offsets from the cells."""
    objectness: bool = False
    """Grid: whether a column for it stands before the classes."""
    transposed: bool = False
    """Grid: (4 + C, A) in place of (A, 4 + C)."""
    colours: str = "bgr"
    """What goes in: `bgr` 0..255 (YOLOX), `bgr_normalised` (RTMDet), `rgb` 0..1 (all others)."""

    @property
    def stretched(self) -> bool:
        """Whether the picture fills the input, and does not keep its aspect."""
        return self.kind in ("queries", "deployed")


def read_input(path: str, inputs: Shapes) -> tuple[tuple[int, int], bool]:
    """Size (w, h) of the input, 640 where it is free, and whether it is.

    Raises:
        UserError: no picture goes in.
    """
    match inputs:
        case [(_, (_, 3, height, width)), *sizes] if [shape[1:] for _, shape in sizes] in (
            [],
            [(2,)],
        ):
            given = [side if isinstance(side, int) else 640 for side in (width, height)]
            return (given[0], given[1]), given != [width, height]
    raise _unknown(path, inputs)


def read_layout(
    path: str,
    inputs: Shapes,
    answer: Answer,
    size_wh: tuple[int, int],
    *,
    slices: bool = False,
    names: Mapping[int, str] | None = None,
) -> Layout:
    """Recognises the layout.

    Args:
        path: the file, for messages.
        inputs: names and shapes of its inputs.
        answer: what it says of any picture.
        size_wh: of the input it saw.
        slices: whether slices read the picture, as in YOLOX.
        names: its classes, where it tells them.

    Raises:
        UserError: none that is known, or not certain which; says what was found.
    """
    found = _named(answer, len(inputs), slices)
    if found is None and len(inputs) == 1:
        if len(answer) == 2:
            found = _queries(answer)
        elif len(answer) == 1:
            found = _rows(answer, size_wh) or _grid(answer, size_wh, slices, names or {})
    if found is None:
        raise _unknown(path, inputs, answer)
    if names and found.classes and len(names) != found.classes:
        raise UserError(
            f"{path} names {len(names)} classes and has columns for {found.classes}. "
            "Cure: export it again, with the names it was trained with"
        )
    return replace(found, classes=found.classes or len(names or ()))


def _named(answer: Answer, inputs: int, slices: bool) -> Layout | None:
    """The layouts that the names of their outputs tell."""
    match inputs, {name: array.shape for name, array in answer.items()}:
        case 1, {"dets": (1, count, 5), "labels": (1, many)} if count == many:
            colours = "bgr" if slices else "bgr_normalised"
            return Layout(kind="boxes", outputs=("dets", "labels"), colours=colours)
        case 2, {"labels": (1, a), "boxes": (1, b, 4), "scores": (1, c)} if a == b == c:
            return Layout(kind="deployed", outputs=("labels", "boxes", "scores"), colours="rgb")
    return None


def _unknown(path: str, inputs: Shapes, answer: Answer | None = None) -> UserError:
    shapes = [(name, array.shape) for name, array in (answer or {}).items()]
    found = "; ".join(
        f"{side} " + ", ".join(f"{name} {shape}" for name, shape in values)
        for side, values in (("input", inputs), ("output", shapes))
        if values
    )
    return UserError(
        f"{path} is a detector of another layout, or its values fit none: {found}. "
        "Cure: export YOLOX's grid (1, A, 5 + classes), a grid (1, 4 + classes, A) or "
        "(1, A, 4 + classes) with the class names in the metadata, rows (1, N, 6) of x, y, x, y, "
        "score, class, `dets` (1, N, 5) with `labels` (1, N), or RT-DETR's `logits` with "
        "`pred_boxes`; A is the cells of strides 8, 16 and 32"
    )


def _queries(answer: Answer) -> Layout | None:
    """RT-DETR and D-FINE. DETR, whose last class is nobody (softmax), is another network."""
    logits = [name for name in answer if "logits" in name]
    boxes = [name for name in answer if "box" in name]
    if len(logits) != 1 or len(boxes) != 1:
        return None
    scores, places = answer[logits[0]], answer[boxes[0]]
    if scores.ndim != 3 or places.shape != (1, scores.shape[1], 4) or len(scores) != 1:
        return None
    classes = scores.shape[2]
    best = scores[0].argmax(1)
    softmax = classes > 1 and len(best) and np.mean(best == classes - 1) > 0.9
    if softmax or classes in (COCO_CLASSES + 11, COCO_CLASSES + 12) or not _fractions(places):
        return None
    return Layout(
        kind="queries",
        outputs=(logits[0], boxes[0]),
        classes=classes,
        units="fraction",
        colours="rgb",
    )


def _rows(answer: Answer, size_wh: tuple[int, int]) -> Layout | None:
    """End-to-end rows. With one row a cell they might be a grid: the values decide."""
    ((name, array),) = answer.items()
    if array.ndim != 3 or array.shape[0] != 1 or array.shape[2] != 6:
        return None
    rows = array[0][array[0].any(1)]
    corners, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5]
    whole = (classes == np.floor(classes)).all() and (classes >= 0).all()
    ordered = (corners[:, 2:] >= corners[:, :2]).all()
    if not (whole and ordered and _probabilities(scores)):
        return None
    if array.shape[1] == cell_count(size_wh) and not len(rows):
        return None
    units = "fraction" if len(rows) and _fractions(corners) else "pixels"
    return Layout(kind="rows", outputs=(name,), units=units, colours="rgb")


def _grid(
    answer: Answer, size_wh: tuple[int, int], slices: bool, names: Mapping[int, str]
) -> Layout | None:
    """A row (or column) a cell. YOLOX has objectness, raw or decoded; others have not."""
    ((name, array),) = answer.items()
    if array.ndim != 3 or array.shape[0] != 1:
        return None
    cells, output = cell_count(size_wh), array[0]
    # a square of as many classes as cells: scores are probabilities
    upright = len(output) == cells and _probabilities(output[:, 4:])
    if not upright and output.shape[1] != cells:
        return None
    output = output if upright else output.T
    columns = output.shape[1]
    if columns < 5 or not _probabilities(output[:, 4:]):
        return None
    raw = _units(output, size_wh, raw=True) == "raw"
    objectness = _has_objectness(columns, len(names), sure=raw or (slices and upright))
    if not upright:
        # nobody writes objectness in rows: these are boxes with an angle
        objectness = None if objectness else False
    if objectness is None:
        return None
    units = _units(output, size_wh, raw=objectness)
    return Layout(
        kind="grid",
        outputs=(name,),
        classes=columns - 4 - objectness,
        units=units,
        objectness=objectness,
        transposed=not upright,
        colours="bgr" if objectness else "rgb",
    )


def _has_objectness(columns: int, named: int, *, sure: bool) -> bool | None:
    """None where nobody can tell."""
    classes = (named,) if named else (COCO_CLASSES,)
    if columns - 5 in classes:
        return True
    if columns - 4 in classes or columns == 5:
        return False
    return True if sure else None


def _units(output: np.ndarray, size_wh: tuple[int, ...], *, raw: bool) -> str:
    """What brings the centres of a grid's boxes nearest to their cells."""
    used = output[:, :4].any(1)
    if not used.any():
        return "raw" if raw else "pixels"
    cell, stride = grid_cells(size_wh)
    centres, limit = (cell + 0.5) * stride, np.array(size_wh, np.float32)
    choices = {"pixels": output[:, :2], "fraction": output[:, :2] * limit}
    if raw:
        choices["raw"] = (output[:, :2] + cell) * stride
    if (output[used, 2:4] < 0).any():  # the logarithm of a side
        return "raw" if raw else "pixels"
    off = {
        units: np.median(np.abs(found - centres)[used] / stride[used])
        for units, found in choices.items()
    }
    return min(off, key=lambda units: off[units])


def _probabilities(values: np.ndarray) -> bool:
    return bool(((values >= -0.01) & (values <= 1.01)).all())


def _fractions(values: np.ndarray) -> bool:
    return bool((np.abs(values) <= 1.5).all())


def decode(
    layout: Layout,
    answer: Answer,
    size_wh: tuple[int, ...],
    person_class: int,
    score_threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """An answer -> boxes_xyxy (N, 4) in pixels of the input (`deployed`: of the picture), scores
    (N,), of people only.

    Raises:
        UserError: a grid with other rows than the input has cells.
    """
    found = [answer[name][0] for name in layout.outputs]
    if layout.kind == "grid":
        output = found[0].T if layout.transposed else found[0]
        boxes, scores = decode_grid(
            output,
            size_wh,
            person_class,
            score_threshold,
            objectness=layout.objectness,
            units=layout.units,
        )
        best = nms(boxes, scores, NMS_IOU)
        return boxes[best], scores[best]
    if layout.kind == "queries":
        logits, places = found
        scores = 1 / (1 + np.exp(-np.clip(logits[:, person_class], -80, 80)))
        labels, boxes = np.full(len(scores), person_class), _corners(places)
    elif layout.kind == "deployed":
        labels, boxes, scores = found
    elif layout.kind == "rows":
        boxes, scores, labels = found[0][:, :4], found[0][:, 4], found[0][:, 5]
    else:
        boxes, scores, labels = found[0][:, :4], found[0][:, 4], found[1]
    if layout.units == "fraction":
        boxes = boxes * np.tile(np.array(size_wh, np.float32), 2)
    person = (labels == person_class) & (scores >= score_threshold)
    return boxes[person], scores[person]


def decode_grid(
    output: np.ndarray,
    size_wh: tuple[int, ...],
    person_class: int,
    score_threshold: float,
    *,
    objectness: bool = True,
    units: str = "raw",
) -> tuple[np.ndarray, np.ndarray]:
    """A grid's rows -> boxes in input pixels, before NMS.

    In YOLOX's raw output a cell at (column, row) of stride s predicts centre `(cell + xy) s` and
    size `exp(wh) s` (YOLOX, arXiv 2107.08430, section 2); decoded rows hold centre and size.

    Args:
        output: (A, 4 + classes): x, y, w, h, class probabilities; with `objectness` before these.
            The grids of `STRIDES` one after another.
        size_wh: what the network got.
        person_class: the class counted.
        score_threshold: on the class probability, times objectness if there is one.
        objectness: see `Layout`.
        units: see `Layout`.

    Returns:
        boxes_xyxy (M, 4) float32, scores (M,) float32; all finite.

    Raises:
        UserError: there are not as many rows as cells.
    """
    if len(output) != cell_count(size_wh):
        raise UserError(
            f"the detector gave {len(output):,} rows for {size_wh[0]} x {size_wh[1]} pixels, whose "
            f"grids have {cell_count(size_wh):,} cells. Cure: export it with one fixed input size"
        )
    scores = output[:, 4 + objectness + person_class]
    scores = scores * output[:, 4] if objectness else scores
    kept = np.flatnonzero(scores >= score_threshold)
    kept = kept[np.isfinite(output[kept, :4]).all(1)]
    centre, side = output[kept, :2], output[kept, 2:4]
    if units == "raw":
        cell, stride = (part[kept] for part in grid_cells(size_wh))
        with np.errstate(over="ignore"):
            centre, side = (centre + cell) * stride, np.exp(side) * stride
    boxes = _corners(np.concatenate([centre, side], 1))
    if units == "fraction":
        boxes = boxes * np.tile(np.array(size_wh, np.float32), 2)
    finite = np.isfinite(boxes).all(1)
    return boxes[finite], scores[kept][finite]


def _corners(centre_and_side: np.ndarray) -> np.ndarray:
    """(N, 4) x, y, w, h of the middle -> (N, 4) x, y, x, y."""
    centre, half = centre_and_side[:, :2], centre_and_side[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)


@lru_cache(8)
def grid_cells(size_wh: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Column and row (A, 2) and stride (A, 1) of each cell, float32."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size_wh[1] // stride, : size_wh[0] // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    found = np.concatenate(cells).astype(np.float32), np.concatenate(strides)
    for one in found:
        one.setflags(write=False)  # all callers share them
    return found


def cell_count(size_wh: tuple[int, ...]) -> int:
    """Cells of the three grids."""
    return sum((size_wh[0] // stride) * (size_wh[1] // stride) for stride in STRIDES)


def class_names(metadata: Mapping[str, str]) -> dict[int, str]:
    """The classes that a file's metadata names: a list or a dictionary under `names`; none where
    it does not say or is no such thing."""
    try:
        # Python's or JSON's: both are written
        found = ast.literal_eval(metadata.get("names", "")[:100_000].strip())
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return {int(index): str(name) for index, name in pairs}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return {}


def find_class(
    asked: str | int, names: Mapping[int, str], classes: int, path: str, option: str
) -> int:
    """The index of the class of people.

    Args:
        asked: number or name; empty for the class named person, or the first where no class has a
            name.
        names: the classes, as far as the file tells them.
        classes: how many there are; 0 if unknown.
        path: the file, for messages.
        option: what the user can say, for messages.

    Raises:
        UserError: there is no such class, or none is named person.
    """
    text = str(asked).strip()
    by_name = {name.strip().lower(): index for index, name in names.items()}
    if not text and not names:
        return 0
    index = by_name.get((text or "person").lower())
    if index is None and text.isdecimal():
        known = int(text) in names if names else not classes or int(text) < classes
        index = int(text) if known else None
    if index is None:
        listed = ", ".join(f"{index} {name}" for index, name in [*names.items()][:8])
        known_classes = listed or (f"{classes} without names" if classes else "unnamed ones")
        raise UserError(
            f"{path} has no class {text or 'person'!r}; its classes: {known_classes}. "
            f"Cure: {option} with the number or name of the class of people"
        )
    return index
