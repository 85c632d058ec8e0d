"""One call from a picture to poses, and the networks that are taken where nobody chose any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_onnx import save_network

from simplepose import COCO_17, KeypointSchema, People, PoseEstimator, UserError
from simplepose.config import load_preset
from simplepose.core.images import write_image
from simplepose.detection import estimator as one_call
from simplepose.detection.estimator import default_boxes, default_weights, told
from simplepose.detection.people import people_source
from simplepose.detection.trained import TrainedDetector
from simplepose.pose import checkpoints
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.network import PoseNetwork
from simplepose.weights.public import cache_folder, find_public, named

IMAGE = np.full((90, 70, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def left_half(image: np.ndarray) -> People:
    return People([[0, 0, image.shape[1] / 2, image.shape[0]]], [0.8])


@pytest.fixture
def tiny(tmp_path: Path) -> PoseEstimator:
    pytest.importorskip("onnxruntime")
    return PoseEstimator.from_pretrained(save_network(tmp_path / "net.onnx"), detector=left_half)


def test_pictures_and_boxes_of_every_kind(tiny: PoseEstimator, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", IMAGE)
    expected = tiny(IMAGE, [[0, 0, 35, 90]]).keypoints
    for picture in (tmp_path / "a.png", "a.png", Image.fromarray(IMAGE), IMAGE):
        found = tiny(picture)
        np.testing.assert_array_equal(found.keypoints, expected)
        assert found.schema is tiny.schema and found.draw().size == (70, 90)
    assert tiny(IMAGE).scores < tiny(IMAGE, [[0, 0, 35, 90]]).scores  # the detector was unsure
    np.testing.assert_array_equal(tiny(IMAGE, left_half(IMAGE)).scores, tiny(IMAGE).scores)
    np.testing.assert_array_equal(tiny(IMAGE, "whole").boxes_xyxy, [[0, 0, 70, 90]])
    assert len(tiny(IMAGE, [])) == len(tiny(IMAGE, People.empty())) == 0
    assert tiny(IMAGE, []).draw().size == (70, 90)


@pytest.mark.parametrize(
    "wrong", ["hole", 5, [[1, 2, 3]], [["a", 1, 2, 3]], {"x": 1}, [[9, 9, 5, 5]]]
)
def test_boxes_without_sense_are_one_sentence(tiny: PoseEstimator, wrong: Any) -> None:
    with pytest.raises(UserError, match="Cure: "):
        tiny(IMAGE, wrong)


@pytest.mark.parametrize("wrong", [5, None, ["runs/x"]])
def test_names_of_networks_are_text(wrong: Any) -> None:
    with pytest.raises(UserError, match="names no network.*Cure: "):
        PoseEstimator.from_pretrained(wrong)


def test_a_name_in_the_place_of_a_network_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"'runs/mine' is no network.*from_pretrained"):
        PoseEstimator("runs/mine")  # type: ignore[arg-type]


def test_without_a_word_it_is_the_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def source(boxes: str) -> Any:
        asked.append(boxes)
        return left_half

    monkeypatch.setattr(one_call, "people_source", source)
    monkeypatch.setattr(one_call, "default_boxes", lambda schema: f"of {schema.name}")
    opened = PoseEstimator(flip_test=False, device="cpu")
    assert opened.spec.preset.startswith("coco_lite0") and not opened.flip_test
    assert len(opened(IMAGE)) == len(opened(IMAGE)) == 1 and asked == ["of coco_17"]


def test_a_detector_by_its_name(tmp_path: Path) -> None:
    opened = PoseEstimator.from_pretrained("starter", detector="whole")
    assert opened(IMAGE).boxes_xyxy.tolist() == [[0, 0, 70, 90]]
    with pytest.raises(UserError, match=r"none\.onnx"):
        PoseEstimator.from_pretrained("starter", detector="none.onnx")


def fetch(name: str, folder: Path) -> Path:
    """As `weights get` leaves it, but empty."""
    row = find_public(name)
    path = folder / (f"{name}.safetensors" if row.preset else row.file_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_what_was_fetched_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_weights() == "starter"
    monkeypatch.setattr(one_call, "STARTERS", tmp_path)
    with pytest.raises(UserError, match="no person detector.*Cure: simplepose weights get people"):
        default_boxes(COCO_17)
    (tmp_path / "starter-person.safetensors").touch()
    assert default_boxes(COCO_17) == "starter-person"
    fetch("yolox-nano", Path("weights"))
    assert default_boxes(COCO_17) == "yolox-nano"
    fetch("yolox-s", cache_folder())
    fetch("mmpose-res50-256x192", cache_folder())
    assert (default_weights(), default_boxes(COCO_17)) == ("mmpose-res50-256x192", "yolox-s")
    assert "weights get people" in told("starter", "yolox-s")
    assert "weights get people" not in told("mmpose-res50-256x192", "yolox-s")


def test_a_person_detector_is_not_asked_for_animals() -> None:
    dogs = KeypointSchema(name="dog_2", keypoints=("nose", "tail"))
    with pytest.raises(UserError, match=r"dog_2: nose, tail.*Cure: --boxes"):
        default_boxes(dogs)


def test_names_are_found_or_the_error_is_the_command(tmp_path: Path) -> None:
    assert named("runs/mine") == "runs/mine" and named("whole") == "whole"
    for open_it in (named, people_source, PoseEstimator.from_pretrained):
        with pytest.raises(
            UserError, match=r"yolox-nano .*Apache-2\.0.*Cure: simplepose weights get"
        ):
            open_it("yolox-nano")
    path = fetch("yolox-nano", cache_folder())
    assert named("yolox-nano") == str(path)
    with pytest.raises(UserError, match=r"yolox_nano\.onnx"):  # it is looked for there, and empty
        people_source("yolox-nano")


def test_a_starter_detector_is_lit_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = load_preset("person_lite0_320")
    classes = KeypointSchema(name="classes", keypoints=("person",))
    spec = ModelSpec(
        preset=config.preset, schema=classes, input_size_wh=(64, 64), model=config.model
    )
    network = PoseNetwork(config.model, 1, (64, 64)).eval()
    detector = TrainedDetector(network, spec, device=torch.device("cpu"))
    for module in (checkpoints, one_call):
        monkeypatch.setattr(module, "STARTERS", tmp_path)
    with pytest.raises(UserError, match="without the network starter-person"):
        people_source("starter-person")
    detector.save_pretrained(tmp_path / "starter-person.safetensors", half=True, licence="MIT")
    card = (tmp_path / "starter-person.md").read_text()
    assert "object-detection" in card and "| classes | person |" in card and "MIT" in card
    assert default_boxes(COCO_17) == "starter-person"
    found = people_source("starter-person", score_threshold=0, device="cpu")
    assert isinstance(found, TrainedDetector) and len(found(IMAGE)) > 0
    with pytest.raises(UserError, match="is a detector of person.*Cure: give it as --boxes"):
        PoseEstimator.from_pretrained("starter-person")


def test_one_network_in_place_of_the_other_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    save_network(tmp_path / "pose.onnx")
    for weights in ("pose.onnx", "starter"):
        with pytest.raises(UserError, match="Cure: "):
            people_source(weights)
