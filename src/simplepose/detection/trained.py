"""A detector that `simplepose train` has made: picture -> People."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from simplepose.core.boxes import fuse, nms
from simplepose.core.device import autocast, choose_device, resolve_precision
from simplepose.core.errors import UserError
from simplepose.core.images import require_rgb
from simplepose.core.sessions import SESSIONS, Session, open_session
from simplepose.core.structures import People
from simplepose.data.boxes import USUAL_REGION
from simplepose.detection.centers import MOST, decode
from simplepose.detection.layouts import find_class
from simplepose.detection.onnx import people_within, same_shapes
from simplepose.pose.card import save_with_card
from simplepose.pose.checkpoints import METADATA_KEY, ModelSpec, find_weights, load_model
from simplepose.pose.pixels import normalise

CPU = torch.device("cpu")
PICTURES, BOXES, SCORES, CLASSES = "pictures", "boxes", "scores", "classes"
"""Names of the input and the outputs of an exported detector."""
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (N, 4), scores (N,) and classes (N,)."""
NMS_IOU = 0.6
"""Of two boxes of a class that overlap more, the weaker one goes."""
LOOKS = ((1, False), (1, True), (2, False))
"""How often as large test-time augmentation shows a picture to the network, and whether mirrored;
the first is the plain test."""
FUSE_IOU = 0.6
"""Boxes of several looks that overlap more are one."""


