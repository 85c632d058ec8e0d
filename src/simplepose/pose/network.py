"""The network of Simple Baselines: a ResNet, two or three deconvolutions, one heatmap a keypoint (Xiao et al., ECCV 2018, section 2).

Parameters carry the names of Microsoft's `pose_resnet` (`conv1` ... `layer4`, `deconv_layers.0`, `final_layer`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from simplepose.core.errors import UserError
from simplepose.pose.backbone import ResNet, StrideStyle, blocks_of_depth
from simplepose.pose.light_head import LightHead
from simplepose.pose.simcc_head import SimCCHead

Head = Literal["heatmap", "heatmap_light", "simcc"]
Initialisation = Literal["ms", "tf", "torch"]
_DECONV_PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}
"""kernel -> (padding, output padding): every one doubles the map exactly."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the network looks like and how its weights begin. The keypoint count comes from the schema."""

    depth: int = 50
    """Depth of the ResNet trunk: 18, 34, 50, 101 or 152."""
    width: int = 64
    """Channels of the trunk's first stage: 64 in every published ResNet; fewer make a small network for small machines."""
    stride_style: StrideStyle = "3x3"
    """Convolution of a bottleneck that halves the map: 3x3 (torchvision, Microsoft's default, the seed) or 1x1 (caffe)."""
    head: Head = "heatmap"
    """What follows the trunk: deconvolutions and one map a keypoint (the paper); the trunk's stages added coarse to fine, fewer
    multiplications; or two 1-D distributions a keypoint (SimCC, with `codec.kind` simcc)."""
    deconv_layers: int = 3
    """Steps that double the map: 3 gives heatmaps of a quarter of the input's size, 2 of an eighth; the SimCC head also takes 0."""
    deconv_kernel: int = 4
    """Kernel of the deconvolutions: 2, 3 or 4."""
    deconv_filters: int = 256
    """Channels of each deconvolution."""
    output_kernel: int = 1
    """Kernel of the output convolution: 1 or 3."""
    batch_norm_momentum: float = 0.1
    """Share of the newest batch in the running statistics: .1 in PyTorch and Microsoft's code, .01 in the seed."""
    batch_norm_eps: float = 1e-5
    """Added to the variance: 1e-5 in PyTorch; the seed writes 1e-9, which TensorFlow's fused kernel raises to 1.001e-5."""
    initialisation: Initialisation = "ms"
    """Whose first values: ms (Kaiming trunk, normal .001 head), tf (the seed: truncated normals, .01 in the head), torch (its defaults)."""
    init: str = ""
    """ImageNet trunk file that training starts from (torchvision, timm, TensorFlow, ...); auto takes it from the layout's imagenet_weights
    folder; empty starts from the first values."""
    zero_init_last_bn_gamma: bool = False
    """Start every residual block as its shortcut, by a zero in its last batch norm; only matters without an ImageNet trunk."""

    def __post_init__(self) -> None:
        blocks_of_depth(self.depth)
        choices = {
            "stride_style": get_args(StrideStyle), "head": get_args(Head), "deconv_layers": (0, 2, 3) if self.head == "simcc" else (2, 3),
            "deconv_kernel": tuple(sorted(_DECONV_PADDING)), "output_kernel": (1, 3), "initialisation": get_args(Initialisation),
        }  # fmt: skip
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                listed = ", ".join(map(str, allowed))
                raise UserError(f"model.{field} is {getattr(self, field)!r}. Cure: choose one of {listed}")
        if self.width < 1 or self.deconv_filters < 1:
            raise UserError(
                f"model.width is {self.width}, model.deconv_filters {self.deconv_filters}. Cure: choose positive numbers of channels"
            )
        if not 0 < self.batch_norm_momentum <= 1 or not 0 < self.batch_norm_eps < 1:
            raise UserError(
                f"model.batch_norm_momentum is {self.batch_norm_momentum} and model.batch_norm_eps {self.batch_norm_eps}. "
                "Cure: choose a momentum in (0, 1] and an eps in (0, 1)"
            )

    @property
    def heatmap_stride(self) -> int:
        """Input pixels a heatmap pixel: 4 with three doublings, 8 with two."""
        return 32 >> self.deconv_layers


