"""The options of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from simplepose.core.errors import UserError
from simplepose.core.settings import require_ranges

MAX_SEED = 10**18
"""What every generator of random numbers takes, also with the number of a process added."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training loop."""

    epochs: int = 140
    """Passes over the training people."""
    batch_size: int = 32
    """People a step on each device."""
    last_batch: Literal["smaller", "fill"] = "smaller"
    """Last batch of an epoch: as small as it comes (ms), or completed with people of the next pass (tf, whose batches are always full)."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam with coupled L2 (the references), or AdamW with decoupled decay."""
    learning_rate: float = 1e-3
    """Rate before the first drop: 5e-4 in tf, 1e-3 in ms."""
    weight_decay: float = 0.0
    """Decay of the convolution and deconvolution kernels only; never of norms and biases. 1e-5 in tf; 0 in ms, whose 1e-4 never reaches
    Adam."""
    divide_decay: bool = False
    """Divide the decay by the number of devices, as the seed, whose penalty stands in one device's loss only."""
    adam_epsilon: Literal["torch", "tf"] = "torch"
    """Where Adam adds its 1e-8: to the corrected root of the second moment (torch) or to the uncorrected one (tf, the seed)."""
    schedule: Literal["steps", "flat_cosine"] = "steps"
    """How the rate falls: by `drop_factor` at `drop_epochs` (both references); or it stays for `flat_share` of the run, then follows half a
    cosine down to zero."""
    flat_share: float = 0.5
    """Share of the run, warm-up included, before the cosine begins."""
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises linearly from zero, under either schedule."""
    drop_epochs: tuple[int, ...] = (90, 120)
    """Epochs (from 0) at whose start the rate falls, under `steps`."""
    drop_factor: float = 0.1
    """What the rate is multiplied by at a drop."""
    count_from_one: bool = False
    """Number iterations from 1 as the seed: the last step of an epoch already has the next epoch's rate."""
    loss_factor: float = 0.5
    """In front of the mean squared heatmap error: 1 in tf, .5 in ms."""
    hard_keypoints: int = 0
    """Only the loss of this many worst keypoints of each person counts (online hard keypoint mining, Chen et al. 2018); 0: all count."""
    clip_gradient: float = 0.0
    """Longest gradient of an update: a longer one is shortened to this norm; 0: never."""
    trunk_rate_factor: float = 1.0
    """The trunk's learning rate as a multiple of the head's, e.g. .1 where an ImageNet trunk should keep what it knows."""
    frozen_stages: int = 0
    """Stages of the backbone, finest first, that keep the weights and batch-norm statistics they begin with, 0 to 4: the first is
    a third of a small network's work, and ImageNet has taught it edges and colours already."""
    teacher: str = ""
    """Weights (run folder, .safetensors or .onnx) of a strong network whose heatmaps are learned beside the annotations."""
    teacher_share: float = 0.5
    """The teacher's part of the target, 0 to 1."""
    weights: str = ""
    """Run folder or weight file to fine-tune from; an output layer for other keypoints is left out and named."""
    continue_from: str = ""
    """TensorFlow snapshot (snapshot_100.ckpt) whose run goes on here: its weights, Adam's moments
    and count of updates, from the epoch after the snapshot's to the last one of `epochs`."""
    continue_epoch: int | None = None
    """Epochs behind that snapshot; None: the number in its name, or else Adam's count of updates
    where it is still in the file and is a whole number of this run's epochs."""
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
    keep_every: int = 0
    """Epochs between weights that are kept for good, `checkpoints/epoch_010.safetensors`, for
    `simplepose evaluate RUN --epochs`. 0: only `best` and `last` are kept."""
    accumulate: int = 1
    """Parts a batch is cut into, one forward and backward each before the update: for batches that do not fit into memory."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is evaluated and saved, e.g. .9998; 0: none."""
    compile: Literal["off", "on", "graphs"] = "off"
    """Let torch.compile fuse the step, or also record it as a device graph."""
    sync_batch_norm: bool = False
    """Several processes: batch norm over the samples of all of them."""
    scale_learning_rate: Literal["none", "linear"] = "none"
    """Several processes: keep the rate, or multiply it by their number (Goyal et al. 2017)."""
    save_every_minutes: float = 10.0
    """The last checkpoint is written this often within an epoch, and after each epoch."""
    timeout_minutes: float = 10.0
    """Several processes: how long a silent one is waited for."""
    tensorboard: bool = False
    """Also write TensorBoard files (extra `tensorboard`)."""

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (1, inf), "batch_size": (1, inf), "learning_rate": (0, inf), "weight_decay": (0, inf), "drop_factor": (0, inf),
            "loss_factor": (0, inf), "hard_keypoints": (0, inf), "clip_gradient": (0, inf), "trunk_rate_factor": (0, inf), "frozen_stages": (0, 4),
            "teacher_share": (0, 1), "evaluate_every": (0, inf), "accumulate": (1, inf), "ema": (0, 0.999999), "flat_share": (0, 1),
            "warmup_epochs": (0, inf), "seed": (0, MAX_SEED), "keep_every": (0, inf),
        }  # fmt: skip
        require_ranges("train", self, ranges)
        if self.continue_epoch is not None:
            require_ranges("train", self, {"continue_epoch": (0, inf)})
            if not self.continue_from:
                raise UserError(
                    f"train.continue_epoch is {self.continue_epoch}, but train.continue_from names "
                    "no snapshot. Cure: --train.continue-from FILE, or leave it away"
                )
        if self.compile == "graphs" and self.accumulate > 1:
            raise UserError(
                f"train.compile graphs records a step whose gradients lie in its own memory, so train.accumulate {self.accumulate} would "
                "overwrite them. Cure: --train.compile on, or --train.accumulate 1"
            )
