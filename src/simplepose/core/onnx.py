"""A network in ONNX Runtime: one way to open a file and to ask it, for poses and for people."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from simplepose.core.device import onnx_providers, own_cores
from simplepose.core.errors import UserError, need
from simplepose.core.files import reading

NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
"""What an input may hold, by ONNX Runtime's names."""


class OnnxSession:
    """Arrays in, arrays out. It can be pickled: another process opens the file again.

    Args:
        source: the file.
        content: the network, where it differs from the file's.
        device: see `onnx_providers`.
        threads: of one call; 0 takes the cores that this process may use.

    Attributes:
        inputs: name, shape and type of each; lengths that are free are strings or None.
        outputs: name and shape of each.
        metadata: what the file says of itself.
        provider: where it runs, in ONNX Runtime's words.

    Raises:
        UserError: ONNX Runtime is not installed, has not the device, or cannot read the file; an
            input of a type that is no number here.
    """

    def __init__(
        self, source: str, *, content: bytes = b"", device: str = "auto", threads: int = 0
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise need("onnxruntime", "predict", f"running {source}") from error
        if not content and not os.path.isfile(source):
            raise UserError(f"no such ONNX file: {source}. Cure: check the path")
        self._made: dict[str, Any] = {"content": content, "device": device, "threads": threads}
        self._source = os.path.abspath(source)
        providers = onnx_providers(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or own_cores()
        options.log_severity_level = 3
        # threads that wait awake take cores from the other network, and from other programs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with reading(source, "an ONNX network", "export or copy it again"):
            self._session = onnxruntime.InferenceSession(
                content or source, options, providers=providers
            )
        self.inputs = [
            (one.name, tuple(one.shape), str(one.type)) for one in self._session.get_inputs()
        ]
        self.outputs = [(one.name, tuple(one.shape)) for one in self._session.get_outputs()]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.provider: str = self._session.get_providers()[0]
        asked = providers[0] if isinstance(providers[0], str) else providers[0][0]
        if self.provider != asked:
            warnings.warn(
                f"{source} runs on {self.provider}: ONNX Runtime could not start {asked}. "
                "Cure: install the driver and libraries that it needs, or take device cpu",
                stacklevel=2,
            )
        for name, _, kind in self.inputs:
            if kind not in NUMBERS:
                raise UserError(
                    f"{source}: its input {name} is {kind}. "
                    "Cure: export it with an input of float, float16 or uint8"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(OnnxSession, self._source, **self._made), ()

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers by name. Values get the type of their input (bytes are rounded and cut to
        0..255); answers in float16 become float32."""
        feeds = {name: _as(values[name], np.dtype(NUMBERS[kind])) for name, _, kind in self.inputs}
        with reading(self._source, "a network that runs", "export or copy it again"):
            answers = self._session.run(None, feeds)
        return {
            name: answer.astype(np.float32) if answer.dtype == np.float16 else answer
            for (name, _), answer in zip(self.outputs, answers, strict=True)
        }


def _as(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind == np.uint8:
        values = np.clip(np.rint(values), 0, 255)
    return np.ascontiguousarray(values, kind)
