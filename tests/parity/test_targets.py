"""Training targets and masks of both references, keypoint by keypoint and pixel by pixel.

Masks are integers and must be equal. Maps: exp(a) exp(b) in float32 here, exp(a + b) in double there: 2e-6 of the peak.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import references
import torch

from simplepose.config import load_preset
from simplepose.data.augment import no_draws, sample_affines, sample_keypoints
from simplepose.pose.codec import encode

MAPS = [((192, 256), (48, 64), 2), ((288, 384), (72, 96), 3), ((96, 128), (24, 32), 1)]


def both(
    points: np.ndarray, visible: np.ndarray, family: str, size_wh, map_wh, sigma: int
) -> tuple[np.ndarray, ...]:
    codec = replace(load_preset(references.PRESETS[family]).codec, sigma=float(sigma))
    maps, weights = encode(
        torch.from_numpy(points[None]), torch.from_numpy(visible[None]), codec, size_wh, map_wh
    )
    return (
        maps[0].numpy(),
        weights[0].numpy(),
        *references.targets(points, visible, family, sigma, size_wh, map_wh),
    )


@pytest.mark.parametrize("family", references.FAMILIES)
@pytest.mark.parametrize(("size_wh", "map_wh", "sigma"), MAPS)
def test_maps_and_masks(family: str, size_wh, map_wh, sigma: int) -> None:
    """Rounded centre, whole or cut Gaussian, peak 255 or 1; which keypoints are trained; hidden ones (v = 0) never."""
    rng = np.random.default_rng(sigma)
    points = rng.uniform(-60, 60, (40, 2)) + rng.uniform(0, 1, (40, 2)) * size_wh
    points = points.astype(np.float32)
    visible = rng.random(40) < 0.8
    maps, weights, expected_maps, expected_weights = both(
        points, visible, family, size_wh, map_wh, sigma
    )
    assert np.array_equal(weights, expected_weights)
    assert 5 < weights.sum() < 40  # the case holds trained and masked keypoints
    np.testing.assert_allclose(maps, expected_maps, rtol=0, atol=2e-6 * references.PEAK[family])


@pytest.mark.parametrize("family", references.FAMILIES)
def test_borders_to_the_pixel(family: str) -> None:
    """Every integer and half-way position across each border. tf: inside [0, W) x [0, H). ms: any part of the 13x13 patch, whose lower
    right corner is compared as if it were one pixel further (a quirk), and centres that truncate toward 0 left of the border."""
    size_wh, map_wh = (192, 256), (48, 64)
    places = [
        -40.0,
        -30.5,
        -30.0,
        -29.5,
        -28,
        -26.5,
        -26,
        -25.5,
        -2.5,
        -2.0,
        -1.5,
        -0.5,
        0.0,
        1.5,
        2.0,
        2.5,
    ]
    xs = [*places, *(192 + p for p in places), 190.0, 214.0, 213.5, 216.0]
    ys = [*places, *(256 + p for p in places), 254.0, 278.0, 277.5, 280.0]
    points = np.array([[x, 100.0] for x in xs] + [[100.0, y] for y in ys], np.float32)
    maps, weights, expected_maps, expected_weights = both(
        points, np.ones(len(points), bool), family, size_wh, map_wh, 2
    )
    assert np.array_equal(weights, expected_weights), points[weights != expected_weights]
    np.testing.assert_allclose(maps, expected_maps, rtol=0, atol=2e-6 * references.PEAK[family])
    if family == "tf":
        assert (
            weights[xs.index(0.0)] == 1
            and weights[xs.index(-0.5)] == 0
            and weights[xs.index(192.0)] == 0
        )
    else:  # centre -7: patch ends at -1, its exclusive corner at 0, still trained with an empty map
        assert ((weights == 1) & (maps.reshape(len(points), -1).max(1) == 0)).any()


@pytest.mark.parametrize("family", references.FAMILIES)
def test_the_two_roundings_differ_left_of_the_border(family: str) -> None:
    """x = -3: floor(-.75 + .5) = -1 in tf, int(-.25) = 0 in ms."""
    assert (
        references.targets(np.array([[-3.0, 20]]), np.array([True]), "ms", 2, (192, 256), (48, 64))[
            0
        ][0, 5].argmax()
        == 0
    )
    codec = load_preset(references.PRESETS[family]).codec
    codec = replace(
        codec, trained_when="patch"
    )  # tf does not train it: look at where its Gaussian would stand
    maps, _ = encode(
        torch.tensor([[[-3.0, 20.0]]]), torch.tensor([[True]]), codec, (192, 256), (48, 64)
    )
    first, second = maps[0, 0, 5, 0] / codec.peak, maps[0, 0, 5, 1] / codec.peak
    expected = {"ms": (1.0, np.exp(-1 / 8)), "tf": (np.exp(-1 / 8), np.exp(-4 / 8))}[family]
    np.testing.assert_allclose([first, second], expected, rtol=1e-5)


def test_hidden_and_visible_keypoints_are_both_trained() -> None:
    """v = 1 and v = 2 are trained, v = 0 is not."""
    from test_crops import people

    visibility = np.array([[0, 1, 2] + [2] * 14])
    annotations = people(
        np.array([[10, 10, 50, 50]]), np.full((1, 17, 2), 30.0), visibility, np.array([[100, 100]])
    )
    draws = no_draws(1)
    _, visibility = sample_keypoints(
        annotations,
        np.array([0]),
        draws,
        sample_affines(annotations, np.array([0]), draws, (192, 256)),
    )
    assert visibility[0, :3].tolist() == [0, 1, 2]
