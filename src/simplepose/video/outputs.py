"""What a video run leaves behind: its folder, and what is made from the JSON lines: COCO results, a PoseTrack file, a table.

All but a Parquet table is written frame by frame, so memory does not grow with the length.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.boxes import xyxy_to_xywh
from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path, encode_json, readable, write_json
from simplepose.core.schema import KeypointSchema
from simplepose.video.outputs_lines import DIGITS, Line, triples


def new_folder(folder: str | Path, *, overwrite: bool = False) -> Path:
    """The output folder, made if need be.

    Raises:
        UserError: it holds something already and `overwrite` is off, or it cannot be made.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder} is not empty. Cure: choose another --output, or add --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror}. Cure: choose an output folder that is writable"
        ) from error
    return folder


def keep_sources(sources: Iterable[str | Path], outputs: Iterable[Path]) -> None:
    """Refuses to write over a file that is read, under whatever name it is reached.

    Raises:
        UserError: an output is one of the sources.
    """

    def identity(path: str | Path) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    read = {identity(path) for path in sources if os.path.isfile(path)}
    for path in outputs:
        if path.is_file() and identity(path) in read:
            raise UserError(
                f"{path} is read, and the result would be written over it. Cure: choose another --output"
            )


def write_coco_results(path: str | Path, lines: Iterable[Line]) -> None:
    """COCO keypoint results with `track_id`: `image_id` is the frame's index. No `bbox`: with one, COCO's code measures other areas."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        separator = b"["
        for line in lines:
            keypoints = triples(line.poses.keypoints, line.poses.keypoint_scores)
            for row in range(len(line.poses)):
                entry: dict[str, Any] = {
                    "image_id": line.frame,
                    "category_id": 1,
                    "keypoints": keypoints[row].ravel().tolist(),
                    "score": round(float(line.poses.scores[row]), 6),
                }
                if line.poses.track_ids is not None:
                    entry["track_id"] = int(line.poses.track_ids[row])
                file.write(separator + encode_json(entry))
                separator = b",\n"
        file.write(b"[]" if separator == b"[" else b"]")


def write_posetrack_results(
    folder: str | Path, name: str, lines: Iterable[Line], schema: KeypointSchema
) -> Path:
    """One sequence as a PoseTrack18 prediction file, `FOLDER/NAME.json`: images, annotations with `track_id` and `scores`, categories.

    The keypoints are those of `schema`, named in `categories`; track ids count from 0. People who
    were not followed, those of pictures, have none: `simplepose score` then prints AP only.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for line in lines:
        images.append(
            {
                "id": line.frame,
                "frame_id": line.frame,
                "file_name": f"images/{readable(name)}/{line.frame:06d}.jpg",
                "is_labeled": True,
            }
        )
        for row in range(len(line.poses)):
            scores = line.poses.keypoint_scores[row].astype(np.float64)
            entry = {
                "id": len(rows),
                "image_id": line.frame,
                "category_id": 1,
                "bbox": np.round(
                    xyxy_to_xywh(line.poses.boxes_xyxy[row]).astype(np.float64), DIGITS
                ).tolist(),
                "keypoints": triples(line.poses.keypoints[row], scores > 0).ravel().tolist(),
                "scores": np.round(scores, DIGITS).tolist(),
                "score": round(float(line.poses.scores[row]), 6),
            }
            if line.poses.track_ids is not None:
                entry["track_id"] = int(line.poses.track_ids[row]) - 1
            rows.append(entry)
    skeleton = [[a + 1, b + 1] for a, b in schema.skeleton]
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(schema.keypoints),
        "skeleton": skeleton,
    }
    path = Path(folder) / f"{name}.json"
    write_json(path, {"images": images, "annotations": rows, "categories": [category]})
    return path


def write_table(path: str | Path, lines: Iterable[Line], schema: KeypointSchema) -> None:
    """One row a person and frame: frame, seconds, track_id, score, box, then x, y, score of each keypoint. `.csv` or `.parquet`.

    Raises:
        UserError: another ending, or pandas is missing (Parquet).
    """
    path = Path(path)
    names = ["frame", "seconds", "track_id", "score", "filled", "left", "top", "right", "bottom"]
    names += [f"{keypoint}_{part}" for keypoint in schema.keypoints for part in ("x", "y", "score")]
    if path.suffix.lower() == ".csv":
        with (
            atomic_path(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(names)
            for line in lines:
                writer.writerows(_table_rows(line))
        return
    if path.suffix.lower() != ".parquet":
        raise UserError(f"{path}: tables are .csv or .parquet. Cure: use one of these endings")
    try:
        import pandas
    except ImportError as error:
        raise need("pandas", "tables", "a Parquet table") from error
    frame = pandas.DataFrame([row for line in lines for row in _table_rows(line)], columns=names)
    try:
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary)
    except ImportError as error:
        raise need("pyarrow", "tables", "a Parquet table") from error


def _table_rows(line: Line) -> Iterator[list[Any]]:
    """The rows of one frame."""
    poses = line.poses
    keypoints = triples(poses.keypoints, poses.keypoint_scores)
    for row in range(len(poses)):
        track_id = None if poses.track_ids is None else int(poses.track_ids[row])
        box = poses.boxes_xyxy[row].astype(np.float64).round(DIGITS).tolist()
        score = round(float(poses.scores[row]), DIGITS)
        yield [
            line.frame,
            line.seconds,
            track_id,
            score,
            bool(line.filled[row]),
            *box,
            *keypoints[row].ravel().tolist(),
        ]
