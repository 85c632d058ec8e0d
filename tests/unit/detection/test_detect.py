"""Where people come from: every choice of `--boxes`, and what each refuses."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_constant_network

from simplepose.core.errors import UserError
from simplepose.core.images import read_image
from simplepose.core.structures import Frame
from simplepose.detection.files import read_boxes
from simplepose.detection.layouts import decode_grid
from simplepose.detection.motion import MotionDetector
from simplepose.detection.onnx import PersonDetector, fit, letterbox
from simplepose.detection.people import people_in, people_source

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def grey(width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def dets_and_labels(rows: list[list[float]], labels: list[int]) -> dict[str, np.ndarray]:
    return {
        "dets": np.array([rows], np.float32).reshape(1, -1, 5),
        "labels": np.array([labels], np.int64),
    }


# the grid of YOLOX


def test_decode_grid_undoes_the_encoding_of_a_known_box() -> None:
    output = np.zeros((8 * 8 + 4 * 4 + 2 * 2, 7), np.float32)
    row = 64 + 4 * 2 + 1  # stride 16, row 2, column 1
    output[row] = [0.5, 0.25, np.log(2), np.log(3), 0.8, 0.1, 0.5]
    boxes, scores = decode_grid(output, (64, 64), person_class=1, score_threshold=0.3)
    np.testing.assert_allclose(
        boxes, [[24 - 16, 36 - 24, 24 + 16, 36 + 24]], rtol=1e-5
    )  # centre ((1, 2) + (.5, .25)) 16, size (2, 3) 16
    np.testing.assert_allclose(scores, [0.4], rtol=1e-6)
    assert len(decode_grid(output, (64, 64), person_class=0, score_threshold=0.3)[0]) == 0


@pytest.mark.parametrize(
    ("image", "network", "flexible", "scale", "size"),
    [
        ((768, 432), (416, 416), False, 416 / 768, (416, 416)),
        ((768, 432), (416, 416), True, 416 / 768, (416, 256)),
        ((100, 400), (416, 416), True, 416 / 400, (128, 416)),
        ((1, 1), (416, 416), True, 416.0, (416, 416)),
        ((5000, 1), (416, 416), True, 416 / 5000, (416, 32)),
    ],
)
def test_fit(image, network, flexible, scale, size) -> None:
    assert fit(image, network, flexible) == (pytest.approx(scale), size)


def test_letterbox_is_bgr_top_left_on_grey() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[...] = (10, 20, 30)  # RGB
    pixels = letterbox(image, 2.0, (40, 32))
    assert pixels.shape == (1, 3, 32, 40)
    np.testing.assert_array_equal(pixels[0, :, 0, 0], [30, 20, 10])
    np.testing.assert_array_equal(pixels[0, :, 19, 39], [30, 20, 10])
    np.testing.assert_array_equal(pixels[0, :, 20, 0], [114] * 3)


# boxes and labels


def test_boxes_layout_scales_back_and_keeps_people_only(tmp_path: Path) -> None:
    rows = [
        [0, 0, 32, 32, 0.5],
        [8, 8, 16, 16, 0.9],
        [0, 0, 8, 8, 0.95],
        [0, 0, 9, 9, 0.1],
        [5, 5, 5, 9, 0.9],
        [10, 10, 640, 640, 0.6],
    ]
    path = save_constant_network(tmp_path / "d.onnx", dets_and_labels(rows, [0, 0, 3, 0, 0, 0]))
    people = PersonDetector(path)(grey(128, 96))  # scale 64 / 128
    np.testing.assert_allclose(people.scores, [0.9, 0.6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(
        people.boxes_xyxy, [[16, 16, 32, 32], [20, 20, 128, 96], [0, 0, 64, 64]]
    )


def test_nobody_is_an_empty_answer(tmp_path: Path) -> None:
    path = save_constant_network(tmp_path / "d.onnx", dets_and_labels([], []))
    assert PersonDetector(path)(grey()).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("first", "normalised"), [("Slice", False), ("Conv", True)])
def test_normalisation_follows_the_first_layer(
    tmp_path: Path, first: str, normalised: bool, dtype: type
) -> None:
    """YOLOX begins with slices and takes 0..255; RTMDet begins with a convolution and takes normalised pixels."""
    path = save_constant_network(
        tmp_path / "d.onnx", dets_and_labels([], []), first=first, dtype=dtype
    )
    assert (PersonDetector(path).layout.colours == "bgr_normalised") is normalised


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "d.onnx").write_bytes(b"not a network")
    with pytest.raises(UserError, match=r"d\.onnx .*ONNX"):
        PersonDetector(tmp_path / "d.onnx")
    with pytest.raises(UserError, match=r"none\.onnx"):
        PersonDetector(tmp_path / "none.onnx")


# the real network on real pictures


def box_ap(annotations: Path, rows: list[dict], image_ids: list[int]) -> float:
    """Person box AP by pycocotools: the independent judge."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools.COCO(str(annotations))
        scoring = COCOeval(
            truth, truth.loadRes([row for row in rows if row["image_id"] in image_ids]), "bbox"
        )
        scoring.params.catIds, scoring.params.imgIds = [1], image_ids
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return float(scoring.stats[0])


