"""One training step: pixels and keypoints of a batch on the device -> a loss and changed weights. The host waits for nothing in here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from simplepose.config import Config
from simplepose.core.device import autocast, to_device
from simplepose.data.augment import change_appearance, draw_appearance
from simplepose.data.loader import Batch, Regions, warp_regions
from simplepose.pose.codec import encode
from simplepose.pose.pixels import normalise
from simplepose.training.distill import Teacher
from simplepose.training.loss import training_loss
from simplepose.training.optimizer import set_update


class TrainStep:
    """Forward, backward and update of one batch."""

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        config: Config,
        device: torch.device,
        precision: str,
        teacher: Teacher | None = None,
    ) -> None:
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
        self.network, self.optimizer, self.config, self.device, self.precision = (
            network,
            optimizer,
            config,
            device,
            precision,
        )
        self.mark: Callable[[str], None] = lambda part: None
        """Called after each part of a step (`forward`, `backward`, `optimiser`), for `--profile`."""
        self._compiled, self._warp = self.loss, warp_regions
        if config.train.compile != "off":
            self._make_constants()
            torch.compiler.reset()  # what another step compiled counts against this one's limit
            self._compiled = torch.compile(
                self.loss,
                dynamic=False,
                mode="reduce-overhead" if config.train.compile == "graphs" else None,
            )
            self._warp = torch.compile(
                warp_regions
            )  # never a device graph, which would copy all pixels into memory of its own

    def _make_constants(self) -> None:
        """Lets `pixels.constant` make what the step needs: made while it is compiled, they would be compiled in and all be done twice."""
        config, nobody = self.config, torch.zeros(1, 1, 2, device=self.device)
        normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8, device=self.device), config.pixels)
        encode(
            nobody, nobody[..., 0] > 0, config.codec, config.input_size_wh, config.heatmap_size_wh
        )
        change_appearance(
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=self.device),
            torch.zeros(12, 1, device=self.device),
            self.augment,
        )

    def cut(self, regions: Regions) -> torch.Tensor:
        """The crops of a batch, (B, 3, H, W) uint8, from parts of pictures on the device: what `Batch.to` needs."""
        if self._warp is warp_regions or not self._is_whole(len(regions.starts)):
            return regions.warp()
        torch._dynamo.maybe_mark_dynamic(regions.buffer, 0)
        return self._warp(*regions)

    def _is_whole(self, count: int) -> bool:
        """Whether a batch has the size that is compiled. A short last one runs as written: a minute of compiling would not pay, and a graph
        for any size is slower. One less is what processes have that deal their own people out evenly."""
        return count >= self.config.train.batch_size - 1

    def loss(
        self,
        pixels: torch.Tensor,
        keypoints: torch.Tensor,
        visible: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of (part of) a batch; everything from bytes to the loss, so that a compiler sees it whole.

        Args:
            pixels: (B, 3, H_in, W_in) uint8 RGB.
            keypoints: (B, K, 2) in input pixels.
            visible: (B, K) bool.
            draws: (12, B) random numbers of colours and occlusions, from `draw_appearance`.
        """
        config = self.config
        pixels = change_appearance(pixels, draws, self.augment)
        inputs = normalise(pixels, config.pixels)  # (B, 3, H_in, W_in)
        target, weights = encode(
            keypoints, visible, config.codec, config.input_size_wh, config.heatmap_size_wh
        )  # (B, K, H, W), (B, K)
        with autocast(self.device, self.precision):
            predicted = self.network(inputs)  # (B, K, H, W)
            if self.teacher is not None:
                target = self.teacher.blend(pixels, target)
        return training_loss(
            predicted,
            target,
            weights,
            config.codec,
            config.input_size_wh,
            factor=config.train.loss_factor,
            hard_keypoints=config.train.hard_keypoints,
        )

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
        count = len(batch.rows)
        draws = draw_appearance(count, self.augment)
        draws = None if draws is None else to_device(draws, self.device)
        loss_of = self._compiled if self._is_whole(count) else self.loss
        parts = max(1, min(self.config.train.accumulate, count))
        total: Any = 0.0
        for part in range(parts):
            rows = slice(part * count // parts, (part + 1) * count // parts)
            with synchronised_only(self.network, part == parts - 1):
                loss = loss_of(
                    batch.pixels[rows],
                    batch.keypoints[rows],
                    batch.visible[rows],
                    None if draws is None else draws[:, rows],
                )
                self.mark("forward")
                share = (rows.stop - rows.start) / count
                total = total + loss.detach() * share
                weight = share * batch.loss_weight
                (loss if weight == 1 else loss * weight).backward()
                self.mark("backward")
        if self.config.train.clip_gradient:
            torch.nn.utils.clip_grad_norm_(
                self.network.parameters(), self.config.train.clip_gradient
            )
        self.optimizer.step()
        self.mark("optimiser")
        return total if parts > 1 else loss.detach()


def synchronised_only(network: torch.nn.Module, last: bool) -> Any:
    """Several processes average their gradients once an update, not once a part of the batch."""
    return (
        contextlib.nullcontext() if last else getattr(network, "no_sync", contextlib.nullcontext)()
    )
