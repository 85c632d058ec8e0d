"""Poses go into annotation tools as COCO annotations and come back as the tools export them.

The exports are made here as the tools' own exporters write them: CVAT's COCO Keypoints (Datumaro),
Label Studio's COCO, FiftyOne's COCODetectionDataset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.cli import main
from simplepose.core.files import encode_json
from simplepose.core.lines import Line, Person, header_of
from simplepose.core.schema import COCO_17, KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco

K = len(COCO_17)
SCORES = np.resize([0.1, 0.2, 0.35, 0.5, 0.95], K)
VISIBILITY = np.resize([0, 1, 1, 2, 2], K)
SIZE_WH = (640, 480)


def person(seed: int, track_id: int | None = None, count: int = K) -> Person:
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 400, (count, 2)).round(3)
    rows = [(*point, score) for point, score in zip(points.tolist(), SCORES.tolist(), strict=False)]
    return Person(track_id, 0.75, tuple(generator.uniform(10, 200, 4).round(3).tolist()), rows)


def write(
    path: Path, people: list[list[Person]], sources: list[str], schema: KeypointSchema = COCO_17
) -> Path:
    lines = [
        Line(index, 0.0, source, 100 + index, *SIZE_WH, found)
        for index, (found, source) in enumerate(zip(people, sources, strict=True))
    ]
    text = encode_json(header_of(schema)) + b"\n" + b"".join(line.encoded() for line in lines)
    path.write_bytes(text)
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Three frames: two people, nobody, one of them."""
    people = [[person(1, 4), person(2, 9)], [], [person(3, 9)]]
    return write(tmp_path / "poses.jsonl", people, ["clips/match.mp4"] * 3)


def to_coco(results: Path, *more: str) -> dict[str, Any]:
    output = results.with_name("annotations.json")
    words = ["convert", "results", str(results), "--to", "coco", "--output", str(output), *more]
    assert main(words) == 0
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def back(content: dict[str, Any], folder: Path) -> tuple[Annotations, dict[str, Any]]:
    """An export as it is read, and as `convert coco` writes it again."""
    (folder / "export.json").write_text(json.dumps(content))
    again = folder / "again.json"
    words = ["convert", "coco", str(folder / "export.json"), "--output", str(again)]
    assert main(words) == 0
    return read_coco(folder / "export.json", folder), json.loads(again.read_text())


def column(content: dict[str, Any], name: str) -> list[Any]:
    return [row[name] for row in content["annotations"]]


def test_what_is_written(video: Path) -> None:
    content = to_coco(video)
    (category,) = content["categories"]
    assert category["name"] == "person" and category["keypoints"] == list(COCO_17.keypoints)
    assert category["skeleton"] == [[a + 1, b + 1] for a, b in COCO_17.skeleton]
    names = [one["file_name"] for one in content["images"]]
    assert names == ["frame_000000.png", "frame_000001.png", "frame_000002.png"]
    assert [(one["width"], one["height"]) for one in content["images"]] == [SIZE_WH] * 3
    assert column(content, "image_id") == [100, 100, 102]
    assert column(content, "track_id") == [4, 9, 9]
    assert [one["track_id"] for one in column(content, "attributes")] == [4, 9, 9]
    for row, seed in zip(content["annotations"], (1, 2, 3), strict=True):
        found, truth = np.reshape(row["keypoints"], (K, 3)), person(seed)
        assert found[:, 2].tolist() == VISIBILITY.tolist()
        assert row["num_keypoints"] == (VISIBILITY > 0).sum()
        expected = np.array(truth.keypoints)[:, :2]
        assert np.abs(found[:, :2] - expected).max() <= 0.005 + 1e-9
        assert np.allclose(row["bbox"], truth.bbox, atol=0.0051)
        assert row["score"] == truth.score and row["segmentation"] == [] and row["iscrowd"] == 0
        assert row["area"] == pytest.approx(0.53 * row["bbox"][2] * row["bbox"][3], rel=1e-5)
        assert all(isinstance(value, int) for value in row["keypoints"][2::3])


