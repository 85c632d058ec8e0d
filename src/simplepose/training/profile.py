"""`simplepose train PRESET --profile`: where the time of a step goes, and what to change about it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from simplepose.config import Config
from simplepose.core.device import choose_device, is_accelerator, synchronize
from simplepose.data.source import read_split
from simplepose.training.assemble import assemble
from simplepose.training.distributed import processes

WARM_UP, MEASURED = 3, 20
"""Steps that are not counted, and steps that are."""
PARTS = ("wait for data", "copy and cut", "forward", "backward", "optimiser")


@dataclass(frozen=True, slots=True)
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

    def wall(self) -> str:
        """One sentence: which part is the wall, and what to change."""
        total = sum(self.seconds.values())
        share = {part: seconds / total for part, seconds in self.seconds.items()}
        network = share["forward"] + share["backward"]
        if share["wait for data"] > 0.1:
            return (
                f"The wall is the loader: the device stands idle {share['wait for data']:.0%} of the time; let --data.workers be "
                "the number of cores, or keep decoded pixels with --data.cache ram or device, or run simplepose pack."
            )
        if share["copy and cut"] > 0.1:
            return (
                f"The wall is bringing pixels to the device ({share['copy and cut']:.0%}); keep them there with --data.cache device, or let the host "
                "cut crops with --data.warp host."
            )
        if share["optimiser"] > 0.2:
            return f"The optimiser takes {share['optimiser']:.0%}; raise --train.batch-size, so that it works less often."
        return (
            f"The wall is the network ({network:.0%} forward and backward), as it should be; what is left is --train.precision bf16, "
            "--train.compile on, a larger --train.batch-size, or more devices (docs/scale.md)."
        )

    def report(self) -> list[str]:
        """The table and the sentence."""
        total = sum(self.seconds.values())
        lines = [
            f"{part:<14}{seconds * 1e3:10.2f} ms {seconds / total:6.1%}"
            for part, seconds in self.seconds.items()
        ]
        return [
            f"pixels: {self.pixels}",
            *lines,
            f"{self.samples_per_second:.1f} samples/s on {self.device}",
            self.wall(),
        ]


def profile(config: Config) -> Profile:
    """Trains a few steps with a stop watch around every part; the run folder is not touched.

    Args:
        config: the run.

    Raises:
        UserError: anything `train` refuses about the data.
    """
    device = choose_device(config.train.device)
    with processes(device, timeout_minutes=config.train.timeout_minutes) as who:
        people = read_split(config.data, "train").trainable()
        parts = assemble(config, people, device, who, say=lambda sentence: None)
        parts.network.train()
        seconds = dict.fromkeys(PARTS, 0.0)
        last = 0.0

        def mark(part: str) -> None:
            nonlocal last
            synchronize(device)
            now = time.perf_counter()
            seconds[part] += now - last
            last = now

        parts.step.mark = mark
        done = seen = 0
        while done < WARM_UP + MEASURED:
            last, before = time.perf_counter(), done
            for batch in parts.loader.epoch(done):
                if done == WARM_UP:
                    seconds.update(dict.fromkeys(PARTS, 0.0))
                    seen = 0
                mark("wait for data")
                on_device = batch.to(device, parts.step.cut)
                mark("copy and cut")
                parts.step(on_device, config.train.learning_rate, done)
                done += 1
                seen += len(batch.rows) * who.count
                if done == WARM_UP + MEASURED:
                    break
            if done == before:
                raise parts.loader.no_picture(done)
        total = sum(seconds.values())
        steps = {part: value / MEASURED for part, value in seconds.items()}
        where = f"{device}{f' x {who.count}' if who.count > 1 else ''}{'' if is_accelerator(device) else ' (the processor plays both parts)'}"
        return Profile(steps, seen / total, where, parts.pixels)
