"""The values that travel between stages."""

from __future__ import annotations

import numpy as np
import pytest

from simplepose import Frame, People, Poses, UserError


def poses(count: int = 3) -> Poses:
    return Poses(
        np.arange(count * 34).reshape(count, 17, 2),
        np.ones((count, 17)),
        np.ones((count, 4)),
        np.linspace(1, 0, count),
        np.arange(count),
    )


def test_empty_is_a_normal_answer() -> None:
    empty = Poses.empty(17)
    assert (
        len(empty) == 0
        and empty.keypoints.shape == (0, 17, 2)
        and len(empty[empty.scores > 0.3]) == 0
    )
    assert len(People.empty()) == 0 and People([], []).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (np.array([True, False, True]), [0, 2]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        (-1, [2]),
    ],
)
def test_indexing_is_numpys(index: object, ids: list[int]) -> None:
    chosen = poses()[index]
    assert chosen.track_ids.tolist() == ids and chosen.keypoints.shape == (len(ids), 17, 2)


def test_values_are_frozen() -> None:
    with pytest.raises(ValueError):
        poses().keypoints[0] = 0
    with pytest.raises(AttributeError):
        poses().scores = np.zeros(3)  # type: ignore[misc]


def test_repr_shows_shapes() -> None:
    assert repr(poses()).startswith("Poses(keypoints=(3, 17, 2), keypoint_scores=(3, 17)")
    assert "track_ids=None" in repr(Poses.empty(17))
    assert (
        repr(Frame(np.zeros((4, 6, 3), np.uint8), "a.jpg"))
        == "Frame(6x4, source='a.jpg', index=0, seconds=0.000)"
    )


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (
            lambda: Poses(np.zeros((2, 17)), np.zeros((2, 17)), np.zeros((2, 4)), np.zeros(2)),
            "keypoints",
        ),
        (
            lambda: Poses(np.zeros((2, 17, 2)), np.zeros((2, 16)), np.zeros((2, 4)), np.zeros(2)),
            "keypoint_scores",
        ),
        (
            lambda: Poses(np.zeros((2, 17, 2)), np.zeros((2, 17)), np.zeros((3, 4)), np.zeros(2)),
            "boxes_xyxy",
        ),
        (lambda: People(np.zeros((2, 5)), np.zeros(2)), "boxes_xyxy"),
        (lambda: Frame(np.zeros((4, 6), np.uint8)), "uint8 RGB"),
        (lambda: Frame(np.zeros((4, 6, 3), np.float32)), "uint8 RGB"),
    ],
)
def test_wrong_shapes_are_named(build, word: str) -> None:
    with pytest.raises(UserError, match=word):
        build()
