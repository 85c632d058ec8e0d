"""The visibility head: whether each keypoint is absent, hidden or visible (COCO's v = 0, 1, 2).

It reads the backbone's last feature and sends no gradient back, so the pose is trained as it is
without the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from simplepose.core.structures import VISIBILITY

if TYPE_CHECKING:
    from simplepose.pose.network import PoseNetwork

LOSS_WEIGHT = 1e-3
"""Of the cross-entropy beside the pose's loss; small only for the sake of `train.clip_gradient`."""


class VisibilityHead(nn.Module):
    """(B, C, h, w) features -> (B, K, 3) logits.

    One 1x1 convolution gives logits in each cell, the other one map a keypoint, with whose softmax
    they are averaged (as CSRA, Zhu and Wu, ICCV 2021).
    """

    def __init__(self, channels: int, keypoint_count: int) -> None:
        """All weights begin at 0, so no random number is drawn."""
        super().__init__()
        self.where = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, channels, keypoint_count, 1
        )
        self.what = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, channels, len(VISIBILITY) * keypoint_count, 1
        )
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.where(features).flatten(2).softmax(-1)  # (B, K, h*w)
        logits: Tensor = self.what(features).flatten(2).unflatten(1, (-1, len(VISIBILITY)))
        return (logits * weights[:, :, None]).sum(-1)


class VisibilityRecorder:
    """A network with the head, called for its maps alone; keeps the logits of its calls."""

    def __init__(self, network: PoseNetwork) -> None:
        self.network = network
        self._logits: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> what the network puts out for the pose."""
        maps: Tensor
        maps, logits = self.network(pixels, visibility=True)
        self._logits.append(logits.float())
        return maps

    def probabilities(
        self, flip_order: Sequence[int] | np.ndarray | None, temperature: float = 1
    ) -> Tensor:
        """(B, K, 3) float32 of all that went through, in order.

        Args:
            flip_order: (K,) where the second half was the mirrored first: both are averaged.
            temperature: the logits are divided by it.
        """
        logits = torch.cat(self._logits)
        if flip_order is not None:
            plain, mirrored = logits.chunk(2)
            order = torch.as_tensor(flip_order, device=logits.device)
            logits = (plain + mirrored[:, order]) / 2
        return (logits / temperature).softmax(-1)


def visibility_loss(
    logits: Tensor, keypoints: Tensor, visibility: Tensor, input_size_wh: tuple[int, int]
) -> Tensor:
    """() mean cross-entropy over people and keypoints.

    Args:
        logits: (B, K, 3).
        keypoints: (B, K, 2) in input pixels; one outside of the crop is absent.
        visibility: (B, K) uint8, 0, 1 or 2.
        input_size_wh: size of the crop.
    """
    x, y = keypoints.unbind(-1)
    width, height = input_size_wh
    inside = (x >= -0.5) & (y >= -0.5) & (x < width - 0.5) & (y < height - 0.5)
    classes = torch.where(inside, visibility.long(), 0)
    return functional.cross_entropy(logits.float().flatten(0, 1), classes.flatten())