class PoseResNet(ResNet):
    """Trunk and head: (B, 3, H, W) normalised float -> (B, K, H/4, W/4) heatmaps (an eighth with two doublings); SimCC: (B, K, Lx + Ly)."""

    def __init__(self, config: ModelConfig, keypoint_count: int, input_size_wh: tuple[int, int] | None = None) -> None:
        """Builds the layers and draws their first values from torch's global generator; reading `config.init` is training.first_weights'.

        Args:
            config: shape of the network.
            keypoint_count: K, at least 1.
            input_size_wh: size of the pictures; only the SimCC head must know it.

        Raises:
            UserError: the keypoint count is below 1, or a SimCC head without an input size.
        """
        if keypoint_count < 1:
            raise UserError(f"a network for {keypoint_count} keypoints makes no sense. Cure: use a schema with at least one keypoint")
        super().__init__(
            config.depth,
            width=config.width,
            stride_style=config.stride_style,
            batch_norm_momentum=config.batch_norm_momentum,
            batch_norm_eps=config.batch_norm_eps,
        )
        self.config = config
        self.keypoint_count = keypoint_count
        if config.head == "heatmap_light":
            widths = self.feature_channels // 8, self.feature_channels // 4, self.feature_channels // 2, self.feature_channels
            self.head: LightHead | SimCCHead = LightHead(
                widths[3 - config.deconv_layers :], config.deconv_filters, keypoint_count,
                momentum=config.batch_norm_momentum, eps=config.batch_norm_eps,
            )  # fmt: skip
        else:
            self._add_deconvolutions(keypoint_count, input_size_wh)
        initialise(self, config.initialisation)
        if config.zero_init_last_bn_gamma:
            self.zero_last_gammas()

    def _add_deconvolutions(self, keypoint_count: int, input_size_wh: tuple[int, int] | None) -> None:
        """The paper's head: deconvolutions, then one output convolution, or SimCC's in its place."""
        config = self.config
        padding, output_padding = _DECONV_PADDING[config.deconv_kernel]
        channels, layers = self.feature_channels, []
        for _ in range(config.deconv_layers):
            layers += [
                nn.ConvTranspose2d(channels, config.deconv_filters, config.deconv_kernel, 2, padding, output_padding, bias=False),
                nn.BatchNorm2d(config.deconv_filters, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum),
                nn.ReLU(inplace=True),
            ]
            channels = config.deconv_filters
        self.deconv_layers = nn.Sequential(*layers)
        if config.head == "simcc":
            if input_size_wh is None:
                raise UserError("a SimCC head depends on the input's size. Cure: pass input_size_wh")
            stride = config.heatmap_stride
            self.head = SimCCHead(channels, keypoint_count, (input_size_wh[0] // stride, input_size_wh[1] // stride), input_size_wh)
            return
        self.final_layer = nn.Conv2d(channels, keypoint_count, config.output_kernel, padding=config.output_kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.config.head == "heatmap_light":
            stages = [x := self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))]
            stages += [x := layer(x) for layer in (self.layer2, self.layer3, self.layer4)]
            return self.head(stages[3 - self.config.deconv_layers :])
        x = self.deconv_layers(self.features(x))
        return self.head(x) if self.config.head == "simcc" else self.final_layer(x)  # (B, K, H/4, W/4)


@torch.no_grad()
def initialise(network: PoseResNet, whose: Initialisation) -> None:
    """Draws first values in place. Batch norms begin at gamma 1, beta 0; the output bias at 0 (except `torch`).

    `ms`: Microsoft's head, normal .001 for deconvolutions and output. Its trunk always comes from a torchvision file; without one
    the trunk begins as torchvision's own training does, Kaiming normal over the outgoing fan.
    `tf`: the seed: slim's variance scaling (He et al. 2015: truncated normal of variance 2 / fan in) for trunk and output,
    truncated normal .01 for deconvolutions.
    `torch`: PyTorch's defaults everywhere, which is what Microsoft's code does with its INIT_WEIGHTS switched off.
    """
    if whose == "torch":
        return
    for name, module in network.named_modules():
        if name.startswith("head."):
            continue  # the light and the SimCC head begin with values of their own
        if isinstance(module, nn.ConvTranspose2d):
            if whose == "ms":
                nn.init.normal_(module.weight, std=0.001)
            else:
                _truncated_normal(module.weight, 0.01)
        elif isinstance(module, nn.Conv2d):
            if whose == "tf":
                # slim widens the deviation by sqrt(1.3) to make up for what truncation takes away
                _truncated_normal(module.weight, math.sqrt(1.3 * 2.0 / module.weight[0].numel()))
            elif name == "final_layer":
                nn.init.normal_(module.weight, std=0.001)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _truncated_normal(weight: Tensor, deviation: float) -> None:
    """TensorFlow's truncated normal: redrawn beyond two deviations."""
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
