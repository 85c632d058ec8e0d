"""Pictures of several clients through the networks together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from simplepose.core.errors import UserError
from simplepose.core.images import decode_image, kind_of
from simplepose.core.structures import Frame, Poses

Answer = tuple[Frame, Poses]
Estimate = Callable[[Sequence[Frame]], list[Poses]]
"""The poses of several pictures."""


@dataclass(frozen=True)
class Picture:
    """A picture file that waits, and who wants to know."""

    content: bytes
    name: str
    answer: Future[Answer] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


class Batches:
    """One thread that estimates what waits: at most `largest` pictures together, the first of which
    waited at most `seconds` for the others.

    Files are decoded here, so that no more pictures are in memory than a batch has. One that is
    broken, or that a network fails on, is nobody else's problem.

    Args:
        estimate: the poses of the pictures of a batch.
        largest: pictures of a batch.
        seconds: that a picture waits for others while the networks are idle.
        max_pixels: of a picture.
        done: told how many pictures each batch had.
    """

    def __init__(
        self,
        estimate: Estimate,
        *,
        largest: int,
        seconds: float,
        max_pixels: int,
        done: Callable[[int], None],
    ) -> None:
        self.estimate, self.largest, self.seconds = estimate, largest, seconds
        self.max_pixels, self.done = max_pixels, done
        self._waiting: queue.Queue[Picture | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def put(self, content: bytes, name: str) -> Future[Answer]:
        """The picture with its poses, later.

        Its exception is a `UserError` where the file is no picture that can be read.
        """
        picture = Picture(content, name)
        self._waiting.put(picture)
        return picture.answer

    def close(self) -> None:
        """Answers what waits, then ends the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < self.largest and not last:
                left = first.came + self.seconds - time.monotonic()
                try:
                    one = self._waiting.get(timeout=max(left, 0))
                except queue.Empty:
                    break
                if one is None:
                    last = True
                else:
                    batch.append(one)
            self._answer([one for one in batch if one.answer.set_running_or_notify_cancel()])
            if last:
                return

    def _answer(self, batch: list[Picture]) -> None:
        pictures, frames = [], []
        for picture in batch:
            try:
                frames.append(self._decoded(picture))
                pictures.append(picture)
            except Exception as error:
                picture.answer.set_exception(error)
        if pictures:
            self._estimate(pictures, frames)

    def _decoded(self, picture: Picture) -> Frame:
        if not kind_of(picture.content):
            size = len(picture.content)
            raise UserError(
                f"{picture.name} is no picture ({size:,} bytes). Cure: send a JPEG or PNG file"
            )
        image = decode_image(
            picture.content, picture.name, upright=True, max_pixels=self.max_pixels
        )
        return Frame(image, picture.name)

    def _estimate(self, pictures: list[Picture], frames: list[Frame]) -> None:
        try:
            found = self.estimate(frames)
        except Exception as error:
            if len(pictures) == 1:
                pictures[0].answer.set_exception(error)
                return
            for picture, frame in zip(pictures, frames, strict=True):
                self._estimate([picture], [frame])
            return
        self.done(len(pictures))
        for picture, frame, poses in zip(pictures, frames, found, strict=True):
            picture.answer.set_result((frame, poses))