def test_our_own_file_comes_back_bit_for_bit(video: Path, tmp_path: Path) -> None:
    content = to_coco(video)
    read, again = back(content, tmp_path)
    for name in ("id", "image_id", "keypoints", "bbox", "area", "track_id", "num_keypoints"):
        assert column(again, name) == column(content, name), name
    assert again["images"] == content["images"] and again["categories"] == [
        {key: value for key, value in content["categories"][0].items() if key != "supercategory"}
    ]
    assert read.schema == COCO_17


def test_thresholds_are_options(video: Path) -> None:
    content = to_coco(video, "--visibility", "0.6", "0.9")
    assert column(content, "keypoints")[0][2::3] == np.resize([0, 0, 0, 0, 2], K).tolist()
    words = ["convert", "results", str(video), "--to", "coco", "--output", "x.json"]
    assert main([*words, "--visibility", "0.9", "0.6"]) == 2


def test_a_keypoint_without_place_is_not_labelled(tmp_path: Path) -> None:
    lost = person(1)
    lost.keypoints[4] = (None, None, None)
    content = to_coco(
        write(tmp_path / "poses.jsonl", [[lost]], ["a.jpg"]), "--visibility", "0", "0"
    )
    assert content["annotations"][0]["keypoints"][12:15] == [0, 0, 0]
    assert "track_id" not in content["annotations"][0]


def test_names_of_pictures(tmp_path: Path) -> None:
    sources = [str(tmp_path / "day" / name) for name in ("a/1.jpg", "b/1.jpg")]
    results = write(tmp_path / "poses.jsonl", [[person(1)], [person(2)]], sources)
    names = [one["file_name"] for one in to_coco(results)["images"]]
    assert names == ["a/1.jpg", "b/1.jpg"]
    content = to_coco(results, "--images", str(tmp_path), "--overwrite")
    assert [one["file_name"] for one in content["images"]] == ["day/a/1.jpg", "day/b/1.jpg"]


def test_words_as_picture_ids_and_keypoints_of_ones_own(tmp_path: Path) -> None:
    schema = KeypointSchema(
        name="mouse_3", keypoints=("nose", "left_ear", "right_ear"), skeleton=((0, 1), (0, 2))
    )
    results = write(tmp_path / "poses.jsonl", [[person(1, count=3)]], ["a.jpg"], schema)
    text = results.read_text().replace('"image_id":100', '"image_id":"a.jpg"')
    results.write_text(text)
    content = to_coco(results)
    assert content["images"][0]["id"] == content["annotations"][0]["image_id"] == 1
    assert content["categories"][0]["name"] == "mouse"
    read, _ = back(content, tmp_path)
    assert read.schema.flip_pairs == ((1, 2),) and read.schema.skeleton == schema.skeleton


def test_nobody_and_a_file_that_is_there(tmp_path: Path, video: Path) -> None:
    content = to_coco(write(tmp_path / "none.jsonl", [[]], ["a.jpg"]))
    assert content["annotations"] == [] and len(content["images"]) == 1
    before = (tmp_path / "annotations.json").read_bytes()
    words = ["convert", "results", str(video), "--to", "coco"]
    assert main([*words, "--output", str(tmp_path / "annotations.json")]) == 2
    assert (tmp_path / "annotations.json").read_bytes() == before


