"""The moving average of the weights: what is evaluated and kept where `train.ema` is on."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Moving average of a network's weights and running statistics, by torch's own averaging function.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the first values are soon forgotten.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        """Begins as a copy of the network."""
        self.network, self.decay, self.updates = (
            copy.deepcopy(network).eval().requires_grad_(False),
            decay,
            0,
        )

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Takes in the weights after an update; counters are copied."""
        own, new = list(self.network.state_dict().values()), list(network.state_dict().values())
        average = get_ema_multi_avg_fn(min(self.decay, (1 + self.updates) / (10 + self.updates)))
        floats = [index for index, tensor in enumerate(own) if tensor.is_floating_point()]
        average([own[index] for index in floats], [new[index] for index in floats], None)
        for index in set(range(len(own))) - set(floats):
            own[index].copy_(new[index])
        self.updates += 1
