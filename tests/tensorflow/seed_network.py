"""The seed's network in plain TensorFlow 1 operations, with exactly the seed's variables.

Runs in TensorFlow's own environment, without simplepose: python seed_network.py FOLDER

The variables are compared with `tests/data/seed_snapshot_variables.tsv`, one by one: no name, type
or shape may be missing or invented. FOLDER then holds

* `early/`: after three updates of a new Adam, `late/`: with m, v and the powers of an Adam that has
  made 100 epochs of updates;
* in each, `v1/snapshot_N.ckpt` and `v2/snapshot_N.ckpt`, the same variables in both formats, and
  `before.npz` (every variable), `gradients.npz` (of the data's loss alone, by the variable's name)
  and `after.npz` (every variable after the one update that these gradients make);
* `heatmaps.npz`: an input and TensorFlow's heatmaps for it, with the early weights;
* `partitioned.ckpt`: a V1 checkpoint of one variable that TensorFlow has cut into parts.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.disable_eager_execution()

LIST = Path(__file__).resolve().parent.parent / "data" / "seed_snapshot_variables.tsv"
BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, units, stride of the first
NORM_EPSILON = 1.001e-5  # what the fused kernel makes of the seed's 1e-9
WEIGHT_DECAY = 1e-5
random = np.random.default_rng(140)


def variable(name: str, shape: tuple[int, ...], low: float | None = None, high: float = 0.0) -> Any:
    """He-scaled normal values, or uniform ones between `low` and `high`."""
    if low is None:
        values = random.normal(size=shape) * np.sqrt(2 / int(np.prod(shape[:-1])))
    else:
        values = random.uniform(low, high, shape)
    trainable = not name.startswith("moving")
    return tf1.get_variable(
        name, initializer=values.astype(np.float32), use_resource=False, trainable=trainable
    )


def norm(x: tf.Tensor, relu: bool) -> tf.Tensor:
    size = (int(x.shape[-1]),)
    with tf1.variable_scope("BatchNorm"):
        gamma, beta = variable("gamma", size, 0.4, 0.9), variable("beta", size, -0.2, 0.2)
        mean = variable("moving_mean", size, -0.2, 0.2)
        variance = variable("moving_variance", size, 0.5, 1.5)
    x, _, _ = tf1.nn.fused_batch_norm(
        x, gamma, beta, mean, variance, epsilon=NORM_EPSILON, is_training=False
    )
    return tf.nn.relu(x) if relu else x


def conv(
    x: tf.Tensor, name: str, width: int, kernel: int, stride: int = 1, relu: bool = True
) -> tf.Tensor:
    """Convolution with explicit symmetric padding, then batch norm."""
    with tf1.variable_scope(name):
        weights = variable("weights", (kernel, kernel, int(x.shape[-1]), width))
        side = (kernel - 1) // 2
        x = tf.pad(x, [[0, 0], [side, side], [side, side], [0, 0]])
        return norm(tf.nn.conv2d(x, weights, strides=stride, padding="VALID"), relu)


def unit(x: tf.Tensor, width: int, stride: int) -> tf.Tensor:
    with tf1.variable_scope("bottleneck_v1"):
        shortcut = x
        if int(x.shape[-1]) != 4 * width:
            shortcut = conv(x, "shortcut", 4 * width, 1, stride, relu=False)
        y = conv(x, "conv1", width, 1)
        y = conv(y, "conv2", width, 3, stride)
        return tf.nn.relu(conv(y, "conv3", 4 * width, 1, relu=False) + shortcut)


def up(x: tf.Tensor, name: str) -> tf.Tensor:
    with tf1.variable_scope(name):
        weights = variable("weights", (4, 4, 256, int(x.shape[-1])))
        shape = (1, int(x.shape[1]) * 2, int(x.shape[2]) * 2, 256)
        x = tf1.nn.conv2d_transpose(x, weights, shape, strides=[1, 2, 2, 1], padding="SAME")
        return norm(x, relu=True)


def network(x: tf.Tensor) -> tf.Tensor:
    """(1, 256, 192, 3) -> (1, 64, 48, 17)."""
    with tf1.variable_scope("resnet_v1_50"):
        x = conv(x, "conv1", 64, 7, 2)
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        for block, (width, units, stride) in enumerate(BLOCKS, start=1):
            for number in range(1, units + 1):
                with tf1.variable_scope(f"block{block}/unit_{number}"):
                    x = unit(x, width, stride if number == 1 else 1)
    for number in (1, 2, 3):
        x = up(x, f"up{number}")
    with tf1.variable_scope("out"):
        weights, biases = variable("weights", (1, 1, 256, 17)), variable("biases", (17,), -1, 1)
        return tf.nn.conv2d(x, weights, strides=1, padding="VALID") + biases


def require_list(variables: list[Any]) -> None:
    """The graph's variables are those of a real snapshot of the seed, one for one."""
    with LIST.open(encoding="utf-8") as file:
        listed = {tuple(row.values()) for row in csv.DictReader(file, delimiter="\t")}
    ours = {
        (v.op.name, v.dtype.base_dtype.name, "x".join(map(str, v.shape.as_list())) or "scalar")
        for v in variables
    }
    assert ours == listed and len(listed) == 625, sorted(ours ^ listed)[:8]


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(path, **{name.replace("/", "|"): array for name, array in arrays.items()})


