"""COCO JSON in and out: what other tools write is accepted and counted; what would change a result silently is an error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14, DEFAULT_SIGMA, MPII_16
from simplepose.data.annotations import ground_truth_boxes
from simplepose.data.categories import Category, chosen_categories, schema_from_category
from simplepose.data.coco import read_coco, read_detections, write_coco

NAMES = ["nose", "left_paw", "right_paw"]


def row(**changes: Any) -> dict[str, Any]:
    """One annotation of a three-keypoint animal; a value `...` removes the key."""
    base = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": [10, 20, 30, 40],
        "area": 500.0,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": [12, 22, 2, 30, 50, 1, 0, 0, 0],
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def content(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole file of these rows with one picture of 100 x 80."""
    category = {"id": 1, "name": "animal", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
    images = [
        {"id": 7, "file_name": "a/7.jpg", "width": 100, "height": 80},
        {"id": 8, "file_name": "8.jpg", "width": 60, "height": 60},
    ]
    return {"images": images, "annotations": list(rows), "categories": [category], **changes}


def save(folder: Path, value: Any) -> Path:
    """The file, in Python's JSON (which writes NaN)."""
    path = folder / "annotations.json"
    path.write_text(json.dumps(value))
    return path


def load(folder: Path, value: Any, **options: Any) -> Any:
    return read_coco(save(folder, value), folder / "images", **options)


def test_no_annotation_is_an_error_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no annotation"):
        load(tmp_path, content())
    empty = load(tmp_path, content(), allow_empty=True)
    assert len(empty) == 0 and empty.keypoints.shape == (0, 3, 2) and len(empty.image_ids) == 2
    assert len(ground_truth_boxes(empty)) == 0
    with pytest.raises(UserError, match=r"annotations\.json.*no person is annotated"):
        empty.trainable()
    write_coco(tmp_path / "again.json", empty)
    assert len(read_coco(tmp_path / "again.json", tmp_path, allow_empty=True)) == 0


def test_plain_file_to_columns(tmp_path: Path) -> None:
    found = load(tmp_path, content(row(), row(id=2, image_id=8, iscrowd=1)))
    assert found.image_ids.tolist() == [7, 8] and found.image_index.tolist() == [0, 1]
    assert found.image_paths == (str(tmp_path / "images/a/7.jpg"), str(tmp_path / "images/8.jpg"))
    assert found.image_sizes_wh.tolist() == [[100, 80], [60, 60]]
    assert found.keypoints[0].tolist() == [[12, 22], [30, 50], [0, 0]] and found.visibility[
        0
    ].tolist() == [2, 1, 0]
    assert found.bbox_xywh[0].tolist() == [10, 20, 30, 40] and found.is_crowd.tolist() == [
        False,
        True,
    ]
    assert found.schema.skeleton == ((0, 1), (0, 2)) and found.schema.flip_pairs == ((1, 2),)
    assert found.schema.sigmas == (DEFAULT_SIGMA,) * 3
    assert any("left_paw <-> right_paw" in warning for warning in found.warnings)
    assert any("sigmas" in warning for warning in found.warnings)
    assert "people=2" in repr(found) and not found.keypoints.flags.writeable


@pytest.mark.parametrize(
    ("changes", "field", "wanted", "warning"),
    [
        ({"area": ...}, "area", [0.53 * 30 * 40], "no area"),
        ({"area": None}, "area", [0.53 * 30 * 40], "no area"),
        ({"num_keypoints": ...}, "keypoint_counts", [2], None),
        ({"iscrowd": ...}, "is_crowd", [False], None),
        ({"iscrowd": False}, "is_crowd", [False], None),
        ({"bbox": ...}, "bbox_xywh", [[12, 22, 18, 28]], "no bbox"),
        ({"bbox": []}, "bbox_xywh", [[12, 22, 18, 28]], "no bbox"),
        ({"bbox": ["10", "20", "30", "40"]}, "bbox_xywh", [[10, 20, 30, 40]], None),
        ({"keypoints": [12.5, 22, 2.0, 30, 50, 1.0, 0, 0, 0.0]}, "visibility", [[2, 1, 0]], None),
        (
            {"keypoints": [12.5, 22, 0.9, 30, 50, 1.0, 0, 0, 0.0]},
            "visibility",
            [[2, 1, 0]],
            "1 visibility values",
        ),
        ({"keypoints": [12, 22, 2, 30, 50, 1, None, None, 0]}, "keypoint_counts", [2], None),
        ({"keypoints": [12, 22, 2, 30, 50, 1, float("nan"), 3, 0]}, "keypoint_counts", [2], None),
        ({"keypoints": ...}, "keypoint_counts", [0], None),
        ({"id": "15"}, "annotation_ids", [15], None),
        ({"id": "a3f"}, "annotation_ids", [1], "are words"),
        ({"id": ...}, "annotation_ids", [1], "numbered"),
        ({"image_id": "7"}, "image_index", [0], None),
        ({"track_id": 4}, "track_ids", [4], None),
        ({"segmentation": [[1, 2.5, -3e1], [4]]}, "annotation_ids", [1], None),
        ({"segmentation": [[1], [None]]}, "annotation_ids", [1], None),
        ({"segmentation": {"counts": "a[1]b", "size": [3, 4]}}, "annotation_ids", [1], None),
    ],
)
def test_what_other_tools_write(
    tmp_path: Path, changes: dict[str, Any], field: str, wanted: list[Any], warning: str | None
) -> None:
    plain = load(tmp_path, content(row()))
    found = load(tmp_path, content(row(**changes)))
    assert np.allclose(getattr(found, field), wanted)
    new = [sentence for sentence in found.warnings if sentence not in plain.warnings]
    assert (len(new) == 1 and warning in new[0]) if warning else not new


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "no `images`"),
        (content(row(), row()), r"annotations.*id \[1\]"),
        (content(row(image_id=99)), r"`images`, first \[99\]"),
        (
            content(row(keypoints=[1, 2, 2])),
            "annotation 1 has 3 values .*3 keypoints have 9",
        ),
        (content(row(keypoints=[1, 2, 2, 5])), "annotation 1 has 4 values .*keypoints"),
        (
            content(row(keypoints=[float("nan"), 2, 2, 0, 0, 0, 0, 0, 0])),
            "annotation 1: keypoint 0 is labelled but not finite",
        ),
        (
            content(row(bbox=[1, 2, float("nan"), 4])),
            r"annotation 1 has the bbox \[1.0, 2.0, nan, 4.0\]",
        ),
        (content(row(bbox=[1, 2, 3])), r"annotation 1 has the bbox \[1.0, 2.0, 3.0\]"),
        (content(row(bbox=5)), "annotation 1 has the bbox 5"),
        (content(row(track_id="left dog")), "annotation 1 has the track_id 'left dog'"),
        (content(row(track_id=1.5)), "annotation 1 has the track_id 1.5"),
        (content(row(category_id=5, keypoints=...)), r"category of people, \[1\]; found \[5\]"),
        (content(row(iscrowd="maybe")), "annotation 1 has the iscrowd 'maybe'"),
        (content(row(image_id=[7])), r"annotation 1 has the image_id \[7\]"),
        (content(row(id=True)), "annotation 0 has the id True"),
        (
            content(row(), images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]),
            r"images: the id \[7\]",
        ),
        (content(row(), images=[{"id": 7}]), "picture 7 has no file_name"),
        (content(row(), images=[{"file_name": "a"}]), "images: 1 of 1 entries have no id"),
        (content(row(keypoints=...), categories=[]), "has no keypoints"),
    ],
)
def test_bad_files(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path, value)
    assert "Cure:" in str(caught.value) and "annotations.json" in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("", "is empty"), ('{"images": [', "not valid JSON")])
