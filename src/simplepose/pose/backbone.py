"""ResNet backbones of depth 18, 34, 50, 101 and 152 without their classification layer (He et al., CVPR 2016, table 1).

Parameters carry torchvision's names (`conv1`, `bn1`, `layer1.0.conv1`, ..., `layer2.0.downsample.0`), so its files load as they are.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from simplepose.config import StrideStyle
from simplepose.core.errors import UserError

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
DEPTHS = tuple(_BLOCKS)
STAGE_WIDTHS = (64, 128, 256, 512)


def blocks_of_depth(depth: int) -> tuple[int, int, int, int]:
    """How many residual blocks each of the four stages of a ResNet has.

    Raises:
        UserError: there is no such depth.
    """
    if depth not in _BLOCKS:
        raise UserError(
            f"there is no ResNet of depth {depth}. Cure: choose one of {', '.join(map(str, DEPTHS))}"
        )
    return _BLOCKS[depth]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, C_in, H, W) -> (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        stride_style: str,
        momentum: float,
        eps: float,
    ) -> None:
        super().__init__()
        del stride_style  # a block of 3x3 convolutions has no choice
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps, momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps, momentum=momentum)
        self.downsample = _shortcut(in_channels, width, stride, momentum, eps)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut: (B, C_in, H, W) -> (B, 4 width, H / stride, W / stride)."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        stride_style: str,
        momentum: float,
        eps: float,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_style == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps, momentum=momentum)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps, momentum=momentum)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width, eps=eps, momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, stride, momentum, eps)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(
    in_channels: int, out_channels: int, stride: int, momentum: float, eps: float
) -> nn.Sequential | None:
    """The projection beside a block that changes size or channels (option B of the paper); None for the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum),
    )


class ResNet(nn.Module):
    """A backbone: (B, 3, H, W) normalised float pictures -> features at strides 4, 8, 16 and 32."""

    def __init__(
        self,
        depth: int,
        *,
        width: int = 64,
        stride_style: str = "3x3",
        batch_norm_momentum: float = 0.1,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        """Builds the layers with PyTorch's own initial values.

        Args:
            depth: 18, 34, 50, 101 or 152.
            width: channels of the first stage: 64 in every published ResNet.
            stride_style: `3x3` (torchvision, the seed) or `1x1` (caffe; bottlenecks only).
            batch_norm_momentum: share of the newest batch in the running statistics (one minus TensorFlow's decay).
            batch_norm_eps: added to the variance.

        Raises:
            UserError: an unknown depth or style.
        """
        super().__init__()
        counts = blocks_of_depth(depth)
        if stride_style not in get_args(StrideStyle):
            raise UserError(
                f"stride style {stride_style!r} is unknown. Cure: choose one of {', '.join(get_args(StrideStyle))}"
            )
        if stride_style == "1x1" and depth < 50:
            raise UserError(
                f"ResNet-{depth} has no 1x1 convolution to put the stride on. Cure: use stride style 3x3, or depth 50, 101 or 152"
            )
        block = Bottleneck if depth >= 50 else BasicBlock
        self.depth = depth
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=batch_norm_eps, momentum=batch_norm_momentum)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        in_channels = width
        stages, widths = [], []
        for index, (at_64, count) in enumerate(zip(STAGE_WIDTHS, counts, strict=True)):
            channels = at_64 * width // 64
            blocks = []
            for place in range(count):
                stride = 2 if index > 0 and place == 0 else 1
                blocks.append(
                    block(
                        in_channels,
                        channels,
                        stride,
                        stride_style,
                        batch_norm_momentum,
                        batch_norm_eps,
                    )
                )
                in_channels = channels * block.expansion
            stages.append(nn.Sequential(*blocks))
            widths.append(in_channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, `channels[i]`, H / s, W / s) for s in 4, 8, 16, 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return [x := stage(x) for stage in (self.layer1, self.layer2, self.layer3, self.layer4)]

    def stages(self) -> list[list[nn.Module]]:
        """The modules that make each of the four features out of the one before."""
        return [[self.conv1, self.bn1, self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    @torch.no_grad()
    def zero_last_gammas(self) -> None:
        """Sets the last batch-norm gamma of every block to 0: each block starts as its shortcut (Goyal et al. 2017, section 5.1)."""
        for module in self.modules():
            if isinstance(module, Bottleneck):
                module.bn3.weight.zero_()
            elif isinstance(module, BasicBlock):
                module.bn2.weight.zero_()
