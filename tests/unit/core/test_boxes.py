"""Arrays of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from simplepose import UserError
from simplepose.core import boxes


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0.0]])
    b = np.array([[1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 2.0]])
    np.testing.assert_allclose(boxes.iou(a, b), [[1 / 7, 0, 1], [0, 0, 0]])
    assert boxes.iou(np.zeros((0, 4)), b).shape == (0, 3)


@pytest.mark.parametrize(
    ("given", "scores", "threshold", "kept"),
    [
        ([], [], 0.5, []),
        ([[0, 0, 2, 2]], [0.1], 0.5, [0]),
        ([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], [0.5, 0.9, 0.1], 0.5, [1, 2]),
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [0.5, 0.5], 0.5, [0]),  # equal scores: the first stays
        (
            [[0, 0, 10, 10], [0, 0, 10, 5]],
            [0.9, 0.5],
            0.5,
            [0, 1],
        ),  # exactly at the threshold stays
    ],
)
def test_nms(given: list, scores: list, threshold: float, kept: list) -> None:
    assert (
        boxes.nms(np.array(given, float).reshape(-1, 4), np.array(scores), threshold).tolist()
        == kept
    )


def test_fused_boxes_are_means_weighted_by_their_scores() -> None:
    """Three boxes of one thing and one of another."""
    found = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 12, 10], [0, 0, 10, 11.0]])
    fused, scores = boxes.fuse(found, np.array([0.8, 0.6, 0.4, 0.4]), 0.6)
    np.testing.assert_allclose(fused, [[0, 0, 10.5, 10.25], [50, 50, 60, 60]])
    np.testing.assert_allclose(scores, [0.6, 0.3])  # means of the best two
    fused, scores = boxes.fuse(np.zeros((0, 4)), np.zeros(0), 0.6)
    assert fused.shape == (0, 4) and scores.shape == (0,)


def test_area() -> None:
    np.testing.assert_allclose(boxes.area(np.array([[0, 0, 2, 3], [4, 4, 2, 2.0]])), [6, 0])


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([[0, 0, np.nan, 5]], r"dets\.json: box 0 .*nan"),
        ([[0, 0, 5, 5], [3, 3, 3, 9]], "box 1 has no positive"),
        ([[0, 0, -5, 5]], r"dets\.json: box 0 .*-5\.0"),
        ([[0, 0, 5]], r"dets\.json: boxes_xyxy .*\(1, 3\)"),
    ],
)
def test_bad_boxes_are_named(given: list, word: str) -> None:
    with pytest.raises(UserError, match=word):
        boxes.validate_xyxy(np.array(given, float), "dets.json")
    assert boxes.validate_xyxy([], "dets.json").shape == (0, 4)
