"""`simplepose predict PICTURES... --weights W --boxes FILE|whole`: poses of pictures, drawn and as JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from simplepose.atomic import read_json, write_json
from simplepose.boxes import validate_xyxy, xywh_to_xyxy
from simplepose.errors import UserError
from simplepose.estimator import PoseEstimator
from simplepose.images import list_pictures, read_image, write_image
from simplepose.structures import People, Poses
from simplepose.training.journal import Progress


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Estimates poses in pictures and draws them."""

    pictures: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Pictures, folders or glob patterns."""
    weights: str
    """Run folder, .safetensors file or .onnx file."""
    boxes: str = ""
    """Where people are: the path of a detection file, or `whole` (each picture shows one person)."""
    annotations: str = ""
    """COCO JSON whose `images` tell which file has which image_id; by default the digits of the file name."""
    output: str = "predictions"
    """Folder for the overlay pictures and poses.json."""
    overwrite: bool = False
    """Replace what is already in the output folder."""
    box_threshold: float = 0.3
    """Boxes of a detection file with a lower score are left out."""
    keypoint_threshold: float = 0.2
    """Keypoints with a lower score are not drawn."""
    flip_test: bool = True
    """Average with the mirrored crop."""
    skip_broken: bool = False
    """Leave unreadable pictures out and go on."""
    device: str = "auto"
    """auto, cpu, cuda, npu, mps, xpu."""


def main(argv: list[str]) -> None:
    """Predicts and writes the overlays and poses.json."""
    options = tyro.cli(PredictOptions, args=argv, prog="simplepose predict", description=PredictOptions.__doc__)
    if not options.boxes:
        raise UserError(
            "simplepose predict needs to know where people are. Cure: --boxes FILE with detections (COCO result format), "
            "or --boxes whole where each picture shows one person"
        )
    pictures = list_pictures(options.pictures)
    folder = Path(options.output)
    names = _overlay_names(pictures)
    taken = [name for name in ("poses.json", *names) if (folder / name).exists()]
    if taken and not options.overwrite:
        raise UserError(f"{folder} already holds {taken[0]}. Cure: --overwrite, or --output with another folder")
    find_people = people_source(options.boxes, pictures, options.annotations, options.box_threshold)
    estimator = PoseEstimator.from_checkpoint(options.weights, device=options.device, flip_test=options.flip_test)
    rows, people_count = [], 0
    with Progress("predicting", "pictures") as progress:
        for number, (path, name) in enumerate(zip(pictures, names, strict=True), 1):
            try:
                image = read_image(path, upright=True)
            except UserError as error:
                if not options.skip_broken:
                    raise
                print(f"skipped: {error}", file=sys.stderr)
                continue
            people = find_people(path, image)
            poses = estimator.estimate_batch([image], [people])[0]
            people_count += len(poses)
            write_image(folder / name, poses.draw(image, estimator.schema, keypoint_threshold=options.keypoint_threshold))
            rows.append(_row(path, poses, image))
            progress(number, len(pictures))
    record = {"weights": options.weights, "preset": estimator.spec.preset, "schema": estimator.schema.to_dict(), "pictures": rows}
    write_json(folder / "poses.json", record)
    print(f"{people_count:,} people in {len(rows):,} pictures -> {folder}/ ({len(rows):,} overlays, poses.json)")


def people_source(boxes: str, pictures: list[Path], annotations: str, threshold: float) -> Any:
    """A function (path, image) -> People for `whole` or a detection file.

    Raises:
        UserError: the file is missing, holds a bad box, or matches none of the pictures.
    """
    if boxes == "whole":
        return lambda path, image: People(np.array([[0, 0, image.shape[1], image.shape[0]]]), np.ones(1))
    rows = read_json(boxes)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "bbox" in row for row in rows):
        raise UserError(f"{boxes} is not a detection file (a JSON list of rows with image_id, bbox, score). Cure: write COCO results")
    names = {image["file_name"]: image["id"] for image in read_json(annotations)["images"]} if annotations else {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row.get("file_name", row.get("image_id"))), []).append(row)

    def rows_of(path: Path) -> list[dict[str, Any]]:
        digits = path.stem.rsplit("_", 1)[-1]
        keys = (path.name, str(names.get(path.name, "")), path.stem, str(int(digits)) if digits.isdigit() else "")
        return next((found[key] for key in keys if key in found), [])

    if not any(rows_of(path) for path in pictures):
        raise UserError(
            f"{boxes}: none of its {len(rows)} boxes is on {pictures[0].name} or the other {len(pictures) - 1} pictures (image ids start "
            f"{list(found)[:3]}). Cure: --annotations FILE tells which picture has which image_id"
        )

    def find(path: Path, image: np.ndarray) -> People:
        mine = [row for row in rows_of(path) if row.get("score", 1.0) >= threshold and row.get("category_id", 1) == 1]
        if not mine:
            return People.empty()
        xyxy = validate_xyxy(xywh_to_xyxy(np.array([row["bbox"] for row in mine], np.float64)), f"{boxes}, picture {path.name}")
        return People(xyxy, np.array([row.get("score", 1.0) for row in mine]))

    return find


def _overlay_names(pictures: list[Path]) -> list[str]:
    """A file name for each overlay; equal names from different folders get a number."""
    seen: dict[str, int] = {}
    names = []
    for path in pictures:
        seen[path.stem] = count = seen.get(path.stem, 0) + 1
        names.append(f"{path.stem}{f'_{count}' if count > 1 else ''}.jpg")
    return names


def _row(path: Path, poses: Poses, image: np.ndarray) -> dict[str, Any]:
    """One picture of poses.json."""
    return {
        "file_name": str(path),
        "width": image.shape[1],
        "height": image.shape[0],
        "people": [
            {
                "box_xyxy": poses.boxes_xyxy[n].tolist(),
                "score": float(poses.scores[n]),
                "keypoints": poses.keypoints[n].tolist(),
                "keypoint_scores": poses.keypoint_scores[n].tolist(),
            }
            for n in range(len(poses))
        ],
    }
