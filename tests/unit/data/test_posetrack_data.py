"""PoseTrack 2017 and 2018: keypoint order, track ids, ignore regions, and the official folder of JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import POSETRACK_15
from simplepose.data.coco import read_coco, write_coco
from simplepose.data.posetrack import FILE_KEYPOINTS, JOINTS, read_posetrack


def sequence(name: str = "000001_mpii_test", first: int = 10, **changes: Any) -> dict[str, Any]:
    """Two frames, one person in the first."""
    images = [
        {
            "id": first + index,
            "file_name": f"images/val/{name}/{index:06d}.jpg",
            "vid_id": name[:6],
            "frame_id": first + index,
            "nframes": 2,
            "width": 64,
            "height": 48,
            "ignore_regions_x": [[1, 5, 5]],
            "ignore_regions_y": [[1, 1, 5]],
        }
        for index in range(2)
    ]
    person = {
        "id": 100 * first,
        "image_id": first,
        "category_id": 1,
        "track_id": 3,
        "bbox": [1.5, 2, 30, 40],
        "bbox_head": [5, 6, 7, 8],
        "keypoints": [value for k in range(17) for value in (k + 0.5, 2 * k, 1)],
        "iscrowd": False,
        "scores": [],
    }
    return {
        "images": images,
        "annotations": [person],
        "categories": [{"id": 1, "keypoints": list(FILE_KEYPOINTS)}],
        **changes,
    }


def save(folder: Path, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_empty_folder_and_sequence_without_people(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"JSON"):
        read_posetrack(tmp_path, tmp_path)
    found = read_posetrack(save(tmp_path / "a", s=sequence(annotations=[])), tmp_path)
    assert len(found) == 0 and len(found.image_ids) == 2
    assert found.track_ids is not None


def test_sequences_to_columns(tmp_path: Path) -> None:
    found = read_posetrack(save(tmp_path / "a", b=sequence("000002_x", 20), a=sequence()), tmp_path)
    assert (
        found.schema is POSETRACK_15
        and found.image_ids.tolist() == [10, 11, 20, 21]
        and found.image_index.tolist() == [0, 2]
    )
    places = [FILE_KEYPOINTS.index(name) for name in POSETRACK_15.keypoints]
    assert (
        found.keypoints[0, :, 0].tolist() == [place + 0.5 for place in places]
        and (found.visibility == 1).all()
    )
    assert found.track_ids is not None and found.track_ids.tolist() == [3, 3]
    assert found.head_boxes_xyxy is not None and found.head_boxes_xyxy[0].tolist() == [5, 6, 12, 14]
    assert found.image_extras is not None and found.image_extras[1]["ignore_regions_x"] == [
        [1, 5, 5]
    ]
    assert (
        found.image_paths[2] == str(tmp_path / "images/val/000002_x/000000.jpg")
        and not found.warnings
    )


def test_there_and_back(tmp_path: Path) -> None:
    first = read_posetrack(save(tmp_path / "a", a=sequence(), b=sequence("000002_x", 20)), tmp_path)
    again = through_coco(tmp_path, first)
    for name in (
        "image_ids",
        "image_index",
        "keypoints",
        "visibility",
        "track_ids",
        "head_boxes_xyxy",
        "bbox_xywh",
        "annotation_ids",
    ):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    assert again.image_extras == first.image_extras and again.image_paths == first.image_paths


def through_coco(folder: Path, annotations: Any) -> Any:
    write_coco(folder / "coco.json", annotations, folder)
    return read_coco(folder / "coco.json", folder, POSETRACK_15)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (sequence(images=[]), "is an empty sequence"),
        ({"annolist": []}, "is an empty sequence"),
        ({"annotations": []}, "not a PoseTrack file"),
        (
            sequence(categories=[{"keypoints": ["nose", "tail"]}]),
            r"unknown keypoints \['tail'\], missing keypoints \['head_bottom'",
        ),
        (
            sequence(annotations=[{"id": 1, "image_id": 10, "track_id": "A"}]),
            "annotation 1 has the track_id 'A'",
        ),
        (sequence(annotations=[{"id": 1, "image_id": 10, "track_id": 0.5}]), "track_id 0.5"),
        (sequence(annotations=[{"id": 1, "image_id": 10, "track_id": math.nan}]), "track_id nan"),
        (sequence(annotations=[{"id": 1, "image_id": 10, "track_id": 10**30}]), "track_id .10{30}"),
        (
            sequence(annotations=[{"id": 1, "image_id": 10, "track_id": 1, "bbox_head": "x"}]),
            "annotation 1 has the bbox_head 'x'",
        ),
        (sequence(annotations="x"), "`annotations` is 'x'"),
        (sequence(images=[1]), "entry 0 of `images` is"),
        (sequence(images=[{"id": 10}], annotations=[]), "picture 10 has no file_name"),
        ({"annolist": [{"annorect": []}]}, "frame 0 has no image name"),
        (sequence(annotations=[{"id": 1, "image_id": 10}]), "no track_id, first annotation 1"),
        (
            sequence(annotations=[{"id": 1, "image_id": 12, "track_id": 1}]),
            r"`images`, first \[12\]",
        ),
        (
            sequence(annotations=[{"id": 1, "image_id": 10, "track_id": 1}] * 2),
            r"annotations: the id \[1\] stands more than once",
        ),
        (
            sequence(
                annotations=[{"id": 1, "image_id": 10, "track_id": 1, "keypoints": [1, 2, 3]}]
            ),
            "annotation 1 has 3 values.*17 keypoints",
        ),
    ],
)
def test_bad_input(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_posetrack(save(tmp_path / "a", s=value), tmp_path)


def test_missing_frames_are_noted(tmp_path: Path) -> None:
    value = sequence()
    value["images"][0]["nframes"] = 5
    found = read_posetrack(save(tmp_path / "a", s=value), tmp_path)
    assert "lists 2 of 5 frames" in found.warnings[0]


def frame17(
    people: list[dict[str, Any]], name: str = "images/bonn/000001_bonn/00000001.jpg"
) -> dict[str, Any]:
    return {
        "image": [{"name": name}],
        "annorect": people,
        "imgnum": [1],
        "ignore_regions": [{"point": [{"x": [1], "y": [2]}]}],
    }


def test_posetrack_2017(tmp_path: Path) -> None:
    points = [{"id": [k], "x": [10.0 + k], "y": [20.0 + k]} for k in range(15)]
    person = {
        "x1": [1],
        "y1": [2],
        "x2": [5],
        "y2": [8],
        "track_id": [4],
        "annopoints": [{"point": points}],
    }
    found = read_posetrack(
        save(tmp_path / "a", s={"annolist": [frame17([person]), frame17([])]}), tmp_path
    )
    assert (
        len(found) == 1
        and len(found.image_ids) == 2
        and found.track_ids is not None
        and found.track_ids.tolist() == [4]
    )
    assert found.keypoints[0, :, 0].tolist() == [
        10.0 + JOINTS.index(name) for name in POSETRACK_15.keypoints
    ]
    # poseval's numbers: 0 right ankle, 9 left shoulder, 12 head bottom, 13 nose, 14 head top
    for joint, name in (
        (0, "right_ankle"),
        (9, "left_shoulder"),
        (12, "head_bottom"),
        (13, "nose"),
        (14, "head_top"),
    ):
        assert found.keypoints[0, POSETRACK_15.keypoints.index(name)].tolist() == [
            10 + joint,
            20 + joint,
        ]
    assert found.head_boxes_xyxy is not None and found.head_boxes_xyxy[0].tolist() == [1, 2, 5, 8]
    assert (
        found.image_extras is not None
        and found.image_extras[0]["ignore_regions_y"] == [[2]]
        and found.image_extras[0]["vid_id"] == "000001"
    )
    bad = {**person, "annopoints": [{"point": [{"id": [15], "x": [1], "y": [1]}]}]}
    with pytest.raises(UserError, match=r"s\.json: .*00000001\.jpg .*15"):
        read_posetrack(save(tmp_path / "b", s={"annolist": [frame17([bad])]}), tmp_path)


def test_real_samples(real_data: Any) -> None:
    folder = real_data("mmpose_tests_data") / "tests/data/posetrack18"
    found = read_posetrack(folder / "annotations/val", folder)
    assert (
        len(found) == 14
        and len(found.image_ids) == 3
        and all(Path(path).exists() for path in found.image_paths)
    )
    joined = read_posetrack(folder / "annotations/test_posetrack18_val.json", folder)
    assert sorted(joined.annotation_ids.tolist()) == sorted(found.annotation_ids.tolist())
