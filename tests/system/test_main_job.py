"""The whole main job through the command line, on drawn people: train, resume, evaluate, predict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplepose.cli import main
from simplepose.core.images import read_image, write_image
from simplepose.core.lines import read_lines
from simplepose.synthetic.dataset import write_synthetic_dataset

TINY = [
    "synthetic_demo",
    "--model.deconv-filters",
    "16",
    "--input-size-wh",
    "64",
    "96",
    "--train.epochs",
    "1",
    "--train.batch-size",
    "16",
    "--train.evaluate-every",
    "1",
    "--train.device",
    "cpu",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "dataset"
    write_synthetic_dataset(root, train_people=48, val_people=16, seed=3)
    return root


@pytest.fixture(scope="module")
def run(dataset: Path) -> Path:
    folder = dataset.parent / "run"
    assert main(["train", *TINY, "--data.root", str(dataset), "--output", str(folder)]) == 0
    return folder


def test_the_run_folder_is_complete(run: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "console.log",
        "predictions.json",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    ):
        assert (run / name).exists(), name
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    assert {"loss", "AP"} <= {key for line in lines for key in line}
    assert not list(run.rglob("*.partial*"))


def test_another_run_is_never_overwritten(
    run: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "checkpoints" / "best.safetensors").read_bytes()
    assert main(["train", *TINY, "--data.root", str(dataset), "--output", str(run)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (run / "checkpoints" / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize("boxes", ["gt", "detections"])
def test_evaluate_writes_results_and_record(
    run: Path, dataset: Path, tmp_path: Path, boxes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "evaluate",
        str(run),
        "--data.root",
        str(dataset),
        "--boxes",
        boxes,
        "--output",
        str(tmp_path),
    ]
    assert main(argv) == 0
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert set(record) >= {
        "AP",
        "AP50",
        "AP75",
        "APM",
        "APL",
        "AR",
        "AR50",
        "AR75",
        "ARM",
        "ARL",
        "preset",
        "boxes",
        "pictures",
        "people",
        "seconds",
    }
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert rows and len(rows[0]["keypoints"]) == 51 and "bbox" not in rows[0]
    assert "| preset" in capsys.readouterr().out
    assert main(argv) == 2 and " exists" in capsys.readouterr().err
    assert main([*argv, "--overwrite", "--evaluator", "pycocotools"]) == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert {key: again[key] for key in ("AP", "AR", "APM")} == {
        key: record[key] for key in ("AP", "AR", "APM")
    }


def test_predict_draws_and_writes(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = dataset / "images" / "val2017"
    argv = [
        "predict",
        str(pictures),
        "--weights",
        str(run),
        "--boxes",
        str(dataset / "dets" / "human_detection.json"),
        "--output",
        str(tmp_path),
    ]
    assert main(argv) == 0
    lines = list(read_lines(tmp_path / "poses.jsonl"))
    assert len(lines) == len(list(pictures.iterdir())) and any(line.people for line in lines)
    for line in lines:
        drawn = read_image(tmp_path / f"{Path(line.source).stem}.jpg")
        assert drawn.shape[:2] == (line.height, line.width)
    assert main(argv) == 2 and "already holds poses.jsonl" in capsys.readouterr().err


def test_predict_takes_every_kind_of_picture(run: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    kinds = {
        "grey": image[..., 0],
        "alpha": np.dstack([image, image[..., 0]]),
        "deep": image.astype(np.uint16) * 257,
    }
    for name, array in kinds.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), array)
    assert (
        main(
            [
                "predict",
                str(tmp_path / "*.png"),
                "--weights",
                str(run),
                "--boxes",
                "whole",
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    assert len(list(read_lines(tmp_path / "out" / "poses.jsonl"))) == 3


def test_boxes_of_other_pictures_are_refused(
    dataset: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = str(dataset / "images" / "val2017")
    boxes = str(dataset / "annotations" / "person_keypoints_train2017.json")
    assert main(["predict", pictures, "--weights", str(run), "--boxes", boxes]) == 2
    assert "none of its boxes is on" in capsys.readouterr().err


def test_predict_stops_at_a_broken_picture_or_skips_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in" / "good.jpg", np.zeros((60, 60, 3), np.uint8))
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    argv = [
        "predict",
        str(tmp_path / "in"),
        "--weights",
        str(run),
        "--boxes",
        "whole",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "bad.jpg" in error and "--skip-broken" in error
    assert main([*argv, "--skip-broken", "--overwrite"]) == 0
    assert "1 pictures" in capsys.readouterr().out


def broken_copy(dataset: Path, tmp_path: Path) -> tuple[Path, str]:
    """The data set with one training picture cut short."""
    root = tmp_path / "dataset"
    shutil.copytree(dataset, root)
    path = sorted((root / "images" / "train2017").iterdir())[0]
    path.write_bytes(path.read_bytes()[:500])
    return root, path.name


def test_a_broken_picture_stops_training_or_is_counted(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, name = broken_copy(dataset, tmp_path)
    argv = ["train", *TINY, "--data.root", str(root)]
    assert main([*argv, "--output", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert name in error and "cut short" in error and "--data.skip-broken" in error
    assert main([*argv, "--output", str(tmp_path / "b"), "--data.skip-broken"]) == 0
    assert "1 unreadable picture" in capsys.readouterr().out
    for path in (root / "images" / "train2017").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    assert main([*argv, "--output", str(tmp_path / "c"), "--data.skip-broken"]) == 2
    assert "no picture of epoch 1 can be read" in capsys.readouterr().err


def test_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "train",
        *TINY,
        "--data.root",
        str(dataset),
        "--output",
        str(tmp_path / "run"),
        "--train.epochs",
        "3",
        "--train.learning-rate",
        "1e30",
    ]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "the loss became" in error and "Cure: lower" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: [], "is not a detection file|holds no detection"),
        (
            lambda content: [{**row, "image_id": 10**9 + n} for n, row in enumerate(content)],
            "none of its",
        ),
        (
            lambda content: [{**content[0], "bbox": [0, 0, float("nan"), 5]}],
            "not finite|not valid JSON",
        ),
        (lambda content: "nonsense", "no COCO file"),
    ],
    ids=["empty", "other pictures", "nan", "no list"],
)
def test_bad_detection_files(
    run: Path, dataset: Path, tmp_path: Path, change, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    content = json.loads((dataset / "dets" / "human_detection.json").read_text())
    (tmp_path / "dets.json").write_text(json.dumps(change(content)))
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--data.root",
                str(dataset),
                "--boxes",
                str(tmp_path / "dets.json"),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert re.search(words, error) and "dets.json" in error and "Cure" in error


def test_weights_of_another_schema_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.jpg", np.zeros((60, 60, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 60}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [1, 1, 50, 50],
                "keypoints": [5, 5, 2, 9, 9, 2],
            }
        ],
        "categories": [{"id": 1, "name": "x", "keypoints": ["left_a", "right_a"]}],
    }
    (tmp_path / "two.json").write_text(json.dumps(content))
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--annotations",
                str(tmp_path / "two.json"),
                "--images",
                str(tmp_path),
            ]
        )
        == 2
    )
    assert "estimates 17 keypoints" in capsys.readouterr().err


def test_a_demo_that_was_stopped_before_its_first_checkpoint_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("preset: coco_lite0_192x160_mini_modern\n")
    options = [
        "--people",
        "16",
        "--val-people",
        "4",
        "--epochs",
        "1",
        "--pictures",
        "1",
        "--device",
        "cpu",
    ]
    assert main(["demo", *options, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "overlays" / "contact_sheet.jpg").exists()
