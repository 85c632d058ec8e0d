"""The backbones by name. Each turns pictures into features at strides 4, 8, 16 and 32.

Every backbone has `channels`, those of its four features, finest first; called with (B, 3, H, W)
normalised float pictures it returns the four as a list. `stages()` are the modules behind each of
them, which freezing needs; `zero_last_gammas()` lets its residual blocks begin as their shortcuts.
"""

from __future__ import annotations

from simplepose.config import BackboneName
from simplepose.pose.backbone import ResNet, StrideStyle
from simplepose.pose.efficientnet_lite import EfficientNetLite0

Backbone = ResNet | EfficientNetLite0
TITLES: dict[str, str] = {
    **{f"resnet{depth}": f"ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
    "efficientnet_lite0": "EfficientNet-Lite0",
}
"""How people call them, for messages."""


def make_backbone(
    name: BackboneName,
    *,
    width: int = 64,
    stride_style: StrideStyle = "3x3",
    batch_norm_momentum: float = 0.1,
    batch_norm_eps: float = 1e-5,
) -> Backbone:
    """Builds a backbone with PyTorch's own initialisation.

    Args:
        name: which one.
        width: channels of a ResNet's first stage; the others have one width.
        stride_style: of a ResNet's bottlenecks.
        batch_norm_momentum: part of the newest batch in the running statistics.
        batch_norm_eps: added to the variance.

    Raises:
        UserError: a stride style that this ResNet cannot have.
    """
    norm = {"batch_norm_momentum": batch_norm_momentum, "batch_norm_eps": batch_norm_eps}
    if name == "efficientnet_lite0":
        return EfficientNetLite0(**norm)
    depth = int(name.removeprefix("resnet"))
    return ResNet(depth, width=width, stride_style=stride_style, **norm)
