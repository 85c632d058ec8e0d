"""`simplepose predict` and the user's files: sources stay, no overlay hides another, an interrupted run leaves its poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.commands import predict
from simplepose.images import write_image

pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_network(tmp_path / "net.onnx")
    return tmp_path


def draw(*paths: Path) -> None:
    for path in paths:
        write_image(path, np.full((60, 50, 3), 90, np.uint8))


def run(folder: Path, *pictures: Path, output: str = "out", boxes: str = "whole", more: tuple[str, ...] = ()) -> int:
    options = ["--weights", str(folder / "net.onnx"), "--boxes", boxes, "--output", str(folder / output), "--device", "cpu"]
    return main(["predict", *map(str, pictures), *options, *more])


def done(folder: Path) -> list[str]:
    """Names of the pictures in poses.json."""
    return [Path(row["file_name"]).name for row in json.loads((folder / "out" / "poses.json").read_text())["pictures"]]


def test_photos_are_never_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = folder / "ph" / "a.jpg"
    draw(photo)
    (folder / "link").symlink_to(folder / "ph")
    before = photo.read_bytes()
    for output in ("ph", "link"):
        assert run(folder, photo, output=output, more=("--overwrite",)) == 2
        error = capsys.readouterr().err
        assert "a.jpg is read" in error and "Cure:" in error
    assert photo.read_bytes() == before and [path.name for path in (folder / "ph").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(("option", "value"), [("--box-threshold", "nan"), ("--keypoint-threshold", "-1")])
def test_thresholds_that_make_no_sense_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    draw(folder / "a.jpg")
    assert run(folder, folder / "a.jpg", more=(option, value)) == 2
    assert f"{option} is {float(value)}. Cure: a number from 0 to 1" in capsys.readouterr().err and not (folder / "out").exists()


def test_the_box_file_is_never_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(folder / "7.jpg")
    boxes = folder / "out" / "poses.json"
    boxes.parent.mkdir()
    boxes.write_text(json.dumps([{"image_id": 7, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}]))
    before = boxes.read_bytes()
    assert run(folder, folder / "7.jpg", boxes=str(boxes), more=("--overwrite",)) == 2
    assert "poses.json is read" in capsys.readouterr().err and boxes.read_bytes() == before


def test_every_picture_has_its_own_overlay(folder: Path) -> None:
    pictures = [folder / name for name in ("x/a.jpg", "y/a.jpg", "z/a_2.jpg")]
    draw(*pictures)
    assert run(folder, *pictures) == 0
    assert sorted(path.name for path in (folder / "out").glob("*.jpg")) == ["a.jpg", "a_2.jpg", "a_2_2.jpg"]


def test_a_broken_picture_leaves_the_poses_before_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(folder / "in" / "a.jpg", folder / "in" / "b.jpg", folder / "in" / "d.jpg")
    (folder / "in" / "c.jpg").write_bytes(b"\xff\xd8nothing")
    assert run(folder, folder / "in") == 2
    error = capsys.readouterr().err
    assert "c.jpg" in error and "--skip-broken" in error and "2 pictures" in error
    assert done(folder) == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.jpg", "b.jpg", "poses.json"]


def test_a_failure_before_the_first_picture_leaves_the_old_poses(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "poses.json").write_text("old")
    (folder / "a.jpg").write_bytes(b"\xff\xd8nothing")
    assert run(folder, folder / "a.jpg", more=("--overwrite",)) == 2
    assert (folder / "out" / "poses.json").read_text() == "old"


def test_ctrl_c_leaves_the_poses_so_far(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(*(folder / "in" / f"{name}.jpg" for name in "abcd"))

    def write_and_stop(path: Path, image: np.ndarray) -> None:
        write_image(path, image)
        if path.name == "b.jpg":
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "write_image", write_and_stop)
    assert run(folder, folder / "in") == 130
    assert done(folder) == ["a.jpg", "b.jpg"]


def test_two_pictures_with_the_boxes_of_one_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(folder / "a" / "7.jpg", folder / "b" / "7.jpg")
    (folder / "boxes.json").write_text(json.dumps([{"image_id": 7, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}]))
    assert run(folder, folder / "a" / "7.jpg", folder / "b" / "7.jpg", boxes=str(folder / "boxes.json")) == 2
    assert "would both get the boxes of image id 7" in capsys.readouterr().err
    assert run(folder, folder / "a" / "7.jpg", boxes=str(folder / "boxes.json")) == 0
