"""Crops of both references: three points, a mirrored copy of the picture, cv2. They agree on geometry; only the numbers fed differ.

Tolerances. Matrices: 1e-9, both sides are double precision. Keypoints: float32 at the end, so 1e-6 of the value. Pixels against a double
precision matrix: one grey level, the mirror is folded into the matrix here and a copy there. Pixels against single precision points,
as the references have them: such a matrix is up to 1e-4 pixels off, which on white noise (steepest possible slope, 255 a pixel) is well
below one level, and OpenCV 4 rounds positions to 1/32 pixel, where a rounding flips now and then: 8 levels.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import references
import torch

from simplepose.config import AugmentConfig, load_preset
from simplepose.core.images import read_image
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations, ground_truth_boxes
from simplepose.data.augment import draw, no_draws, sample_affines, sample_keypoints
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader
from simplepose.pose import geometry
from simplepose.pose.pixels import normalise

SIZES = [(192, 256), (288, 384), (96, 128), (256, 256)]


def people(
    boxes: np.ndarray,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    sizes_wh: np.ndarray,
    paths: tuple[str, ...] = (),
) -> Annotations:
    count = len(boxes)
    return Annotations(
        schema=COCO_17,
        source="test",
        image_ids=np.arange(count),
        image_paths=paths or tuple(f"{i}.png" for i in range(count)),
        image_sizes_wh=sizes_wh,
        annotation_ids=np.arange(count),
        image_index=np.arange(count),
        bbox_xywh=boxes,
        keypoints=keypoints,
        visibility=visibility,
        area=np.ones(count),
        is_crowd=np.zeros(count, bool),
    )


def noise_world(count: int = 8) -> tuple[Annotations, list[np.ndarray], np.recarray]:
    """Pictures of noise, boxes that also leave the picture, and every kind of draw."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(60, 200, (count, 2))
    pictures = [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in sizes]
    boxes = np.concatenate([rng.uniform(-20, 60, (count, 2)), rng.uniform(5, 150, (count, 2))], 1)
    keypoints = rng.uniform(-10, 200, (count, 17, 2)).astype(np.float32)
    visibility = rng.integers(0, 3, (count, 17))
    draws = no_draws(count)
    draws.scales = rng.uniform(0.7, 1.3, count)
    draws.rotations = rng.uniform(-80, 80, count)
    draws.flips = np.arange(count) % 2 == 0
    return people(boxes, keypoints, visibility, sizes), pictures, draws


def check_sample(
    annotations: Annotations,
    row: int,
    picture_rgb: np.ndarray,
    draws: np.recarray,
    size_wh: tuple[int, int],
) -> None:
    """One sample against the references, with both precisions."""
    rows = np.array([row])
    one = draws[rows]
    to_crop = sample_affines(annotations, rows, one, size_wh)
    keypoints, visibility = sample_keypoints(annotations, rows, one, to_crop)
    crop = geometry.warp_crop(picture_rgb, to_crop[0], size_wh)
    for single in (False, True):
        expected, points, seen = references.training_sample(
            picture_rgb[..., ::-1],
            annotations.bbox_xywh[row].astype(np.float64),
            annotations.keypoints[row],
            annotations.visibility[row],
            float(one.scales[0]),
            float(one.rotations[0]),
            bool(one.flips[0]),
            size_wh,
            single=single,
        )
        difference = np.abs(crop.astype(int) - expected[..., ::-1].astype(int))
        assert difference.max() <= (8 if single else 1), (row, single, difference.max())
        assert (difference > 1).mean() < 0.01
        assert np.array_equal(visibility[0] > 0, seen)
        np.testing.assert_allclose(
            keypoints[0], points, rtol=1e-6 if not single else 1e-4, atol=2e-3
        )


@pytest.mark.parametrize("size_wh", SIZES)
def test_training_crops_of_noise(size_wh: tuple[int, int]) -> None:
    """Box, aspect fix, x 1.25, centre (W/2, H/2), isotropic scale from the width, rotation about the centre, mirror, left and right."""
    annotations, pictures, draws = noise_world()
    for row, picture in enumerate(pictures):
        check_sample(annotations, row, picture, draws, size_wh)


