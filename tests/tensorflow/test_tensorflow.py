"""TensorFlow writes the seed's whole snapshots; we read them bit for bit and go on as it would.

Opt-in (`make test-tensorflow`): SIMPLEPOSE_TENSORFLOW_PYTHON names a Python with tensorflow-cpu; it
need not have simplepose. Needs 4 GB in the temporary folder; `seed_network.py` says what TensorFlow
writes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from seed_snapshot import as_torch, listed_shapes, torch_names

from simplepose.config import load_preset
from simplepose.core.errors import UserError
from simplepose.pose.network import PoseNetwork
from simplepose.training.schedule import learning_rate_at, make_optimizer, set_update
from simplepose.training.snapshot import check_snapshot, continue_snapshot
from simplepose.weights.tensorflow import read_checkpoint
from simplepose.weights.weight_file import load_into, load_weight_file

pytestmark = pytest.mark.tensorflow
PYTHON = os.environ.get("SIMPLEPOSE_TENSORFLOW_PYTHON", "")
STATES = {"early": 3, "late": 100}
"""Kind of snapshot -> the number in its name."""
UPDATES_PER_EPOCH = 4682
EVERY_SNAPSHOT = pytest.mark.parametrize("version", ["v1", "v2"])
EVERY_STATE = pytest.mark.parametrize("state", STATES)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not PYTHON:
        pytest.skip("SIMPLEPOSE_TENSORFLOW_PYTHON is not set (make test-tensorflow sets it)")
    folder = tmp_path_factory.mktemp("tensorflow")
    script = Path(__file__).with_name("seed_network.py")
    subprocess.run([PYTHON, str(script), str(folder)], check=True)
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):  # gigabytes
        path.rmdir() if path.is_dir() else path.unlink()


def snapshot(written: Path, state: str, version: str) -> Path:
    return written / state / version / f"snapshot_{STATES[state]}.ckpt"


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What TensorFlow wrote, by its own names."""
    with np.load(path) as file:
        return {name.replace("|", "/"): file[name] for name in file.files}


@EVERY_STATE
@EVERY_SNAPSHOT
def test_bit_for_bit(written: Path, state: str, version: str) -> None:
    checkpoint = read_checkpoint(snapshot(written, state, version))
    expected = arrays(written / state / "before.npz")
    assert checkpoint.version == int(version[1])
    assert set(checkpoint) == set(expected) == set(listed_shapes())
    for name, array in expected.items():
        found = checkpoint[name]
        assert found.dtype == array.dtype and found.shape == array.shape == listed_shapes()[name]
        assert found.tobytes() == array.tobytes(), name


@EVERY_SNAPSHOT
def test_heatmaps(written: Path, version: str) -> None:
    weights = load_weight_file(snapshot(written, "early", version))
    assert (weights.family, weights.backbone, weights.keypoint_count) == ("tf", "resnet50", 17)
    assert weights.unknown_scalars == ("Variable",)
    network = PoseNetwork(load_preset("coco_r50_256x192_tf").model, 17).eval()
    assert load_into(network, weights) == []
    expected = arrays(written / "heatmaps.npz")
    with torch.no_grad():
        found = network(torch.from_numpy(expected["pixels"]).permute(0, 3, 1, 2))
    peak = np.abs(expected["heatmaps"]).max()
    difference = np.abs(found.permute(0, 2, 3, 1).numpy() - expected["heatmaps"]).max() / peak
    print(f"{version}: largest difference {difference:.2e} of the peak {peak:.3g}")
    assert peak > 0.1 and expected["heatmaps"].std() > 0.01 * peak and difference < 1e-4


@EVERY_STATE
@EVERY_SNAPSHOT
def test_one_update(written: Path, state: str, version: str) -> None:
    """From TensorFlow's slots and TensorFlow's gradients to TensorFlow's next variables."""
    path = snapshot(written, state, version)
    preset = load_preset("coco_r50_256x192_tf")
    config = replace(preset, train=replace(preset.train, continue_from=str(path)))
    check_snapshot(config)
    network = PoseNetwork(config.model, 17)
    load_into(network, load_weight_file(path))
    optimizer = make_optimizer(network, config.train)
    position = continue_snapshot(network, optimizer, config, UPDATES_PER_EPOCH, say=print)
    assert position.step == STATES[state] * UPDATES_PER_EPOCH
    gradients, parameters = (
        arrays(written / state / "gradients.npz"),
        dict(network.named_parameters()),
    )
    names = {theirs: ours for theirs, ours in torch_names().items() if "moving" not in theirs}
    assert set(gradients) == set(names)
    for theirs, ours in names.items():
        parameters[ours].grad = torch.from_numpy(np.ascontiguousarray(as_torch(gradients[theirs])))
    rate = learning_rate_at(config.train, position.step, UPDATES_PER_EPOCH)
    assert rate == pytest.approx({"early": 5e-4, "late": 5e-5}[state])
    set_update(optimizer, rate, position.step + position.adam_offset, config.train.adam_epsilon)
    optimizer.step()
    before, after = arrays(written / state / "before.npz"), arrays(written / state / "after.npz")
    worst = dict.fromkeys(("weights", "m", "v"), 0.0)
    for theirs, ours in names.items():
        slots = optimizer.state[parameters[ours]]
        for what, found, wanted in (
            ("weights", parameters[ours].detach(), after[theirs]),
            ("m", slots["exp_avg"], after[f"{theirs}/Adam"]),
            ("v", slots["exp_avg_sq"], after[f"{theirs}/Adam_1"]),
        ):
            difference = np.abs(found.numpy() - as_torch(wanted)).max() / np.abs(wanted).max()
            worst[what] = max(worst[what], float(difference))
        assert np.abs(after[theirs] - before[theirs]).max() > 0.1 * rate, theirs
    listed = ", ".join(f"{what} {difference:.1e}" for what, difference in worst.items())
    print(f"{state} {version}: largest difference of a tensor's largest number: {listed}")
    assert worst["weights"] < 1e-6 and worst["m"] < 1e-6
    # TensorFlow's 1 - beta2 is 1 - float32(.999), 1.3e-5 less than .001: seen in a young v
    assert worst["v"] < (2e-5 if state == "early" else 1e-6)


def test_partitioned(written: Path) -> None:
    with pytest.raises(UserError, match=r"partitioned\.ckpt.*out/weights.*partition"):
        read_checkpoint(written / "partitioned.ckpt")
