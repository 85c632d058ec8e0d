"""Boxes to crops and back, against the three-point affine of the reference codes derived anew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from opencv import WARP_LEVELS

from simplepose.pose import geometry

SIZES = [(192, 256), (96, 128), (256, 256)]


def reference_affine(
    center: np.ndarray, width: float, degrees: float, output_wh: tuple[int, int]
) -> np.ndarray:
    """The references' construction: three matching points (centre, a point above it, their right-angle companion)."""
    angle = np.deg2rad(degrees)
    up = np.array([0, -width / 2])
    up = np.array(
        [
            up[0] * np.cos(angle) - up[1] * np.sin(angle),
            up[0] * np.sin(angle) + up[1] * np.cos(angle),
        ]
    )
    middle, target_up = np.array(output_wh) / 2, np.array([0, -output_wh[0] / 2])

    def three(origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        return np.float32(
            [
                origin,
                origin + direction,
                origin + direction + np.array([-direction[1], direction[0]]) * -1,
            ]
        )

    return cv2.getAffineTransform(three(np.asarray(center), up), three(middle, target_up))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0, 180.0])
def test_affine_equals_the_three_point_form(size: tuple[int, int], degrees: float) -> None:
    boxes = np.array([[10, 20, 110, 220], [5, 5, 300, 60], [-40, -10, 30, 50.5]], float)
    centers, sizes = geometry.fit_boxes(boxes, size)
    ours = geometry.crop_affines(centers, sizes, size, np.full(3, degrees))
    for n in range(3):
        np.testing.assert_allclose(
            ours[n], reference_affine(centers[n], sizes[n, 0], degrees, size), atol=2e-4
        )  # float32 points


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 100, 100), (125, 125 / 0.75)),  # too wide for 3:4: the height grows
        ((0, 0, 10, 100), (93.75, 125)),  # too tall: the width grows
        ((0, 0, 75, 100), (93.75, 125)),  # fits
    ],
)
def test_aspect_first_then_padding(box: tuple[float, ...], expected: tuple[float, float]) -> None:
    centers, sizes = geometry.fit_boxes(np.array([box]), (192, 256))
    np.testing.assert_allclose(sizes[0], expected)
    np.testing.assert_allclose(centers[0], [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def test_no_boxes() -> None:
    centers, sizes = geometry.fit_boxes(np.zeros((0, 4)), (192, 256))
    assert geometry.crop_affines(centers, sizes, (192, 256)).shape == (0, 2, 3)


def test_degenerate_box_never_divides_by_zero() -> None:
    centers, sizes = geometry.fit_boxes(np.array([[5, 5, 5, 5.0]]), (192, 256))
    assert np.isfinite(geometry.crop_affines(centers, sizes, (192, 256))).all()


def test_crop_centre_is_half_the_size_or_half_the_intervals() -> None:
    centers, sizes = geometry.fit_boxes(np.array([[10, 20, 110, 220.0]]), (192, 256))
    for udp, middle in ((False, (96, 128)), (True, (95.5, 127.5))):
        to_crop = geometry.crop_affines(centers, sizes, (192, 256), np.array([33.0]), udp=udp)
        np.testing.assert_allclose(
            geometry.transform_points(to_crop, centers[:, None])[0, 0], middle
        )


def test_rotation_keeps_what_is_above_on_the_same_side_as_the_references() -> None:
    to_crop = geometry.crop_affines(
        np.array([[50.0, 50.0]]), np.array([[192.0, 256.0]]), (192, 256), np.array([90.0])
    )
    right_of_centre = geometry.transform_points(to_crop, np.array([[[60.0, 50.0]]]))[0, 0]
    np.testing.assert_allclose(right_of_centre, [96, 128 - 10], atol=1e-9)


def test_folded_mirror_gives_the_pixels_of_a_mirrored_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    center = np.array([[119 - 50.0, 40.0]])  # the centre in the mirrored picture
    to_crop = geometry.crop_affines(center, np.array([[48.0, 64.0]]), (48, 64), np.array([20.0]))
    copy = geometry.warp_crop(np.ascontiguousarray(image[:, ::-1]), to_crop[0], (48, 64))
    folded = geometry.warp_crop(
        image, geometry.mirror_pictures(to_crop, np.array([120]))[0], (48, 64)
    )
    assert np.abs(copy.astype(int) - folded).max() <= WARP_LEVELS


def test_outside_is_black() -> None:
    crop = geometry.warp_crop(
        np.full((10, 10, 3), 200, np.uint8), np.array([[1.0, 0, 50], [0, 1, 50]]), (96, 128)
    )
    assert crop[:40].max() == 0 and crop[55, 55].tolist() == [200, 200, 200]


@pytest.mark.parametrize("udp", [False, True])
def test_heatmap_scale(udp: bool) -> None:
    scale = geometry.heatmap_scale((192, 256), (48, 64), udp=udp)
    np.testing.assert_allclose(scale, [47 / 191, 63 / 255] if udp else [0.25, 0.25])
