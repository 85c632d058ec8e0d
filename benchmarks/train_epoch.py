"""Whole training, data included, against the same step on one batch that never leaves the device.

    python benchmarks/train_epoch.py --preset coco_r18_128x96_mini --batch-sizes 16 --steps 8
    python benchmarks/train_epoch.py --people 149813 --batch-sizes 32 128 256 --output h200.json

The first is for a processor, the second is the table of one accelerator. `with data` is the loop of
`train`: batches from the loader, the step, the moving average where the preset has one, losses
read and shown. The pictures are real JPEGs, replicated until there are `--people` of them (149,813
in COCO train2017), so that the cache has COCO's size; it is filled once. Rounds of the two ways
alternate. Wall clock on an accelerator, with device and host waited for at both ends of a round; on
the CPU, where threads and network share the cores, processor time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplepose.config import load_preset
from simplepose.core.device import choose_device, is_accelerator, synchronize
from simplepose.core.files import write_json
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.loader import AHEAD, TrainLoader
from simplepose.training.distributed import World
from simplepose.training.folder import Journal, Position
from simplepose.training.run import Run, Stop
from simplepose.training.start import assemble
from simplepose.training.train import update


def replicated(annotations: Annotations, count: int) -> Annotations:
    """The people again and again, each time with pictures of their own, until there are `count`."""
    if count <= len(annotations):
        return annotations
    times, pictures = -(-count // len(annotations)), len(annotations.image_ids)
    rows = np.tile(np.arange(len(annotations)), times)[:count]
    many = annotations.select(rows)
    turn = np.arange(count) // len(annotations)
    return replace(
        many,
        annotation_ids=np.arange(count),
        image_index=many.image_index + turn * pictures,
        image_ids=np.arange(pictures * times),
        image_paths=annotations.image_paths * times,
        image_sizes_wh=np.tile(annotations.image_sizes_wh, (times, 1)),
        image_extras=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(
        os.environ.get(
            "SIMPLEPOSE_TEST_DATA",
            Path(__file__).resolve().parent.parent.parent / "shared" / "data",
        )
    )
    folder /= "coco_train2017_images160"
    parser.add_argument(
        "--annotations", default=str(folder / "person_keypoints_train2017_160.json")
    )
    parser.add_argument("--images", default=str(folder / "train2017"))
    parser.add_argument("--preset", default="coco_r50_256x192_ms")
    parser.add_argument("--people", type=int, default=0, help="replicate the people to this number")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--steps", type=int, default=60, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="off", choices=("off", "on", "graphs"))
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 2))
    parser.add_argument("--output")
    args = parser.parse_args()
    device = choose_device()
    people = replicated(read_coco(args.annotations, args.images).trainable(), args.people)
    record: dict[str, Any] = {
        "device": str(device),
        "preset": args.preset,
        "people": len(people),
        "torch": str(torch.__version__),
        "batches": {},
    }
    filled: TrainLoader | None = None
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder))) as journal:
        for size in args.batch_sizes:
            preset = load_preset(args.preset)
            options = {"batch_size": size, "precision": args.precision, "compile": args.compile}
            cache = args.cache if filled is None else "files"
            config = replace(
                preset,
                train=replace(preset.train, **options),
                data=replace(preset.data, cache=cache, workers=args.workers),
            )
            began = time.perf_counter()
            parts = assemble(config, people, device, World(), say=print)
            seconds = time.perf_counter() - began
            filled = replace(filled or parts.loader, batch_size=size)
            parts = replace(parts, loader=filled)
            run = Run(
                config, Path(folder), World(), device, parts, Position(), None, journal, Stop()
            )
            middle = measure(run, args.steps, args.rounds)
            share = middle["with data"] / middle["resident batch"]
            print(
                f"{args.preset} on {device}, {parts.precision}, batch {size}: "
                f"{middle['with data']:.1f} samples/s with data, "
                f"{middle['resident batch']:.1f} without: {share:.3f} of it (at least 0.97); "
                f"assembled in {seconds:.0f} s"
            )
            row = {"share": share, "assemble_seconds": seconds, "precision": parts.precision}
            record["batches"][str(size)] = {**middle, **row}
            if args.output:  # after every size: a larger one may not fit
                write_json(args.output, record, indent=True)
            del run, parts


def measure(run: Run, steps: int, rounds: int) -> dict[str, float]:
    """Samples a second of both ways, medians of alternating rounds."""
    device, step, size = run.device, run.parts.step, run.config.train.batch_size
    clock = time.perf_counter if is_accelerator(device) else time.process_time
    run.parts.network.train()
    epochs = (
        batch
        for epoch in itertools.count()
        for batch in run.parts.loader.epoch(epoch)
        if len(batch.rows) == size
    )
    resident = next(epochs).to(device, step.cut)

    def learn(count: int) -> None:
        began = time.monotonic()
        for done in range(1, count + 1):
            run.position.step += 1
            if update(run, next(epochs), 1e-4):
                run.read_losses()
                run.progress(done * size / (time.monotonic() - began))
        run.read_losses()

    def repeat(count: int) -> None:
        for _ in range(count):
            step(resident, 1e-4, 0)

    learn(min(5, steps))  # warm up, or compile
    rates: dict[str, list[float]] = {"with data": [], "resident batch": []}
    for _ in range(rounds):
        for way, values in rates.items():
            work = learn if way == "with data" else repeat
            # What was read ahead while the other way ran would come free.
            work(AHEAD)
            synchronize(device)
            began = clock()
            work(steps)
            synchronize(device)
            values.append(steps * size / (clock() - began))
    return {way: statistics.median(values) for way, values in rates.items()}


if __name__ == "__main__":
    main()
