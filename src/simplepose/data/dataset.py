"""Records -> batches. Threads read and warp (the JPEG decoder and cv2 release the GIL); only uint8 pixels and keypoints leave here.

Every random number of an epoch is drawn from (seed, epoch) before it starts, so a sample does not depend on threads, on workers or on
where training was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from simplepose.data.annotations import Annotations
from simplepose.data.augment import AugmentConfig, no_draws, sample_affines, sample_keypoints
from simplepose.data.passes import batches_per_epoch, epoch_samples
from simplepose.errors import UserError
from simplepose.geometry import warp_crop
from simplepose.images import read_image


@dataclass(frozen=True, slots=True)
class Batch:
    """B training samples."""

    pixels: torch.Tensor
    """(B, 3, H, W) uint8 RGB crops, channels-last in memory."""
    keypoints: torch.Tensor
    """(B, K, 2) float32 in input pixels."""
    visible: torch.Tensor
    """(B, K) bool: annotated with v > 0."""
    rows: np.ndarray
    """(B,) rows of the annotations."""


class TrainLoader:
    """Batches of augmented people, one epoch at a time: the reference loader (full decode, cv2 warp)."""

    def __init__(
        self,
        annotations: Annotations,
        augment: AugmentConfig,
        *,
        input_size_wh: tuple[int, int],
        batch_size: int,
        seed: int,
        workers: int = 2,
        udp: bool = False,
        skip_broken: bool = False,
        augmented: bool = True,
        fill: bool = False,
    ) -> None:
        """Prepares the loader; nothing is read yet.

        Args:
            annotations: trainable people only (`Annotations.trainable`).
            augment: random changes.
            input_size_wh: size of the crops.
            batch_size: people a batch; the last batch of an epoch may be smaller, see `fill`.
            seed: with the epoch's number it decides order and augmentation.
            workers: reading threads.
            udp: unit convention, see `simplepose.geometry`.
            skip_broken: leave unreadable pictures out, counted in `broken`, instead of stopping.
            augmented: False gives every person plain and in order.
            fill: complete the last batch with people of the next pass, see `simplepose.data.passes`.
        """
        if not len(annotations):
            raise UserError(f"{annotations.source} has no person to train on. Cure: annotate keypoints with visibility 1 or 2")
        self.annotations, self.augment = annotations, augment
        self.input_size_wh, self.batch_size, self.seed = input_size_wh, batch_size, seed
        self.workers, self.udp, self.skip_broken, self.augmented = max(workers, 1), udp, skip_broken, augmented
        self.fill = fill
        self.broken: dict[str, str] = {}
        """Pictures left out so far: path -> reason."""

    def __len__(self) -> int:
        """Batches an epoch."""
        return batches_per_epoch(len(self.annotations), self.batch_size)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            number: which epoch; with the seed it decides everything random.
            start: first batch, to go on after an interruption.

        Raises:
            UserError: a picture cannot be read and `skip_broken` is off.
        """
        if self.augmented:
            order, draws = epoch_samples(
                self.annotations, self.augment, seed=self.seed, number=number, batch_size=self.batch_size, fill=self.fill
            )
        else:
            order, draws = np.arange(len(self.annotations)), no_draws(len(self.annotations))
        batches = [slice(first, first + self.batch_size) for first in range(0, len(order), self.batch_size)][start:]

        def prepare(batch: slice, pool: ThreadPoolExecutor) -> Callable[[], Batch | None]:
            rows, chosen = order[batch], draws[batch]
            to_crop = sample_affines(self.annotations, rows, chosen, self.input_size_wh, udp=self.udp)
            keypoints, visible = sample_keypoints(self.annotations, rows, chosen, to_crop)
            width, height = self.input_size_wh
            pixels = np.empty((len(rows), height, width, 3), np.uint8)
            jobs = [pool.submit(self._fill, pixels, place, row, to_crop[place]) for place, row in enumerate(rows)]

            def finish() -> Batch | None:
                good = np.array([job.result() for job in jobs])
                if not good.any():
                    return None
                tensor = torch.from_numpy(pixels[good] if not good.all() else pixels).permute(0, 3, 1, 2)
                return Batch(tensor, torch.from_numpy(keypoints[good]), torch.from_numpy(visible[good]), rows[good])

            return finish

        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            ahead: deque[Callable[[], Batch | None]] = deque()
            try:
                for place in batches:
                    ahead.append(prepare(place, pool))
                    if len(ahead) > 3 and (batch := ahead.popleft()()) is not None:
                        yield batch
                while ahead:
                    if (batch := ahead.popleft()()) is not None:
                        yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, pixels: np.ndarray, place: int, row: int, to_crop: np.ndarray) -> bool:
        """Reads one picture and warps one crop into its place; False where the picture is broken and may be skipped."""
        path = self.annotations.image_paths[self.annotations.image_index[row]]
        try:
            pixels[place] = warp_crop(read_image(path), to_crop, self.input_size_wh)
        except UserError as error:
            if not self.skip_broken:
                raise
            self.broken[path] = str(error)
            return False
        return True
