"""A pose network from a file that another runtime runs (ONNX Runtime, OpenVINO, ExecuTorch).

The file holds one of two graphs. `heatmaps` is the network alone, behind the same call as a torch
network. `keypoints` has everything from the crop's bytes to keypoints inside.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simplepose.config import CodecConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema, schema_with
from simplepose.core.sessions import open_session
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec, require_pose
from simplepose.pose.codec import SPLIT

if TYPE_CHECKING:
    from torch import Tensor

FLIP_KEY = "simplepose_flip_test"
"""Where a `keypoints` file says whether the flip test is inside: `1` or `0`."""
CROPS, KEYPOINTS, SCORES, PROBABILITIES = "crops", "keypoints", "scores", "probabilities"
COVARIANCES, SEEN = "covariances", "visibility"
"""Names of the input and the outputs of `keypoints`."""


class ExportedNetwork:
    """(B, 3, H, W) normalised float -> (B, K, H', W') heatmaps, or (B, K, Lx + Ly) of SimCC.

    Of a `keypoints` file see `keypoints`. Crops go through one by one where the file was exported
    with batch 1.

    Attributes:
        decodes: whether it is a `keypoints` file.
        flip_test: whether such a file has the flip test inside.
        fixed_batch: it takes only so many crops, 0 for any number.
    """

    def __init__(self, path: str | Path, threads: int = 0, device: str = "auto") -> None:
        """Opens the file.

        Args:
            path: the file; its ending is one of `SESSIONS`.
            threads: threads of one call; 0 takes the cores that this process may use.
            device: see `simplepose.core.device.onnx_providers`.

        Raises:
            UserError: no such file, not one picture in and heatmaps or SimCC's rows out; the
                device is not there.
        """
        self.path = str(path)
        self.session = open_session(path, device=device, threads=threads)
        if METADATA_KEY in self.session.metadata:
            require_pose(self._spec(), self.path)
        (name, shape_in, kind), *more = self.session.inputs
        self._input: str = name
        shapes_out = [shape for _, shape in self.session.outputs]
        self.decodes = (self._input, self.session.outputs[0][0]) == (CROPS, KEYPOINTS)
        self.flip_test = self.session.metadata.get(FLIP_KEY) == "1"
        self._bytes = "int" in kind
        size_wh = _picture_size(shape_in, 3 if self.decodes else 1)
        self._simcc = [len(shape) for shape in shapes_out] == [3, 3] and not self.decodes
        count = size_wh and _keypoint_count(shapes_out, size_wh)
        if more or size_wh is None or not (count or self.decodes):
            raise UserError(
                f"{self.path}: expected one input (B, 3, H, W) of fixed height and width, and "
                f"heatmaps (B, K, H, W) or SimCC's rows (B, K, {SPLIT} W) and (B, K, {SPLIT} H), "
                f"found {list(shape_in)} -> {', '.join(str(list(one)) for one in shapes_out)}. "
                "Cure: export the pose network alone, with fixed height and width"
            )
        self.input_size_wh: tuple[int, int] = size_wh
        self.keypoint_count: int = count or 0
        self.fixed_batch = shape_in[0] if isinstance(shape_in[0], int) else 0

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) float32, normalised -> (B, K, H', W') float32; no torch is needed.

        Raises:
            UserError: a `keypoints` file, which has no heatmaps.
        """
        if self.decodes:
            raise UserError(
                f"{self.path} puts out keypoints: its heatmaps stay inside. "
                "Cure: the weights it was exported from, or simplepose export --graph heatmaps"
            )
        answers = self._ask(pixels)
        maps = np.concatenate(answers, -1) if self._simcc else answers[0]
        return maps.astype(np.float32, copy=False)

    def __call__(self, pixels: Tensor) -> Tensor:
        """`run` of a tensor on any device; the answer is on the CPU."""
        return self.tensors(np.ascontiguousarray(pixels.cpu(), np.float32))

    def tensors(self, pixels: np.ndarray) -> Tensor:
        """`run` with a tensor for an answer."""
        import torch

        return torch.from_numpy(self.run(pixels))

    def has(self, output: str) -> bool:
        """Whether it is a `keypoints` file with this output, e.g. `COVARIANCES`."""
        return self.decodes and output in [name for name, _ in self.session.outputs]

    def keypoints(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """What a `keypoints` file makes of crops.

        Args:
            crops: (B, H, W, 3) uint8 RGB.

        Returns:
            The outputs by name, see `simplepose.export.graph`.
        """
        names = (name for name, _ in self.session.outputs)
        return dict(zip(names, self._ask(crops), strict=True))

    def _ask(self, values: np.ndarray) -> list[np.ndarray]:
        """The outputs in their order."""
        parts = np.split(values, len(values)) if self.fixed_batch else [values]
        answers = [self.session.run({self._input: part}) for part in parts]
        if len(answers) == 1:
            return [answers[0][name] for name, _ in self.session.outputs]
        return [np.concatenate([one[name] for one in answers]) for name, _ in self.session.outputs]

    def spec(self) -> ModelSpec:
        """What the file's metadata says of itself.

        Without any: the schema with as many keypoints, ImageNet RGB, and the quarter offset for
        heatmaps, RTMPose's reading for SimCC's rows. A network whose input is bytes normalises by
        itself.
        """
        spec = self._spec()
        if not self._bytes or self.decodes:
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
        codec = CodecConfig(kind="rtmpose", decoder="argmax") if self._simcc else CodecConfig()
        return ModelSpec(preset=name, schema=schema, input_size_wh=self.input_size_wh, codec=codec)


def _picture_size(shape: tuple[Any, ...], channel: int) -> tuple[int, int] | None:
    """Width and height of an input of pictures; None where it is none of fixed size.

    Args:
        shape: of the input, batch first.
        channel: index of the colours in it.
    """
    if len(shape) != 4 or shape[channel] != 3:
        return None
    height, width = (side for index, side in enumerate(shape) if index not in (0, channel))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _keypoint_count(shapes: list[tuple[Any, ...]], size_wh: tuple[int, int]) -> int:
    """Keypoints of outputs that are heatmaps, SimCC's rows in one or in two, or keypoints; 0 of any
    others, such as a detector's rows."""
    known = [shape[1:] for shape in shapes]
    if [len(shape) for shape in shapes] == [3, 3]:
        fits = [shape[1] for shape in known] == [SPLIT * side for side in size_wh]
    elif len(shapes[0]) == 3:
        length = shapes[0][2]
        fits = length in (2, SPLIT * sum(size_wh)) or not isinstance(length, int)
    else:
        fits = len(shapes[0]) == 4
    return known[0][0] if fits and isinstance(known[0][0], int) else 0