def test_files_that_are_no_json(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_coco(tmp_path / "x.json", tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_coco(tmp_path / "missing.json", tmp_path)


def test_schema_and_categories(tmp_path: Path) -> None:
    spoken = [name.replace("_", " ").title() for name in COCO_17.keypoints]
    person = Category(id=1, name="person", keypoints=spoken, skeleton=[])
    assert chosen_categories([Category(id=3, name="car"), person], "f") == [person]
    assert schema_from_category(person) == (COCO_17, [])
    top_head = [*CROWDPOSE_14.keypoints[:12], "top_head", "neck"]
    crowd = Category(id=1, keypoints=top_head, skeleton=[[16, 14]])
    assert schema_from_category(crowd) == (CROWDPOSE_14, [])
    assert schema_from_category(Category(keypoints=list(MPII_16.keypoints))) == (MPII_16, [])
    zero = Category(
        id=1, name="a", keypoints=NAMES, skeleton=[[0, 1], [0, 2]], sigmas=[0.1, 0.2, 0.3]
    )
    schema, _ = schema_from_category(zero)
    assert schema.skeleton == ((0, 1), (0, 2)) and schema.sigmas == (0.1, 0.2, 0.3)
    with pytest.raises(UserError, match="2 sigmas for 3 keypoints"):
        schema_from_category(Category(keypoints=NAMES, sigmas=[0.1, 0.2]))
    with pytest.raises(UserError, match="'car'"):
        schema_from_category(Category(id=1, name="car"))
    with pytest.raises(UserError, match="category"):
        chosen_categories([person, zero], "f")
    with pytest.raises(UserError, match="coco_17"):
        load(tmp_path, content(row()), schema=COCO_17)
    turned = {"id": 1, "name": "a", "keypoints": NAMES[::-1]}
    expected, _ = schema_from_category(zero)
    with pytest.raises(UserError, match="order"):
        load(tmp_path, content(row(), categories=[turned]), schema=expected)


@pytest.mark.parametrize(
    "keypoints",
    [[{"id": 4, "name": name} for name in NAMES], "nose, left_paw,right_paw"],
)
def test_keypoint_names_as_objects_or_one_text(tmp_path: Path, keypoints: Any) -> None:
    listed = [{"id": 1, "name": "animal", "keypoints": keypoints}]
    found = load(tmp_path, content(row(), categories=listed))
    assert found.schema.keypoints == tuple(NAMES) and found.schema.flip_pairs == ((1, 2),)


def test_several_categories(tmp_path: Path) -> None:
    cat, dog = ({"id": i, "name": name, "keypoints": NAMES} for i, name in ((1, "cat"), (2, "dog")))
    value = content(
        row(),
        row(id=2, category_id=2),
        row(id=3, category_id=9),
        categories=[cat, dog, {"id": 9, "name": "box"}],
    )
    assert len(load(tmp_path, value)) == 2
    assert load(tmp_path, value, category="dog").annotation_ids.tolist() == [2]
    assert load(tmp_path, value, category=1).category_id == 1
    with pytest.raises(UserError, match="no category 'cow'"):
        load(tmp_path, value, category="cow")


def test_unnamed_keypoints(tmp_path: Path) -> None:
    found = load(tmp_path, content(row(), categories=[]))
    assert (
        found.schema.keypoints == ("keypoint_1", "keypoint_2", "keypoint_3")
        and len(found.warnings) == 1
    )
    assert load(tmp_path, content(row(keypoints=[1, 1, 2] * 17), categories=[])).schema is COCO_17


def test_folders_in_file_names(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "7.jpg").touch()
    assert load(tmp_path, content(row())).image_paths[0] == str(images / "7.jpg")
    value = content(row())
    value["images"][0]["file_name"] = "images\\7.jpg"
    assert load(tmp_path, value).image_paths[0] == str(tmp_path / "images/7.jpg")


def test_write_then_read_gives_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = load(
        tmp_path,
        content(*(row(id=index, image_id=7 + index % 2, track_id=index) for index in range(20))),
    )
    first = replace(
        first,
        keypoints=rng.uniform(-5, 700, (20, 3, 2)).round(3),
        visibility=rng.integers(0, 3, (20, 3)),
        head_boxes_xyxy=np.where(
            np.arange(20)[:, None] == 3, np.nan, rng.uniform(0, 9, (20, 4)).round(2)
        ),
        image_extras=({"crowdIndex": 0.5}, {}),
        clip_boxes=False,
    )
    write_coco(tmp_path / "out" / "b.json", first, tmp_path / "images")
    again = read_coco(tmp_path / "out" / "b.json", tmp_path / "images")
    for name in (
        "image_ids",
        "annotation_ids",
        "image_index",
        "bbox_xywh",
        "keypoints",
        "visibility",
        "area",
        "is_crowd",
        "track_ids",
    ):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    assert np.array_equal(again.head_boxes_xyxy, first.head_boxes_xyxy, equal_nan=True)
    assert (
        again.schema == first.schema
        and again.image_paths == first.image_paths
        and again.image_extras == first.image_extras
    )
    assert not again.clip_boxes


def test_training_filter_is_the_references_but_for_boxes_of_one_pixel(tmp_path: Path) -> None:
    rows = [
        row(id=1),
        row(id=2, bbox=[-10, -5, 50, 50]),
        row(id=3, bbox=[70, 60, 100, 100]),
        row(id=4, iscrowd=1),
        row(id=5, keypoints=[0] * 9),
        row(id=6, area=0),
        row(id=7, bbox=[10, 10, 0, 20]),
        row(id=8, bbox=[99, 10, 20, 20]),
        row(id=9, bbox=[5, 5, 1, 1]),
    ]
    annotations = load(tmp_path, content(*rows))
    # a box and an area without size are made from the keypoints and the box
    rows[5]["area"], rows[6]["bbox"] = 1, [12, 22, 18, 28]
    kept = annotations.trainable()
    # the rule, one person at a time: x1 = max(0, x), x2 = min(W - 1, x1 + max(0, w - 1))
    wanted = {}
    for one in rows:
        x, y, w, h = one["bbox"]
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = min(99, x1 + max(0, w - 1)), min(79, y1 + max(0, h - 1))
        if (
            not one["iscrowd"]
            and any(one["keypoints"][2::3])
            and one["area"] > 0
            and x2 > x1
            and y2 > y1
        ):
            wanted[one["id"]] = [x1, y1, x2 - x1, y2 - y1]
    assert dict(zip(kept.annotation_ids.tolist(), kept.bbox_xywh.tolist(), strict=True)) == wanted
    assert sorted(wanted) == [1, 2, 3, 6, 7]
    assert np.array_equal(kept.trainable().bbox_xywh, kept.bbox_xywh)
    assert replace(annotations, clip_boxes=False).trainable().bbox_xywh[1].tolist() == [
        -10,
        -5,
        50,
        50,
    ]
    assert replace(annotations, image_sizes_wh=np.zeros((2, 2))).trainable().bbox_xywh[
        1
    ].tolist() == [-10, -5, 50, 50]


@pytest.mark.parametrize(
    ("changes", "box", "area", "words"),
    [
        ({"bbox": [0, 0, 0, 0]}, [12, 22, 18, 28], 500, "without width or height"),
        ({"bbox": [5, 5, -3, 9]}, [12, 22, 18, 28], 500, "without width or height"),
        ({"area": 0}, [10, 20, 30, 40], 0.53 * 1200, "area of 0 or less"),
        ({"area": -7}, [10, 20, 30, 40], 0.53 * 1200, "area of 0 or less"),
        ({"bbox": [1, 1, 0, 0], "area": "0"}, [12, 22, 18, 28], 0.53 * 504, "area of 0 or less"),
        # nothing to make a box of: one point, no keypoint
        ({"bbox": [4, 4, 0, 0], "keypoints": [4, 4, 2, *[0] * 6]}, [4, 4, 0, 0], 500, None),
        ({"bbox": [4, 4, 0, 0], "keypoints": [0] * 9, "area": 0}, [4, 4, 0, 0], 0, None),
        ({"area": 0, "keypoints": [0] * 9}, [10, 20, 30, 40], 0, None),
    ],
)
def test_no_size_beside_keypoints(
    tmp_path: Path, changes: dict[str, Any], box: list[float], area: float, words: str | None
) -> None:
    found = load(tmp_path, content(row(**changes), row(id=2)))
    assert found.bbox_xywh.tolist() == [box, [10, 20, 30, 40]]
    assert found.area == pytest.approx([area, 500])
    notes = [note for note in found.warnings if " 1 people " in note]
    assert len(notes) == (0 if words is None else 1 + ("area" in changes and "bbox" in changes))
    assert words is None or words in notes[-1]


def test_who_is_left_out_and_why(tmp_path: Path) -> None:
    point = [4, 4, 2, *[0] * 6]
    rows = [
        row(id=1),
        row(id=2, keypoints=[0] * 9),
        row(id=3, iscrowd=1),
        row(id=4, iscrowd=1, keypoints=[0] * 9),
        row(id=5, bbox=[4, 4, 0, 0], keypoints=point, area=0),
        row(id=6, bbox=[200, 5, 30, 30], keypoints=point),
        row(id=7, bbox=[5, 5, 1, 9]),
    ]
    annotations = load(tmp_path, content(*rows))
    found = {why: annotations.annotation_ids[who] for why, who in annotations.left_out().items()}
    assert [ids.tolist() for ids in found.values()] == [[2, 4], [3], [5], [6, 7], []]
    note = annotations.trainable().warnings[-1]
    assert note.startswith(annotations.source) and "4 of 5 people" in note
    assert annotations.trainable().trainable().warnings[-1] == note
    assert "left out" not in str(load(tmp_path, content(*rows[:2])).trainable().warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keypoints": [0] * 9}, "2 have no labelled keypoint.*visibility"),
        ({"iscrowd": 1}, "2 are crowds.*iscrowd"),
        ({"bbox": [1, 1, 0, 0], "keypoints": [4, 4, 2, *[0] * 6]}, "without width.*bbox"),
        ({"bbox": [200, 1, 9, 9]}, "outside their picture.*sizes"),
    ],
)
def test_nobody_to_train_on(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    annotations = load(tmp_path, content(row(**changes), row(id=2, **changes)))
    with pytest.raises(UserError, match=rf"annotations\.json has nobody.*{words}"):
        annotations.trainable()


def test_ground_truth_boxes_of_each_protocol(tmp_path: Path) -> None:
    """One person at a time, by the rules of Microsoft's test, of our own, and of the seed's."""
    rows = [
        row(id=1),
        row(id=2, bbox=[-10, -5, 50, 50]),
        row(id=3, bbox=[70, 60, 100, 100]),
        row(id=4, iscrowd=1),
        row(id=5, keypoints=[0] * 9),
        row(id=6, area=0),
        row(id=7, bbox=[10, 10, 0, 20]),
        row(id=8, bbox=[99, 10, 20, 20]),
        row(id=9, bbox=[5, 5, 1, 1]),
        row(id=10, bbox=[150, 10, 20, 20]),
        row(id=11, bbox=[10, 10, 20, -5], iscrowd=1),
    ]
    annotations = load(tmp_path, content(*rows))
    # a box and an area without size are made from the keypoints and the box
    rows[5]["area"], rows[6]["bbox"], rows[10]["bbox"] = 1, [12, 22, 18, 28], [12, 22, 18, 28]
    wanted: dict[str, list[list[float]]] = {"clipped": [], "annotated": [], "everybody": []}
    for one in rows:
        x, y, w, h = one["bbox"]
        counts = not one["iscrowd"] and any(one["keypoints"][2::3])
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = min(99, x1 + max(0, w - 1)), min(79, y1 + max(0, h - 1))
        if counts and one["area"] > 0 and x2 >= x1 and y2 >= y1:
            wanted["clipped"].append([x1, y1, x2, y2])
        if w > 0 and h > 0:
            wanted["everybody"].append([x, y, x + w, y + h])
            wanted["annotated"] += [[x, y, x + w, y + h]] if counts else []
    for protocol, boxes in wanted.items():
        found = ground_truth_boxes(annotations, protocol)
        assert found.boxes_xyxy.tolist() == boxes and found.scores.tolist() == [1] * len(boxes), (
            protocol
        )
        assert found.source == f"ground truth, {protocol}"
    assert {name: len(boxes) for name, boxes in wanted.items()} == {
        "clipped": 7,
        "annotated": 8,
        "everybody": 11,
    }
    assert ground_truth_boxes(annotations).source == "ground truth, annotated"
    squares = ground_truth_boxes(replace(annotations, clip_boxes=False), "clipped")
    assert squares.boxes_xyxy[1].tolist() == [-10, -5, 40, 45]
    with pytest.raises(UserError, match="'cliped'.*clipped, annotated, everybody"):
        ground_truth_boxes(annotations, "cliped")  # type: ignore[arg-type]


def test_select(tmp_path: Path) -> None:
    annotations = load(tmp_path, content(row(), row(id=2, image_id=8), row(id=3)))
    assert annotations.select(np.array([2, 0])).annotation_ids.tolist() == [3, 1]
    assert annotations.select(annotations.annotation_ids == 2).image_index.tolist() == [1]
    assert len(annotations.select([])) == 0 and len(annotations.select([]).image_ids) == 2
    with pytest.raises(UserError, match="visibility has shape"):
        replace(annotations, visibility=np.zeros((3, 4)))
    with pytest.raises(UserError, match="image_index is outside"):
        replace(annotations, image_index=np.array([0, 2, 0]))


def box(**changes: Any) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


def test_detections(tmp_path: Path) -> None:
    annotations = load(tmp_path, content(row()))
    rows = [
        box(image_id=8),
        box(),
        box(score=0),
        box(category_id=3),
        box(image_id=5),
        box(bbox=[1, 1, 0, 4]),
        box(bbox=[1, 1, 2, -4]),
        box(bbox=[-9, 1, 500, 4], score=1e-4),
        box(image_id="7"),
    ]
    found = read_detections(save(tmp_path, rows), annotations)
    assert found.image_index.tolist() == [1, 0, 0, 0] and found.boxes_xyxy[:3].tolist() == [
        [1, 2, 4, 6]
    ] * 2 + [[-9, 1, 491, 5]]
    assert found.scores.tolist() == pytest.approx([0.5, 0.5, 1e-4, 0.5])
    counted = " ".join(found.warnings)
    for words in (
        "1 boxes are of other categories",
        "1 boxes have no score above 0",
        "2 boxes have no positive",
        "1 boxes are on pictures",
    ):
        assert words in counted
    assert (
        found.bbox_xywh[0].tolist() == [1, 2, 3, 4] and len(found.select(found.scores > 0.1)) == 3
    )
    assert (
        len(
            read_detections(
                save(tmp_path, [box(category_id=1)]), replace(annotations, category_id=0)
            )
        )
        == 1
    )


def test_detections_name_pictures_as_the_annotations_do(tmp_path: Path) -> None:
    """Ids that are words, also after the annotations were written and read again."""
    value = content(row(image_id="im7"))
    for image in value["images"]:
        image["id"] = f"im{image['id']}"
    boxes = [box(image_id="im8"), box(image_id="im7"), box(image_id=1), box(image_id="elsewhere")]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    annotations = load(tmp_path, value)
    write_coco(tmp_path / "again.json", annotations, tmp_path)
    for one in (annotations, read_coco(tmp_path / "again.json", tmp_path)):
        found = read_detections(tmp_path / "boxes.json", one)
        assert (
            found.image_index.tolist() == [1, 0, 0]
            and "1 boxes are on pictures" in found.warnings[0]
        )
    with pytest.raises(
        UserError, match="its image ids start .'elsewhere'., the annotations' .'im7', 'im8'."
    ):
        read_detections(save(tmp_path, [box(image_id="elsewhere")]), annotations)


def test_detections_of_other_categories_than_one(tmp_path: Path) -> None:
    """Animals of category 7, of two categories that are read as one, and of a test split that holds only its one category."""
    cat, dog = ({"id": i, "name": name, "keypoints": NAMES} for i, name in ((7, "cat"), (9, "dog")))
    sevens = load(tmp_path, content(row(category_id=7), categories=[cat]))
    both = load(
        tmp_path, content(row(category_id=7), row(id=2, category_id=9), categories=[cat, dog])
    )
    split = content(categories=[{"id": 7, "name": "cat"}])
    (tmp_path / "split.json").write_text(json.dumps({**split, "annotations": []}))
    unnamed = read_coco(tmp_path / "split.json", tmp_path, sevens.schema, allow_empty=True)
    boxes = save(tmp_path, [box(category_id=7), box(category_id=7)])
    assert [len(read_detections(boxes, one)) for one in (sevens, both, unnamed)] == [2, 2, 2]
    found = read_detections(
        save(tmp_path, [box(category_id=7), box(category_id=9), box(category_id=3)]), both
    )
    assert len(found) == 2 and found.notes == ((1, "are of other categories and are left out"),)
    only = read_detections(save(tmp_path, [box(category_id=3)]), sevens)
    assert len(only) == 1 and "category 3" in only.warnings[0] and "category 7" in only.warnings[0]
    with pytest.raises(UserError, match=r"\[7\]; found \[3, 4\]"):
        read_detections(save(tmp_path, [box(category_id=3), box(category_id=4)]), sevens)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no detection"),
        ({"images": []}, "not a list of COCO rows"),
        ([{"image_id": 1}], "row 0 has no bbox"),
        ([box(), box(bbox=[1, 2, 3])], "row 1 has the bbox"),
        ([box(), box(bbox=[1, 2, float("nan"), 3])], "row 1 has the bbox"),
        ([box(score=float("inf"))], "row 0 has the score inf"),
        (
            [box(image_id=1), box(image_id=2)],
            "none of its 2 boxes .* its image ids start .1, 2., the annotations' .7, 8.",
        ),
        ([box(score=0)], "none of its 1 boxes"),
        (
            [box(category_id=18), box(category_id=3)],
            r"category of people, \[1\]; found \[18, 3\]|found \[3, 18\]",
        ),
    ],
)
def test_bad_detections(tmp_path: Path, rows: Any, words: str) -> None:
    annotations = load(tmp_path, content(row()))
    with pytest.raises(UserError, match=words) as caught:
        read_detections(save(tmp_path, rows), annotations)
    assert "Cure:" in str(caught.value)


