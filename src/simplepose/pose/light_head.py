"""Lighter heatmap heads: the backbone's features are narrowed, upsampled and added, finest last.

A feature pyramid (Lin et al., CVPR 2017). Three deconvolutions see only the backbone's last map, 32
times coarser. Here each step up also receives what the backbone saw at that resolution, so fewer
multiplications carry more detail, and gradients reach the early stages on a short way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LightHead(nn.Module):
    """Features of the stages, coarsest last -> (B, K, H, W) maps at the resolution of the first."""

    def __init__(
        self,
        channels: Sequence[int],
        filters: int,
        keypoint_count: int,
        *,
        depthwise: bool,
        momentum: float,
        eps: float,
    ) -> None:
        """Builds the layers with an initialisation of their own.

        Args:
            channels: of each stage, finest first.
            filters: width of the head.
            keypoint_count: K.
            depthwise: after each step up a depthwise 5x5 and a 1x1 convolution, not a full 3x3.
            momentum: of the batch norms.
            eps: of the batch norms.
        """
        super().__init__()

        def mix() -> nn.Sequential:
            convolutions = (
                [
                    nn.Conv2d(filters, filters, 5, padding=2, groups=filters, bias=False),
                    nn.Conv2d(filters, filters, 1, bias=False),
                ]
                if depthwise
                else [nn.Conv2d(filters, filters, 3, padding=1, bias=False)]
            )
            layers: list[nn.Module] = []
            for convolution in convolutions:
                norm = nn.BatchNorm2d(filters, eps=eps, momentum=momentum)
                layers += [convolution, norm, nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, filters, 1, bias=False),
                nn.BatchNorm2d(filters, eps=eps, momentum=momentum),
            )
            for count in channels
        )
        self.mixes = nn.ModuleList(mix() for _ in channels[:-1])
        self.output = nn.Conv2d(filters, keypoint_count, 1)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Kaiming normal over the fan out; the output begins near zero: flat maps."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[:, 0].numel() / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2) / math.sqrt(fan_out))
        nn.init.normal_(self.output.weight, std=0.001)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = functional.relu(self.laterals[-1](features[-1]))
        for stage in range(len(features) - 2, -1, -1):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.mixes[stage](functional.relu(x + self.laterals[stage](features[stage])))
        return self.output(x)
