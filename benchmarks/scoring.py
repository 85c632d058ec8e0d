"""Scoring a val2017-sized problem (5,000 pictures, 11,000 people, 104,125 poses): hotcoco beside pycocotools in one run.

    python benchmarks/scoring.py [--rounds 3] [--output FILE.json]

The pictures, people and poses are made up, with the crowds, keypoint-less people and score ties of the real set. Timed are the making of
the result rows from arrays, and `evaluate_coco` with each evaluator, rows and annotations in memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.files import write_json
from simplepose.core.schema import COCO_17
from simplepose.evaluation.coco import METRICS, coco_results, evaluate_coco

PICTURES, PEOPLE, POSES = 5000, 11000, 104125


def problem() -> tuple[dict[str, Any], tuple[np.ndarray, ...]]:
    """Annotations, and (image_ids, keypoints, keypoint_scores, scores) of the poses."""
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, PICTURES, PEOPLE))
    area = np.exp(rng.uniform(np.log(300), np.log(90000), PEOPLE))
    side = np.sqrt(area / 0.53)
    places = (
        rng.uniform(0, 400, (PEOPLE, 1, 2))
        + rng.uniform(0, 1, (PEOPLE, 17, 2)) * side[:, None, None]
    )
    visibility = rng.choice([0, 1, 2], (PEOPLE, 17), p=[0.3, 0.1, 0.6])
    visibility[rng.uniform(size=PEOPLE) < 0.4] = 0
    flat = np.concatenate([places.round(), visibility[..., None]], -1)
    flat[visibility == 0] = 0
    annotations = [
        {
            "id": i + 1,
            "image_id": int(owner[i]) + 1,
            "category_id": 1,
            "iscrowd": int(i % 80 == 0),
            "area": float(area[i]),
            "bbox": [*places[i].min(0).tolist(), *np.ptp(places[i], axis=0).tolist()],
            "num_keypoints": int((visibility[i] > 0).sum()),
            "keypoints": flat[i].ravel().tolist(),
        }
        for i in range(PEOPLE)
    ]
    truth = {
        "images": [{"id": i + 1} for i in range(PICTURES)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    whose = rng.integers(0, PEOPLE, POSES)
    blur = rng.choice([0.01, 0.03, 0.1, 0.5], POSES) * side[whose]
    keypoints = places[whose] + rng.normal(0, 1, (POSES, 17, 2)) * blur[:, None, None]
    return truth, (
        owner[whose] + 1,
        keypoints,
        rng.uniform(size=(POSES, 17)),
        rng.uniform(size=POSES).round(3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    truth, poses = problem()
    seconds: dict[str, list[float]] = {"result rows": [], "hotcoco": [], "pycocotools": []}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    numbers: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        start, busy = time.perf_counter(), time.process_time()
        rows = coco_results(*poses)
        seconds["result rows"].append(time.perf_counter() - start)
        cpu["result rows"].append(time.process_time() - busy)
        for evaluator in ("hotcoco", "pycocotools"):
            start, busy = time.perf_counter(), time.process_time()
            numbers[evaluator] = evaluate_coco(
                truth, rows, sigmas=COCO_17.sigmas, evaluator=evaluator
            )  # type: ignore[arg-type]
            seconds[evaluator].append(time.perf_counter() - start)
            cpu[evaluator].append(time.process_time() - busy)
    assert numbers["hotcoco"] == numbers["pycocotools"], numbers
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["pycocotools"] / medians["hotcoco"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{PICTURES:,} pictures, {PEOPLE:,} people, {POSES:,} poses; median of {options.rounds} rounds"
    )
    for name, value in medians.items():
        print(f"  {name:<14}{value:8.3f} s wall, {statistics.median(cpu[name]):8.3f} s CPU")
    print(
        f"  pycocotools / hotcoco {ratio:.1f} x; all ten numbers equal: "
        + " ".join(f"{numbers['hotcoco'][name]:.4f}" for name in METRICS)
    )
    print(f"  peak memory of the run, both evaluators: {peak:.0f} MiB")
    if options.output:
        write_json(
            options.output,
            {"seconds": medians, "ratio": ratio, "metrics": numbers["hotcoco"], "peak_mib": peak},
            indent=True,
        )


if __name__ == "__main__":
    main()
