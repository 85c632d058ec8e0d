"""Ray Data inference of a long list: pictures a second with one and two workers, and the memory of
the driver and its workers while the list runs.

    python benchmarks/ray_inference.py --weights FILE.onnx --pictures 20000 --workers 1 2

The reader is a fake: each address names one of eight tiny pictures, so that what is measured is the
list, Ray, the shards and a network, not a disk. Needs the extra [ray] and Linux (/proc).
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simplepose.config import RayConfig
from simplepose.core.images import write_image
from simplepose.ray.job import predict_shards


def resident(process: Path) -> float:
    """Megabytes of a process."""
    try:
        lines = (process / "status").read_text().splitlines()
        return next((int(one.split()[1]) / 1024 for one in lines if one.startswith("VmRSS")), 0.0)
    except OSError:
        return 0.0


def watch(over: threading.Event, told: list[tuple[float, float]]) -> None:
    """Once a second: the driver, and the largest worker."""
    while not over.wait(1):
        workers = [0.0]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"ShardPredictor" in (process / "cmdline").read_bytes():
                    workers.append(resident(process))
            except OSError:
                continue
        told.append((resident(Path("/proc/self")), max(workers)))


def write_list(folder: Path, count: int) -> Path:
    """A Parquet list of `count` addresses of eight pictures."""
    pictures = []
    for number in range(8):
        pictures.append(str(folder / f"{number}.jpg"))
        write_image(Path(pictures[-1]), np.full((48, 32, 3), 30 * number, np.uint8))
    path = folder / "list.parquet"
    with pq.ParquetWriter(path, pa.schema({"path": pa.string()})) as writer:
        for first in range(0, count, 8000):
            writer.write_table(pa.table({"path": (pictures * 1000)[: count - first]}))
    return path


def main() -> None:
    """Prints a line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for workers in options.workers:
        with TemporaryDirectory() as name:
            source = write_list(Path(name), options.pictures)
            over, told = threading.Event(), [(resident(Path("/proc/self")), 0.0)]
            thread = threading.Thread(target=watch, args=(over, told))
            thread.start()
            begin = time.perf_counter()
            said = predict_shards(
                (str(source),),
                str(Path(name) / "poses"),
                {"weights": options.weights, "boxes": "whole"},
                RayConfig(workers=workers, shard=options.shard),
                device="cpu",
            )
            seconds = time.perf_counter() - begin
            over.set()
            thread.join()
            half = told[len(told) // 2]
            shards = Path(name, "poses").glob("poses-*.parquet")
            done = sorted(shard.stat().st_mtime for shard in shards)
            rate = options.shard * (len(done) - 1) / (done[-1] - done[0])
            print(
                f"{workers} workers: {rate:.0f} pictures/s from the first shard to the last, "
                f"{seconds:.0f} s with the start; driver {half[0]:.0f} MB half way, {told[-1][0]:.0f} MB at the "
                f"end; worker {half[1]:.0f} and {told[-1][1]:.0f} MB; {said}"
            )


if __name__ == "__main__":
    main()
