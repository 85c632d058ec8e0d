"""The table of a ladder: what each rung reached, and what it added to the one before."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.files import read_json, write_bytes, write_json
from simplepose.training.rungs import Rung


def make_rows(
    rungs: Sequence[Rung], outcomes: Mapping[tuple[int, int], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each rung that has an outcome.

    Args:
        rungs: the ladder.
        outcomes: (place of the rung, seed) -> `AP` and `seconds_an_epoch`; -1 stands for an AP where there was nobody to find,
            None for the seconds of a training that was stopped before it had counted those of an epoch.

    Returns:
        `AP` is the mean over seeds and `AP_spread` their standard deviation; `delta` is the mean gain over the rung before, over the seeds
        that both have, and `delta_spread` its standard deviation. None where they are not defined.
    """
    rows: list[dict[str, Any]] = []
    for index, rung in enumerate(rungs):
        scores = {
            seed: outcome["AP"]
            for (place, seed), outcome in sorted(outcomes.items())
            if place == index
        }
        if not scores:
            continue
        gains = [
            score - outcomes[index - 1, seed]["AP"]
            for seed, score in scores.items()
            if (index - 1, seed) in outcomes and min(score, outcomes[index - 1, seed]["AP"]) >= 0
        ]
        times = [
            seconds
            for seed in scores
            if (seconds := outcomes[index, seed]["seconds_an_epoch"]) is not None
        ]
        rows.append(
            {
                "rung": rung.name,
                "changes": rung.changes,
                "AP": statistics.fmean(scores.values()),
                "AP_all": list(scores.values()),
                "AP_spread": _spread(list(scores.values())),
                "delta": statistics.fmean(gains) if gains else None,
                "delta_spread": _spread(gains),
                "seconds_an_epoch": statistics.median(times) if times else None,
            }
        )
    return rows


def _spread(values: list[float]) -> float | None:
    """Standard deviation of a sample; None of less than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def write_table(
    folder: Path,
    heading: Mapping[str, Any],
    rungs: Sequence[Rung],
    outcomes: Mapping[tuple[int, int], Mapping[str, Any]],
) -> None:
    """Writes ladder.md and ladder.json of the trainings so far, and prints the table if it has rows. `-` where there was nobody to find.

    Args:
        folder: where.
        heading: `preset`, `epochs` and `boxes` of the ladder.
        rungs: see `make_rows`.
        outcomes: see `make_rows`.
    """
    rows = make_rows(rungs, outcomes)
    write_json(folder / "ladder.json", {**heading, "rungs": rows}, indent=True)
    lines = [
        f"{heading['preset']}, {heading['epochs']} epochs a training; AP and its gain over the rung before, +- standard deviation over seeds; "
        f"boxes: {heading['boxes']}.",
        "",
        "| rung | AP | delta | seeds | seconds an epoch |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        score = f"{row['AP']:.3f}{_plus_minus(row['AP_spread'])}" if row["AP"] >= 0 else "-"
        delta = (
            "" if row["delta"] is None else f"{row['delta']:+.3f}{_plus_minus(row['delta_spread'])}"
        )
        seconds = "-" if row["seconds_an_epoch"] is None else f"{row['seconds_an_epoch']:.1f}"
        lines.append(f"| {row['rung']} | {score} | {delta} | {len(row['AP_all'])} | {seconds} |")
    write_bytes(folder / "ladder.md", ("\n".join(lines) + "\n").encode())
    if rows:
        print("\n" + "\n".join(lines), flush=True)


def require_same_ladder(folder: Path, heading: Mapping[str, Any]) -> None:
    """Refuses a folder in which another ladder has begun, before any of its trainings has ended.

    Raises:
        UserError: names what differs.
    """
    path = folder / "ladder.json"
    stored = read_json(path) if path.exists() else heading
    for name, value in heading.items():
        if stored.get(name) != value:
            raise UserError(
                f"{folder} is a ladder with other settings ({name} {stored.get(name)}, here {value}). Cure: the same command as before, or "
                "another --output"
            )


def _plus_minus(spread: float | None) -> str:
    return "" if spread is None else f" +- {spread:.3f}"
