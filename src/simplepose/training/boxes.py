"""A detector's step and test: what differs from a pose network's in the same loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simplepose.core.device import autocast, to_device
from simplepose.data.augment import change_appearance
from simplepose.data.loader import Batch
from simplepose.detection.centers import detection_loss, encode
from simplepose.pose.pixels import normalise
from simplepose.training.step import TrainStep


class BoxStep(TrainStep):
    """Forward, backward and update of one batch of pictures, `data.boxes.as_pictures`."""

    def __init__(self, *parts: Any, labels: np.ndarray) -> None:
        """Arguments as `TrainStep`, and the labels (M, 1 + P) of all samples."""
        super().__init__(*parts)
        self.labels = torch.from_numpy(labels)

    def truth(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (B, 1 + P, 4) in input pixels, told by the edges of pixels, and their labels."""
        pairs = batch.keypoints.unflatten(1, (-1, 2)) + 0.5  # (B, 1 + P, 2, 2)
        boxes = torch.cat([pairs.amin(2), pairs.amax(2)], -1)
        return boxes, to_device(self.labels[torch.from_numpy(batch.rows)], self.device)

    def loss(
        self,
        pixels: torch.Tensor,
        boxes: torch.Tensor,
        labels: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of (part of) a batch.

        Args:
            pixels: (B, 3, H_in, W_in) uint8 RGB.
            boxes: (B, 1 + P, 4) in input pixels.
            labels: (B, 1 + P).
            draws: as `TrainStep.loss`.
        """
        config, stride = self.config, self.config.model.heatmap_stride
        pixels = change_appearance(pixels, draws, self.augment)
        with autocast(self.device, self.precision):
            maps = self.network(normalise(pixels, config.pixels))  # (B, C + 4, H, W)
        targets = encode(boxes, labels, maps.shape[1] - 4, config.input_size_wh, stride)
        return detection_loss(maps, targets, stride)

    def _make_constants(self) -> None:
        pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=self.device)
        change_appearance(normalise(pixels, self.config.pixels).byte(), None, self.augment)
