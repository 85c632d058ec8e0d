"""decode(encode(boxes)) = boxes; targets and losses against plain loops over their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simplepose.core.boxes import iou
from simplepose.data.boxes import IGNORED, NOTHING
from simplepose.detection.centers import (
    Targets,
    decode,
    detection_loss,
    encode,
    focal_loss,
    generalised_iou,
)

STRIDE = 8


@st.composite
def labelled_boxes(draw: st.DrawFn) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """An input size, boxes inside it whose centres lie in cells of their own, and their classes."""
    width, height = draw(st.sampled_from([(64, 64), (96, 128), (320, 192)]))
    boxes: dict[tuple[int, int], list[float]] = {}
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(st.floats(4, width - 4)), draw(st.floats(4, height - 4))
        half_w = draw(st.floats(2, min(x, width - x)))
        half_h = draw(st.floats(2, min(y, height - y)))
        box = [x - half_w, y - half_h, x + half_w, y + half_h]
        center = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        cell = (int(np.float32(center[0]) // STRIDE), int(np.float32(center[1]) // STRIDE))
        # a centre on the line between two cells may fall on either side by rounding
        if all(abs(part / STRIDE - round(part / STRIDE)) > 1e-3 for part in center):
            boxes[cell] = box
    boxes = boxes or {(1, 1): [9.0, 9.0, 15.0, 15.0]}
    classes = [draw(st.integers(0, 2)) for _ in boxes]
    return (width, height), np.array([*boxes.values()]).reshape(-1, 4), np.array(classes, int)


def maps_of(targets: Targets) -> torch.Tensor:
    """The maps of a network that has learned its targets exactly."""
    return torch.cat([torch.logit(targets.centers, 1e-6), targets.boxes], 1)


@settings(max_examples=150, deadline=None)
@given(labelled_boxes())
def test_round_trip(case: tuple[tuple[int, int], np.ndarray, np.ndarray]) -> None:
    size, boxes, classes = case
    targets = encode(
        torch.from_numpy(boxes)[None].float(), torch.from_numpy(classes)[None], 3, size, STRIDE
    )
    found, scores, labels = (part[0].numpy() for part in decode(maps_of(targets), STRIDE))
    sure = scores > 0.99
    assert sure.sum() == len(boxes)
    for box, label in zip(boxes, classes, strict=True):
        same = np.abs(found[sure] - box).max(1) < 1e-3
        assert same.sum() == 1 and labels[sure][same] == label


def test_the_gaussians_by_the_formula() -> None:
    boxes, labels = [[10, 20, 60, 126], [5, 5, 37, 45], [-40, 40, 24, 104]], [0, 1, 0]
    targets = encode(torch.tensor([boxes]).float(), torch.tensor([labels]), 2, (64, 128), STRIDE)
    expected = np.zeros((2, 16, 8))
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        left = max(left, 0)
        x, y = (left + right) / 2 // STRIDE, (top + bottom) / 2 // STRIDE
        sx, sy = (0.09 * side / STRIDE + 1 / 6 for side in (right - left, bottom - top))
        for row in range(16):
            for column in range(8):
                value = math.exp(-((column - x) ** 2) / (2 * sx**2) - (row - y) ** 2 / (2 * sy**2))
                expected[label, row, column] = max(expected[label, row, column], value)
    assert np.allclose(targets.centers[0].numpy(), expected, atol=1e-5)
    assert targets.counted.all()
    # every cell that learns a box says exactly one of them, and a box has weight 1 at most
    weights = targets.box_weights[0].numpy()
    assert weights.sum() <= len(boxes) + 1e-5 and (weights > 0).sum() > 20


def test_who_is_ignored() -> None:
    """A crowd, and a box of which the border leaves a tenth: no target, and no background."""
    boxes = [[8, 8, 40, 40], [-90, 40, 10, 64], [48, 0, 64, 16], [20, 20, 22, 50], [0, 0, 9, 9]]
    labels = [IGNORED, 0, 0, 0, NOTHING]
    targets = encode(torch.tensor([boxes]).float(), torch.tensor([labels]), 1, (64, 64), STRIDE)
    assert (targets.centers == 1).sum() == 1 and targets.centers[0, 0, 1, 7] == 1
    counted = targets.counted[0, 0].numpy()
    expected = np.ones((8, 8), bool)
    expected[1:5, 1:5] = False
    expected[5:8, 0] = False
    expected[2:6, 2] = False
    assert (counted == expected)[:, [0, 1, 3, 4, 5, 6, 7]].all() and not counted[1:5, 2].any()
    maps = torch.zeros(1, 5, 8, 8, requires_grad=True)
    detection_loss(maps, targets, STRIDE).backward()
    pushed = maps.grad[0, 0].numpy() != 0
    assert not pushed[~counted].any() and pushed[counted].all()


def test_a_tenth_of_a_person_is_no_lesson_but_a_third_is() -> None:
    for right, learned in ((10, False), (35, True)):
        box = torch.tensor([[[right - 100.0, 0, right, 64]]])
        targets = encode(box, torch.zeros(1, 1, dtype=torch.long), 1, (64, 64), STRIDE)
        assert bool((targets.centers == 1).any()) == learned
        if learned:
            found, *_ = decode(maps_of(targets), STRIDE, 1)
            assert torch.allclose(found[0, 0], torch.tensor([0.0, 0, right, 64]), atol=1e-3)


def test_focal_loss_by_the_paper() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 2, 3, 4)), rng.uniform(0, 0.9, (2, 2, 3, 4))
    targets[0, 1, 2, 3] = targets[1, 0, 0, 0] = 1
    counted = rng.random((2, 1, 3, 4)) < 0.7
    total = 0.0
    for at in np.ndindex(logits.shape):
        p, y = 1 / (1 + math.exp(-logits[at])), targets[at]
        if y == 1:
            total -= (1 - p) ** 2 * math.log(p)
        elif counted[at[0], 0, at[2], at[3]]:
            total -= (1 - y) ** 4 * p**2 * math.log(1 - p)
    ours = focal_loss(torch.tensor(logits), torch.tensor(targets), torch.tensor(counted))
    assert float(ours) == pytest.approx(total, rel=1e-9)


def test_generalised_iou_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    corners = np.sort(rng.uniform(0, 10, (2, 200, 2, 2)), axis=2).reshape(2, 200, 4)
    first, second = corners
    hull = np.concatenate(
        [np.minimum(first[:, :2], second[:, :2]), np.maximum(first[:, 2:], second[:, 2:])], 1
    )
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (first, second, hull)]
    overlap = np.diagonal(iou(first, second))
    union = (areas[0] + areas[1]) / (1 + overlap)
    expected = overlap - (areas[2] - union) / areas[2]
    ours = generalised_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    assert np.allclose(ours, expected, atol=1e-9) and expected.min() < -0.3


def test_learned_targets_cost_least() -> None:
    boxes = torch.tensor([[[8.0, 8, 60, 120], [30, 40, 50, 70]]])
    targets = encode(boxes, torch.tensor([[0, 0]]), 1, (64, 128), STRIDE)
    best, rng = detection_loss(maps_of(targets), targets, STRIDE), torch.Generator().manual_seed(0)
    for _ in range(5):
        noise = 0.3 * torch.randn(maps_of(targets).shape, generator=rng)
        noise[:, :1] = 0
        assert detection_loss(maps_of(targets) + noise, targets, STRIDE) > best + 0.05
