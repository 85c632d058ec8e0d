"""What the doctor finds broken stops whoever would train or test on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from simplepose.cli import main
from simplepose.commands.evaluate import read_data
from simplepose.commands.options import EvaluateOptions, HeldOutData
from simplepose.config import DataConfig
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.pictures import turned_pictures, with_orientation_note
from simplepose.doctor.checks import check_annotations, require_sound

POINTS = [[10, 12], [30, 14], [22, 60], [12, 88]]
Edit = Callable[[dict[str, Any]], None]


def write(folder: Path, edit: Edit = lambda row: None, *, share: float = 1.0) -> Path:
    """20 people, two a picture of 260 x 200; `edit` changes the first `share` of them."""
    images = folder / "pictures"
    images.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for index in range(20):
        left, top = 20 + 120 * (index % 2), 40 + 3 * index
        points = [[left + x, top + y, 2] for x, y in POINTS]
        row = {
            "id": index + 1,
            "image_id": index // 2,
            "category_id": 1,
            "bbox": [left, top, 42, 98],
            "area": 2000,
            "keypoints": [value for point in points for value in point],
        }
        if index < 20 * share:
            edit(row)
        rows.append(row)
    listed = []
    for index in range(10):
        cv2.imwrite(str(images / f"{index}.png"), np.zeros((200, 260, 3), np.uint8))
        listed.append({"id": index, "file_name": f"{index}.png", "width": 260, "height": 200})
    category = {"id": 1, "name": "fish", "keypoints": ["mouth", "left_fin", "right_fin", "end"]}
    path = folder / "people.json"
    content = {"images": listed, "annotations": rows, "categories": [category]}
    path.write_text(json.dumps(content))
    return path


def read(path: Path) -> Annotations:
    return read_coco(path, path.parent / "pictures")


def corners(row: dict[str, Any]) -> None:
    x, y, w, h = row["bbox"]
    row["bbox"] = [x, y, x + w, y + h]


def tiny(row: dict[str, Any]) -> None:
    row["area"] = 2


def other_resolution(row: dict[str, Any]) -> None:
    row["bbox"] = [3 * value for value in row["bbox"]]
    row["keypoints"] = [
        value * (1 if i % 3 == 2 else 3) for i, value in enumerate(row["keypoints"])
    ]


def fractions(row: dict[str, Any]) -> None:
    row["bbox"] = [value / 260 for value in row["bbox"]]
    row["keypoints"] = [
        value / (1 if i % 3 == 2 else 260) for i, value in enumerate(row["keypoints"])
    ]


def clean(row: dict[str, Any]) -> None:
    pass


FAULTS: list[tuple[Edit, str]] = [
    (corners, "x1, y1, x2, y2"),
    (tiny, "below 1 %"),
    (other_resolution, "outside their picture"),
    (fractions, "0..1"),
]


@pytest.mark.parametrize(("edit", "words"), FAULTS)
def test_broken_stops_unless_accepted(tmp_path: Path, edit: Edit, words: str) -> None:
    people = read(write(tmp_path, edit))
    with pytest.raises(UserError, match=r"people\.json.*--data\.accept-findings") as raised:
        require_sound(people, DataConfig())
    assert words in str(raised.value)
    found = require_sound(people, DataConfig(accept_findings=True))
    assert any(words in note and "accepted" in note for note in found.warnings)


@pytest.mark.parametrize("edit", [clean, tiny, other_resolution])
def test_slips_of_single_rows_do_not_stop(tmp_path: Path, edit: Edit) -> None:
    people = read(write(tmp_path, edit, share=0.1))
    found = {finding.level for finding in check_annotations(people)}
    assert found == (set() if edit is clean else {"warning"})
    assert require_sound(people, DataConfig()).warnings == people.warnings


def test_unknown_sizes_are_asked_of_the_files(tmp_path: Path) -> None:
    """Corner boxes show only against the size of the picture."""
    people = read(write(tmp_path, corners))
    people = replace(people, image_sizes_wh=np.zeros_like(people.image_sizes_wh))
    with pytest.raises(UserError, match="x1, y1, x2, y2"):
        require_sound(people, DataConfig())


def test_nobody_annotated_has_nothing_to_check(tmp_path: Path) -> None:
    nobody = read(write(tmp_path)).select([])
    assert require_sound(nobody, DataConfig()) is nobody


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientations_are_told(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path)
    people, picture = read(path), path.parent / "pictures" / "4.png"
    exif = Image.Exif()
    exif[274] = orientation
    with Image.open(picture) as image:
        image.save(picture, exif=exif)
    turned = orientation != 1
    assert len(turned_pictures(people)) == turned
    notes = with_orientation_note(people).warnings[len(people.warnings) :]
    assert len(notes) == turned and all("EXIF" in note for note in notes)


@pytest.mark.parametrize("command", ["train", "pack", "ablation", "train with validation"])
def test_commands_ask(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    bad, good = write(tmp_path / "bad", tiny), write(tmp_path / "good")
    train, val = (good, bad) if "validation" in command else (bad, good)
    words = [command.split()[0], "synthetic_demo"]
    for split, path in (("train", train), ("val", val)):
        if split == "train" or command != "pack":
            words += [f"--data.{split}-annotations", str(path)]
            words += [f"--data.{split}-images", str(path.parent / "pictures")]
    words += ["--output", "packed" if command == "pack" else "out"]
    words += ["--base", "coco_r50_256x192_ms"] * (command == "ablation")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert str(bad) in said and "below 1 %" in said
    if command == "pack":
        assert main([*words, "--data.accept-findings"]) == 0
        assert "below 1 %" in capsys.readouterr().err and (tmp_path / "packed").exists()


def test_evaluate_asks(tmp_path: Path) -> None:
    path = write(tmp_path, tiny)
    files = {"annotations": str(path), "images": str(tmp_path / "pictures")}
    with pytest.raises(UserError, match="below 1 %"):
        read_data(EvaluateOptions(weights="w", **files), read(path).schema)
    accepted = EvaluateOptions(weights="w", data=HeldOutData(accept_findings=True), **files)
    people, boxes = read_data(accepted, read(path).schema)
    assert len(people) == len(boxes) == 20 and "accepted" in people.warnings[-1]
