"""A lighter heatmap head: the trunk's stages are narrowed, upsampled and added, finest last (feature pyramid, Lin et al., CVPR 2017).

Three deconvolutions see only the trunk's last, 32 times coarser map. Here each step up also receives what the trunk saw at that
resolution, so fewer multiplications carry more detail, and gradients reach the early stages on a short way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LightHead(nn.Module):
    """Features of the stages, coarsest last -> (B, K, H, W) maps at the resolution of the first."""

    def __init__(self, channels: Sequence[int], filters: int, keypoint_count: int, *, momentum: float, eps: float) -> None:
        """Builds the layers with first values of their own.

        Args:
            channels: of each stage, finest first.
            filters: width of the head.
            keypoint_count: K.
            momentum: of the batch norms.
            eps: of the batch norms.
        """
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, filters, 1, bias=False), nn.BatchNorm2d(filters, eps=eps, momentum=momentum))
            for count in channels
        )
        self.mixes = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(filters, filters, 3, padding=1, bias=False),
                nn.BatchNorm2d(filters, eps=eps, momentum=momentum),
                nn.ReLU(inplace=True),
            )
            for _ in channels[:-1]
        )
        self.output = nn.Conv2d(filters, keypoint_count, 1)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Kaiming normal; the output begins near zero, so that every map begins flat."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.output.weight, std=0.001)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = functional.relu(self.laterals[-1](features[-1]))
        for stage in range(len(features) - 2, -1, -1):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.mixes[stage](functional.relu(x + self.laterals[stage](features[stage])))
        return self.output(x)
