"""Files of a video run: read back what was written, whole after an interruption, never over something else."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.files import encode_json
from simplepose.core.lines import Line, header_of, read_header, read_lines
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, Poses
from simplepose.detection.files import read_listing
from simplepose.video.outputs import (
    LinesWriter,
    finished,
    free_folder,
    keep_sources,
    new_folder,
    picture_ids,
    write_coco_results,
    write_posetrack_results,
    write_table,
)

IMAGE = np.zeros((4, 4, 3), np.uint8)
HEADER = header_of(COCO_17, weights="net.onnx", boxes="whole")


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
    texts = [encode_json(HEADER) + b"\n"]
    for index, count in enumerate((0, 2, 1)):
        line = Line(index, index / 10, "in/a.mp4", index, 4, 4, [])
        texts.append(line.with_poses(some(count), marks.get(count)).encoded())
    path.write_bytes(b"".join(texts))
    return path


def test_lines_come_back(lines: Path) -> None:
    back = list(read_lines(lines))
    assert (
        [line.frame for line in back] == [0, 1, 2]
        and back[2].seconds == pytest.approx(0.2)
        and back[0].source == "in/a.mp4"
    )
    for line, count in zip(back, (0, 2, 1), strict=True):
        assert len(line.poses) == count
        if count:
            np.testing.assert_allclose(line.poses.keypoints, some(count).keypoints, atol=6e-4)
            np.testing.assert_allclose(line.poses.boxes_xyxy, some(count).boxes_xyxy, atol=1e-3)
            assert line.poses.track_ids.tolist() == some(count).track_ids.tolist()
    assert [one.filled for one in back[1].people] == [False, True]


def test_what_editors_do_to_lines_is_read(lines: Path) -> None:
    """A byte order mark, line ends of Windows, empty lines."""
    before, header = list(read_lines(lines)), read_header(lines)
    content = lines.read_bytes().replace(b"\n", b"\r\n") + b"\r\n \n"
    lines.write_bytes(b"\xef\xbb\xbf" + content)
    assert list(read_lines(lines)) == before and read_header(lines) == header


def test_an_interruption_leaves_whole_lines(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LinesWriter(tmp_path / "p.jsonl", HEADER) as writer:
        writer.write(Frame(IMAGE), some(1))
        raise KeyboardInterrupt
    assert len(list(read_lines(tmp_path / "p.jsonl"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_an_error_before_the_first_line_leaves_the_old_file(
    lines: Path, error: type[BaseException]
) -> None:
    before, writer = lines.read_bytes(), LinesWriter(lines, HEADER)
    with pytest.raises(error), writer:
        raise error
    assert not writer.saved and lines.read_bytes() == before
    assert [path.name for path in lines.parent.iterdir()] == ["poses.jsonl"]


def test_an_error_after_lines_keeps_them(lines: Path) -> None:
    writer = LinesWriter(lines, HEADER)
    with pytest.raises(UserError), writer:
        writer.write(Frame(IMAGE), some(1))
        raise UserError
    assert writer.saved and writer.frames == len(list(read_lines(lines))) == 1


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file gets longer than `size` bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_whole_lines_that_fit(lines: Path) -> None:
    size = len(lines.read_bytes()) + 700
    writer = LinesWriter(lines, HEADER)
    with full_disk(size), pytest.raises(UserError, match=r"cannot write .*poses\.jsonl"), writer:
        for index in range(100):
            writer.write(Frame(IMAGE, index=index), some(1))
    kept = list(read_lines(lines))
    assert writer.saved and 1 < len(kept) == writer.frames < 20
    assert [line.frame for line in kept] == list(range(len(kept)))
    assert [path.name for path in lines.parent.iterdir()] == ["poses.jsonl"]


def test_a_disk_that_is_full_at_once_leaves_the_old_file(lines: Path) -> None:
    before, writer = lines.read_bytes(), LinesWriter(lines, HEADER)
    with full_disk(100), pytest.raises(UserError, match=r"cannot write .*poses\.jsonl"), writer:
        pass
    assert lines.read_bytes() == before
    assert [path.name for path in lines.parent.iterdir()] == ["poses.jsonl"]


def test_lines_that_cannot_get_their_name_keep_a_visible_one(tmp_path: Path) -> None:
    writer = LinesWriter(tmp_path / "p.jsonl", HEADER)
    (tmp_path / "p.jsonl").mkdir()
    with pytest.raises(UserError, match=r"p\.partial\.jsonl"), writer:
        writer.write(Frame(IMAGE), some(2))
    assert len(list(read_lines(tmp_path / "p.partial.jsonl"))) == 1


def test_every_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    with LinesWriter(tmp_path / "p.jsonl", HEADER, image_ids=["a", 17]) as writer:
        for index in range(2):
            writer.write(Frame(IMAGE, "x/y.jpg", index), some(1))
            found = list(read_lines(tmp_path / "p.partial.jsonl"))
            assert [line.image_id for line in found] == ["a", 17][: index + 1]
    assert read_header(tmp_path / "p.jsonl") == HEADER
    assert (found[0].width, found[0].height, found[0].source) == (4, 4, "x/y.jpg")


def test_lines_of_an_earlier_try_come_first(lines: Path) -> None:
    before = list(read_lines(lines))
    with LinesWriter(lines, HEADER, before=before) as writer:
        assert (writer.frames, writer.people) == (3, 3)
        writer.write(Frame(IMAGE, index=7), some(2))
    again = list(read_lines(lines))
    assert again[:3] == before and again[3].frame == 7


@pytest.mark.parametrize("fails", [False, True])
def test_the_other_files_are_made_after_an_interruption_too(
    tmp_path: Path, fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []

    def finish() -> None:
        made.append(len(list(read_lines(tmp_path / "p.jsonl"))))
        if fails:
            raise UserError("no space left. Cure: none")

    lines = LinesWriter(tmp_path / "p.jsonl", HEADER)
    with pytest.raises(KeyboardInterrupt), finished(lines, finish):
        lines.write(Frame(IMAGE), some(1))
        raise KeyboardInterrupt
    assert made == [1] and ("note: no space left" in capsys.readouterr().err) == fails


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/0012.jpg", "b/img_7.png"], [12, 7]),
        (["a/7.jpg", "b/7.jpg"], [0, 1]),
        (["cat.jpg", "7.jpg"], [0, 1]),
        (["2024_05.jpg", "2024_06.jpg"], [5, 6]),
        ([], []),
    ],
)
def test_ids_of_pictures(names: list[str], ids: list[int]) -> None:
    assert picture_ids([Path(name) for name in names], None) == ids


def test_ids_of_pictures_that_a_file_lists(tmp_path: Path) -> None:
    images = [{"id": 901, "file_name": "b/7.jpg"}, {"id": "x9", "file_name": "a/7.jpg"}]
    (tmp_path / "listed.json").write_text(json.dumps({"images": images}))
    listing = read_listing(tmp_path / "listed.json")
    paths = [tmp_path / name for name in ("a/7.jpg", "b/7.jpg", "8.jpg")]
    assert picture_ids(paths, listing) == ["x9", 901, "8.jpg"]


def test_default_folders_are_counted(tmp_path: Path) -> None:
    name = tmp_path / "predictions"
    assert free_folder(name) == (name, None)
    name.mkdir()
    assert free_folder(name) == (name, None)
    (name / "a").touch()
    (tmp_path / "predictions-2").touch()
    assert free_folder(name) == (tmp_path / "predictions-3", tmp_path / "predictions-2")


def test_lines_without_ids_and_with_nan(tmp_path: Path) -> None:
    poses = some(2, tracked=False)
    broken = np.array(poses.keypoints)
    broken[0, 0, 0] = np.nan
    with LinesWriter(tmp_path / "p.jsonl", HEADER) as writer:
        writer.write(
            Frame(IMAGE), Poses(broken, poses.keypoint_scores, poses.boxes_xyxy, poses.scores)
        )
    assert (
        json.loads((tmp_path / "p.jsonl").read_text().splitlines()[1])["people"][0]["keypoints"][0][
            0
        ]
        is None
    )
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
    first = Line(0, 0.0, "", 0, 4, 4, []).encoded()
    (tmp_path / "p.jsonl").write_bytes(encode_json(HEADER) + b"\n" + first + text.encode())
    with pytest.raises(UserError, match=r"p\.jsonl: line 3"):
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
    with LinesWriter(tmp_path / "p.jsonl", HEADER) as writer:
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
    assert table.shape == (3, 11 + 51) and table["track_id"].tolist() == [1, 2, 1]


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
