"""COCO result rows, ground truth of any origin, and errors that would otherwise be an AP of 0."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.data.annotations import ground_truth_boxes
from simplepose.data.coco import read_coco
from simplepose.evaluation.coco import (
    METRICS,
    Evaluator,
    coco_results,
    evaluate_boxes,
    evaluate_coco,
)
from simplepose.evaluation.tasks import task_table

RNG = np.random.default_rng(0)


def made(keypoint_count: int = 4, pictures: int = 6) -> tuple[dict, list[dict]]:
    """Two people a picture and slightly wrong results."""
    annotations, results = [], []
    for picture in range(pictures):
        for person in range(2):
            points = RNG.uniform(0, 90, (keypoint_count, 2)) + 200 * person
            flat = np.concatenate([points, np.full((keypoint_count, 1), 2)], 1).ravel().tolist()
            noise = (
                np.concatenate(
                    [points + RNG.normal(0, 3, points.shape), np.ones((keypoint_count, 1))], 1
                )
                .ravel()
                .tolist()
            )
            box = [200 * person, 200 * person, 100, 100]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": 1,
                    "bbox": box,
                    "area": 5300.0,
                    "iscrowd": 0,
                    "num_keypoints": keypoint_count,
                    "keypoints": flat,
                }
            )
            results.append(
                {
                    "image_id": picture,
                    "category_id": 1,
                    "keypoints": noise,
                    "score": float(RNG.uniform()),
                }
            )
    truth = {
        "images": [{"id": i} for i in range(pictures)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "animal"}],
    }
    return truth, results


SIGMAS = (0.05, 0.08, 0.03, 0.1)


def test_rows() -> None:
    assert coco_results([], np.zeros((0, 17, 2)), np.zeros((0, 17)), []) == []
    keypoints, scores = (
        np.array([[[1.23456, 2], [3, 4]]], np.float32),
        np.array([[0.12345, 0.5]], np.float32),
    )
    (row,) = coco_results(np.array([7]), keypoints, scores, np.array([0.98765]), category_id=3)
    assert list(row) == ["image_id", "category_id", "keypoints", "score"]  # no bbox
    assert (row["image_id"], row["category_id"], row["score"]) == (7, 3, 0.98765)
    assert row["keypoints"] == pytest.approx([1.23456, 2, 0.12345, 3, 4, 0.5])
    (row,) = coco_results(
        [7],
        keypoints,
        scores,
        [0.98765],
        visibility_column="one",
        score_decimals=4,
        coordinate_decimals=3,
    )
    assert row == {
        "image_id": 7,
        "category_id": 1,
        "keypoints": [1.235, 2, 1, 3, 4, 1],
        "score": 0.9876,
    }
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_no_results(evaluator: str) -> None:
    truth, _ = made()
    assert evaluate_coco(truth, [], sigmas=SIGMAS, evaluator=evaluator) == dict.fromkeys(
        METRICS, 0.0
    )


@pytest.mark.parametrize("keypoint_count", [1, 4, 14, 23])
def test_evaluators_agree_for_any_schema(keypoint_count: int) -> None:
    truth, results = made(keypoint_count)
    before = json.dumps([truth, results])
    sigmas = RNG.uniform(0.02, 0.1, keypoint_count)
    first = evaluate_coco(truth, results, sigmas=sigmas)
    assert first == pytest.approx(
        evaluate_coco(truth, results, sigmas=sigmas, evaluator="pycocotools"), abs=1e-12
    )
    assert 0.05 < first["AP"] < 0.999
    assert (
        evaluate_coco(truth, results, sigmas=sigmas * 10)["AP"] > first["AP"]
    )  # the sigmas are really used
    assert json.dumps([truth, results]) == before


def test_other_tools_files() -> None:
    """Without area, iscrowd, num_keypoints and categories, with ids from 0: the same numbers."""
    truth, results = made()
    bare = {
        "images": truth["images"],
        "annotations": [
            {**{key: row[key] for key in ("image_id", "bbox", "keypoints")}, "id": row["id"] - 1}
            for row in truth["annotations"]
        ],
    }
    expected = evaluate_coco(truth, results, sigmas=SIGMAS)
    for evaluator in ("hotcoco", "pycocotools"):
        assert evaluate_coco(bare, results, sigmas=SIGMAS, evaluator=evaluator) == pytest.approx(
            expected
        )


def test_bbox_in_the_results_changes_nothing() -> None:
    truth, results = made()
    plain = evaluate_coco(truth, results, sigmas=SIGMAS)
    for evaluator in ("hotcoco", "pycocotools"):
        assert (
            evaluate_coco(
                truth,
                [{**row, "bbox": [0, 0, 900, 900]} for row in results],
                sigmas=SIGMAS,
                evaluator=evaluator,
            )
            == plain
        )


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_the_20_best_poses_of_a_picture_count(evaluator: Evaluator) -> None:
    """24 people, each with an exact result: 4 are not found, and would be with the 100 that boxes are measured with."""
    truth, _ = made()
    rows = [{**truth["annotations"][0], "id": i + 1, "image_id": 0} for i in range(24)]
    for i, row in enumerate(rows):
        row["keypoints"] = [
            value for x, y in [(0, 0), (90, 10), (50, 90), (5, 80)] for value in (x + 200 * i, y, 2)
        ]
        row["bbox"] = [200 * i, 0, 100, 100]
    results = [
        {"image_id": 0, "category_id": 1, "keypoints": row["keypoints"], "score": 1 - i / 100}
        for i, row in enumerate(rows)
    ]
    numbers = evaluate_coco(
        {**truth, "annotations": rows}, results, sigmas=SIGMAS, evaluator=evaluator
    )
    assert numbers["AR"] == pytest.approx(20 / 24)


def test_files(tmp_path: Path) -> None:
    truth, results = made()
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    assert evaluate_coco(
        tmp_path / "gt.json", tmp_path / "dt.json", sigmas=SIGMAS
    ) == evaluate_coco(truth, results, sigmas=SIGMAS)


def test_no_ground_truth_of_a_size() -> None:
    truth, results = made()
    assert evaluate_coco(truth, results, sigmas=SIGMAS)["APL"] == -1
    nobody = {**truth, "annotations": []}
    assert evaluate_coco(nobody, results, sigmas=SIGMAS)["AP"] == -1


def changed(index: int, **values: object) -> list[dict]:
    rows = made()[1]
    rows[index] = {key: value for key, value in (rows[index] | values).items() if value is not None}
    return rows


@pytest.mark.parametrize(
    ("results", "sigmas", "message"),
    [
        (changed(3, image_id=99), SIGMAS, "picture id.*99"),
        (changed(3, category_id=5), SIGMAS, "category id.*5"),
        (changed(3, keypoints=[1, 2, 3]), SIGMAS, "row 3 has 3 keypoint numbers"),
        (changed(3, score=None), SIGMAS, "row 3 has the score None"),
        (made(17)[1], SIGMAS, "row 0 has 51 keypoint numbers, expected 12"),
        (made()[1], SIGMAS[:3], "12 values .*3 keypoints"),
    ],
)
def test_rows_that_cannot_be_scored(
    results: list[dict], sigmas: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        evaluate_coco(made()[0], results, sigmas=sigmas)
    assert "Cure" in str(caught.value)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    truth, results = made()
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match="gt.json is not a list of COCO rows"):
        evaluate_coco(tmp_path / "gt.json", tmp_path / "gt.json", sigmas=SIGMAS)
    with pytest.raises(UserError, match="not a COCO annotation file"):
        evaluate_coco(tmp_path / "dt.json", tmp_path / "dt.json", sigmas=SIGMAS)
    with pytest.raises(UserError, match=r"nothing\.json"):
        evaluate_coco(tmp_path / "nothing.json", results, sigmas=SIGMAS)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_boxes(tmp_path: Path, evaluator: Evaluator) -> None:
    truth, _ = made()
    truth["images"] = [{**image, "file_name": f"{image['id']}.jpg"} for image in truth["images"]]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    annotations = read_coco(tmp_path / "gt.json", tmp_path)
    boxes = ground_truth_boxes(annotations)
    assert evaluate_boxes(annotations, boxes.select([]), evaluator=evaluator)["AP"] == 0
    result = evaluate_boxes(annotations, boxes, evaluator=evaluator)
    assert (result["AP"], result["AR"], result["APS"]) == (pytest.approx(1), pytest.approx(1), -1)
    assert (
        0.4
        < evaluate_boxes(annotations, boxes.select(np.arange(0, 12, 2)), evaluator=evaluator)["AP"]
        < 0.6
    )
    assert evaluate_boxes(annotations.select([]), boxes, evaluator=evaluator)["AP"] == -1
    crowds = replace(annotations, is_crowd=np.arange(12) % 2 == 1)
    assert evaluate_boxes(crowds, boxes, evaluator=evaluator)["AP"] == pytest.approx(
        1
    )  # boxes on crowds are no mistakes


def test_table() -> None:
    text = task_table(
        "coco",
        dict.fromkeys(METRICS, 0.5) | {"APL": -1.0, "AP": 0.7044},
        "coco_r50_256x192_ms",
        "ground truth",
        5000,
    )
    lines = text.splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert (
        cells[:5] == ["coco_r50_256x192_ms", "ground truth", "5,000", "70.4", "50.0"]
        and cells[7] == "-"
    )
