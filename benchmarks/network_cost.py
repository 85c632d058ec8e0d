"""Parameters and multiply-adds of the paper's ablation, the part that needs no training (Xiao et al., ECCV 2018, tables 1 and 2).

    python benchmarks/network_cost.py [--output cost.json]

Nothing is computed: shapes are traced on torch's `meta` device.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import asdict

import torch
from torch.utils.flop_counter import FlopCounterMode

from simplepose.config import ModelConfig
from simplepose.core.files import write_json
from simplepose.pose.network import PoseNetwork

KEYPOINTS = 17
LITE = ModelConfig(backbone="efficientnet_lite0", head="heatmap_depthwise", deconv_filters=128)
SIZES_WH = ((192, 256), (288, 384))
VARIANTS = (
    [(f"ResNet-{depth}", ModelConfig(backbone=f"resnet{depth}")) for depth in (50, 101, 152)]
    + [("ResNet-50, 2 deconvolutions", ModelConfig(deconv_layers=2))]
    + [(f"ResNet-50, kernel {kernel}", ModelConfig(deconv_kernel=kernel)) for kernel in (2, 3)]
    + [
        (f"ResNet-50, {filters} filters", ModelConfig(deconv_filters=filters))
        for filters in (64, 128)
    ]
    + [
        ("ResNet-50, 3x3 output", ModelConfig(output_kernel=3)),
        ("ResNet-50, stride in the 1x1", ModelConfig(stride_style="1x1")),
    ]
    + [(f"ResNet-{depth}", ModelConfig(backbone=f"resnet{depth}")) for depth in (18, 34)]
    + [("EfficientNet-Lite0, depthwise head of 128", LITE)]
)


def count_cost(network: torch.nn.Module, input_size_wh: tuple[int, int]) -> tuple[int, int]:
    """Parameters, and multiply-adds (MAC) of one picture.

    Only convolutions and linear layers count, as in the papers; batch norms can be folded into
    convolutions. Nothing is computed: shapes are traced on the `meta` device.
    """
    shape, (width, height) = copy.deepcopy(network).to("meta").eval(), input_size_wh
    with FlopCounterMode(display=False) as counter:
        shape(torch.empty(1, 3, height, width, device="meta"))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, counter.get_total_flops() // 2


def rows() -> list[dict]:
    """One row a variant and input size."""
    found = []
    for name, config in VARIANTS:
        with torch.device("meta"):
            network = PoseNetwork(config, KEYPOINTS)
        for width, height in SIZES_WH:
            parameters, macs = count_cost(network, (width, height))
            heatmap_wh = (width // config.heatmap_stride, height // config.heatmap_stride)
            found.append(
                {
                    "variant": name,
                    "input_size_wh": (width, height),
                    "heatmap_size_wh": heatmap_wh,
                    "parameters": parameters,
                    "macs": macs,
                    "config": asdict(config),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Parameters and multiply-adds of the paper's ablation table."
    )
    parser.add_argument("--output", help="write the rows to this JSON file")
    options = parser.parse_args()
    found = rows()
    print(
        "| network | layers x kernel, filters | input (h x w) | heatmap | parameters (M) | GMAC |\n|---|---|---|---|---|---|"
    )
    for row in found:
        config, (width, height), (map_width, map_height) = (
            row["config"],
            row["input_size_wh"],
            row["heatmap_size_wh"],
        )
        head = f"{config['deconv_layers']} x {config['deconv_kernel']}, {config['deconv_filters']}"
        cost = f"{row['parameters'] / 1e6:.1f} | {row['macs'] / 1e9:.2f}"
        print(
            f"| {row['variant']} | {head} | {height}x{width} | {map_height}x{map_width} | {cost} |"
        )
    if options.output:
        write_json(
            options.output,
            {"benchmark": "network_cost", "keypoint_count": KEYPOINTS, "rows": found},
            indent=True,
        )


if __name__ == "__main__":
    main()
