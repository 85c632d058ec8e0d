"""Processor milliseconds a training sample costs, for every place pixels can live, against a plain re-creation of the references' loader.

    python benchmarks/loader.py [--output FILE.json] [--annotations FILE --images DIR] [--samples 300] [--rounds 3]

The reference here is written without the package: decode the whole picture, mirror a copy, warp, normalise to float, draw the heatmaps one by one,
and pickle the float tensors as a worker process sends them. Counted is the processor time of the whole process (its threads included), less, where
crops are cut on the device, the cutting itself: on a machine without an accelerator this processor plays the device, and that time is shown apart.
Also: the stages of the reference, and the memory of each cache against the size of its pixels.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from simplepose.config import load_preset
from simplepose.core.files import write_json
from simplepose.data.annotations import Annotations
from simplepose.data.augment import draw, person_views
from simplepose.data.cache import Files, count_pixels, fill_memory
from simplepose.data.coco import read_coco
from simplepose.data.loader import Regions, TrainLoader
from simplepose.data.pack import open_pack, plan_pack, write_pack

CONFIG = load_preset("coco_r50_256x192_ms")
SIZE = CONFIG.input_size_wh
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def reference_sample(
    people: Annotations, row: int, scale: float, degrees: float, flip: bool, spent: dict[str, float]
) -> None:
    """One sample as the references make it; adds the processor seconds of its stages to `spent`."""
    clock = time.thread_time
    began = clock()
    image = cv2.imread(
        people.image_paths[people.image_index[row]],
        cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    )
    spent["decode"] += (now := clock()) - began
    x, y, w, h = people.bbox_xywh[row].tolist()
    points = people.keypoints[row].astype(np.float64)
    visible = people.visibility[row] > 0
    center_x, center_y = x + w / 2, y + h / 2
    w = max(w, h * 0.75) * 1.25 * scale
    if flip:
        image = np.ascontiguousarray(image[:, ::-1, :])
        center_x = image.shape[1] - 1 - center_x
        points = points[people.schema.flip_order]
        points[:, 0] = image.shape[1] - 1 - points[:, 0]
        visible = visible[people.schema.flip_order]
    to_crop = cv2.getRotationMatrix2D((center_x, center_y), degrees, SIZE[0] / w)
    to_crop[:, 2] += np.array(SIZE) / 2 - (center_x, center_y)
    crop = cv2.warpAffine(image, to_crop, SIZE, flags=cv2.INTER_LINEAR)
    spent["mirror and warp"] += (then := clock()) - now
    tensor = torch.from_numpy(
        ((crop.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1).copy()
    )
    spent["normalise"] += (now := clock()) - then
    maps = np.zeros((len(points), 64, 48), np.float32)
    grid = np.arange(13, dtype=np.float32)
    patch = np.exp(-((grid[None] - 6) ** 2 + (grid[:, None] - 6) ** 2) / 8)
    for number, (px, py) in enumerate(points @ to_crop[:, :2].T + to_crop[:, 2]):
        mx, my = int(px / 4 + 0.5), int(py / 4 + 0.5)
        left, top, right, bottom = max(mx - 6, 0), max(my - 6, 0), min(mx + 7, 48), min(my + 7, 64)
        if visible[number] and left < right and top < bottom:
            maps[number, top:bottom, left:right] = patch[
                top - my + 6 : bottom - my + 6, left - mx + 6 : right - mx + 6
            ]
    spent["heatmaps"] += (then := clock()) - now
    sent = pickle.dumps((tensor.numpy(), maps, visible.astype(np.float32)), protocol=5)
    read_end, write_end = os.pipe()
    for first in range(0, len(sent), 65536):  # a pipe holds 64 kB: write and read by turns
        os.write(write_end, sent[first : first + 65536])
        os.read(read_end, 65536)
    os.close(read_end), os.close(write_end)
    pickle.loads(sent)
    spent["pipe to the trainer"] += clock() - then


def run_reference(people: Annotations, samples: int, spent: dict[str, float]) -> float:
    """Processor milliseconds a sample."""
    rng = np.random.default_rng(0)
    draws, rows = draw(rng, people, CONFIG.augment), rng.permutation(len(people))[:samples]
    began = time.process_time()
    for row in rows:
        reference_sample(
            people, row, draws.scales[row], draws.rotations[row], bool(draws.flips[row]), spent
        )
    return (time.process_time() - began) / len(rows) * 1e3


def run_loader(
    people: Annotations, epochs: int, batch_size: int, **options: Any
) -> tuple[float, float]:
    """Processor milliseconds a sample of our loader over whole epochs, and of the device's warp (0 where the host warps)."""
    loader = TrainLoader(
        people,
        CONFIG.augment,
        input_size_wh=SIZE,
        batch_size=batch_size,
        seed=0,
        workers=2,
        **options,
    )
    warp, count = 0.0, 0
    began = time.process_time()
    for epoch in range(epochs):
        for batch in loader.epoch(epoch):
            count += len(batch.rows)
            if (
                isinstance(batch.pixels, Regions) and warp == 0.0
            ):  # one batch is enough to time the device's part
                before = time.thread_time()
                batch.pixels.warp()
                warp = time.thread_time() - before
                began += warp
                warp /= len(batch.rows)
    return (time.process_time() - began) / count * 1e3, warp * 1e3


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(fill: Callable[[], Any]) -> tuple[Any, int]:
    """What `fill` makes, and by how much the peak of this process's memory rose meanwhile."""
    gc.collect()
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    made = fill()
    peak = (
        int(
            next(
                line
                for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmHWM")
            ).split()[1]
        )
        * 1024
    )
    return made, peak - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(
        os.environ.get(
            "SIMPLEPOSE_TEST_DATA",
            Path(__file__).resolve().parent.parent.parent / "shared" / "data",
        )
    )
    folder = root / "coco_train2017_images160"
    parser.add_argument(
        "--annotations", default=str(folder / "person_keypoints_train2017_160.json")
    )
    parser.add_argument("--images", default=str(folder / "train2017"))
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    people = read_coco(args.annotations, args.images).trainable()
    regions, _ = person_views(people, CONFIG.augment, SIZE)
    pixels = 3 * count_pixels(people, None)
    device, memory = torch.device("cpu"), {}
    ram, memory["ram"] = measured(lambda: fill_memory(people, None))
    part, memory["ram, regions"] = measured(lambda: fill_memory(people, regions))
    resident, memory["device"] = measured(lambda: fill_memory(people, None, device))
    sizes = {"ram": pixels, "ram, regions": 3 * count_pixels(people, regions), "device": pixels}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "people"
        write_pack(path, plan_pack(people, CONFIG.augment, SIZE))
        pack_bytes = sum(file.stat().st_size for file in path.glob("*.zip"))
        pack = open_pack(path, people, CONFIG.augment, SIZE)
        ways: dict[str, dict[str, Any]] = {
            "files": {"source": Files(people)},
            "files, warp on the device": {"source": Files(people), "warp_on_device": True},
            "pack": {"source": pack},
            "pack, warp on the device": {"source": pack, "warp_on_device": True},
            "ram": {"source": ram},
            # Seen through `view` alone: on a processor the loader would not copy anything.
            "ram, warp on the device": {
                "source": SimpleNamespace(view=ram.view),
                "warp_on_device": True,
            },
            "ram, regions, warp on the device": {
                "source": SimpleNamespace(view=part.view),
                "warp_on_device": True,
            },
            "device": {"source": resident, "warp_on_device": True},
        }
        spent = dict.fromkeys(
            ("decode", "mirror and warp", "normalise", "heatmaps", "pipe to the trainer"), 0.0
        )
        reference: list[float] = []
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            reference.append(run_reference(people, args.samples, spent))
            for name, options in ways.items():
                epochs = (
                    1
                    if name.startswith(("files", "pack"))
                    else 4
                    if name in ("ram", "ram, regions")
                    else 12
                )
                times[name].append(run_loader(people, epochs, args.batch_size, **options))
    base = statistics.median(reference)
    done = args.rounds * min(args.samples, len(people))
    stages = {name: seconds / done * 1e3 for name, seconds in spent.items()}
    print(
        f"{len(people)} people in {len(np.unique(people.image_index))} pictures, OpenCV {cv2.__version__}, processor-ms a sample"
    )
    print(
        f"reference {base:.3f}  ({', '.join(f'{name} {value:.2f}' for name, value in stages.items())})"
    )
    wanted = {"files": 2, "pack": 8, "ram": 13, "ram, warp on the device": 80}
    record: dict[str, Any] = {
        "reference_ms": base,
        "reference_stages_ms": stages,
        "ways": {},
        "memory": {},
    }
    for name, rounds in times.items():
        host, warp = (
            statistics.median(value for value, _ in rounds),
            statistics.median(value for _, value in rounds),
        )
        note = f"   and {warp:.2f} of the device" if warp else ""
        print(
            f"{name:<34}{host:8.4f}   {base / host:7.1f} x less{f' (at least {wanted[name]})' if name in wanted else ''}{note}"
        )
        record["ways"][name] = {
            "host_ms": host,
            "device_ms": warp,
            "ratio": base / host,
            "wanted": wanted.get(name),
        }
    for name, size in sizes.items():
        print(
            f"memory of {name:<24}{memory[name] / 1e6:8.1f} MB at its peak for {size / 1e6:.1f} MB of pixels: {memory[name] / size:.3f}"
        )
        record["memory"][name] = {
            "peak_bytes": memory[name],
            "pixel_bytes": size,
            "ratio": memory[name] / size,
        }
    print(f"pack {pack_bytes / 1e6:.1f} MB: {pack_bytes / len(people) / 1e3:.1f} kB a person")
    record["pack_bytes_per_person"] = pack_bytes / len(people)
    if args.output:
        write_json(args.output, record, indent=True)


if __name__ == "__main__":
    main()
