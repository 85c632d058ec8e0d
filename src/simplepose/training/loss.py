"""What training makes small: the heatmap loss of both references as one mean over the batch, and the losses of the other codecs."""

from __future__ import annotations

import torch

from simplepose.config import CodecConfig
from simplepose.pose.codec import split_axes


def training_loss(
    outputs: torch.Tensor,
    target: torch.Tensor,
    target_weights: torch.Tensor,
    codec: CodecConfig,
    input_size_wh: tuple[int, int],
    *,
    factor: float = 0.5,
    hard_keypoints: int = 0,
) -> torch.Tensor:
    """The loss that belongs to the codec.

    Args:
        outputs: what the network put out: (B, K, H, W), or (B, K, Lx + Ly) for SimCC.
        target: the same shape, from `heatmaps.encode`.
        target_weights: (B, K), 0 masks a keypoint out.
        codec: `kind` decides between squared error and cross-entropy.
        input_size_wh: size of the network's input.
        factor: in front of the squared error.
        hard_keypoints: only so many worst keypoints of each person count; 0: all.

    Returns:
        () float32, a mean over all keypoints, trained or not: so the mean of the losses of two halves of a batch is the loss of the batch.
    """
    if codec.kind == "heatmap" and not hard_keypoints:
        return heatmap_loss(outputs, target, target_weights, factor)
    if codec.kind == "heatmap":
        losses = factor * (outputs.float() - target).square().mean((2, 3)) * target_weights
        return hardest(losses, hard_keypoints).mean()
    if codec.kind == "simcc":
        parts = zip(*(split_axes(part, input_size_wh) for part in (outputs, target)), strict=True)
        losses = torch.stack([cross_entropy(logits, wanted) for logits, wanted in parts]).mean(0)
    else:
        losses = cross_entropy(outputs.flatten(2), target.flatten(2))
    losses = losses * target_weights
    return (hardest(losses, hard_keypoints) if hard_keypoints else losses).mean()


def heatmap_loss(
    predicted: torch.Tensor, target: torch.Tensor, target_weights: torch.Tensor, factor: float
) -> torch.Tensor:
    """`factor * mean((predicted - target)^2 * weight)` over B, K, H, W; keypoints of weight 0 stay in the denominator.

    tf (the seed) is factor 1. ms averages `0.5 * MSE` of each keypoint over K, which is factor 0.5.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W).
        target_weights: (B, K), 0 masks a keypoint out.
        factor: constant in front.
    """
    difference = (predicted.to(target.dtype) - target).square() * target_weights[:, :, None, None]
    return factor * difference.mean()


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far the softmax of the logits is from the target, in nats above the best possible (Kullback-Leibler divergence).

    Unlike squared error it does not reward an empty map: from the first step every keypoint pulls its probability to one place, however
    small its share of the pixels.

    Args:
        logits: (B, K, L).
        target: (B, K, L), not negative; scaled to sum 1 here. An empty one (a keypoint of weight 0) gives 0.

    Returns:
        (B, K) float32.
    """
    wanted = target / target.sum(-1, keepdim=True).clamp(min=1e-12)
    return (torch.xlogy(wanted, wanted) - wanted * logits.float().log_softmax(-1)).sum(-1)


def hardest(losses: torch.Tensor, count: int) -> torch.Tensor:
    """(B, K) -> (B, count): the largest of each person (Chen et al., CVPR 2018, section 3.2)."""
    return losses.topk(min(count, losses.shape[1]), dim=1).values
