"""What a command says on stderr beside its results: notes, and progress as one line that is redrawn
in place on a terminal, and written about every 30 seconds elsewhere."""

from __future__ import annotations

import math
import sys
import time


def note(*sentences: str) -> None:
    """Says something that the user should know, a line each."""
    for sentence in sentences:
        print(f"note: {sentence}", file=sys.stderr)


def format_seconds(seconds: float) -> str:
    """`1:02:03`, `2:03` or `-` where the value is unknown."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


ELSEWHERE = 30.0
"""Seconds before each line where stderr is no terminal."""


class StatusLine:
    """The line itself; it may be shown at every step, because most calls write nothing."""

    def __init__(self) -> None:
        self._shown = -math.inf if sys.stderr.isatty() else time.monotonic()

    def show(self, text: str) -> None:
        """Replaces the line, at most 5 times a second."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._shown < (0.2 if terminal else ELSEWHERE):
            return
        self._shown = now
        sys.stderr.write(f"\r\x1b[K{text}" if terminal else text + "\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line off the terminal: something else is written, or the work is done."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Progress:
    """A line that counts: `with Progress("evaluating", "boxes") as show: show(done, total)`."""

    def __init__(self, doing: str, things: str) -> None:
        """`doing` is the verb, `things` what is counted."""
        self.doing, self.things = doing, things
        self._line, self._began = StatusLine(), time.monotonic()
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.clear()

    def __call__(self, done: int, total: int | None) -> None:
        """Shows the count, the rate and the time left; `total` is None where nobody knows it.

        The rate is counted from the first call on, because work that goes on (a download, a pack)
        begins with much that is done already.
        """
        now = time.monotonic()
        before, since = self._first or (0, self._began)
        self._first = self._first or (done, now)
        pace = (done - before) / max(now - since, 1e-9)
        left = format_seconds((total - done) / pace) if pace and total is not None else "-"
        of = "" if total is None else f"/{total:,}"
        self._line.show(f"{self.doing} {done:,}{of} {self.things}  {pace:.1f}/s  left {left}")
