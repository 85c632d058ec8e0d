"""Formats of networks, scored and timed in one run: python benchmarks/export_formats.py DATA FOLDER starter deploy.onnx

DATA holds coco_val2017_visible150 (scored, ground-truth boxes) and coco_train2017_images160 (ranges of int8). Each network is exported
through the gate into FOLDER, with and without flip test; files that are there already are taken as they are. Then AP and milliseconds a
crop (one thread, formats in turn, the best round) of every file at every batch. A format that is refused has a row that says so.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplepose import PoseEstimator
from simplepose.cli import main as simplepose
from simplepose.data.coco import read_coco
from simplepose.data.source import boxes_to_test
from simplepose.evaluation.top_down import stored_settings
from simplepose.export.formats import FORMATS
from simplepose.export.poses import PoseSource, Scored


def exported(weights: str, form: str, flip: bool, options: argparse.Namespace) -> Path | None:
    """The file, which the gate lets pass; None where it does not, or the format cannot be had."""
    folder = options.folder / f"{Path(weights).stem}_{'flip' if flip else 'plain'}"
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{form}{FORMATS[form].ending}"
    if output.exists():
        return output
    scored, ranges = (
        [f"--{prefix}annotations", str(annotations), f"--{prefix}images", str(images)]
        for prefix, (annotations, images) in (("", options.scored), ("int8.", options.ranges))
    )
    words = ["export", weights, "--format", form, "--output", str(output), "--boxes", "gt"]
    words += ["--int8.people", str(options.people), *scored, *ranges]
    status = simplepose(words if flip else [*words, "--no-flip-test"])
    return None if status else output


def data_of(folder: Path) -> tuple[Path, Path]:
    """Annotations and pictures of a set."""
    (annotations,) = folder.glob("person_keypoints_*.json")
    (images,) = (one for one in folder.iterdir() if one.is_dir())
    return annotations, images


def size_of(path: Path) -> float:
    """Megabytes, of a file with its weights beside it."""
    parts = {path, path.with_suffix(".bin")} if path.suffix == ".xml" else {path}
    return sum(part.stat().st_size for part in parts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="+")
    opening = [name for name, form in FORMATS.items() if form.opens and not form.command]
    parser.add_argument("--formats", nargs="+", default=opening)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 3, 64])
    parser.add_argument("--flip", nargs="+", type=int, default=[0, 1], choices=[0, 1])
    parser.add_argument("--people", type=int, default=100, help="for the ranges of int8")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.scored = data_of(options.data / "coco_val2017_visible150")
    options.ranges = data_of(options.data / "coco_train2017_images160")
    torch.set_num_threads(1)
    annotations = read_coco(*options.scored)
    detections = boxes_to_test("gt", annotations, "")
    rows: list[tuple[str, str, bool, Path | None]] = []
    for weights, flip in itertools.product(options.networks, map(bool, options.flip)):
        rows.append((weights, "itself", flip, Path(weights)))
        for form in options.formats:
            foreign = weights.endswith(".onnx") and not FORMATS[form].takes_onnx
            if not foreign:
                rows.append((weights, form, flip, exported(weights, form, flip, options)))
    batches = options.batches
    print(
        "| network | file | flip test | MB | " + " | ".join(f"AP, batch {b}" for b in batches),
        end="",
    )
    print(" | " + " | ".join(f"ms, batch {b}" for b in batches) + " |")
    print("|---|---|---|--:|" + "--:|" * 2 * len(batches))
    for (weights, flip), group in itertools.groupby(rows, lambda row: (row[0], row[2])):
        files: dict[str, tuple[float, list[Any], Any]] = {}
        for _, form, _, path in group:
            if path is None:
                print(f"| {Path(weights).stem} | {form} | {flip} | refused |", flush=True)
                continue
            one = PoseEstimator.from_pretrained(
                str(path), device="cpu", precision="fp32", flip_test=flip, threads=1
            )
            config = replace(stored_settings(one.spec, weights), flip_test=flip)
            source = PoseSource(one, Scored(annotations, detections, config))
            points = []
            for batch in batches:
                one.batch_size = batch
                points.append(source.test(one)["AP"])
            files[form] = (size_of(path) if path.is_file() else float("nan"), points, one)
        best = dict.fromkeys(itertools.product(files, batches), np.inf)
        for _, batch, form in itertools.product(range(options.rounds), batches, files):
            one = files[form][2]
            width, height = one.input_size_wh
            crops = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
            began = time.perf_counter()
            one.in_crops(crops)
            spent = (time.perf_counter() - began) * 1000 / batch
            best[form, batch] = min(best[form, batch], spent)
        for form, (size, points, _) in files.items():
            cells = [Path(weights).stem, form, "yes" if flip else "no", f"{size:.1f}"]
            cells += [f"{point:.4f}" for point in points]
            cells += [f"{best[form, batch]:.1f}" for batch in batches]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
