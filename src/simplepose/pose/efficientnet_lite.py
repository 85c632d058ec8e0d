"""EfficientNet-Lite0 without its classifier (Tan and Le, ICML 2019, table 1; the authors' "lite").

The lite variant drops squeeze-and-excitation, replaces swish by ReLU6 and keeps the stem at 32
channels. Strides pad symmetrically, where TensorFlow pads more below and on the right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride, expansion, channels and repeats of each row of the paper's table."""
STEM_CHANNELS = 32


def _norm(channels: int, momentum: float, eps: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


class InvertedResidual(nn.Module):
    """1x1 up, depthwise k x k, 1x1 down; a shortcut where size and channels stay."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        momentum: float,
        eps: float,
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == channels
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = nn.Sequential(
                nn.Conv2d(in_channels, wide, 1, bias=False),
                _norm(wide, momentum, eps),
                nn.ReLU6(inplace=True),
            )
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            _norm(wide, momentum, eps),
            nn.ReLU6(inplace=True),
        )
        self.project = nn.Sequential(
            nn.Conv2d(wide, channels, 1, bias=False), _norm(channels, momentum, eps)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """A backbone: (B, 3, H, W) normalised float -> features at strides 4, 8, 16 and 32."""

    channels = (24, 40, 112, 320)
    """Of the features at strides 4, 8, 16 and 32."""

    def __init__(self, *, batch_norm_momentum: float = 0.1, batch_norm_eps: float = 1e-3) -> None:
        """Builds the layers with PyTorch's own initialisation.

        Args:
            batch_norm_momentum: part of the newest batch in the running statistics.
            batch_norm_eps: added to the variance; the published weights were trained with 1e-3.
        """
        super().__init__()
        momentum, eps = batch_norm_momentum, batch_norm_eps
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, 2, padding=1, bias=False),
            _norm(STEM_CHANNELS, momentum, eps),
            nn.ReLU6(inplace=True),
        )
        blocks: list[InvertedResidual] = []
        in_channels, stride, ends = STEM_CHANNELS, 2, {}
        for kernel, step, expansion, channels, repeats in BLOCKS:
            for repeat in range(repeats):
                blocks.append(
                    InvertedResidual(
                        in_channels,
                        channels,
                        kernel=kernel,
                        stride=step if repeat == 0 else 1,
                        expansion=expansion,
                        momentum=momentum,
                        eps=eps,
                    )
                )
                in_channels = channels
            stride *= step
            ends[stride] = len(blocks) - 1
        self.blocks = nn.ModuleList(blocks)
        self._feature_blocks = tuple(ends[stride] for stride in (4, 8, 16, 32))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, `channels[i]`, H / s, W / s) for s in 4, 8, 16, 32."""
        x = self.stem(x)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._feature_blocks:
                features.append(x)
        return features

    def stages(self) -> list[list[nn.Module]]:
        """The modules that make each of the four features out of the one before."""
        ends = [index + 1 for index in self._feature_blocks]
        starts = [0, *ends[:-1]]
        stages = [list(self.blocks[start:end]) for start, end in zip(starts, ends, strict=True)]
        return [[self.stem, *stages[0]], *stages[1:]]

    @torch.no_grad()
    def zero_last_gammas(self) -> None:
        """Sets the last gamma of every block with a shortcut to 0: it begins as that."""
        for block in self.modules():
            if isinstance(block, InvertedResidual) and block.has_shortcut:
                for norm in block.project:
                    if isinstance(norm, nn.BatchNorm2d):
                        norm.weight.zero_()
