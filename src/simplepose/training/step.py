"""One training step: pixels and keypoints of a batch on the device -> a loss and changed weights.
The host waits for nothing in here."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from inspect import signature
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from simplepose.config import CodecConfig, Config
from simplepose.core.device import autocast, has_compiler, to_device
from simplepose.data.augment import change_appearance, draw_appearance
from simplepose.data.loader import Batch, Regions, warp_regions
from simplepose.pose.codec import encode, split_axes
from simplepose.pose.pixels import normalise
from simplepose.pose.visibility import LOSS_WEIGHT, visibility_loss
from simplepose.training.distill import Teacher
from simplepose.training.schedule import set_update


class BytesToLoss(torch.nn.Module):
    """A step's loss as a module: what a compiler sees whole, and several processes wrap."""

    def __init__(self, network: torch.nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        """`network` is the one that `loss` calls."""
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, *batch: torch.Tensor | None) -> torch.Tensor:
        """Arguments as `TrainStep.loss`."""
        return self.loss(*batch)


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
        wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module,
    ) -> None:
        """Ties the parts together.

        Args:
            network: normalised pixels -> heatmaps, already on the device.
            optimizer: over its parameters.
            config: the run.
            device: where the network is.
            precision: `fp32` or `bf16`.
            teacher: whose maps are part of the target.
            wrap: what several processes put around it.
        """
        self.network, self.optimizer, self.teacher = network, optimizer, teacher
        self.config, self.device, self.precision = config, device, precision
        self.augment = config.augment
        self.mark: Callable[[str], None] = lambda part: None
        """Called after each part of a step (`forward`, `backward`, `optimiser`), for
        `--profile`."""
        whole, self._warp = BytesToLoss(network, self.loss), warp_regions
        if config.train.compile != "off" or has_compiler(device):
            # Never a device graph, which would copy all pixels into memory of its own.
            self._warp = torch.compile(warp_regions)
        if config.train.compile != "off":
            self._make_constants()
            mode = "reduce-overhead" if config.train.compile == "graphs" else None
            options: dict[str, Any] = {"dynamic": False, "mode": mode}
            if "isolate_recompiles" in signature(torch.compile).parameters:
                # What another step compiled does not count against this one's limit.
                options["isolate_recompiles"] = True
            whole.compile(**options)
            # One graph: by default it is cut where gradients fill a bucket, to average them sooner.
            torch._dynamo.config.optimize_ddp = False
        # Around the compiled module, not in it: the hooks would break its graph.
        self._whole = wrap(whole)

    def _make_constants(self) -> None:
        """Lets `pixels.constant` make what the step needs: made while it is compiled, they would be
        compiled in and all be done twice."""
        config, nobody = self.config, torch.zeros(1, 1, 2, device=self.device)
        pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=self.device)
        normalise(pixels, config.pixels)
        sizes = (config.input_size_wh, config.heatmap_size_wh)
        encode(nobody, nobody[..., 0] > 0, config.codec, *sizes)
        change_appearance(pixels, torch.zeros(12, 1, device=self.device), self.augment)

    def _is_whole(self, count: int) -> bool:
        """Whether a batch has the size that is compiled. A short last one runs as written: a minute
        of compiling would not pay, and a graph for any size is slower. One less is what processes
        have whose people do not come out even."""
        return count >= self.config.train.batch_size - 1

    def cut(self, regions: Regions) -> torch.Tensor:
        """The crops of a batch, (B, 3, H, W) uint8, from parts of pictures on the device: what
        `Batch.to` needs."""
        if self._warp is warp_regions or not self._is_whole(len(regions.starts)):
            return regions.warp()
        torch._dynamo.maybe_mark_dynamic(regions.buffer, 0)
        return self._warp(*regions)

    def loss(
        self,
        pixels: torch.Tensor,
        keypoints: torch.Tensor,
        visibility: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of (part of) a batch; everything from bytes to the loss, so that a compiler sees
        it whole.

        Args:
            pixels: (B, 3, H_in, W_in) uint8 RGB.
            keypoints: (B, K, 2) in input pixels.
            visibility: (B, K) uint8, 0, 1 or 2.
            draws: (12, B) random numbers of colours and occlusions, from `draw_appearance`.
        """
        config = self.config
        pixels = change_appearance(pixels, draws, self.augment)
        inputs = normalise(pixels, config.pixels)  # (B, 3, H_in, W_in)
        target, weights = encode(
            keypoints, visibility > 0, config.codec, config.input_size_wh, config.heatmap_size_wh
        )  # (B, K, H, W), (B, K)
        with autocast(self.device, self.precision):
            if config.model.visibility:
                predicted, logits = self.network(inputs, visibility=True)  # .., (B, K, 3)
            else:
                predicted, logits = self.network(inputs), None  # (B, K, H, W)
            if self.teacher is not None:
                target = self.teacher.blend(pixels, target)
        loss = training_loss(
            predicted,
            target,
            weights,
            config.codec,
            config.input_size_wh,
            factor=config.train.loss_factor,
            hard_keypoints=config.train.hard_keypoints,
        )
        if logits is None:
            return loss
        seen = visibility_loss(logits, keypoints, visibility, config.input_size_wh)
        return loss + LOSS_WEIGHT * seen

    def truth(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What `loss` compares with: keypoints (B, K, 2) and visibility (B, K), on the device."""
        return batch.keypoints, batch.visibility

    def __call__(self, batch: Batch, learning_rate: float, updates_done: int) -> torch.Tensor:
        """Updates the weights.

        Args:
            batch: on the device.
            learning_rate: of this update.
            updates_done: updates before this one.

        Returns:
            () the mean loss of the batch, on the device and detached: reading it is what would make
            the host wait.
        """
        options, count, pixels = self.config.train, len(batch.rows), batch.pixels
        set_update(self.optimizer, learning_rate, updates_done, options.adam_epsilon)
        self.optimizer.zero_grad(set_to_none=True)
        assert isinstance(pixels, torch.Tensor)  # `Batch.to` has cut the crops
        draws = draw_appearance(count, self.augment)
        draws = None if draws is None else to_device(draws, self.device)
        truth = self.truth(batch)
        stance = "default" if self._is_whole(count) else "force_eager"
        parts = min(options.accumulate, count)
        total: Any = 0.0
        for part in range(parts):
            rows = slice(part * count // parts, (part + 1) * count // parts)
            people = truth[0][rows], truth[1][rows]
            # Several processes average their gradients once an update, not once a part.
            alone = getattr(self._whole, "no_sync", contextlib.nullcontext)
            with contextlib.nullcontext() if part == parts - 1 else alone():
                with torch.compiler.set_stance(stance):
                    loss = self._whole(
                        pixels[rows], *people, None if draws is None else draws[:, rows]
                    )
                self.mark("forward")
                fraction = (rows.stop - rows.start) / count
                weight = fraction * batch.loss_weight
                total = total + loss.detach() * fraction
                (loss if weight == 1 else loss * weight).backward()
                self.mark("backward")
        if options.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip_gradient)
        self.optimizer.step()
        self.mark("optimiser")
        return total if parts > 1 else loss.detach()


class Ema:
    """Moving average of a network's weights and running statistics, by torch's own averaging
    function: what is evaluated and kept where `train.ema` is on.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the beginning is soon
    forgotten.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        """Begins as a copy of the network."""
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0
        self._own = _tensors(self.network)
        self._followed, self._new = self.network, self._own

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Takes in the weights after an update; counters are copied. A handful of operations over
        lists, which stay the same tensors from step to step."""
        if self._followed is not network:
            self._followed, self._new = network, _tensors(network)
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        (own, counters), (new, counted) = self._own, self._new
        get_ema_multi_avg_fn(decay)(own, new, None)
        if counters:
            torch._foreach_copy_(counters, counted)
        self.updates += 1


def _tensors(network: torch.nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Its weights and running statistics, and its counters."""
    values = list(network.state_dict().values())
    floats = [value.is_floating_point() for value in values]
    return list(compress(values, floats)), list(compress(values, map(not_, floats)))


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
        target: the same shape, from `codec.encode`.
        target_weights: (B, K), 0 masks a keypoint out.
        codec: `kind` decides between squared error and cross-entropy.
        input_size_wh: size of the network's input.
        factor: in front of the squared error.
        hard_keypoints: only so many worst keypoints of each person count; 0: all.

    Returns:
        () float32, a mean over all keypoints, trained or not: so the mean of the losses of two
        halves of a batch is the loss of the batch.
    """
    if codec.kind == "heatmap" and not hard_keypoints:
        return heatmap_loss(outputs, target, target_weights, factor)
    if codec.kind == "heatmap":
        losses = factor * (outputs.float() - target).square().mean((2, 3))
    elif codec.kind == "simcc":
        axes = zip(*(split_axes(part, input_size_wh) for part in (outputs, target)), strict=True)
        losses = torch.stack([cross_entropy(*axis) for axis in axes]).mean(0)
    else:
        losses = cross_entropy(outputs.flatten(2), target.flatten(2))
    losses = losses * target_weights
    return (hardest(losses, hard_keypoints) if hard_keypoints else losses).mean()


def heatmap_loss(
    predicted: torch.Tensor, target: torch.Tensor, target_weights: torch.Tensor, factor: float
) -> torch.Tensor:
    """`factor * mean((predicted - target)^2 * weight)` over B, K, H, W; keypoints of weight 0 stay
    in the denominator.

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
    """How far the softmax of the logits is from the target, in nats above the best possible
    (Kullback-Leibler divergence).

    Unlike squared error it does not reward an empty map: from the first step every keypoint pulls
    its probability to one position, however few of the pixels that is.

    Args:
        logits: (B, K, L).
        target: (B, K, L), not negative; scaled to sum 1 here. An empty one (a keypoint of weight 0)
            gives 0.

    Returns:
        (B, K) float32.
    """
    wanted = target / target.sum(-1, keepdim=True).clamp(min=1e-12)
    return (torch.xlogy(wanted, wanted) - wanted * logits.float().log_softmax(-1)).sum(-1)


def hardest(losses: torch.Tensor, count: int) -> torch.Tensor:
    """(B, K) -> (B, count): the largest of each person (Chen et al., CVPR 2018, section 3.2)."""
    return losses.topk(min(count, losses.shape[1]), dim=1).values
