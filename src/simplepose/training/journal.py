"""What a run says while it works: metrics.jsonl, console.log, one progress line, TensorBoard on request."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from simplepose.errors import need


def format_seconds(seconds: float) -> str:
    """`1:02:03`, `2:03` or `-` where the value is unknown."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A progress line for work of known length: `with Progress("evaluating", "boxes") as progress: progress(done, total)`.

    Redrawn in place on a terminal; elsewhere one line about every 30 seconds.
    """

    def __init__(self, doing: str, things: str) -> None:
        """`doing` is the verb, `things` what is counted."""
        self.doing, self.things = doing, things
        self._began = time.monotonic()
        self._shown = self._began if not sys.stderr.isatty() else 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        """Shows the count, the rate and the time left."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._shown < (0.2 if terminal else 30):
            return
        self._shown = now
        pace = done / max(now - self._began, 1e-9)
        left = format_seconds((total - done) / pace) if pace else "-"
        line = f"{self.doing} {done:,}/{total:,} {self.things}  {pace:.1f}/s  left {left}"
        sys.stderr.write(f"\r\x1b[K{line}" if terminal else line + "\n")
        sys.stderr.flush()


class Journal:
    """Writes the records of one run. Lines are whole: each is written and flushed at once."""

    def __init__(self, folder: Path, *, tensorboard: bool = False, quiet: bool = False) -> None:
        """Opens the files of a run folder for appending; `quiet` (other ranks) writes nothing."""
        self.quiet = quiet
        self._last_progress = 0.0
        self._writer: Any = None
        if quiet:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = (folder / "metrics.jsonl").open("ab")
        self._console = (folder / "console.log").open("a", encoding="utf-8")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise need("tensorboard", "tensorboard", "train.tensorboard") from error
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def say(self, text: str) -> None:
        """One line for people: screen and console.log."""
        if self.quiet:
            return
        self._clear_progress()
        print(text, flush=True)
        self._console.write(text + "\n")
        self._console.flush()

    def record(self, step: int, **values: Any) -> None:
        """One line of metrics.jsonl (and TensorBoard scalars)."""
        if self.quiet:
            return
        self._metrics.write(orjson.dumps({"step": step, "time": time.time(), **values}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._metrics.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)

    def progress(self, text: str, *, final: bool = False) -> None:
        """The line that is redrawn in place on a terminal, at most 5 times a second; elsewhere about every 30 seconds."""
        if self.quiet:
            return
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if not final and now - self._last_progress < (0.2 if terminal else 30):
            return
        self._last_progress = now
        sys.stderr.write(f"\r\x1b[K{text}" if terminal else text + "\n")
        sys.stderr.flush()

    def _clear_progress(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        """Closes the files."""
        if self.quiet:
            return
        self._clear_progress()
        self._metrics.close()
        self._console.close()
        if self._writer is not None:
            self._writer.close()
