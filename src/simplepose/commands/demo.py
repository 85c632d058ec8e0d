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
    print(
        f"1. drawing {options.people:,} people to train on and {options.val_people:,} to evaluate on",
        flush=True,
    )
    write_synthetic_dataset(
        folder / "dataset",
        train_people=options.people,
        val_people=options.val_people,
        seed=options.seed,
    )
    print(
        f"   {folder / 'dataset'}: a COCO-format folder ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    if options.only_data:
        print(f"next: simplepose train {PRESET} --data.root {folder / 'dataset'}")
        return
    trained = _train(options, folder)
    _evaluate(options, folder, trained)
    sheet = _predict(options, folder, trained)
    print(
        f"\nThe demo took {time.monotonic() - began:.0f} s. Everything is in {folder}:\n"
        f"  {folder / 'dataset'}  drawn people in the layout that --data.root takes\n"
        f"  {trained}  the run: config.yaml, metrics.jsonl, checkpoints\n"
        f"  {folder / 'results'}  predictions.json and metrics.json for both kinds of boxes\n"
        f"  {sheet}  what the network found on held-out pictures\n"
        f"next: simplepose predict YOUR.jpg --weights {trained} --boxes whole    (it has only ever seen drawings)"
    )


def _train(options: DemoOptions, folder: Path) -> Path:
    """Trains, or goes on where an earlier demo was stopped; returns the run folder."""
    from simplepose.commands import train

    output = folder / "run"
    print("\n2. training", flush=True)
    preset = load_preset(PRESET)
    epochs = options.epochs or preset.train.epochs
    config = replace(
        preset,
        output=str(output),
        resume=(output / "checkpoints" / "last.train.pt").exists(),
        data=DataConfig(root=str(folder / "dataset")),
        train=replace(preset.train, seed=options.seed, device=options.device, epochs=epochs),
    )
    train.run(TrainOptions(preset=PRESET, config=config))
    return output


def _evaluate(options: DemoOptions, folder: Path, run: Path) -> None:
    """Scores the run on the held-out people, with exact boxes and with the noisy detections."""
    from simplepose.commands import evaluate

    for boxes in ("gt", "detections"):
        print(f"\n3. evaluating on held-out people, boxes: {boxes}", flush=True)
        argv = [
            str(run),
            "--data.root",
            str(folder / "dataset"),
            "--boxes",
            boxes,
            "--device",
            options.device,
        ]
        argv += ["--output", str(folder / "results" / boxes), "--overwrite"]
        evaluate.run(parse("evaluate", argv))


def _predict(options: DemoOptions, folder: Path, run: Path) -> Path:
    """Draws the poses of some held-out pictures, found in the noisy detections; returns the contact sheet."""
    from simplepose.commands import predict
    from simplepose.core.draw import contact_sheet
    from simplepose.core.images import list_pictures, read_image, write_image

    layout, overlays = find_layout(folder / "dataset"), folder / "overlays"
    pictures = list_pictures([str(layout.val_images)])[: options.pictures]
    print(f"\n4. predicting {len(pictures)} held-out pictures", flush=True)
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
    write_image(
        sheet,
        contact_sheet(
            [read_image(overlays / f"{path.stem}.jpg") for path in pictures],
            4,
            cell_size_wh=(400, 320),
        ),
    )
    return sheet
