"""What the groups of the modern recipe are worth when the backbone begins from ImageNet weights.

    python benchmarks/imagenet_ablation.py DATA FOLDER [--epochs 3] [--device cpu]

Goes from `coco_lite0_128x96_mini` (Microsoft's recipe) to `coco_lite0_128x96_mini_modern` in five
groups of fields, trained on train_small384 and scored on images160 with ground-truth boxes: eight
trainings, two seeds of both ends and one of what is between. What is finished is kept: the same
command goes on, and the same command given twice divides the trainings. Needs
`pip install simplepose[backbones]`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from simplepose.config import Config, DataConfig, load_preset
from simplepose.training.ablation import (
    GROUPS,
    Scorer,
    Table,
    Variant,
    attempt,
    make_variants,
    shorten,
)
from simplepose.training.train import train

COARSE = {
    "codec": ("sub-pixel targets", "DARK decoding", "exact flip", "target width"),
    "optimiser": ("batch size", "AdamW, warm-up, cosine", "averaged weights", "initialisation"),
    "head": ("head",),
    "geometry": ("scale, rotation, shift, half body",),
    "colour": ("colour and occlusion",),
}
"""Group of the table -> groups of `simplepose ablation`."""


def settle(name: str, data: DataConfig, epochs: int, device: str) -> Config:
    """A preset with the data and budget of all trainings; it is tested at their end."""
    config = shorten(load_preset(name), epochs)
    settings = replace(config.train, device=device, evaluate_every=0, save_every_minutes=5)
    return replace(config, data=data, train=settings)


def coarse_variants(base: Config, goal: Config) -> list[Variant]:
    """Reference and the five groups, each on top of those before it."""
    fine = {variant.name: variant for variant in make_variants(base, goal)}
    if odd := set(fine) - {"reference"}.union(*COARSE.values()):
        raise SystemExit(f"the presets differ in {', '.join(odd)}, which no group of COARSE holds")
    assert set().union(*COARSE.values()) <= set(GROUPS)
    variants = [fine["reference"]]
    for name, members in COARSE.items():
        there = [fine[member] for member in members if member in fine]
        changes = {field: value for one in there for field, value in one.changes.items()}
        variants.append(Variant(name, changes, there[-1].config))
    return variants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with coco_train_small384 and images160")
    parser.add_argument("folder", type=Path, help="of the trainings and the table")
    parser.add_argument("--epochs", type=int, default=3, help="of each training")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    small, held = options.data / "coco_train_small384", options.data / "coco_train2017_images160"
    data = DataConfig(
        train_annotations=str(small / "person_keypoints_train_small384.json"),
        train_images=str(small / "images"),
        val_annotations=str(held / "person_keypoints_train2017_160.json"),
        val_images=str(held / "train2017"),
        workers=1,
    )
    names = ("coco_lite0_128x96_mini", "coco_lite0_128x96_mini_modern")
    base, goal = (settle(name, data, options.epochs, options.device) for name in names)
    score = Scorer(goal)
    table = Table(options.folder, goal, score.box_name, coarse_variants(base, goal), seeds=2)
    last = len(table.variants) - 1
    for number, config in enumerate(table.configs):
        seed, index = divmod(number, len(table.variants))
        if seed == 0 or index in (0, last):
            attempt(table, config, train, score)
    table.write()


if __name__ == "__main__":
    main()
