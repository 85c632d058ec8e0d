"""`simplepose train PRESET --profile`: where the time of a step goes, and what to change about
it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import torch

from simplepose.config import Config
from simplepose.core.device import choose_device, is_accelerator, synchronize
from simplepose.data.loader import Batch, TrainLoader
from simplepose.training.distributed import join_world
from simplepose.training.start import assemble, read_training

WARM_UP, MEASURED = 3, 20
"""Steps that are not counted, and steps that are."""
PARTS = ("wait for data", "copy and cut", "forward", "backward", "optimiser")


@dataclass(frozen=True)
class Profile:
    """Where the time of the measured steps went."""

    seconds: dict[str, float]
    """Part of a step -> mean seconds a step."""
    samples_per_second: float
    """With the device waited for after every part; without that it is a little more."""
    device: str
    """Where it ran."""
    pixels: str
    """Where the pixels came from, and why."""

    def fraction(self, *parts: str) -> float:
        """How much of a step some parts take, 0..1."""
        return sum(self.seconds[part] for part in parts) / sum(self.seconds.values())

    def bottleneck(self) -> str:
        """One sentence: which part is the bottleneck, and what to change."""
        data, copy = self.fraction("wait for data"), self.fraction("copy and cut")
        if data > 0.1:
            return (
                f"The bottleneck is the loader: the device stands idle {data:.0%} of the time; "
                "let --data.workers be the number of cores, or keep decoded pixels with "
                "--data.cache ram or device, or run simplepose pack."
            )
        if copy > 0.1:
            return (
                f"The bottleneck is bringing pixels to the device ({copy:.0%}); keep them there "
                "with --data.cache device, or let the host cut crops with --data.warp host."
            )
        if (optimiser := self.fraction("optimiser")) > 0.2:
            return (
                f"The optimiser takes {optimiser:.0%}; raise --train.batch-size, so that it works "
                "less often."
            )
        return (
            f"The bottleneck is the network ({self.fraction('forward', 'backward'):.0%} forward "
            "and backward), as it should be; what is left is --train.precision bf16, "
            "--train.compile on, a larger --train.batch-size, or more devices (docs/scale.md)."
        )

    def report(self) -> list[str]:
        """The table and the sentence."""
        lines = [
            f"{part:<14}{seconds * 1e3:10.2f} ms {self.fraction(part):6.1%}"
            for part, seconds in self.seconds.items()
        ]
        speed = f"{self.samples_per_second:.1f} samples/s on {self.device}"
        return [f"pixels: {self.pixels}", *lines, speed, self.bottleneck()]


@dataclass
class Watch:
    """Stops the time after each part of a step, when the device has done it."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    last: float = field(default_factory=time.perf_counter)

    def mark(self, part: str) -> None:
        """Adds the time since the part before to `part`."""
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now


def profile(config: Config) -> Profile:
    """Trains a few steps with a stop watch around every part; the run folder is not touched.

    Args:
        config: the run.

    Raises:
        UserError: anything `train` refuses about the data.
    """
    device = choose_device(config.train.device)
    with join_world(device, timeout_minutes=config.train.timeout_minutes) as world:
        people = read_training(config)
        parts = assemble(config, people, device, world, say=lambda sentence: None)
        parts.network.train()
        watch, samples = Watch(device), 0
        batches = islice(endless(parts.loader), WARM_UP + MEASURED)
        for step, batch in enumerate(batches):
            if step == WARM_UP:
                watch, samples = Watch(device, last=watch.last), 0
            parts.step.mark = watch.mark
            watch.mark("wait for data")
            on_device = batch.to(device, parts.step.cut)
            watch.mark("copy and cut")
            parts.step(on_device, config.train.learning_rate, step)
            samples += len(batch.rows) * world.size
        seconds = {part: value / MEASURED for part, value in watch.seconds.items()}
        host = "" if is_accelerator(device) else " (the processor plays both parts)"
        speed = samples / sum(watch.seconds.values())
        return Profile(seconds, speed, f"{device}{world}{host}", parts.pixels)


def endless(loader: TrainLoader) -> Iterator[Batch]:
    """The batches of one epoch after another.

    Raises:
        UserError: no picture of an epoch can be read.
    """
    for epoch in count():
        batch = None
        for batch in loader.epoch(epoch):
            yield batch
        if batch is None:
            raise loader.no_picture(epoch)
