"""What is measured before a cache takes the rest of a device's memory is what a training takes. The processor stands in for the device; its tensors are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simplepose.config import Config, load_preset
from simplepose.core.device import peak_memory
from simplepose.synthetic.dataset import write_synthetic_dataset
from simplepose.training import memory, start
from simplepose.training.distributed import World

CPU = torch.device("cpu")


class Living(TorchDispatchMode):
    """Counts the bytes of tensors that are made within, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = set(map(self.key, tree_leaves((args, kwargs))))
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if (key := self.key(tensor)) and key not in self.known | given:
                storage = tensor.untyped_storage()
                self.known.add(key)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self.freed, key, storage.nbytes())
        return out

    @staticmethod
    def key(value: Any) -> int:
        return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else 0

    def freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def counted(work: Callable[[], object], device: torch.device) -> int:
    with Living() as living:
        work()
    return living.peak


def config(folder: Path, preset: str, **train: Any) -> Config:
    write_synthetic_dataset(folder, train_people=24, val_people=1)
    made = load_preset(preset)
    return replace(
        made,
        input_size_wh=(96, 128),
        data=replace(made.data, root=str(folder), cache="device"),
        model=replace(made.model, init=""),
        train=replace(made.train, device="cpu", batch_size=4, precision="fp32", **train),
    )


@pytest.mark.parametrize(
    ("preset", "train"),
    [
        ("coco_r18_128x96_narrow_mini", {}),
        ("coco_r18_128x96_narrow_mini", {"frozen_stages": 2, "quantize": True, "accumulate": 2}),
        ("person_lite0_320", {"ema": 0.9}),
    ],
)
def test_the_need_is_that_of_real_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, train: dict[str, Any]
) -> None:
    needs: list[int | None] = []
    plain = memory.training_need

    def noted(*parts: Any) -> int | None:
        needs.append(plain(*parts))
        return needs[-1]

    monkeypatch.setattr(memory, "peak_memory", counted)
    monkeypatch.setattr(memory, "is_accelerator", lambda device: True)
    monkeypatch.setattr(start, "training_need", noted)
    run = config(tmp_path / "data", preset, evaluate_every=0, **train)
    parts = start.assemble(run, start.read_training(run), CPU, World(), say=lambda text: None)
    parts.network.train()
    batches = parts.loader.epoch(0)

    def steps() -> None:
        for update in range(2):
            batch = next(batches).to(CPU, parts.step.cut)
            assert len(batch.rows) == run.train.batch_size
            parts.step(batch, 1e-3, update)

    real = counted(steps, CPU)
    weights = sum(weight.nbytes for weight in parts.network.state_dict().values())
    assert needs[0] is not None
    assert real <= needs[0]
    assert needs[0] == pytest.approx(real + weights, rel=0.02)  # the copies have weights as well


def test_graphs_a_test_and_who_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(tmp_path / "data", "coco_r18_128x96_narrow_mini", evaluate_every=0)
    people = start.read_training(run)
    network = start.PoseNetwork(run.model, 17, run.input_size_wh)
    optimizer = start.make_optimizer(network, run.train)

    def need(run: Config) -> int | None:
        parts = (start.TrainStep, network, optimizer, people, run, CPU, "fp32", None)
        return memory.training_need(*parts)

    monkeypatch.setattr(memory, "peak_memory", counted)
    assert need(run) is None
    monkeypatch.setattr(memory, "is_accelerator", lambda device: True)
    assert need(replace(run, data=replace(run.data, cache="ram"))) is None
    once = need(run)
    assert once
    assert need(replace(run, train=replace(run.train, compile="graphs"))) == 2 * once
    tested = replace(
        run,
        train=replace(run.train, evaluate_every=1),
        evaluate=replace(run.evaluate, batch_size=32),
    )
    assert (need(tested) or 0) > once
    monkeypatch.setattr(memory, "peak_memory", peak_memory)  # a processor counts nothing
    assert need(run) is None
