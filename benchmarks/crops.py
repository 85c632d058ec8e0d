"""Milliseconds a crop of several networks, in turns: python benchmarks/crops.py NETWORK NETWORK... [--batch 16] [--rounds 10]

Crops are noise; flip test as the network's file says, decoding included; one thread. Prints the best round of each and its ratio to the first.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from simplepose import PoseEstimator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    noise = np.random.default_rng(0)
    opened = []
    for name in options.networks:
        network = PoseEstimator.from_pretrained(name, device="cpu", threads=1)
        width, height = network.input_size_wh
        opened.append(
            (name, network, noise.integers(0, 256, (options.batch, height, width, 3), np.uint8))
        )
    best = dict.fromkeys(options.networks, np.inf)
    for _ in range(options.rounds):
        for name, network, crops in opened:
            start = time.perf_counter()
            network.in_crops(crops)
            best[name] = min(best[name], (time.perf_counter() - start) * 1000 / options.batch)
    for name, milliseconds in best.items():
        print(
            f"{name}: {milliseconds:.1f} ms a crop, {milliseconds / best[options.networks[0]]:.2f} of the first"
        )


if __name__ == "__main__":
    main()
