"""Training for int8: convolutions see what 8 bits leave of their inputs and weights.

Ranges are `simplepose export`'s: one symmetric scale a channel for weights, one range a tensor for
what goes in, here that of the batch. Gradients pass as if nothing was rounded (the straight-through
estimator; Jacob et al., CVPR 2018). Weights stay float and keep their names, so the checkpoint is
an ordinary one, which is then exported to int8 as any other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOAT_TAIL = 2
"""So many of the convolutions that a network lists last are not rounded. An export keeps as many in
float, or more, of those that run last."""


class RoundedConvolution(nn.Conv2d):
    """A convolution that rounds in training and is exact in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if not self.training:
            return super().forward(x)
        return self._conv_forward(rounded_inputs(x), rounded_weights(self.weight), self.bias)


def round_in_training(network: nn.Module) -> None:
    """Makes the convolutions of a network `RoundedConvolution`s in place, but for the last ones and
    the visibility head, which stands behind them."""
    parts = [part for name, part in network.named_children() if name != "visibility"]
    convolutions = [one for part in parts for one in part.modules() if type(one) is nn.Conv2d]
    for one in convolutions[:-FLOAT_TAIL]:
        one.__class__ = RoundedConvolution


def rounded_weights(weight: Tensor) -> Tensor:
    """(C', C, h, w) to 255 values a channel, symmetric about 0."""
    scale = weight.detach().abs().amax((1, 2, 3)).clamp(min=1e-9) / 127
    zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)


def rounded_inputs(x: Tensor) -> Tensor:
    """A tensor to 256 values between its least and its largest, of which 0 is one; float32."""
    values = x.float()
    low, high = values.detach().aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-9)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)
