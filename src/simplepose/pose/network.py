"""The network of Simple Baselines: a backbone, two or three deconvolutions, one heatmap a keypoint.

Xiao et al., ECCV 2018, section 2. Parameters carry the names of Microsoft's `pose_resnet`
(`deconv_layers.0`, `final_layer`), those of the backbone after `backbone.` (`backbone.conv1`).
Two other heads can follow the backbone: `LightHead`, and after the deconvolutions `SimCCHead`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from simplepose.config import Initialisation, ModelConfig
from simplepose.core.errors import UserError
from simplepose.pose.backbone import convolution, make_backbone
from simplepose.pose.codec import SPLIT
from simplepose.pose.visibility import VisibilityHead

LIGHT_HEADS = ("heatmap_light", "heatmap_depthwise", "boxes")
CENTER_PRIOR = -2.19
"""Bias of a detector's centres at the beginning: probability .1 everywhere (Objects as Points)."""
_DECONV_PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}
"""kernel -> (padding, output padding): every one doubles the map exactly."""


class PoseNetwork(nn.Module):
    """Backbone and head: (B, 3, H, W) normalised float -> (B, K, H/4, W/4) heatmaps.

    An eighth of the size with two doublings; logits (B, K, Lx + Ly) with SimCC.

    Attributes:
        visibility: the visibility head, None without `model.visibility`.
    """

    def __init__(
        self, config: ModelConfig, keypoint_count: int, input_size_wh: tuple[int, int] | None = None
    ) -> None:
        """Builds the layers and draws their weights from torch's global generator.

        Args:
            config: shape of the network; `init` is read by whoever starts a training.
            keypoint_count: K.
            input_size_wh: size of the pictures; only the SimCC head must know it.

        Raises:
            UserError: a SimCC head without an input size.
        """
        super().__init__()
        self.config, self.keypoint_count = config, keypoint_count
        self.frozen_stages = 0
        self.backbone = make_backbone(config)
        stages = self.backbone.channels[3 - config.deconv_layers :]
        if config.head in LIGHT_HEADS:
            kind = BoxHead if config.head == "boxes" else LightHead
            self.head: nn.Module = kind(stages, keypoint_count, config)
        else:
            self.deconv_layers, channels = _deconvolutions(stages[-1], config)
            if config.head == "simcc":
                if input_size_wh is None:
                    raise UserError(
                        "a SimCC head depends on the input's size. Cure: pass input_size_wh"
                    )
                stride = config.heatmap_stride
                self.head = SimCCHead(channels, keypoint_count, input_size_wh, stride)
            else:
                kernel = config.output_kernel
                self.final_layer = nn.Conv2d(channels, keypoint_count, kernel, 1, kernel // 2)
        initialise(self, config.initialisation)
        if config.zero_init_last_bn_gamma:
            self.backbone.zero_last_gammas()
        channels = self.backbone.channels[-1]
        self.visibility = VisibilityHead(channels, keypoint_count) if config.visibility else None

    def freeze(self, stages: int) -> None:
        """Keeps the weights and batch-norm statistics of the backbone's first stages from training.

        Args:
            stages: 0 to 4; 1 is everything up to the feature at stride 4.
        """
        self.frozen_stages = stages
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def _frozen(self) -> list[nn.Module]:
        stages = self.backbone.stages()[: self.frozen_stages]
        return [module for stage in stages for module in stage]

    def train(self, mode: bool = True) -> PoseNetwork:
        """Training mode for all but the frozen stages, whose statistics stay."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, x: Tensor, visibility: bool = False) -> Any:
        """The maps; with `visibility` a pair, the maps and the logits of its head (B, K, 3)."""
        features = self.backbone(x)
        if self.config.head in LIGHT_HEADS:
            x = self.head(features[3 - self.config.deconv_layers :])
        else:
            x = self.deconv_layers(features[-1])
            x = self.head(x) if self.config.head == "simcc" else self.final_layer(x)
        if not visibility:
            return x
        assert self.visibility is not None
        return x, self.visibility(features[-1].detach())


def _deconvolutions(channels: int, config: ModelConfig) -> tuple[nn.Sequential, int]:
    """The paper's head but for its output, which doubles the map a few times; its channels."""
    kernel, layers = config.deconv_kernel, nn.Sequential()
    padding, output_padding = _DECONV_PADDING[kernel]
    for _ in range(config.deconv_layers):
        width = config.deconv_filters
        layers.append(
            nn.ConvTranspose2d(channels, width, kernel, 2, padding, output_padding, bias=False)
        )
        layers.extend([_norm(config), nn.ReLU(inplace=True)])
        channels = width
    return layers, channels


def _norm(config: ModelConfig) -> nn.BatchNorm2d:
    """A batch norm of the head."""
    return nn.BatchNorm2d(config.deconv_filters, config.batch_norm_eps, config.batch_norm_momentum)


class LightHead(nn.Module):
    """Features of the stages, finest first -> (B, K, H, W) maps at the resolution of the first.

    A feature pyramid (Lin et al., CVPR 2017). Three deconvolutions see only the backbone's last
    map, 32 times coarser. Here each step up also receives what the backbone saw at that resolution,
    so fewer multiplications carry more detail, and gradients reach the early stages on a short way.
    """

    def __init__(self, channels: Sequence[int], keypoint_count: int, config: ModelConfig) -> None:
        """Builds the layers with an initialisation of their own.

        Kaiming normal over the fan out; the output begins near zero: flat maps.

        Args:
            channels: of each feature.
            keypoint_count: K.
            config: `deconv_filters` is the width; `heatmap_depthwise` mixes each step up with a
                depthwise 5x5 and a 1x1 convolution, `heatmap_light` with a full 3x3.
        """
        super().__init__()
        filters = config.deconv_filters
        self.laterals = nn.ModuleList(
            nn.Sequential(convolution(count, filters, 1), _norm(config)) for count in channels
        )
        self.mixes = nn.ModuleList(_mix(config) for _ in channels[:-1])
        self.output = nn.Conv2d(filters, keypoint_count, 1)
        _initialise_light(self)
        nn.init.normal_(self.output.weight, std=0.001)

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Features of the stages -> (B, width, H, W), all of them at the first one's resolution."""
        x = functional.relu(self.laterals[-1](features[-1]))
        for stage in range(len(features) - 2, -1, -1):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.mixes[stage](functional.relu(x + self.laterals[stage](features[stage])))
        return x

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        maps: Tensor = self.output(self.fuse(features))
        return maps


class BoxHead(LightHead):
    """Features of the stages, finest first -> (B, C + 4, H, W) maps of a detector.

    C logits of centres, one map a class, and four maps of boxes, each with a step of its own behind
    the pyramid; `simplepose.detection.centers` says what they mean.
    """

    def __init__(self, channels: Sequence[int], class_count: int, config: ModelConfig) -> None:
        """Arguments as `LightHead`, with C classes; depthwise steps."""
        super().__init__(channels, class_count, config)
        self.class_mix, self.box_mix = _mix(config), _mix(config)
        self.box_output = nn.Conv2d(config.deconv_filters, 4, 1)
        _initialise_light(self)
        for output, bias in ((self.output, CENTER_PRIOR), (self.box_output, 0.0)):
            nn.init.normal_(output.weight, std=0.001)
            nn.init.constant_(cast(Tensor, output.bias), bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.fuse(features)
        return torch.cat([self.output(self.class_mix(x)), self.box_output(self.box_mix(x))], 1)


def _mix(config: ModelConfig) -> nn.Sequential:
    """What follows a sum of two features: a full 3x3, or a depthwise 5x5 and a 1x1 convolution."""
    filters, layers = config.deconv_filters, nn.Sequential()
    steps = ((3, 1),) if config.head == "heatmap_light" else ((5, filters), (1, 1))
    for kernel, groups in steps:
        layers.append(convolution(filters, filters, kernel, groups=groups))
        layers.extend([_norm(config), nn.ReLU(inplace=True)])
    return layers


def _initialise_light(head: nn.Module) -> None:
    """Kaiming normal over the fan out; biases at 0."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel() / module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2) / math.sqrt(fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class SimCCHead(nn.Module):
    """(B, C, H, W) features -> (B, K, Lx + Ly) logits (Li et al., ECCV 2022, section 3.1).

    A 1x1 convolution makes one map a keypoint; two linear layers read the flattened map, one for
    the bins of x, one for those of y. Without deconvolutions the map is H/32 x W/32 and the head
    costs next to nothing.
    """

    def __init__(
        self, channels: int, keypoint_count: int, input_size_wh: tuple[int, int], stride: int
    ) -> None:
        super().__init__()
        width, height = input_size_wh
        cells = (width // stride) * (height // stride)
        self.maps = nn.Conv2d(channels, keypoint_count, 1)
        self.x = nn.Linear(cells, SPLIT * width)
        self.y = nn.Linear(cells, SPLIT * height)

    def forward(self, features: Tensor) -> Tensor:
        flat = self.maps(features).flatten(2)  # (B, K, H*W)
        return torch.cat([self.x(flat), self.y(flat)], -1)


@torch.no_grad()
def initialise(network: PoseNetwork, whose: Initialisation) -> None:
    """Draws the weights in place. Batch norms begin at gamma 1, beta 0; the output bias at 0.

    `ms`: Microsoft's head, normal .001 for deconvolutions and output. Its backbone always comes
    from a torchvision file; without one the backbone begins as torchvision's own training does,
    Kaiming normal over the outgoing fan.
    `tf`: the seed: slim's variance scaling (He et al. 2015: truncated normal of variance 2 / fan
    in) for backbone and output, truncated normal .01 for deconvolutions.
    `torch`: PyTorch's defaults everywhere, the output bias too, which is what Microsoft's code does
    with its INIT_WEIGHTS switched off.
    """
    if whose == "torch":
        return
    for name, module in network.named_modules():
        # the light heads and the SimCC head have an initialisation of their own
        if name.startswith("head.") or not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        weight, is_deconvolution = module.weight, isinstance(module, nn.ConvTranspose2d)
        if whose == "tf":
            # slim widens the deviation by sqrt(1.3) to make up for what truncation takes away
            deviation = 0.01 if is_deconvolution else math.sqrt(1.3 * 2.0 / weight[0].numel())
            nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        elif is_deconvolution or name == "final_layer":
            nn.init.normal_(weight, std=0.001)
        else:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
