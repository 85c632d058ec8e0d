"""What a run says while it works: metrics.jsonl, console.log, one progress line, TensorBoard on request."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from simplepose.core.errors import need
from simplepose.core.files import encode_json
from simplepose.core.progress import StatusLine


class Journal:
    """Writes the records of one run. Lines are whole: each is written and flushed at once."""

    def __init__(
        self, folder: Path, *, tensorboard: bool = False, quiet: bool = False, anew: bool = False
    ) -> None:
        """Opens the files of a run folder for appending, or empties them (`anew`); `quiet` (other ranks) writes nothing."""
        self.quiet = quiet
        self._line = StatusLine()
        self._writer: Any = None
        if quiet:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = (folder / "metrics.jsonl").open("wb" if anew else "ab")
        self._console = (folder / "console.log").open("w" if anew else "a", encoding="utf-8")
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
        self._line.clear()
        print(text, flush=True)
        self._console.write(text + "\n")
        self._console.flush()

    def record(self, step: int, **values: Any) -> None:
        """One line of metrics.jsonl (and TensorBoard scalars)."""
        if self.quiet:
            return
        self._metrics.write(encode_json({"step": step, "time": time.time(), **values}) + b"\n")
        self._metrics.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)

    def progress(self, text: str) -> None:
        """The line that is redrawn in place, see `simplepose.core.progress`."""
        if not self.quiet:
            self._line.show(text)

    def close(self) -> None:
        """Closes the files."""
        if self.quiet:
            return
        self._line.clear()
        self._metrics.close()
        self._console.close()
        if self._writer is not None:
            self._writer.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a crash cut short is left out."""
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            records.append(msgspec.json.decode(line))
    return records


def forget_later_records(path: Path, step: int) -> None:
    """Cuts metrics.jsonl off at the first line beyond `step`, or cut short by a crash: a run that goes on writes it again.

    The file is cut in place, because the journal has it open already.
    """
    if not path.exists():
        return
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or msgspec.json.decode(line)["step"] > step:
                break
        except (msgspec.DecodeError, KeyError, TypeError):
            break
        kept += len(line)
    os.truncate(path, kept)