def write_partitioned(folder: Path) -> None:
    """One kernel in two parts, as a partitioner makes them."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable(
            "out/weights",
            (1, 1, 256, 16),
            partitioner=tf1.fixed_size_partitioner(2, axis=3),
            use_resource=False,
        )
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        saver.save(session, str(folder / "partitioned.ckpt"), write_meta_graph=False)


def main(folder: Path) -> None:
    image = tf1.placeholder(tf.float32, (1, 256, 192, 3))
    target = tf1.placeholder(tf.float32, (1, 64, 48, 17))
    heatmaps = network(image)
    learning_rate = tf1.Variable(5e-4, trainable=False, use_resource=False)  # "Variable"
    optimizer = tf1.train.AdamOptimizer(learning_rate)
    trained = tf1.trainable_variables()
    gradients = tf.gradients(tf.reduce_mean((heatmaps - target) ** 2), trained)
    decayed = [
        gradient + WEIGHT_DECAY * v if v.op.name.endswith("/weights") else gradient
        for gradient, v in zip(gradients, trained, strict=True)
    ]
    update = optimizer.apply_gradients(list(zip(decayed, trained, strict=True)))
    variables = tf1.global_variables()
    require_list(variables)
    feed = {
        image: random.uniform(-120, 150, (1, 256, 192, 3)).astype(np.float32),
        target: 255 * random.uniform(0, 1, (1, 64, 48, 17)).astype(np.float32) ** 8,
    }
    savers = {
        name: tf1.train.Saver(write_version=version)
        for name, version in (("v1", tf1.train.SaverDef.V1), ("v2", tf1.train.SaverDef.V2))
    }
    with tf1.Session() as session:

        def values() -> dict[str, np.ndarray]:
            return session.run({v.op.name: v for v in variables})

        def record(state: str, epoch: int) -> None:
            """Saves, makes one update, and keeps what was before, in between and after."""
            for name, saver in savers.items():
                (folder / state / name).mkdir(parents=True)
                path = folder / state / name / f"snapshot_{epoch}.ckpt"
                saver.save(session, str(path), write_meta_graph=False)
            write_npz(folder / state / "before.npz", values())
            found, _ = session.run([gradients, update], feed)
            named = {v.op.name: gradient for v, gradient in zip(trained, found, strict=True)}
            write_npz(folder / state / "gradients.npz", named)
            write_npz(folder / state / "after.npz", values())

        session.run(tf1.global_variables_initializer())
        for _ in range(3):
            session.run(update, feed)
        np.savez(folder / "heatmaps.npz", pixels=feed[image], heatmaps=session.run(heatmaps, feed))
        record("early", 3)
        # 468,200 updates later: means of many gradients, underflowed powers, a tenth of the rate
        found = session.run(gradients, feed)
        for v, gradient in zip(trained, found, strict=True):
            size = np.abs(gradient) + 1e-9
            m = 0.2 * size * random.normal(size=size.shape)
            second = size**2 * random.uniform(0.3, 2, size.shape)
            optimizer.get_slot(v, "m").load(m.astype(np.float32), session)
            optimizer.get_slot(v, "v").load(second.astype(np.float32), session)
        for power in optimizer._get_beta_accumulators():
            power.load(np.float32(0), session)
        learning_rate.load(np.float32(5e-5), session)
        record("late", 100)
    write_partitioned(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
