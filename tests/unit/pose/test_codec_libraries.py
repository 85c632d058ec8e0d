"""The codec reads NumPy's maps as torch's; pixels without torch are those with it; an ONNX network needs none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_onnx import save_network

from simplepose.config import CodecConfig, PixelConfig
from simplepose.core.images import write_image
from simplepose.pose import codec
from simplepose.pose.pixels import normalise, normalise_crops

SIZE = (96, 128)


def outputs() -> np.ndarray:
    """Blurred peaks, some beyond the border, noise, and maps without a peak."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:32, :24]
    at = rng.uniform(-3, 34, (2, 5, 17, 1, 1))
    maps = np.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / 8)
    maps[0, :3] = [[[0]], [[-1]], [[1]]]
    return (maps + rng.normal(0, 1e-3, maps.shape) * (at[0] > 0)).astype(np.float32)


@pytest.mark.parametrize("shift", ["one_pixel", "exact"])
@pytest.mark.parametrize("udp", [False, True])
def test_both_libraries_read_the_same_to_the_last_bit(shift: str, udp: bool) -> None:
    rules, found = CodecConfig(decoder="quarter", flip_shift=shift, udp=udp), []
    assert codec.reads_arrays(rules)
    for values in (outputs(), torch.from_numpy(outputs())):
        plain, mirrored = (
            codec.activate(one, rules, SIZE) for one in (values, values[[4, 3, 2, 1, 0]])
        )
        maps = codec.flip_average(plain, mirrored, range(17), rules, SIZE)
        found.append(codec.decode(maps, rules, SIZE))
    for ours, theirs in zip(*found, strict=True):
        assert isinstance(ours, np.ndarray) and isinstance(theirs, torch.Tensor)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "decoder"), [("simcc", "quarter"), ("heatmap", "dark")])
def test_logarithms_are_torchs(kind: str, decoder: str) -> None:
    assert not codec.reads_arrays(CodecConfig(kind=kind, decoder=decoder))


@pytest.mark.parametrize("shift", ["one_pixel", "exact"])
def test_both_libraries_mirror_the_same(shift: str) -> None:
    pixels, rules = (
        np.random.default_rng(0).normal(size=(2, 3, 8, 12)),
        CodecConfig(flip_shift=shift),
    )
    mirrored = codec.flip_inputs(torch.from_numpy(pixels), rules)
    np.testing.assert_array_equal(codec.flip_inputs(pixels, rules), mirrored)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_crops_without_torch_are_the_same_to_the_last_bit(order: str) -> None:
    crops = np.arange(256 * 9, dtype=np.uint8).reshape(2, 16, 24, 3)
    config = PixelConfig(channel_order=order, mean=(123.675, 116.28, 103.53), std=(58.4, 57, 57.4))
    found = normalise_crops(crops, config)
    wanted = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2), config)
    np.testing.assert_array_equal(found, wanted)
    assert found.flags.c_contiguous and found.dtype == np.float32
    assert normalise_crops(crops[:0], config).shape == (0, 3, 16, 24)


def test_an_onnx_network_predicts_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    weights = save_network(tmp_path / "pose.onnx")
    write_image(tmp_path / "photo.png", np.full((90, 80, 3), 99, np.uint8))
    code = (
        "import sys\nfrom simplepose.cli import main\nstatus = main(sys.argv[1:])\n"
        "print('LOADED', status, [n for n in ('torch', 'scipy', 'fsspec') if n in sys.modules])"
    )
    argv = ["predict", tmp_path / "photo.png", "--weights", weights, "--boxes", "whole"]
    argv += ["--output", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "LOADED 0 []", done.stderr
