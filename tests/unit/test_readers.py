"""One file, one answer: every door takes the same people from the same file.

evaluate and doctor read detections onto pictures of annotations, predict and track look boxes up by
picture; annotation files are read to train, to score and for boxes. Each table below goes through
all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations, ground_truth_boxes
from simplepose.data.coco import exact_ids, read_coco, read_detections, write_coco
from simplepose.data.mapping import concatenate
from simplepose.detection.files import read_boxes
from simplepose.doctor.checks import check_detections
from simplepose.evaluation.coco import evaluate_coco, read_results

NAMES = ["nose", "left_paw"]
CATEGORY = {"id": 1, "name": "animal", "keypoints": NAMES}
PERSON = {
    "id": 1,
    "image_id": 7,
    "category_id": 1,
    "bbox": [1, 2, 30, 40],
    "area": 100,
    "iscrowd": 0,
    "keypoints": [5, 5, 2, 9, 9, 2],
}
BOX = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
WHOLE = 2**60


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row with other values; `...` removes one."""
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def save(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def content(*rows: dict[str, Any], image_id: Any = 7, **changes: Any) -> dict[str, Any]:
    images = [{"id": image_id, "file_name": "7.jpg", "width": 100, "height": 80}]
    file = {"images": images, "annotations": list(rows), "categories": [CATEGORY]}
    return {**file, **changes}


def annotated(folder: Path, **changes: Any) -> Annotations:
    row = changed(PERSON, image_id=changes.get("image_id", 7))
    return read_coco(save(folder / "truth.json", content(row, **changes)), folder)


def evaluate_door(path: Path, folder: Path) -> int:
    return len(read_detections(path, read_coco(folder / "truth.json", folder)))


def doctor_door(path: Path, folder: Path) -> int:
    findings, boxes, _ = check_detections(path, read_coco(folder / "truth.json", folder))
    if boxes is None:
        raise UserError(f"{findings[0].problem} Cure: {findings[0].cure}")
    return len(boxes)


def predict_door(path: Path, folder: Path) -> int:
    found = read_boxes(path, annotations=folder / "truth.json")
    return sum(map(len, found.by_id.values()))


DOORS = {"evaluate": evaluate_door, "doctor": doctor_door, "predict and track": predict_door}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, 2),
        # a score: text is read; missing everywhere it is 1, missing in one row an error
        ({"score": "0.5"}, 2),
        ({"score": None}, "row 1 has the score None"),
        ({"score": ...}, "row 1 has the score None"),
        ({"score": "high"}, "row 1 has the score 'high'"),
        ({"score": math.nan}, "row 1 has the score nan"),
        ({"score": 0}, 1),
        # a category: null is one of the people
        ({"category_id": None}, 2),
        ({"category_id": ...}, 2),
        ({"category_id": "1"}, 2),
        ({"category_id": "01"}, 2),
        ({"category_id": 1.0}, 2),
        ({"category_id": 7}, 1),
        ({"category_id": "car"}, 1),
        ({"category_id": 1.5}, "row 1 has the category_id 1.5"),
        # a picture: whole numbers however they are written, never fractions
        ({"image_id": "7"}, 2),
        ({"image_id": " 7"}, 2),
        ({"image_id": "000000000007"}, 2),
        ({"image_id": 7.0}, 2),
        ({"image_id": 7.5}, "row 1 has the image_id 7.5"),
        ({"image_id": [7]}, r"row 1 has the image_id \[7\]"),
        ({"image_id": None}, "row 1 has no image_id"),
        # a box
        ({"bbox": ["1", "2", "3", "4"]}, 2),
        ({"bbox": [1, 2, -3, 4]}, 1),
        ({"bbox": [1, 2, 3, 0]}, 1),
        ({"bbox": [1, 2, 3]}, r"row 1 has the bbox \[1.0, 2.0, 3.0\]"),
        ({"bbox": [1, 2, math.inf, 4]}, "row 1 has the bbox"),
        ({"bbox": None}, "row 1 has no bbox"),
        # a crowd is nobody to estimate
        ({"iscrowd": 1}, 1),
        ({"iscrowd": True}, 1),
        ({"iscrowd": "true"}, 1),
        ({"iscrowd": "0"}, 2),
        ({"iscrowd": "maybe"}, "row 1 has the iscrowd 'maybe'"),
    ],
    ids=str,
)
def test_detections(
    tmp_path: Path, door: Callable[[Path, Path], int], changes: dict[str, Any], wanted: int | str
) -> None:
    annotated(tmp_path)
    path = save(tmp_path / "dets.json", [BOX, changed(BOX, **changes)])
    if isinstance(wanted, int):
        assert door(path, tmp_path) == wanted
        return
    with pytest.raises(UserError, match=wanted) as caught:
        door(path, tmp_path)
    assert "dets.json" in str(caught.value) and "Cure:" in str(caught.value)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
