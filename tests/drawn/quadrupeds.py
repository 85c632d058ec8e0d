"""Drawn four-legged animals with 8 keypoints: a skeleton that is nobody's standard.

    python tests/drawn/quadrupeds.py FOLDER [--train 600] [--val 100] [--seed 0]

writes FOLDER/annotations/quadruped_{train,val}.json (COCO keypoints format) and
FOLDER/images/{train,val}/*.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from simplepose.core.schema import KeypointSchema
from simplepose.synthetic.dataset import drawn_folder, write_coco
from simplepose.synthetic.scene import (
    STRIDE,
    Canvas,
    Cloth,
    annotate,
    draw_background,
    draw_cloth,
    draw_colour,
    paint_thing,
    rotation,
)

QUADRUPED = KeypointSchema(
    name="quadruped",
    keypoints=(
        "nose",
        "withers",
        "tail_base",
        "tail_tip",
        "front_left_paw",
        "front_right_paw",
        "hind_left_paw",
        "hind_right_paw",
    ),
    skeleton=((0, 1), (1, 2), (2, 3), (1, 4), (1, 5), (2, 6), (2, 7)),
)
# Parts of an animal; the legs are 4 to 7, in the order of the paws.
_BODY, _HEAD, _TAIL, _LEGS = 1, 2, 3, 4
_SHOWN = [{_HEAD}, {_BODY}, {_BODY, _TAIL}, {_TAIL}, *({_LEGS + leg} for leg in range(4))]


def write_quadrupeds(root: Path, *, train_animals: int, val_animals: int, seed: int = 0) -> None:
    """Writes the data set of this file's head; a folder with the same settings is left as it is."""
    counts = {"train_animals": train_animals, "val_animals": val_animals}
    with drawn_folder(Path(root), "drawn quadrupeds", counts, seed) as folder:
        if folder is not None:
            for half, (split, animals) in enumerate(
                zip(("train", "val"), counts.values(), strict=True)
            ):
                annotations = folder / "annotations" / f"quadruped_{split}.json"
                images = folder / "images" / split
                write_coco(annotations, images, QUADRUPED, draw_animals, animals, [seed, 7, half])


def draw_animals(rng: Generator, most: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One picture of one to three animals: (H, W, 3) uint8 RGB, and COCO's fields of each."""
    size = rng.integers((288, 224), (361, 289))
    canvas = draw_background(rng, size)
    animals = min(int(rng.choice((1, 2, 3), p=(0.5, 0.35, 0.15))), most)
    scale = rng.uniform(0.75, 1) * size[0] * (0.52, 0.4, 0.32)[animals - 1]
    placed = []
    for index in range(animals):
        x = (index + 0.5 + rng.uniform(-0.12, 0.12)) / animals
        centre = size * (x, rng.uniform(0.55, 0.68) + 0.06 * index)
        placed.append(_paint_animal(canvas, rng, centre, scale * rng.uniform(0.85, 1.15), index))
        if rng.random() < 0.15:
            aside = scale * rng.normal((0, 0.33), (0.2, 0))
            paint_thing(canvas, rng, centre + aside, 0.7 * scale)
    found = [annotate(canvas, points, _SHOWN, index) for index, points in enumerate(placed)]
    return canvas.develop(rng), [fields for fields in found if fields]


def _at(left: float, up: float, front: float) -> np.ndarray:
    return np.array((left, up, front))


def _paint_animal(
    canvas: Canvas, rng: Generator, centre: np.ndarray, scale: float, index: int
) -> np.ndarray:
    """Paints animal `index`; returns its keypoints (8, 2) in pixels.

    Body frame: x to its own left, y up, z forward; the middle of the back is the origin.
    """
    view = rotation(0, rng.uniform(2, 16), rng.choice((-1, 1)) * rng.normal(80, 22))
    coat = draw_cloth(rng)
    dark, white, black = (
        Cloth(colour, colour)
        for colour in (0.35 * draw_colour(rng), np.full(3, 245), np.full(3, 10))
    )
    girth, leg, neck = rng.uniform((0.8, 0.2, 0.1), (1.2, 0.36, 0.3))
    shoulder, rump = np.array([0, 0, 0.27]), np.array([0, 0, -0.27])
    withers, tail = shoulder + _at(0, 0.085 * girth, -0.02), rump + _at(0, 0.06 * girth, -0.07)
    head = shoulder + _at(0, neck, 0.16)
    nose = head + _at(0, -0.03, rng.uniform(0.09, 0.18))
    wag = rng.uniform(-0.5, 1.1)
    tip = tail + rng.uniform(0.12, 0.3) * np.array([0, np.sin(wag), -np.cos(wag)])
    shapes = [
        (_BODY, coat, (rump, shoulder), (0.105 * girth, 0.11 * girth), 0),
        (_BODY, coat, (shoulder + _at(0, 0.03, 0), head), (0.075 * girth, 0.055), 0.005),
        (_TAIL, coat, (tail, tip), (0.026, 0.014), -0.01),
        (_HEAD, coat, (head, nose), (0.068, 0.036), 0.01),
        (_HEAD, dark, (nose,), (0.022,), 0.03),
    ]
    paws = []
    for number, (base, side) in enumerate(((shoulder, 1), (shoulder, -1), (rump, 1), (rump, -1))):
        swing = rng.normal(0, 14)
        hip = base + _at(side * 0.07 * girth, -0.03, 0)
        knee = hip + rotation(x=-swing) @ [0, -0.5 * leg, 0]
        paw = knee + rotation(x=0.4 * swing + (8 if number < 2 else -8)) @ [0, -0.5 * leg, 0]
        paws.append(paw)
        part = _LEGS + number
        shapes.append((part, coat, (hip, knee), (0.055 * girth, 0.034), 0))
        shapes.append((part, coat, (knee, paw), (0.033, 0.026), 0))
        shapes.append((part, dark, (paw, paw + _at(0, 0, 0.03)), (0.03, 0.028), 0.005))
    ear = rng.uniform(0.05, 0.12)
    for side in (1, -1):
        low, eye = head + _at(side * 0.045, 0.04, -0.01), head + _at(side * 0.05, 0.022, 0.06)
        shapes.append(
            (_HEAD, dark, (low, low + _at(side * 0.025, ear, -0.02)), (0.028, 0.012), 0.004)
        )
        shapes.append((_HEAD, white, (eye,), (0.016,), 0.02))
        shapes.append((_HEAD, black, (eye,), (0.009,), 0.021))

    def in_view(points: Any) -> np.ndarray:
        return np.array(points) @ view.T

    def depth(shape: Any) -> float:
        return float(in_view(shape[2])[:, 2].mean() + shape[4])

    for part, cloth, points, radii, _ in sorted(shapes, key=depth):
        centres = centre + scale * in_view(points)[:, :2] * (1, -1)
        owner = STRIDE * (index + 1) + part
        canvas.paint(centres, scale * np.array(radii), cloth, owner, scale)
    keypoints = in_view([nose, withers, tail, tip, *paws])
    return centre + scale * keypoints[:, :2] * (1, -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=600, help="animals to train on")
    parser.add_argument("--val", type=int, default=100, help="animals to evaluate on")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    write_quadrupeds(
        chosen.folder, train_animals=chosen.train, val_animals=chosen.val, seed=chosen.seed
    )
