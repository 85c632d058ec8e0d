"""DARK decoding: exact on perfect maps everywhere, as the paper's own loop inside the map, harmless on maps without a peak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from simplepose.config import CodecConfig
from simplepose.pose.codec import decode, encode, refine


def gaussian(x: float, y: float, size_wh: tuple[int, int], sigma: float) -> np.ndarray:
    """One perfect map."""
    columns, rows = np.arange(size_wh[0]), np.arange(size_wh[1])[:, None]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def paper_decode(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """The procedure of the paper, pixel by pixel: smooth, rescale, logarithm, derivatives by central differences, one Newton step."""
    height, width = heatmap.shape
    index = int(heatmap.argmax())
    px, py = index % width, index // width
    reach = int(np.ceil(4 * sigma)) + 1
    smooth = {}
    for v in (-1, 0, 1):
        for u in (-1, 0, 1):
            total = weight_sum = 0.0
            for dy in range(-reach - 1, reach + 2):
                for dx in range(-reach - 1, reach + 2):
                    weight = np.exp(-(dx * dx + dy * dy) / (2 * sigma**2))
                    x, y = px + u + dx, py + v + dy
                    weight_sum += weight
                    if 0 <= x < width and 0 <= y < height:
                        total += weight * heatmap[y, x]
            smooth[u, v] = total / weight_sum
    peak = max(smooth.values())
    log = {place: np.log(value * heatmap.max() / peak) for place, value in smooth.items()}
    gradient = np.array([(log[1, 0] - log[-1, 0]) / 2, (log[0, 1] - log[0, -1]) / 2])
    dxy = (log[1, 1] - log[-1, 1] - log[1, -1] + log[-1, -1]) / 4
    hessian = np.array(
        [
            [log[1, 0] - 2 * log[0, 0] + log[-1, 0], dxy],
            [dxy, log[0, 1] - 2 * log[0, 0] + log[0, -1]],
        ]
    )
    return np.array([px, py]) - np.linalg.solve(hessian, gradient)


def refined(flat: torch.Tensor, size_wh: tuple[int, int], sigma: float) -> np.ndarray:
    """(N, 2) peaks of (N, H*W) maps."""
    peaks = flat.argmax(1)
    found = refine(flat, peaks % size_wh[0], peaks // size_wh[0], size_wh, sigma)
    return torch.stack(found, -1).numpy()


def test_nobody_is_a_normal_answer() -> None:
    codec = CodecConfig(decoder="dark")
    keypoints, scores = decode(torch.zeros(0, 17, 64, 48), codec, (192, 256))
    assert keypoints.shape == (0, 17, 2) and scores.shape == (0, 17)


@pytest.mark.parametrize(
    ("size", "sigma"), [((48, 64), 2.0), ((24, 32), 1.41), ((24, 32), 1.0), ((72, 96), 3.0)]
)
def test_perfect_maps_are_read_exactly_up_to_the_border(
    size: tuple[int, int], sigma: float
) -> None:
    rng = np.random.default_rng(0)
    corners = [[0, 0], [size[0] - 1, size[1] - 1], [0.4, 5.2], [-0.3, 9]]
    places = np.concatenate([rng.uniform(0, 1, (60, 2)) * (np.array(size) - 1), corners])
    maps = torch.from_numpy(np.stack([gaussian(x, y, size, sigma) for x, y in places])).flatten(1)
    found = refined(maps, size, sigma)
    assert np.abs(found - places).max() < 3e-4


def test_noisy_maps_are_read_as_the_paper_says() -> None:
    rng = np.random.default_rng(1)
    maps = [
        gaussian(x, y, (48, 64), 2.0) + rng.uniform(0, 0.05, (64, 48)).astype(np.float32)
        for x, y in rng.uniform(14, 30, (6, 2))
    ]
    flat = torch.from_numpy(np.stack(maps)).flatten(1)
    found = refined(flat, (48, 64), 2.0)
    assert np.abs(found - [paper_decode(one, 2.0) for one in maps]).max() < 2e-3


def test_smoothing_makes_noisy_maps_better() -> None:
    rng = np.random.default_rng(2)
    places = rng.uniform(14, 30, (80, 2))
    maps = np.stack(
        [
            gaussian(x, y, (48, 64), 2.0) + rng.normal(0, 0.03, (64, 48)).astype(np.float32)
            for x, y in places
        ]
    )[:, None]
    errors = {}
    for decoder in ("argmax", "quarter", "dark"):
        found, _ = decode(torch.from_numpy(maps), CodecConfig(decoder=decoder), (192, 256))
        errors[decoder] = np.abs(found[:, 0].numpy() / 4 - places).mean()
    assert errors["dark"] < 0.6 * errors["quarter"] < 0.6 * errors["argmax"]


@pytest.mark.parametrize("values", [0.0, 1.0, -1.0])
def test_a_flat_map_leaves_the_highest_pixel(values: float) -> None:
    maps = torch.full((1, 12 * 16), values)
    assert refined(maps, (12, 16), 2.0).tolist() == [[0.0, 0.0]]


def test_a_step_is_never_longer_than_a_pixel_and_a_half() -> None:
    maps = torch.rand(500, 16 * 16, generator=torch.Generator().manual_seed(0)) - 0.5
    peaks = maps.argmax(1)
    found = torch.from_numpy(refined(maps, (16, 16), 1.0))
    inner = torch.stack([(peaks % 16).clamp(1, 14), (peaks // 16).clamp(1, 14)], -1)
    assert torch.isfinite(found).all() and (found - inner).abs().max() <= 1.5


def test_views_and_halves_are_read_as_copies_of_them() -> None:
    maps = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    codec, size = CodecConfig(decoder="dark"), (96, 128)
    for view in (maps.transpose(0, 1), maps.permute(0, 1, 3, 2), maps[..., ::2], maps.bfloat16()):
        found, wanted = decode(view, codec, size), decode(view.float().contiguous(), codec, size)
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("center", "decoder", "mean"),
    [
        ("truncate", "argmax", 0.99),
        ("truncate", "quarter", 0.99),
        ("truncate", "dark", 0.99),
        ("exact", "quarter", 0.50),
        ("exact", "dark", 0.0),
    ],
)
def test_ceilings_of_targets_and_decoders(center: Any, decoder: Any, mean: float) -> None:
    """Perfect maps of 64x48, sigma 2: mean |dx| in input pixels (line 10 of the field's facts)."""
    codec = CodecConfig(center=center, decoder=decoder, truncate=False)
    keypoints = (
        torch.rand(400, 1, 2, generator=torch.Generator().manual_seed(4))
        * torch.tensor([150.0, 210.0])
        + 20
    )
    maps, _ = encode(keypoints, torch.ones(400, 1, dtype=torch.bool), codec, (192, 256), (48, 64))
    found, _ = decode(maps, codec, (192, 256))
    assert float((found - keypoints).abs()[..., 0].mean()) == pytest.approx(
        mean, abs=0.04 if mean else 1e-3
    )


@pytest.mark.parametrize(
    ("adaptive", "sigma", "size", "kernel"),
    [(False, 3.0, (72, 96), 3.0), (True, 2.0, (24, 32), 2**0.5)],
)
def test_the_map_is_smoothed_with_the_width_it_was_trained_with(
    adaptive: bool, sigma: float, size: tuple[int, int], kernel: float
) -> None:
    codec = CodecConfig(decoder="dark", sigma=sigma, adaptive_sigma=adaptive)
    rng = np.random.default_rng(5)
    maps = gaussian(12.3, 17.6, size, kernel) + rng.uniform(0, 0.05, (size[1], size[0])).astype(
        np.float32
    )
    found, _ = decode(torch.from_numpy(maps)[None, None], codec, (size[0] * 4, size[1] * 4))
    assert np.abs(found[0, 0].numpy() / 4 - paper_decode(maps, kernel)).max() < 2e-3
