"""A screen cannot stop a run: what stdout or stderr do not take is left out, and said at the
end."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any


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
