"""TensorFlow itself writes the seed's full ResNet-50 network; it is read bit for bit and gives TensorFlow's heatmaps.

Opt-in (`make test-tensorflow`): SIMPLEPOSE_TENSORFLOW_PYTHON names a Python that has tensorflow-cpu; it need not have simplepose.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from simplepose.pose.network import ModelConfig, PoseResNet
from simplepose.weights.pretrained import load_into, load_weight_file
from simplepose.weights.tensorflow import read_checkpoint

pytestmark = pytest.mark.tensorflow
PYTHON = os.environ.get("SIMPLEPOSE_TENSORFLOW_PYTHON", "")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PYTHON:
        pytest.skip("SIMPLEPOSE_TENSORFLOW_PYTHON is not set (make test-tensorflow sets it)")
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run([PYTHON, str(Path(__file__).with_name("seed_network.py")), str(folder)], check=True)
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_bit_for_bit(written: Path, version: int) -> None:
    checkpoint = read_checkpoint(written / f"v{version}.ckpt")
    expected = np.load(written / "expected.npz")
    names = {name.replace("|", "/") for name in expected.files if not name.startswith("__")}
    assert checkpoint.version == version and set(checkpoint) == names and len(names) > 270
    for name in names:
        array = expected[name.replace("/", "|")]
        assert checkpoint[name].dtype == array.dtype and checkpoint[name].shape == array.shape, name
        assert checkpoint[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("version", [1, 2])
def test_heatmaps(written: Path, version: int) -> None:
    weights = load_weight_file(written / f"v{version}.ckpt")
    assert weights.family == "tf" and weights.backbone == "resnet50" and weights.keypoint_count == 17
    network = PoseResNet(ModelConfig(batch_norm_eps=1.001e-5, batch_norm_momentum=0.01), 17).eval()
    assert load_into(network, weights) == []
    expected = np.load(written / "expected.npz")
    with torch.no_grad():
        found = network(torch.from_numpy(expected["__pixels"]).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    peak = np.abs(expected["__heatmaps"]).max()
    difference = np.abs(found - expected["__heatmaps"]).max() / peak
    print(f"V{version}: largest difference {difference:.2e} of the peak {peak:.3g}")
    assert peak > 0.1 and expected["__heatmaps"].std() > 0.01 * peak and difference < 1e-4