def cvat_export(content: dict[str, Any]) -> dict[str, Any]:
    """COCO Keypoints 1.0 of a video task after an import: ids anew, boxes around the points, areas
    of these boxes, identities and flags under `attributes`."""
    (category,) = content["categories"]
    images, annotations = [], []
    numbers = {one["id"]: number for number, one in enumerate(content["images"], 1)}
    for one in content["images"]:
        name = one["file_name"].replace(".png", ".PNG")
        blank = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        size = {"width": one["width"], "height": one["height"]}
        images.append({"id": numbers[one["id"]], **size, "file_name": name, **blank})
    for number, row in enumerate(content["annotations"], 1):
        points = np.reshape(row["keypoints"], (-1, 3))[:, :2]
        size = np.ptp(points, axis=0)
        annotations.append(
            {
                "id": number,
                "image_id": numbers[row["image_id"]],
                "category_id": 1,
                "segmentation": [],
                "area": float(size.prod()),
                "bbox": np.concatenate([points.min(0), size]).round(2).tolist(),
                "iscrowd": 0,
                "attributes": {
                    "occluded": False,
                    "track_id": row["track_id"],
                    "keyframe": True,
                },
                "keypoints": row["keypoints"],
                "num_keypoints": row["num_keypoints"],
            }
        )
    names = ("contributor", "date_created", "description", "url", "version", "year")
    kept = {key: category[key] for key in ("id", "name", "supercategory", "keypoints", "skeleton")}
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(names, ""),
        "categories": [kept],
        "images": images,
        "annotations": annotations,
    }


def test_cvat_and_back(video: Path, tmp_path: Path) -> None:
    content = to_coco(video)
    export = cvat_export(content)
    export["annotations"][0]["keypoints"][:3] = [12.34, 56.78, 2]  # somebody corrected it
    export["annotations"][0]["num_keypoints"] += 1
    read, again = back(export, tmp_path)
    for name in ("id", "image_id", "keypoints", "bbox", "num_keypoints"):
        assert column(again, name) == column(export, name), name
    assert column(again, "track_id") == column(content, "track_id") == [4, 9, 9]
    assert read.schema == COCO_17
    assert [Path(path).name for path in read.image_paths] == [
        one["file_name"] for one in export["images"]
    ]


def test_label_studio_and_back(tmp_path: Path) -> None:
    """Whole pixels, all visible, the keypoints in a category `default` behind those of boxes, whose
    rows have none; no areas; names of uploaded files."""
    rows = np.random.default_rng(5).integers(1, 400, (2, K, 2))
    keypoints = np.dstack([rows, np.full((2, K), 2)])
    keypoints[0, 3] = 0
    people = [
        {
            "id": 2 * image + 1,
            "image_id": image,
            "category_id": 1,
            "keypoints": one.ravel().tolist(),
            "num_keypoints": int((one[:, 2] > 0).sum()),
            "bbox": [*one[one[:, 2] > 0, :2].min(0).tolist(), 300, 300],
            "iscrowd": 0,
        }
        for image, one in enumerate(keypoints)
    ]
    boxes = [
        {
            "id": 2 * image,
            "image_id": image,
            "category_id": 0,
            "segmentation": [],
            "bbox": [1.5, 2.5, 100.0, 200.0],
            "ignore": 0,
            "iscrowd": 0,
            "area": 20000.0,
        }
        for image in range(2)
    ]
    merged = {"id": 1, "name": "default", "supercategory": "default", "skeleton": []}
    export = {
        "images": [
            {"width": 640, "height": 480, "id": i, "file_name": f"images/1f8a-{i}.jpg"}
            for i in range(2)
        ],
        "categories": [
            {"id": 0, "name": "person"},
            merged | {"keypoints": list(COCO_17.keypoints)},
        ],
        "annotations": [*boxes, *people],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio"},
    }
    read, again = back(export, tmp_path)
    for name in ("id", "image_id", "keypoints", "bbox", "num_keypoints"):
        assert column(again, name) == [row[name] for row in people], name
    assert read.schema == COCO_17 and (read.area > 0).all() and read.track_ids is None


def test_fiftyone_and_back(tmp_path: Path) -> None:
    """Categories from 0 without names of keypoints, whole pixels, `num_keypoints` all of them, own
    attributes beside the others."""
    points = np.random.default_rng(6).integers(1, 400, (2, K, 2))
    keypoints = np.dstack([points, np.full((2, K), 2)])
    export = {
        "info": {"year": "", "version": "", "description": "Exported from FiftyOne"},
        "licenses": [],
        "categories": [{"id": 0, "name": "person", "supercategory": None}],
        "images": [
            {
                "id": 1,
                "file_name": "1.jpg",
                "height": 480,
                "width": 640,
                "license": None,
                "coco_url": None,
            }
        ],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": 0,
                "bbox": [10.25, 20.5, 100.75, 200.0],
                "keypoints": one.ravel().tolist(),
                "num_keypoints": K,
                "score": 0.75,
                "area": 20150.0,
                "iscrowd": 0,
                "track_id": 10 + number,
            }
            for number, one in enumerate(keypoints, 1)
        ],
    }
    read, again = back(export, tmp_path)
    for name in ("id", "image_id", "keypoints", "bbox", "area", "num_keypoints", "track_id"):
        assert column(again, name) == column(export, name), name
    assert read.schema == COCO_17


