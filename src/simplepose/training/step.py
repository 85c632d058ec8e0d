"""One training step: pixels and keypoints of a batch on the device -> a loss and changed weights. The host waits for nothing in here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from simplepose.config import Config
from simplepose.data.appearance import change_appearance
from simplepose.data.dataset import Batch
from simplepose.device import autocast
from simplepose.heatmaps import encode
from simplepose.pixels import normalise
from simplepose.training.distill import Teacher
from simplepose.training.loss import training_loss
from simplepose.training.optimizer import set_update


class TrainStep:
    """Forward, backward and update of one batch."""

    def __init__(
        self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, config: Config, device: torch.device, precision: str,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        """Ties the parts together.

        Args:
            network: normalised pixels -> heatmaps, already on the device, wrapped for several processes where there are several.
            optimizer: over its parameters.
            config: the run.
            device: where the network is.
            precision: `fp32` or `bf16`.
            teacher: whose maps are part of the target.
        """
        self.teacher, self.augment = teacher, config.augment
        self.network, self.optimizer, self.config, self.device, self.precision = network, optimizer, config, device, precision
        self.mark: Callable[[str], None] = lambda part: None
        """Called after each part of a step (`forward`, `backward`, `optimiser`), for `--profile`."""
        self._loss = self.loss
        if config.train.compile != "off":
            self._loss = torch.compile(self.loss, mode="reduce-overhead" if config.train.compile == "graphs" else None)

    def loss(self, pixels: torch.Tensor, keypoints: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """The loss of (part of) a batch; everything from bytes to the loss, so that a compiler sees it whole.

        Args:
            pixels: (B, 3, H_in, W_in) uint8 RGB.
            keypoints: (B, K, 2) in input pixels.
            visible: (B, K) bool.
        """
        config = self.config
        inputs = normalise(pixels, config.pixels)  # (B, 3, H_in, W_in)
        target, weights = encode(keypoints, visible, config.codec, config.input_size_wh, config.heatmap_size_wh)  # (B, K, H, W), (B, K)
        with autocast(self.device, self.precision):
            predicted = self.network(inputs)  # (B, K, H, W)
        if self.teacher is not None:
            target = self.teacher.blend(pixels, target)
        return training_loss(
            predicted, target, weights, config.codec, config.input_size_wh,
            factor=config.train.loss_factor, hard_keypoints=config.train.hard_keypoints,
        )  # fmt: skip

    def __call__(self, batch: Batch, rate: float, updates_done: int) -> torch.Tensor:
        """Updates the weights.

        Args:
            batch: on the device.
            rate: learning rate of this update.
            updates_done: updates before this one.

        Returns:
            () the mean loss of the batch, on the device and detached: reading it is what would make the host wait.
        """
        set_update(self.optimizer, rate, updates_done, self.config.train)
        self.optimizer.zero_grad(set_to_none=True)
        assert isinstance(batch.pixels, torch.Tensor)  # `Batch.to` has cut the crops
        pixels = change_appearance(batch.pixels, self.augment)
        count = len(batch.rows)
        parts = max(1, min(self.config.train.accumulate, count))
        total: Any = 0.0
        for part in range(parts):
            rows = slice(part * count // parts, (part + 1) * count // parts)
            with synchronised_only(self.network, part == parts - 1):
                loss = self._loss(pixels[rows], batch.keypoints[rows], batch.visible[rows])
                self.mark("forward")
                share = (rows.stop - rows.start) / count
                total = total + loss.detach() * share
                weight = share * batch.loss_weight
                (loss if weight == 1 else loss * weight).backward()
                self.mark("backward")
        if self.config.train.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.clip_gradient)
        self.optimizer.step()
        self.mark("optimiser")
        return total if parts > 1 else loss.detach()


def synchronised_only(network: torch.nn.Module, last: bool) -> Any:
    """Several processes average their gradients once an update, not once a part of the batch."""
    return contextlib.nullcontext() if last else getattr(network, "no_sync", contextlib.nullcontext)()
