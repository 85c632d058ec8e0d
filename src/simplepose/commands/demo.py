"""`simplepose demo`: the whole main job on drawn people: draw, train, evaluate, predict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from simplepose.core.settings import require_options
from simplepose.data.layout import find_layout
from simplepose.data.synthetic import write_synthetic_dataset
from simplepose.training.options import MAX_SEED

PRESET = "synthetic_demo"
RANGES = {"people": (1, inf), "val_people": (1, inf), "pictures": (1, inf), "epochs": (0, inf), "seed": (0, MAX_SEED)}
"""Lowest and highest value of the options that are numbers."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Draws people, trains a small network on them, evaluates it on others and draws what it finds."""

    output: str = "demo"
    """Folder for everything. A demo that was stopped goes on; drawings with other settings are never overwritten."""
    people: int = 1800
    """Drawn people to train on."""
    val_people: int = 200
    """Drawn people to evaluate on."""
    seed: int = 0
    """Decides the drawings and the training."""
    epochs: int = 0
    """Passes over the training people; 0 takes those of the preset."""
    device: str = "auto"
    """auto, cpu, cuda, npu, mps, xpu."""
    pictures: int = 12
    """Held-out pictures to predict and draw."""
    only_data: bool = False
    """Draw the data set and stop."""


def main(argv: list[str]) -> None:
    """Runs the demo and prints where everything is.

    Raises:
        UserError: the output folder holds something else, or a number makes no sense.
    """
    import tyro

    options = tyro.cli(DemoOptions, args=argv, prog="simplepose demo", description=DemoOptions.__doc__)
    require_options(options, RANGES)
    began, folder = time.monotonic(), Path(options.output)
    print(f"1. drawing {options.people:,} people to train on and {options.val_people:,} to evaluate on", flush=True)
    write_synthetic_dataset(folder / "dataset", train_people=options.people, val_people=options.val_people, seed=options.seed)
    print(f"   {folder / 'dataset'}: a COCO-format folder ({time.monotonic() - began:.0f} s)", flush=True)
    if options.only_data:
        print(f"next: simplepose train {PRESET} --data.root {folder / 'dataset'}")
        return
    run = _train(options, folder)
    _evaluate(options, folder, run)
    sheet = _predict(options, folder, run)
    print(
        f"\nThe demo took {time.monotonic() - began:.0f} s. Everything is in {folder}:\n"
        f"  {folder / 'dataset'}  drawn people in the layout that --data.root takes\n"
        f"  {run}  the run: config.yaml, metrics.jsonl, checkpoints\n"
        f"  {folder / 'results'}  predictions.json and metrics.json for both kinds of boxes\n"
        f"  {sheet}  what the network found on held-out pictures\n"
        f"next: simplepose predict YOUR.jpg --weights {run} --boxes whole    (it has only ever seen drawings)"
    )


def _train(options: DemoOptions, folder: Path) -> Path:
    """Trains, or goes on where an earlier demo was stopped; returns the run folder."""
    from simplepose.commands import train

    run = folder / "run"
    print("\n2. training", flush=True)
    argv = [PRESET, "--data.root", str(folder / "dataset"), "--output", str(run), "--train.seed", str(options.seed)]
    argv += ["--train.device", options.device]
    if options.epochs:
        argv += ["--train.epochs", str(options.epochs)]
    if (run / "checkpoints" / "last.train.pt").exists():
        argv.append("--resume")
    train.main(argv)
    return run


def _evaluate(options: DemoOptions, folder: Path, run: Path) -> None:
    """Scores the run on the held-out people, with exact boxes and with the noisy detections."""
    from simplepose.commands import evaluate

    for boxes in ("gt", "detections"):
        print(f"\n3. evaluating on held-out people, boxes: {boxes}", flush=True)
        argv = [str(run), "--data.root", str(folder / "dataset"), "--boxes", boxes, "--device", options.device]
        evaluate.main([*argv, "--output", str(folder / "results" / boxes), "--overwrite"])


def _predict(options: DemoOptions, folder: Path, run: Path) -> Path:
    """Draws the poses of some held-out pictures, found in the noisy detections; returns the contact sheet."""
    from simplepose.commands import predict
    from simplepose.core.draw_sheets import contact_sheet
    from simplepose.core.images import list_pictures, read_image, write_image

    layout, overlays = find_layout(folder / "dataset"), folder / "overlays"
    pictures = list_pictures([str(layout.val_images)])[: options.pictures]
    print(f"\n4. predicting {len(pictures)} held-out pictures", flush=True)
    argv = [str(path) for path in pictures]
    argv += ["--weights", str(run), "--boxes", str(layout.detections), "--annotations", str(layout.val_annotations)]
    predict.main([*argv, "--box-threshold", "0.5", "--device", options.device, "--output", str(overlays), "--overwrite"])
    sheet = overlays / "contact_sheet.jpg"
    write_image(sheet, contact_sheet([read_image(overlays / f"{path.stem}.jpg") for path in pictures], 4, cell_size_wh=(400, 320)))
    return sheet
