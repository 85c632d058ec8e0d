"""ONNX detectors made on the spot: every layout finds the one person where it is, and what is
another layout is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_onnx import save_constant_network

from simplepose.core.errors import UserError
from simplepose.detection.layouts import cell_count, decode_grid, grid_cells
from simplepose.detection.onnx import PersonDetector, people_within
from simplepose.detection.people import people_source

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = 96
PICTURE = np.full((144, 192, 3), 90, np.uint8)
"""Scaled by one half into the input; stretched by 1/2 and 2/3."""
BOX = (16.0, 8.0, 48.0, 40.0)
"""Of the one person, in pixels of the input."""
COCO = {index: ("person" if index == 0 else f"thing {index}") for index in range(80)}


def grid(classes: int, *, objectness: bool, units: str, person: int = 0) -> np.ndarray:
    """(1, A, ...): an untrained-looking box in every cell, and one person."""
    rng = np.random.default_rng(3)
    cell, stride = grid_cells((SIZE, SIZE))
    centre = (cell + rng.uniform(0.2, 0.8, cell.shape)) * stride
    side = stride * rng.uniform(0.5, 1.5, cell.shape)
    # the cell of stride 16 below the middle of the person
    row = 12 * 12 + 1 * 6 + 2
    middle = np.add(BOX[:2], BOX[2:]) / 2
    centre[row], side[row] = middle, np.subtract(BOX[2:], BOX[:2])
    if units == "raw":
        centre, side = centre / stride - cell, np.log(side / stride)
    elif units == "fraction":
        centre, side = centre / SIZE, side / SIZE
    scores = rng.uniform(0, 0.1, (len(cell), classes))
    scores[row, person] = 0.9
    parts = [centre, side, np.full((len(cell), 1), 0.99), scores]
    return np.concatenate([*parts[:2], *parts[2 + (not objectness) :]], 1)[None].astype(np.float32)


def rows(count: int = 30) -> np.ndarray:
    found = np.zeros((1, count, 6), np.float32)
    found[0, 0], found[0, 1] = (*BOX, 0.9, 0), (1, 1, 60, 60, 0.8, 7)
    return found


def queries(classes: int = 80, size: int = SIZE) -> dict[str, np.ndarray]:
    logits = np.full((1, 20, classes), -6, np.float32)
    logits[0, :, 3] = -3
    logits[0, 4, 0] = np.log(9)
    boxes = np.full((1, 20, 4), 0.3, np.float32)
    boxes[0, 4] = np.array([(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2, 32, 32]) / size
    return {"logits": logits, "pred_boxes": boxes}


def only_person(path: Path, expected: Any, **options: Any) -> PersonDetector:
    """Whoever is found is the one person, with .9 (.99 x .9)."""
    detector = PersonDetector(path, threads=1, **options)
    people = detector(PICTURE)
    np.testing.assert_allclose(people.boxes_xyxy, [expected], atol=0.02)
    np.testing.assert_allclose(people.scores, [0.9], atol=0.01)
    return detector


@pytest.mark.parametrize("units", ["raw", "pixels", "fraction"])
@pytest.mark.parametrize("first", ["Slice", "Conv"])
def test_grid_with_objectness(tmp_path: Path, units: str, first: str) -> None:
    array = grid(80, objectness=True, units=units)
    path = save_constant_network(tmp_path / "d.onnx", {"o": array}, first=first, size=SIZE)
    detector = only_person(path, np.multiply(BOX, 2))
    assert detector.layout.units == units and detector.layout.colours == "bgr"


@pytest.mark.parametrize("units", ["pixels", "fraction"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(("classes", "names"), [(80, None), (3, {0: "person", 1: "dog", 2: "x"})])
def test_grid_without_objectness(tmp_path, units, transposed, classes, names) -> None:
    array = grid(classes, objectness=False, units=units)
    array = array.transpose(0, 2, 1).copy() if transposed else array
    path = save_constant_network(
        tmp_path / "d.onnx", {"o": array}, first="Conv", size=SIZE, names=names
    )
    detector = only_person(path, np.multiply(BOX, 2))
    assert detector.layout.colours == "rgb" and detector.layout.transposed is transposed


def test_a_square_grid_is_read_by_its_values(tmp_path: Path) -> None:
    """An input of 64 pixels has 84 cells, and 80 classes make 84 columns."""
    cell, stride = grid_cells((64, 64))
    array = np.zeros((84, 84), np.float32)
    array[:, :2], array[:, 2:4] = (cell + 0.5) * stride, stride
    array[70, 4] = 0.9
    for name, output in (("a", array), ("b", array.T.copy())):
        path = save_constant_network(tmp_path / name, {"o": output[None]}, first="Conv")
        assert len(PersonDetector(path, threads=1)(PICTURE)) == 1


@pytest.mark.parametrize("count", [30, cell_count((SIZE, SIZE))])
def test_end_to_end_rows(tmp_path: Path, count: int) -> None:
    path = save_constant_network(
        tmp_path / "d.onnx", {"o": rows(count)}, first="Conv", size=SIZE, names=COCO
    )
    only_person(path, np.multiply(BOX, 2))


def test_logits_with_boxes(tmp_path: Path) -> None:
    path = save_constant_network(tmp_path / "d.onnx", queries(), first="Conv", size=SIZE)
    only_person(path, np.multiply(BOX, [2, 1.5, 2, 1.5]))


def test_labels_boxes_scores_with_the_size_of_the_picture(tmp_path: Path) -> None:
    outputs = {
        "labels": np.array([[0, 5]]),
        "boxes": np.array([[BOX, BOX]], np.float32),
        "scores": np.array([[0.9, 0.9]], np.float32),
    }
    path = save_constant_network(
        tmp_path / "d.onnx", outputs, first="Conv", size=SIZE, sizes_input="orig_target_sizes"
    )
    only_person(path, BOX)


def save_published(path: Path, kind: str) -> None:
    """The graph that is published, around fixed logits and boxes of 20 queries.

    `transformers`: RT-DETR and D-FINE of Hugging Face. `deployed`: export_onnx.py of the RT-DETR
    and D-FINE repositories, whose postprocessor takes the best (query, class) pairs and gives
    corners in pixels of the picture.
    """
    onnx = pytest.importorskip("onnx")
    helper, kinds, answer = onnx.helper, onnx.TensorProto, queries()
    fixed = {
        "kernel": np.zeros((1, 3, 1, 1), np.float32),
        "logits_value": answer["logits"],
        "boxes_value": answer["pred_boxes"],
        "flat": np.array([1, -1]),
        "count": np.array([20]),
        "classes": np.array(80),
        "to_corners": np.array(
            [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32
        ),
        "twice": np.array([1, 2]),
        "to_column": np.array([1, 20, 1]),
        "to_four": np.array([1, 1, 4]),
        "to_picture": np.array([1, 1, 4]),
    }
    sides = ["height", "width"] if kind == "transformers" else [640, 640]
    picture = "pixel_values" if kind == "transformers" else "images"
    float_info = lambda name, shape: helper.make_tensor_value_info(name, kinds.FLOAT, shape)  # noqa: E731
    int_info = lambda name, shape: helper.make_tensor_value_info(name, kinds.INT64, shape)  # noqa: E731
    inputs, node = [float_info(picture, ["batch_size", 3, *sides])], helper.make_node
    nodes = [node("Conv", [picture, "kernel"], ["seen"])]
    if kind == "transformers":
        nodes += [node("Identity", ["logits_value"], ["logits"])]
        nodes += [node("Identity", ["boxes_value"], ["pred_boxes"])]
        outputs = [float_info("logits", ["batch_size", "num_queries", 80])]
        outputs += [float_info("pred_boxes", ["batch_size", "num_queries", 4])]
    else:
        inputs += [int_info("orig_target_sizes", ["N", 2])]
        nodes += [
            node("Sigmoid", ["logits_value"], ["probabilities"]),
            node("Reshape", ["probabilities", "flat"], ["pairs"]),
            node("TopK", ["pairs", "count"], ["scores", "best"]),
            node("Mod", ["best", "classes"], ["labels"]),
            node("Div", ["best", "classes"], ["query"]),
            node("Reshape", ["query", "to_column"], ["column"]),
            node("Tile", ["column", "to_four"], ["index"]),
            node("MatMul", ["boxes_value", "to_corners"], ["corners"]),
            node("Cast", ["orig_target_sizes"], ["size"], to=kinds.FLOAT),
            node("Tile", ["size", "twice"], ["size4"]),
            node("Reshape", ["size4", "to_picture"], ["scale"]),
            node("Mul", ["corners", "scale"], ["pixels"]),
            node("GatherElements", ["pixels", "index"], ["boxes"], axis=1),
        ]
        outputs = [int_info("labels", ["N", 20]), float_info("boxes", ["N", 20, 4])]
        outputs += [float_info("scores", ["N", 20])]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in fixed.items()]
    graph = helper.make_graph(nodes, "main_graph", inputs, outputs, weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


@pytest.mark.parametrize("kind", ["transformers", "deployed"])
def test_rt_detr_and_d_fine_as_they_are_published(tmp_path: Path, kind: str) -> None:
    """Both stretch the picture; the answer is the same box, whichever graph gives it."""
    save_published(tmp_path / "d.onnx", kind)
    width, height = PICTURE.shape[1::-1]
    box = np.array(BOX) / SIZE * [width, height, width, height]
    detector = only_person(tmp_path / "d.onnx", box)
    assert detector.input_size_wh == (640, 640) and detector.layout.stretched
    assert detector.layout.colours == "rgb"
    other = PersonDetector(tmp_path / "d.onnx", threads=1, person_class=3, score_threshold=0.04)
    # exp(-3) / (1 + exp(-3)) for every query
    assert len(other(PICTURE)) == (20 if kind == "transformers" else 19)


@pytest.mark.parametrize(
    "outputs",
    [
        # anchors of YOLOv5: three rows a cell
        {"o": np.zeros((1, 3 * cell_count((SIZE, SIZE)), 85), np.float32)},
        # a row too few
        {"o": np.zeros((1, cell_count((SIZE, SIZE)) - 1, 85), np.float32)},
        # class columns before the sigmoid
        {"o": np.full((1, cell_count((SIZE, SIZE)), 85), -3, np.float32)},
        # one class and objectness, or two classes?
        {"o": grid(2, objectness=False, units="pixels")},
        # score and class exchanged
        {"o": rows()[:, :, [0, 1, 2, 3, 5, 4]]},
        # DETR: softmax, the last class is nobody
        queries(92),
        {"dets": np.zeros((1, 5, 6), np.float32), "labels": np.zeros((1, 5), np.int64)},
        {"dets": np.zeros((1, 5, 5), np.float32), "labels": np.zeros((1, 4), np.int64)},
        {"heatmaps": np.zeros((1, 17, 24, 24), np.float32)},
    ],
)
def test_another_layout_says_what_was_found(tmp_path: Path, outputs) -> None:
    path = save_constant_network(tmp_path / "d.onnx", outputs, first="Conv", size=SIZE)
    with pytest.raises(UserError, match=r"d\.onnx .*layout") as error:
        PersonDetector(path, threads=1)
    for name, array in outputs.items():
        assert f"{name} {array.shape}" in str(error.value)


def test_boxes_with_an_angle_are_another_layout(tmp_path: Path) -> None:
    """(1, 4 + classes + 1, A): the angle is no objectness, and may look like a probability."""
    array = grid(3, objectness=True, units="pixels").transpose(0, 2, 1).copy()
    path = save_constant_network(
        tmp_path / "d.onnx", {"o": array}, first="Conv", size=SIZE, names=["person", "b", "c"]
    )
    with pytest.raises(UserError, match=r"d\.onnx .*layout"):
        PersonDetector(path, threads=1)


@pytest.mark.parametrize("honest", [True, False])
def test_files_that_take_several_pictures_see_them_at_once(tmp_path: Path, honest: bool) -> None:
    """A file that says that its batch is free but has one inside is asked one by one."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    answer = rows()
    info = lambda name, shape: helper.make_tensor_value_info(name, kinds.FLOAT, shape)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["one", "column"], ["shade"]),
        helper.make_node("Mul", ["shade", "nothing"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["output"]),
    ]
    weights = {
        "kernel": np.zeros((1, 3, 1, 1), np.float32),
        "column": np.array([-1 if honest else 1, 1, 1]),
        "nothing": np.float32([[[0]]]),
        "answer": answer,
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [info("images", ["batch", 3, SIZE, SIZE])],
        [info("output", ["batch", *answer.shape[1:]])],
        [onnx.numpy_helper.from_array(np.asarray(one), name) for name, one in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "d.onnx"))
    detector = PersonDetector(tmp_path / "d.onnx", threads=1)
    assert detector.batches == honest
    images = [PICTURE, PICTURE[:, ::-1].copy(), PICTURE[:90]]
    for one, image in zip(detector.together(images), images, strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, detector(image).boxes_xyxy, atol=1e-3)
        assert len(one)


