"""What a network costs."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode


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
