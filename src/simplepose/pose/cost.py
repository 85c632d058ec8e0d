"""What a network costs: parameters, and multiply-adds of one picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def count_cost(network: nn.Module, input_size_wh: tuple[int, int]) -> tuple[int, int]:
    """Counts parameters and multiply-adds of one picture; nothing is computed, the shapes are traced on the `meta` device.

    Only convolutions and linear layers count, as the papers do. A deconvolution multiplies each input pixel by its whole kernel; batch
    norms can be folded into the convolutions and cost nothing.

    Args:
        network: any network of Conv2d and ConvTranspose2d layers that takes (B, 3, H, W); left as it is.
        input_size_wh: width and height of the input.

    Returns:
        Number of parameters, and multiply-adds (MAC) of one forward pass of one picture.
    """
    macs = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.ConvTranspose2d):
            macs += inputs[0].shape[2] * inputs[0].shape[3] * layer.weight.numel()
        elif isinstance(layer, nn.Conv2d):
            macs += output.shape[2] * output.shape[3] * layer.weight.numel()
        else:
            macs += inputs[0].shape[1] * layer.weight.numel()  # type: ignore[operator]

    layers = [
        module
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]
    handles = [layer.register_forward_hook(add) for layer in layers]
    was_training = network.training
    network.eval()
    on_meta = {
        name: tensor.to("meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    width, height = input_size_wh
    try:
        torch.func.functional_call(
            network, on_meta, (torch.empty(1, 3, height, width, device="meta"),)
        )
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    return sum(parameter.numel() for parameter in network.parameters()), macs
