"""The losses of the steps just done: they stay on the device until somebody looks, because looking makes the host wait."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from simplepose.core.errors import UserError
from simplepose.training.distributed import Processes, average
from simplepose.training.state import Position


class Losses:
    """Collects them and, now and then, adds them to the sum of the epoch."""

    def __init__(self, who: Processes, per_epoch: int, checkpoints: Path) -> None:
        """Begins empty.

        Args:
            who: the processes whose losses are averaged.
            per_epoch: steps of an epoch, for messages.
            checkpoints: their folder, for messages.
        """
        self.who, self.per_epoch, self.checkpoints = who, per_epoch, checkpoints
        self.unread: list[torch.Tensor] = []
        """() each, on the device, since the last look."""
        self.last = 0.0
        """The newest one that was read."""

    def look(self, position: Position) -> None:
        """Reads them into `position`, the only place of the loop where the host waits for the device; all processes come here together.

        Raises:
            UserError: one is not finite; names its step.
        """
        values = average(torch.stack(self.unread), self.who).tolist() if self.unread else []
        first = position.step - len(values)
        self.unread.clear()
        for number, value in enumerate(values):
            if not math.isfinite(value):
                saved = (self.checkpoints / "last.train.pt").exists()
                kept = (
                    f"{self.checkpoints} keeps the last good checkpoint"
                    if saved
                    else "no checkpoint had been written yet"
                )
                raise UserError(
                    f"the loss became {value} at step {first + number} (epoch {(first + number) // self.per_epoch + 1}); {kept}. "
                    "Cure: lower --train.learning-rate, or train in fp32"
                )
            position.loss_sum += value
            position.loss_count += 1
            self.last = value
