"""decode(encode(x)) = x, in the crop and in the picture, for every unbiased codec."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simplepose.config import CodecConfig
from simplepose.pose import geometry
from simplepose.pose.codec import activate, decode, encode

SIZES = st.sampled_from([(96, 128), (192, 256), (288, 384)])


@st.composite
def crops(draw: st.DrawFn) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """An input size, a box somewhere in a picture, and three places in its crop."""
    size = draw(SIZES)
    box = np.array([[draw(st.floats(-50, 400)), draw(st.floats(-50, 300)), 0, 0]])
    box[:, 2:] = box[:, :2] + [[draw(st.floats(8, 500)), draw(st.floats(8, 500))]]
    share = np.array([[draw(st.floats(0, 1)), draw(st.floats(0, 1))] for _ in range(3)])
    return size, box, share * (np.array(size) - 4)


@settings(max_examples=40, deadline=None)
@given(
    crops(),
    st.booleans(),
    st.sampled_from([(2.0, True), (2.0, False), (1.5, False)]),
    st.floats(-80, 80),
)
def test_round_trip_in_crop_and_picture(
    case: tuple[tuple[int, int], np.ndarray, np.ndarray],
    udp: bool,
    width: tuple[float, bool],
    rotation: float,
) -> None:
    size, box, places = case
    codec = CodecConfig(
        center="exact",
        decoder="dark",
        truncate=False,
        trained_when="inside",
        udp=udp,
        sigma=width[0],
        adaptive_sigma=width[1],
    )
    centers, sizes = geometry.fit_boxes(box, size)
    to_crop = geometry.crop_affines(centers, sizes, size, np.array([rotation]), udp=udp)
    in_picture = geometry.transform_points(geometry.invert_affines(to_crop), places[None])
    in_crop = geometry.transform_points(to_crop, in_picture)
    keypoints = torch.from_numpy(in_crop).float()
    maps, weights = encode(
        keypoints, torch.ones(1, 3, dtype=torch.bool), codec, size, (size[0] // 4, size[1] // 4)
    )
    assert (
        weights.min() == 1 or places.min() < 1e-4
    )  # float32 may round a place on the border out of the crop
    found, _ = decode(maps, codec, size)
    drawn = weights.numpy()[0] > 0
    assert np.abs(found[0].numpy()[drawn] - places[drawn]).max(initial=0) < 1e-3
    back = geometry.transform_points(geometry.invert_affines(to_crop), found.numpy())
    scale = sizes[0, 0] / size[0]  # picture pixels an input pixel
    assert np.abs(back - in_picture)[0][drawn].max(initial=0) < 2e-3 * max(scale, 1)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 95), st.floats(0, 127))
def test_simcc_round_trip(x: float, y: float) -> None:
    codec = CodecConfig(kind="simcc", sigma=3.0, decoder="dark")
    target, _ = encode(
        torch.tensor([[[x, y]]]), torch.ones(1, 1, dtype=torch.bool), codec, (96, 128), (24, 32)
    )
    found, _ = decode(activate(target.clamp(min=1e-30).log(), codec, (96, 128)), codec, (96, 128))
    assert found[0, 0].tolist() == pytest.approx([x, y], abs=1e-3)
