"""A run that is stopped anywhere has, when it has gone on, the records of one that never was; and a
folder has one owner."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_workers import small_config, state_of, tiny_network, write_people

from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.training import run as run_module
from simplepose.training import start
from simplepose.training.distributed import World
from simplepose.training.folder import own_folder
from simplepose.training.step import TrainStep
from simplepose.training.train import train

PER_EPOCH, EPOCHS = 3, 2


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("data") / "people", 11)


def config_of(data: Path, output: Path, **train: Any) -> Config:
    config = small_config(
        data,
        output,
        **{"epochs": EPOCHS, "drop_epochs": [1], "evaluate_every": 1, "device": "cpu", **train},
    )
    held_out = {"val_annotations": str(data / "people.json"), "val_images": str(data)}
    return replace(config, data=replace(config.data, **held_out))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run that nobody stops."""
    config = config_of(data, tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "PoseNetwork", tiny_network)
        train(config)
    return config


def records(config: Config) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock says."""
    lines = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    clocks = {"time", "seconds", "samples_per_second", "evaluation_seconds"}
    return [
        {name: value for name, value in json.loads(line).items() if name not in clocks}
        for line in lines
    ]


def same_end(config: Config, whole: Config) -> None:
    assert records(config) == records(whole)
    mine, other = state_of(config), state_of(whole)
    assert mine["position"] == other["position"]
    assert all(
        torch.equal(mine["network"][name], other["network"][name]) for name in mine["network"]
    )


def test_an_unbroken_run_has_a_loss_and_an_evaluation_an_epoch(whole: Config) -> None:
    kinds = [(one["step"], "loss" in one, "AP" in one) for one in records(whole)]
    assert kinds == [(3, True, False), (3, False, True), (6, True, False), (6, False, True)]


@pytest.mark.parametrize("every_minutes", [0.0, 1e-9])
@pytest.mark.parametrize("step", range(PER_EPOCH * EPOCHS))
def test_a_stop_at_any_step_loses_no_record(
    data: Path,
    tmp_path: Path,
    whole: Config,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    every_minutes: float,
) -> None:
    """Also where `last` is written after every step."""
    config = config_of(data, tmp_path / "run", save_every_minutes=every_minutes)
    plain = TrainStep.__call__

    def interrupted(self: TrainStep, batch: Any, rate: float, updates_done: int) -> torch.Tensor:
        if updates_done == step:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, batch, rate, updates_done)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainStep, "__call__", interrupted)
        train(config)
    assert state_of(config)["position"]["step"] == step + 1
    train(replace(config, resume=True))
    same_end(config, whole)


@pytest.mark.parametrize("number", range(1, 2 * EPOCHS + 1))
def test_a_kill_before_any_state_is_written_loses_no_record(
    data: Path, tmp_path: Path, whole: Config, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The states follow an epoch's record, an evaluation's record, and so on."""
    config = config_of(data, tmp_path / "run")
    plain, written = run_module.save_state, []

    def killed(*arguments: Any) -> None:
        written.append(1)
        if len(written) == number:
            raise KeyboardInterrupt
        plain(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "save_state", killed)
        train(config)
    assert len(records(config)) == number, "the record was not there yet: the test tests nothing"
    train(replace(config, resume=number > 1))
    same_end(config, whole)


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_training_in_the_folder_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    config = config_of(data, tmp_path / "run", epochs=1, drop_epochs=[])
    if resume:
        train(config)
    before = {path: path.read_bytes() for path in tmp_path.glob("run/*.*") if path.is_file()}
    with own_folder(replace(config, resume=resume), World()), pytest.raises(UserError) as error:
        train(replace(config, resume=resume))
    said = str(error.value)
    assert str(os.getpid()) in said and socket.gethostname() in said
    assert str(config.run_folder) in said and "--output" in said
    assert all(path.read_bytes() == content for path, content in before.items())
    train(replace(config, resume=resume))
    assert not (config.run_folder / ".owner").exists()


def hold(config: Config, ready: Any) -> None:
    with own_folder(config, World()):
        ready.set()
        signal.pause()


def test_an_owner_that_dies_gives_the_folder_free(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "run", epochs=1, drop_epochs=[])
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    owner = context.Process(target=hold, args=(config, ready))
    owner.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match=str(owner.pid)):
        train(config)
    owner.kill()
    owner.join()
    train(config)
    assert (config.run_folder / "checkpoints" / "last.safetensors").exists()


def test_a_run_that_is_refused_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path / "run")
    absent = replace(config.data, train_annotations=str(tmp_path / "absent.json"))
    with pytest.raises(UserError, match=r"absent\.json"):
        train(replace(config, data=absent))
    assert not config.run_folder.exists()
