"""CrowdPose and OCHuman on tiny made-up data, and the test-dev file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.evaluation.coco import (
    PAPER_BORDERS,
    evaluate_coco,
    evaluate_crowdpose,
    write_coco_submission,
)

RNG = np.random.default_rng(0)


def made(keypoint_count: int, indices: list[float]) -> tuple[dict, list[dict]]:
    """A picture for each crowdIndex with one person, and perfect results."""
    images, annotations, results = [], [], []
    for place, index in enumerate(indices):
        points = np.concatenate(
            [RNG.uniform(0, 100, (keypoint_count, 2)), np.full((keypoint_count, 1), 2)], 1
        )
        images.append({"id": place + 1, "crowdIndex": index})
        annotations.append(
            {
                "id": place,
                "image_id": place + 1,
                "category_id": 1,
                "bbox": [0, 0, 100, 100],
                "keypoints": points.ravel().tolist(),
            }
        )
        results.append(
            {
                "image_id": place + 1,
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "score": 0.9,
            }
        )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }, results


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_levels(evaluator: str) -> None:
    truth, results = made(14, [0.0, 0.15, 0.2, 0.5, 0.8, 1.0])
    assert set(evaluate_crowdpose(truth, [], evaluator=evaluator).values()) == {0.0}
    assert list(evaluate_crowdpose(truth, results, evaluator=evaluator).values()) == pytest.approx(
        [1.0] * 9
    )
    without = [
        row for row in results if row["image_id"] != 2
    ]  # crowdIndex .15: easy for the tool, medium for the paper
    tool, paper = (
        evaluate_crowdpose(truth, without, evaluator=evaluator),
        evaluate_crowdpose(truth, without, borders=PAPER_BORDERS),
    )
    assert tool["APeasy"] < 0.6 and tool["APmedium"] == pytest.approx(1)
    assert paper["APeasy"] == pytest.approx(1) and paper["APmedium"] < 0.7
    without = [row for row in results if row["image_id"] != 5]  # on the upper border: hard
    assert evaluate_crowdpose(truth, without, evaluator=evaluator)["APhard"] < 0.6
    assert evaluate_crowdpose(truth, without, evaluator=evaluator)["APmedium"] == pytest.approx(1)


def test_level_without_pictures() -> None:
    truth, results = made(14, [0.5])
    result = evaluate_crowdpose(truth, results)
    assert (result["APeasy"], result["APmedium"], result["APhard"]) == (-1, pytest.approx(1), -1)


def test_area_is_always_that_of_the_box() -> None:
    truth, results = made(14, [0.5])
    results[0]["keypoints"] = [
        value + 4 if place % 3 < 2 else value for place, value in enumerate(results[0]["keypoints"])
    ]
    expected = evaluate_crowdpose(truth, results)["AP"]
    assert 0 < expected < 1
    truth["annotations"][0]["area"] = 1e6
    assert evaluate_crowdpose(truth, results)["AP"] == expected


def test_errors() -> None:
    truth, results = made(14, [0.5])
    with pytest.raises(UserError, match="14 .*17 .*sigmas"):
        evaluate_crowdpose(truth, results, sigmas=[0.05] * 17)
    del truth["images"][0]["crowdIndex"]
    with pytest.raises(UserError, match="crowdIndex"):
        evaluate_crowdpose(truth, results)


def test_ochuman() -> None:
    truth, results = made(17, [0.5, 0.5])
    assert evaluate_coco(truth, results, sigmas=COCO_17.sigmas)["AP"] == pytest.approx(1)


def test_submission(tmp_path: Path) -> None:
    _, results = made(17, [0.5])
    path = write_coco_submission(
        tmp_path, [{**row, "bbox": [0, 0, 1, 1]} for row in results], "simplepose-r50"
    )
    assert path.name == "person_keypoints_test-dev2017_simplepose-r50_results.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["person_keypoints_test-dev2017_simplepose-r50_results.json"]
        assert json.loads(archive.read(archive.namelist()[0])) == results
    with pytest.raises(UserError, match=r"test-dev2017_simplepose-r50_results\.zip"):
        write_coco_submission(tmp_path, results, "simplepose-r50")
    with pytest.raises(UserError, match="'my method'"):
        write_coco_submission(tmp_path, results, "my method")
    with pytest.raises(UserError, match="row 0 .*42 .*51"):
        write_coco_submission(tmp_path, made(14, [0.5])[1], "x")
