"""Snapshots of the seed with every variable that it saves import, and Adam goes on from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import seed_snapshot
import torch
from seed_snapshot import (
    SMALL_PRESET,
    TensorFlowAdam,
    as_torch,
    powers,
    small_snapshot,
    torch_names,
)
from tf_checkpoint_writer import write_v1, write_v2

from simplepose.cli import main
from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.pose.checkpoints import load_model
from simplepose.pose.network import PoseNetwork
from simplepose.training import snapshot as snapshot_module
from simplepose.training.schedule import learning_rate_at, make_optimizer, set_update
from simplepose.training.snapshot import check_snapshot, continue_snapshot
from simplepose.weights.tensorflow import count_updates, read_adam
from simplepose.weights.weight_file import load_into, load_weight_file

WRITERS = pytest.mark.parametrize("write", [write_v1, write_v2])
PER_EPOCH = 6


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", seed_snapshot.SMALL_WIDTHS)


@pytest.fixture(scope="module")
def late() -> dict[str, np.ndarray]:
    """After 100 epochs of COCO, 468,200 updates: both powers have underflowed."""
    return small_snapshot(90_000, 5e-5, spread=6)


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "coco_small_tf.yaml"
    path.write_text(SMALL_PRESET)
    return path


@pytest.fixture
def config_of(preset: Path) -> Callable[..., Config]:
    def make(path: Path | str, **train: object) -> Config:
        config = load_preset(str(preset))
        return replace(config, train=replace(config.train, continue_from=str(path), **train))

    return make


def test_the_list_is_whole() -> None:
    """170 trained variables with two slots each, 112 moving statistics, 3 scalars, no others."""
    shapes = seed_snapshot.listed_shapes()
    names = torch_names()
    trained = [name for name in names if "moving" not in name]
    slots = [name + slot for name in trained for slot in ("/Adam", "/Adam_1")]
    assert set(shapes) == {*names, *slots, "Variable", "beta1_power", "beta2_power"}
    assert all(shapes[name] == shapes[name.partition("/Adam")[0]] for name in slots)


@WRITERS
def test_the_whole_snapshot_imports(
    tmp_path: Path, preset: Path, late: dict, write: Callable, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "snapshot_100.ckpt", late)
    arguments = ["import", str(tmp_path / "snapshot_100.ckpt"), "--as", str(preset)]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "scalar" in line and line.endswith(": Variable")]
    state = load_model(tmp_path / "run").network.state_dict()
    names = torch_names()
    assert {name for name in state if not name.endswith("num_batches_tracked")} == set(
        names.values()
    )
    for theirs, ours in names.items():
        assert np.array_equal(state[ours].numpy(), as_torch(late[theirs])), theirs


def test_unknown_scalars_and_unknown_tensors(tmp_path: Path, late: dict) -> None:
    odd = late | {"odd_scalar": np.array(3, np.int32)}
    write_v2(tmp_path / "a.ckpt", odd)
    assert set(load_weight_file(tmp_path / "a.ckpt").unknown_scalars) == {"Variable", "odd_scalar"}
    write_v2(tmp_path / "b.ckpt", odd | {"odd_tensor": np.zeros(1, np.float32)})
    with pytest.raises(UserError, match=r"b\.ckpt.* odd_tensor"):
        load_weight_file(tmp_path / "b.ckpt")


@pytest.mark.parametrize("updates", [0, 1, 6, 827, 828, 829, 4682, 50_001, 87_000])
def test_updates_are_counted_exactly(updates: int) -> None:
    first, second = powers(updates)
    assert count_updates(float(first), float(second), "x") == (updates, False)


@pytest.mark.parametrize("beta2_power", [0.0, 1e-45, 5.6e-45, 1e-39])
def test_underflow_is_no_count(beta2_power: float) -> None:
    """Zero where the processor flushes small numbers, a few denormal ones where it does not."""
    updates, underflowed = count_updates(0.0, beta2_power, "x")
    assert underflowed and 87_000 < updates < 87_500
    assert np.sqrt(1 - 0.999**updates) / (1 - 0.9**updates) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.9, 1.3),
        (0.9, -0.5),
        (np.nan, np.nan),
        (0.81, 0.99),
        (0.5, 0.999),
        (0.5, 0.0),
        (0.0, 0.999),
    ],
)
def test_powers_of_another_optimiser(first: float, second: float) -> None:
    with pytest.raises(UserError, match=r"s\.ckpt.*beta2_power.*--train\.weights"):
        count_updates(first, second, "s.ckpt")


@pytest.mark.parametrize(
    ("name", "updates", "epoch", "rate", "write"),
    [
        ("snapshot_1.ckpt", PER_EPOCH, 1, 5e-4, write_v2),
        ("snapshot_100.ckpt", 90_000, 100, 5e-5, write_v1),
        ("snapshot_119.ckpt", 1000, 119, 5e-5, write_v2),  # made with another batch size
        ("last.ckpt", 125 * PER_EPOCH, 125, 5e-6, write_v1),  # Adam's count tells the epoch
    ],
)
def test_the_next_updates_are_tensorflows(
    tmp_path: Path,
    config_of: Callable[..., Config],
    name: str,
    updates: int,
    epoch: int,
    rate: float,
    write: Callable,
) -> None:
    """Seven updates, over an epoch's end, from m, v and count of the file.

    Some gradients are as small as epsilon. In double precision, where nothing hides in rounding.
    """
    snapshot = small_snapshot(updates, rate, spread=6)
    write(tmp_path / name, snapshot)
    config, said = config_of(tmp_path / name), []
    check_snapshot(config)
    network = PoseNetwork(config.model, 17)
    load_into(network, load_weight_file(tmp_path / name))
    network.double().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, config.train)
    position = continue_snapshot(network, optimizer, config, PER_EPOCH, say=said.append)
    assert position.step == epoch * PER_EPOCH
    assert ("another batch size" in " ".join(said)) == (updates in (1000, 90_000))
    expected, rng = TensorFlowAdam(snapshot, updates), np.random.default_rng(3)
    parameters, names = dict(network.named_parameters()), torch_names()
    for step in range(position.step, position.step + 7):
        gradients = {}
        for theirs in expected.weights:
            size = np.sqrt(snapshot[f"{theirs}/Adam_1"])
            gradients[theirs] = rng.normal(size=size.shape) * size
            parameters[names[theirs]].grad = torch.tensor(as_torch(gradients[theirs]))
        now = learning_rate_at(config.train, step, PER_EPOCH)
        assert now == pytest.approx(5e-6 if (step + 1) // PER_EPOCH >= 120 else rate)
        expected.update(gradients, now)
        set_update(optimizer, now, step + position.adam_offset, config.train.adam_epsilon)
        optimizer.step()
    for theirs, weights in expected.weights.items():
        parameter = parameters[names[theirs]]
        state = optimizer.state[parameter]
        for found, wanted in (
            (parameter.detach().numpy(), weights),
            (state["exp_avg"].numpy(), expected.m[theirs]),
            (state["exp_avg_sq"].numpy(), expected.v[theirs]),
        ):
            size = np.abs(wanted).max()
            np.testing.assert_allclose(found, as_torch(wanted), rtol=1e-11, atol=1e-15 * size)


def without(late: dict, ending: str) -> dict:
    return {name: array for name, array in late.items() if not name.endswith(ending)}


@pytest.mark.parametrize("ending", ["/Adam", "/Adam_1", "out/biases/Adam_1", "beta2_power"])
def test_a_snapshot_without_slots(
    config_of: Callable[..., Config], late: dict, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "read_checkpoint", lambda path: without(late, ending))
    with pytest.raises(UserError, match=rf"snapshot_100\.ckpt.*{ending}.*--train\.weights"):
        check_snapshot(config_of("snapshot_100.ckpt"))


@WRITERS
def test_a_partitioned_snapshot(
    tmp_path: Path, config_of: Callable[..., Config], write: Callable
) -> None:
    few = {"out/weights": np.zeros((1, 1, 8, 17), np.float32)}
    write(tmp_path / "snapshot_100.ckpt", few, partitioned=True)
    with pytest.raises(UserError, match=r"snapshot_100\.ckpt.*out/weights.*partition"):
        check_snapshot(config_of(tmp_path / "snapshot_100.ckpt"))


@pytest.mark.parametrize(
    ("name", "train", "words"),
    [
        ("absent.ckpt", {}, r"absent\.ckpt"),
        ("network.pth", {}, r"network\.pth.*--train\.weights"),
        ("snapshot_100.ckpt", {"weights": "w.pth"}, r"train\.weights w\.pth.*train\.continue_from"),
        ("snapshot_100.ckpt", {"epochs": 100, "drop_epochs": (90,)}, "100 epochs.*--train.epochs"),
        ("snapshot_100.ckpt", {"continue_epoch": 140}, "140 epochs.*--train.epochs"),
        ("snapshot_100.ckpt", {"optimizer": "adamw"}, r"--train\.optimizer adam"),
        ("snapshot_100.ckpt", {"adam_epsilon": "torch"}, r"--train\.adam-epsilon tf"),
    ],
)
def test_mistakes(
    tmp_path: Path, config_of: Callable[..., Config], late: dict, name: str, train: dict, words: str
) -> None:
    write_v2(tmp_path / "snapshot_100.ckpt", late)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "network.pth")
    with pytest.raises(UserError, match=words):
        check_snapshot(config_of(tmp_path / name, **train))


def test_another_family(tmp_path: Path, late: dict) -> None:
    write_v2(tmp_path / "snapshot_100.ckpt", late)
    config = load_preset("coco_r50_256x192_ms")
    train = replace(config.train, continue_from=str(tmp_path / "snapshot_100.ckpt"))
    with pytest.raises(UserError, match=r"snapshot_100\.ckpt.*--pixels\.mean 123\.68 .*_tf"):
        check_snapshot(replace(config, train=train))


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("d/snapshot_100.ckpt", 100),
        ("snapshot_7.ckpt.index", 7),
        ("snapshot_140.ckpt.data-00000-of-00001", 140),
        ("snapshot_best.ckpt", None),
        ("my_snapshot_3.ckpt", None),
        ("model.ckpt-3", None),
    ],
)
def test_the_epoch_in_a_name(name: str, epoch: int | None) -> None:
    assert snapshot_module.epoch_of_name(name) == epoch


def test_an_epoch_without_a_snapshot() -> None:
    config = load_preset("coco_r50_256x192_tf")
    for epoch, words in ((3, r"train\.continue_from"), (-1, r"train\.continue_epoch is -1")):
        with pytest.raises(UserError, match=words):
            replace(config.train, continue_epoch=epoch)


@pytest.mark.parametrize(
    ("updates", "given", "epoch"),
    [(90_000, None, None), (7, None, None), (90_000, 99, 99), (7, 3, 3)],
)
def test_a_name_without_an_epoch(
    config_of: Callable[..., Config],
    updates: int,
    given: int | None,
    epoch: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the name nor Adam's count tells it: it must be given."""
    snapshot = small_snapshot(updates, 5e-4)
    monkeypatch.setattr(snapshot_module, "read_checkpoint", lambda path: snapshot)
    config = config_of("model.ckpt", continue_epoch=given)
    check_snapshot(config)
    network = PoseNetwork(config.model, 17)
    optimizer = make_optimizer(network, config.train)
    if epoch is None:
        with pytest.raises(UserError, match=r"model\.ckpt.*--train\.continue-epoch"):
            continue_snapshot(network, optimizer, config, PER_EPOCH, say=lambda sentence: None)
        return
    position = continue_snapshot(network, optimizer, config, PER_EPOCH, say=lambda sentence: None)
    assert position.step == epoch * PER_EPOCH


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("out/biases/Adam", np.full(17, np.nan, np.float32)),
        ("out/biases/Adam_1", np.full(17, -1, np.float32)),
        ("out/biases/Adam_1", np.zeros(16, np.float32)),
    ],
)
def test_slots_that_adam_cannot_have_made(late: dict, name: str, array: np.ndarray) -> None:
    with pytest.raises(UserError, match=rf"s\.ckpt.*{name}"):
        read_adam(late | {name: array}, "s.ckpt")
