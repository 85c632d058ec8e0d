"""The training step as a compiler sees it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from simplepose.config import PixelConfig, load_preset
from simplepose.data.loader import Batch, Regions
from simplepose.pose import pixels as pixel_constants
from simplepose.training.distributed import World, wrap
from simplepose.training.schedule import make_optimizer
from simplepose.training.step import Ema, TrainStep


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("heatmap", PixelConfig()),
        ("softmax", PixelConfig(channel_order="bgr", mean=(1, 2, 3), std=(1, 1, 1))),
    ],
)
def test_a_compiler_sees_one_graph_from_bytes_to_loss(kind: Any, pixels: PixelConfig) -> None:
    preset = load_preset("coco_r18_128x96_mini")
    config = replace(
        preset, input_size_wh=(32, 64), codec=replace(preset.codec, kind=kind), pixels=pixels
    )
    network = torch.nn.Conv2d(3, 17, 5, 4, 2)
    step = TrainStep(
        network, make_optimizer(network, config.train), config, torch.device("cpu"), "fp32"
    )
    batch = (
        torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8),
        torch.rand(2, 17, 2) * 32,
        torch.ones(2, 17, dtype=torch.bool),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = torch._dynamo.explain(step.loss)(*batch)
    assert (seen.graph_count, seen.graph_break_count) == (1, 0), seen.break_reasons
    compiled = torch.compile(step.loss, backend="aot_eager")(*batch)
    torch.testing.assert_close(compiled, step.loss(*batch), rtol=1e-6, atol=0)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[World]:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield World(size=2)  # as far as wrapping goes
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_batches_are_compiled_once_and_short_ones_not_at_all(
    wrapped: bool, process_group: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaging over processes is around the compiled step and breaks no graph of it."""
    real, counts = torch.compile, CompileCounterWithBackend("eager")
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **options: real(function, dynamic=options.get("dynamic"), backend=counts),
    )
    monkeypatch.setattr(torch.compiler, "reset", lambda: pytest.fail("others compile too"))
    pixel_constants._made.clear()
    preset = load_preset("coco_r18_128x96_mini_modern")
    config = replace(
        preset, input_size_wh=(32, 64), train=replace(preset.train, batch_size=4, compile="on")
    )
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 17, 5, 4, 2), torch.nn.BatchNorm2d(17))
    device, around = torch.device("cpu"), lambda module: module
    if wrapped:
        around = partial(wrap, world=process_group, device=device, sync_batch_norm=False)
    optimizer = make_optimizer(network, config.train)
    step = TrainStep(network, optimizer, config, device, "fp32", wrap=around)
    for count, graphs in ((4, 2), (4, 2), (2, 2), (4, 2)):  # one of the warp and one of the loss
        regions = Regions(
            torch.randint(0, 256, (30 * count, 3), dtype=torch.uint8),
            torch.arange(count) * 30,
            torch.tensor([[5, 6]] * count),
            torch.eye(2, 3).expand(count, 2, 3),
            config.input_size_wh,
        )
        keypoints, visible = torch.rand(count, 17, 2) * 32, torch.ones(count, 17, dtype=torch.bool)
        batch = Batch(regions, keypoints, visible, np.arange(count)).to(step.device, step.cut)
        assert torch.equal(batch.pixels, regions.warp())  # type: ignore[arg-type]
        step(batch, 1e-3, 0)
        assert counts.frame_count == graphs, count


def test_an_average_of_weights_is_a_handful_of_operations() -> None:
    """Lists of tensors, made once: few launches on an accelerator, and the definition's numbers."""

    class Counted(TorchDispatchMode):
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    network = torch.nn.Sequential(
        *(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3)) for _ in range(9))
    )
    ema, wanted = Ema(network, 0.9), [value.clone() for value in network.state_dict().values()]
    for update in range(3):
        for value in network.state_dict().values():
            value.add_(1)
        decay = min(0.9, (1 + update) / (10 + update))
        for own, new in zip(wanted, network.state_dict().values(), strict=True):
            own.copy_(own.lerp(new, 1 - decay) if own.is_floating_point() else new)
        Counted.names.clear()
        with Counted():
            ema.update(network)
    assert len(Counted.names) <= 4, Counted.names
    for own, found in zip(wanted, ema.network.state_dict().values(), strict=True):
        torch.testing.assert_close(found, own, rtol=1e-6, atol=1e-6)
    other = copy.deepcopy(network)
    other.load_state_dict({name: 0 * value for name, value in other.state_dict().items()})
    before = ema.network.state_dict()["0.0.weight"].clone()
    ema.update(other)
    assert not torch.equal(ema.network.state_dict()["0.0.weight"], before)
