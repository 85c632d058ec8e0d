"""A pose network from an ONNX file, run by ONNX Runtime behind the same call as a torch network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.schema import KeypointSchema, schema_with
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec


class OnnxNetwork:
    """Calls an ONNX session on (B, 3, H, W) float32 arrays and returns (B, K, H', W') heatmaps.

    A file exported with batch 1 is made dynamic where its graph allows it; otherwise crops go through one by one.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        """Opens the file.

        Args:
            path: the ONNX file.
            threads: threads of one call; 0 lets ONNX Runtime choose.

        Raises:
            UserError: not an ONNX file, or not one picture in and heatmaps out.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise need("onnxruntime", "onnx", f"running {path}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.path = str(path)

        def open_session(content: str | bytes) -> Any:
            return onnxruntime.InferenceSession(
                content, options, providers=onnxruntime.get_available_providers()
            )

        try:
            self._session = open_session(self.path)
        except Exception as error:  # onnxruntime raises its own classes for every kind of damage
            raise UserError(
                f"{path} is not a readable ONNX file: {str(error).splitlines()[0]}. Cure: export or copy it again"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape_in, shape_out = inputs[0].shape, outputs[0].shape
        if len(inputs) != 1 or len(shape_in) != 4 or shape_in[1] != 3 or len(shape_out) != 4:
            raise UserError(
                f"{path}: expected one input (B, 3, H, W) and heatmaps (B, K, H, W), found {shape_in} -> {shape_out}. "
                "Cure: export the pose network alone"
            )
        if not all(isinstance(side, int) for side in (*shape_in[2:], shape_out[1])):
            raise UserError(
                f"{path}: its input size {shape_in} or output {shape_out} is not fixed. Cure: export it with fixed height and width"
            )
        self._input = inputs[0].name
        self.input_size_wh = (shape_in[3], shape_in[2])
        self.keypoint_count = int(shape_out[1])
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._one_by_one = False
        if isinstance(shape_in[0], int):
            dynamic = _with_dynamic_batch(self.path)
            session = open_session(dynamic) if dynamic else None
            if session is not None and _agrees(
                session, self._session, self._input, (3, *shape_in[2:])
            ):
                self._session = session
            else:
                self._one_by_one = True

    def __call__(self, pixels: Any) -> np.ndarray:
        """(B, 3, H, W) float32 array, or tensor on any device, normalised -> (B, K, H', W') float32."""
        values = np.ascontiguousarray(
            pixels if isinstance(pixels, np.ndarray) else pixels.cpu(), dtype=np.float32
        )
        if not self._one_by_one:
            return self._session.run(None, {self._input: values})[0]
        return np.concatenate(
            [self._session.run(None, {self._input: one[None]})[0] for one in values]
        )

    def spec(self) -> ModelSpec:
        """What the file's metadata says of itself; without any: the schema with as many keypoints, ImageNet RGB, quarter offset."""
        if METADATA_KEY in self.metadata:
            return ModelSpec.from_json(self.metadata[METADATA_KEY], self.path)
        schema = schema_with(self.keypoint_count) or KeypointSchema(
            name=f"unnamed_{self.keypoint_count}",
            keypoints=tuple(f"keypoint_{index}" for index in range(self.keypoint_count)),
        )
        return ModelSpec(
            preset=Path(self.path).stem, schema=schema, input_size_wh=self.input_size_wh
        )


def _with_dynamic_batch(path: str) -> bytes | None:
    """The model with a free batch dimension, or None without the `onnx` package."""
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim and value.name not in {
            tensor.name for tensor in model.graph.initializer
        }:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model.SerializeToString()


def _agrees(dynamic: Any, plain: Any, name: str, shape: tuple[int, ...]) -> bool:
    """Whether two crops at once give what they give one by one (a graph may have batch 1 baked into a reshape)."""
    crops = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    try:
        together = dynamic.run(None, {name: crops})[0]
    except Exception:  # any failure of the rewritten graph means: one by one
        return False
    apart = np.concatenate([plain.run(None, {name: crop[None]})[0] for crop in crops])
    return together.shape == apart.shape and bool(
        np.allclose(together, apart, rtol=1e-3, atol=1e-4 * np.abs(apart).max())
    )