def test_real_coco(real_data: Any) -> None:
    folder = real_data("coco_val2017_visible150")
    annotations = read_coco(folder / "person_keypoints_val2017_visible150.json", folder / "val2017")
    assert (len(annotations.image_ids), len(annotations), len(annotations.trainable())) == (
        150,
        691,
        374,
    )
    assert (
        annotations.schema is COCO_17
        and not annotations.warnings
        and Path(annotations.image_paths[0]).exists()
    )
    detections = read_detections(next(folder.glob("COCO_val2017_detections*.json")), annotations)
    assert len(detections) == 4922 and not detections.warnings
    content = json.loads((folder / "person_keypoints_val2017_visible150.json").read_text())
    for index, one in enumerate(content["annotations"]):
        assert annotations.keypoints[index].tolist() == [
            one["keypoints"][at : at + 2] for at in range(0, 51, 3)
        ]
        assert (
            annotations.keypoint_counts[index] == one["num_keypoints"]
            and annotations.is_crowd[index] == one["iscrowd"]
        )


def test_categories_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        content(
            row(), row(id=2, category_id=9), row(id=3, category_id=9), row(id=4, category_id=None)
        ),
    )
    (warning,) = [warning for warning in found.warnings if "category_id" in warning]
    assert found.annotation_ids.tolist() == [1, 4] and "2 of 4" in warning and "(9)" in warning
    listed = [
        *content()["categories"],
        {"id": 9, "name": "thing"},
    ]  # listed without keypoints: left out on purpose
    assert not any(
        "category_id" in warning
        for warning in load(
            tmp_path, content(row(), row(id=2, category_id=9), categories=listed)
        ).warnings
    )


@pytest.mark.filterwarnings("error")
def test_boxes_beyond_any_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="annotation 1 has the bbox .*too large.*Cure"):
        load(tmp_path, content(row(bbox=[1e300, 0, 1e300, 1e300])))


def test_keypoints_in_another_field_are_named(tmp_path: Path) -> None:
    """HumanArt lists 21 names; `keypoints` holds the first 17, `keypoints_21` all of them."""
    rows = [row(), row(id=2, keypoints=[1, 1, 2, 3, 3, 2], keypoints_3=[1, 1, 2] * 3)]
    with pytest.raises(UserError, match=r"annotations\.json: annotation 2 .*`keypoints_3`"):
        load(tmp_path, content(*rows))
    with pytest.raises(UserError, match="annotation 2") as caught:
        load(tmp_path, content(row(), row(id=2, keypoints=[1, 1, 2, 3, 3, 2])))
    assert "fits" not in str(caught.value)
