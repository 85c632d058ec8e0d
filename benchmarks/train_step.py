"""One training step: the references' way against ours, on this device, in one run.

    python benchmarks/train_step.py [--preset coco_r18_128x96_mini] [--batch-size 16] [--rounds 5] [--output FILE.json]

The reference step is written without the package's loop: float pixels and heatmaps made on the host and copied, contiguous NCHW in fp32, the loss a
loop over keypoints, `loss.item()` each step, Adam parameter by parameter. Ours: bytes and keypoints in, targets on the device, one loss, no waiting,
channels-last; then with the fused optimiser, with torch.compile, and with bf16 where the hardware multiplies it. Each form first takes three steps from
the same weights on the same batch, and its losses are compared with the reference's.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from simplepose.config import Config, load_preset
from simplepose.core.device import choose_device, resolve_precision, synchronize
from simplepose.core.files import write_json
from simplepose.data.loader import Batch
from simplepose.pose.codec import encode
from simplepose.pose.network import PoseNetwork
from simplepose.training.schedule import make_optimizer
from simplepose.training.step import TrainStep


def batch_of(config: Config, count: int) -> Batch:
    """Noise pictures with keypoints anywhere in the crop."""
    rng = np.random.default_rng(0)
    width, height = config.input_size_wh
    pixels = torch.from_numpy(
        rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    ).permute(0, 3, 1, 2)
    keypoints = torch.from_numpy(rng.uniform(0, [width, height], (count, 17, 2)).astype(np.float32))
    return Batch(pixels, keypoints, torch.ones((count, 17), dtype=torch.bool), np.arange(count))


def reference_step(
    config: Config, network: torch.nn.Module, device: torch.device, batch: Batch
) -> Callable[[], float]:
    """The step as both references and their descendants write it."""
    mean, std = (
        np.float32(config.pixels.mean)[:, None, None],
        np.float32(config.pixels.std)[:, None, None],
    )
    host = (
        np.ascontiguousarray(
            batch.pixels.numpy()[:, ::-1]
            if config.pixels.channel_order == "bgr"
            else batch.pixels.numpy()
        )
        - mean
    ) / std
    maps, weights = encode(
        batch.keypoints,
        batch.visibility > 0,
        config.codec,
        config.input_size_wh,
        config.heatmap_size_wh,
    )
    optimizer = torch.optim.Adam(
        network.parameters(), lr=config.train.learning_rate, foreach=False, fused=False
    )
    criterion = torch.nn.MSELoss()

    def step() -> float:
        pixels, target, weight = (
            torch.from_numpy(host).to(device, copy=True),
            maps.to(device, copy=True),
            weights.to(device, copy=True)[..., None],
        )
        output = network(pixels)
        predicted, wanted = output.flatten(2).split(1, 1), target.flatten(2).split(1, 1)
        loss: Any = 0
        for number in range(output.shape[1]):
            one, other = predicted[number].squeeze(1), wanted[number].squeeze(1)
            loss = loss + 0.5 * criterion(one * weight[:, number], other * weight[:, number])
        loss = loss / output.shape[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def our_step(
    config: Config,
    network: torch.nn.Module,
    device: torch.device,
    batch: Batch,
    *,
    fused: bool,
    precision: str,
) -> Callable[[], Any]:
    """The package's step."""
    network.to(memory_format=torch.channels_last)
    step = TrainStep(
        network,
        make_optimizer(network, config.train, fused=fused or None),
        config,
        device,
        precision,
    )
    done = 0

    def run() -> torch.Tensor:
        nonlocal done
        done += 1
        return step(batch.to(device), config.train.learning_rate, done - 1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="coco_r18_128x96_mini")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=1, help="steps timed together; more on an accelerator"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="leave torch.compile out (it needs a C++ compiler)",
    )
    parser.add_argument("--output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    config = load_preset(args.preset)
    torch.manual_seed(0)
    network = PoseNetwork(config.model, 17, config.input_size_wh).to(device)
    batch = batch_of(config, args.batch_size)
    forms: dict[str, Callable[[], Any]] = {
        "reference": reference_step(config, copy.deepcopy(network), device, batch)
    }
    forms["ours"] = our_step(
        config, copy.deepcopy(network), device, batch, fused=False, precision="fp32"
    )
    forms["ours, fused optimiser"] = our_step(
        config, copy.deepcopy(network), device, batch, fused=True, precision="fp32"
    )
    compiled = replace(config, train=replace(config.train, compile="on"))
    if not args.no_compile:
        forms["ours, fused, compiled"] = our_step(
            compiled, copy.deepcopy(network), device, batch, fused=True, precision="fp32"
        )
    if resolve_precision("auto", device) == "bf16":
        forms["ours, fused, bf16"] = our_step(
            config, copy.deepcopy(network), device, batch, fused=True, precision="bf16"
        )
        if not args.no_compile:
            forms["ours, fused, bf16, compiled"] = our_step(
                compiled, copy.deepcopy(network), device, batch, fused=True, precision="bf16"
            )
    losses = {name: [float(step()) for _ in range(3)] for name, step in forms.items()}
    for name, values in losses.items():
        tolerance = 2e-2 if "bf16" in name else 1e-3
        assert np.allclose(values, losses["reference"], rtol=tolerance), (
            name,
            values,
            losses["reference"],
        )
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(args.rounds):
        for name, step in forms.items():
            synchronize(device)
            began = time.perf_counter() if device.type != "cpu" else time.process_time()
            for _ in range(args.steps):
                step()
            synchronize(device)
            times[name].append(
                ((time.perf_counter() if device.type != "cpu" else time.process_time()) - began)
                / args.steps
            )
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{args.preset}, batch {args.batch_size}, {device}, {args.threads} threads; milliseconds a step (processor time on the CPU)"
    )
    for name, seconds in middle.items():
        print(
            f"{name:<30}{seconds * 1e3:10.1f} ms   {middle['reference'] / seconds:5.2f} x   losses {' '.join(f'{v:.6g}' for v in losses[name])}"
        )
    best = max(middle["reference"] / seconds for seconds in middle.values())
    print(f"best {best:.2f} x (target 2.2)")
    if args.output:
        write_json(
            args.output,
            {
                "preset": args.preset,
                "batch_size": args.batch_size,
                "device": str(device),
                "seconds": middle,
                "best": best,
            },
            indent=True,
        )


if __name__ == "__main__":
    main()
