"""A network in ExecuTorch, asked as one in ONNX Runtime is (`core.onnx`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import read_bytes, reading

INPUT, OUTPUT = "pixels", "outputs"
"""Names: the format has none."""


class ExecutorchSession:
    """Arrays in, arrays out, on the processor. It can be pickled: see `OnnxSession`.

    A file has room for so many crops, as it was written; more go through in several calls.

    Args:
        source: the .pte file.
        device: `auto` or `cpu`.
        threads: the runtime decides itself.

    Attributes:
        inputs, outputs, metadata, provider: as `OnnxSession`'s.

    Raises:
        UserError: ExecuTorch is not installed, or cannot read the file; another device.
    """

    def __init__(self, source: str, *, device: str = "auto", threads: int = 0) -> None:
        try:
            from executorch.runtime import Runtime
        except ImportError as error:
            raise need("executorch", "executorch", f"running {source}") from error
        if device not in ("auto", "cpu"):
            raise UserError(
                f"{source} is an ExecuTorch network, which runs on the processor here, not on "
                f"{device}. Cure: device cpu or auto"
            )
        self._source = os.path.abspath(source)
        with reading(source, "an ExecuTorch network", "export or copy it again"):
            # kept: the method only points into it
            self._program = program = Runtime.get().load_program(read_bytes(source))
            self._method: Any = program.load_method("forward")
            about = self._method.metadata
            given = tuple(about.input_tensor_meta(0).sizes())
            made = tuple(about.output_tensor_meta(0).sizes())
            self.metadata = {
                name: str(program.load_method(name).execute([])[0])
                for name in program.method_names
                if name.startswith("simplepose")
            }
        self._most = given[0]
        self.inputs = [(INPUT, (None, *given[1:]), "tensor(float)")]
        self.outputs = [(OUTPUT, (None, *made[1:]))]
        self.provider = "ExecuTorch"

    def __reduce__(self) -> tuple[Any, ...]:
        return ExecutorchSession, (self._source,)

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers by name."""
        import torch

        pixels = np.ascontiguousarray(values[INPUT], np.float32)
        firsts, parts = range(0, len(pixels), self._most), []
        with reading(self._source, "a network that runs", "export or copy it again"):
            for some in (pixels[first : first + self._most] for first in firsts):
                # copied: the next call overwrites what an answer points to
                parts.append(self._method.execute([torch.from_numpy(some)])[0].numpy().copy())
        return {OUTPUT: np.concatenate(parts)}
