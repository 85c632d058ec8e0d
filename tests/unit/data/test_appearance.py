"""Shift, colour, cut-out and grid; and that nothing of it touches the references' draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simplepose.config import AugmentConfig
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations
from simplepose.data.augment import (
    augment_of_epoch,
    change_appearance,
    draw,
    draw_appearance,
    jitter_colours,
    no_draws,
    occlusion_masks,
    sample_affines,
)
from simplepose.pose import geometry

STRONG = AugmentConfig(colour=0.4, cutout_probability=1.0, grid_probability=1.0)


def crowd(count: int) -> Annotations:
    """People in one 200x100 picture."""
    rng = np.random.default_rng(0)
    return Annotations(
        schema=COCO_17,
        source="test",
        image_ids=np.array([1]),
        image_paths=("a.jpg",),
        image_sizes_wh=np.array([[200, 100]]),
        annotation_ids=np.arange(count),
        image_index=np.zeros(count, np.int64),
        bbox_xywh=np.tile([[40.0, 20, 30, 60]], (count, 1)),
        keypoints=rng.uniform(0, 100, (count, 17, 2)),
        visibility=np.full((count, 17), 2),
        area=np.full(count, 900.0),
        is_crowd=np.zeros(count, bool),
    )


def test_nobody_and_nothing_to_do() -> None:
    assert change_appearance(
        torch.zeros(0, 3, 8, 8, dtype=torch.uint8), draw_appearance(0, STRONG), STRONG
    ).shape == (0, 3, 8, 8)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert change_appearance(pixels, draw_appearance(2, AugmentConfig()), AugmentConfig()) is pixels


def test_bytes_layout_and_seed() -> None:
    pixels = torch.randint(0, 256, (4, 3, 64, 48), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(change_appearance(pixels, draw_appearance(4, STRONG), STRONG))
    assert (
        results[0].dtype == torch.uint8
        and results[0].shape == pixels.shape
        and results[0].is_contiguous(memory_format=torch.channels_last)
    )
    assert torch.equal(*results) and not torch.equal(results[0], pixels)


def test_parts_of_a_batch_change_as_the_whole_does() -> None:
    pixels = torch.randint(0, 256, (4, 3, 64, 48), dtype=torch.uint8)
    draws = draw_appearance(4, STRONG)
    assert draws is not None and draws.shape == (12, 4)
    parts = [
        change_appearance(pixels[rows], draws[:, rows], STRONG)
        for rows in (slice(0, 3), slice(3, 4))
    ]
    assert torch.equal(torch.cat(parts), change_appearance(pixels, draws, STRONG))


def test_colours_do_what_they_say() -> None:
    values = torch.rand(2, 3, 16, 16) * 100 + 50
    one, double = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0)
    assert torch.allclose(jitter_colours(values, one, one, one), values, atol=1e-3)
    assert torch.allclose(jitter_colours(values, one * 1.2, one, one), values * 1.2, atol=1e-3)
    spread = jitter_colours(values, one, double, one)
    assert torch.allclose(spread.std((2, 3)), 2 * values.std((2, 3)), rtol=1e-3)
    grey = jitter_colours(values, one, one, one * 0)
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-3) and torch.allclose(
        grey[:, 0], grey[:, 1], atol=1e-3
    )


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (AugmentConfig(colour=0.2), 0.0, 0.0),
        (AugmentConfig(cutout_probability=1.0), 0.03, 0.12),
        (AugmentConfig(grid_probability=1.0), 0.15, 0.35),
        (AugmentConfig(cutout_probability=0.5), 0.01, 0.06),
    ],
)
def test_hidden_share(config: AugmentConfig, low: float, high: float) -> None:
    torch.manual_seed(0)
    masks = occlusion_masks(torch.rand(9, 300, 1), 48, 64, config)
    assert masks.shape == (300, 64, 48) and low <= float(masks.float().mean()) <= high


def test_hidden_pixels_have_the_mean_colour() -> None:
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8)
    config = AugmentConfig(cutout_probability=1.0)
    changed = change_appearance(pixels, draw_appearance(1, config), config)
    different = (changed != pixels).any(1)[0]
    mean = pixels.float().mean((2, 3)).round()[0]
    assert different.any() and torch.equal(
        changed[0, :, different].float(), mean[:, None].expand(3, int(different.sum()))
    )


def test_shift_moves_the_region_by_at_most_its_share() -> None:
    people = crowd(200)
    draws = draw(
        np.random.default_rng(0),
        people,
        AugmentConfig(shift_factor=0.1, scale_factor=0, rotation_probability=0, flip_probability=0),
    )
    assert 0.08 < np.abs(draws.shifts).max() <= 0.1
    rows = np.arange(200)
    moved, plain = (sample_affines(people, rows, d, (96, 128)) for d in (draws, no_draws(200)))
    offset = (moved - plain)[..., 2] / np.array([96, 128])
    assert np.allclose(offset, -draws.shifts, atol=1e-9)
    assert np.allclose(moved[..., :2], plain[..., :2])
    assert geometry.transform_points(moved, np.zeros((200, 1, 2))).shape == (200, 1, 2)


def test_the_references_draws_stay_what_they_were() -> None:
    people = crowd(50)
    one, two = (
        draw(np.random.default_rng(7), people, AugmentConfig(shift_factor=f)) for f in (0.0, 0.1)
    )
    for name in ("scales", "rotations", "flips", "half_body"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert not one.shifts.any()


def test_strong_then_weak() -> None:
    strong = replace(
        STRONG, weak_epochs=2, half_body_probability=0.3, shift_factor=0.1, scale_factor=0.4
    )
    assert augment_of_epoch(strong, 7, 10) is strong
    weak = augment_of_epoch(strong, 8, 10)
    assert weak == AugmentConfig(scale_factor=0.2, rotation_degrees=20.0, shift_factor=0.05)
    assert augment_of_epoch(AugmentConfig(), 9, 10) == AugmentConfig()
