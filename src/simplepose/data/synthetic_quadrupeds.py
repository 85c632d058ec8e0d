"""Drawn four-legged animals with 8 keypoints: the worked example of a skeleton that is nobody's standard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.core import files as atomic
from simplepose.core.images import write_image
from simplepose.data.drawn_body import rotation
from simplepose.data.drawn_figure import PARTS, bright_colour, draw_fabric
from simplepose.data.drawn_paint import Canvas, paint_limb, plain
from simplepose.data.drawn_scenery import draw_background, paint_occluder
from simplepose.data.synthetic_folder import drawn_folder

QUADRUPED_KEYPOINTS = (
    "nose", "withers", "tail_base", "tail_tip", "front_left_paw", "front_right_paw", "hind_left_paw", "hind_right_paw",
)  # fmt: skip
QUADRUPED_SKELETON = ((0, 1), (1, 2), (2, 3), (1, 4), (1, 5), (2, 6), (2, 7))
"""Pairs of 0-based indices."""
SIZES_WH = ((320, 256), (360, 270))
_BODY, _HEAD, _TAIL, _LEGS = 1, 2, 3, 4  # + 0..3 for the legs, in the order of the paws
_SEEN_ON = ((_HEAD,), (_BODY,), (_BODY, _TAIL), (_TAIL,), (_LEGS,), (_LEGS + 1,), (_LEGS + 2,), (_LEGS + 3,))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadrupedDataset:
    """Where everything of a drawn data set lies."""

    root: Path
    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def write_synthetic_quadrupeds(root: str | Path, *, train_animals: int, val_animals: int, seed: int = 0) -> QuadrupedDataset:
    """Draws animals and writes `root/annotations/quadruped_{train,val}.json` (COCO keypoints format) and `root/images/{train,val}/*.jpg`.

    The folder appears whole or not at all; a folder with the same settings is left as it is.

    Args:
        root: a folder that does not exist, is empty, or was written by this function with these settings.
        train_animals: annotated animals of the training half, at least 1.
        val_animals: annotated animals of the validation half, at least 1.
        seed: the source of chance.

    Raises:
        UserError: `root` holds something else, a count is not positive, or the disk is full.
    """
    root = Path(root)
    settings = {"train_animals": train_animals, "val_animals": val_animals, "seed": seed}
    with drawn_folder(root, kind="drawn quadrupeds", settings=settings, counts=("train_animals", "val_animals")) as folder:
        if folder is not None:
            for half, (split, animals) in enumerate((("train", train_animals), ("val", val_animals))):
                value = _write_split(folder / "images" / split, half, animals, seed)
                atomic.write_json(folder / "annotations" / f"quadruped_{split}.json", value)
    places = {
        f"{split}_{what}": path
        for split in ("train", "val")
        for what, path in (("annotations", root / "annotations" / f"quadruped_{split}.json"), ("images", root / "images" / split))
    }
    return QuadrupedDataset(root=root, **places)


def _write_split(folder: Path, half: int, animals: int, seed: int) -> dict[str, Any]:
    """Pictures of one half; returns its annotation file."""
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    while len(annotations) < animals:
        image_id = len(images) + 1
        rng = np.random.default_rng([seed, 7, half, image_id])
        image, found = draw_animals(rng, min(int(rng.integers(1, 3)), animals - len(annotations)))
        name = f"animal_{image_id:05d}.jpg"
        write_image(folder / name, image)
        images.append({"id": image_id, "file_name": name, "width": image.shape[1], "height": image.shape[0]})
        for entry in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, **entry})
    category = {
        "id": 1,
        "name": "quadruped",
        "supercategory": "animal",
        "keypoints": list(QUADRUPED_KEYPOINTS),
        "skeleton": [[a + 1, b + 1] for a, b in QUADRUPED_SKELETON],
    }
    return {
        "info": {"description": "drawn quadrupeds"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }


def draw_animals(rng: np.random.Generator, animals: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draws one picture.

    Args:
        rng: the source of chance.
        animals: how many, 1 or 2.

    Returns:
        (H, W, 3) uint8 RGB; for each animal of which something is seen `bbox` (xywh), `area`, `keypoints` (24 numbers) and `num_keypoints`.
    """
    width, height = SIZES_WH[rng.integers(len(SIZES_WH))]
    canvas = Canvas(draw_background(rng, (width, height)))
    placed = []
    for index in range(animals):
        scale = rng.uniform(0.4, 0.52) * width if animals == 1 else rng.uniform(0.3, 0.4) * width
        share = (index + 0.5 + rng.uniform(-0.12, 0.12)) / animals
        centre = np.array([share * width, height * rng.uniform(0.62, 0.75) + index * 0.06 * height])
        placed.append(_paint_animal(canvas, rng, centre, scale, index))
        if rng.random() < 0.15:
            paint_occluder(canvas, rng, centre[0] + rng.normal(0, 0.2) * scale, centre[1] + 0.33 * scale, 0.8 * scale)
    found = [entry for index, points in enumerate(placed) if (entry := _annotate(canvas, points, index)) is not None]
    return canvas.finish(), found


