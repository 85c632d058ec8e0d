"""Several processes, one training: plain torch.distributed under torchrun, or under whoever has set up a process group already (Ray Train).

    torchrun --nproc-per-node 4 -m simplepose.cli train PRESET --data.root DIR

One process is the special case that needs nothing of this. Only the process of rank 0 writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simplepose.core.device import collective_backend, has_own_sync_batch_norm
from simplepose.core.errors import UserError

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


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    """0 .. count - 1; 0 writes."""
    count: int = 1
    """Processes in all."""

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


@contextmanager
def processes(device: torch.device, *, timeout_minutes: float) -> Iterator[Processes]:
    """Joins the other processes of torchrun, if there are any, and leaves them at the end.

    Args:
        device: decides the library of the collectives.
        timeout_minutes: how long a silent process is waited for.

    Raises:
        UserError: the others cannot be reached, or one of them is lost on the way.
    """
    if dist.is_available() and dist.is_initialized():  # somebody else's group: use it, leave it
        with _lost_peers():
            yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Processes()
        return
    try:
        dist.init_process_group(
            collective_backend(device), timeout=timedelta(minutes=timeout_minutes)
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {os.environ.get('RANK', '?')} of {os.environ['WORLD_SIZE']} cannot reach the others at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')}: {str(error).splitlines()[0]}. Cure: start all of them with torchrun, see docs/scale.md"
        ) from error
    try:
        with _lost_peers():
            yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _lost_peers() -> Iterator[None]:
    """Turns the collective library's error about a vanished process into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(
            sign in str(error).lower() for sign in LOST_PEER
        ):
            raise UserError(
                f"another of the {dist.get_world_size()} processes stopped answering ({str(error).splitlines()[0][:160]}), so this one (rank "
                f"{dist.get_rank()}) stops too. Cure: see why it died (its own message, or memory), then go on with --resume"
            ) from error
        raise


def wrap(
    network: nn.Module, who: Processes, device: torch.device, *, sync_batch_norm: bool
) -> nn.Module:
    """The network whose gradients are averaged over the processes; the network itself where there is one process."""
    if who.count == 1:
        return network
    if sync_batch_norm:
        network = (
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
            if has_own_sync_batch_norm(device)
            else synchronise_batch_norms(network)
        )
    return DistributedDataParallel(
        network,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
    )


class SumOverProcesses(torch.autograd.Function):
    """A tensor's sum over all processes; its gradient is summed likewise, because every process's loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same shape."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same shape."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the samples of all processes, for devices that torch.nn.SyncBatchNorm does not serve.

    Mean and variance (two passes, the exact form) are summed with a collective that is differentiable itself, so the gradient is that of one
    process with the whole batch. The statistics are those of nn.BatchNorm2d: biased variance to normalise, unbiased for the running one.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(input)
        channels = input.shape[1]
        values = input.float()
        own = torch.full((1,), float(values.numel() // channels), device=input.device)
        totals = SumOverProcesses.apply(torch.cat([values.sum((0, 2, 3)), own]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centered = values - mean[:, None, None]
        variance = SumOverProcesses.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert (
                self.running_mean is not None
                and self.running_var is not None
                and self.num_batches_tracked is not None
            )
            assert self.momentum is not None
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(
                variance.detach() * count / (count - 1).clamp(min=1), self.momentum
            )
            self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def synchronise_batch_norms(network: nn.Module) -> nn.Module:
    """Replaces every BatchNorm2d by a SyncedBatchNorm with the same parameters and buffers; returns the network."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum)
            synced.weight, synced.bias = child.weight, child.bias
            synced.running_mean, synced.running_var, synced.num_batches_tracked = (
                child.running_mean,
                child.running_var,
                child.num_batches_tracked,
            )
            synced.train(child.training)
            setattr(network, name, synced)
        else:
            synchronise_batch_norms(child)
    return network


def gather(value: Any, who: Processes) -> list[Any]:
    """The values of all processes in the order of their ranks, on every process."""
    if who.count == 1:
        return [value]
    values: list[Any] = [None] * who.count
    dist.all_gather_object(values, value)
    return values


def broadcast_buffers(network: nn.Module, who: Processes) -> None:
    """Gives every process rank 0's buffers (running statistics), as the next training step would."""
    if who.count > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def anyone(flag: bool, who: Processes, device: torch.device) -> bool:
    """Whether the flag is set on any process; all of them must ask at the same step."""
    if who.count == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value.item())


def average(values: torch.Tensor, who: Processes) -> torch.Tensor:
    """The mean of a vector over the processes, on all of them."""
    if who.count > 1:
        dist.all_reduce(values)
        values /= who.count
    return values