def test_a_grid_of_a_free_size_is_checked_at_every_picture() -> None:
    with pytest.raises(UserError, match="rows"):
        decode_grid(np.zeros((10, 85), np.float32), (SIZE, SIZE), 0, 0.3)


# numbers that went wrong


@pytest.mark.parametrize("wrong", [np.inf, np.nan, 1e30, 200.0])
def test_a_box_gone_wrong_never_becomes_the_whole_picture(tmp_path: Path, wrong: float) -> None:
    array = grid(80, objectness=True, units="raw")
    row = 3
    array[0, row, 2:4], array[0, row, 4:6] = wrong, 1
    path = save_constant_network(tmp_path / "d.onnx", {"o": array}, size=SIZE)
    only_person(path, np.multiply(BOX, 2))
    boxes = np.array([[-wrong, 0, wrong, 9], [1, 2, 3, 4]], np.float32)
    people = people_within(boxes * [[100], [1]], np.array([0.9, 0.8], np.float32), PICTURE)
    np.testing.assert_array_equal(people.boxes_xyxy, [[1, 2, 3, 4]])


def test_scores_that_are_not_finite_are_nobody() -> None:
    people = people_within(np.ones((2, 4)) * [0, 0, 5, 5], np.array([np.nan, np.inf]), PICTURE)
    assert len(people) == 0


