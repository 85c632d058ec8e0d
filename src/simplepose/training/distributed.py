"""Several processes, one training: plain torch.distributed under torchrun, or inside a process
group that is there already (Ray Train).

    torchrun --nproc-per-node 4 -m simplepose train PRESET --data.root DIR

One process is the special case that needs nothing of this. Only rank 0 writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simplepose.core.device import collective_backend, has_own_sync_batch_norm
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations, Detections
from simplepose.detection.trained import TrainedDetector
from simplepose.evaluation.boxes import Found, detect_pictures
from simplepose.evaluation.top_down import Estimates, estimate_boxes
from simplepose.pose.estimator import PoseEstimator

LOST_PEER = (
    "closed by peer",
    "reset by peer",
    "timed out",
    "timeout",
    "broken pipe",
    "connection refused",
    "no route to host",
)
"""What the messages of the collective libraries say when another process has gone."""


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this is."""

    rank: int = 0
    """This process, 0 .. size - 1."""
    size: int = 1
    """Processes in all."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes the run folder."""
        return self.rank == 0

    def __str__(self) -> str:
        """` x 4`, or nothing for one process."""
        return f" x {self.size}" if self.size > 1 else ""


@contextmanager
def join_world(device: torch.device, *, timeout_minutes: float) -> Iterator[World]:
    """Joins the other processes of torchrun, if there are any, and leaves them at the end.

    Args:
        device: decides the library of the collectives.
        timeout_minutes: how long a silent process is waited for.

    Raises:
        UserError: the others cannot be reached, or one of them is lost on the way.
    """
    own = not (dist.is_available() and dist.is_initialized())
    if own and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World()
        return
    if own:
        try:
            dist.init_process_group(
                collective_backend(device), timeout=timedelta(minutes=timeout_minutes)
            )
        except (RuntimeError, ValueError) as error:
            names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
            where = ", ".join(f"{name} {os.environ.get(name, '?')}" for name in names)
            raise UserError(
                f"this process cannot reach the others ({where}): {str(error).splitlines()[0]}. "
                "Cure: start all of them with torchrun, see docs/scale.md"
            ) from error
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError)
        if not lost and not any(sign in str(error).lower() for sign in LOST_PEER):
            raise
        raise UserError(
            f"another of the {dist.get_world_size()} processes stopped answering "
            f"({str(error).splitlines()[0][:160]}), so rank {dist.get_rank()} stops too. "
            "Cure: see why it died (its own message, or memory), then go on with --resume"
        ) from error
    finally:
        if own:
            dist.destroy_process_group()


def wrap(
    network: nn.Module, world: World, device: torch.device, *, sync_batch_norm: bool
) -> nn.Module:
    """The network whose gradients are averaged over the processes; itself where there is one."""
    if world.size == 1:
        return network
    if sync_batch_norm and has_own_sync_batch_norm(device):
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif sync_batch_norm:
        synchronise_batch_norms(network)
    return DistributedDataParallel(
        network,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
    )


class SumOverProcesses(torch.autograd.Function):
    """A tensor's sum over all processes; its gradient is summed likewise, because every process's
    loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same shape."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same shape."""
        return SumOverProcesses.forward(ctx, gradient)


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the samples of all processes, for devices that torch.nn.SyncBatchNorm does
    not serve.

    Mean and variance (two passes, the exact form) are summed with a collective that is
    differentiable itself, so the gradient is that of one process with the whole batch. The
    statistics are those of nn.BatchNorm2d: biased variance to normalise, unbiased for the running
    one.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        own = torch.full((1,), float(values.numel() // input.shape[1]), device=input.device)
        totals = SumOverProcesses.apply(torch.cat([values.sum((0, 2, 3)), own]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centered = values - mean[:, None, None]
        variance = SumOverProcesses.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            running: Any = (self.running_mean, self.running_var)
            unbiased = variance.detach() * count / (count - 1).clamp(min=1)
            running[0].lerp_(mean.detach(), self.momentum)
            running[1].lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def synchronise_batch_norms(network: nn.Module) -> None:
    """Turns every BatchNorm2d into a SyncedBatchNorm, which has the same parameters and buffers."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncedBatchNorm


def gather(value: Any, world: World) -> list[Any]:
    """The values of all processes in the order of their ranks, on every process."""
    values: list[Any] = [value] * world.size
    if world.size > 1:
        dist.all_gather_object(values, value)
    return values


def broadcast_buffers(network: nn.Module, world: World) -> None:
    """Gives every process rank 0's buffers (running statistics), as the next step would."""
    if world.size > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def anyone(flag: bool, world: World, device: torch.device) -> bool:
    """Whether the flag is set on any process; all of them must ask at the same step."""
    if world.size == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value.item())


def average(values: torch.Tensor, world: World) -> torch.Tensor:
    """The mean of a vector over the processes, on all of them."""
    if world.size > 1:
        dist.all_reduce(values)
        values /= world.size
    return values


def detect_together(
    detector: TrainedDetector,
    annotations: Annotations,
    pictures: range,
    *,
    world: World,
    **options: Any,
) -> tuple[Found, dict[str, str]]:
    """`detect_pictures` on several processes, which deal the pictures out; every process gets all
    boxes, ordered by picture."""
    mine = pictures[world.rank :: world.size]
    parts = gather(detect_pictures(detector, annotations, mine, **options), world)
    found = sorted((one for part, _ in parts for one in part), key=lambda one: one[0])
    return found, {path: reason for _, broken in parts for path, reason in broken.items()}


def estimate_together(
    estimator: PoseEstimator,
    annotations: Annotations,
    detections: Detections,
    *,
    world: World,
    **options: Any,
) -> Estimates:
    """`estimate_boxes` on several processes; every process gets all estimates, in the order one
    process gives them.

    A picture belongs to one process, so no box is estimated twice.

    Args:
        estimator: the network, the same on all processes.
        annotations: knows the pictures.
        detections: all boxes.
        world: the processes.
        options: as `estimate_boxes`.
    """
    if world.size == 1:
        return estimate_boxes(estimator, annotations, detections, **options)
    mine = detections.select(detections.image_index % world.size == world.rank)
    parts = gather(estimate_boxes(estimator, annotations, mine, **options), world)
    return merge_estimates(parts, annotations, detections)


def merge_estimates(
    parts: list[Estimates], annotations: Annotations, detections: Detections
) -> Estimates:
    """Joins the estimates of disjoint sets of pictures, ordered by picture.

    Raises:
        UserError: a picture's boxes came from two processes, or boxes were lost: both would falsify
            the score.
    """
    broken = {path: reason for part in parts for path, reason in part.broken.items()}
    names = [field.name for field in fields(Estimates) if field.name != "broken"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    paths = np.array(annotations.image_paths, object)[detections.image_index]
    readable = detections.image_index[~np.isin(paths, list(broken))]
    expected, found = (
        np.bincount(index, minlength=len(annotations.image_ids))
        for index in (readable, columns["image_index"])
    )
    if (wrong := np.flatnonzero(expected != found)).size:
        raise UserError(
            f"the processes estimated {found[wrong[0]]} boxes of picture "
            f"{annotations.image_ids[wrong[0]]}, expected {expected[wrong[0]]}. "
            "Cure: start all processes with the same data"
        )
    order = np.argsort(columns["image_index"], kind="stable")
    return Estimates(**{name: column[order] for name, column in columns.items()}, broken=broken)