class TrainedDetector:
    """Finds people, or what else it was trained on: picture -> People.

    A sample of the training shows a part of a picture (`data.boxes.USUAL_REGION`), so a whole
    picture is scaled to fit a larger input, in which its subjects are as large. What it leaves free
    beyond a multiple of 32 is cut off, so that a wide picture costs less.
    """

    def __init__(
        self,
        network: nn.Module | Session,
        spec: ModelSpec,
        *,
        device: torch.device,
        score_threshold: float = 0.3,
        person_class: str | int = "",
        precision: str = "fp32",
        tta: bool = False,
        source: str = "the detector",
    ) -> None:
        """Wraps a network that is on its device already.

        Args:
            network: with the head `boxes`; or an exported one, which decodes its maps itself.
            spec: what its file says; the schema's names are its classes.
            device: where it is.
            score_threshold: boxes below it are dropped.
            person_class: number or name of the class that `__call__` returns; by default person,
                or everything where no class is called so.
            precision: `fp32` or `bf16`.
            tta: test-time augmentation: look at each picture mirrored and at twice the size as
                well. Finds more people, small ones above all; about six times the work.
            source: what messages call it.

        Raises:
            UserError: a pose network, or one that has no such class.
        """
        if not spec.detects:
            raise UserError(
                f"{source} is a pose network: it estimates {len(spec.schema)} keypoints of people "
                "whose boxes are known. Cure: give it as --weights, and as --boxes a detector, for "
                "example one that simplepose train person_lite0_320 has trained"
            )
        self.network, self.spec, self.device = network, spec, device
        self.score_threshold, self.precision, self.tta = score_threshold, precision, tta
        self.classes = spec.schema.keypoints
        width, height = (32 * math.ceil(side / USUAL_REGION / 32) for side in spec.input_size_wh)
        self.input_size_wh = width, height
        names = dict(enumerate(self.classes))
        self.person_class: int | None = None
        if str(person_class) or "person" in self.classes:
            option = "--person-class (person_class from Python)"
            self.person_class = find_class(person_class, names, len(names), source, option)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        score_threshold: float = 0.3,
        person_class: str | int = "",
        device: str = "auto",
        precision: str = "fp32",
        tta: bool = False,
        threads: int = 0,
    ) -> TrainedDetector:
        """Opens a run folder, a .safetensors file or an exported one; `threads` are those of other
        runtimes, see `open_session`.

        Raises:
            UserError: the file is missing, damaged or no detector.
        """
        weights = find_weights(path)
        network: nn.Module | Session
        if weights.suffix.lower() in SESSIONS:
            network, chosen = open_session(weights, device=device, threads=threads), CPU
            spec = ModelSpec.from_json(network.metadata.get(METADATA_KEY, ""), str(path))
        else:
            chosen = choose_device(device)
            network, spec = load_model(weights, chosen)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            network,
            spec,
            device=chosen,
            score_threshold=score_threshold,
            person_class=person_class,
            precision=resolve_precision(precision, chosen),
            tta=tta,
            source=str(path),
        )

    def save_pretrained(
        self, path: str | Path, *, half: bool = False, licence: str = "", about: str = ""
    ) -> Path:
        """Writes the network with a model card; see `PoseEstimator.save_pretrained`."""
        if not isinstance(self.network, nn.Module):
            raise UserError(
                f"{path}: only networks of torch are saved. Cure: copy the exported file"
            )
        return save_with_card(
            path, self.network, self.spec, half=half, licence=licence, about=about
        )

    def __call__(self, image: np.ndarray) -> People:
        """(H, W, 3) uint8 RGB -> People, best score first.

        Raises:
            UserError: no such picture.
        """
        return self.together([image])[0]

    def together(self, images: Sequence[np.ndarray]) -> list[People]:
        """The people of several pictures."""
        people = []
        for image, (boxes, scores, classes) in zip(images, self.detect(images), strict=True):
            wanted = scores >= self.score_threshold
            if self.person_class is not None:
                wanted &= classes == self.person_class
            people.append(people_within(boxes[wanted], scores[wanted], image))
        return people

    def detect(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        """Up to 100 boxes of all classes, whatever their score, after suppression.

        Args:
            images: (H, W, 3) uint8 RGB each; those of one shape go through the network together.

        Returns:
            Of each picture boxes (N, 4) float32 in its pixels, cut at its border, scores (N,)
            float32 in 0..1 and classes (N,) int64.

        Raises:
            UserError: no such picture.
        """
        for image in images:
            require_rgb(image)
        if not self.tta:
            return self._look(images, *LOOKS[0])
        looks = [self._look(images, *look) for look in LOOKS]
        return [_fused(parts) for parts in zip(*looks, strict=True)]

    def _look(self, images: Sequence[np.ndarray], times: int, mirrored: bool) -> list[Boxes]:
        """The boxes of each picture; the network sees it so many times as large, and perhaps
        mirrored."""
        width, height = self.input_size_wh
        canvases = [
            fitted(image[:, ::-1] if mirrored else image, (times * width, times * height))
            for image in images
        ]
        found: dict[int, Boxes] = {}
        for rows in same_shapes([canvas for canvas, _ in canvases]):
            parts = self.in_pixels(np.stack([canvases[row][0] for row in rows]))
            for row, boxes, scores, classes in zip(rows, *parts, strict=True):
                in_picture = boxes / np.tile(canvases[row][1], 2)
                if mirrored:
                    in_picture[:, [0, 2]] = images[row].shape[1] - in_picture[:, [2, 0]]
                found[row] = _within(in_picture, scores, classes, images[row])
        return [found[row] for row in range(len(images))]

    @torch.inference_mode()
    def in_pixels(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the network says, before suppression.

        Args:
            pictures: (B, H, W, 3) uint8 RGB as `fitted` makes them; sides are multiples of 32.

        Returns:
            See `centers.decode`.
        """
        if not isinstance(self.network, nn.Module):
            answers = self.network.run({PICTURES: pictures})
            return answers[BOXES], answers[SCORES], answers[CLASSES]
        assert self.spec.model is not None
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(self.device)
        with autocast(self.device, self.precision):
            maps = self.network(normalise(batch, self.spec.pixels))
        boxes, scores, classes = decode(maps, self.spec.model.heatmap_stride)
        return boxes.cpu().numpy(), scores.cpu().numpy(), classes.cpu().numpy()


def _within(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, image: np.ndarray) -> Boxes:
    """The boxes of a picture, cut at its border, after suppression."""
    limits = np.tile(image.shape[1::-1], 2)
    boxes = np.clip(boxes, 0, limits).astype(np.float32)
    alone = boxes + classes[:, None] * 2 * limits.max()  # classes do not meet
    kept = nms(alone, scores, NMS_IOU)
    # A score of 0 is a cell that is no peak; NaN is none either.
    kept = kept[(boxes[kept, 2:] > boxes[kept, :2]).all(1) & (scores[kept] > 0)]
    return boxes[kept], scores[kept], classes[kept]


def _fused(looks: Sequence[Boxes]) -> Boxes:
    """The boxes of a picture that was looked at several times."""
    boxes, scores, classes = (np.concatenate(part) for part in zip(*looks, strict=True))
    found = [(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))]
    for number in np.unique(classes):
        own = classes == number
        fused = fuse(boxes[own], scores[own], FUSE_IOU)
        found.append((*fused, np.full(len(fused[1]), number)))
    boxes, scores, classes = (np.concatenate(part) for part in zip(*found, strict=True))
    best = np.argsort(-scores, kind="stable")[:MOST]
    return boxes[best], scores[best], classes[best]


def fitted(image: np.ndarray, input_size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The picture scaled into the input's size, in the upper left corner of black of a multiple of
    32, and the scales (x, y): (H, W, 3) uint8 -> (h, w, 3) uint8."""
    size = np.array(image.shape[1::-1])
    scale = float((input_size_wh / size).min())
    width, height = np.maximum(np.round(size * scale), 1).astype(int).tolist()
    canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=how)
    return canvas, np.array([width, height]) / size