# numbers that go in, and classes


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.float64])
def test_inputs_of_other_types(tmp_path: Path, dtype: type) -> None:
    outputs = {"o": grid(80, objectness=True, units="raw")}
    if dtype == np.float16:
        outputs = {name: array.astype(dtype) for name, array in outputs.items()}
    path = save_constant_network(tmp_path / "d.onnx", outputs, size=SIZE, dtype=dtype)
    detector = PersonDetector(path, threads=1)
    np.testing.assert_allclose(detector(PICTURE).boxes_xyxy, [np.multiply(BOX, 2)], atol=0.5)


def test_the_class_of_people_by_name_and_number(tmp_path: Path) -> None:
    array = grid(3, objectness=False, units="pixels", person=2)
    names = ["helmet", "vest", "worker"]
    path = save_constant_network(
        tmp_path / "d.onnx", {"o": array}, first="Conv", size=SIZE, names=names
    )
    for asked in ("worker", " Worker", "2", 2):
        only_person(path, np.multiply(BOX, 2), person_class=asked)
    assert len(PersonDetector(path, person_class="vest")(PICTURE)) == 0
    for asked in ("", "person", "3", "-1", "boots"):
        with pytest.raises(UserError, match=r"helmet.*--person-class"):
            people_source(path, person_class=asked)


