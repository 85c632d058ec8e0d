"""A network in OpenVINO, asked as one in ONNX Runtime is (`core.onnx`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from simplepose.core.device import own_cores
from simplepose.core.errors import UserError, need
from simplepose.core.files import reading

PRECISION_KEY = "simplepose_precision"
"""Where a file says in which precision it runs: `f32`, or `bf16` where the processor has it."""


class OpenvinoSession:
    """Arrays in, arrays out, on the processor. It can be pickled: see `OnnxSession`.

    OpenVINO computes in bf16 by itself on processors that have it. Here a network does so only
    where its file says it.

    Args:
        source: the .xml file; its weights lie beside it, with the ending .bin.
        device: `auto` or `cpu`.
        threads: of one call; 0 takes the cores that this process may use.

    Attributes:
        inputs, outputs, metadata, provider: as `OnnxSession`'s.

    Raises:
        UserError: OpenVINO is not installed, or cannot read the file; another device.
    """

    def __init__(self, source: str, *, device: str = "auto", threads: int = 0) -> None:
        openvino = import_openvino(f"running {source}")
        if device not in ("auto", "cpu"):
            raise UserError(
                f"{source} is an OpenVINO network, which runs on the processor here, not on "
                f"{device}. Cure: device cpu or auto"
            )
        self._made: dict[str, Any] = {"device": device, "threads": threads}
        self._source = os.path.abspath(source)
        core = openvino.Core()
        with reading(source, "an OpenVINO network", "export or copy it again, with its .bin"):
            model = core.read_model(source)
            self.metadata = {key: str(model.get_rt_info(key).value) for key in _own(model)}
            options = {
                "INFERENCE_PRECISION_HINT": self.metadata.get(PRECISION_KEY, "f32"),
                "INFERENCE_NUM_THREADS": threads or own_cores(),
                "PERFORMANCE_HINT": "LATENCY",
            }
            self._network = core.compile_model(model, "CPU", options)
        self.inputs = [
            (one.any_name, _shape(one), f"tensor({_kind(one)})") for one in self._network.inputs
        ]
        self.outputs = [(one.any_name, _shape(one)) for one in self._network.outputs]
        self.provider = "OpenVINO"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(OpenvinoSession, self._source, **self._made), ()

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers by name, to values of the inputs' types."""
        with reading(self._source, "a network that runs", "export or copy it again"):
            answers = self._network({name: values[name] for name, *_ in self.inputs})
        return {name: np.array(answers[name]) for name, _ in self.outputs}


def import_openvino(purpose: str) -> Any:
    """The package, without the one that reports its use to its makers over the network.

    Raises:
        UserError: it is not installed; `purpose` says what needs it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise need("openvino", "openvino", purpose) from error
    return openvino


def _own(model: Any) -> list[str]:
    """Keys of what the file says of itself."""
    return [key for key in model.get_rt_info() if key.startswith("simplepose")]


def _shape(port: Any) -> tuple[int | None, ...]:
    """Lengths, None where they are free."""
    return tuple(d.get_length() if d.is_static else None for d in port.partial_shape)


def _kind(port: Any) -> str:
    """The type of its numbers, as ONNX Runtime names it."""
    kind: str = port.element_type.to_dtype().name
    return {"float32": "float", "float64": "double"}.get(kind, kind)