def test_training_crops_of_real_pictures(real_data) -> None:
    """The same on the first 16 annotated people of real photographs, with the clipped boxes of training."""
    root = real_data("coco_val2017_visible150")
    annotations = read_coco(
        root / "person_keypoints_val2017_visible150.json", root / "val2017"
    ).trainable()
    rng = np.random.default_rng(0)
    draws = draw(rng, annotations, load_preset("coco_r50_256x192_tf").augment)
    for row in range(16):
        check_sample(
            annotations,
            row,
            read_image(annotations.image_paths[annotations.image_index[row]]),
            draws,
            (192, 256),
        )


def test_loader_gives_those_crops(tmp_path: Path) -> None:
    """What leaves the loader is the crop of the references: files are read, RGB on the outside, keypoints in crop pixels."""
    annotations, pictures, _ = noise_world(4)
    paths = tuple(str(tmp_path / f"{index}.png") for index in range(4))
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(path, picture[..., ::-1])
    loader = TrainLoader(
        replace(annotations, image_paths=paths),
        AugmentConfig(scale_factor=0, rotation_probability=0, flip_probability=0),
        input_size_wh=(96, 128),
        batch_size=4,
        seed=0,
    )
    (batch,) = list(loader.epoch(0))
    for index, row in enumerate(batch.rows):
        picture = pictures[row]
        expected, points, seen = references.training_sample(
            picture[..., ::-1],
            annotations.bbox_xywh[row],
            annotations.keypoints[row],
            annotations.visibility[row],
            1.0,
            0.0,
            False,
            (96, 128),
        )
        assert (
            np.abs(
                batch.pixels[index].permute(1, 2, 0).numpy().astype(int) - expected[..., ::-1]
            ).max()
            <= 1
        )
        np.testing.assert_allclose(batch.keypoints[index].numpy(), points, rtol=1e-6, atol=2e-3)
        assert np.array_equal(batch.visibility[index].numpy() > 0, seen)


