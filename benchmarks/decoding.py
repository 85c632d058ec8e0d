"""Flip average, decoding and back-projection of 64 heatmaps of ResNet-50 256x192, against a plain Python loop of the same formulas.

    python benchmarks/decoding.py [--rounds 15] [--output FILE.json]

Interleaved rounds in one run, medians, results asserted equal.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from simplepose import COCO_17
from simplepose.config import CodecConfig
from simplepose.core.files import write_json
from simplepose.pose import geometry
from simplepose.pose.heatmaps_flip import decode_pair

BATCH, WIDTH, HEIGHT, INPUT_WH = 64, 48, 64, (192, 256)


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heatmaps with one smooth peak and noise, those of the mirrored input, and crop affines."""
    rng = np.random.default_rng(seed)
    x, y = (
        rng.uniform(-2, WIDTH + 2, (BATCH, 17, 1, 1)),
        rng.uniform(-2, HEIGHT + 2, (BATCH, 17, 1, 1)),
    )
    columns, rows = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    maps = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) + rng.normal(
        0, 0.02, (BATCH, 17, HEIGHT, WIDTH)
    )
    mirrored = maps[:, COCO_17.flip_order, :, ::-1] + rng.normal(0, 0.02, maps.shape)
    corner, size = rng.uniform(0, 300, (BATCH, 2)), rng.uniform(30, 300, (BATCH, 2))
    centers, sizes = geometry.fit_boxes(np.concatenate([corner, corner + size], 1), INPUT_WH)
    return (
        maps.astype(np.float32),
        np.ascontiguousarray(mirrored, np.float32),
        geometry.crop_affines(centers, sizes, INPUT_WH),
    )


def plain_loop(
    maps: np.ndarray, mirrored: np.ndarray, to_crop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The order of work of the reference codes: flip, swap and shift the batch, then a loop over people and keypoints."""
    back = mirrored[:, :, :, ::-1].copy()
    for left, right in COCO_17.flip_pairs:
        held = back[:, left].copy()
        back[:, left] = back[:, right]
        back[:, right] = held
    back[:, :, :, 1:] = back.copy()[:, :, :, :-1]
    average = (maps + back) * 0.5
    points, scores = np.zeros((BATCH, 17, 2)), np.zeros((BATCH, 17), np.float32)
    for n in range(BATCH):
        to_image = np.linalg.inv(np.vstack([to_crop[n] / 4, [0, 0, 1]]))
        for k in range(17):
            py, px = np.unravel_index(np.argmax(average[n, k]), (HEIGHT, WIDTH))
            scores[n, k] = np.max(average[n, k])
            point = np.array([px, py, 1.0])
            if 1 < px < WIDTH - 1 and 1 < py < HEIGHT - 1:
                one = average[n, k]
                step = np.array(
                    [one[py, px + 1] - one[py, px - 1], one[py + 1, px] - one[py - 1, px]]
                )
                point[:2] += 0.25 * np.sign(step)
            if scores[n, k] <= 0:
                point[:2] = 0
            points[n, k] = (to_image @ point)[:2]
    return points, scores


def vectorised(
    maps: np.ndarray, mirrored: np.ndarray, to_crop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the estimator does after the network."""
    codec = CodecConfig()
    keypoints, scores = decode_pair(maps, mirrored, COCO_17.flip_order, codec, INPUT_WH)
    return geometry.transform_points(geometry.invert_affines(to_crop), keypoints), scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    given = problem()
    for ours, theirs in zip(vectorised(*given), plain_loop(*given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    times: dict[str, list[float]] = {"plain loop": [], "vectorised": []}
    for _ in range(options.rounds):
        for name, run in (("plain loop", plain_loop), ("vectorised", vectorised)):
            began = time.process_time()
            run(*given)
            times[name].append(time.process_time() - began)
    medians = {name: float(np.median(values)) * 1000 for name, values in times.items()}
    ratio = medians["plain loop"] / medians["vectorised"]
    print(
        f"64 crops x 17 maps of 64x48, medians of {options.rounds} interleaved rounds, CPU-ms, results equal"
    )
    for name, value in medians.items():
        print(f"  {name:<12}{value:8.2f} ms")
    print(f"  ratio       {ratio:8.1f} x")
    if options.output:
        write_json(
            options.output,
            {"cpu_ms": medians, "ratio": ratio, "rounds": options.rounds},
            indent=True,
        )


if __name__ == "__main__":
    main()
