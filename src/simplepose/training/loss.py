"""The heatmap loss of both references, as one mean over the batch."""

from __future__ import annotations

import torch


def heatmap_loss(predicted: torch.Tensor, target: torch.Tensor, target_weights: torch.Tensor, factor: float) -> torch.Tensor:
    """`factor * mean((predicted - target)^2 * weight)` over B, K, H, W; keypoints of weight 0 stay in the denominator.

    tf (the seed) is factor 1. ms averages `0.5 * MSE` of each keypoint over K, which is factor 0.5.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W).
        target_weights: (B, K), 0 masks a keypoint out.
        factor: constant in front.
    """
    difference = (predicted.float() - target).square() * target_weights[:, :, None, None]
    return factor * difference.mean()
