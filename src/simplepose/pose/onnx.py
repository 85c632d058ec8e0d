"""A pose network from an ONNX file, run by ONNX Runtime behind the same call as a torch network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simplepose.core.errors import UserError, need
from simplepose.core.schema import KeypointSchema, schema_with
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec


class OnnxNetwork:
    """(B, 3, H, W) normalised float -> (B, K, H', W') heatmaps.

    A file exported with batch 1 is made dynamic where its graph allows it; otherwise crops go
    through one by one.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        """Opens the file.

        Args:
            path: the ONNX file.
            threads: threads of one call; 0 lets ONNX Runtime choose.

        Raises:
            UserError: not an ONNX file, or not one picture in and heatmaps out.
        """
        self._session = _open(str(path), threads, str(path))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape_in, shape_out = inputs[0].shape, outputs[0].shape
        if len(inputs) != 1 or len(shape_in) != 4 or shape_in[1] != 3 or len(shape_out) != 4:
            raise UserError(
                f"{path}: expected one input (B, 3, H, W) and heatmaps (B, K, H, W), found "
                f"{shape_in} -> {shape_out}. Cure: export the pose network alone"
            )
        if not all(isinstance(side, int) for side in (*shape_in[2:], shape_out[1])):
            raise UserError(
                f"{path}: its input size {shape_in} or output {shape_out} is not fixed. "
                "Cure: export it with fixed height and width"
            )
        self.path, self._input = str(path), inputs[0].name
        self.input_size_wh = (shape_in[3], shape_in[2])
        self.keypoint_count = int(shape_out[1])
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._one_by_one = isinstance(shape_in[0], int)
        if self._one_by_one and (content := _with_dynamic_batch(self.path)):
            self._try_batches(content, threads)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float on any device, normalised -> (B, K, H', W') float32 on the CPU."""
        values = np.ascontiguousarray(pixels.cpu(), np.float32)
        parts = np.split(values, len(values)) if self._one_by_one else [values]
        maps = [self._session.run(None, {self._input: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(maps))

    def _try_batches(self, content: bytes, threads: int) -> None:
        """Takes this model instead if two crops at once give what they give one by one.

        A graph may have batch 1 baked into a reshape.
        """
        width, height = self.input_size_wh
        crops = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        apart, plain = self(crops), self._session
        try:
            self._session, self._one_by_one = _open(content, threads, self.path), False
            together = self(crops)
        except Exception:  # any failure of the rewritten graph means: one by one
            together = apart[:0]
        near = 1e-4 * float(apart.abs().max())
        if together.shape != apart.shape or not together.allclose(apart, rtol=1e-3, atol=near):
            self._session, self._one_by_one = plain, True

    def spec(self) -> ModelSpec:
        """What the file's metadata says of itself.

        Without any: the schema with as many keypoints, ImageNet RGB, quarter offset.
        """
        if METADATA_KEY in self.metadata:
            return ModelSpec.from_json(self.metadata[METADATA_KEY], self.path)
        count, name = self.keypoint_count, Path(self.path).stem
        schema = schema_with(count) or KeypointSchema(
            name=f"unnamed_{count}", keypoints=tuple(f"keypoint_{i}" for i in range(count))
        )
        return ModelSpec(preset=name, schema=schema, input_size_wh=self.input_size_wh)


def _open(content: str | bytes, threads: int, path: str) -> Any:
    """A session of ONNX Runtime on the best providers; `path` is for messages."""
    try:
        import onnxruntime
    except ImportError as error:
        raise need("onnxruntime", "onnx", f"running {path}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime raises its own classes for every kind of damage
        raise UserError(
            f"{path} is not a readable ONNX file: {str(error).splitlines()[0]}. "
            "Cure: export or copy it again"
        ) from error


def _with_dynamic_batch(path: str) -> bytes | None:
    """The model with a free batch dimension, or None without the `onnx` package."""
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim and value.name not in weights:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())
