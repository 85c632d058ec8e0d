"""PoseEstimator: picture and boxes in, Poses out. Torch or ONNX Runtime behind one call.

estimator = PoseEstimator.from_pretrained("runs/NAME")
poses = estimator("photo.jpg", boxes=[[10, 20, 110, 220]])

`simplepose.PoseEstimator` is this one with a detector of its own (`detection.estimator`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from simplepose.core.boxes import validate_xyxy
from simplepose.core.device import (
    autocast,
    choose_device,
    enough_memory,
    is_accelerator,
    resolve_precision,
    to_device,
)
from simplepose.core.errors import UserError, shown
from simplepose.core.images import require_rgb
from simplepose.core.oks import rescore
from simplepose.core.schema import KeypointSchema
from simplepose.core.sessions import SESSIONS
from simplepose.core.structures import VISIBILITY, Frame, People, Poses
from simplepose.pose import codec, geometry, hub
from simplepose.pose.calibration import tempered
from simplepose.pose.card import save_with_card
from simplepose.pose.checkpoints import ModelSpec, find_weights, load_model, require_pose
from simplepose.pose.exported import (
    COVARIANCES,
    KEYPOINTS,
    PROBABILITIES,
    SCORES,
    SEEN,
    ExportedNetwork,
)
from simplepose.pose.pixels import normalise, normalise_crops

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Found(NamedTuple):
    """What is known of N crops before anything is calibrated."""

    keypoints: np.ndarray
    """(N, K, 2)."""
    scores: np.ndarray
    """(N, K) float32."""
    moments: np.ndarray | None = None
    """(N, K, 2, 2) second moments of the heatmaps in square pixels, where asked for."""
    visibility: np.ndarray | None = None
    """(N, K, 3) float32, where the network `knows_visibility`."""

    def each(self, change: Callable[[Any], np.ndarray]) -> Found:
        """What `change` makes of each array that is there."""
        parts: list[Any] = [None if part is None else change(part) for part in self]
        return Found(*parts)


class PoseEstimator:
    """A network with all that is needed to use it."""

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        spec: ModelSpec,
        *,
        device: torch.device | str = "cpu",
        flip_test: bool = True,
        precision: str = "fp32",
        batch_size: int = 64,
        keypoint_threshold: float = 0.2,
        detector: Callable[[np.ndarray], People] | None = None,
    ) -> None:
        """Wraps a network.

        Args:
            network: normalised (B, 3, H, W) -> heatmaps (B, K, H', W'); a torch module in
                evaluation mode on `device`, or an `ExportedNetwork`.
            spec: its schema, input size, preprocessing and codec.
            device: where pixels are sent.
            flip_test: average with the mirrored crop (twice the work, about +1 AP); not done
                where the schema knows no left/right pairs, see `mirrors`.
            precision: `fp32`, `bf16`, `fp16`.
            batch_size: crops that go through the network together.
            keypoint_threshold: keypoints above it count in the person's score.
            detector: (H, W, 3) uint8 RGB -> People, asked where a call gives no boxes.
        """
        self.detector = detector
        self.network, self.spec, self.device = network, spec, device
        if not isinstance(network, ExportedNetwork):  # which needs no torch
            import torch

            self.device = torch.device(device)
        self.flip_test, self.precision, self.batch_size = flip_test, precision, batch_size
        self.keypoint_threshold = keypoint_threshold

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        flip_test: bool = True,
        precision: str = "auto",
        batch_size: int = 64,
        threads: int = 0,
        detector: Callable[[np.ndarray], People] | None = None,
    ) -> Self:
        """Opens a network.

        A file that has flip test and decoding inside decides about the flip test itself; a warning
        says where that is not what was asked for.

        Args:
            path: a run folder, a .safetensors or .onnx file, the folder of a `save_pretrained`,
                `starter` (the network that comes with the package) or `hf:OWNER/NAME` (on the
                Hugging Face hub).
            device: `auto`, `cpu`, ...; for ONNX Runtime too.
            flip_test: see the class.
            precision: `fp32`, `bf16`, `fp16`; `auto` is bf16 on accelerators that multiply it
                natively.
            batch_size: crops a call of the network.
            threads: threads of ONNX Runtime; 0 takes the cores that this process may use.
            detector: see the class.

        Raises:
            UserError: the file is missing, damaged or no pose network.
        """
        if not isinstance(path, (str, Path)):
            raise UserError(
                f"{shown(path)} ({type(path).__name__}) names no network. "
                "Cure: a path, starter or hf:OWNER/NAME"
            )
        weights = find_weights(path)
        chosen: torch.device | str = "cpu"
        network: Callable[[Tensor], Tensor]
        if weights.suffix.lower() in SESSIONS:
            network = ExportedNetwork(weights, threads, device)
            spec, precision = network.spec(), "fp32"
            if network.decodes and network.flip_test != flip_test:
                if spec.schema.knows_sides:
                    has = "has the flip test inside" if network.flip_test else "has no flip test"
                    warnings.warn(f"{weights} {has}, as it was exported", stacklevel=2)
                flip_test = network.flip_test
        elif weights.suffix == ".safetensors":
            import torch

            chosen = choose_device(device)
            loaded = load_model(weights, chosen)
            require_pose(loaded.spec, str(path))
            untyped: Any = loaded.network  # torch's types lack `memory_format`
            network = untyped.to(memory_format=torch.channels_last)
            spec, precision = loaded.spec, resolve_precision(precision, chosen)
        else:
            raise UserError(
                f"{weights} is not a file simplepose reads directly. "
                f"Cure: bring it in with simplepose import {weights} --as PRESET"
            )
        return cls(
            network,
            spec,
            device=chosen,
            flip_test=flip_test,
            precision=precision,
            batch_size=batch_size,
            # a trained run knows its own
            keypoint_threshold=spec.config.get("evaluate", {}).get("keypoint_threshold", 0.2),
            detector=detector,
        )

    def save_pretrained(
        self, path: str | Path, *, half: bool = False, licence: str = "", about: str = ""
    ) -> Path:
        """Writes the network, all that is needed to use it, and a model card.

        Args:
            path: NAME.safetensors, whose card becomes NAME.md; or a folder, which gets
                model.safetensors and README.md, as the hub wants them.
            half: store the weights in half precision, which halves the file.
            licence: of the weights, e.g. `Apache-2.0`; the card says where none is stated.
            about: Markdown for the card: data, limits.

        Returns:
            The weight file. `from_pretrained` opens it and its folder.

        Raises:
            UserError: an ONNX network, which is a file already; or the files cannot be written.
        """
        if isinstance(self.network, ExportedNetwork):
            raise UserError(
                f"{path}: only networks of torch are saved, this one is from an ONNX file. "
                "Cure: copy that file"
            )
        network: Any = self.network
        return save_with_card(path, network, self.spec, half=half, licence=licence, about=about)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        half: bool = False,
        licence: str = "",
        about: str = "",
    ) -> str:
        """Publishes the network with its card as `hf:OWNER/NAME` (extra `hub`).

        Args:
            repository: OWNER/NAME; made where it is not there.
            private: of a new repository: nobody else sees it.
            half: see `save_pretrained`, as `licence` and `about`.

        Returns:
            The address of the commit.

        Raises:
            UserError: see `save_pretrained`; nobody is logged in, or the hub refuses.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, half=half, licence=licence, about=about)
            return hub.publish(Path(folder), repository, private=private)

    @property
    def schema(self) -> KeypointSchema:
        """The keypoints it estimates."""
        return self.spec.schema

    @property
    def mirrors(self) -> bool:
        """Whether the flip test is done: it is asked for, and left and right are known."""
        return self.flip_test and self.schema.knows_sides

    @property
    def input_size_wh(self) -> tuple[int, int]:
        """Size of the crops the network sees."""
        return self.spec.input_size_wh

    def __call__(self, picture: Any, boxes: Any = None) -> Poses:
        """Estimates everybody in one picture.

        Args:
            picture: path, Pillow picture, (H, W, 3) uint8 RGB array or Frame; see `Frame.of`.
            boxes: (N, 4) left, top, right, bottom in its pixels, none of them gives empty Poses;
                People; `whole`, where one person fills the picture; or None, which asks the
                `detector`.

        Returns:
            Poses that know their picture and their keypoints, so that they can be drawn and saved.

        Raises:
            UserError: see `estimate_batch`; also a box without width and height, something that is
                no picture or no boxes, or no detector to ask.
        """
        frame = Frame.of(picture)
        people = self._people(frame, boxes)
        return replace(self.estimate_batch([frame.image], [people])[0], frame=frame)

    def _people(self, frame: Frame, boxes: Any) -> People:
        if isinstance(boxes, People):
            return boxes
        if boxes is None:
            if self.detector is None:
                raise UserError(
                    "nobody said where the people are. Cure: give boxes, (N, 4) or 'whole', or "
                    "the estimator a detector"
                )
            return self.detector(frame.image)
        if isinstance(boxes, str):
            if boxes != "whole":
                raise UserError(f"boxes is {boxes!r}. Cure: (N, 4) numbers, People or 'whole'")
            boxes = [[0, 0, *frame.image.shape[1::-1]]]
        try:
            checked = validate_xyxy(np.asarray(boxes, np.float64), "boxes")
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"boxes is {shown(boxes)}. Cure: (N, 4) numbers, People or 'whole'"
            ) from error
        return People(checked, np.ones(len(checked)))

    def estimate_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People], *, calibrated: bool = True
    ) -> list[Poses]:
        """Estimates several pictures; crops of all of them fill the batches.

        Args:
            images: pictures, (H, W, 3) uint8 RGB each.
            people: the boxes in each of them.
            calibrated: apply the calibration that the weights carry, if any.

        Returns:
            Poses for each picture; `scores` are box score x mean keypoint score above the
            threshold. Calibrated: see `calibrated`.

        Raises:
            UserError: a picture without pixels, or a box or score that is not finite. A box without
                area, which a detector may leave at the border of a frame, ends no video: it has a
                crop of next to nothing.
        """
        for index, one in enumerate(people):
            finite = np.isfinite(one.boxes_xyxy).all(1) & np.isfinite(one.scores)
            if not finite.all():
                person = int(np.argmin(finite))
                raise UserError(
                    f"picture {index}, person {person}: box {one.boxes_xyxy[person].tolist()} "
                    f"(xyxy), score {one.scores[person]}, which is not finite. "
                    "Cure: leave such boxes out"
                )
        if not people:
            return []
        cut = [self.cut(image, one.boxes_xyxy) for image, one in zip(images, people, strict=True)]
        crops, to_crop = (np.concatenate(parts) for parts in zip(*cut, strict=True))
        all_found = self.estimate_crops(crops, to_crop, covariances=self.knows_covariances)
        box_scores = np.concatenate([one.scores for one in people])
        scores = rescore(box_scores, all_found.scores, self.keypoint_threshold)
        poses, first = [], 0
        for one in people:
            rows = slice(first, first := first + len(one))
            found = all_found.each(itemgetter(rows))
            poses.append(
                Poses(
                    found.keypoints,
                    found.scores,
                    one.boxes_xyxy,
                    scores[rows],
                    covariances=found.moments,
                    visibility=found.visibility,
                    schema=self.schema,
                )
            )
        return [self.calibrated(one) for one in poses] if calibrated else poses

    def calibrated(self, poses: Poses) -> Poses:
        """Raw scores -> probabilities that a keypoint is right, and expected OKS; second moments of
        heatmaps -> covariances; visibility by its temperature.

        The same poses where the weights carry no calibration.
        """
        if (calibration := self.spec.calibration) is None:
            return poses
        return replace(
            poses,
            keypoint_scores=calibration.keypoints(poses.keypoint_scores),
            scores=calibration.expected_oks(poses.scores),
            covariances=None
            if poses.covariances is None
            else calibration.covariances(poses.covariances, poses.keypoint_scores),
            visibility=None
            if poses.visibility is None
            else calibration.visibility(poses.visibility),
        )

    @property
    def has_moments(self) -> bool:
        """Whether the second moments of heatmaps can be had; a file that decodes keeps them inside,
        unless it was exported with covariances."""
        network = self.network
        if isinstance(network, ExportedNetwork) and network.decodes:
            return network.has(COVARIANCES)
        return True

    @property
    def knows_visibility(self) -> bool:
        """Whether poses have `visibility`: a network with the head (`model.visibility`), or a
        `keypoints` file of one."""
        if isinstance(self.network, ExportedNetwork):
            return self.network.has(SEEN)
        return self.spec.model is not None and self.spec.model.visibility

    @property
    def knows_covariances(self) -> bool:
        """Whether calibrated poses have `covariances`; maps that stay inside a file have none."""
        calibration = self.spec.calibration
        fitted = calibration is not None and calibration.spread_offset is not None
        return fitted and self.has_moments

    @property
    def drawn_threshold(self) -> float:
        """Keypoints with a lower score are better not drawn.

        It is `keypoint_threshold`, as a probability where scores are calibrated.
        """
        if (calibration := self.spec.calibration) is None:
            return self.keypoint_threshold
        return float(calibration.keypoints(np.array(self.keypoint_threshold)))

    def cut(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crops (N, H_in, W_in, 3) uint8 RGB of one picture, and their to_crop (N, 2, 3)."""
        require_rgb(image)
        width, height = self.input_size_wh
        regions = geometry.fit_boxes(boxes_xyxy, (width, height))
        to_crop = geometry.crop_affines(*regions, (width, height), udp=self.spec.codec.udp)
        crops = np.empty((len(to_crop), height, width, 3), np.uint8)
        for crop, affine in zip(crops, to_crop, strict=True):
            geometry.warp_crop(image, affine, (width, height), crop)
        return crops, to_crop

    def estimate_crops(
        self, crops: np.ndarray, to_crop: np.ndarray, *, covariances: bool = False
    ) -> Found:
        """Network, decoding and way back for any number of crops, `batch_size` at a time.

        Args:
            crops: (N, H_in, W_in, 3) uint8 RGB.
            to_crop: (N, 2, 3) affines they were cut with.
            covariances: also take the heatmaps' second moments.

        Returns:
            Keypoints float64 in pixels of the full picture, second moments in its square pixels.
        """
        keypoints = np.zeros((len(crops), len(self.schema), 2))
        scores = np.zeros(keypoints.shape[:2], np.float32)
        covariances = covariances and self.has_moments
        moments = np.zeros((*keypoints.shape, 2)) if covariances else None
        shape = *scores.shape, len(VISIBILITY)
        visibility = np.zeros(shape, np.float32) if self.knows_visibility else None
        for first in range(0, len(crops), self.batch_size):
            rows = slice(first, first + self.batch_size)
            with enough_memory(self.batch_size, "evaluate.batch_size, batch_size in Python"):
                found = self.in_crops(crops[rows], covariances=covariances)
                for whole, part in zip(
                    (keypoints, scores, moments, visibility), found, strict=True
                ):
                    if whole is not None:
                        whole[rows] = part
        to_image = geometry.invert_affines(to_crop)
        if moments is not None:
            linear = to_image[:, None, :, :2]
            moments = linear @ moments @ np.swapaxes(linear, -1, -2)
        return Found(geometry.transform_points(to_image, keypoints), scores, moments, visibility)

    def in_crops(self, crops: np.ndarray, *, covariances: bool = False) -> Found:
        """All about crops (B, H_in, W_in, 3) in their own pixels, float32."""
        if isinstance(self.network, ExportedNetwork) and self.network.decodes:
            return self._from_file(self.network.keypoints(crops), covariances=covariances)
        maps, visibility = self._outputs(crops)
        rules, size_wh = self.spec.codec, self.input_size_wh
        keypoints, scores = codec.decode(maps, rules, size_wh)
        moments = codec.spread(maps, keypoints, rules, size_wh) if covariances else None
        seen = None if visibility is None else _to_numpy(visibility)
        moved = None if moments is None else _to_numpy(moments)
        return Found(_to_numpy(keypoints), _to_numpy(scores), moved, seen)

    def _from_file(self, outputs: dict[str, np.ndarray], *, covariances: bool) -> Found:
        """Those of a `keypoints` file; the calibration that it was exported with is undone."""
        scores, moments, visibility = outputs[SCORES], None, outputs.get(SEEN)
        calibration = self.spec.calibration if PROBABILITIES in outputs else None
        if covariances and COVARIANCES in outputs and calibration is not None:
            moments = outputs[COVARIANCES] / calibration.spread(scores)
        if visibility is not None and calibration and calibration.visibility_temperature:
            visibility = tempered(visibility, 1 / calibration.visibility_temperature)
        return Found(outputs[KEYPOINTS], scores, moments, visibility)

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """What the network sees, to look at (`simplepose.core.draw.draw_heatmaps`).

        Args:
            crops: (B, H_in, W_in, 3) uint8 RGB, as `cut` makes them.

        Returns:
            (B, K, H', W') float32 with peaks of up to `spec.codec.peak`; (B, K, Lx + Ly) of a SimCC
            network, which makes no maps.
        """
        return _to_numpy(self.maps(crops))

    def maps(self, crops: np.ndarray) -> codec.Array:
        """`heatmaps` on the network's device, a NumPy array of ONNX Runtime's; averaged with the
        mirrored crops if `mirrors`."""
        return self._outputs(crops)[0]

    def _outputs(self, crops: np.ndarray) -> tuple[codec.Array, Tensor | None]:
        """`maps`, and the visibility (B, K, 3) where the network knows it."""
        order = self.schema.flip_order if self.mirrors else None
        rules, size_wh = self.spec.codec, self.input_size_wh
        if isinstance(network := self.network, ExportedNetwork):
            ask = network.run if codec.reads_arrays(rules) else network.tensors
            pixels = normalise_crops(crops, self.spec.pixels)
            return codec.run(ask, pixels, rules, size_wh, order), None
        import torch

        from simplepose.pose.visibility import VisibilityRecorder

        device = torch.device(self.device)
        recorder = None
        if self.knows_visibility:
            recorder = VisibilityRecorder(network)  # type: ignore[arg-type]

        def ask_torch(pixels: Tensor) -> Tensor:
            with autocast(device, self.precision):
                return (recorder or network)(pixels)

        with torch.inference_mode():
            raw = to_device(torch.from_numpy(crops), device)
            # channels-last in memory
            inputs = normalise(raw.permute(0, 3, 1, 2), self.spec.pixels)
            # Half the launches; on a processor two calls, whose last bits are those of one alone.
            model = self.spec.model
            stride = model.heatmap_stride if model and is_accelerator(device) else 0
            maps = codec.run(ask_torch, inputs, rules, size_wh, order, stride)
            return maps, recorder.probabilities(order) if recorder else None


def _to_numpy(array: codec.Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.float().cpu().numpy()
