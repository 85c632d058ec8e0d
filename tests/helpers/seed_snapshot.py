"""The variables of the seed's snapshots, as TensorFlow lists them, for tests. No test in here.

`tests/data/seed_snapshot_variables.tsv` has name, type and shape of all 625 variables of a snapshot
of the seed's ResNet-50 at 256x192. `small_snapshot` has the same names with fewer channels, for a
network whose `STAGE_WIDTHS` are `SMALL_WIDTHS` and whose `deconv_filters` are `SMALL_FILTERS`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

LIST = Path(__file__).resolve().parent.parent / "data" / "seed_snapshot_variables.tsv"
SMALL_WIDTHS = (64, 8, 8, 8)
SMALL_FILTERS = 8
SMALL_PRESET = "base: coco_r50_256x192_tf\ninput_size_wh: [32, 32]\nmodel: {deconv_filters: 8}\n"
_SMALLER = {
    "resnet_v1_50/block2": {128: 8, 512: 32},
    "resnet_v1_50/block3": {512: 32, 256: 8, 1024: 32},
    "up1": {2048: 32, 256: 8},
    "up2": {256: 8},
    "up3": {256: 8},
    "out": {256: 8},
}
"""Channels in a scope -> channels in the small network; block 1 stays as wide as every ResNet's."""


def listed_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each variable; all are float32."""
    with LIST.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 625 and {row["dtype"] for row in rows} == {"float32"}
    return {
        row["name"]: ()
        if row["shape"] == "scalar"
        else tuple(int(size) for size in row["shape"].split("x"))
        for row in rows
    }


def small_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same variable in the small network; kernels, colours and keypoints keep their sizes."""
    if name.startswith("resnet_v1_50/block4"):
        first = "unit_1/" in name and ("/shortcut/weights" in name or "/conv1/weights" in name)
        smaller = {512: 8, 2048: 32, **({1024: 32} if first else {})}
    else:
        smaller = next((table for scope, table in _SMALLER.items() if name.startswith(scope)), {})
    kernel, channels = (shape[:2], shape[2:]) if len(shape) == 4 else ((), shape)
    return (*kernel, *(smaller.get(size, size) for size in channels))


def powers(updates: int) -> tuple[np.float32, np.float32]:
    """beta1_power and beta2_power after so many updates, multiplied one by one as in TensorFlow."""
    first, second = np.float32(0.9), np.float32(0.999)
    found = first, second
    with np.errstate(under="ignore"):
        for _ in range(updates):
            found = found[0] * first, found[1] * second
    tiny = np.finfo(np.float32).smallest_normal
    return tuple(value if value >= tiny else np.float32(0) for value in found)


def small_snapshot(
    updates: int, learning_rate: float, *, spread: float = 0
) -> dict[str, np.ndarray]:
    """Every listed variable with few channels.

    Args:
        updates: that Adam has made.
        learning_rate: of the last of them.
        spread: gradients, and so m and the root of v, are of sizes between 1e-3 and 1e-3 - `spread`
            powers of ten, so that Adam's epsilon acts on some of them.
    """
    rng = np.random.default_rng(625)
    out: dict[str, np.ndarray] = {}
    for name, listed in listed_shapes().items():
        shape = small_shape(name, listed)
        size = 10 ** (-3 - spread * np.random.default_rng(7).uniform(0, 1, shape))
        if name.endswith("/Adam"):
            values = rng.normal(size=shape) * size
        elif name.endswith("/Adam_1"):
            values = rng.uniform(0.5, 2, shape) * size**2
        elif name.endswith(("gamma", "moving_variance")):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("/weights"):
            values = rng.normal(size=shape) / np.sqrt(np.prod(shape[:3]))
        else:
            values = rng.normal(size=shape) * 0.1
        out[name] = values.astype(np.float32)
    first, second = powers(updates)
    scalars = {"beta1_power": first, "beta2_power": second, "Variable": np.float32(learning_rate)}
    return out | {name: np.array(value, np.float32) for name, value in scalars.items()}


def torch_names() -> dict[str, str]:
    """The seed's name of each variable of the network -> ours, written after slim's scheme."""
    names: dict[str, str] = {}

    def layer(theirs: str, kernel: str, norm: str) -> None:
        names[f"{theirs}/weights"] = f"{kernel}.weight"
        pairs = zip(
            ("gamma", "beta", "moving_mean", "moving_variance"),
            ("weight", "bias", "running_mean", "running_var"),
            strict=True,
        )
        names.update({f"{theirs}/BatchNorm/{one}": f"{norm}.{other}" for one, other in pairs})

    layer("resnet_v1_50/conv1", "backbone.conv1", "backbone.bn1")
    for block, units in enumerate((3, 4, 6, 3), start=1):
        for unit in range(units):
            theirs = f"resnet_v1_50/block{block}/unit_{unit + 1}/bottleneck_v1"
            ours = f"backbone.layer{block}.{unit}"
            for number in (1, 2, 3):
                layer(f"{theirs}/conv{number}", f"{ours}.conv{number}", f"{ours}.bn{number}")
            if unit == 0:
                layer(f"{theirs}/shortcut", f"{ours}.downsample.0", f"{ours}.downsample.1")
    for number in range(3):
        layer(f"up{number + 1}", f"deconv_layers.{3 * number}", f"deconv_layers.{3 * number + 1}")
    return names | {"out/weights": "final_layer.weight", "out/biases": "final_layer.bias"}


def as_torch(array: np.ndarray) -> np.ndarray:
    """A kernel with torch's order of axes; everything else as it is."""
    return np.einsum("hwio->oihw", array) if array.ndim == 4 else array


class TensorFlowAdam:
    """tf.train.AdamOptimizer, written out in double precision, with the seed's penalty on kernels.

    Kingma and Ba 2015, the form before section 2.1: the corrections stand in the learning rate, and
    epsilon is added to the root of the uncorrected v.
    """

    def __init__(self, snapshot: dict[str, np.ndarray], updates: int) -> None:
        trained = [name for name in torch_names() if f"{name}/Adam" in snapshot]
        self.updates = updates
        self.weights = {name: snapshot[name].astype(np.float64) for name in trained}
        self.m = {name: snapshot[f"{name}/Adam"].astype(np.float64) for name in trained}
        self.v = {name: snapshot[f"{name}/Adam_1"].astype(np.float64) for name in trained}

    def update(self, gradients: dict[str, np.ndarray], learning_rate: float) -> None:
        """One update from gradients of the data's loss, by the seed's names and in its layouts."""
        self.updates += 1
        t = self.updates
        rate = learning_rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for name, weights in self.weights.items():
            gradient = gradients[name].astype(np.float64)
            if name.endswith("/weights"):
                gradient = gradient + 1e-5 * weights
            self.m[name] = 0.9 * self.m[name] + 0.1 * gradient
            self.v[name] = 0.999 * self.v[name] + 0.001 * gradient**2
            self.weights[name] = weights - rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-8)
