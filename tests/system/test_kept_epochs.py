"""Weights of single epochs: which a run keeps, that a killed run has the same, and their table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_workers import changed, resumed, run_training, small_config, write_people

from simplepose.cli import main
from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.evaluation.top_down import parse_epochs
from simplepose.pose.checkpoints import epoch_weights, kept_epochs, read_spec
from simplepose.training import run as run_module
from simplepose.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("data") / "people")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Four epochs of Microsoft's recipe, tested after the second and the fourth."""
    config = small_config(
        data,
        tmp_path_factory.mktemp("runs") / "run",
        epochs=4,
        keep_every=2,
        evaluate_every=2,
        precision="fp32",
        device="cpu",
    )
    val = {"val_annotations": str(data / "people.json"), "val_images": str(data)}
    config = changed(config, {"data": val, "model": {"width": 8, "deconv_filters": 8}})
    train(config)
    return config


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_every_second_epoch_is_kept(run: Config) -> None:
    folder = run.run_folder / "checkpoints"
    assert kept_epochs(run.run_folder) == [2, 4]
    assert same(folder / "epoch_004.safetensors", folder / "last.safetensors")
    assert not same(folder / "epoch_002.safetensors", folder / "last.safetensors")
    assert read_spec(folder / "epoch_002.safetensors").score == {"epoch": 2}


def test_a_row_for_each_epoch_on_the_boxes_of_the_training(
    run: Config, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(run.run_folder), "--epochs", "2:4:2", "--device", "cpu"]
    argv += [
        "--annotations",
        str(data / "people.json"),
        "--images",
        str(data),
        "--output",
        str(tmp_path),
    ]
    assert main(argv) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({len(line) for line in table}) == 1
    assert (
        ", epoch 2 | ground truth, clipped |" in table[2]
        and ", epoch 4 | ground truth, clipped |" in table[3]
    )
    records = [
        json.loads((tmp_path / f"epoch_00{epoch}" / "metrics.json").read_text()) for epoch in (2, 4)
    ]
    lines = map(json.loads, (run.run_folder / "metrics.jsonl").read_text().splitlines())
    trained = [record for record in lines if "AP" in record]
    assert [one["epoch"] for one in records] == [one["epoch"] for one in trained] == [2, 4]
    assert [one["AP"] for one in records] == pytest.approx([one["AP"] for one in trained])
    best = read_spec(run.run_folder).score
    assert best["boxes"] == records[0]["boxes"] == "ground truth, clipped"
    # The results of the best evaluation of the training are those of the same epoch here: the same boxes.
    written = json.loads((run.run_folder / "predictions.json").read_text())
    found = json.loads((tmp_path / f"epoch_00{best['epoch']}" / "predictions.json").read_text())
    assert [row["keypoints"] for row in written] == [
        pytest.approx(row["keypoints"], abs=1e-3) for row in found
    ]
    assert main(argv) == 2 and "epoch_002/predictions.json exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["x", "", "0", "-2", "4:2", "2:4:0", "2:4:2:1", "2:", ":4", "2-4", "2,4", "²"]
)
def test_malformed_epochs(text: str) -> None:
    with pytest.raises(UserError, match="--epochs is .*Cure"):
        parse_epochs(text)


def test_epochs() -> None:
    assert list(parse_epochs("100:140:10")) == [100, 110, 120, 130, 140]
    assert list(parse_epochs("5:7")) == [5, 6, 7] and list(parse_epochs("140")) == [140]
    assert list(parse_epochs("1:10:4")) == [1, 5, 9]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "2:6:2"], "keeps no weights of epoch 6. Cure: --epochs of 2, 4"),
        (["--epochs", "1:999999999"], "keeps no weights of epoch 1. Cure"),
        (["--epochs", "four"], "--epochs is 'four'"),
        (["--epochs", "4", "--submission", "mine"], "--epochs or --submission"),
    ],
)
def test_epochs_that_cannot_be_tested(
    run: Config, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run.run_folder), *more]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_epochs_of_what_is_no_run(
    run: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (str(tmp_path), str(run.run_folder / "checkpoints" / "last.safetensors")):
        assert main(["evaluate", name, "--epochs", "4"]) == 2
        assert f"{name} keeps no weights of single epochs" in capsys.readouterr().err
    assert main(["evaluate", "results.json", "--epochs", "4"]) == 2
    assert "--epochs" in capsys.readouterr().err


def test_a_killed_run_keeps_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole, killed = (
        small_config(data, tmp_path / name, keep_every=1, ema=0.9) for name in ("whole", "killed")
    )
    assert run_training(whole) == [0]
    assert run_training(killed, kill_at=8) != [0] and kept_epochs(killed.run_folder) == [1]
    assert run_training(resumed(killed)) == [0]
    assert kept_epochs(whole.run_folder) == kept_epochs(killed.run_folder) == [1, 2, 3]
    for epoch in (1, 2, 3):
        assert same(epoch_weights(whole.run_folder, epoch), epoch_weights(killed.run_folder, epoch))


def test_weights_that_could_not_be_written_are_kept_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the epoch comes first, so that the run can go on, and its weights are not forgotten."""
    config = changed(
        small_config(data, tmp_path / "run", epochs=1, drop_epochs=[], keep_every=1),
        {"model": {"width": 8, "deconv_filters": 8}},
    )
    plain = run_module.save_checkpoint

    def full(path: Path, *more: object) -> None:
        if path.name.startswith("epoch_"):
            raise UserError(f"cannot write {path}: no space")
        plain(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", full)
        with pytest.raises(UserError, match="no space"):
            train(config)
    assert (config.run_folder / "checkpoints" / "last.train.pt").exists() and not kept_epochs(
        config.run_folder
    )
    train(replace(config, resume=True))
    folder = config.run_folder / "checkpoints"
    assert kept_epochs(config.run_folder) == [1] and same(
        folder / "epoch_001.safetensors", folder / "last.safetensors"
    )
