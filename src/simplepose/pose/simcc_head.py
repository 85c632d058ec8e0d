"""The SimCC head: from features to two distributions a keypoint (Li et al., ECCV 2022, section 3.1). The codec is `simplepose.pose.simcc`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simplepose.pose.simcc import bin_counts


class SimCCHead(nn.Module):
    """(B, C, H, W) features -> (B, K, Lx + Ly) logits.

    A 1x1 convolution makes one map a keypoint; two linear layers read the flattened map, one for the bins of x, one for those of y.
    Without deconvolutions the map is H/32 x W/32 and the head costs next to nothing.
    """

    def __init__(
        self,
        channels: int,
        keypoint_count: int,
        map_size_wh: tuple[int, int],
        input_size_wh: tuple[int, int],
    ) -> None:
        """Builds the layers.

        Args:
            channels: C.
            keypoint_count: K.
            map_size_wh: (W, H) of the features.
            input_size_wh: size of the network's input, which sets the numbers of bins.
        """
        super().__init__()
        cells = map_size_wh[0] * map_size_wh[1]
        x_bins, y_bins = bin_counts(input_size_wh)
        self.maps = nn.Conv2d(channels, keypoint_count, 1)
        self.x = nn.Linear(cells, x_bins)
        self.y = nn.Linear(cells, y_bins)

    def forward(self, features: Tensor) -> Tensor:
        flat = self.maps(features).flatten(2)  # (B, K, H*W)
        return torch.cat([self.x(flat), self.y(flat)], -1)
