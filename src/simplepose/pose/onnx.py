"""A pose network from an ONNX file, run by ONNX Runtime behind the same call as a torch network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simplepose.core.errors import UserError, need
from simplepose.core.files import reading
from simplepose.core.schema import KeypointSchema, schema_with
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec


class OnnxNetwork:
    """(B, 3, H, W) normalised float -> (B, K, H', W') heatmaps.

    Crops go through one by one where the file was exported with batch 1.
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
        self.path, providers = str(path), onnxruntime.get_available_providers()
        with reading(path, "an ONNX network", "export or copy it again"):
            self._session = onnxruntime.InferenceSession(self.path, options, providers=providers)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape_in, shape_out = ([*one[0].shape] if one else [] for one in (inputs, outputs))
        fixed = all(isinstance(side, int) for side in (*shape_in[1:], *shape_out[1:2]))
        ranks = (len(inputs), len(shape_in), len(shape_out))
        if ranks != (1, 4, 4) or shape_in[1] != 3 or not fixed:
            raise UserError(
                f"{path}: expected one input (B, 3, H, W) and heatmaps (B, K, H, W) of fixed size, "
                f"found {shape_in} -> {shape_out}. "
                "Cure: export the pose network alone, with fixed height and width"
            )
        self.input_size_wh: tuple[int, int] = (shape_in[3], shape_in[2])
        self.keypoint_count: int = shape_out[1]
        self._input, self._one_by_one = inputs[0].name, isinstance(shape_in[0], int)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float on any device, normalised -> (B, K, H', W') float32 on the CPU."""
        values = np.ascontiguousarray(pixels.cpu(), np.float32)
        parts = np.split(values, len(values)) if self._one_by_one else [values]
        with reading(self.path, "a network that runs", "export or copy it again"):
            maps = [self._session.run(None, {self._input: part})[0] for part in parts]
            return torch.from_numpy(np.concatenate(maps))

    def spec(self) -> ModelSpec:
        """What the file's metadata says of itself.

        Without any: the schema with as many keypoints, ImageNet RGB, quarter offset.
        """
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY in metadata:
            return ModelSpec.from_json(metadata[METADATA_KEY], self.path)
        count, name = self.keypoint_count, Path(self.path).stem
        schema = schema_with(count) or KeypointSchema(
            name=f"unnamed_{count}", keypoints=tuple(f"keypoint_{i}" for i in range(count))
        )
        return ModelSpec(preset=name, schema=schema, input_size_wh=self.input_size_wh)
