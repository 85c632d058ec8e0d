"""`simplepose predict` and the user's files: sources stay, no overlay hides another, an interrupted run leaves its poses."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.commands import predict
from simplepose.core.errors import UserError
from simplepose.core.images import read_image, write_image
from simplepose.core.lines import Line, read_header, read_lines
from simplepose.pose.estimator import PoseEstimator

pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_network(tmp_path / "net.onnx")
    return tmp_path


def draw(*paths: Path) -> None:
    for path in paths:
        write_image(path, np.full((60, 50, 3), 90, np.uint8))


def run(
    folder: Path,
    *pictures: Path,
    output: str = "out",
    boxes: str = "whole",
    more: tuple[str, ...] = (),
) -> int:
    options = [
        "--weights",
        str(folder / "net.onnx"),
        "--boxes",
        boxes,
        "--output",
        str(folder / output),
        "--device",
        "cpu",
    ]
    return main(["predict", *map(str, pictures), *options, *more])


def done(folder: Path) -> list[str]:
    """Names of the pictures in poses.jsonl."""
    return [Path(line.source).name for line in read_lines(folder / "out" / "poses.jsonl")]


def test_photos_are_never_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = folder / "ph" / "a.jpg"
    draw(photo)
    (folder / "link").symlink_to(folder / "ph")
    before = photo.read_bytes()
    for output in ("ph", "link"):
        assert run(folder, photo, output=output, more=("--overwrite",)) == 2
        error = capsys.readouterr().err
        assert "a.jpg is read" in error and "Cure:" in error
    assert photo.read_bytes() == before and [path.name for path in (folder / "ph").iterdir()] == [
        "a.jpg"
    ]


@pytest.mark.parametrize(
    ("option", "value"), [("--box-threshold", "nan"), ("--keypoint-threshold", "-1")]
)
def test_thresholds_that_make_no_sense_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    draw(folder / "a.jpg")
    assert run(folder, folder / "a.jpg", more=(option, value)) == 2
    assert (
        f"{option} is {value}. Cure: " in capsys.readouterr().err and not (folder / "out").exists()
    )


def test_the_box_file_is_never_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "7.jpg")
    boxes = folder / "out" / "results.json"
    boxes.parent.mkdir()
    boxes.write_text(
        json.dumps([{"image_id": 7, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}])
    )
    before = boxes.read_bytes()
    assert run(folder, folder / "7.jpg", boxes=str(boxes), more=("--overwrite",)) == 2
    assert "results.json is read" in capsys.readouterr().err and boxes.read_bytes() == before


def test_every_picture_has_its_own_overlay(folder: Path) -> None:
    pictures = [folder / name for name in ("x/a.jpg", "y/a.jpg", "z/a_2.jpg")]
    draw(*pictures)
    assert run(folder, *pictures) == 0
    assert sorted(path.name for path in (folder / "out").glob("*.jpg")) == [
        "a.jpg",
        "a_2.jpg",
        "a_2_2.jpg",
    ]


def test_a_name_that_is_not_utf8_loses_nothing(folder: Path) -> None:
    draw(folder / "ph" / "a.jpg")
    shutil.copy(folder / "ph" / "a.jpg", os.fsencode(folder / "ph") + b"/caf\xe9.jpg")
    assert run(folder, folder / "ph") == 0
    assert done(folder) == ["a.jpg", "caf\\xe9.jpg"] and os.path.exists(
        os.fsencode(folder / "out") + b"/caf\xe9.jpg"
    )


def test_a_broken_picture_leaves_the_poses_before_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "in" / "a.jpg", folder / "in" / "b.jpg", folder / "in" / "d.jpg")
    (folder / "in" / "c.jpg").write_bytes(b"\xff\xd8nothing")
    assert run(folder, folder / "in") == 2
    error = capsys.readouterr().err
    assert "c.jpg" in error and "--skip-broken" in error and "stopped after 2" in error
    assert done(folder) == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.jpg",
        "b.jpg",
        "poses.jsonl",
        "results.json",
    ]


def test_dead_links_and_folders_named_as_pictures_are_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "in" / "a.jpg", folder / "in" / "sub.jpg" / "b.jpg")
    (folder / "in" / "dead.jpg").symlink_to(folder / "gone.jpg")
    assert run(folder, folder / "in") == 2
    assert "dead.jpg: No such file" in capsys.readouterr().err
    assert run(folder, folder / "in", more=("--skip-broken", "--overwrite")) == 0
    error = capsys.readouterr().err
    assert (
        done(folder) == ["a.jpg"]
        and error.count("skipped: ") == 2
        and "sub.jpg: Is a directory" in error
    )


def test_without_pictures_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder) == 2
    assert "no picture is named" in capsys.readouterr().err and not (folder / "out").exists()


def test_a_failure_before_the_first_picture_leaves_the_old_poses(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "poses.jsonl").write_text("old")
    (folder / "a.jpg").write_bytes(b"\xff\xd8nothing")
    assert run(folder, folder / "a.jpg", more=("--overwrite",)) == 2
    assert (folder / "out" / "poses.jsonl").read_text() == "old"


def test_ctrl_c_leaves_the_poses_so_far(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(*(folder / "in" / f"{name}.jpg" for name in "abcd"))

    def write_and_stop(path: Path, image: np.ndarray) -> None:
        write_image(path, image)
        if path.name == "b.jpg":
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "write_image", write_and_stop)
    assert run(folder, folder / "in") == 130
    assert done(folder) == ["a.jpg", "b.jpg"]


def test_two_pictures_with_the_boxes_of_one_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "a" / "7.jpg", folder / "b" / "7.jpg")
    (folder / "boxes.json").write_text(
        json.dumps([{"image_id": 7, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}])
    )
    assert (
        run(
            folder, folder / "a" / "7.jpg", folder / "b" / "7.jpg", boxes=str(folder / "boxes.json")
        )
        == 2
    )
    assert "would both get the boxes of image id 7" in capsys.readouterr().err
    assert run(folder, folder / "a" / "7.jpg", boxes=str(folder / "boxes.json")) == 0


def test_boxes_that_are_not_used_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(folder / "7.jpg")
    rows = [
        {"image_id": number, "bbox": [5, 5, 30, 40], "score": score}
        for number, score in ((7, 0.9), (7, 0.1), (8, 0.9))
    ]
    for name, content in (("boxes", rows), ("low", rows[1:2]), ("none", [])):
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert run(folder, folder / "7.jpg", boxes=str(folder / "boxes.json")) == 0
    assert (
        "boxes left out: 1 have no score above 0.3, 1 are of other pictures\n"
        in capsys.readouterr().err
    )
    assert run(folder, folder / "7.jpg", boxes=str(folder / "low.json"), output="low") == 2
    error = capsys.readouterr().err
    assert "no score above 0.3; none is used" in error and "Cure: lower --box-threshold" in error
    assert run(folder, folder / "7.jpg", boxes=str(folder / "none.json"), output="low") == 2
    assert "none.json holds no box" in capsys.readouterr().err


def test_ground_truth_is_that_of_the_networks_keypoints(folder: Path) -> None:
    draw(folder / "7.jpg")
    names = PoseEstimator.from_pretrained(folder / "net.onnx", device="cpu").schema.keypoints
    listed = [
        {"id": 1, "name": "person", "keypoints": ["tip"]},
        {"id": 2, "name": "dog", "keypoints": list(names)},
    ]
    rows = [
        {"image_id": 7, "category_id": number, "bbox": [number, 5, 30, 40]} for number in (1, 2, 2)
    ]
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": rows,
        "categories": listed,
    }
    (folder / "two.json").write_text(json.dumps(content))
    assert (
        run(folder, folder / "7.jpg", boxes="gt", more=("--annotations", str(folder / "two.json")))
        == 0
    )
    assert only_row(folder).poses.boxes_xyxy[:, 0].tolist() == [2, 2]
    assert categories_of(folder) == [2, 2]


@pytest.mark.parametrize(
    ("rows", "listed", "wanted"),
    [
        ([7], None, 7),  # the only one that the box file has
        ([None], [4], 4),
        ([1, 4], [4], 4),
        (None, [4], 4),  # a file that only lists pictures, with --boxes whole
        (None, [8, 4], 8),
        (None, None, 1),
    ],
)
def test_results_have_the_category_of_the_annotations(
    folder: Path, rows: list[int | None] | None, listed: list[int] | None, wanted: int
) -> None:
    draw(folder / "7.jpg")
    names = list(PoseEstimator.from_pretrained(folder / "net.onnx", device="cpu").schema.keypoints)
    boxes, more = "whole", []
    if rows:
        boxes, box = str(folder / "boxes.json"), {"image_id": 7, "bbox": [5, 5, 30, 40]}
        found = [box | {"category_id": number, "score": 0.9} for number in rows]
        Path(boxes).write_text(json.dumps(found))
    if listed:
        more = ["--annotations", str(folder / "list.json")]
        content = {
            "images": [{"id": 7, "file_name": "7.jpg"}],
            "annotations": [],
            "categories": [
                {"id": number, "name": f"kind {number}", "keypoints": names} for number in listed
            ],
        }
        (folder / "list.json").write_text(json.dumps(content))
    assert run(folder, folder / "7.jpg", boxes=boxes, more=more) == 0
    assert categories_of(folder) == [wanted]


def categories_of(folder: Path) -> list[int]:
    """Of the rows of results.json."""
    rows = json.loads((folder / "out" / "results.json").read_text())
    return [row["category_id"] for row in rows]


def turned_photo(path: Path, orientation: int) -> None:
    """Stored 120 wide and 60 high, black but for the person in the box 80, 10, 110, 50, with an EXIF orientation."""
    image = np.zeros((60, 120, 3), np.uint8)
    image[10:50, 80:110] = 255
    write_image(path, image)
    content = path.read_bytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    path.write_bytes(
        content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    )


def only_row(folder: Path) -> Line:
    """The one picture of poses.jsonl."""
    (line,) = read_lines(folder / "out" / "poses.jsonl")
    return line


def test_photos_are_read_upright(folder: Path) -> None:
    turned_photo(folder / "7.jpg", 6)
    assert run(folder, folder / "7.jpg") == 0
    row = only_row(folder)
    assert (row.width, row.height, row.poses.boxes_xyxy[0].tolist()) == (60, 120, [0, 0, 60, 120])
    assert read_image(folder / "out" / "7.jpg").shape == (120, 60, 3)


STORED, UPRIGHT = (
    [80, 10, 30, 40],
    [10, 80, 40, 30],
)  # x, y, width, height of the person, with orientation 6


@pytest.mark.parametrize(
    ("orientation", "size", "bbox", "expected"),
    [
        (1, None, STORED, [80, 10, 110, 50]),
        (3, (120, 60), STORED, [10, 10, 40, 50]),
        (6, None, STORED, [10, 80, 50, 110]),
        (6, (120, 60), STORED, [10, 80, 50, 110]),
        (
            6,
            (60, 120),
            UPRIGHT,
            [10, 80, 50, 110],
        ),  # made by a tool that shows photos upright, and the file says so
        (8, (120, 60), STORED, [10, 10, 50, 40]),
    ],
)
def test_boxes_of_a_file_turn_with_the_photo(
    folder: Path,
    orientation: int,
    size: tuple[int, int] | None,
    bbox: list[int],
    expected: list[int],
) -> None:
    turned_photo(folder / "7.jpg", orientation)
    listed = {
        "id": 7,
        "file_name": "7.jpg",
        **({"width": size[0], "height": size[1]} if size else {}),
    }
    rows = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": bbox, "score": 0.9}]
    (folder / "boxes.json").write_text(
        json.dumps({"images": [listed], "annotations": rows} if size else rows)
    )
    assert run(folder, folder / "7.jpg", boxes=str(folder / "boxes.json")) == 0
    row = only_row(folder)
    assert row.poses.boxes_xyxy[0].tolist() == expected
    left, top, right, bottom = expected
    image = read_image(folder / "7.jpg", upright=True)
    assert image.shape[:2] == (row.height, row.width) and image[top:bottom, left:right].mean() > 240
    assert read_image(folder / "out" / "7.jpg").shape == image.shape


def break_one(folder: Path) -> None:
    """Five pictures, of which c.jpg is broken."""
    draw(*(folder / "in" / f"{name}.jpg" for name in "abde"))
    (folder / "in" / "c.jpg").write_bytes(b"\xff\xd8nothing")


def test_a_retry_goes_on_in_the_folder_of_the_failed_try(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_one(folder)
    assert run(folder, folder / "in") == 2 and done(folder) == ["a.jpg", "b.jpg"]
    (folder / "out" / "b.jpg").unlink()
    made = (folder / "out" / "a.jpg").stat().st_mtime_ns
    assert run(folder, folder / "in") == 2 and "already holds" in capsys.readouterr().err
    assert run(folder, folder / "in", more=("--skip-broken",)) == 0
    assert "1 pictures are done" in capsys.readouterr().err
    assert done(folder) == ["a.jpg", "b.jpg", "d.jpg", "e.jpg"]
    lines = read_lines(folder / "out" / "poses.jsonl")
    assert [(line.frame, line.image_id) for line in lines] == [(0, 0), (1, 1), (3, 3), (4, 4)]
    assert (folder / "out" / "a.jpg").stat().st_mtime_ns == made
    assert (folder / "out" / "b.jpg").exists()
    rows = json.loads((folder / "out" / "results.json").read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [
        (0, "a.jpg"),
        (1, "b.jpg"),
        (3, "d.jpg"),
        (4, "e.jpg"),
    ]


def test_another_try_has_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_one(folder)
    monkeypatch.chdir(folder)
    words = ["predict", "in", "--weights", "net.onnx", "--device", "cpu"]
    whole, skip = ["--boxes", "whole"], ["--skip-broken"]
    assert main([*words, *whole]) == 2
    assert main([*words, *whole]) == 2
    assert main([*words, *whole, *skip]) == 0
    assert sorted(path.name for path in folder.glob("predictions*")) == [
        "predictions",
        "predictions-2",
    ]
    counts = [len(list(read_lines(one / "poses.jsonl"))) for one in sorted(folder.glob("pred*"))]
    assert counts == [2, 4]
    (folder / "boxes.json").write_text(
        json.dumps([{"image_id": 0, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}])
    )
    assert main([*words, "--boxes", "boxes.json", *skip]) == 0
    assert read_header(folder / "predictions-3" / "poses.jsonl").boxes == "boxes.json"
    assert main([*words, *whole, *skip, "--overwrite"]) == 0
    assert not (folder / "predictions-4").exists()


def test_the_lines_and_numbers_of_a_full_disk_stay(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(*(folder / "in" / f"{name}.jpg" for name in "abc"))

    def full(path: Path, image: np.ndarray) -> None:
        if path.name == "b.jpg":
            raise UserError("cannot write b.jpg: No space left on device. Cure: space")
        write_image(path, image)

    monkeypatch.setattr(predict, "write_image", full)
    assert run(folder, folder / "in", more=("--table", "csv")) == 2
    assert "No space left" in capsys.readouterr().err
    assert done(folder) == ["a.jpg", "b.jpg"]  # numbers before pictures
    assert len(json.loads((folder / "out" / "results.json").read_text())) == 2
    assert len((folder / "out" / "poses.csv").read_text().splitlines()) == 3
    assert not [path for path in (folder / "out").iterdir() if "partial" in path.name]


def test_the_ids_are_those_of_the_annotations(folder: Path) -> None:
    draw(folder / "a.jpg", folder / "b.jpg")
    images = [{"id": 70, "file_name": "b.jpg"}, {"id": 71, "file_name": "a.jpg"}]
    (folder / "list.json").write_text(json.dumps({"images": images}))
    more = ("--annotations", str(folder / "list.json"))
    assert run(folder, folder / "a.jpg", folder / "b.jpg", more=more) == 0
    rows = json.loads((folder / "out" / "results.json").read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [(71, "a.jpg"), (70, "b.jpg")]


def test_without_ray(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder / "a.jpg")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(folder, folder / "a.jpg", more=("--engine", "ray")) == 2
    assert "simplepose[ray]" in capsys.readouterr().err and not (folder / "out").exists()
