"""No export gets its name before it was opened again and scored beside the network it came from.

Shapes and tolerances do not see what costs AP: a decoder written twice, colours swapped, ranges of
int8 that a few channels burst. So the file goes through the same `PoseEstimator` and the same test
with the same boxes as the network, and each difference has a limit.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simplepose.config import EvaluateConfig
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.errors import UserError
from simplepose.core.files import read_bytes
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.pictures import read_picture
from simplepose.evaluation.tasks import TASKS
from simplepose.evaluation.top_down import evaluate_network
from simplepose.pose import codec
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import ExportedNetwork
from simplepose.synthetic.scene import draw_people

Kind = Literal["fp32", "half", "int8"]
BATCHES = (1, 3, 64)
"""Batches that every file must take."""
CROPS = 128
"""Crops that are compared, at least the largest batch."""
MOST_PIXELS, MOST_SCORE = 0.01, 1e-4
"""How far a keypoint and a score of an fp32 file may lie from the network's."""
TIE, MOST_TIES = 1e-5, 0.05
"""Noise that no keypoint should feel, as a fraction of the largest value (of each value where they
are probabilities); those that move by more than `MOST_PIXELS` are near ties and counted apart, up
to this fraction."""
LOSS: dict[Kind, float] = {"fp32": 0.001, "half": 0.001, "int8": 0.005}
"""AP (0..1) that may be lost; fp32 and half must not gain more either."""
TIMED = {1: 10, 16: 3}
"""Batch -> runs of each of the two, taken in turn."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    found: str
    limit: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Parity:
    """All that was found out about one file."""

    checks: tuple[Check, ...]
    speed: dict[int, float]
    """Batch -> how many times faster than the network it came from."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Numbers of the test of the `network` and of the `file`; empty without annotations."""

    @property
    def refused(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.holds]

    def table(self) -> str:
        """What was found and what was allowed, aligned."""
        rows = [("check", "found", "limit", "")]
        rows += [(c.name, c.found, c.limit, "ok" if c.holds else "REFUSED") for c in self.checks]
        for batch, factor in self.speed.items():
            rows.append((f"speed, batch {batch}", f"{factor:.2f} x the network's", "", ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        if self.speed and max(self.speed.values()) < 1:
            lines.append("note: on this machine the export is slower than the network itself")
        return "\n".join(lines)


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


def drawn_crops(estimator: PoseEstimator, count: int = BATCHES[-1]) -> np.ndarray:
    """Crops of drawn people, where nobody gave pictures: (count, H, W, 3) uint8."""
    rng, cut = np.random.default_rng(0), list[np.ndarray]()
    while sum(map(len, cut)) < count:
        image, rows = draw_people(rng, 4)
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        cut.append(estimator.cut(image, xywh_to_xyxy(boxes))[0])
    return np.concatenate(cut)[:count]


def examine(
    network: PoseEstimator,
    path: Path,
    kind: Kind,
    scored: Scored | None,
    *,
    allow_loss: float | None = None,
    timed: bool = True,
) -> Parity:
    """Opens a file and compares it with the network it came from.

    Args:
        network: opened on the processor, with the flip test that the file should have.
        path: the file.
        kind: its arithmetic.
        scored: people to test on; None compares numbers alone.
        allow_loss: AP that may be lost, in place of `LOSS`.
        timed: measure the speed too.

    Raises:
        UserError: the file does not open or run, fewer than 64 boxes, or a picture that cannot be
            read.
    """
    file = PoseEstimator.from_pretrained(
        path, device="cpu", flip_test=network.flip_test, batch_size=network.batch_size
    )
    crops = drawn_crops(network) if scored is None else scored.crops(network)
    if len(crops) < BATCHES[-1]:
        raise UserError(
            f"{len(crops)} boxes are too few to compare an export with its network. "
            f"Cure: annotations with at least {BATCHES[-1]} people"
        )
    checks = [_metadata(network, file), *_batches(file, crops)]
    whole = all(check.holds for check in checks)
    if whole:
        checks += _numbers(network, file, crops, kind)
    metrics = {}
    if whole and scored is not None:
        metrics = {
            name: evaluate_network(
                one, scored.annotations, scored.detections, scored.config
            ).metrics
            for name, one in (("network", network), ("file", file))
        }
        checks.append(_score(metrics, kind, scored.config, allow_loss))
    speed = _speed(network, file, crops) if whole and timed else {}
    return Parity(tuple(checks), speed, metrics)


def _metadata(network: PoseEstimator, file: PoseEstimator) -> Check:
    """The description of the network that came back."""
    same = file.spec == network.spec and file.mirrors == network.mirrors
    return Check("metadata", "equal" if same else "different", "equal", same)


def _batches(file: PoseEstimator, crops: np.ndarray) -> list[Check]:
    """The batch is free, and a crop's answer does not depend on the crops beside it.

    Raises:
        UserError: a batch does not run.
    """
    assert isinstance(file.network, ExportedNetwork)
    fixed = file.network.fixed_batch
    found = f"fixed to {fixed}" if fixed else "free"
    checks = [Check("batch", found, "free", not fixed)]
    if fixed:
        return checks
    whole = file.in_crops(crops[: BATCHES[-1]])[0]
    for count in BATCHES:
        apart = np.linalg.norm(file.in_crops(crops[:count])[0] - whole[:count], axis=-1)
        same = float((apart <= MOST_PIXELS).mean())
        limit = 1 - MOST_TIES
        checks.append(Check(f"batch {count}", f"{same:.1%} equal", f"{limit:.0%}", same >= limit))
    return checks


def _numbers(
    network: PoseEstimator, file: PoseEstimator, crops: np.ndarray, kind: Kind
) -> list[Check]:
    """Keypoints and scores of the same crops."""
    before, after = (_answers(one, crops) for one in (network, file))
    pixels = np.linalg.norm(after[0] - before[0], axis=-1)
    scores = np.abs(after[1] - before[1])
    if kind != "fp32":
        half, most = np.quantile(pixels, [0.5, 0.95])
        found = f"median {half:.3f} px, 95 % {most:.3f} px"
        return [Check("keypoints", found, "AP decides", bool(np.isfinite(pixels).all()))]
    ties = near_ties(network, crops)
    far, apart = float(pixels[~ties].max(initial=0)), float(ties.mean())
    most = float(scores.max(initial=0))
    # written so that NaN is refused
    return [
        Check("keypoints", f"{far:.4f} px", f"{MOST_PIXELS} px", far <= MOST_PIXELS),
        Check("near ties", f"{apart:.2%}", f"{MOST_TIES:.0%}", apart <= MOST_TIES),
        Check("scores", f"{most:.1e}", f"{MOST_SCORE:.0e}", most <= MOST_SCORE),
    ]


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


def _score(
    metrics: dict[str, dict[str, float]],
    kind: Kind,
    config: EvaluateConfig,
    allow_loss: float | None,
) -> Check:
    """The number that chooses `best`, before and after."""
    name, factor = TASKS[config.task].score, TASKS[config.task].factor
    before, after = (metrics[one][name] * factor / 100 for one in ("network", "file"))
    limit = LOSS[kind] if allow_loss is None else allow_loss
    change = after - before
    holds = -change <= limit and (kind == "int8" or change <= limit)
    sides = "loss up to" if kind == "int8" else "within"
    found = f"{before:.4f} -> {after:.4f} ({change:+.4f})"
    return Check(name, found, f"{sides} {limit:g}", holds and math.isfinite(change))


def _speed(network: PoseEstimator, file: PoseEstimator, crops: np.ndarray) -> dict[int, float]:
    """Batch -> time of the network over time of the file, medians of runs taken in turn."""
    found = {}
    for batch, runs in TIMED.items():
        seconds: dict[int, list[float]] = {0: [], 1: []}
        for run in range(runs + 1):
            for which, one in enumerate((network, file)):
                began = time.perf_counter()
                one.in_crops(crops[:batch])
                if run:  # the first warms up
                    seconds[which].append(time.perf_counter() - began)
        found[batch] = float(np.median(seconds[0]) / np.median(seconds[1]))
    return found


def require_other_pictures(calibration: Annotations, scored: Annotations) -> None:
    """Refuses ranges of int8 that were chosen on pictures of the test, by their contents.

    Raises:
        UserError: names the first.
    """
    tested = {_content(path): path for path in scored.image_paths}
    for path in calibration.image_paths:
        if (same := tested.get(_content(path))) is not None:
            raise UserError(
                f"{path} is chosen by for int8 and scored too ({same}). "
                "Cure: --calibration.images with pictures that are not in --images"
            )


def _content(path: str) -> bytes:
    return hashlib.sha256(read_bytes(path)).digest()


def to_plain(parity: Parity, **about: Any) -> dict[str, Any]:
    """The content of NAME.parity.json."""
    checks: Sequence[dict[str, Any]] = [
        {"name": c.name, "found": c.found, "limit": c.limit, "holds": c.holds}
        for c in parity.checks
    ]
    speed = {str(batch): round(factor, 3) for batch, factor in parity.speed.items()}
    return {**about, "checks": checks, "speed": speed, **parity.metrics}
