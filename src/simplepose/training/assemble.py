"""All parts of a training, put together from a configuration: what `train` and `train --profile` have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from simplepose.config import Config
from simplepose.core.device import (
    has_fused_optimizer,
    is_accelerator,
    resolve_precision,
    seed_everything,
    tune_for_fixed_sizes,
)
from simplepose.core.settings import to_plain
from simplepose.data.annotations import Annotations
from simplepose.data.cache import open_pixels
from simplepose.data.loader import TrainLoader, owners
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.network import PoseNetwork
from simplepose.training.distill import load_teacher
from simplepose.training.distributed import Processes, wrap
from simplepose.training.ema import Ema
from simplepose.training.first_weights import load_first_weights
from simplepose.training.optimizer import make_optimizer
from simplepose.training.step import TrainStep


@dataclass(frozen=True, slots=True)
class Parts:
    """A training that is ready to go."""

    network: PoseNetwork
    """The network itself, on the device."""
    ema: Ema | None
    """Its moving average, if there is one."""
    step: TrainStep
    """One update."""
    optimizer: torch.optim.Optimizer
    """Over the network's parameters."""
    loader: TrainLoader
    """This process's batches."""
    spec: ModelSpec
    """What its weight files say."""
    precision: str
    """`fp32` or `bf16`."""
    pixels: str
    """Where the pixels come from, and why."""


def assemble(
    config: Config,
    people: Annotations,
    device: torch.device,
    who: Processes,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Parts:
    """Seeds, network, optimiser, step and loader.

    Args:
        config: the run.
        people: trainable people.
        device: where to train.
        who: which of how many processes.
        say: takes sentences for people.
        progress: called while a cache of pixels is filled.
    """
    seed_everything(config.train.seed)
    tune_for_fixed_sizes(device)
    precision = resolve_precision(config.train.precision, device)
    network = PoseNetwork(config.model, len(people.schema), config.input_size_wh)
    spec = ModelSpec(
        preset=config.preset,
        schema=people.schema,
        input_size_wh=config.input_size_wh,
        pixels=config.pixels,
        codec=config.codec,
        model=config.model,
        config=to_plain(config),
    )
    for sentence in [] if config.resume else load_first_weights(network, people.schema, config):
        say(sentence)
    if config.train.frozen_stages:
        network.freeze(config.train.frozen_stages)
    network.to(device)
    if config.train.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    wrapped = wrap(network, who, device, sync_batch_norm=config.train.sync_batch_norm)
    if who.rank:
        torch.manual_seed(
            config.train.seed + who.rank
        )  # all began with the same weights; colours and cut-outs are each process's own
    teacher = load_teacher(
        config, people.schema, device
    )  # before minutes of reading pictures: it may not fit
    # The references' Adam keeps its plain form on the host, where the fused one would change last bits for a few percent of time.
    fused = has_fused_optimizer(device) or (
        config.train.optimizer == "adamw" and not is_accelerator(device)
    )
    optimizer = make_optimizer(network, config.train, device_count=who.count, fused=fused or None)
    mine = owners(people.image_index, who.count) == who.rank
    source, warp_on_device, sentence = open_pixels(
        config.data,
        people,
        config.augment,
        config.input_size_wh,
        device,
        udp=config.codec.udp,
        rows=np.flatnonzero(mine) if config.data.shard else None,
        progress=progress,
    )
    say(f"pixels: {sentence}")
    loader = TrainLoader(
        people,
        config.augment,
        input_size_wh=config.input_size_wh,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        workers=config.data.threads,
        udp=config.codec.udp,
        skip_broken=config.data.skip_broken,
        fill=config.train.last_batch == "fill",
        source=source,
        device=device,
        warp_on_device=warp_on_device,
        rank=who.rank,
        world_size=who.count,
        apart=config.data.shard,
    )
    ema = Ema(network, config.train.ema) if config.train.ema else None
    step = TrainStep(wrapped, optimizer, config, device, precision, teacher)
    return Parts(network, ema, step, optimizer, loader, spec, precision, sentence)
