"""Boxes from a file: which picture, which category, and what is said of a file that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.structures import Frame
from simplepose.detection.files import BoxFile, read_boxes
from simplepose.detection.people import people_source

SKELETON = ["nose", "tail"]


def save(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def row(image_id: Any = 1, **values: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": [1, 2, 3, 4], **values}


def left_of(boxes: BoxFile, source: str, index: int = 0) -> list[float]:
    """The left sides of the people in a picture."""
    return (
        boxes.people(Frame(np.zeros((4, 4, 3), np.uint8), source, index)).boxes_xyxy[:, 0].tolist()
    )


# which picture


def listing(folder: Path, *names: str) -> BoxFile:
    """Picture n (from 1) has one person, whose left side is n."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, 1)]
    rows = [row(number, bbox=[number, 0, 5, 5]) for number in range(1, len(names) + 1)]
    return read_boxes(save(folder / "truth.json", {"images": images, "annotations": rows}))


def test_equal_names_in_two_folders_are_two_pictures(tmp_path: Path) -> None:
    boxes = listing(
        tmp_path, "a/seqA/000001.jpg", "a\\seqB\\000001.jpg", "b/seqA/000001.jpg", "000002.jpg"
    )
    assert left_of(boxes, "a/seqA/000001.jpg") == [1]
    assert left_of(boxes, "/data/a/seqB/000001.jpg") == [2]
    assert left_of(boxes, "elsewhere/seqB/000001.jpg") == [2]
    assert left_of(boxes, "/data/b/seqA/000001.jpg") == [3]
    assert left_of(boxes, "anywhere/000002.jpg") == [4]
    assert left_of(boxes, "a/seqA/000003.jpg") == []


@pytest.mark.parametrize(
    "picture", ["/data/000001.jpg", "/data/seqC/000001.jpg", "/data/eqA/000001.jpg"]
)
def test_two_pictures_that_fit_equally_well_are_named(tmp_path: Path, picture: str) -> None:
    boxes = listing(tmp_path, "seqA/000001.jpg", "seqB/000001.jpg")
    with pytest.raises(
        UserError,
        match=r"truth\.json.*'seqA/000001\.jpg' \(image id 1\).*'seqB/000001\.jpg' \(image id 2\).*Cure",
    ):
        left_of(boxes, picture)


def test_a_name_that_fits_wholly_wins(tmp_path: Path) -> None:
    boxes = listing(tmp_path, "sub/a.jpg", "a.jpg", "other/a.jpg")
    assert left_of(boxes, "/data/a.jpg") == [2]
    assert left_of(boxes, "/data/other/a.jpg") == [3]


def test_the_folder_a_picture_is_called_from_counts(tmp_path: Path, monkeypatch) -> None:
    boxes = listing(tmp_path, "seqA/000001.jpg", "seqB/000001.jpg")
    (tmp_path / "seqB").mkdir()
    monkeypatch.chdir(tmp_path / "seqB")
    assert left_of(boxes, "000001.jpg") == [2]
    assert left_of(boxes, "../seqA/000001.jpg") == [1]


# which category


def categories(*entries: tuple[int, str, list[str]]) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "keypoints": keypoints} for number, name, keypoints in entries
    ]


@pytest.mark.parametrize(
    ("listed", "kept"),
    [
        (categories((0, "person", []), (1, "car", [])), [0]),
        (categories((0, "car", []), (1, "Person", [])), [1]),
        (categories((1, "box", []), (7, "animal", SKELETON)), [7]),
        (categories((0, "cat", SKELETON), (7, "dog", SKELETON)), [0, 7]),
        (categories((7, "person", ["nose"]), (1, "dog", SKELETON)), [7]),
        ([], [1]),
    ],
)
def test_the_category_of_people(tmp_path: Path, listed, kept: list[int]) -> None:
    rows = [row(category_id=number, bbox=[number, 0, 5, 5]) for number in (0, 1, 7)]
    assert (
        left_of(
            read_boxes(save(tmp_path / "x.json", {"annotations": rows, "categories": listed})),
            "1.jpg",
        )
        == kept
    )


@pytest.mark.parametrize(
    ("network", "kept", "named"),
    [(["Nose", "tail"], [7], "dog"), (["a", "b", "c"], [1], "person"), (["a", "b"], [7], "dog")],
)
def test_the_category_with_the_keypoints_of_the_network(
    tmp_path: Path, network: list[str], kept: list[int], named: str
) -> None:
    listed = categories((1, "person", ["x", "y", "z"]), (7, "dog", SKELETON))
    content = {
        "annotations": [row(category_id=number, bbox=[number, 0, 5, 5]) for number in (1, 7)],
        "categories": listed,
    }
    boxes = read_boxes(save(tmp_path / "x.json", content), keypoints=network)
    assert left_of(boxes, "1.jpg") == kept and boxes.notes == (
        (1, f"of other categories than {named}"),
    )


def test_boxes_that_nobody_gets_are_counted(tmp_path: Path) -> None:
    rows = [
        row(score=0.2),
        row(score=0.9),
        row(score=0.9, bbox=[1, 2, 0, 4]),
        row(2, score=0.9),
        row(score=0.9, iscrowd=1),
    ]
    boxes = read_boxes(save(tmp_path / "x.json", rows), score_threshold=0.3)
    assert boxes.left_out({1}).endswith(
        "x.json: boxes left out: 1 are crowds, 1 have no score above 0.3, 1 have no positive width and height, 1 are of other pictures"
    )
    assert read_boxes(save(tmp_path / "x.json", rows[1:2])).left_out({1}) == ""


