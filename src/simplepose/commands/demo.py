"""`simplepose demo`: the whole main job on drawn people: draw, fine-tune the starter network,
evaluate before and after, predict."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from simplepose.commands.options import DemoOptions, PredictOptions, TrainOptions, parse
from simplepose.config import DataConfig, load_preset
from simplepose.data.source import find_layout
from simplepose.pose.checkpoints import STARTER
from simplepose.synthetic.dataset import write_synthetic_dataset

PRESET, EPOCHS = "coco_lite0_192x160_mini_modern", 2
"""The starter's network at a size and length that take a minute."""


def run(options: DemoOptions) -> None:
    """Runs the demo and prints where everything is.

    Raises:
        UserError: the output folder holds something else, or a number makes no sense.
    """
    began, folder = time.monotonic(), Path(options.output)
    dataset, trained, results = folder / "dataset", folder / "run", folder / "results"
    _say(f"1. drawing {options.people:,} people to train on, {options.val_people:,} to evaluate on")
    write_synthetic_dataset(
        dataset, train_people=options.people, val_people=options.val_people, seed=options.seed
    )
    _say(f"   {dataset}: a COCO-format folder ({time.monotonic() - began:.0f} s)")
    if options.only_data:
        _say(f"next: simplepose train {PRESET} --train.weights {STARTER} --data.root {dataset}")
        return
    _say(f"\n2. evaluating {STARTER}, the network that comes with simplepose and saw photographs")
    _evaluate(options, dataset, STARTER, "gt", results / STARTER)
    _train(options, dataset, trained)
    for boxes in ("gt", "detections"):
        _say(f"\n4. evaluating the fine-tuned network on held-out people, boxes: {boxes}")
        _evaluate(options, dataset, str(trained), boxes, results / boxes)
    sheet = _predict(options, dataset, trained, folder / "overlays")
    _say(
        f"\nThe demo took {time.monotonic() - began:.0f} s. Everything is in {folder}:\n"
        f"  {dataset}  drawn people in the layout that --data.root takes\n"
        f"  {trained}  the run: config.yaml, metrics.jsonl, checkpoints\n"
        f"  {results}  predictions.json and metrics.json, before and after\n"
        f"  {sheet}  what the network found on held-out pictures\n"
        "next: simplepose predict YOUR.jpg    (the starter network: the new one knows drawings now)"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _train(options: DemoOptions, dataset: Path, run: Path) -> None:
    """Trains, or goes on where an earlier demo was stopped."""
    from simplepose.commands import train

    preset, epochs = load_preset(PRESET), options.epochs or EPOCHS
    _say(f"\n3. fine-tuning it on drawn people, {epochs} epochs")
    config = replace(
        preset,
        output=str(run),
        resume=(run / "checkpoints" / "last.train.pt").exists(),
        data=DataConfig(root=str(dataset)),
        train=replace(
            preset.train,
            weights=STARTER,
            seed=options.seed,
            device=options.device,
            epochs=epochs,
            evaluate_every=0,
        ),
    )
    train.run(TrainOptions(preset=PRESET, config=config))


def _evaluate(options: DemoOptions, dataset: Path, weights: str, boxes: str, results: Path) -> None:
    """Scores a network on the held-out people."""
    from simplepose.commands import evaluate

    words = ["--data.root", dataset, "--boxes", boxes, "--device", options.device]
    words += ["--output", results, "--overwrite"]
    evaluate.run(parse("evaluate", [str(word) for word in (weights, *words)]))


def _predict(options: DemoOptions, dataset: Path, run: Path, overlays: Path) -> Path:
    """Draws the poses of some held-out pictures, found in the noisy detections.

    Returns:
        The contact sheet.
    """
    from simplepose.commands import predict
    from simplepose.core.draw import contact_sheet
    from simplepose.core.images import list_pictures, read_image, write_image

    layout = find_layout(dataset)
    pictures = list_pictures([str(layout.val_images)])[: options.pictures]
    _say(f"\n5. predicting {len(pictures)} held-out pictures")
    predict.run(
        PredictOptions(
            pictures=tuple(map(str, pictures)),
            weights=str(run),
            boxes=str(layout.detections),
            annotations=str(layout.val_annotations),
            box_threshold=0.5,
            device=options.device,
            output=str(overlays),
            overwrite=True,
        )
    )
    sheet = overlays / "contact_sheet.jpg"
    drawn = [read_image(overlays / f"{path.stem}.jpg") for path in pictures]
    write_image(sheet, contact_sheet(drawn, 4, cell_size_wh=(400, 320)))
    return sheet
