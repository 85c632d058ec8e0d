"""What `read_coco` repairs is what is scored, and one of several categories can be chosen on the command line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from simplepose.cli import main
from simplepose.config import DataConfig, EvaluateConfig, ModelConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import ground_truth_boxes
from simplepose.data.coco import read_coco
from simplepose.data.source import read_split
from simplepose.evaluation.top_down import Estimates, evaluate_network, name_boxes
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

NAMES = ["nose", "tail", "left_paw", "right_paw"]


def content(count: int = 6) -> dict[str, Any]:
    """Animals on as many pictures, cats and dogs by turns, with the same keypoints."""
    rng = np.random.default_rng(0)
    animals = [
        {
            "id": number + 1,
            "image_id": number + 1,
            "category_id": 1 + number % 2,
            "bbox": [10, 10, 60, 50],
            "area": 2000.0,
            "keypoints": np.concatenate([rng.integers(12, 60, (4, 2)), np.full((4, 1), 2)], 1)
            .ravel()
            .tolist(),
        }
        for number in range(count)
    ]
    images = [
        {"id": number + 1, "file_name": f"{number}.png", "width": 100, "height": 80}
        for number in range(count)
    ]
    categories = [
        {"id": index + 1, "name": name, "keypoints": NAMES, "skeleton": []}
        for index, name in enumerate(("cat", "dog"))
    ]
    return {"images": images, "annotations": animals, "categories": categories}


def words_as_ids(value: dict[str, Any]) -> None:
    for image in value["images"]:
        image["id"] = f"picture {image['id']}"
    for animal in value["annotations"]:
        animal["image_id"] = f"picture {animal['image_id']}"


def text_categories(value: dict[str, Any]) -> None:
    for row in value["annotations"]:
        row["category_id"] = str(row["category_id"])
    for row in value["categories"]:
        row["id"] = str(row["id"])


def broken_areas(value: dict[str, Any]) -> None:
    value["annotations"][0]["area"] = float("nan")
    value["annotations"][1]["area"] = "2000"


@pytest.mark.parametrize(
    "change", [lambda value: None, words_as_ids, text_categories, broken_areas]
)
def test_perfect_answers_get_a_perfect_score(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    value = content()
    change(value)
    (tmp_path / "animals.json").write_text(json.dumps(value))
    animals = read_coco(tmp_path / "animals.json", tmp_path)
    perfect = Estimates(
        animals.image_index,
        animals.keypoints.astype(np.float64),
        np.full((6, 4), 0.9, np.float32),
        np.ones(6),
        np.full(6, 3000.0),
    )
    estimator = PoseEstimator(
        torch.nn.Identity(), ModelSpec(preset="", schema=animals.schema, input_size_wh=(32, 32))
    )
    outcome = evaluate_network(
        estimator,
        animals,
        ground_truth_boxes(animals),
        EvaluateConfig(),
        estimate=lambda *_, **__: perfect,
    )
    assert outcome.metrics["AP"] == pytest.approx(1) and outcome.metrics["AR"] == pytest.approx(1)


def test_boxes_are_named_with_their_ap(tmp_path: Path) -> None:
    (tmp_path / "animals.json").write_text(json.dumps(content()))
    animals = read_coco(tmp_path / "animals.json", tmp_path)
    boxes = ground_truth_boxes(animals)
    assert name_boxes(animals, boxes) == ("ground truth, annotated", None)
    name, quality = name_boxes(
        animals, replace(boxes, source="some/dets.json").select(np.arange(3))
    )
    assert name.startswith("dets.json (box AP 5") and quality == pytest.approx(0.5, abs=0.02)
    assert name_boxes(animals, replace(boxes, source="dets.json").select(np.zeros(0, int))) == (
        "dets.json (box AP 0.0)",
        0.0,
    )
    crowd = replace(animals, is_crowd=np.ones(len(animals), bool))  # nobody to find
    assert name_boxes(crowd, replace(boxes, source="dets.json")) == ("dets.json (box AP -)", -1)


def test_a_test_split_gives_a_submission_without_a_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The official files of test-dev hold pictures, no people, and a category that names no keypoints."""
    torch.manual_seed(0)
    spec = ModelSpec(
        preset="t",
        schema=COCO_17,
        input_size_wh=(32, 32),
        model=ModelConfig(backbone="resnet18", deconv_filters=4),
    )
    save_checkpoint(tmp_path / "net.safetensors", PoseNetwork(spec.model, 17), spec)
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((60, 60, 3), 40 * number, np.uint8))
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 60, "height": 60} for number in (1, 2)
    ]
    truth = tmp_path / "image_info_test-dev2017.json"
    truth.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "person"}]}))
    boxes = [
        {"image_id": number, "category_id": 1, "bbox": [5, 5, 40, 50], "score": 0.9}
        for number in (1, 2)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    command = [
        "evaluate",
        str(tmp_path / "net.safetensors"),
        "--annotations",
        str(truth),
        "--images",
        str(tmp_path),
    ]
    command += [
        "--boxes",
        str(tmp_path / "boxes.json"),
        "--output",
        str(tmp_path / "out"),
        "--submission",
        "ours-1",
    ]
    assert main(command) == 0, capsys.readouterr().err
    with zipfile.ZipFile(
        tmp_path / "out" / "person_keypoints_test-dev2017_ours-1_results.zip"
    ) as archive:
        rows = json.loads(archive.read("person_keypoints_test-dev2017_ours-1_results.json"))
    assert [row["image_id"] for row in rows] == [1, 2] and len(rows[0]["keypoints"]) == 51
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["AP"] == -1
    assert (
        main([*command, "--overwrite"]) == 2
        and "ours-1_results.zip exists" in capsys.readouterr().err
    )
    assert (
        main([*command[:-1], "no good", "--overwrite"]) == 2
        and "method name 'no good'" in capsys.readouterr().err
    )


def test_one_of_several_skeletons_is_chosen_by_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = content()
    value["categories"][1]["keypoints"] = [*NAMES[:3], "horn"]
    path, images = tmp_path / "animals.json", str(tmp_path)
    path.write_text(json.dumps(value))
    data = {"train_annotations": str(path), "train_images": images}
    with pytest.raises(UserError, match=r"animals\.json .*1 cat .*2 dog .*--data\.category"):
        read_split(DataConfig(**data), "train")
    assert len(read_split(DataConfig(**data, category="dog"), "train")) == 3
    output = tmp_path / "cats.json"
    assert (
        main(
            [
                "convert",
                "coco",
                str(path),
                "--images",
                images,
                "--category",
                "cat",
                "--output",
                str(output),
            ]
        )
        == 0
    )
    assert read_coco(output, images).schema.keypoints == tuple(NAMES)
