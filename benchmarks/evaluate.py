"""Everything after the network for 104,125 boxes: the references' path against ours in one run, all ten numbers equal.

    python benchmarks/evaluate.py [--rounds 1] [--output FILE.json]

Theirs, written without the package: rescoring box by box, OKS-NMS picture by picture and pair by pair, a list of dictionaries, indented and sorted JSON
written, read back and read again by pycocotools, its evaluator pickled. Ours: arrays through `results_of`, JSON written once, scored by hotcoco.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scoring import problem

from simplepose.config import EvaluateConfig
from simplepose.core.files import write_json
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.evaluation.coco import METRICS, evaluate_coco
from simplepose.evaluation.top_down import Estimates, results_of

SIGMAS = np.array(COCO_17.sigmas)


def reference(
    truth: str, folder: Path, estimates: Estimates, image_ids: np.ndarray
) -> dict[str, float]:
    """Box by box, as the references."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    by_picture: dict[int, list[dict[str, Any]]] = {}
    for row in range(len(estimates.box_scores)):
        total, count = 0.0, 0
        for score in estimates.keypoint_scores[row].tolist():
            if score > 0.2:
                total, count = total + score, count + 1
        score = float(total / count * estimates.box_scores[row]) if count else 0.0
        points = estimates.keypoints[row].astype(np.float64)
        person = {
            "keypoints": points,
            "scores": estimates.keypoint_scores[row],
            "score": score,
            "area": estimates.areas[row],
        }
        by_picture.setdefault(int(image_ids[estimates.image_index[row]]), []).append(person)
    results = []
    variance = (SIGMAS * 2) ** 2
    for image_id, people in by_picture.items():
        order = np.array([person["score"] for person in people]).argsort()[::-1]
        kept = []
        while order.size:
            best = people[order[0]]
            kept.append(best)
            similarity = np.zeros(len(order) - 1)
            for place, index in enumerate(order[1:]):
                other = people[index]
                dx, dy = (
                    other["keypoints"][:, 0] - best["keypoints"][:, 0],
                    other["keypoints"][:, 1] - best["keypoints"][:, 1],
                )
                e = (
                    (dx**2 + dy**2)
                    / variance
                    / ((best["area"] + other["area"]) / 2 + np.spacing(1))
                    / 2
                )
                similarity[place] = np.sum(np.exp(-e)) / e.shape[0]
            order = order[1:][similarity <= 0.9]
        for person in kept:
            flat = np.zeros((17, 3))
            flat[:, :2], flat[:, 2] = person["keypoints"], person["scores"]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": flat.ravel().tolist(),
                    "score": person["score"],
                }
            )
    path = folder / "reference.json"
    with path.open("w") as file:
        json.dump(results, file, sort_keys=True, indent=4)
    with path.open() as file:
        json.load(file)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(truth)
        test = COCOeval(ground_truth, ground_truth.loadRes(str(path)), "keypoints")
        test.params.useSegm = None
        test.evaluate()
        test.accumulate()
        test.summarize()
    with (folder / "reference.pkl").open("wb") as file:
        pickle.dump(test, file, pickle.HIGHEST_PROTOCOL)
    return dict(zip(METRICS, test.stats.tolist(), strict=True))


def ours(
    truth: str, folder: Path, estimates: Estimates, annotations: Annotations
) -> dict[str, float]:
    """Arrays all the way."""
    rows = results_of(estimates, annotations, EvaluateConfig())
    write_json(folder / "ours.json", rows)
    return evaluate_coco(truth, rows, sigmas=COCO_17.sigmas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    truth, (image_ids, keypoints, keypoint_scores, scores) = problem()
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "truth.json"
        images = [
            {"id": image["id"], "file_name": f"{image['id']}.jpg", "width": 640, "height": 640}
            for image in truth["images"]
        ]
        path.write_text(json.dumps({**truth, "images": images, "categories": categories}))
        annotations = read_coco(path, folder, COCO_17)
        order = np.argsort(image_ids, kind="stable")
        areas = np.random.default_rng(1).uniform(2e3, 9e4, len(order))
        estimates = Estimates(
            np.searchsorted(annotations.image_ids, image_ids[order]),
            keypoints[order].astype(np.float32),
            keypoint_scores[order].astype(np.float32),
            scores[order] + 1e-6,
            areas,
        )
        times: dict[str, list[tuple[float, float]]] = {"reference": [], "ours": []}
        numbers: dict[str, dict[str, float]] = {}
        for _ in range(args.rounds):
            for name in times:
                wall, busy = time.perf_counter(), time.process_time()
                if name == "reference":
                    numbers[name] = reference(str(path), folder, estimates, annotations.image_ids)
                else:
                    numbers[name] = ours(str(path), folder, estimates, annotations)
                times[name].append((time.perf_counter() - wall, time.process_time() - busy))
    worst = max(abs(numbers["reference"][name] - numbers["ours"][name]) for name in METRICS)
    assert worst < 1e-9, numbers
    middle = {
        name: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for name, rounds in times.items()
    }
    ratios = {
        "wall": middle["reference"][0] / middle["ours"][0],
        "processor": middle["reference"][1] / middle["ours"][1],
    }
    print(f"{len(order):,} boxes; seconds of wall clock and of processor")
    for name, (wall, busy) in middle.items():
        print(f"{name:<12}{wall:8.2f} {busy:8.2f}")
    print(
        f"ratio {ratios['wall']:.1f} x wall, {ratios['processor']:.1f} x processor (target 18); ten numbers equal to {worst:.1g}: ",
        end="",
    )
    print(" ".join(f"{numbers['ours'][name]:.3f}" for name in METRICS))
    if args.output:
        write_json(
            args.output,
            {"seconds": middle, "ratios": ratios, "metrics": numbers["ours"]},
            indent=True,
        )


if __name__ == "__main__":
    main()