@pytest.mark.parametrize(
    "change", [{"category_id": 7}, {"category_id": "dog"}, {"score": ...}], ids=str
)
def test_what_all_detections_say(
    tmp_path: Path, door: Callable[[Path, Path], int], change: dict[str, Any]
) -> None:
    """The only category of a file is that of people; without any score each is 1."""
    annotated(tmp_path)
    path = save(tmp_path / "dets.json", [changed(BOX, **change)] * 2)
    assert door(path, tmp_path) == 2
    notes = read_detections(path, read_coco(tmp_path / "truth.json", tmp_path)).notes
    assert [count for count, _ in notes] == [2]


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
def test_byte_order_mark(tmp_path: Path, door: Callable[[Path, Path], int]) -> None:
    annotated(tmp_path)
    path = tmp_path / "dets.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([BOX]).encode())
    assert door(path, tmp_path) == 1
    truth = tmp_path / "truth.json"
    truth.write_bytes(b"\xef\xbb\xbf" + truth.read_bytes())
    assert door(path, tmp_path) == 1
    result = changed(BOX, keypoints=PERSON["keypoints"])
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([result]).encode())
    assert evaluate_coco(truth, path, sigmas=(0.1, 0.1))["AP"] == pytest.approx(1)


# annotation files


def trained(path: Path) -> list[int]:
    people = read_coco(path, path.parent)
    return people.bbox_xywh[~people.is_crowd].astype(int).tolist()


def boxes_to_test_on(path: Path) -> list[int]:
    return ground_truth_boxes(read_coco(path, path.parent)).bbox_xywh.astype(int).tolist()


def looked_up(path: Path) -> list[int]:
    boxes = np.concatenate([one.boxes_xyxy for one in read_boxes(path).by_id.values()] or [[]])
    return [[int(x), int(y), int(r - x), int(b - y)] for x, y, r, b in boxes.reshape(-1, 4)]


ANNOTATION_DOORS = {
    "train": trained,
    "ground-truth boxes": boxes_to_test_on,
    "predict and track": looked_up,
}
FIRST, SECOND = [1, 2, 30, 40], [50, 2, 30, 40]