def test_datumaro_reads_and_writes_the_same(video: Path, tmp_path: Path) -> None:
    """The library under CVAT's COCO Keypoints reads our file as it was meant and writes it again."""
    why = "needs Datumaro (pip install datumaro), which CVAT imports and exports with"
    dataset = pytest.importorskip("datumaro.components.dataset", reason=why)
    content = to_coco(video)
    for folder in ("annotations", "images/default"):
        (tmp_path / "coco" / folder).mkdir(parents=True)
    name = "person_keypoints_default.json"
    (tmp_path / "coco" / "annotations" / name).write_text(json.dumps(content))
    items = dataset.Dataset.import_from(str(tmp_path / "coco"), "coco_person_keypoints")
    found = {}
    for item in items:
        for one in item.annotations:
            found[item.id, type(one).__name__, one.id] = one
    assert len(items) == 3 and len(found) == 6
    for row in content["annotations"]:
        frame = f"frame_{row['image_id'] - 100:06d}"
        points, box = (found[frame, kind, row["id"]] for kind in ("Points", "Bbox"))
        expected = np.reshape(row["keypoints"], (K, 3))
        np.testing.assert_allclose(np.reshape(points.points, (K, 2)), expected[:, :2], atol=1e-3)
        assert [one.value for one in points.visibility] == expected[:, 2].tolist()
        np.testing.assert_allclose(box.get_bbox(), row["bbox"], atol=1e-3)
        assert points.attributes["track_id"] == row["track_id"]
    items.export(str(tmp_path / "again"), "coco_person_keypoints")
    (export,) = (tmp_path / "again" / "annotations").glob("*.json")
    again = read_coco(export, tmp_path)
    order = np.argsort([row["id"] for row in json.loads(export.read_text())["annotations"]])
    assert again.schema == COCO_17 and again.track_ids[order].tolist() == [4, 9, 9]
    assert (again.visibility[order] == [VISIBILITY] * 3).all()
    truth = np.array(column(content, "keypoints")).reshape(3, K, 3)
    np.testing.assert_allclose(again.keypoints[order], truth[..., :2], atol=1e-3)


def test_label_studio_s_importer_reads_every_place(video: Path, tmp_path: Path) -> None:
    """Label Studio keeps places, boxes and whether a keypoint is hidden; names and ids it does not
    read from COCO files."""
    why = "needs Label Studio's converter (pip install label-studio-sdk)"
    importer = pytest.importorskip("label_studio_sdk.converter.imports.coco", reason=why)
    content = to_coco(video)
    importer.convert_coco_to_ls(str(video.with_name("annotations.json")), str(tmp_path / "ls.json"))
    tasks = json.loads((tmp_path / "ls.json").read_text())
    results = [one for task in tasks for one in task["annotations"][0]["result"]]
    boxes = [one["value"] for one in results if one["type"] == "rectanglelabels"]
    points = [one["value"] for one in results if one["type"] == "keypointlabels"]
    size = np.array(SIZE_WH) / 100
    rows = np.array(column(content, "keypoints")).reshape(-1, 3)
    np.testing.assert_allclose([(one["x"], one["y"]) for one in points] * size, rows[:, :2])
    assert [one.get("hidden", False) for one in points] == (rows[:, 2] < 2).tolist()
    corners = [(one["x"], one["y"], one["width"], one["height"]) for one in boxes]
    np.testing.assert_allclose(np.array(corners) * np.tile(size, 2), column(content, "bbox"))
