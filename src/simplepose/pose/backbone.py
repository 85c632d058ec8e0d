"""The backbones: ResNets and EfficientNet-Lite0 without their classification layers.

ResNet: He et al., CVPR 2016, table 1. Parameters carry torchvision's names (`conv1`, `bn1`,
`layer1.0.conv1`, `layer2.0.downsample.0`), so its files load as they are.

EfficientNet-Lite0: Tan and Le, ICML 2019, table 1, in the authors' "lite" form, which drops
squeeze-and-excitation, replaces swish by ReLU6 and keeps the stem at 32 channels. Strides pad
symmetrically, where TensorFlow pads more below and on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from simplepose.config import ModelConfig, StrideStyle
from simplepose.core.errors import UserError

Norm = Callable[[int], nn.BatchNorm2d]
"""Makes the batch norm of so many channels."""
RESNET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Depth -> residual blocks of each of the four stages."""
STAGE_WIDTHS = (64, 128, 256, 512)
LITE_BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride, expansion, channels and repeats of each row of the paper's table."""
LITE_STEM = 32
"""Channels before the first row."""
TITLES = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
"""How people call them, for messages."""


_LITE_NORM = partial(nn.BatchNorm2d, eps=1e-3)
"""What EfficientNet-Lite0's published weights were trained with."""


def make_backbone(config: ModelConfig) -> Backbone:
    """Builds the backbone of a network with PyTorch's own initialisation.

    Raises:
        UserError: a stride style that this ResNet cannot have.
    """
    norm = partial(nn.BatchNorm2d, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
    if config.backbone == "efficientnet_lite0":
        return EfficientNetLite0(norm)
    depth = int(config.backbone.removeprefix("resnet"))
    return ResNet(depth, norm, width=config.width, stride_style=config.stride_style)


def convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Without bias, as a batch norm follows; an odd kernel keeps the size or divides it exactly."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )


class Backbone(nn.Module):
    """(B, 3, H, W) normalised float pictures -> features at strides 4, 8, 16 and 32."""

    channels: tuple[int, ...]
    """Of each of the four features, finest first."""

    def stages(self) -> list[list[nn.Module]]:
        """The modules that make each of the four features out of the one before."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, `channels[i]`, H / s, W / s) for s in 4, 8, 16, 32."""
        features = []
        for stage in self.stages():
            for module in stage:
                x = module(x)
            features.append(x)
        return features

    @torch.no_grad()
    def zero_last_gammas(self) -> None:
        """Sets the last batch-norm gamma of every block with a shortcut to 0.

        Each block then begins as its shortcut (Goyal et al. 2017, section 5.1).
        """
        for block in self.modules():
            if name := getattr(block, "last_gamma", ""):
                nn.init.zeros_(block.get_parameter(name))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a bottleneck: 1x1, 3x3 and 1x1 to four times the width.

    (B, C_in, H, W) -> (B, `out_channels`, H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        strides: tuple[int, int],
        norm: Norm,
        *,
        bottleneck: bool,
    ) -> None:
        super().__init__()
        self.out_channels = 4 * width if bottleneck else width
        kernel = 1 if bottleneck else 3
        self.conv1, self.bn1 = convolution(in_channels, width, kernel, strides[0]), norm(width)
        self.conv2, self.bn2 = convolution(width, width, 3, strides[1]), norm(width)
        self.last_gamma = "bn2.weight"
        if bottleneck:
            self.conv3, self.bn3 = convolution(width, 4 * width, 1), norm(4 * width)
            self.last_gamma = "bn3.weight"
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        # the paper's option B: a projection where size or channels change
        if max(strides) > 1 or in_channels != self.out_channels:
            projection = convolution(in_channels, self.out_channels, 1, max(strides))
            self.downsample = nn.Sequential(projection, norm(self.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.last_gamma == "bn3.weight":
            x = self.bn3(self.conv3(self.relu(x)))
        x = self.relu(x + shortcut)
        return x


class ResNet(Backbone):
    """ResNets of depth 18, 34, 50, 101 and 152."""

    def __init__(
        self,
        depth: int,
        norm: Norm = nn.BatchNorm2d,
        *,
        width: int = 64,
        stride_style: StrideStyle = "3x3",
    ) -> None:
        """Builds the layers with PyTorch's own initialisation.

        Args:
            depth: one of `RESNET_BLOCKS`.
            norm: makes the batch norms.
            width: channels of the first stage: 64 in every published ResNet.
            stride_style: `3x3` (torchvision, the seed) or `1x1` (caffe; bottlenecks only): the
                convolution that halves the map.

        Raises:
            UserError: a 1x1 convolution is to halve the map where there is none.
        """
        super().__init__()
        bottleneck = depth >= 50
        if stride_style == "1x1" and not bottleneck:
            raise UserError(
                f"ResNet-{depth} has no 1x1 convolution to put the stride on. "
                "Cure: use stride style 3x3, or depth 50, 101 or 152"
            )
        self.conv1, self.bn1 = convolution(3, width, 7, 2), norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        halving = (1, 2) if stride_style == "3x3" and bottleneck else (2, 1)
        widths = [at_64 * width // 64 for at_64 in STAGE_WIDTHS]
        self.channels = tuple(4 * one if bottleneck else one for one in widths)
        in_channels, stages = width, list[nn.Sequential]()
        for channels, count in zip(widths, RESNET_BLOCKS[depth], strict=True):
            stage = nn.Sequential()
            for index in range(count):
                strides = halving if stages and index == 0 else (1, 1)
                block = ResidualBlock(in_channels, channels, strides, norm, bottleneck=bottleneck)
                in_channels = block.out_channels
                stage.append(block)
            stages.append(stage)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def stages(self) -> list[list[nn.Module]]:
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [[*stem, self.layer1], [self.layer2], [self.layer3], [self.layer4]]


class InvertedResidual(nn.Module):
    """1x1 up, depthwise k x k, 1x1 down; a shortcut where size and channels stay."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = nn.Sequential(
                convolution(in_channels, wide, 1), norm(wide), nn.ReLU6(inplace=True)
            )
        self.depthwise = nn.Sequential(
            convolution(wide, wide, kernel, stride, wide), norm(wide), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(convolution(wide, channels, 1), norm(channels))
        has_shortcut = stride == 1 and in_channels == channels
        self.last_gamma = "project.1.weight" if has_shortcut else ""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.last_gamma else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0."""

    channels = (24, 40, 112, 320)

    def __init__(self, norm: Norm = _LITE_NORM) -> None:
        """Builds the layers with PyTorch's own initialisation; `norm` makes the batch norms."""
        super().__init__()
        self.stem = nn.Sequential(
            convolution(3, LITE_STEM, 3, 2), norm(LITE_STEM), nn.ReLU6(inplace=True)
        )
        self.blocks = nn.ModuleList()
        before = LITE_STEM
        for kernel, step, expansion, channels, repeats in LITE_BLOCKS:
            for stride in (step, *[1] * (repeats - 1)):
                block = InvertedResidual(before, channels, kernel, stride, expansion, norm)
                self.blocks.append(block)
                before = channels

    def stages(self) -> list[list[nn.Module]]:
        # rows 1 and 2 of the table, row 3, rows 4 and 5, rows 6 and 7
        ends = (3, 5, 11, 16)
        rows = [list(self.blocks[a:b]) for a, b in zip((0, *ends), ends, strict=False)]
        return [[self.stem, *rows[0]], *rows[1:]]
