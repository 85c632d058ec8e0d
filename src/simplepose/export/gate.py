"""No export gets its name before it was opened again and scored beside the network it came from.

Shapes and tolerances do not see what costs AP: a decoder written twice, colours swapped, ranges of
int8 that a few channels burst. So the file goes through the same estimator and the same test with
the same boxes as the network, and each difference has a limit.
"""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.files import read_bytes
from simplepose.data.annotations import Annotations
from simplepose.export.boxes import BoxSource
from simplepose.export.parity import Check, Kind, Parity
from simplepose.export.poses import PoseSource

Source = PoseSource | BoxSource
"""What is exported: a network, and what it and its file are compared by."""
BATCHES = (1, 3, 64)
"""Batches that every file must take."""
MOST_PIXELS, LEAST_EQUAL = 0.01, 0.95
"""How far an answer may move by the crops beside it, and how many must not."""
LOSS: dict[Kind, float] = {"fp32": 0.001, "half": 0.001, "int8": 0.005}
"""AP (0..1) that may be lost; fp32 and half must not gain more either."""
TIMED = {1: 10, 16: 3}
"""Batch -> runs of each of the two, taken in turn."""


def examine(
    source: Source,
    path: Path,
    kind: Kind,
    *,
    allow_loss: float | None = None,
    timed: bool = True,
) -> Parity:
    """Opens a file and compares it with the network it came from.

    Args:
        source: the network, and what it is tested on.
        path: the file.
        kind: its arithmetic.
        allow_loss: AP that may be lost, in place of `LOSS`.
        timed: measure the speed too.

    Raises:
        UserError: the file does not open or run, fewer than 64 people, or a picture that cannot
            be read.
    """
    file: Any = source.open(path)
    inputs = source.inputs()
    if len(inputs) < BATCHES[-1]:
        raise UserError(
            f"{len(inputs)} boxes are too few to compare an export with its network. "
            f"Cure: annotations with at least {BATCHES[-1]} people"
        )
    same = source.same_description(file)
    checks = [Check("metadata", "equal" if same else "different", "equal", same)]
    checks += _batches(source, file, inputs)
    whole = all(check.holds for check in checks)
    if whole:
        checks += source.numbers(file, inputs, kind)
    metrics = {}
    if whole and source.scored is not None:
        network: Any = source.network
        metrics = {"network": source.test(network), "file": source.test(file)}
        checks.append(_score(metrics, kind, source.score, allow_loss))
    speed = _speed(source, file, inputs) if whole and timed else {}
    return Parity(tuple(checks), speed, metrics)


def _batches(source: Source, file: Any, inputs: np.ndarray) -> list[Check]:
    """The batch is free, and an answer does not depend on the crops beside it.

    Raises:
        UserError: a batch does not run.
    """
    fixed = source.fixed_batch(file)
    checks = [Check("batch", f"fixed to {fixed}" if fixed else "free", "free", not fixed)]
    if fixed:
        return checks
    whole = source.ask(file, inputs[: BATCHES[-1]])
    for count in BATCHES:
        apart = np.linalg.norm(source.ask(file, inputs[:count]) - whole[:count], axis=-1)
        same, limit = float((apart <= MOST_PIXELS).mean()), LEAST_EQUAL
        checks.append(Check(f"batch {count}", f"{same:.1%} equal", f"{limit:.0%}", same >= limit))
    return checks


def _score(
    metrics: dict[str, dict[str, float]],
    kind: Kind,
    score: tuple[str, float],
    allow_loss: float | None,
) -> Check:
    """The number that chooses `best`, before and after."""
    name, factor = score
    before, after = (metrics[one][name] * factor for one in ("network", "file"))
    limit = LOSS[kind] if allow_loss is None else allow_loss
    change = after - before
    holds = -change <= limit and (kind == "int8" or change <= limit)
    sides = "loss up to" if kind == "int8" else "within"
    found = f"{before:.4f} -> {after:.4f} ({change:+.4f})"
    return Check(name, found, f"{sides} {limit:g}", holds and math.isfinite(change))


def _speed(source: Source, file: Any, inputs: np.ndarray) -> dict[int, float]:
    """Batch -> time of the network over time of the file, medians of runs taken in turn."""
    found = {}
    for batch, runs in TIMED.items():
        seconds: dict[int, list[float]] = {0: [], 1: []}
        for run in range(runs + 1):
            for which, one in enumerate((source.network, file)):
                began = time.perf_counter()
                source.ask(one, inputs[:batch])
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
                "Cure: --int8.images with pictures that are not in --images"
            )


def _content(path: str) -> bytes:
    return hashlib.sha256(read_bytes(path)).digest()
