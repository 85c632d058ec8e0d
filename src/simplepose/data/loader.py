"""Annotations -> batches. Threads read, cut and warp (the JPEG decoder and cv2 release the GIL); only uint8 pixels and keypoints leave here.

Every random number of an epoch is drawn from (seed, epoch) before it starts, so a sample does not depend on threads, on workers, on the
place its pixels come from, or on where training was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from simplepose.config import AugmentConfig
from simplepose.core.device import page_locked
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.augment import Draws, no_draws, sample_affines, sample_keypoints
from simplepose.data.cache import Files, PixelSource, Resident
from simplepose.data.device_batch import Batch, Regions
from simplepose.data.passes import batches_per_epoch, epoch_samples
from simplepose.data.regions import View, from_view, needed_regions
from simplepose.data.shares import Share, count_steps, deal, slices_to
from simplepose.pose import geometry

__all__ = ["Batch", "Share", "TrainLoader"]

AHEAD = 4
"""Batches that are prepared while one is used, or more where each is the work of one thread."""
CHUNK = 4
"""Samples a thread takes at a time."""
BLOCK = 2048
"""Samples whose affines and keypoints are computed together."""


class TrainLoader:
    """Batches of augmented people, one epoch at a time."""

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
        source: PixelSource | None = None,
        device: torch.device | None = None,
        warp_on_device: bool = False,
        share: Share = Share(),
    ) -> None:
        """Prepares the loader; nothing is read yet. As it stands it is the reference: full decode of the file, cv2 warp.

        Args:
            annotations: trainable people only (`Annotations.trainable`).
            augment: random changes.
            input_size_wh: size of the crops.
            batch_size: people a batch on each process; the last batch of an epoch may be smaller, see `fill`.
            seed: with the epoch's number it decides order and augmentation.
            workers: reading threads.
            udp: unit convention, see `simplepose.pose.geometry`.
            skip_broken: leave unreadable pictures out, counted in `broken`, instead of stopping.
            augmented: False gives every person plain and in order.
            fill: complete the last batch with people of the next pass, see `simplepose.data.passes`.
            source: where pixels live (`simplepose.data.cache`); the picture files by default.
            device: where batches go; decides whether host memory is page-locked.
            warp_on_device: hand out the parts of pictures that crops need and cut the crops in `Batch.to`; always so where pixels live in the
                device's memory.
            share: this process's part.

        Raises:
            UserError: nobody to train on, or fewer people than processes.
        """
        if not len(annotations):
            raise UserError(
                f"{annotations.source} has no person to train on. Cure: annotate keypoints with visibility 1 or 2"
            )
        if len(annotations) < share.count:
            raise UserError(
                f"{annotations.source} has {len(annotations)} people to train on for {share.count} processes. Cure: start fewer processes"
            )
        self.annotations, self.augment = annotations, augment
        self.input_size_wh, self.batch_size, self.seed = input_size_wh, batch_size, seed
        self.workers, self.udp, self.skip_broken, self.augmented = (
            max(workers, 1),
            udp,
            skip_broken,
            augmented,
        )
        self.fill, self.share, self.device = fill, share, device or torch.device("cpu")
        self.source: PixelSource = source or Files(annotations)
        self.warp_on_device = warp_on_device
        self.broken: dict[str, str] = {}
        """Pictures left out so far: path -> reason."""

    def __len__(self) -> int:
        """Batches an epoch."""
        people, together = len(self.annotations), self.batch_size * self.share.count
        return (
            batches_per_epoch(people, together)
            if self.fill
            else count_steps(people, self.batch_size, self.share.count)
        )

    def no_picture(self, number: int) -> UserError:
        """What is wrong when epoch `number` gave no batch at all."""
        reason = next(iter(self.broken.values()), "unknown")
        return UserError(
            f"no picture of epoch {number + 1} can be read, first: {reason}. Cure: check the folder of the training pictures"
        )

    def samples(self, number: int) -> tuple[np.ndarray, Draws, list[slice], np.ndarray]:
        """Who is shown by this process in epoch `number`, and how.

        Returns:
            rows (S,), their draws (S,), the slice of each batch, and each batch's weight among the processes (see `Batch.loss_weight`).
        """
        together = self.batch_size * self.share.count
        if self.augmented:
            order, draws = epoch_samples(
                self.annotations,
                self.augment,
                seed=self.seed,
                number=number,
                batch_size=together,
                fill=self.fill,
            )
        else:
            order, draws = np.arange(len(self.annotations)), no_draws(len(self.annotations))
        if self.share.count == 1:
            return (
                order,
                draws,
                slices_to(np.minimum(np.arange(1, len(self) + 1) * together, len(order))),
                np.ones(len(self)),
            )
        places, sizes = deal(order, self.annotations.image_index, self.batch_size, self.share)
        mine = places[self.share.rank]
        weights = sizes[self.share.rank] * self.share.count / sizes.sum(0)
        return order[mine], draws[mine], slices_to(np.cumsum(sizes[self.share.rank])), weights

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            number: which epoch; with the seed it decides everything random.
            start: first batch, to go on after an interruption.

        Raises:
            UserError: a picture cannot be read and `skip_broken` is off.
        """
        rows, draws, batches, weights = self.samples(number)
        views = self._views(rows, draws, batches[start:])
        # A batch that the host cuts is work for all threads; one of which it only copies parts is work for one.
        waiting = max(AHEAD, self.workers + 1) if self.warp_on_device else AHEAD
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            ahead: deque[Callable[[], Batch | None]] = deque()
            try:
                for index, view in enumerate(views, start):
                    ahead.append(self._prepare(*view, index, float(weights[index]), pool))
                    if len(ahead) >= waiting and (batch := ahead.popleft()()) is not None:
                        yield batch
                while ahead:
                    if (batch := ahead.popleft()()) is not None:
                        yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _views(
        self, rows: np.ndarray, draws: Draws, batches: list[slice]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, to_crop, keypoints, visible) of each batch, computed for many batches at once."""
        at_once = max(1, BLOCK // self.batch_size)
        for first in range(0, len(batches), at_once):
            block = batches[first : first + at_once]
            begin = block[0].start
            span = slice(begin, block[-1].stop)
            to_crop = sample_affines(
                self.annotations, rows[span], draws[span], self.input_size_wh, udp=self.udp
            )
            keypoints, visible = sample_keypoints(
                self.annotations, rows[span], draws[span], to_crop
            )
            for batch in block:
                part = slice(batch.start - begin, batch.stop - begin)
                yield rows[batch], to_crop[part], keypoints[part], visible[part]

    def _prepare(
        self,
        rows: np.ndarray,
        to_crop: np.ndarray,
        keypoints: np.ndarray,
        visible: np.ndarray,
        index: int,
        weight: float,
        pool: ThreadPoolExecutor,
    ) -> Callable[[], Batch | None]:
        """Starts the work on a batch; the returned function waits for it."""
        if isinstance(self.source, Resident):
            cut: Callable[[], tuple[torch.Tensor | Regions, np.ndarray]] = lambda: self._resident(
                rows, to_crop
            )
        elif self.warp_on_device:
            job = pool.submit(self._copy, rows, to_crop)
            cut = job.result
        else:
            width, height = self.input_size_wh
            held = torch.empty(
                (len(rows), height, width, 3),
                dtype=torch.uint8,
                pin_memory=page_locked(self.device),
            )
            pixels = held.numpy()
            chunks = [
                np.arange(first, min(first + CHUNK, len(rows)))
                for first in range(0, len(rows), CHUNK)
            ]
            jobs = [pool.submit(self._warp, pixels, places, rows, to_crop) for places in chunks]

            def cut() -> tuple[torch.Tensor | Regions, np.ndarray]:
                good = np.concatenate([job.result() for job in jobs])
                return (held if good.all() else held[torch.from_numpy(good)]).permute(
                    0, 3, 1, 2
                ), good

        def finish() -> Batch | None:
            crops, good = cut()
            if not good.any():
                if self.share.count > 1:
                    raise UserError(
                        f"no picture of batch {index} can be read ({next(iter(self.broken.values()))}), and the other processes wait for it. "
                        "Cure: take the unreadable pictures out of the annotation file"
                    )
                return None
            batch = Batch(
                crops,
                torch.from_numpy(keypoints[good]),
                torch.from_numpy(visible[good]),
                rows[good],
                index,
                weight,
            )
            return batch.pinned(self.device)

        return finish

    def _view(self, row: int) -> View | None:
        """The pixels around a person; None where the picture is broken and may be skipped."""
        path = self.annotations.image_paths[self.annotations.image_index[row]]
        try:
            return self.source.view(row)
        except UserError as error:
            if not self.skip_broken:
                raise UserError(
                    f"{error}; or go on without such pictures: --data.skip-broken"
                ) from error
            self.broken[path] = str(error)
            return None
        except Exception as error:
            raise UserError(
                f"a reading thread failed at {path}: {error!r}. Cure: check the file, or report this"
            ) from error

    def _warp(
        self, pixels: np.ndarray, places: np.ndarray, rows: np.ndarray, to_crop: np.ndarray
    ) -> np.ndarray:
        """Reads and warps a few samples into their places; returns which succeeded."""
        good = np.ones(len(places), bool)
        for number, place in enumerate(places.tolist()):
            view = self._view(int(rows[place]))
            if view is None:
                good[number] = False
                continue
            geometry.warp_crop(
                view.pixels,
                from_view(to_crop[place], view.origin_xy, view.ratio_xy),
                self.input_size_wh,
                pixels[place],
            )
        return good

    def _copy(self, rows: np.ndarray, to_crop: np.ndarray) -> tuple[Regions, np.ndarray]:
        """Copies the part that each crop needs into one buffer."""
        views = [self._view(row) for row in rows.tolist()]
        good = np.array([view is not None for view in views])
        held = [view for view in views if view is not None]
        places = np.array([(view.origin_xy, view.ratio_xy) for view in held], np.float64).reshape(
            -1, 2, 2
        )
        sizes = np.array([view.pixels.shape[1::-1] for view in held], np.int64).reshape(-1, 2)
        shifted = from_view(to_crop[good], places[:, 0], places[:, 1])
        needed = needed_regions(shifted, self.input_size_wh, sizes)
        extents = np.maximum(needed[:, 2:] - needed[:, :2], 0)
        extents[(extents == 0).any(1)] = 0
        ends = np.cumsum(extents.prod(1))
        count = max(
            int(ends[-1]) if len(ends) else 0, 1
        )  # one pixel at least, for the warp to point at
        buffer = torch.empty((count, 3), dtype=torch.uint8, pin_memory=page_locked(self.device))
        flat = buffer.numpy()
        starts = ends - extents.prod(1)
        for view, (left, top, right, bottom), start, (width, height) in zip(
            held, needed.tolist(), starts.tolist(), extents.tolist(), strict=True
        ):
            if width:
                flat[start : start + width * height].reshape(height, width, 3)[:] = view.pixels[
                    top:bottom, left:right
                ]
        return self._regions(buffer, starts, extents, from_view(shifted, needed[:, :2])), good

    def _resident(self, rows: np.ndarray, to_crop: np.ndarray) -> tuple[Regions, np.ndarray]:
        """Points into the device's memory: nothing is copied."""
        source = self.source
        assert isinstance(source, Resident)
        good = source.starts[rows] >= 0
        for row in rows[~good].tolist():
            self._view(row)
        kept = rows[good]
        moved = from_view(to_crop[good], source.origins[kept])
        return self._regions(source.buffer, source.starts[kept], source.sizes_wh[kept], moved), good

    def _regions(
        self, buffer: torch.Tensor, starts: np.ndarray, sizes_wh: np.ndarray, to_crop: np.ndarray
    ) -> Regions:
        """The value that `Batch.to` turns into crops."""
        to_region = geometry.invert_affines(to_crop).astype(np.float32)
        return Regions(
            buffer,
            torch.from_numpy(starts),
            torch.from_numpy(sizes_wh),
            torch.from_numpy(to_region),
            self.input_size_wh,
        )
