"""Threads of the engine: an iteration that runs ahead in a thread of its own, and the clock that measures each stage."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Speed:
    """How many frames each stage has handled, and how long it worked for them (waiting does not count)."""

    def __init__(self) -> None:
        self.frames: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @contextmanager
    def measure(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Times one piece of work."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin
        self.frames[stage] = self.frames.get(stage, 0) + frames

    def fps(self) -> dict[str, float]:
        """Frames per second of each stage alone, and of `all`: frames that came out per second of wall time."""
        rates = {
            stage: self.frames[stage] / max(seconds, 1e-9)
            for stage, seconds in self.seconds.items()
        }
        return {
            **rates,
            "all": self.frames.get("pose", 0) / max(time.perf_counter() - self.started, 1e-9),
        }

    def __str__(self) -> str:
        return ", ".join(f"{stage} {rate:.0f}" for stage, rate in self.fps().items())


def overlapped(
    items: Iterable[T], depth: int, stop: threading.Event, patience: float | None = None
) -> Generator[T]:
    """Iterates over `items` in a thread of its own, at most `depth` ahead; an error there is raised here.

    Args:
        items: what the thread works through.
        depth: length of the queue.
        stop: set by whoever gives up early; all threads then end.
        patience: seconds to wait for the thread at the end; None waits until it has finished what it is at, because a program that ends
            while a thread is inside a network is aborted. What may wait for ever, as a camera does, needs a limit.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)

    def put(value: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    break
        except BaseException as error:  # whatever it was, it belongs to the caller
            put(("error", error))
        else:
            put(("end", None))
        finally:
            close: Callable[[], None] | None = getattr(items, "close", None)
            if close:
                close()

    return _drain(ready, threading.Thread(target=work, daemon=True), stop, patience)


def _drain(
    ready: queue.Queue[tuple[str, Any]],
    thread: threading.Thread,
    stop: threading.Event,
    patience: float | None,
) -> Generator[Any]:
    """Starts the thread and hands out what it delivers."""
    thread.start()
    try:
        while not stop.is_set():
            try:
                kind, value = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    except (KeyboardInterrupt, SystemExit):
        stop.set()  # Ctrl-C may arrive in here; the thread waits for room in the queue until it hears of it
        raise
    finally:
        thread.join(patience)
