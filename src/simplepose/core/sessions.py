"""Networks that another runtime runs: the ending of a file says which."""

from __future__ import annotations

from pathlib import Path

from simplepose.core.executorch import ExecutorchSession
from simplepose.core.onnx import OnnxSession
from simplepose.core.openvino import OpenvinoSession

Session = OnnxSession | OpenvinoSession | ExecutorchSession
"""Arrays in, arrays out."""
SESSIONS: dict[str, type[Session]] = {
    ".onnx": OnnxSession,
    ".xml": OpenvinoSession,
    ".pte": ExecutorchSession,
}
"""Ending of a file -> what runs it."""


def open_session(path: str | Path, *, device: str = "auto", threads: int = 0) -> Session:
    """Opens a file whose ending is one of `SESSIONS`.

    Args:
        path: the file.
        device: see `simplepose.core.device.onnx_providers`.
        threads: of one call; 0 takes the cores that this process may use.

    Raises:
        UserError: the runtime is not installed, has not the device, or cannot read the file.
    """
    return SESSIONS[Path(path).suffix.lower()](str(path), device=device, threads=threads)
