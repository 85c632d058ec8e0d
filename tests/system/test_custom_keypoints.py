"""docs/custom-keypoints.md, run on fewer animals: eight keypoints from drawn pictures to overlays, without code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn.quadrupeds import QUADRUPED, write_quadrupeds

from simplepose.cli import main
from simplepose.core.lines import read_lines
from simplepose.data.coco import read_coco

PAGE = Path(__file__).resolve().parents[2] / "docs" / "custom-keypoints.md"


def test_the_page_names_what_the_code_names() -> None:
    text = PAGE.read_text()
    for name in (
        *QUADRUPED.keypoints,
        "tests/drawn/quadrupeds.py",
        "--estimate-sigmas",
        "--sigmas",
        "--also",
    ):
        assert name in text
    for command in ("doctor", "convert", "train", "evaluate", "predict"):
        assert f"simplepose {command} " in text


def test_quadrupeds_from_drawing_to_overlay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    animals = tmp_path / "animals"
    write_quadrupeds(animals, train_animals=16, val_animals=6)
    train, val_truth = (
        animals / "annotations" / f"quadruped_{split}.json" for split in ("train", "val")
    )
    train_images, val_images = animals / "images" / "train", animals / "images" / "val"
    page = tmp_path / "doctor.html"
    assert (
        main(
            [
                "doctor",
                "--annotations",
                str(train),
                "--images",
                str(train_images),
                "--html",
                str(page),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert (
        "front_left_paw <-> front_right_paw, hind_left_paw <-> hind_right_paw" in out
        and "0.05 is used for each" in out
    )
    assert page.exists()

    (tmp_path / "sigmas.json").write_text(json.dumps({name: 0.06 for name in QUADRUPED.keypoints}))
    val = tmp_path / "val.json"
    command = ["convert", "coco", str(val_truth), "--images", str(val_images), "--output", str(val)]
    assert main([*command, "--sigmas", str(tmp_path / "sigmas.json")]) == 0
    assert read_coco(val, val_images).schema.sigmas == (0.06,) * 8

    run = tmp_path / "runs" / "animals"
    command = ["train", "synthetic_demo", "--input-size-wh", "64", "64", "--output", str(run)]
    command += ["--train.epochs", "2", "--train.drop-epochs", "1", "--train.batch-size", "8"]
    command += ["--data.train-annotations", str(train), "--data.train-images", str(train_images)]
    command += ["--data.val-annotations", str(val_truth), "--data.val-images", str(val_images)]
    assert main(command) == 0, capsys.readouterr().err

    results = tmp_path / "results"
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--annotations",
                str(val),
                "--images",
                str(val_images),
                "--output",
                str(results),
            ]
        )
        == 0
    )
    assert 0 <= json.loads((results / "metrics.json").read_text())["AP"] <= 1
    predictions = json.loads((results / "predictions.json").read_text())
    assert len(predictions) == 6 and all(len(row["keypoints"]) == 24 for row in predictions)

    overlays = tmp_path / "overlays"
    command = [
        "predict",
        str(val_images),
        "--weights",
        str(run),
        "--boxes",
        "gt",
        "--annotations",
        str(val),
    ]
    assert main([*command, "--output", str(overlays)]) == 0
    assert any(line.people for line in read_lines(overlays / "poses.jsonl"))
    assert list(overlays.rglob("*.jpg")) or list(overlays.rglob("*.png"))
