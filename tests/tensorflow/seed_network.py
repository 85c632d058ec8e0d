"""The seed's network in plain TensorFlow 1 operations under slim's names. Runs in TensorFlow's own environment, without simplepose.

    python seed_network.py FOLDER

writes `v1.ckpt` (V1), `v2.ckpt` (V2), and `expected.npz`: every variable, an input and TensorFlow's heatmaps for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.disable_eager_execution()

BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, units, stride of the first unit
NORM_EPSILON = 1.001e-5  # what the fused kernel makes of the seed's 1e-9
random = np.random.default_rng(140)


def variable(name: str, shape: tuple[int, ...], low: float | None = None, high: float = 0.0) -> tf.Tensor:
    """He-scaled normal values, or uniform ones between `low` and `high`."""
    fan_in = int(np.prod(shape[:-1]))
    values = random.normal(size=shape) * np.sqrt(2 / fan_in) if low is None else random.uniform(low, high, shape)
    return tf1.get_variable(name, initializer=values.astype(np.float32), use_resource=False)


def norm(x: tf.Tensor, relu: bool) -> tf.Tensor:
    size = (int(x.shape[-1]),)
    with tf1.variable_scope("BatchNorm"):
        gamma, beta = variable("gamma", size, 0.4, 0.9), variable("beta", size, -0.2, 0.2)
        mean, variance = variable("moving_mean", size, -0.2, 0.2), variable("moving_variance", size, 0.5, 1.5)
    x, _, _ = tf1.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=NORM_EPSILON, is_training=False)
    return tf.nn.relu(x) if relu else x


def conv(x: tf.Tensor, name: str, width: int, kernel: int, stride: int = 1, relu: bool = True) -> tf.Tensor:
    """Convolution with explicit symmetric padding, then batch norm."""
    with tf1.variable_scope(name):
        weights = variable("weights", (kernel, kernel, int(x.shape[-1]), width))
        side = (kernel - 1) // 2
        x = tf.pad(x, [[0, 0], [side, side], [side, side], [0, 0]])
        return norm(tf.nn.conv2d(x, weights, strides=stride, padding="VALID"), relu)


def unit(x: tf.Tensor, width: int, stride: int) -> tf.Tensor:
    with tf1.variable_scope("bottleneck_v1"):
        shortcut = x if int(x.shape[-1]) == 4 * width else conv(x, "shortcut", 4 * width, 1, stride, relu=False)
        y = conv(x, "conv1", width, 1)
        y = conv(y, "conv2", width, 3, stride)
        return tf.nn.relu(conv(y, "conv3", 4 * width, 1, relu=False) + shortcut)


def up(x: tf.Tensor, name: str) -> tf.Tensor:
    with tf1.variable_scope(name):
        weights = variable("weights", (4, 4, 256, int(x.shape[-1])))
        shape = (1, int(x.shape[1]) * 2, int(x.shape[2]) * 2, 256)
        return norm(tf1.nn.conv2d_transpose(x, weights, shape, strides=[1, 2, 2, 1], padding="SAME"), relu=True)


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


def main(folder: Path) -> None:
    image = tf1.placeholder(tf.float32, (1, 256, 192, 3))
    heatmaps = network(image)
    model = tf1.global_variables()
    tf1.train.AdamOptimizer(5e-4).minimize(  # its slots are in the seed's snapshots too
        tf.reduce_mean(heatmaps**2),
        var_list=[v for v in model if "moving" not in v.name][:3],
        global_step=tf1.train.get_or_create_global_step(),
    )
    pixels = random.uniform(-120, 150, (1, 256, 192, 3)).astype(np.float32)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        values = session.run({v.op.name: v for v in tf1.global_variables()})
        expected = session.run(heatmaps, {image: pixels})
        for name, version in (("v1", tf1.train.SaverDef.V1), ("v2", tf1.train.SaverDef.V2)):
            tf1.train.Saver(write_version=version).save(session, str(folder / f"{name}.ckpt"), write_meta_graph=False)
    np.savez(folder / "expected.npz", __pixels=pixels, __heatmaps=expected, **{n.replace("/", "|"): v for n, v in values.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
