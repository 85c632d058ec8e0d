"""A trained detector: what its maps say in pixels of the picture, its classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, KeypointSchema
from simplepose.core.structures import Frame
from simplepose.detection.centers import encode
from simplepose.detection.people import people_of, people_source
from simplepose.detection.trained import TrainedDetector, fitted
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

CPU = torch.device("cpu")


def spec_of(*classes: str) -> ModelSpec:
    config = load_preset("person_lite0_320")
    return ModelSpec(
        preset=config.preset,
        schema=KeypointSchema(name="classes", keypoints=classes),
        input_size_wh=(96, 96),  # in use 128 x 128
        pixels=config.pixels,
        model=config.model,
    )


class Knowing(torch.nn.Module):
    """Puts out the targets of given boxes, in pixels of the input."""

    def __init__(self, boxes: list[list[float]], labels: list[int], classes: int) -> None:
        super().__init__()
        self.truth = torch.tensor([boxes]).float(), torch.tensor([labels]), classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (x.shape[3], x.shape[2])
        assert size[0] % 32 == 0 and size[1] % 32 == 0
        targets = encode(*self.truth, size, 8)
        return torch.cat([torch.logit(targets.centers, 1e-6), targets.boxes], 1)


def detector_of(boxes, labels, *classes: str, **options) -> TrainedDetector:
    network = Knowing(boxes, labels, len(classes))
    return TrainedDetector(network, spec_of(*classes), device=CPU, **options)


def test_boxes_come_back_to_the_picture() -> None:
    """A picture of 400 x 250 is scaled by .32 to 128 x 80."""
    wanted = np.array([[100, 50, 200, 225], [300, 25, 350, 125.0]])
    detector = detector_of((wanted * 0.32).tolist(), [0, 0], "person")
    found = detector(np.zeros((250, 400, 3), np.uint8))
    order = np.argsort(found.boxes_xyxy[:, 0])
    assert np.allclose(found.boxes_xyxy[order], wanted, atol=0.05)
    assert (found.scores > 0.99).all()


def test_the_picture_is_scaled_into_the_corner() -> None:
    image = np.zeros((250, 400, 3), np.uint8)
    image[125:, 200:] = 255
    pixels, scale = fitted(image, (128, 128))
    assert pixels.shape == (96, 128, 3) and np.allclose(scale, 0.32)
    assert (pixels[41:80, 65:] == 255).all() and not pixels[:39].any() and not pixels[80:].any()
    pixels, scale = fitted(image[:10, :20], (128, 128))
    assert pixels.shape == (64, 128, 3) and np.allclose(scale, 6.4)


def test_classes_are_chosen_and_do_not_suppress_each_other() -> None:
    boxes, labels = [[8, 8, 60, 90], [8, 8, 60, 91], [70, 20, 110, 60]], [0, 1, 1]
    image = np.zeros((128, 128, 3), np.uint8)
    everything = detector_of(boxes, labels, "cat", "dog")
    assert len(everything(image)) == 3
    for choice in ("dog", 1, "1"):
        assert len(detector_of(boxes, labels, "cat", "dog", person_class=choice)(image)) == 2
    assert len(detector_of(boxes, labels, "person", "dog")(image)) == 1
    with pytest.raises(UserError, match=r"no class 'bird'.*0 cat, 1 dog"):
        detector_of(boxes, labels, "cat", "dog", person_class="bird")


def test_weak_duplicates_go() -> None:
    network = Knowing([[8, 8, 60, 90]], [0], 1)
    maps = network(torch.zeros(1, 3, 128, 128))
    maps[:, 0] = -20
    maps[0, :, 6, 4], maps[0, :, 9, 4] = (
        torch.tensor([3.0, 0, 0, 0, 0]),
        torch.tensor([2.0, 0, 0, 0, 0]),
    )
    maps[0, 2, 9, 4] = -3  # the same box, told from three cells below
    network.forward = lambda x: maps
    detector = TrainedDetector(network, spec_of("person"), device=CPU)
    boxes, scores, _ = detector.detect([np.zeros((128, 128, 3), np.uint8)])[0]
    assert (scores > 0.5).sum() == 1 and np.allclose(boxes[0], [0, 16, 64, 80])


def test_several_pictures_at_once_are_what_each_is_alone() -> None:
    """Two of one shape share a batch; the third has a canvas of its own."""
    torch.manual_seed(0)
    network = PoseNetwork(spec_of("person").model, 1).eval()
    detector = TrainedDetector(network, spec_of("person"), device=CPU, score_threshold=0.0)
    seen, calls = network.forward, list[int]()
    network.forward = lambda x: calls.append(len(x)) or seen(x)
    rng = np.random.default_rng(0)
    shapes = [(100, 128), (90, 60), (100, 128)]
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    together, frames = detector.together(images), [Frame(image) for image in images]
    assert sorted(calls) == [1, 2]
    for one, image, found in zip(together, images, people_of(detector, frames), strict=True):
        alone = detector(image)
        assert len(one) == len(alone) > 0
        np.testing.assert_allclose(one.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
        np.testing.assert_array_equal(one.boxes_xyxy, found.boxes_xyxy)
    assert people_of(detector, []) == []


class Looking(torch.nn.Module):
    """Finds the bright rectangle, of class 0 left of the middle, else of class 1, in inputs of the
    given widths."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.widths, self.seen = widths, list[tuple[int, bool]]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x[0, 0] > (x.min() + x.max()) / 2
        rows, columns = (torch.nonzero(bright.any(axis)).flatten() for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        width = x.shape[3]
        label = int(columns.float().mean() >= width / 2)
        self.seen.append((width, bool(label)))
        network = Knowing([[float(side) for side in box]], [label], 2)
        maps = network(x)
        if width not in self.widths:
            maps[:, :2] = -20
        return maps


def test_time_augmentation_looks_mirrored_and_twice_as_large() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[16:80, 8:40] = 255  # left of the middle: right of it in the mirror
    network = Looking(128, 256)
    detector = TrainedDetector(network, spec_of("left", "right"), device=CPU, tta=True)
    boxes, scores, classes = detector.detect([image])[0]
    assert network.seen == [(128, False), (128, True), (256, False)]
    strong = scores > 0.2
    assert classes[strong].tolist() == [0, 1] and strong.tolist()[:2] == [True, True]
    np.testing.assert_allclose(boxes[strong], [[8, 16, 40, 80]] * 2, atol=0.2)
    np.testing.assert_allclose(scores[strong], [1, 1 / 2], atol=1e-3)
    plain = TrainedDetector(Looking(128, 256), spec_of("left", "right"), device=CPU)
    boxes, scores, classes = plain.detect([image])[0]
    assert scores[0] > 0.99 and classes[0] == 0


def test_what_one_look_alone_finds_has_half_of_its_score() -> None:
    image = np.zeros((100, 128, 3), np.uint8)
    image[16:80, 8:40] = 255
    detector = TrainedDetector(Looking(256), spec_of("left", "right"), device=CPU, tta=True)
    boxes, scores, _ = detector.detect([image])[0]
    np.testing.assert_allclose(boxes[0], [8, 16, 40, 80], atol=0.2)
    assert abs(scores[0] - 1 / 2) < 1e-3
    assert len(detector(image)) == 1
    detector.tta = False
    assert len(detector(image)) == 0


def test_augmentation_is_of_trained_detectors(run: Path) -> None:
    assert people_source(run, tta=True).tta and not people_source(run).tta
    for boxes in ("whole", "motion", "gt", "yolox.onnx"):
        with pytest.raises(UserError, match=rf"--box-tta .*--boxes {boxes} is none.*Cure"):
            people_source(boxes, annotations="people.json", tta=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of a detector that has learned nothing."""
    torch.manual_seed(0)
    spec = spec_of("person")
    network = PoseNetwork(spec.model, 1).eval()
    save_checkpoint(tmp_path / "checkpoints" / "best.safetensors", network, spec)
    return tmp_path


def test_a_run_opens_where_boxes_takes_a_detector(run: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    for choice in (run, run / "checkpoints" / "best.safetensors"):
        detector = people_source(str(choice), score_threshold=0.0)
        found = detector(image)
        assert isinstance(detector, TrainedDetector) and 0 < len(found) <= 100
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy <= [120, 100, 120, 100]).all()
        # an untrained network believes in the prior everywhere
        assert found.scores == pytest.approx(0.1, abs=0.05)
    assert len(people_source(str(run))(image)) == 0


def test_size_of_the_network(run: Path) -> None:
    """Half precision takes two bytes a parameter: it must fit into 6.5 MB."""
    network = load_model(run).network
    assert sum(tensor.numel() for tensor in network.state_dict().values()) * 2 < 6.5e6


def test_a_pose_network_is_no_detector_and_the_reverse(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"detector of person.*--boxes"):
        PoseEstimator.from_pretrained(run)
    config = load_preset("coco_lite0_128x96_mini_modern")
    spec = ModelSpec(
        preset="pose",
        schema=COCO_17,
        input_size_wh=(96, 128),
        model=config.model,
        pixels=config.pixels,
    )
    save_checkpoint(tmp_path / "pose.safetensors", PoseNetwork(config.model, 17), spec)
    with pytest.raises(UserError, match=r"pose network.*17 keypoints.*--weights"):
        people_source(str(tmp_path / "pose.safetensors"))


def test_no_picture_no_file(run: Path) -> None:
    with pytest.raises(UserError, match=r"other\.safetensors"):
        people_source(str(run / "other.safetensors"))
    with pytest.raises(UserError):
        people_source(str(run))(np.zeros((10, 10), np.uint8))
