"""Left and right: pairs from a file, and what is off where nobody knows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from drawn.quadrupeds import write_quadrupeds

from simplepose.cli import main
from simplepose.config import AugmentConfig, DataConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.augment import draw
from simplepose.data.categories import with_flip_pairs
from simplepose.data.coco import read_coco
from simplepose.data.source import read_split
from simplepose.doctor.checks import check_sides
from simplepose.pose.checkpoints import ModelSpec, read_spec
from simplepose.pose.estimator import PoseEstimator

WHEELS = KeypointSchema(name="car_5", keypoints=("Front A", "Front B", "Rear A", "Rear B", "Roof"))
NUMBERED = KeypointSchema(name="door_4", keypoints=("1", "2", "3", "4"))
PAIRS = ((0, 1), (2, 3))


def save(path: Path, content: Any) -> str:
    written = json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content)
    path.write_text(written)
    return str(path)


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize(
    ("listed", "wanted"),
    [
        ([["Front A", "Front B"], ["Rear A", "Rear B"]], PAIRS),
        ([["front_a", "front_b"], ["rear-a", "RearB"]], PAIRS),
        ([[0, 1], [2, 3]], PAIRS),
        ([[0, "Front B"], ["Roof", "Roof"]], ((0, 1), (4, 4))),
        ({"flip_pairs": [[1, 0]]}, ((1, 0),)),
        # a schema whose keypoints stand in another order
        (
            {"keypoints": ["Roof", "Rear B", "Rear A"], "flip_pairs": [["Rear A", "Rear B"]]},
            ((2, 3),),
        ),
        ({"keypoints": ["Roof", "Rear B", "Rear A"], "flip_pairs": [[2, 1]]}, ((2, 3),)),
    ],
)
def test_pairs_from_a_file(tmp_path: Path, ending: str, listed: Any, wanted: Any) -> None:
    path = save(tmp_path / f"pairs.{ending}", listed)
    assert with_flip_pairs(WHEELS, path) == replace(WHEELS, flip_pairs=wanted)


@pytest.mark.parametrize(
    ("schema", "listed", "named"),
    [
        (WHEELS, [["Front A", "Front C"]], "Front C"),
        (WHEELS, [[0, 5]], "5"),
        (WHEELS, [[-1, 0]], "-1"),
        (WHEELS, [[0, True]], "pairs.json"),
        (WHEELS, [["Front A"]], "Front A"),
        (WHEELS, "Front A", "Front A"),
        (WHEELS, [], "no left/right pair"),
        (WHEELS, {"keypoints": ["Front A", "Roof"]}, "no left/right pair"),
        (WHEELS, {"keypoints": ["left_eye", "right_eye"]}, "left_eye"),
        (WHEELS, [[0, 1], [1, 2]], "car_5"),
        # 1 is the name of a keypoint, and the index of another
        (NUMBERED, [[1, 2]], "quotes"),
    ],
)
def test_pairs_that_make_no_sense(
    tmp_path: Path, schema: KeypointSchema, listed: Any, named: str
) -> None:
    path = save(tmp_path / "pairs.json", listed)
    with pytest.raises(UserError) as caught:
        with_flip_pairs(schema, path)
    assert named in str(caught.value)


def test_numbers_as_names(tmp_path: Path) -> None:
    path = save(tmp_path / "pairs.json", [["1", "2"], ["4", "3"]])
    schema = with_flip_pairs(NUMBERED, path)
    assert schema.flip_order.tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize(("pairs", "sides"), [((), False), (PAIRS, True), (((4, 4),), True)])
def test_the_flip_test_needs_pairs(pairs: Any, sides: bool) -> None:
    calls = []

    def network(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return pixels[:, :1, ::4, ::4].expand(-1, 5, -1, -1)

    spec = ModelSpec(preset="", schema=replace(WHEELS, flip_pairs=pairs), input_size_wh=(64, 64))
    assert ModelSpec.from_json(spec.to_json(), "weights").schema.knows_sides == sides
    estimator = PoseEstimator(network, spec)
    estimator(np.zeros((64, 64, 3), np.uint8), [[0, 0, 40, 40]])
    assert estimator.mirrors == sides and calls == [1] * (1 + sides)
    assert bool(estimator.schema.sides_note()) != sides


@pytest.fixture
def unnamed(tmp_path: Path) -> list[str]:
    """Quadrupeds whose keypoints are called 1, 2, ...: options of training data."""
    write_quadrupeds(tmp_path, train_animals=8, val_animals=4)
    options = []
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"quadruped_{split}.json"
        content = json.loads(path.read_text())
        category = content["categories"][0]
        count = len(category["keypoints"])
        category["keypoints"] = [str(index + 1) for index in range(count)]
        category.pop("schema", None)
        path.write_text(json.dumps(content))
        options += [f"--data.{split}-annotations", str(path)]
        options += [f"--data.{split}-images", str(tmp_path / "images" / split)]
    return options


def test_training_mirrors_only_with_pairs(tmp_path: Path, unnamed: list[str]) -> None:
    people = read_coco(unnamed[1], unnamed[3])
    assert not people.schema.knows_sides
    (finding,) = check_sides(people)
    assert finding.level == "warning" and finding.count == len(people.schema)
    path = save(tmp_path / "pairs.json", [["1", "2"], ["3", "4"]])
    data = DataConfig(train_annotations=unnamed[1], train_images=unnamed[3], flip_pairs=path)
    paired = read_split(data, "train")
    assert paired.schema.flip_pairs == PAIRS and path in paired.warnings[-1]
    # nobody knows which of a pair is left, so the mirror test has nothing to say
    assert not list(check_sides(paired))
    config = AugmentConfig(flip_probability=0.5)
    plain, mirrored = (draw(np.random.default_rng(3), one, config) for one in (people, paired))
    assert mirrored.flips.any() and not plain.flips.any()
    np.testing.assert_array_equal(plain.rotations, mirrored.rotations)
    np.testing.assert_array_equal(plain.shifts, mirrored.shifts)


def test_pairs_travel_with_the_weights(
    tmp_path: Path, unnamed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "pairs.yaml", [["1", "2"], ["3", "4"]])
    test = ["--annotations", unnamed[5], "--images", unnamed[7]]
    mirrored = {}
    for name, pairs in {"without": [], "with": ["--data.flip-pairs", path]}.items():
        run = str(tmp_path / name)
        command = ["train", "synthetic_demo", "--input-size-wh", "64", "64", "--output", run]
        command += ["--train.epochs", "1", "--train.drop-epochs", "1", *unnamed, *pairs]
        assert main(command) == 0, capsys.readouterr().err
        printed = capsys.readouterr()
        assert ("--data.flip-pairs" in printed.out + printed.err) == (name == "without")
        for given in ([], ["--data.flip-pairs", path]):
            output = tmp_path / f"{name}{len(given)}"
            assert main(["evaluate", run, *test, *given, "--output", str(output)]) == 0
            note = capsys.readouterr().err
            mirrored[name, bool(given)] = json.loads((output / "metrics.json").read_text())[
                "flip_test"
            ]
            assert ("--data.flip-pairs" in note) != mirrored[name, bool(given)]
    assert mirrored == {
        ("without", False): False,
        ("without", True): True,
        ("with", False): True,
        ("with", True): True,
    }
    weights = tmp_path / "with" / "checkpoints" / "best.safetensors"
    assert read_spec(weights).schema.flip_pairs == PAIRS
    picture = next((tmp_path / "images" / "val").iterdir())
    for name, given in (("without", []), ("without", ["--flip-pairs", path]), ("with", [])):
        command = ["predict", str(picture), "--weights", str(tmp_path / name), "--boxes", "whole"]
        command += ["--output", str(tmp_path / "predicted"), "--overwrite", *given]
        assert main(command) == 0
        assert ("--flip-pairs" in capsys.readouterr().err) == (name == "without" and not given)
