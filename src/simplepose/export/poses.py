"""A pose network that is exported: what its file is compared by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplepose.config import EvaluateConfig
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.pictures import read_picture
from simplepose.evaluation.tasks import TASKS
from simplepose.evaluation.top_down import evaluate_network
from simplepose.export.parity import Check, Kind
from simplepose.pose import codec
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import ExportedNetwork
from simplepose.synthetic.scene import draw_people

CROPS = 128
"""Crops that are compared."""
FEWEST = 64
"""Fewer people say too little."""
MOST_PIXELS, MOST_SCORE = 0.01, 1e-4
"""How far a keypoint and a score of an fp32 file may lie from the network's."""
TIE, MOST_TIES = 1e-5, 0.05
"""Noise that no keypoint should feel, as a fraction of the largest value (of each value where they
are probabilities); those that move by more than `MOST_PIXELS` are near ties and counted apart, up
to this fraction."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The people of the test."""

    annotations: Annotations
    detections: Detections
    config: EvaluateConfig

    def crops(self, estimator: PoseEstimator, count: int = CROPS) -> np.ndarray:
        """(count, H, W, 3) uint8 crops of boxes spread over the set, fewer where there are fewer.

        Raises:
            UserError: a picture cannot be read.
        """
        boxes, total = self.detections, len(self.detections.boxes_xyxy)
        rows = np.unique(np.linspace(0, total, count, endpoint=False).astype(int))[:total]
        cut = [np.zeros((0, *estimator.input_size_wh[::-1], 3), np.uint8)]
        for picture in np.unique(boxes.image_index[rows]):
            image = read_picture(self.annotations, int(picture))
            here = rows[boxes.image_index[rows] == picture]
            cut.append(estimator.cut(image, boxes.boxes_xyxy[here])[0])
        return np.concatenate(cut)


class PoseSource:
    """A pose network, and the people that it and its file are tested on."""

    def __init__(self, network: PoseEstimator, scored: Scored | None = None) -> None:
        """Holds both.

        Args:
            network: opened on the processor, with the flip test that the file should have.
            scored: people to test on; None compares numbers alone.
        """
        self.network, self.scored = network, scored

    def open(self, path: Path) -> PoseEstimator:
        """A file of the network."""
        return PoseEstimator.from_pretrained(
            path,
            device="cpu",
            flip_test=self.network.flip_test,
            batch_size=self.network.batch_size,
        )

    def same_description(self, file: PoseEstimator) -> bool:
        """Whether all that must be known to use the network came back."""
        return file.spec == self.network.spec and file.mirrors == self.network.mirrors

    def fixed_batch(self, file: PoseEstimator) -> int:
        """How many crops it takes, 0 for any number."""
        assert isinstance(file.network, ExportedNetwork)
        return file.network.fixed_batch

    def inputs(self) -> np.ndarray:
        """(N, H, W, 3) uint8 crops to compare by, of drawn people where nobody gave pictures."""
        return drawn_crops(self.network) if self.scored is None else self.scored.crops(self.network)

    def ask(self, one: PoseEstimator, crops: np.ndarray) -> np.ndarray:
        """(B, K, 2) keypoints in crop pixels."""
        return one.in_crops(crops)[0]

    def numbers(self, file: PoseEstimator, crops: np.ndarray, kind: Kind) -> list[Check]:
        """Keypoints and scores of the same crops."""
        before, after = (_answers(one, crops) for one in (self.network, file))
        pixels = np.linalg.norm(after[0] - before[0], axis=-1)
        scores = np.abs(after[1] - before[1])
        if kind != "fp32":
            half, most = np.quantile(pixels, [0.5, 0.95])
            found = f"median {half:.3f} px, 95 % {most:.3f} px"
            return [Check("keypoints", found, "AP decides", bool(np.isfinite(pixels).all()))]
        ties = near_ties(self.network, crops)
        far, apart = float(pixels[~ties].max(initial=0)), float(ties.mean())
        most = float(scores.max(initial=0))
        # written so that NaN is refused
        return [
            Check("keypoints", f"{far:.4f} px", f"{MOST_PIXELS} px", far <= MOST_PIXELS),
            Check("near ties", f"{apart:.2%}", f"{MOST_TIES:.0%}", apart <= MOST_TIES),
            Check("scores", f"{most:.1e}", f"{MOST_SCORE:.0e}", most <= MOST_SCORE),
        ]

    @property
    def score(self) -> tuple[str, float]:
        """Name of the number of `test` that decides, and what brings it to 0..1."""
        assert self.scored is not None
        task = TASKS[self.scored.config.task]
        return task.score, task.factor / 100

    def test(self, one: PoseEstimator) -> dict[str, float]:
        """The numbers of the test."""
        assert self.scored is not None
        found = self.scored
        return evaluate_network(one, found.annotations, found.detections, found.config).metrics

    def about(self) -> dict[str, Any]:
        """For the record."""
        scored = self.scored
        return {
            "preset": self.network.spec.preset,
            "flip_test": self.network.mirrors,
            "annotations": scored and scored.annotations.source,
            "boxes": scored and scored.detections.source,
        }


def drawn_crops(estimator: PoseEstimator, count: int = FEWEST) -> np.ndarray:
    """Crops of drawn people, where nobody gave pictures: (count, H, W, 3) uint8."""
    rng, cut = np.random.default_rng(0), list[np.ndarray]()
    while sum(map(len, cut)) < count:
        image, rows = draw_people(rng, 4)
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        cut.append(estimator.cut(image, xywh_to_xyxy(boxes))[0])
    return np.concatenate(cut)[:count]


def _answers(estimator: PoseEstimator, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, K, 2) in crop pixels and scores (N, K)."""
    size = estimator.batch_size
    parts = [estimator.in_crops(crops[n : n + size]) for n in range(0, len(crops), size)]
    keypoints, scores, *_ = zip(*parts, strict=True)
    return np.concatenate(keypoints), np.concatenate(scores)


def near_ties(network: PoseEstimator, crops: np.ndarray, draws: int = 8) -> np.ndarray:
    """(N, K) bool: keypoints that noise in the last digits moves.

    Two peaks or two neighbours are as good as equal there, and no two runtimes need agree.
    """
    generator, rules = torch.Generator().manual_seed(0), network.spec.codec
    moved = []
    for first in range(0, len(crops), network.batch_size):
        maps = torch.from_numpy(network.heatmaps(crops[first : first + network.batch_size]))
        direct = rules.kind in ("heatmap", "rtmpose")
        noise = TIE * maps.abs().amax() if direct else TIE * maps
        plain = codec.decode(maps, rules, network.input_size_wh)[0]
        others = [
            codec.decode(
                maps + noise * torch.randn(maps.shape, generator=generator),
                rules,
                network.input_size_wh,
            )[0]
            for _ in range(draws)
        ]
        moved.append((torch.stack(others) - plain).norm(dim=-1).amax(0) > MOST_PIXELS)
    return torch.cat(moved).numpy()
