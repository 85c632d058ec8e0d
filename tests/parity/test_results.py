"""Result files of both references: columns and rounding, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import references
from test_crops import people

from simplepose.config import load_preset
from simplepose.evaluation.top_down import Estimates, results_of


@pytest.mark.parametrize("family", references.FAMILIES)
def test_rows(family: str) -> None:
    """tf: third number 1, scores with 4 decimals, coordinates with 3. ms: the keypoint score, nothing rounded. No `bbox` in either."""
    rng = np.random.default_rng(11)
    keypoints, keypoint_scores = (
        rng.uniform(-5, 640, (25, 17, 2)),
        rng.random((25, 17)).astype(np.float32),
    )
    box_scores = rng.random(25)
    annotations = people(
        np.ones((25, 4)), np.zeros((25, 17, 2)), np.zeros((25, 17)), np.full((25, 2), 100)
    )
    estimates = Estimates(np.arange(25), keypoints, keypoint_scores, box_scores, np.full(25, 9e3))
    rows = results_of(estimates, annotations, load_preset(references.PRESETS[family]).evaluate)
    assert len(rows) == 25
    for index, row in enumerate(rows):
        assert (
            set(row) == {"image_id", "category_id", "keypoints", "score"}
            and row["category_id"] == 1
        )
        score = references.person_score(
            box_scores[index], keypoint_scores[index].astype(np.float64)
        )
        for k in range(17):
            x, y, third = row["keypoints"][3 * k : 3 * k + 3]
            if family == "tf":
                assert (x, y, third) == (
                    round(keypoints[index, k, 0], 3),
                    round(keypoints[index, k, 1], 3),
                    1,
                )
            else:
                assert (x, y, third) == (
                    *keypoints[index, k].tolist(),
                    float(keypoint_scores[index, k]),
                )
        assert row["score"] == (
            pytest.approx(round(score, 4), abs=1e-9)
            if family == "tf"
            else pytest.approx(score, rel=1e-12)
        )
        assert (row["score"] == round(row["score"], 4)) == (family == "tf")


@pytest.mark.parametrize("family", references.FAMILIES)
def test_everything_that_survives_is_written(family: str) -> None:
    """The scorer looks at the best 20 of a picture: more in the file change nothing, and the seed writes them all."""
    rng = np.random.default_rng(1)
    annotations = people(
        np.ones((1, 4)), np.zeros((1, 17, 2)), np.zeros((1, 17)), np.full((1, 2), 100)
    )
    estimates = Estimates(
        np.zeros(30, np.int64),
        rng.uniform(0, 5000, (30, 17, 2)),
        np.full((30, 17), 0.5, np.float32),
        rng.random(30),
        np.full(30, 9e3),
    )
    rows = results_of(estimates, annotations, load_preset(references.PRESETS[family]).evaluate)
    assert len(rows) == (30 if family == "tf" else 20)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
