"""A pose network from an ONNX file, run by ONNX Runtime behind the same call as a torch network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.onnx import OnnxSession
from simplepose.core.schema import KeypointSchema, schema_with
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor


class OnnxNetwork:
    """(B, 3, H, W) normalised float -> (B, K, H', W') heatmaps.

    Crops go through one by one where the file was exported with batch 1.
    """

    def __init__(self, path: str | Path, threads: int = 0, device: str = "auto") -> None:
        """Opens the file.

        Args:
            path: the ONNX file.
            threads: threads of one call; 0 takes the cores that this process may use.
            device: see `simplepose.core.device.onnx_providers`.

        Raises:
            UserError: not an ONNX file, or not one picture in and heatmaps out; the device is not
                there.
        """
        self.path = str(path)
        self.session = OnnxSession(self.path, device=device, threads=threads)
        (self._input, shape_in, kind), *more = self.session.inputs
        shape_out = self.session.outputs[0][1]
        fixed = all(isinstance(side, int) for side in (*shape_in[1:], *shape_out[1:2]))
        if more or len(shape_in) != 4 or len(shape_out) != 4 or shape_in[1] != 3 or not fixed:
            raise UserError(
                f"{path}: expected one input (B, 3, H, W) and heatmaps (B, K, H, W) of fixed size, "
                f"found {list(shape_in)} -> {list(shape_out)}. "
                "Cure: export the pose network alone, with fixed height and width"
            )
        self.input_size_wh: tuple[int, int] = (shape_in[3], shape_in[2])
        self.keypoint_count: int = shape_out[1]
        self._one_by_one, self._bytes = isinstance(shape_in[0], int), "int" in kind

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) float32, normalised -> (B, K, H', W') float32; no torch is needed."""
        parts = np.split(pixels, len(pixels)) if self._one_by_one else [pixels]
        heatmaps = self.session.outputs[0][0]
        maps = [self.session.run({self._input: part})[heatmaps] for part in parts]
        answer = maps[0] if len(maps) == 1 else np.concatenate(maps)
        return answer.astype(np.float32, copy=False)

    def __call__(self, pixels: Tensor) -> Tensor:
        """`run` of a tensor on any device; the answer is on the CPU."""
        return self.tensors(np.ascontiguousarray(pixels.cpu(), np.float32))

    def tensors(self, pixels: np.ndarray) -> Tensor:
        """`run` with a tensor for an answer."""
        import torch

        return torch.from_numpy(self.run(pixels))

    def spec(self) -> ModelSpec:
        """What the file's metadata says of itself.

        Without any: the schema with as many keypoints, ImageNet RGB, quarter offset. A network
        whose input is bytes normalises by itself.
        """
        spec = self._spec()
        if not self._bytes:
            return spec
        return replace(spec, pixels=replace(spec.pixels, mean=(0, 0, 0), std=(1, 1, 1)))

    def _spec(self) -> ModelSpec:
        metadata = self.session.metadata
        if METADATA_KEY in metadata:
            return ModelSpec.from_json(metadata[METADATA_KEY], self.path)
        count, name = self.keypoint_count, Path(self.path).stem
        schema = schema_with(count) or KeypointSchema(
            name=f"unnamed_{count}", keypoints=tuple(f"keypoint_{i}" for i in range(count))
        )
        return ModelSpec(preset=name, schema=schema, input_size_wh=self.input_size_wh)
