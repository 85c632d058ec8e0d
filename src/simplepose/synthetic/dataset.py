"""Drawn people as a data set: a COCO-format folder in the seed's layout, with noisy detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng

from simplepose.core.boxes import iou, xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import hidden_folder, read_json, write_json
from simplepose.core.images import write_image
from simplepose.core.schema import COCO_17, KeypointSchema
from simplepose.data.source import DataLayout, find_layout
from simplepose.synthetic.scene import Row, draw_people

MARKER = "synthetic.json"
"""File that says a folder was drawn, and with which settings."""
VERSION = 4
"""Raised when the drawings change, so that an old folder is not taken for a new one."""

Draw = Callable[[Generator, int], tuple[np.ndarray, list[Row]]]
"""(source of chance, most subjects) -> (H, W, 3) uint8 RGB, COCO's fields of each subject."""


def write_synthetic_dataset(
    root: str | Path, *, train_people: int, val_people: int, seed: int = 0
) -> DataLayout:
    """Draws people and writes `root/{annotations,dets,images/{train2017,val2017}}` and two more.

    The folder appears whole or not at all; one with the same settings is left as it is. The same
    seed gives the same pictures whatever the counts, but for the last picture.

    Args:
        root: a folder that does not exist, is empty, or was written with these settings.
        train_people: annotated people of the training half, at least 1.
        val_people: annotated people of the validation half, at least 1.
        seed: the source of chance, at least 0.

    Raises:
        UserError: `root` holds something else, a count is not positive, or the disk is full.
    """
    counts = {"train_people": train_people, "val_people": val_people}
    with drawn_folder(Path(root), "drawn people", counts, seed) as folder:
        if folder is not None:
            for name in ("dets", "imagenet_weights", "model_dump"):
                (folder / name).mkdir()
            for half, (split, people) in enumerate(
                {"train2017": train_people, "val2017": val_people}.items()
            ):
                annotations = folder / "annotations" / f"person_keypoints_{split}.json"
                images, stream = folder / "images" / split, [seed, half]
                content = write_coco(annotations, images, COCO_17, draw_people, people, stream)
            detections = draw_detections(content, default_rng([seed, 2]))
            write_json(folder / "dets" / "human_detection.json", detections)
    return find_layout(root)


@contextmanager
def drawn_folder(root: Path, kind: str, counts: dict[str, int], seed: int) -> Iterator[Path | None]:
    """Yields a temporary folder that becomes `root` when the block succeeds.

    Yields None where `root` holds these very drawings already.

    Args:
        root: the final place.
        kind: what is drawn, for the marker.
        counts: how many, by name; each must be positive.
        seed: the source of chance.

    Raises:
        UserError: `root` holds something else, a count is not positive, or it cannot be written.
    """
    if min(counts.values()) < 1:
        raise UserError(f"{counts}: nothing to draw. Cure: ask for at least 1 of each")
    marker = {"kind": kind, "version": VERSION, **counts, "seed": seed}
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        found = read_json(root / MARKER) if (root / MARKER).is_file() else "other files"
        if found != marker:
            raise UserError(
                f"{root} holds {found}, not these drawings: {marker}. "
                "Cure: choose a folder that does not exist yet"
            )
        yield None
        return
    with hidden_folder(root) as temporary:
        yield temporary
        write_json(temporary / MARKER, marker, indent=True)
        if root.is_dir():
            root.rmdir()
        temporary.rename(root)


def write_coco(
    annotations: Path,
    images: Path,
    schema: KeypointSchema,
    draw: Draw,
    count: int,
    stream: list[int],
) -> Row:
    """Draws pictures until `count` subjects are annotated; writes and returns a COCO file.

    Args:
        annotations: the JSON file.
        images: a folder that does not exist.
        schema: name and keypoints of the category.
        draw: draws one picture.
        count: subjects.
        stream: source of chance; picture n, from 1, is drawn with (*stream, n).
    """
    images.mkdir(parents=True)
    # Ids of different halves are different.
    first_id = 500_000 * stream[-1]
    image_rows: list[Row] = []
    rows: list[Row] = []
    while len(rows) < count:
        number = len(image_rows) + 1
        image, found = draw(default_rng([*stream, number]), count - len(rows))
        image_id = first_id + number
        name = f"{image_id:012d}.jpg"
        write_image(images / name, image)
        height, width = image.shape[:2]
        image_rows.append({"id": image_id, "file_name": name, "width": width, "height": height})
        ids = {"image_id": image_id, "category_id": 1, "iscrowd": 0}
        for fields in found:
            rows.append({"id": first_id + len(rows) + 1, **ids, **fields})
    skeleton = [[a + 1, b + 1] for a, b in schema.skeleton]
    category = {"id": 1, "name": schema.name, "keypoints": schema.keypoints, "skeleton": skeleton}
    content = {"images": image_rows, "annotations": rows, "categories": [category]}
    write_json(annotations, content)
    return content


def draw_detections(content: Row, rng: Generator) -> list[Row]:
    """What a middling detector would report about a COCO file.

    Boxes are shifted by a few per cent, a quarter is reported twice, three per cent are missed, and
    there are false alarms. Scores follow the overlap with the truth, with noise.

    Returns:
        Entries `{image_id, category_id, bbox (xywh), score}`.
    """
    detections: list[Row] = []
    for image in content["images"]:
        boxes = [row["bbox"] for row in content["annotations"] if row["image_id"] == image["id"]]
        truth = np.array(boxes).reshape(-1, 4)
        truth = truth.repeat(rng.choice(3, len(truth), p=(0.03, 0.72, 0.25)), 0)
        found = truth + rng.normal(0, 0.04, truth.shape) * np.tile(truth[:, 2:], 2)
        overlap = np.diag(iou(xywh_to_xyxy(found), xywh_to_xyxy(truth)))
        false = rng.uniform((0, 0, 0.1, 0.2), (0.7, 0.4, 0.3, 0.6), (rng.poisson(0.6), 4))
        false *= np.tile((image["width"], image["height"]), 2)
        scores = np.concatenate([overlap, rng.beta(1.5, 5, len(false))])
        scores = np.clip(scores + rng.normal(0, 0.05, len(scores)), 0.01, 0.999)
        for box, score in zip([*found, *false], scores.tolist(), strict=True):
            row = {"image_id": image["id"], "category_id": 1, "bbox": box.round(2).tolist()}
            detections.append({**row, "score": round(score, 4)})
    return detections
