"""The options of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training loop."""

    epochs: int = 140
    """Passes over the training people."""
    batch_size: int = 32
    """People a step on each device."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam with coupled L2 (the references), or AdamW with decoupled decay."""
    learning_rate: float = 1e-3
    """Rate before the first drop: 5e-4 in tf, 1e-3 in ms."""
    weight_decay: float = 0.0
    """Decay of the convolution and deconvolution kernels only; never of norms and biases. 1e-5 in tf; 0 in ms, whose 1e-4 never reaches Adam."""
    drop_epochs: tuple[int, ...] = (90, 120)
    """Epochs (from 0) at whose start the rate falls."""
    drop_factor: float = 0.1
    """What the rate is multiplied by at a drop."""
    count_from_one: bool = False
    """Number iterations from 1 as the seed: the last step of an epoch already has the next epoch's rate."""
    loss_factor: float = 0.5
    """In front of the mean squared heatmap error: 1 in tf, .5 in ms."""
    seed: int = 0
    """Decides first values, order and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, npu, mps, xpu."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; auto is bf16 where the hardware multiplies it natively."""
    channels_last: bool = True
    """Keep activations channels-last, faster on most hardware."""
    evaluate_every: int = 10
    """Epochs between evaluations; the last epoch is always evaluated. 0: never."""
    tensorboard: bool = False
    """Also write TensorBoard files (extra `tensorboard`)."""
