"""Flip average, decoding and the way back to the picture, pixel by pixel. Means of float32 maps: 1e-6 of the peak; positions in the map
are multiples of a quarter and must be equal; picture coordinates 1e-9 against double precision formulas."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch

from simplepose.config import load_preset
from simplepose.core.schema import COCO_17
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.codec import decode, flip_average, flip_inputs
from simplepose.pose.estimator import PoseEstimator

SIZE_WH, WIDTH, HEIGHT = (48, 64), 12, 16


def maps(family: str, kind: str) -> np.ndarray:
    """(3, 17, 16, 12) float32 maps of several kinds."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 17, HEIGHT, WIDTH)) * 0.1
    if (
        kind == "peaks"
    ):  # a peak in every region: corners, borders, index 1 and 2, W-2 and W-3, the middle
        columns, rows = (
            [0, 1, 2, 5, WIDTH - 3, WIDTH - 2, WIDTH - 1],
            [0, 1, 2, 8, HEIGHT - 3, HEIGHT - 2, HEIGHT - 1],
        )
        places = [(r, c) for r in rows for c in columns]
        for index, (r, c) in enumerate(places[: 3 * 17]):
            values[index // 17, index % 17, r, c] = 1 + 0.01 * index
    elif (
        kind == "ties"
    ):  # few values: equal neighbours (sign 0) and several maxima (the first one wins)
        values = np.zeros(values.shape)
        values[:, :, 2:14, 2:10] = rng.integers(0, 3, (3, 17, 12, 8))
    elif kind == "empty":  # no positive value anywhere
        values = -np.abs(values)
        values[0] = 0
        values[1, :, 8, 5] = 0  # a peak of exactly 0 inside the map is none for ms
    return (values * references.PEAK[family]).astype(np.float32)


@pytest.mark.parametrize("family", references.FAMILIES)
@pytest.mark.parametrize("kind", ["noise", "peaks", "ties", "empty"])
def test_decode(family: str, kind: str) -> None:
    """A quarter pixel toward the higher neighbour where 1 < px < W-1 and 1 < py < H-1 jointly; ms puts keypoints without a peak at 0."""
    values = maps(family, kind)
    codec = load_preset(references.PRESETS[family]).codec
    points, scores = decode(torch.from_numpy(values), codec, SIZE_WH)
    moved = 0
    for b in range(3):
        for k in range(17):
            x, y, score = references.decode(values[b, k], family)
            moved += x != int(x)
            assert points[b, k].tolist() == [x * 4, y * 4], (b, k)
            assert float(scores[b, k]) == pytest.approx(score, rel=1e-6)
    assert moved > 0 or kind == "empty"
    if kind == "empty":
        assert bool((points == 0).all()) == (family == "ms")


@pytest.mark.parametrize("family", references.FAMILIES)
def test_flip_mean(family: str) -> None:
    """Mirrored back, left and right swapped, one column to the right, column 0 kept, then the mean."""
    plain, mirrored = maps(family, "noise"), maps(family, "peaks")
    codec = load_preset(references.PRESETS[family]).codec
    pair = (torch.from_numpy(plain), torch.from_numpy(mirrored))
    mean = flip_average(*pair, COCO_17.flip_order, codec, SIZE_WH).numpy()
    for b in range(3):
        expected = references.flip_mean(plain[b].astype(np.float64), mirrored[b].astype(np.float64))
        np.testing.assert_allclose(mean[b], expected, rtol=0, atol=1e-6 * references.PEAK[family])


@pytest.mark.parametrize("family", references.FAMILIES)
def test_test_time_flip_mirrors_the_tensor(family: str) -> None:
    """The tensor is mirrored as x -> W_in - 1 - x; training mirrors the picture instead, one pixel apart."""
    pixels = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5).float()
    flipped = flip_inputs(pixels, load_preset(references.PRESETS[family]).codec)
    for x in range(5):
        assert torch.equal(flipped[..., x], pixels[..., 4 - x])


@pytest.mark.parametrize("family", references.FAMILIES)
def test_from_boxes_to_picture_coordinates(family: str) -> None:
    """The whole chain with a network that answers known maps. tf scales the map onto the crop's rectangle; ms solves three points on the
    map with single precision points, which is up to 1e-3 pixels off at these coordinates."""
    preset = load_preset(references.PRESETS[family])
    plain, mirrored = maps(family, "peaks"), maps(family, "noise")
    answers = iter([plain, mirrored])
    spec = ModelSpec(
        preset="", schema=COCO_17, input_size_wh=SIZE_WH, pixels=preset.pixels, codec=preset.codec
    )
    seen: list[torch.Tensor] = []

    def network(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return torch.from_numpy(next(answers))

    boxes = np.array([[10.0, 20, 60, 130], [-30, 5, 200, 40], [3.3, 4.4, 90.9, 71.7]])
    picture = np.random.default_rng(0).integers(0, 256, (150, 120, 3), np.uint8)
    poses = PoseEstimator(network, spec)(picture, boxes)
    for b, (left, top, right, bottom) in enumerate(boxes.tolist()):
        center, (width, height) = references.region(
            (left, top, right - left, bottom - top), SIZE_WH
        )
        mean = references.flip_mean(
            plain[b].astype(np.float64), mirrored[b].astype(np.float64)
        ).astype(np.float32)
        for k in range(17):
            x, y, score = references.decode(mean[k], family)
            if family == "tf":
                expected = [
                    x * 4 / SIZE_WH[0] * width + center[0] - width / 2,
                    y * 4 / SIZE_WH[1] * height + center[1] - height / 2,
                ]
                tolerance = 1e-9
            else:
                matrix = references.affine_single(center, width, 0, (WIDTH, HEIGHT)).astype(
                    np.float64
                )
                expected = np.linalg.solve(matrix[:, :2], np.array([x, y]) - matrix[:, 2]).tolist()
                tolerance = 1e-3
            np.testing.assert_allclose(
                poses.keypoints[b, k], expected, rtol=0, atol=max(tolerance, 3e-5)
            )  # Poses are float32
            assert poses.keypoint_scores[b, k] == pytest.approx(score, rel=1e-5)
        bbox = (left, top, right - left, bottom - top)
        crop, _, _ = references.training_sample(
            picture[..., ::-1], bbox, np.zeros((17, 2)), np.zeros(17), 1, 0, False, SIZE_WH
        )
        expected_input = references.normalised(crop, family)
        one_level = 1.0 if family == "tf" else 1 / 255 / 0.224
        assert np.abs(seen[0][b].numpy() - expected_input).max() <= one_level * 1.01
        assert torch.equal(seen[1][b], seen[0][b].flip(-1))
