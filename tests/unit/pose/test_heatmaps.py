"""The heatmap codec: kinds, activation, target width, flip alignment. Parity with the references is tested in tests/parity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simplepose.config import CodecConfig
from simplepose.core.errors import UserError
from simplepose.pose.codec import activate, decode, encode, flip_average, flip_inputs

EXACT = CodecConfig(
    center="exact", truncate=False, trained_when="inside", decoder="dark", flip_shift="exact"
)
SOFT = replace(EXACT, kind="softmax", adaptive_sigma=True)
SIZE, MAP = (96, 128), (24, 32)


def seen(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_nobody_is_a_normal_answer() -> None:
    maps, weights = encode(torch.zeros(0, 17, 2), seen(0, 17), SOFT, SIZE, MAP)
    assert maps.shape == (0, 17, 32, 24) and weights.shape == (0, 17)
    keypoints, scores = decode(activate(maps, SOFT, SIZE), SOFT, SIZE)
    assert keypoints.shape == (0, 17, 2) and scores.shape == (0, 17)


@pytest.mark.parametrize(
    ("size", "width"), [((48, 64), 2.0), ((24, 32), 2**0.5), ((72, 96), 6**0.5)]
)
def test_adaptive_width(size: tuple[int, int], width: float) -> None:
    codec = CodecConfig(sigma=2.0, adaptive_sigma=True)
    assert codec.sigma_at(size) == pytest.approx(width)
    assert CodecConfig(sigma=2.0).sigma_at(size) == 2.0
    keypoint = torch.tensor([[[4.0 * (size[0] // 2), 4.0 * (size[1] // 2)]]])
    target, _ = encode(
        keypoint,
        seen(1, 1),
        replace(codec, center="exact", truncate=False),
        (4 * size[0], 4 * size[1]),
        size,
    )
    ratio = target[0, 0, size[1] // 2, size[0] // 2 + 1] / target[0, 0, size[1] // 2, size[0] // 2]
    assert float(ratio) == pytest.approx(np.exp(-0.5 / width**2), rel=1e-5)


def test_maps_of_the_references_pass_unchanged() -> None:
    maps = torch.rand(2, 17, 32, 24)
    assert activate(maps, CodecConfig(), SIZE) is maps


def test_softmax_gives_back_a_perfect_answer() -> None:
    keypoints = (
        torch.rand(8, 17, 2, generator=torch.Generator().manual_seed(0))
        * torch.tensor([60.0, 90.0])
        + 18
    )
    target, _ = encode(keypoints, seen(8, 17), SOFT, SIZE, MAP)
    found, scores = decode(activate(target.clamp(min=1e-30).log(), SOFT, SIZE), SOFT, SIZE)
    assert (found - keypoints).abs().max() < 1e-3
    assert scores.min() > 0.88 and scores.max() < 1.001  # a peak between pixels looks lower
    flat = activate(torch.zeros(1, 17, 32, 24), SOFT, SIZE)
    assert float(flat.max()) == pytest.approx(
        2 * np.pi * 2 / (32 * 24), rel=1e-4
    )  # nobody knows anything: a low score


def test_logits_may_be_half() -> None:
    logits = torch.randn(1, 17, 32, 24)
    assert activate(logits.bfloat16(), SOFT, SIZE).dtype == torch.float32


def mirrored_maps(keypoints: torch.Tensor, codec: CodecConfig) -> torch.Tensor:
    """Maps a perfect network draws for the mirrored input that `flip_inputs` makes: one keypoint, so nothing swaps."""
    moved = torch.stack(
        [
            SIZE[0] - 1 - keypoints[..., 0] - (3 if codec.flip_shift == "exact" else 0),
            keypoints[..., 1],
        ],
        -1,
    )
    return encode(moved, seen(*moved.shape[:2]), replace(codec, trained_when="patch"), SIZE, MAP)[0]


@pytest.mark.parametrize(("shift", "bias"), [("none", -1.5), ("one_pixel", 0.5), ("exact", 0.0)])
def test_bias_of_each_flip_alignment(shift: str, bias: float) -> None:
    """The numbers of the theory: the mirrored map lies 3 input pixels off; one column takes away 4; half of it stays in the mean."""
    codec = replace(EXACT, flip_shift=shift, sigma=2.0)
    keypoints = torch.rand(200, 1, 2, generator=torch.Generator().manual_seed(1)) * 40 + 28
    plain, _ = encode(keypoints, seen(200, 1), codec, SIZE, MAP)
    average = flip_average(plain, mirrored_maps(keypoints, codec), [0], codec, SIZE)
    found, _ = decode(average, codec, SIZE)
    difference = found - keypoints
    assert float(difference[..., 0].mean()) == pytest.approx(bias, abs=0.02)
    assert abs(difference[..., 1]).max() < 1e-2


def test_the_exact_flip_moves_the_picture_and_repeats_its_border() -> None:
    pixels = torch.arange(8.0).expand(1, 3, 2, 8)
    assert flip_inputs(pixels, EXACT)[0, 0, 0].tolist() == [4, 3, 2, 1, 0, 0, 0, 0]
    assert flip_inputs(pixels, CodecConfig())[0, 0, 0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert flip_inputs(pixels, replace(EXACT, udp=True))[0, 0, 0].tolist() == [
        7,
        6,
        5,
        4,
        3,
        2,
        1,
        0,
    ]


@pytest.mark.parametrize("shift", ["none", "one_pixel", "exact"])
def test_the_unbiased_convention_needs_no_shift(shift: str) -> None:
    codec = replace(EXACT, udp=True, sigma=2.0, flip_shift=shift)
    keypoints = torch.rand(100, 1, 2, generator=torch.Generator().manual_seed(2)) * 40 + 28
    mirrored = keypoints * torch.tensor([-1.0, 1.0]) + torch.tensor([95.0, 0.0])
    plain, back = (
        encode(points, seen(100, 1), codec, SIZE, MAP)[0] for points in (keypoints, mirrored)
    )
    assert torch.allclose(flip_average(plain, back, [0], codec, SIZE), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"), [("sigma", 0.0), ("sigma", float("nan")), ("peak", -1.0)]
)
def test_widths_and_peaks_are_positive(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"codec\.{field} .*{value}"):
        CodecConfig(**{field: value})