def test_yolox_nano_equals_its_reference_results(real_data) -> None:
    """The first 40 of the 150 pictures; all of them in benchmarks/detector.py."""
    folder = real_data("coco_val2017_visible150")
    annotations = folder / "person_keypoints_val2017_visible150.json"
    reference = json.loads(
        (
            real_data("reference_results_visible150") / "yolox_nano_visible150_person_dets.json"
        ).read_text()
    )
    pictures = sorted(json.loads(annotations.read_text())["images"], key=lambda image: image["id"])[
        :40
    ]
    ids = [image["id"] for image in pictures]
    detector = PersonDetector(
        real_data("weights_person_detectors") / "yolox_nano.onnx", score_threshold=0.001, threads=1
    )
    rows = []
    for image in pictures:
        people = detector(read_image(folder / "val2017" / image["file_name"]))[:100]
        for box, score in zip(people.boxes_xyxy.tolist(), people.scores.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            rows.append({"image_id": image["id"], "category_id": 1, "bbox": bbox, "score": score})
    assert len(rows) == sum(row["image_id"] in ids for row in reference)
    assert box_ap(annotations, rows, ids) == pytest.approx(
        box_ap(annotations, reference, ids), abs=0.005
    )


def test_cut_border_finds_the_same_people(real_data) -> None:
    folder = real_data("coco_val2017_visible150")
    path = real_data("weights_person_detectors") / "yolox_nano.onnx"
    full, cut = PersonDetector(path, threads=1), PersonDetector(path, threads=1, cut_border=True)
    assert cut.flexible and not full.flexible
    image = read_image(sorted((folder / "val2017").glob("*.jpg"))[0])
    a, b = full(image), cut(image)
    strong = a.scores > 0.6
    assert strong.any() and len(b) >= strong.sum()
    np.testing.assert_allclose(
        a.boxes_xyxy[strong], b.boxes_xyxy[: strong.sum()], atol=0.05 * max(image.shape)
    )


# files


@pytest.fixture
def coco_file(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    images = [{"id": 7, "file_name": "sub/a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    rows = [
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 0, 4]},
        {"image_id": 7, "category_id": 2, "bbox": [9, 9, 9, 9]},
    ]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    return path


def test_ground_truth_by_file_name(coco_file: Path) -> None:
    source = people_source("gt", annotations=coco_file)
    np.testing.assert_array_equal(
        people_in(source, Frame(grey(), "x/a.jpg")).boxes_xyxy, [[1, 2, 4, 6]]
    )
    assert len(people_in(source, Frame(grey(), "b.jpg"))) == 0
    assert len(people_in(source, Frame(grey(), "elsewhere.jpg"))) == 0
    assert len(people_in(people_source(str(coco_file)), Frame(grey(), "a.jpg"))) == 1


def test_detection_file_by_number_or_frame_index(tmp_path: Path, coco_file: Path) -> None:
    path = tmp_path / "dets.json"
    rows = [
        {"image_id": i, "category_id": 1, "bbox": [i, 0, 5, 5], "score": s}
        for i, s in ((7, 0.9), (7, 0.0), (8, 0.2))
    ]
    path.write_text(json.dumps(rows))
    source = people_source(str(path))
    assert len(people_in(source, Frame(grey(), "val_000000000007.jpg", index=3))) == 1
    assert len(people_in(source, Frame(grey(), "film_2024.mp4", index=8, seconds=0.3))) == 1
    assert len(people_in(source, Frame(grey(), "film_2024.mp4", index=9))) == 0
    assert (
        len(people_in(people_source(str(path), score_threshold=0.5), Frame(grey(), "8.jpg"))) == 0
    )
    assert len(people_in(read_boxes(path, annotations=coco_file), Frame(grey(), "a.jpg"))) == 1


# words


def test_whole_only_on_request() -> None:
    people = people_in(people_source("whole"), Frame(grey(64, 48)))
    np.testing.assert_array_equal(people.boxes_xyxy, [[0, 0, 64, 48]])


@pytest.mark.parametrize("boxes", [None, "", "yolov8", "nowhere.onnx", "nowhere.json"])
def test_without_a_choice_the_choices_are_said(boxes) -> None:
    with pytest.raises(UserError, match=r"FILE\.onnx.*hf:.*FILE\.json.*motion.*whole"):
        people_source(boxes)


def test_an_unknown_ending_and_ground_truth_without_annotations(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"net\.pth.*'\.pth'"):
        people_source(tmp_path / "net.pth")
    with pytest.raises(UserError, match="--annotations"):
        people_source("gt")


def test_motion_finds_what_moves_and_starts_anew_at_another_size() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(60, 120, (240, 320, 3)).astype(np.uint8)
    finder = MotionDetector()
    for step in range(30):
        image = background.copy()
        people = finder(image)
        assert len(people) == 0, step
    for step in range(10):
        image = background.copy()
        image[80:200, 20 + 12 * step : 60 + 12 * step] = 250
        people = finder(image)
    assert len(people) == 1
    left, top, right, bottom = people.boxes_xyxy[0]
    assert (
        abs(left - 128) < 12
        and abs(right - 168) < 12
        and abs(top - 80) < 12
        and abs(bottom - 200) < 12
    )
    assert len(finder(background[:120])) == 0


def test_hub_detector_without_package_or_network(monkeypatch) -> None:
    """No package: names the extra. No network: the library's OSError becomes a sentence with a cure."""
    import sys
    import types

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"'transformers'.*pip install"):
        people_source("hf:PekingU/rtdetr_r18vd")

    def offline(name: str, local_files_only: bool) -> None:
        raise OSError(f"We couldn't connect to the hub to load {name}")

    loader = types.SimpleNamespace(from_pretrained=offline)
    monkeypatch.setitem(
        sys.modules,
        "transformers",
        types.SimpleNamespace(AutoImageProcessor=loader, AutoModelForObjectDetection=loader),
    )
    with pytest.raises(UserError, match=r"PekingU/rtdetr_r18vd"):
        people_source("hf:PekingU/rtdetr_r18vd")