@pytest.mark.parametrize("door", ANNOTATION_DOORS.values(), ids=ANNOTATION_DOORS.keys())
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [FIRST, SECOND]),
        ({"bbox": ...}, [FIRST, [5, 5, 4, 4]]),
        ({"bbox": []}, [FIRST, [5, 5, 4, 4]]),
        ({"bbox": ["50", "2", "30", "40"]}, [FIRST, SECOND]),
        ({"bbox": [1, 2, math.inf, 4]}, "bbox"),
        ({"bbox": [1, 2, 3]}, r"bbox \[1.0, 2.0, 3.0\]"),
        ({"category_id": None}, [FIRST, SECOND]),
        ({"category_id": "01"}, [FIRST, SECOND]),
        ({"category_id": 9}, [FIRST]),
        ({"category_id": 0.5}, "category_id 0.5"),
        ({"iscrowd": 1}, [FIRST]),
        ({"iscrowd": "true"}, [FIRST]),
        ({"iscrowd": "false"}, [FIRST, SECOND]),
        ({"iscrowd": "x"}, "iscrowd 'x'"),
        ({"image_id": "007"}, [FIRST, SECOND]),
        ({"image_id": 7.5}, "image_id 7.5"),
        ({"area": "x"}, [FIRST, SECOND]),
        ({"keypoints": [[5, 5, 2], [9, 9, 2]]}, [FIRST, SECOND]),
        ({"keypoints": [5, 5, 0.4, 9, 9, math.nan]}, [FIRST, SECOND]),
    ],
    ids=str,
)
def test_annotations(
    tmp_path: Path, door: Callable[[Path], list[int]], changes: dict[str, Any], wanted: Any
) -> None:
    second = changed({**PERSON, "id": 2, "bbox": SECOND}, **changes)
    path = save(tmp_path / "truth.json", content(PERSON, second))
    if isinstance(wanted, list):
        assert door(path) == wanted
        return
    with pytest.raises(UserError, match=wanted) as caught:
        door(path)
    assert "truth.json" in str(caught.value) and "Cure:" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"area": "x"},
        {"area": ..., "bbox": [1, 2, -3, 4]},
        {"iscrowd": "1"},
        {"num_keypoints": 0},
        {"bbox": ...},
        {"category_id": None},
        {"keypoints": [5, 5, 0.4, 9, 9, 2]},
    ],
    ids=str,
)
def test_what_is_trained_on_is_what_is_scored(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A file and the people read from it give the same numbers."""
    rows = [
        changed({**PERSON, "id": 5}, **changes),
        {**PERSON, "id": 6, "keypoints": [50, 5, 2, 70, 70, 2]},
    ]
    path = save(tmp_path / "truth.json", content(*rows))
    results = [{**BOX, "keypoints": row["keypoints"]} for row in rows]
    people = read_coco(path, tmp_path)
    numbers = evaluate_coco(people, results, sigmas=people.schema.sigmas)
    assert evaluate_coco(path, results, sigmas=people.schema.sigmas) == numbers
    assert numbers["AP"] == pytest.approx(1)


# ids


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, 7),
        ("7", 7),
        (" 7 ", 7),
        ("000000000007", 7),
        (7.0, 7),
        (-7, -7),
        ("-07", -7),
        ("+7", 7),
        (WHOLE + 1, WHOLE + 1),
        (str(WHOLE + 1), WHOLE + 1),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63), -(2**63)),
        (2**130, str(2**130)),
        (f"0{2**63}", str(2**63)),
        ("1_23", "1_23"),
        ("12_3", "12_3"),
        ("1e3", "1e3"),
        ("0x1f", "0x1f"),
        ("7.0", "7.0"),
        ("", ""),
        ("nan", "nan"),
        ("true", "true"),
        ("null", "null"),
        ("\u0667", "\u0667"),
        (None, None),
    ],
)
def test_ids_are_whole_numbers_of_64_bits_or_words(value: Any, wanted: Any) -> None:
    assert exact_ids([value], str, "id") == [wanted]


@pytest.mark.parametrize("value", [7.5, math.nan, math.inf, 1e18, True, [7], {"id": 7}])
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(UserError, match="image_id"):
        exact_ids([1, value], str, "image_id")


@pytest.mark.parametrize(
    "ids",
    [
        [WHOLE + k for k in range(4)],
        [2**63 + k for k in range(4)],
        [2**127 + k for k in range(4)],
        [f"{WHOLE + k}" for k in range(4)],
        ["1_23", "12_3", "123", "1_2_3"],
        ["a", "b", "A", "a "],
        ["000000000001", "2", 3, "0004"],
        [2**63, "1_2", 5, "x"],
    ],
    ids=str,
)
def test_pictures_with_close_ids_stay_apart(tmp_path: Path, ids: list[Any]) -> None:
    """In annotations, detections, boxes by picture and results alike; also written and read again."""
    images = [{"id": name, "file_name": f"{i}.jpg"} for i, name in enumerate(ids)]
    rows = [{**PERSON, "id": i, "image_id": ids[i], "bbox": [i, 0, 5, 5]} for i in range(4)]
    path = save(tmp_path / "truth.json", {**content(*rows), "images": images})
    people = read_coco(path, tmp_path)
    assert people.image_index.tolist() == [0, 1, 2, 3] and len({*people.image_ids.tolist()}) == 4
    order = [2, 0, 3, 1]
    boxes = save(tmp_path / "dets.json", [{**BOX, "image_id": ids[i]} for i in order])
    assert read_detections(boxes, people).image_index.tolist() == order
    found = read_boxes(path)
    lefts = [found.by_id[found.image_id(Path(f"{i}.jpg"))].boxes_xyxy[0, 0] for i in range(4)]
    assert lefts == [0, 1, 2, 3]
    results = [{**BOX, "image_id": ids[i], "keypoints": PERSON["keypoints"]} for i in order]
    named = [row["image_id"] for row in read_results(results, people)]
    assert named == people.image_ids[order].tolist()
    assert evaluate_coco(path, results, sigmas=(0.1, 0.1))["AP"] == pytest.approx(1)


@pytest.mark.parametrize("ids", [[7, "7"], [7, "007"], ["a", "a"], [2**63, str(2**63)]], ids=str)
def test_one_id_twice(tmp_path: Path, ids: list[Any]) -> None:
    images = [{"id": name, "file_name": f"{i}.jpg"} for i, name in enumerate(ids)]
    path = save(tmp_path / "truth.json", {**content(PERSON), "images": images})
    with pytest.raises(UserError, match="truth.json, images: the id .* more than once"):
        read_coco(path, tmp_path)


def test_people_on_pictures_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    lost = {**PERSON, "id": 2, "image_id": 99}
    people = read_coco(save(tmp_path / "truth.json", content(PERSON, lost, lost)), tmp_path)
    assert len(people) == 1 and any("2 of 3" in one and "99" in one for one in people.warnings)
    with pytest.raises(UserError, match="truth.json.*99"):
        read_coco(save(tmp_path / "truth.json", content(lost)), tmp_path)


def test_categories_that_share_keypoints_and_are_named_elsewhere(tmp_path: Path) -> None:
    listed = [CATEGORY, {**CATEGORY, "id": 2, "name": "other"}]
    rows = [{**PERSON, "category_id": 4}]
    path = save(tmp_path / "truth.json", content(*rows, categories=listed))
    assert len(read_coco(path, tmp_path)) == len(looked_up(path)) == 1
    rows.append({**PERSON, "id": 2, "category_id": 4, "keypoints": [1, 1, 2]})
    path = save(tmp_path / "truth.json", content(*rows, categories=listed))
    for door in ANNOTATION_DOORS.values():
        with pytest.raises(UserError, match="category of people"):
            door(path)


@pytest.mark.parametrize(
    "names",
    [
        ["left_eye", "right_eye"],
        [{"id": 5, "name": "left_eye"}, {"id": 6, "name": "right_eye"}],
        "left_eye, right_eye",
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [True, False])
def test_forms_of_keypoints_and_their_names(tmp_path: Path, names: Any, nested: bool) -> None:
    flat = [5, 6, 2, 9, 10, 1]
    row = {**PERSON, "keypoints": [flat[:3], flat[3:]] if nested else flat}
    file = content(row, categories=[{"id": 1, "name": "cat", "keypoints": names}])
    people = read_coco(save(tmp_path / "truth.json", file), tmp_path)
    assert people.schema.keypoints == ("left_eye", "right_eye")
    assert people.schema.flip_pairs == ((0, 1),)
    assert people.keypoints.tolist() == [[[5, 6], [9, 10]]]
    assert people.visibility.tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"keypoints_4": [1, 1, 2] * 4, "face": [1, 1, 2] * 3}, "`keypoints_4`"),
        ({}, "everybody has 2"),
    ],
)
def test_a_category_that_names_more_keypoints_than_rows_have(
    tmp_path: Path, more: dict[str, Any], named: str
) -> None:
    listed = [{**CATEGORY, "keypoints": ["a", "b", "c", "d"]}]
    empty = {**PERSON, "id": 2, "keypoints": []}
    path = save(tmp_path / "truth.json", content(empty, {**PERSON, **more}, categories=listed))
    with pytest.raises(UserError) as caught:
        read_coco(path, tmp_path)
    assert "truth.json: annotation 1 has 6 values" in str(caught.value)
    assert named in caught.value.cure


def test_who_has_no_keypoints_by_the_file_is_trained_on_and_not_scored(tmp_path: Path) -> None:
    """As CrowdPose's own evaluation; also after writing, and joined with a file that has no such person."""
    rows = [{**PERSON, "num_keypoints": 0}, {**PERSON, "id": 2, "keypoints": [50, 5, 2, 70, 70, 2]}]
    people = read_coco(save(tmp_path / "truth.json", content(*rows)), tmp_path)
    write_coco(tmp_path / "again.json", people, tmp_path)
    again = read_coco(tmp_path / "again.json", tmp_path)
    result = [{**BOX, "keypoints": rows[1]["keypoints"]}]
    for one in (people, again):
        assert len(one.trainable()) == 2 and one.unscored is not None
        assert one.unscored.tolist() == [True, False]
        numbers = evaluate_coco(one, result, sigmas=one.schema.sigmas)
        assert [numbers["AP"], numbers["AR"]] == pytest.approx([1, 1])
    other = read_coco(save(tmp_path / "other.json", content(PERSON)), tmp_path)
    joined = concatenate([other, people])
    assert joined.unscored is not None and joined.unscored.tolist() == [False, True, False]
