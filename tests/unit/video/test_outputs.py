"""Files of a video run: read back what was written, whole after an interruption, never over something else."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, Poses
from simplepose.video.outputs import (
    Line,
    LinesWriter,
    keep_sources,
    new_folder,
    read_lines,
    write_coco_results,
    write_posetrack_results,
    write_table,
)

IMAGE = np.zeros((4, 4, 3), np.uint8)


def some(count: int, tracked: bool = True) -> Poses:
    rng = np.random.default_rng(count)
    boxes = np.array([[1.5, 2, 31, 42]] * count).reshape(count, 4)
    ids = np.arange(1, count + 1) if tracked else None
    return Poses(
        rng.uniform(0, 99, (count, 17, 2)),
        rng.uniform(0, 1, (count, 17)),
        boxes,
        rng.uniform(0, 1, count),
        ids,
    )


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "poses.jsonl"
    marks = {2: np.array([False, True])}
    path.write_bytes(
        b"".join(
            Line(index, index / 10, "a.mp4", []).with_poses(some(count), marks.get(count)).encoded()
            for index, count in enumerate((0, 2, 1))
        )
    )
    return path


def test_lines_come_back(lines: Path) -> None:
    back = list(read_lines(lines))
    assert (
        [line.frame for line in back] == [0, 1, 2]
        and back[2].seconds == pytest.approx(0.2)
        and back[0].source == "a.mp4"
    )
    for line, count in zip(back, (0, 2, 1), strict=True):
        assert len(line.poses) == count
        if count:
            np.testing.assert_allclose(line.poses.keypoints, some(count).keypoints, atol=6e-4)
            np.testing.assert_allclose(line.poses.boxes_xyxy, some(count).boxes_xyxy, atol=1e-3)
            assert line.poses.track_ids.tolist() == some(count).track_ids.tolist()
    assert [one.filled for one in back[1].people] == [False, True]


def test_an_interruption_leaves_whole_lines(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LinesWriter(tmp_path / "p.jsonl") as writer:
        writer.write(Frame(IMAGE), some(1))
        raise KeyboardInterrupt
    assert len(list(read_lines(tmp_path / "p.jsonl"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_an_error_before_the_first_line_leaves_the_old_file(
    lines: Path, error: type[BaseException]
) -> None:
    before, writer = lines.read_bytes(), LinesWriter(lines)
    with pytest.raises(error), writer:
        raise error
    assert not writer.saved and lines.read_bytes() == before
    assert [path.name for path in lines.parent.iterdir()] == ["poses.jsonl"]


def test_an_error_after_lines_keeps_them(lines: Path) -> None:
    writer = LinesWriter(lines)
    with pytest.raises(UserError), writer:
        writer.write(Frame(IMAGE), some(1))
        raise UserError
    assert writer.saved and writer.frames == len(list(read_lines(lines))) == 1


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="no /dev/full here, the disk that is always full"
)
def test_a_disk_that_is_full_at_the_end_is_named(lines: Path) -> None:
    before, writer = lines.read_bytes(), LinesWriter(lines)
    (lines.parent / f".poses.{os.getpid()}.partial.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*poses\.jsonl: No space left"), writer:
        writer.write(Frame(IMAGE), some(1))
    assert not writer.saved and lines.read_bytes() == before
    assert [path.name for path in lines.parent.iterdir()] == ["poses.jsonl"]


def test_lines_without_ids_and_with_nan(tmp_path: Path) -> None:
    poses = some(2, tracked=False)
    broken = np.array(poses.keypoints)
    broken[0, 0, 0] = np.nan
    with LinesWriter(tmp_path / "p.jsonl") as writer:
        writer.write(
            Frame(IMAGE), Poses(broken, poses.keypoint_scores, poses.boxes_xyxy, poses.scores)
        )
    assert json.loads((tmp_path / "p.jsonl").read_text())["people"][0]["keypoints"][0][0] is None
    (line,) = read_lines(tmp_path / "p.jsonl")
    assert line.poses.track_ids is None and np.isnan(line.poses.keypoints[0, 0, 0])


@pytest.mark.parametrize(
    "text",
    [
        '{"frame": 0',
        "[]",
        '{"frame": 0, "seconds": 0, "source": "", "people": [{"score": 1}]}',
        "{}",
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"frame": 0, "seconds": 0, "source": "", "people": []}\n' + text
    )
    with pytest.raises(UserError, match=r"p\.jsonl: line 2"):
        list(read_lines(tmp_path / "p.jsonl"))
    with pytest.raises(UserError, match=r"none\.jsonl"):
        list(read_lines(tmp_path / "none.jsonl"))


def test_coco_results_carry_ids_and_no_boxes(lines: Path, tmp_path: Path) -> None:
    write_coco_results(tmp_path / "r.json", read_lines(lines))
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [
        (row["image_id"], row["track_id"], row["category_id"], len(row["keypoints"]))
        for row in rows
    ] == [
        (1, 1, 1, 51),
        (1, 2, 1, 51),
        (2, 1, 1, 51),
    ]
    assert all("bbox" not in row for row in rows)
    np.testing.assert_allclose(rows[0]["keypoints"][:2], some(2).keypoints[0, 0], atol=1e-3)
    write_coco_results(tmp_path / "none.json", iter(()))
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_posetrack_file(lines: Path, tmp_path: Path) -> None:
    content = json.loads(
        write_posetrack_results(tmp_path / "pt", "000001_x", read_lines(lines), COCO_17).read_text()
    )
    assert [image["id"] for image in content["images"]] == [0, 1, 2]
    assert [(row["image_id"], row["track_id"]) for row in content["annotations"]] == [
        (1, 0),
        (1, 1),
        (2, 0),
    ]
    assert (
        len(content["annotations"][0]["keypoints"]) == 51
        and len(content["annotations"][0]["scores"]) == 17
    )
    assert content["categories"][0]["keypoints"][0] == "nose"


def test_people_who_were_not_followed_have_no_track_id_in_a_posetrack_file(tmp_path: Path) -> None:
    with LinesWriter(tmp_path / "p.jsonl") as writer:
        writer.write(Frame(IMAGE), some(2, tracked=False))
    content = json.loads(
        write_posetrack_results(
            tmp_path / "pt", "x", read_lines(tmp_path / "p.jsonl"), COCO_17
        ).read_text()
    )
    assert len(content["annotations"]) == 2 and not any(
        "track_id" in row for row in content["annotations"]
    )


def test_tables(lines: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "p.csv", read_lines(lines), COCO_17)
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and rows[1]["filled"] == "True" and rows[0]["track_id"] == "1"
    assert float(rows[2]["nose_x"]) == pytest.approx(some(1).keypoints[0, 0, 0], abs=1e-3)
    with pytest.raises(UserError, match=r"p\.xlsx.*\.csv.*\.parquet"):
        write_table(tmp_path / "p.xlsx", read_lines(lines), COCO_17)
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write_table(tmp_path / "p.parquet", read_lines(lines), COCO_17)
    table = pandas.read_parquet(tmp_path / "p.parquet")
    assert table.shape == (3, 9 + 51) and table["track_id"].tolist() == [1, 2, 1]
    assert some(2).to_pandas(COCO_17).shape == (34, 6) and Poses.empty(17).to_pandas(
        COCO_17
    ).shape == (0, 6)


def test_supervision_gets_the_same_people() -> None:
    pytest.importorskip("supervision")
    keypoints, detections = some(2).to_supervision()
    np.testing.assert_allclose(keypoints.xy, some(2).keypoints)
    assert detections.tracker_id.tolist() == [1, 2]


def test_missing_extras_are_named(monkeypatch, lines: Path, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "supervision", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'simplepose\[supervision\]'"):
        some(1).to_supervision()
    with pytest.raises(UserError, match=r"pip install 'simplepose\[tables\]'"):
        write_table(tmp_path / "p.parquet", read_lines(lines), COCO_17)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "a" / "b").is_dir()
    assert new_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"  # empty is fine
    (tmp_path / "a" / "file").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        new_folder(tmp_path / "a")
    assert (
        new_folder(tmp_path / "a", overwrite=True)
        and (tmp_path / "a" / "file").read_text() == "mine"
    )
    with pytest.raises(UserError, match=r"file/c"):
        new_folder(tmp_path / "a" / "file" / "c")


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    (tmp_path / "link.json").symlink_to("a.json")
    keep_sources(
        [tmp_path / "a.json", tmp_path / "none", tmp_path, "", "0", "rtsp://camera"],
        [tmp_path / "none", tmp_path / "b.json"],
    )
    for source, output in (
        ("a.json", "a.json"),
        ("a.json", "x/../a.json"),
        ("link.json", "a.json"),
        ("a.json", "link.json"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=r"\.json is read.*--output"):
            keep_sources([tmp_path / source], [tmp_path / output])
