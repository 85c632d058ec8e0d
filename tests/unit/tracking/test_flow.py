"""Flow of shifted pictures is known; points and boxes follow it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from simplepose.tracking.flow import (
    STILL,
    carry_boxes,
    dis_flow,
    farneback_flow,
    propagate,
    sample,
)


def texture(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    noise = (
        np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    )
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def shifted(image: np.ndarray, dx: int, dy: int) -> np.ndarray:
    return np.roll(image, (dy, dx), (0, 1))


@pytest.mark.parametrize("make", [dis_flow, farneback_flow])
@pytest.mark.parametrize("short_side", [120, 240, 1000])
def test_a_shift_is_found_in_full_pixels(make, short_side: int) -> None:
    image = texture()
    field = make(short_side)(image, shifted(image, 6, -4))
    inner = field[len(field) // 4 : -len(field) // 4, field.shape[1] // 4 : -field.shape[1] // 4]
    np.testing.assert_allclose(np.median(inner, (0, 1)), [6, -4], atol=0.35)


def test_a_stream_is_shrunk_once_and_still_right() -> None:
    """The cached grey picture must be that of the previous frame, in whatever order pictures come."""
    image = texture()
    frames = [shifted(image, 5 * step, 0) for step in range(4)]
    flow = dis_flow(120)
    for first, second, dx in ((0, 1, 5), (1, 2, 5), (2, 3, 5), (3, 0, -15), (1, 3, 10)):
        points = propagate(
            np.array([[160.0, 120.0]]), flow(frames[first], frames[second]), (320, 240)
        )
        np.testing.assert_allclose(points, [[160 + dx, 120]], atol=0.6)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (16, 16)])
def test_tiny_pictures(size) -> None:
    image = np.zeros((*size, 3), np.uint8)
    assert np.isfinite(dis_flow()(image, image)).all()


def test_sample_is_bilinear_and_stays_inside() -> None:
    rows, columns = np.mgrid[:6, :8].astype(np.float32)
    field = np.stack([columns, 10 * rows], -1)  # linear: bilinear sampling is exact
    assert sample(field, np.zeros((0, 17, 2)), (8, 6)).shape == (0, 17, 2)
    np.testing.assert_allclose(
        sample(field, np.array([[2.25, 3.5], [-9, -9], [99, 99]]), (8, 6)),
        [[2.25, 35], [0, 0], [7, 50]],
    )
    np.testing.assert_allclose(
        sample(field, np.array([[4.5, 0.5]]), (16, 12)), [[2.0, 0.0]], atol=1e-6
    )  # centre (4.5 + .5) / 2 - .5
    np.testing.assert_array_equal(sample(STILL, np.array([[3.0, 4.0]]), (8, 6)), [[0, 0]])
    assert np.isfinite(sample(field, np.array([[np.nan, 1]]), (8, 6))).all()


def test_points_and_boxes_are_carried_along() -> None:
    fields = [np.full((4, 4, 2), (2, 1), np.float32), np.full((2, 2, 2), (-5, 3), np.float32)]
    first = propagate(np.array([[10.0, 10.0]]), fields[0], (40, 40))
    second = propagate(first, fields[1], (40, 40))
    np.testing.assert_allclose([first[0], second[0]], [[12, 11], [7, 14]])
    np.testing.assert_allclose(
        carry_boxes(np.array([[0, 0, 10, 20]]), fields[0], (40, 40)), [[2, 1, 12, 21]]
    )
    assert carry_boxes(np.zeros((0, 4)), fields[0], (40, 40)).shape == (0, 4)


def test_a_box_follows_what_moves_inside_it_not_the_background() -> None:
    background = texture()
    person = texture(100, 50, 1)
    before, after = background.copy(), background.copy()
    before[80:180, 100:150] = person
    after[80:180, 108:158] = person
    box = carry_boxes(np.array([[95, 75, 155, 185]]), dis_flow(240)(before, after), (320, 240))
    np.testing.assert_allclose(box, [[103, 75, 163, 185]], atol=1.0)
