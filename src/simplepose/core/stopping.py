"""What stops a program and what must not: Ctrl-C, SIGTERM (`kill`, `docker stop`, a batch system)
and SIGHUP (the terminal is gone) all do the same; what stdout or stderr do not take is left out,
and said at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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


class Screen:
    """A text stream whose failures stop nobody: a closed pipe, a full disk, a terminal that is
    gone. Characters that it cannot show become `\\xNN`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.problem: OSError | ValueError | None = None
        """Why nothing more is written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Whether somebody may see it."""
        return self.problem is None and self.stream.isatty()

    def write(self, text: str) -> int:
        """Writes what can be written."""
        if self.problem is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Writes what waits."""
        if self.problem is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            code = self.stream.encoding or "ascii"
            self.stream.write(text.encode(code, "backslashreplace").decode(code))

    def _give_up(self, error: OSError | ValueError) -> None:
        """What waits goes nowhere, so that Python does not fail over it when it ends."""
        self.problem = error
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())

    @property
    def lost(self) -> str:
        """Why text was lost; empty where all was written, or the reader did not want more."""
        if self.problem is None or getattr(self.problem, "errno", 0) == errno.EPIPE:
            return ""
        return str(getattr(self.problem, "strerror", None) or self.problem)


@contextlib.contextmanager
def screens() -> Iterator[Screen]:
    """Makes stdout and stderr Screens for the life of the block, and yields that of stdout.

    A descriptor that is closed leads nowhere instead: the next file that is opened would get its
    number, and what a library prints would land in it.
    """
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    before, nowhere = (sys.stdout, sys.stderr), open(os.devnull, "w")  # noqa: SIM115
    sys.stdout, sys.stderr = out, _ = [Screen(one or nowhere) for one in before]
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        nowhere.close()
