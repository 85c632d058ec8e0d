"""What training takes of a device's memory, measured before a cache of pixels takes the rest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from simplepose.config import Config
from simplepose.core.device import autocast, is_accelerator, peak_memory
from simplepose.data.annotations import Annotations
from simplepose.data.loader import Batch, Regions
from simplepose.training.distill import Teacher
from simplepose.training.step import TrainStep


def training_need(
    make_step: Callable[..., TrainStep],
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    people: Annotations,
    config: Config,
    device: torch.device,
    precision: str,
    teacher: Teacher | None,
) -> int | None:
    """Makes two steps on black crops and a test's forward pass, with copies of network and
    optimiser: the second step is the first that finds the optimiser's state beside its activations.

    Args:
        make_step: `TrainStep`, or what takes the same arguments.
        network: on the device, not changed.
        optimizer: over its parameters, not changed.
        people: samples of the training.
        config: the run.
        device: where it trains.
        precision: `fp32` or `bf16`.
        teacher: whose maps are part of the target.

    Returns:
        Bytes beside those of the network: at least what a run takes that compiles its step, as the
        copies run as written and their weights count too. All memory where a step did not fit; None
        where no cache asks for the device's memory, or the device cannot tell.
    """
    if not is_accelerator(device) or config.data.cache not in ("auto", "device"):
        return None
    options, size_wh = config.train, config.input_size_wh
    count = max(min(options.batch_size, len(people)), 1)

    def work() -> None:
        own, updates = copy.deepcopy((network, optimizer))
        as_written = replace(config, train=replace(options, compile="off"))
        step = make_step(own.train(), updates, as_written, device, precision, teacher)
        nothing = torch.zeros(count, 2, 3, device=device)
        places = nothing[:, 0].long()
        buffer = torch.zeros(1, 3, dtype=torch.uint8, device=device)
        crops = Regions(buffer, places[:, 0], places[:, :2], nothing, size_wh)
        points = torch.zeros(count, *people.keypoints.shape[1:], device=device)
        seen = torch.ones_like(points[..., 0], dtype=torch.uint8)
        for update in range(2):
            batch = Batch(crops, points, seen, np.arange(count)).to(device)
            step(batch, options.learning_rate, update)
        if options.evaluate_every:
            pixels = torch.zeros(2 * config.evaluate.batch_size, 3, *size_wh[::-1], device=device)
            with torch.no_grad(), autocast(device, precision):
                own.eval()(pixels)

    need = peak_memory(work, device)
    # A short last batch runs beside a device graph, which keeps its memory.
    return need * 2 if need and options.compile == "graphs" else need
