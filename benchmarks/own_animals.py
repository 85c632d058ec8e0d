"""Own animals, from one annotation file to poses in unseen pictures with nothing but two run folders.

    python benchmarks/own_animals.py FOLDER [--train 400] [--val 100] [--epochs 6]

draws four-legged animals (tests/drawn/quadrupeds.py), trains a detector and a pose network on the
same JSON, tests both on animals that neither saw (box AP; OKS-AP in annotated boxes and in the
detector's own), and predicts. Every command is printed before it runs; what has been done is kept.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=400, help="drawn animals to train on")
    parser.add_argument("--val", type=int, default=100, help="drawn animals to test on")
    parser.add_argument("--epochs", type=int, default=6, help="of each of the two trainings")
    options = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    from drawn.quadrupeds import write_quadrupeds

    folder = options.folder
    animals, detector, pose = folder / "animals", folder / "detector", folder / "pose"
    write_quadrupeds(animals, train_animals=options.train, val_animals=options.val)
    train, val = (
        [str(animals / "annotations" / f"quadruped_{split}.json"), str(animals / "images" / split)]
        for split in ("train", "val")
    )
    data = ["--data.train-annotations", train[0], "--data.train-images", train[1]]
    budget = ["--train.epochs", str(options.epochs), "--train.batch-size", "8"]
    budget += ["--train.evaluate-every", "0", "--train.warmup-epochs", "0.5", "--train.ema", "0.98"]
    truth = ["--annotations", val[0], "--images", val[1]]
    size = "--input-size-wh"
    commands = {
        detector: ["train", "person_lite0_320", size, "192", "160", *data, *budget],
        pose: ["train", "coco_lite0_128x96_mini_modern", size, "128", "96", *data, *budget],
        folder / "box_ap": ["evaluate", str(detector), *truth],
        folder / "in_annotated_boxes": ["evaluate", str(pose), *truth],
        folder / "in_own_boxes": ["evaluate", str(pose), *truth, "--boxes", str(detector)],
        folder / "poses": ["predict", val[1], "--weights", str(pose), "--boxes", str(detector)],
    }
    for output, words in commands.items():
        call([*words, "--output", str(output)], output)


def call(words: list[str], output: Path) -> None:
    """Runs one command of simplepose, unless its output is there."""
    if output.exists():
        print(f"{output}: done before")
        return
    print(f"\n$ {shlex.join(['simplepose', *words])}", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "simplepose", *words], check=True)
    print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
