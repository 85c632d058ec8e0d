"""Laws that hold for every box, rotation and point."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simplepose.core import boxes
from simplepose.core.schema import SCHEMAS
from simplepose.pose import geometry

coordinate = st.floats(-500, 1500)
side = st.floats(1, 900)


@settings(max_examples=60, deadline=None)
@given(
    coordinate, coordinate, side, side, st.floats(-180, 180), st.booleans(), coordinate, coordinate
)
def test_to_image_undoes_to_crop(
    x: float, y: float, w: float, h: float, degrees: float, udp: bool, px: float, py: float
) -> None:
    centers, sizes = geometry.fit_boxes(np.array([[x, y, x + w, y + h]]), (192, 256))
    to_crop = geometry.crop_affines(centers, sizes, (192, 256), np.array([degrees]), udp=udp)
    point = np.array([[[px, py]]])
    back = geometry.transform_points(
        geometry.invert_affines(to_crop), geometry.transform_points(to_crop, point)
    )
    np.testing.assert_allclose(back, point, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(coordinate, coordinate, side, side)
def test_crop_holds_the_box_and_has_the_aspect(x: float, y: float, w: float, h: float) -> None:
    _, sizes = geometry.fit_boxes(np.array([[x, y, x + w, y + h]]), (192, 256))
    assert sizes[0, 0] >= 1.25 * w - 1e-6 and sizes[0, 1] >= 1.25 * h - 1e-6
    np.testing.assert_allclose(sizes[0, 0] / sizes[0, 1], 0.75)


@given(coordinate, coordinate, st.floats(0.1, 900), st.floats(0.1, 900))
def test_box_forms_are_inverse(x: float, y: float, w: float, h: float) -> None:
    box = np.array([[x, y, w, h]])
    np.testing.assert_allclose(boxes.xyxy_to_xywh(boxes.xywh_to_xyxy(box)), box, atol=1e-9)
    np.testing.assert_allclose(boxes.iou(boxes.xywh_to_xyxy(box), boxes.xywh_to_xyxy(box)), 1)


@given(st.sampled_from(sorted(SCHEMAS)))
def test_flipping_twice_is_nothing(name: str) -> None:
    order = SCHEMAS[name].flip_order
    assert (order[order] == np.arange(len(order))).all()
    # A mirrored hand is the other hand with the same points.
    assert (order != np.arange(len(order))).any() == (name != "hand_21")


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 200), st.floats(-50, 250), st.floats(-50, 250))
def test_mirroring_twice_is_nothing(width: int, a: float, b: float) -> None:
    affine = np.array([[[a, 0.5, 3], [0.1, b, 4]]])
    np.testing.assert_allclose(
        geometry.mirror_pictures(
            geometry.mirror_pictures(affine, np.array([width])), np.array([width])
        ),
        affine,
        atol=1e-9,
    )
