"""A TensorFlow run goes on here, through the command line, with TensorFlow's own next updates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from seed_snapshot import (
    SMALL_PRESET,
    SMALL_WIDTHS,
    TensorFlowAdam,
    as_torch,
    small_snapshot,
    torch_names,
)
from tf_checkpoint_writer import write_v1, write_v2
from training_workers import write_people

from simplepose.cli import main
from simplepose.training import start

PER_EPOCH = 6  # 22 people in batches of 4, the last one completed


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trains the small network from a snapshot for one epoch."""
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", SMALL_WIDTHS)
    data, preset = write_people(tmp_path / "data"), tmp_path / "coco_small_tf.yaml"
    preset.write_text(SMALL_PRESET)
    options = {
        "data.train-annotations": data / "people.json",
        "data.train-images": data,
        "output": tmp_path / "run",
        "train.batch-size": 4,
        "train.epochs": 101,
        "train.drop-epochs": 90,
        "train.evaluate-every": 0,
        "train.device": "cpu",
        "train.continue-from": tmp_path / "model_dump" / "snapshot_100.ckpt",
    }
    words = [(f"--{name}", str(value)) for name, value in options.items()]
    return ["train", str(preset), *(word for pair in words for word in pair)]


def test_epoch_101(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = small_snapshot(90_000, 5e-5)
    (tmp_path / "model_dump").mkdir()
    write_v2(tmp_path / "model_dump" / "snapshot_100.ckpt", snapshot)
    gradients, make = [], start.make_optimizer

    def spy(network: torch.nn.Module, *options: object, **named: object) -> torch.optim.Optimizer:
        """Keeps a copy of each update's gradients."""
        optimizer = make(network, *options, **named)
        optimizer.register_step_pre_hook(
            lambda *_: gradients.append(
                {n: p.grad.numpy().copy() for n, p in network.named_parameters()}
            )
        )
        return optimizer

    monkeypatch.setattr(start, "make_optimizer", spy)
    assert main(command) == 0
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [(record["epoch"], record["step"]) for record in records] == [(101, 101 * PER_EPOCH)]
    assert records[0]["learning_rate"] == pytest.approx(5e-5) and len(gradients) == PER_EPOCH
    expected, names = TensorFlowAdam(snapshot, 90_000), torch_names()
    for of_update in gradients:
        own = {theirs: of_update[names[theirs]] for theirs in expected.weights}
        turned = {n: np.einsum("oihw->hwio", g) if g.ndim == 4 else g for n, g in own.items()}
        expected.update(turned, 5e-5)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.train.pt", weights_only=True)
    for theirs, weights in expected.weights.items():
        found = state["network"][names[theirs]].numpy()
        wanted = as_torch(weights)
        assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max(), theirs
        assert np.abs(wanted - as_torch(snapshot[theirs])).max() > 1e-5, theirs
    moments = [entry["exp_avg"] for entry in state["optimizer"]["state"].values()]
    assert len(moments) == len(expected.m) and state["position"]["step"] == 101 * PER_EPOCH
    # the run is one of ours now: it resumes from its own folder and needs the snapshot no more
    (tmp_path / "model_dump" / "snapshot_100.ckpt.index").unlink()
    assert main([*command, "--resume", "--train.epochs", "102"]) == 0
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["epoch"] == 102


@pytest.mark.parametrize("fault", ["no slots", "partitioned"])
def test_refused_in_one_sentence(
    tmp_path: Path, command: list[str], fault: str, capsys: pytest.CaptureFixture
) -> None:
    """Before any run folder is written."""
    (tmp_path / "model_dump").mkdir()
    few = {"out/weights": np.zeros((1, 1, 8, 17), np.float32)}
    write_v1(tmp_path / "model_dump" / "snapshot_100.ckpt", few, partitioned=fault == "partitioned")
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "snapshot_100.ckpt" in said and "out/weights" in said and "Cure:" in said
    assert not (tmp_path / "run").exists()