def _paint_animal(canvas: Canvas, rng: np.random.Generator, centre_xy: np.ndarray, scale: float, index: int) -> np.ndarray:
    """Paints animal `index` and returns its keypoints (8, 2) in pixels. Body frame: x to its own left, y up, z forward."""
    fur = draw_fabric(rng, patterned=0.6)
    dark = plain(bright_colour(rng) * 0.35)
    leg, neck, girth = rng.uniform(0.2, 0.36), rng.uniform(0.1, 0.24), rng.uniform(0.8, 1.2)
    wag, nod = rng.uniform(-0.5, 1.1), rng.uniform(-0.1, 0.12)
    yaw = float(rng.choice([-1, 1]) * rng.normal(80, 22))
    view = rotation("x", float(rng.uniform(2, 16))) @ rotation("y", yaw)
    shoulder, rump = np.array([0, 0.0, 0.27]), np.array([0, 0.0, -0.27])
    withers, tail = shoulder + _at(0, 0.085 * girth, -0.02), rump + _at(0, 0.06 * girth, -0.07)
    head = shoulder + _at(0, neck + nod, 0.16)
    nose = head + _at(0, -0.03, 0.14)
    tip = tail + 0.26 * np.array([0, np.sin(wag), -np.cos(wag)])
    swings = rng.normal(0, 14, 4)
    paws, jobs = [], []

    def limb(start: np.ndarray, end: np.ndarray, radii: tuple[float, float], shader: Any, part: int, nearer: float = 0.0) -> None:
        ends = [centre_xy + scale * (view @ point)[:2] * [1, -1] for point in (start, end)]
        depth = 0.5 * float((view @ start)[2] + (view @ end)[2]) + nearer
        thick = (radii[0] * scale, radii[1] * scale)
        jobs.append((depth, lambda: paint_limb(canvas, ends[0], ends[1], thick, shader, PARTS * (index + 1) + part, scale)))

    for number, (base, side) in enumerate(((shoulder, 1), (shoulder, -1), (rump, 1), (rump, -1))):
        hip = base + _at(side * 0.07 * girth, -0.03, 0)
        knee = hip + rotation("x", -swings[number]) @ [0, -0.5 * leg, 0]
        paw = knee + rotation("x", -0.4 * swings[number] + (8 if number < 2 else -8)) @ [0, -0.5 * leg, 0]
        paws.append(paw)
        limb(hip, knee, (0.055 * girth, 0.034), fur, _LEGS + number)
        limb(knee, paw, (0.033, 0.026), fur, _LEGS + number)
        limb(paw, paw + _at(0, 0, 0.03), (0.03, 0.028), dark, _LEGS + number, 0.005)
    limb(rump, shoulder, (0.105 * girth, 0.11 * girth), fur, _BODY)
    limb(shoulder + _at(0, 0.03, 0), head, (0.075 * girth, 0.055), fur, _BODY, 0.005)
    limb(tail, tip, (0.026, 0.014), fur, _TAIL, -0.01)
    limb(head, nose, (0.068, 0.036), fur, _HEAD, 0.01)
    limb(nose, nose + _at(0, 0, 0.012), (0.02, 0.02), dark, _HEAD, 0.03)
    for side in (1, -1):
        limb(head + _at(side * 0.045, 0.04, -0.01), head + _at(side * 0.07, 0.12, -0.03), (0.028, 0.012), dark, _HEAD, 0.004)
        eye = head + _at(side * 0.048, 0.022, 0.06)
        limb(eye, eye, (0.014, 0.014), plain(np.full(3, 245, np.float32)), _HEAD, 0.02)
        limb(eye + _at(0, 0, 0.006), eye + _at(0, 0, 0.006), (0.008, 0.008), plain(np.full(3, 10, np.float32)), _HEAD, 0.021)
    for _, paint in sorted(jobs, key=lambda job: job[0]):
        paint()
    points = np.stack([nose, withers, tail, tip, *paws]) @ view.T
    return centre_xy + scale * points[:, :2] * [1, -1]


def _at(left: float, up: float, front: float) -> np.ndarray:
    return np.array([left, up, front])


def _annotate(canvas: Canvas, keypoints: np.ndarray, index: int) -> dict[str, Any] | None:
    """COCO's fields for one animal of the finished canvas, or None where nothing of it is seen."""
    mask = (canvas.owner // PARTS == index + 1).astype(np.uint8)
    area = int(cv2.countNonZero(mask))
    if not area:
        return None
    height, width = mask.shape
    flat: list[float] = []
    for row, (x, y) in enumerate(keypoints):
        column, line = round(float(x)), round(float(y))
        if not (0 <= column < width and 0 <= line < height):
            flat += [0, 0, 0]
            continue
        seen = canvas.owner[line, column] - PARTS * (index + 1) in _SEEN_ON[row]
        flat += [round(float(x), 2), round(float(y), 2), 2 if seen else 1]
    box = [float(value) for value in cv2.boundingRect(mask)]
    return {"bbox": box, "area": float(area), "keypoints": flat, "num_keypoints": sum(flag > 0 for flag in flat[2::3])}