def test_a_number_beyond_the_columns_and_a_class_without_a_detector(tmp_path: Path) -> None:
    path = save_constant_network(tmp_path / "d.onnx", queries(), first="Conv", size=SIZE)
    with pytest.raises(UserError, match="80"):
        people_source(path, person_class="80")
    with pytest.raises(UserError, match="whole"):
        people_source("whole", person_class="1")


# the door


@pytest.mark.parametrize(
    "picture", [PICTURE / 255, PICTURE[..., 0], None, np.zeros((4, 4, 4), np.uint8), "photo.jpg"]
)
@pytest.mark.parametrize("boxes", ["d.onnx", "motion", "whole"])
def test_what_is_no_picture_is_refused_at_the_door(tmp_path: Path, picture, boxes: str) -> None:
    path = save_constant_network(tmp_path / "d.onnx", {"o": rows()}, first="Conv", size=SIZE)
    source = people_source(path if boxes == "d.onnx" else boxes)
    with pytest.raises(UserError, match="the picture is"):
        source(picture)


def test_a_detector_travels_to_another_process(tmp_path: Path, monkeypatch) -> None:
    save_constant_network(tmp_path / "d.onnx", {"o": rows()}, first="Conv", size=SIZE)
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(PersonDetector("d.onnx", threads=1, score_threshold=0.5))
    monkeypatch.chdir("/")
    again = pickle.loads(content)
    np.testing.assert_allclose(again(PICTURE).boxes_xyxy, [np.multiply(BOX, 2)])
    assert again.score_threshold == 0.5
