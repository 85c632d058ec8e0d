"""`simplepose doctor` through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simplepose.cli import main
from simplepose.core.schema import COCO_17


def dataset(root: Path, **person: Any) -> Path:
    """A layout with one person a split; `person` overrides fields of the annotation."""
    for split in ("train2017", "val2017"):
        (root / "images" / split).mkdir(parents=True)
        cv2.imwrite(str(root / "images" / split / "1.jpg"), np.full((80, 100, 3), 120, np.uint8))
        keypoints = [value for k in range(17) for value in (20 + k, 15 + 2 * k, 2)]
        row = {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [15, 10, 40, 50],
            "area": 900,
            "iscrowd": 0,
            "keypoints": keypoints,
            **person,
        }
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 80}],
            "annotations": [row],
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    return root


def write_detections(root: Path, **box: Any) -> None:
    (root / "dets").mkdir()
    rows = [{"image_id": 1, "category_id": 1, "bbox": [15, 10, 40, 50], "score": 0.9, **box}]
    (root / "dets" / "human_detection.json").write_text(json.dumps(rows))


def run(*argv: str) -> int:
    """The exit status of the doctor."""
    try:
        return main(["doctor", *argv])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_versions_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert (
        "torch " in out and "used unless --device says otherwise" in out and "findings: none" in out
    )


def test_a_healthy_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = dataset(tmp_path / "data")
    write_detections(root)
    assert run("--data.root", str(root), "--html", str(tmp_path / "page.html")) == 0
    out = capsys.readouterr().out
    assert "box AP 1.000" in out and "people to train on      1" in out
    assert "imagenet weights missing" in out and "findings: 1" in out
    assert "data:image/jpeg;base64," in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    "name", ["vict.json", "photo.jpg", "letter.html", "link.html", "folder.html"]
)
def test_only_a_page_of_the_doctor_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "vict.json").write_text("{}")
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    (tmp_path / "letter.html").write_text("<!doctype html><title>a letter</title>")
    (tmp_path / "link.html").symlink_to(tmp_path / "vict.json")
    (tmp_path / "folder.html").mkdir()
    before = (tmp_path / name).read_bytes() if (tmp_path / name).is_file() else None
    assert run("--annotations", str(tmp_path / "vict.json"), "--html", str(tmp_path / name)) == 2
    error = capsys.readouterr().err
    assert name in error and "Cure:" in error
    assert (tmp_path / name).is_dir() or (tmp_path / name).read_bytes() == before


def test_a_page_of_the_doctor_is_written_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert run("--html", str(tmp_path / "page.htm")) == 0


def test_long_keypoint_names_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = dataset(tmp_path / "data")
    path = root / "annotations" / "person_keypoints_val2017.json"
    path.write_text(path.read_text().replace("left_shoulder", "front_left_paw_of_it"))
    run("--annotations", str(path), "--images", str(root / "images" / "val2017"))
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.endswith("#" * 30)]
    assert (
        "front_left_paw_of_it        1  ###" in out
        and len({line.index("#") for line in lines if "right_" in line or "paw" in line}) == 1
    )


def test_an_empty_folder_names_the_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data.root", str(tmp_path)) == 1
    assert (
        f"expected at {tmp_path / 'annotations' / 'person_keypoints_val2017.json'}"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("person", "box", "words"),
    [
        ({"keypoints": [0] * 51}, {}, "AP would be -1"),
        ({"iscrowd": 1}, {}, "AP would be -1"),
        ({"keypoints": [0.3, 0.4, 2] * 17}, {}, "AP against pixels would be 0"),
        ({"category_id": 2, "keypoints": None}, {}, "category of people"),
        ({}, {"image_id": 2}, "AP would be 0"),
        ({}, {"score": 0}, "AP would be 0"),
        ({}, {"bbox": [0.1, 0.1, 0.2, 0.4]}, "boxes lie in 0..1"),
    ],
)
def test_says_in_advance_why_ap_would_fail(
    tmp_path: Path,
    person: dict[str, Any],
    box: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = dataset(tmp_path / "data", **person)
    write_detections(root, **box)
    assert run("--data.root", str(root)) == 1
    out = capsys.readouterr().out
    assert words in out and "Cure:" in out


def test_boxes_of_another_category_alone_are_used_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = dataset(tmp_path / "data")
    write_detections(root, category_id=2)
    assert run("--data.root", str(root)) == 0
    assert "of category 2 are used" in capsys.readouterr().out


@pytest.mark.parametrize("category", [1, 7])
@pytest.mark.parametrize(("bbox", "status"), [([15, 10, 40, 50], 0), ([150, 10, 40, 50], 1)])
def test_boxes_alone_are_checked_for_a_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bbox: list[int], status: int, category: int
) -> None:
    root = dataset(tmp_path / "data", bbox=bbox, category_id=category)
    path = root / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    del content["annotations"][0]["keypoints"]
    content["categories"] = [{"id": category, "name": "dog"}, {"id": 8, "name": "cat"}]
    path.write_text(json.dumps(content))
    found = run("--annotations", str(path), "--images", str(root / "images" / "val2017"))
    out = capsys.readouterr().out
    assert (
        found == status
        and "boxes of a class" in out
        and "dog" in out
        and "train person_lite0_320" in out
    )
    assert ("outside their picture" in out) == bool(status)


def test_missing_pictures_and_lonely_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = dataset(tmp_path / "data")
    (root / "images/val2017/1.jpg").unlink()
    file = str(root / "annotations/person_keypoints_val2017.json")
    assert run("--annotations", file, "--images", str(root / "images/val2017")) == 1
    assert "pictures with people are missing (1 of 1)" in capsys.readouterr().out
    assert run("--detections", file) == 2 and "add --annotations" in capsys.readouterr().err


def test_torch_that_cannot_be_imported_is_explained(tmp_path: Path) -> None:
    for name in ("torch", "torch_npu"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('no libhccl.so')")
    paths = [str(tmp_path), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "simplepose", "doctor"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    for words in ("torch cannot be imported", "no libhccl.so", "CANN", "set_env.sh"):
        assert words in done.stdout
