"""The training step as a compiler sees it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from simplepose.config import load_preset
from simplepose.pixels import PixelConfig
from simplepose.training.optimizer import make_optimizer
from simplepose.training.step import TrainStep


@pytest.mark.parametrize(
    ("kind", "pixels"), [("heatmap", PixelConfig()), ("softmax", PixelConfig(channel_order="bgr", mean=(1, 2, 3), std=(1, 1, 1)))]
)
def test_a_compiler_sees_one_graph_from_bytes_to_loss(kind: Any, pixels: PixelConfig) -> None:
    preset = load_preset("coco_r18_128x96_mini")
    config = replace(preset, input_size_wh=(32, 64), codec=replace(preset.codec, kind=kind), pixels=pixels)
    network = torch.nn.Conv2d(3, 17, 5, 4, 2)
    step = TrainStep(network, make_optimizer(network, config.train), config, torch.device("cpu"), "fp32")
    batch = (
        torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8), torch.rand(2, 17, 2) * 32, torch.ones(2, 17, dtype=torch.bool)
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = torch._dynamo.explain(step.loss)(*batch)
    assert (seen.graph_count, seen.graph_break_count) == (1, 0), seen.break_reasons
    compiled = torch.compile(step.loss, backend="aot_eager")(*batch)
    torch.testing.assert_close(compiled, step.loss(*batch), rtol=1e-6, atol=0)