def test_matrices_to_nine_digits() -> None:
    """The closed form equals the solution of three point pairs."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        box, angle, size_wh = rng.uniform(1, 400, 4), rng.uniform(-80, 80), SIZES[rng.integers(4)]
        center, (width, height) = references.region(box, size_wh)
        centers, sizes = geometry.fit_boxes(
            np.array([[box[0], box[1], box[0] + box[2], box[1] + box[3]]]), size_wh
        )
        np.testing.assert_allclose(centers[0], center, rtol=1e-12)
        np.testing.assert_allclose(sizes[0], (width, height), rtol=1e-12)
        ours = geometry.crop_affines(centers, sizes, size_wh, np.array([angle]))[0]
        np.testing.assert_allclose(
            ours, references.affine(center, width, angle, size_wh), rtol=1e-9, atol=1e-9
        )


def test_mirrored_picture_mirrors_the_crop_at_its_full_width() -> None:
    """A picture mirrored as x -> w-1-x before the crop moves a keypoint to W_in - x, not W_in - 1 - x."""
    annotations, _, _ = noise_world(2)
    rows = np.arange(2)
    plain = no_draws(2)
    flipped = plain.copy()
    flipped.flips = True
    x = [
        sample_keypoints(
            annotations, rows, draws, sample_affines(annotations, rows, draws, (192, 256))
        )[0][..., 0]
        for draws in (plain, flipped)
    ]
    np.testing.assert_allclose(x[1][:, COCO_17.flip_order], 192 - x[0], atol=2e-3)


@pytest.mark.parametrize("family", references.FAMILIES)
def test_numbers_the_network_sees(family: str) -> None:
    """BGR with RGB means (both), divided by 255 and deviation (ms) or not (tf); outside pixels are 0 before that, so -mean / deviation."""
    crop = np.random.default_rng(2).integers(0, 256, (8, 6, 3), np.uint8)
    crop[:2] = 0
    seen = normalise(
        torch.from_numpy(crop[None]).permute(0, 3, 1, 2),
        load_preset(references.PRESETS[family]).pixels,
    )
    expected = references.normalised(crop[..., ::-1], family)
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-5, atol=1e-5)  # float32
    border = (
        (-123.68, -116.78, -103.94)
        if family == "tf"
        else (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
    )
    np.testing.assert_allclose(seen[0, :, 0, 0].numpy(), border, rtol=1e-6)


def test_outside_pixels_are_black() -> None:
    """The warp fills what lies outside the picture with 0."""
    to_crop = geometry.crop_affines(
        *geometry.fit_boxes(np.array([[0.0, 0, 20, 20]]), (96, 128)), (96, 128)
    )[0]
    crop = geometry.warp_crop(np.full((20, 20, 3), 255, np.uint8), to_crop, (96, 128))
    assert crop[0].max() == 0 and crop[64, 48].min() == 255


def test_boxes_of_training_are_clipped_and_those_of_testing_are_not() -> None:
    """Training boxes end at w-1, h-1 of the picture and lose a pixel; boxes of the test stay as they are."""
    rng = np.random.default_rng(3)
    boxes = np.concatenate([rng.uniform(-30, 80, (20, 2)), rng.uniform(2, 120, (20, 2))], 1).astype(
        np.float32
    )
    sizes = np.full((20, 2), (100, 90))
    annotations = people(boxes, np.ones((20, 17, 2)), np.full((20, 17), 2), sizes)
    expected = np.array([references.clip_box(*map(float, box), 100, 90) for box in boxes])
    kept = (expected[:, 2:] > 0).all(1)
    assert 5 < kept.sum() <= 20
    np.testing.assert_allclose(
        annotations.trainable().bbox_xywh, expected[kept], rtol=1e-6, atol=1e-4
    )
    np.testing.assert_allclose(
        ground_truth_boxes(annotations).bbox_xywh, boxes, rtol=1e-6, atol=1e-4
    )


def test_degenerate_box_divides_by_nothing() -> None:
    """A box without size still has a finite crop."""
    centers, sizes = geometry.fit_boxes(np.array([[5.0, 5, 5, 5]]), (192, 256))
    assert np.isfinite(geometry.crop_affines(centers, sizes, (192, 256))).all()


def test_exif_rotation_is_ignored(tmp_path: Path) -> None:
    """COCO's annotations belong to the raster as stored; only `upright` turns it."""
    _, jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))
    tiff = (
        b"MM\x00*\x00\x00\x00\x08"
        + struct.pack(">H", 1)
        + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
        + struct.pack(">I", 0)
    )
    exif = b"Exif\x00\x00" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(
        jpeg.tobytes()[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(exif) + 2)
        + exif
        + jpeg.tobytes()[2:]
    )
    assert read_image(path).shape == (20, 30, 3)
    assert read_image(path, upright=True).shape == (30, 20, 3)


class Fixed:
    """A generator whose normal and uniform numbers are known."""

    def __init__(self, normal: list[float], uniform: list[float]) -> None:
        self.normal, self.even = np.array(normal), np.array(uniform)

    def standard_normal(self, count: int) -> np.ndarray:
        return self.normal[:count].copy()

    def random(self, count: int) -> np.ndarray:
        return self.even[:count].copy()

    def uniform(self, low: float, high: float, shape: tuple[int, int]) -> np.ndarray:
        assert low == high == 0  # neither reference shifts
        return np.zeros(shape)


@pytest.mark.parametrize(
    ("preset", "factor", "degrees"),
    [
        (f"{base}_{family}", *values)
        for family in references.FAMILIES
        for base, values in (("coco_r50_256x192", (0.3, 40)), ("mpii_r50_256x256", (0.25, 30)))
    ],
)
def test_draws(preset: str, factor: float, degrees: float) -> None:
    """Scale clip(N f + 1, 1-f, 1+f), rotation clip(N r, -2r, 2r) with probability .6, mirror with probability .5."""
    normal, uniform = [0.0, 0.5, -0.5, 3.0, -3.0, 1.5], [0.1, 0.59, 0.3, 0.45, 0.1, 0.7]
    annotations, _, _ = noise_world(6)
    draws = draw(Fixed(normal, uniform), annotations, load_preset(preset).augment)  # type: ignore[arg-type]
    for index, (n, u) in enumerate(zip(normal, uniform, strict=True)):
        assert draws.scales[index] == pytest.approx(
            min(max(n * factor + 1, 1 - factor), 1 + factor)
        )
        assert draws.rotations[index] == pytest.approx(
            min(max(n * degrees, -2 * degrees), 2 * degrees) if u < 0.6 else 0
        )
        assert draws.flips[index] == (u < 0.5)
