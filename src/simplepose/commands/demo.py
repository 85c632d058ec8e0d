"""`simplepose demo`: the whole main job on drawn people: draw, train, evaluate, predict."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from simplepose.commands.options import DemoOptions, PredictOptions, TrainOptions, parse
from simplepose.config import DataConfig, load_preset
from simplepose.data.source import find_layout
from simplepose.synthetic.dataset import write_synthetic_dataset

PRESET = "synthetic_demo"


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
        _say(f"next: simplepose train {PRESET} --data.root {dataset}")
        return
    _train(options, dataset, trained)
    _evaluate(options, dataset, trained, results)
    sheet = _predict(options, dataset, trained, folder / "overlays")
    _say(
        f"\nThe demo took {time.monotonic() - began:.0f} s. Everything is in {folder}:\n"
        f"  {dataset}  drawn people in the layout that --data.root takes\n"
        f"  {trained}  the run: config.yaml, metrics.jsonl, checkpoints\n"
        f"  {results}  predictions.json and metrics.json for both kinds of boxes\n"
        f"  {sheet}  what the network found on held-out pictures\n"
        f"next: simplepose predict YOUR.jpg --weights {trained} --boxes whole"
        "    (it has only ever seen drawings)"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _train(options: DemoOptions, dataset: Path, run: Path) -> None:
    """Trains, or goes on where an earlier demo was stopped."""
    from simplepose.commands import train

    _say("\n2. training")
    preset = load_preset(PRESET)
    epochs = options.epochs or preset.train.epochs
    config = replace(
        preset,
        output=str(run),
        resume=(run / "checkpoints" / "last.train.pt").exists(),
        data=DataConfig(root=str(dataset)),
        train=replace(preset.train, seed=options.seed, device=options.device, epochs=epochs),
    )
    train.run(TrainOptions(preset=PRESET, config=config))


def _evaluate(options: DemoOptions, dataset: Path, run: Path, results: Path) -> None:
    """Scores the run on the held-out people, with exact boxes and with the noisy detections."""
    from simplepose.commands import evaluate

    for boxes in ("gt", "detections"):
        _say(f"\n3. evaluating on held-out people, boxes: {boxes}")
        words = ["--data.root", dataset, "--boxes", boxes, "--device", options.device]
        words += ["--output", results / boxes, "--overwrite"]
        evaluate.run(parse("evaluate", [str(word) for word in (run, *words)]))


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
    _say(f"\n4. predicting {len(pictures)} held-out pictures")
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
