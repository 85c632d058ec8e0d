"""A batch on its way to the device, and the warp that cuts all its crops there in one operation.

The host copies no more than the bytes that a crop needs into one uint8 buffer; the affine of each sample does the rest on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from simplepose.core.device import page_lock, page_locked


@dataclass(frozen=True, slots=True)
class Regions:
    """B parts of pictures in one buffer, not yet cut to crops."""

    buffer: torch.Tensor
    """(P, 3) uint8 RGB pixels, row by row, region after region; in host memory, or a whole data set in the device's."""
    starts: torch.Tensor
    """(B,) int64 first pixel of each region."""
    sizes_wh: torch.Tensor
    """(B, 2) int64."""
    to_region: torch.Tensor
    """(B, 2, 3) float32 crop -> region."""
    input_size_wh: tuple[int, int]
    """Size of the crops."""

    def to(self, device: torch.device) -> Regions:
        """The same on a device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pinned(self, device: torch.device) -> Regions:
        """The same in page-locked memory, see `Batch.pinned`."""
        return self._each(lambda part: page_lock(part, device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Regions:
        """The same with all tensors changed."""
        return Regions(
            change(self.buffer),
            change(self.starts),
            change(self.sizes_wh),
            change(self.to_region),
            self.input_size_wh,
        )

    def warp(self) -> torch.Tensor:
        """The crops: (B, 3, H, W) uint8, channels-last in memory."""
        return warp_regions(
            self.buffer, self.starts, self.sizes_wh, self.to_region, self.input_size_wh
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """B training samples."""

    pixels: torch.Tensor | Regions
    """(B, 3, H, W) uint8 RGB crops, channels-last in memory, or the parts of pictures that `to` cuts them from."""
    keypoints: torch.Tensor
    """(B, K, 2) float32 in input pixels."""
    visible: torch.Tensor
    """(B, K) bool: annotated with v > 0."""
    rows: np.ndarray
    """(B,) rows of the annotations."""
    index: int = 0
    """Number of the batch in its epoch."""
    loss_weight: float = 1.0
    """Weight of its mean loss among several processes: its people x processes / people of this update on all processes."""

    def to(
        self, device: torch.device, cut: Callable[[Regions], torch.Tensor] = Regions.warp
    ) -> Batch:
        """The batch on the device, its crops cut there by `cut` if they are not yet; copies do not make the host wait."""
        pixels = (
            cut(self.pixels.to(device))
            if isinstance(self.pixels, Regions)
            else self.pixels.to(device, non_blocking=True)
        )
        return replace(
            self,
            pixels=pixels,
            keypoints=self.keypoints.to(device, non_blocking=True),
            visible=self.visible.to(device, non_blocking=True),
        )

    def pinned(self, device: torch.device) -> Batch:
        """The batch in page-locked memory where that lets copies run beside the device's work."""
        if not page_locked(device):
            return self
        pixels = (
            self.pixels.pinned(device)
            if isinstance(self.pixels, Regions)
            else page_lock(self.pixels, device)
        )
        return replace(
            self,
            pixels=pixels,
            keypoints=page_lock(self.keypoints, device),
            visible=page_lock(self.visible, device),
        )


def warp_regions(
    buffer: torch.Tensor,
    starts: torch.Tensor,
    sizes_wh: torch.Tensor,
    to_region: torch.Tensor,
    input_size_wh: tuple[int, int],
) -> torch.Tensor:
    """Cuts B crops: bilinear between pixel centres at whole numbers, 0 outside a region, as `cv2.warpAffine` with a constant border.

    Args:
        buffer: (P, 3) uint8.
        starts: (B,) int64 first pixel of each region.
        sizes_wh: (B, 2) int64.
        to_region: (B, 2, 3) float32 crop -> region.
        input_size_wh: size of the crops.

    Returns:
        (B, 3, H, W) uint8, channels-last in memory. Within one grey level of OpenCV 5, which also interpolates without rounding positions.
    """
    width, height = input_size_wh
    columns = torch.arange(width, device=buffer.device, dtype=torch.float32)
    lines = torch.arange(height, device=buffer.device, dtype=torch.float32)[:, None]
    m = to_region[:, :, :, None, None]  # (B, 2, 3, 1, 1)
    x = m[:, 0, 0] * columns + m[:, 0, 1] * lines + m[:, 0, 2]  # (B, H, W)
    y = m[:, 1, 0] * columns + m[:, 1, 1] * lines + m[:, 1, 2]
    left, top = x.floor(), y.floor()
    weight_x, weight_y = x - left, y - top
    widths, heights = sizes_wh[:, 0, None, None], sizes_wh[:, 1, None, None]
    left, top = left.long(), top.long()
    total: torch.Tensor | None = None
    for row, share_y in ((top, 1 - weight_y), (top + 1, weight_y)):
        inside_y = (row >= 0) & (row < heights)
        line = starts[:, None, None] + row * widths
        for column, share_x in ((left, 1 - weight_x), (left + 1, weight_x)):
            inside = inside_y & (column >= 0) & (column < widths)
            taps = buffer.index_select(0, torch.where(inside, line + column, 0).flatten()).view(
                *inside.shape, 3
            )
            part = taps * (share_x * share_y * inside)[..., None]  # (B, H, W, 3) float32
            total = part if total is None else total.add_(part)
    assert total is not None
    return total.add_(0.5).to(torch.uint8).permute(0, 3, 1, 2)
