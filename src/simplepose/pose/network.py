"""The network of Simple Baselines: a backbone, two or three deconvolutions, one heatmap a keypoint.

Xiao et al., ECCV 2018, section 2. Parameters carry the names of Microsoft's `pose_resnet`
(`deconv_layers.0`, `final_layer`), those of the backbone after `backbone.` (`backbone.conv1`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from simplepose.config import Initialisation, ModelConfig
from simplepose.core.errors import UserError
from simplepose.pose.backbones import make_backbone
from simplepose.pose.light_head import LightHead
from simplepose.pose.simcc_head import SimCCHead

LIGHT_HEADS = ("heatmap_light", "heatmap_depthwise")
_DECONV_PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}
"""kernel -> (padding, output padding): every one doubles the map exactly."""


class PoseResNet(nn.Module):
    """Backbone and head: (B, 3, H, W) normalised float -> (B, K, H/4, W/4) heatmaps (an eighth with two doublings); SimCC: (B, K, Lx + Ly)."""

    def __init__(
        self, config: ModelConfig, keypoint_count: int, input_size_wh: tuple[int, int] | None = None
    ) -> None:
        """Builds the layers and draws their weights from torch's global generator; `training.start` reads `config.init`.

        Args:
            config: shape of the network.
            keypoint_count: K, at least 1.
            input_size_wh: size of the pictures; only the SimCC head must know it.

        Raises:
            UserError: the keypoint count is below 1, or a SimCC head without an input size.
        """
        if keypoint_count < 1:
            raise UserError(
                f"a network for {keypoint_count} keypoints makes no sense. Cure: use a schema with at least one keypoint"
            )
        super().__init__()
        self.backbone = make_backbone(
            config.backbone,
            width=config.width,
            stride_style=config.stride_style,
            batch_norm_momentum=config.batch_norm_momentum,
            batch_norm_eps=config.batch_norm_eps,
        )
        self.config = config
        self.frozen_stages = 0
        self.keypoint_count = keypoint_count
        if config.head in LIGHT_HEADS:
            self.head: LightHead | SimCCHead = LightHead(
                self.backbone.channels[3 - config.deconv_layers :],
                config.deconv_filters,
                keypoint_count,
                depthwise=config.head == "heatmap_depthwise",
                momentum=config.batch_norm_momentum,
                eps=config.batch_norm_eps,
            )
        else:
            self._add_deconvolutions(keypoint_count, input_size_wh)
        initialise(self, config.initialisation)
        if config.zero_init_last_bn_gamma:
            self.backbone.zero_last_gammas()

    def _add_deconvolutions(
        self, keypoint_count: int, input_size_wh: tuple[int, int] | None
    ) -> None:
        """The paper's head: deconvolutions, then one output convolution, or SimCC's in its place."""
        config = self.config
        padding, output_padding = _DECONV_PADDING[config.deconv_kernel]
        channels, layers = self.backbone.channels[-1], []
        for _ in range(config.deconv_layers):
            layers += [
                nn.ConvTranspose2d(
                    channels,
                    config.deconv_filters,
                    config.deconv_kernel,
                    2,
                    padding,
                    output_padding,
                    bias=False,
                ),
                nn.BatchNorm2d(
                    config.deconv_filters,
                    eps=config.batch_norm_eps,
                    momentum=config.batch_norm_momentum,
                ),
                nn.ReLU(inplace=True),
            ]
            channels = config.deconv_filters
        self.deconv_layers = nn.Sequential(*layers)
        if config.head == "simcc":
            if input_size_wh is None:
                raise UserError(
                    "a SimCC head depends on the input's size. Cure: pass input_size_wh"
                )
            stride = config.heatmap_stride
            self.head = SimCCHead(
                channels,
                keypoint_count,
                (input_size_wh[0] // stride, input_size_wh[1] // stride),
                input_size_wh,
            )
            return
        self.final_layer = nn.Conv2d(
            channels, keypoint_count, config.output_kernel, padding=config.output_kernel // 2
        )

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
        return [
            module for stage in self.backbone.stages()[: self.frozen_stages] for module in stage
        ]

    def train(self, mode: bool = True) -> PoseResNet:
        """Training mode for all but the frozen stages, whose statistics stay."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        if self.config.head in LIGHT_HEADS:
            return self.head(features[3 - self.config.deconv_layers :])
        x = self.deconv_layers(features[-1])
        return (
            self.head(x) if self.config.head == "simcc" else self.final_layer(x)
        )  # (B, K, H/4, W/4)


@torch.no_grad()
def initialise(network: PoseResNet, whose: Initialisation) -> None:
    """Draws the weights in place. Batch norms begin at gamma 1, beta 0; the output bias at 0 (except `torch`).

    `ms`: Microsoft's head, normal .001 for deconvolutions and output. Its backbone always comes from a torchvision file;
    without one the backbone begins as torchvision's own training does, Kaiming normal over the outgoing fan.
    `tf`: the seed: slim's variance scaling (He et al. 2015: truncated normal of variance 2 / fan in) for backbone and output,
    truncated normal .01 for deconvolutions.
    `torch`: PyTorch's defaults everywhere, which is what Microsoft's code does with its INIT_WEIGHTS switched off.
    """
    if whose == "torch":
        return
    for name, module in network.named_modules():
        if name.startswith("head."):
            continue  # the light heads and the SimCC head have an initialisation of their own
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
