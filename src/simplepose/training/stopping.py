"""When a run pauses to write `last`, and how it ends early: a clock, and Ctrl-C or SIGTERM heeded between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Clock:
    """Says when the last checkpoint is due again."""

    def __init__(self, minutes: float) -> None:
        """`minutes` between two of them; 0 or less: never within an epoch."""
        self.seconds, self._last = minutes * 60, time.monotonic()

    def due(self) -> bool:
        """Whether the time has passed since the last one."""
        return self.seconds > 0 and time.monotonic() - self._last >= self.seconds

    def reset(self) -> None:
        """One has just been written."""
        self._last = time.monotonic()


@dataclass
class Stop:
    """Whether somebody has asked the run to stop."""

    signal: int = 0
    """The signal that asked, 0 as long as nobody did."""
    in_step: bool = False
    """Whether the loop asks between steps; elsewhere a signal ends the run at once, `last` is on disk already."""

    def end(self) -> None:
        """Ends the run: KeyboardInterrupt for Ctrl-C (or another process's), the usual exit status for SIGTERM."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step it is in; a second Ctrl-C stops at once.

    Outside the main thread (where Python allows no signal handlers) nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        again, stop.signal = bool(stop.signal), number
        if again or not stop.in_step:
            stop.end()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
