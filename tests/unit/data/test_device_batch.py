"""The warp on the device against cv2, by shapes and edge cases; on real pictures it is held in tests/parity/test_loader.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opencv import WARP_LEVELS

from simplepose.data.loader import Batch, Regions, warp_regions
from simplepose.pose import geometry

SIZE = (24, 32)


def cut(pictures: list[np.ndarray], to_crop: np.ndarray) -> torch.Tensor:
    sizes = torch.tensor([picture.shape[1::-1] for picture in pictures], dtype=torch.int64).reshape(
        -1, 2
    )
    starts = torch.cumsum(sizes.prod(1), 0) - sizes.prod(1)
    buffer = torch.from_numpy(
        np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        if pictures
        else np.zeros((1, 3), np.uint8)
    )
    return warp_regions(
        buffer,
        starts,
        sizes,
        torch.from_numpy(geometry.invert_affines(to_crop).astype(np.float32)),
        SIZE,
    )


def test_nobody() -> None:
    assert cut([], np.zeros((0, 2, 3))).shape == (0, 3, 32, 24)


@pytest.mark.parametrize(
    ("degrees", "scale", "mirrored"),
    [(0, 1, False), (37, 0.4, False), (-80, 2.5, True), (180, 1.3, True)],
)
def test_as_opencv(degrees: float, scale: float, mirrored: bool) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for height, width in ((50, 40), (7, 90), (1, 1))
    ]
    centers = np.array([[20, 25], [85, 3], [0, 0]], np.float64)
    to_crop = geometry.crop_affines(
        centers, np.full((3, 2), [24 * scale, 32 * scale]), SIZE, np.full(3, degrees)
    )
    if mirrored:
        to_crop = geometry.mirror_pictures(to_crop, np.array([40, 90, 1]))
    crops = cut(pictures, to_crop)
    assert crops.dtype == torch.uint8 and crops.is_contiguous(memory_format=torch.channels_last)
    for place, picture in enumerate(pictures):
        wanted = geometry.warp_crop(picture, to_crop[place], SIZE).astype(int)
        assert np.abs(crops[place].permute(1, 2, 0).numpy() - wanted).max() <= WARP_LEVELS
        assert wanted.max() > 0


def test_a_crop_outside_the_picture_is_black_and_reads_nobody_elses_pixels() -> None:
    pictures = [np.full((5, 5, 3), 255, np.uint8), np.full((5, 5, 3), 200, np.uint8)]
    far = geometry.crop_affines(np.array([[500.0, 2], [2, 2]]), np.full((2, 2), [24.0, 32]), SIZE)
    crops = cut(pictures, far)
    assert crops[0].max() == 0 and crops[1].max() == 200


def test_a_batch_cuts_its_regions_when_it_goes_to_the_device() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    to_crop = geometry.crop_affines(np.array([[15.0, 20]]), np.array([[24.0, 32]]), SIZE)
    regions = Regions(
        torch.from_numpy(picture.reshape(-1, 3)),
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([[30, 40]]),
        torch.from_numpy(geometry.invert_affines(to_crop).astype(np.float32)),
        SIZE,
    )
    batch = Batch(
        regions, torch.zeros(1, 17, 2), torch.ones(1, 17, dtype=torch.bool), np.zeros(1, np.int64)
    ).to(torch.device("cpu"))
    assert isinstance(batch.pixels, torch.Tensor) and batch.pixels.shape == (1, 3, 32, 24)
    np.testing.assert_allclose(
        batch.pixels[0].permute(1, 2, 0).numpy(),
        geometry.warp_crop(picture, to_crop[0], SIZE),
        atol=1,
    )
