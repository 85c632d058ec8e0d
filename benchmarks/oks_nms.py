"""OKS-NMS of 5,000 pictures x 20 poses: the many-picture form beside the plain Python loop of the same formula, in one run.

python benchmarks/oks_nms.py [--pictures 5000] [--rounds 5] [--output FILE.json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from simplepose.core.files import write_json
from simplepose.core.oks import oks_nms, oks_nms_batch
from simplepose.core.schema import COCO_17

POSES = 20
THRESHOLD = 0.9


def problem(pictures: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """20 poses a picture around 8 people: near copies, blurred copies and other people."""
    rng = np.random.default_rng(0)
    people = rng.uniform(0, 500, (pictures, 8, 1, 2)) + rng.uniform(0, 150, (pictures, 8, 17, 2))
    which = rng.integers(0, 8, (pictures, POSES))
    blur = rng.choice([1, 4, 12], (pictures, POSES))[:, :, None, None]
    keypoints = (
        np.take_along_axis(people, which[:, :, None, None], 1)
        + rng.normal(0, 1, (pictures, POSES, 17, 2)) * blur
    )
    count = pictures * POSES
    return (
        np.repeat(np.arange(pictures), POSES),
        keypoints.reshape(-1, 17, 2),
        rng.uniform(size=count),
        rng.uniform(2e4, 6e4, count),
    )


def plain_loop(
    image_index: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray
) -> np.ndarray:
    """Picture by picture, pose by pose, pair by pair; numpy only inside a pair, as the reference does it."""
    variance = (2 * np.array(COCO_17.sigmas)) ** 2
    kept = np.zeros(len(scores), bool)
    starts = np.searchsorted(image_index, np.unique(image_index))
    for start, end in zip(starts, [*starts[1:], len(scores)], strict=True):
        x, y, area = keypoints[start:end, :, 0], keypoints[start:end, :, 1], areas[start:end]
        order = scores[start:end].argsort()[::-1]
        while order.size:
            best = order[0]
            kept[start + best] = True
            similarity = np.zeros(len(order) - 1)
            for place, other in enumerate(order[1:]):
                dx, dy = x[other] - x[best], y[other] - y[best]
                e = (
                    (dx**2 + dy**2)
                    / variance
                    / ((area[best] + area[other]) / 2 + np.spacing(1))
                    / 2
                )
                similarity[place] = np.sum(np.exp(-e)) / e.shape[0]
            order = order[1:][similarity <= THRESHOLD]
    return kept


def one_by_one(
    image_index: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray
) -> np.ndarray:
    """`oks_nms` picture by picture: numpy over the remaining poses."""
    kept = np.zeros(len(scores), bool)
    for start in range(0, len(scores), POSES):
        part = slice(start, start + POSES)
        kept[
            start + oks_nms(keypoints[part], scores[part], areas[part], COCO_17.sigmas, THRESHOLD)
        ] = True
    return kept


def batch(
    image_index: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray
) -> np.ndarray:
    """`oks_nms_batch` of all pictures."""
    return oks_nms_batch(image_index, keypoints, scores, areas, COCO_17.sigmas, THRESHOLD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    data = problem(options.pictures)
    forms = {
        "plain loop": plain_loop,
        "oks_nms, picture by picture": one_by_one,
        "oks_nms_batch": batch,
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    results: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for name, form in forms.items():
            start = time.process_time()
            results[name] = form(*data)
            seconds[name].append(time.process_time() - start)
    for name in forms:
        assert np.array_equal(results[name], results["plain loop"]), f"{name} keeps other poses"
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians["plain loop"] / value for name, value in medians.items()}
    share = results["oks_nms_batch"].mean()
    print(
        f"{options.pictures:,} pictures x {POSES} poses, {share:.1%} kept by all forms; CPU seconds, median of {options.rounds} rounds"
    )
    for name, value in medians.items():
        print(f"  {name:<28}{value:8.3f} s  {ratios[name]:6.1f} x")
    if options.output:
        write_json(
            options.output,
            {"pictures": options.pictures, "poses": POSES, "seconds": medians, "ratios": ratios},
            indent=True,
        )


if __name__ == "__main__":
    main()
