"""What each variant of the modern recipe costs: milliseconds of a training step and of inference, as ratios to the reference recipe.

    python benchmarks/recipe_cost.py [coco_r18_128x96_mini_modern] [--batch 16] [--rounds 7] [--threads 1] [--output FILE.json]

All variants take turns in every round and medians are compared, so that a busy machine slows all of them. Pixels are random: reading pictures
is not part of it. The batch is the same for all variants, whatever the preset says.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network_cost import count_cost

from simplepose.config import Config, load_preset
from simplepose.core.files import write_json
from simplepose.core.schema import COCO_17
from simplepose.data.loader import Batch
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork
from simplepose.training.ablation import make_variants
from simplepose.training.schedule import make_optimizer
from simplepose.training.step import Ema, TrainStep


class Subject:
    """One variant, ready to be timed."""

    def __init__(self, config: Config, batch: int) -> None:
        """Builds network, step and estimator, and runs each once."""
        config = replace(config, train=replace(config.train, batch_size=batch))
        device, (width, height) = torch.device("cpu"), config.input_size_wh
        torch.manual_seed(0)
        network = PoseNetwork(config.model, 17, config.input_size_wh).to(
            memory_format=torch.channels_last
        )
        self.macs = count_cost(network, config.input_size_wh)[1]
        spec = ModelSpec(
            preset="",
            schema=COCO_17,
            input_size_wh=config.input_size_wh,
            pixels=config.pixels,
            codec=config.codec,
            model=config.model,
        )
        self.estimator = PoseEstimator(
            copy.deepcopy(network).eval(), spec, flip_test=True, batch_size=batch
        )
        self.ema = Ema(network, config.train.ema) if config.train.ema else None
        self.network, self.step = (
            network.train(),
            TrainStep(network, make_optimizer(network, config.train), config, device, "fp32"),
        )
        self.crops = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
        self.batch = Batch(
            torch.from_numpy(self.crops).permute(0, 3, 1, 2),
            torch.rand(batch, 17, 2) * width,
            torch.ones(batch, 17, dtype=torch.bool),
            np.arange(batch),
        )
        self.affines = np.tile(np.eye(2, 3), (batch, 1, 1))
        self.train(), self.infer()

    def train(self) -> float:
        """Seconds of one update."""
        began = time.perf_counter()
        self.step(self.batch, 1e-4, 0)
        if self.ema:
            self.ema.update(self.network)
        return time.perf_counter() - began

    def infer(self) -> float:
        """Seconds of one batch with flip test and decoding."""
        began = time.perf_counter()
        self.estimator.estimate_crops(self.crops, self.affines)
        return time.perf_counter() - began


def main() -> None:
    """Prints one row a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="coco_r18_128x96_mini_modern")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    variants = make_variants(load_preset(options.preset, "ms"), load_preset(options.preset))
    subjects = [Subject(variant.config, options.batch) for variant in variants]
    times: dict[str, list[list[float]]] = {
        "train": [[] for _ in variants],
        "infer": [[] for _ in variants],
    }
    for _ in range(options.rounds):
        for index, subject in enumerate(subjects):
            times["train"][index].append(subject.train())
            times["infer"][index].append(subject.infer())
    medians = {
        what: [1e3 * statistics.median(one) for one in values] for what, values in times.items()
    }
    rows: list[dict[str, Any]] = []
    print(
        f"{options.preset}, batch {options.batch}, {options.threads} threads, medians of {options.rounds} interleaved rounds"
    )
    print(f"{'variant':38} {'GMAC':>6} {'step ms':>9} {'ratio':>6} {'infer ms':>9} {'ratio':>6}")
    for index, (variant, subject) in enumerate(zip(variants, subjects, strict=True)):
        step, infer = medians["train"][index], medians["infer"][index]
        row = {
            "variant": variant.name,
            "gmac": subject.macs / 1e9,
            "step_ms": step,
            "step_ratio": step / medians["train"][0],
            "infer_ms": infer,
            "infer_ratio": infer / medians["infer"][0],
        }
        rows.append(row)
        print(
            f"{variant.name:38} {row['gmac']:6.3f} {step:9.1f} {row['step_ratio']:6.2f} {infer:9.1f} {row['infer_ratio']:6.2f}"
        )
    if options.output:
        write_json(
            options.output,
            {
                "preset": options.preset,
                "batch": options.batch,
                "threads": options.threads,
                "variants": rows,
            },
            indent=True,
        )


if __name__ == "__main__":
    main()
