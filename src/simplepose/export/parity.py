"""What was found out about one file, and what was allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["fp32", "half", "int8"]
"""Of a file's arithmetic."""


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

    def to_plain(self, **about: Any) -> dict[str, Any]:
        """The content of FILE.parity.json."""
        checks: Sequence[dict[str, Any]] = [
            {"name": c.name, "found": c.found, "limit": c.limit, "holds": c.holds}
            for c in self.checks
        ]
        speed = {str(batch): round(factor, 3) for batch, factor in self.speed.items()}
        return {**about, "checks": checks, "speed": speed, **self.metrics}