def test_the_categories_of_the_annotations_serve_a_detection_file(tmp_path: Path) -> None:
    truth = save(
        tmp_path / "truth.json", {"images": [], "categories": categories((7, "animal", SKELETON))}
    )
    for numbers, kept in (((1, 7), [7]), ((1, 2), [1]), ((5,), [5])):
        path = save(
            tmp_path / "dets.json",
            [row(category_id=number, bbox=[number, 0, 5, 5]) for number in numbers],
        )
        assert left_of(read_boxes(path, annotations=truth), "1.jpg") == kept


@pytest.mark.parametrize(
    "category", [{"category_id": 0}, {"category_id": "17"}, {"category_id": None}, {}]
)
def test_the_only_category_there_is(tmp_path: Path, category: dict[str, Any]) -> None:
    assert left_of(people_source(save(tmp_path / "dets.json", [row(**category)])), "1.jpg") == [1]


@pytest.mark.parametrize(
    "content",
    [
        [row(category_id=3), row(category_id=5)],
        {
            "annotations": [row(category_id=5), row(category_id=3)],
            "categories": categories((0, "person", []), (3, "car", [])),
        },
        {
            "annotations": [row(category_id=3), row(category_id=5)],
            "categories": categories((0, "person", []), (1, "car", [])),
        },
    ],
)
def test_a_file_without_people_names_its_categories(tmp_path: Path, content) -> None:
    with pytest.raises(UserError, match=r"x\.json: none of its 2 .*found \[3, 5\]\. Cure"):
        read_boxes(save(tmp_path / "x.json", content))


def test_cars_are_not_people_where_the_file_says_who_is(tmp_path: Path) -> None:
    listed = categories((0, "person", []), (1, "car", []))
    with pytest.raises(UserError, match=r"category of people, \[0\]; found \[1\]"):
        read_boxes(
            save(tmp_path / "x.json", {"annotations": [row(category_id=1)], "categories": listed})
        )


def test_an_empty_file_has_nobody(tmp_path: Path) -> None:
    assert left_of(read_boxes(save(tmp_path / "x.json", [])), "1.jpg") == []


# what cannot be read


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(bbox=None), "no bbox"),
        (row(bbox=[1, "wide", 3, 4]), r"the bbox \[1, 'wide', 3, 4\]"),
        (row(bbox=[1, None, 3, 4]), r"the bbox \[1, None, 3, 4\]"),
        (row(bbox=[1, 2, float("nan"), 4]), r"the bbox \[1.0, 2.0, nan, 4.0\]"),
        (row(bbox=[1, 2, 3]), r"the bbox \[1.0, 2.0, 3.0\]"),
        (row(bbox=5), "the bbox 5"),
        ({"image_id": 1}, "no bbox"),
        (row(score="high"), "the score 'high'"),
        (row(score=float("nan")), "the score nan"),
        (row(None), "no image_id"),
        (row([1]), r"the image_id \[1\]"),
        (row(7.5), r"the image_id 7\.5"),
        (row(float("inf")), "the image_id inf"),
        ({"bbox": [1, 2, 3, 4]}, "no image_id"),
        (row(category_id=1.5), r"the category_id 1\.5"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    for content in ([row(), bad], {"annotations": [row(), bad]}):
        if isinstance(content, dict) and message == "no bbox":
            continue  # made from the keypoints: without any it has no size
        with pytest.raises(UserError, match=rf"x\.json: (row|annotation) 1 has {message}.*Cure: "):
            read_boxes(save(tmp_path / "x.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (5, "no COCO file"),
        ("text", "no COCO file"),
        (None, "no COCO file"),
        ({"a": 1}, "neither"),
        ({"annotations": None}, "neither"),
        ([row(), 5], "row 1 is 5"),
        ({"annotations": [], "images": [{"file_name": "a.jpg"}]}, "a.jpg has no id"),
        (
            {"annotations": [], "images": [{"id": [1], "file_name": "a.jpg"}]},
            r"picture 0 has the id \[1\]",
        ),
        ({"annotations": [], "images": ["a.jpg"]}, "entry 0 of `images`"),
        ({"annotations": [], "images": 5}, "`images` is 5"),
        ({"annotations": [], "categories": {"id": 1}}, "`categories` is"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.json.*{message}.* Cure: "):
        read_boxes(save(tmp_path / "x.json", content))


def test_annotations_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list\.json is not a COCO annotation file.* Cure: "):
        read_boxes(
            save(tmp_path / "dets.json", [row()]), annotations=save(tmp_path / "list.json", [row()])
        )


def test_numbers_written_as_text_are_numbers(tmp_path: Path) -> None:
    content = {
        "images": [
            {"id": "7", "file_name": "a.jpg"},
            {"id": 8, "file_name": "b.jpg"},
            {"id": 9, "file_name": "c.jpg"},
        ],
        "annotations": [
            row("7", category_id="1", iscrowd="0", score="0.5"),
            row("8", bbox=["2", "2", "3", "4"]),
            row(9.0),
        ],
    }
    boxes = read_boxes(save(tmp_path / "x.json", content))
    assert [left_of(boxes, name) for name in ("a.jpg", "b.jpg", "c.jpg")] == [[1], [2], [1]]
    assert boxes.by_id[7].scores.tolist() == [0.5] and boxes.by_id[8].scores.tolist() == [
        1
    ]  # a missing score is 1


def test_rows_that_are_left_out_need_no_box(tmp_path: Path) -> None:
    rows = [
        row(category_id=1),
        row(category_id=2, bbox=None),
        row(category_id=1, iscrowd=1, bbox=None),
    ]
    assert left_of(read_boxes(save(tmp_path / "x.json", rows)), "1.jpg") == [1]
