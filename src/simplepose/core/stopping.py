"""The signals that stop a program: Ctrl-C, SIGTERM (`kill`, `docker stop`, a batch system) and
SIGHUP (the terminal is gone) all do the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop. Whatever finishes its files after Ctrl-C does it here
    too."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        """The exit status that shells expect: 130, 143, 129."""


def stop_at_once(number: int) -> None:
    """Raises `Stopped`."""
    raise Stopped(number)


@contextmanager
def heed_signals(ask: Callable[[int], None] = stop_at_once) -> Iterator[None]:
    """Calls `ask` with the number of each signal that wants the program to stop.

    What was ignored before stays so (`nohup`, a job in the background). A terminal that closes may
    tell it several times: SIGHUP counts once. Outside the main thread, where Python allows no
    signal handlers, nothing is changed.
    """
    gone = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal gone
        hung_up = number not in (signal.SIGINT, signal.SIGTERM)
        if not (hung_up and gone):
            gone |= hung_up
            ask(number)

    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in STOPPING if main}
    before = {number: one for number, one in handlers.items() if one is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
