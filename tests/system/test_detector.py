"""A detector of one's own: trained, resumed, tested and used by the commands, on drawn animals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from drawn.quadrupeds import write_quadrupeds

from simplepose.cli import main
from simplepose.core.lines import read_lines
from simplepose.data.boxes import read_labelled_boxes
from simplepose.pose.checkpoints import read_spec
from simplepose.training.folder import read_records


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("animals") / "animals"
    write_quadrupeds(folder, train_animals=14, val_animals=6)
    return folder


def files(animals: Path, split: str) -> tuple[str, str]:
    return (
        str(animals / "annotations" / f"quadruped_{split}.json"),
        str(animals / "images" / split),
    )


def train_words(animals: Path, run: Path, *more: str) -> list[str]:
    words = ["train", "person_lite0_320", "--input-size-wh", "64", "64", "--output", str(run)]
    for split in ("train", "val"):
        for name, value in zip(("annotations", "images"), files(animals, split), strict=True):
            words += [f"--data.{split}-{name}", value]
    words += ["--model.init", "", "--train.batch-size", "4", "--train.evaluate-every", "1"]
    return [*words, "--train.device", "cpu", "--data.workers", "1", *more]


@pytest.fixture(scope="module")
def run(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "detector"
    assert main(train_words(animals, folder, "--train.epochs", "2")) == 0
    return folder


def test_what_a_run_leaves(animals: Path, run: Path) -> None:
    records = read_records(run / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    tested = [record for record in records if "evaluation_seconds" in record]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert [*tested[0]][2:10] == ["epoch", "AP", "AP50", "AP75", "APS", "APM", "APL", "AR"]
    spec = read_spec(run)
    assert spec.detects and spec.schema.keypoints == ("quadruped",)
    rows = json.loads((run / "predictions.json").read_text())
    truth = read_labelled_boxes(*files(animals, "val"))
    assert {row["image_id"] for row in rows} <= {*truth.image_ids.tolist()}
    assert {row["category_id"] for row in rows} == {truth.category_id}


def test_resumed_bit_for_bit(animals: Path, run: Path, tmp_path: Path) -> None:
    """Stopped after the first of two epochs, and gone on with."""
    from simplepose.training import train as module

    whole, calls = module.train_epoch, []

    def one_epoch(running) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        whole(running)

    words = train_words(animals, tmp_path / "run", "--train.epochs", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train_epoch", one_epoch)
        assert main(words) == 130
    assert main([*words, "--resume"]) == 0
    states = [
        torch.load(folder / "checkpoints" / "last.train.pt", weights_only=True)
        for folder in (run, tmp_path / "run")
    ]
    for name, tensor in states[0]["network"].items():
        assert torch.equal(tensor, states[1]["network"][name]), name


def test_stage_two_begins_with_everything(
    animals: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train_words(animals, tmp_path / "more", "--train.epochs", "1")
    words[words.index("64") : words.index("64") + 2] = ["96", "96"]
    assert main([*words, "--train.weights", str(run), "--train.warmup-epochs", "0"]) == 0
    out = capsys.readouterr().out
    assert f"weights from {run}\n" in out


def test_evaluate_prints_box_ap(
    animals: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, images = files(animals, "val")
    words = ["evaluate", str(run), "--annotations", annotations, "--images", images]
    words += ["--precision", "fp32"]  # as it was trained
    assert main([*words, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert "AP (S)" in table[0] and "person_lite0_320" in table[2]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    best = read_spec(run).score
    assert metrics["AP"] == pytest.approx(best["AP"]) and metrics["classes"] == ["quadruped"]
    assert not metrics["tta"]
    again = ["--output", str(tmp_path / "tta"), "--device", "cpu", "--box-tta"]
    assert main([*words, *again]) == 0
    assert "its own, TTA" in capsys.readouterr().out
    assert json.loads((tmp_path / "tta" / "metrics.json").read_text())["tta"]
    for more, named in (
        (["--boxes", "detections"], "--boxes"),
        (["--decoder", "dark"], "--decoder"),
        (["--task", "mpii"], "--task"),
    ):
        assert main([*words, *more]) == 2
        assert named in capsys.readouterr().err


def test_poses_in_own_boxes(
    animals: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """predict, evaluate and the refusals with a pose network of the same file."""
    pose, annotations, images = tmp_path / "pose", *files(animals, "val")
    words = ["train", "synthetic_demo", "--input-size-wh", "64", "64", "--output", str(pose)]
    words += ["--train.epochs", "1", "--train.drop-epochs", "--train.batch-size", "8"]
    for name, value in zip(("annotations", "images"), files(animals, "train"), strict=True):
        words += [f"--data.train-{name}", value]
    assert main(words) == 0, capsys.readouterr().err
    options = ["--weights", str(pose), "--device", "cpu", "--output"]
    boxes = ["--boxes", str(run), "--box-threshold", "0.01"]
    assert main(["predict", images, *options, str(tmp_path / "out"), *boxes]) == 0
    assert main(["predict", images, *options, str(tmp_path / "tta"), *boxes, "--box-tta"]) == 0
    lines = list(read_lines(tmp_path / "out" / "poses.jsonl"))
    assert len(lines) == len(list(Path(images).iterdir()))
    assert any(line.people for line in lines)
    assert lines != list(read_lines(tmp_path / "tta" / "poses.jsonl"))
    truth = ["--annotations", annotations, "--images", images]
    assert main(["evaluate", str(pose), *truth, "--boxes", str(run), "--device", "cpu"]) == 0
    assert "detector (box AP" in capsys.readouterr().out
    for mixed in (
        ["predict", images, "--weights", str(run), "--boxes", str(pose)],
        ["predict", images, "--weights", str(pose), "--boxes", str(pose)],
        ["evaluate", str(pose), *truth, "--boxes", str(pose)],
        ["evaluate", str(pose), *truth, "--boxes", "gt", "--box-tta"],
        ["predict", images, "--weights", str(pose), "--boxes", "whole", "--box-tta"],
    ):
        assert main([*mixed, "--output", str(tmp_path / "mixed")]) == 2
        assert "Cure:" in capsys.readouterr().err


def test_several_categories(tmp_path: Path, animals: Path) -> None:
    """Every second animal is another kind; both are learned, and told apart in the results."""
    names = []
    for split in ("train", "val"):
        file = json.loads(Path(files(animals, split)[0]).read_text())
        kinds = [{"id": 3, "name": "even"}, {"id": 5, "name": "odd"}]
        for index, row in enumerate(file["annotations"]):
            row["category_id"] = (3, 5)[index % 2]
            del row["keypoints"]
        file["categories"] = kinds
        names.append(tmp_path / f"{split}.json")
        names[-1].write_text(json.dumps(file))
    words = train_words(animals, tmp_path / "run", "--train.epochs", "1")
    words[words.index("--data.train-annotations") + 1] = str(names[0])
    words[words.index("--data.val-annotations") + 1] = str(names[1])
    assert main([*words, "--train.warmup-epochs", "0"]) == 0
    assert read_spec(tmp_path / "run").schema.keypoints == ("even", "odd")
    rows = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert {row["category_id"] for row in rows} == {3, 5}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--augment.rotation-degrees", "30", "--augment.rotation-probability", "1"], "upright"),
        (["--train.teacher", "runs/x"], "teacher"),
        (["--data.category", "zebra"], "zebra"),
    ],
)
def test_refused(
    animals: Path, tmp_path: Path, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_words(animals, tmp_path / "run", *words)) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pack", "import", "ablation"])
def test_commands_for_pose_networks(
    command: str, tmp_path: Path, animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [f"--data.{s}-{n}" for s in ("train", "val") for n in ("annotations", "images")]
    paths = [*files(animals, "train"), *files(animals, "val")]
    given = [word for pair in zip(data, paths, strict=True) for word in pair]
    words = {
        "pack": ["person_lite0_320", "--output", str(tmp_path / "p"), *given],
        "import": [str(tmp_path / "w.pth"), "--as", "person_lite0_320"],
        "ablation": ["person_lite0_320", *given],
    }[command]
    assert main([command, *words]) == 2
    assert "makes a detector" in capsys.readouterr().err
