"""The report's page: from analyses to what the template shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simplepose.evaluation.coco import COLUMNS
from simplepose.evaluation.matches import OKS_THRESHOLDS, RECALLS, precision_curves
from simplepose.evaluation.tasks import TASKS, spell
from simplepose.report.analysis import (
    Analysis,
    calibration_curve,
    compare,
    group_numbers,
    keypoint_table,
)
from simplepose.report.charts import Series, line_chart, span_chart
from simplepose.report.sources import Source
from simplepose.report.taxonomy import KINDS, PARTS
from simplepose.report.tracks import Track

MEANINGS = {
    "miss": ("keypoints", "near no annotated keypoint of its kind"),
    "swap": ("keypoints", "at a keypoint of somebody else"),
    "inversion": ("keypoints", "at the left one for the right one, or the other way round"),
    "jitter": ("keypoints", "near its place, not exact"),
    "scoring": ("people", "have several poses, and the best has not the best score"),
    "background FP": ("poses", "found nobody, or somebody whom a better pose had found"),
    "background FN": ("people", "were found by no pose"),
    "rest": ("", "keypoints that are good, but not exact enough for the threshold"),
}
"""Part -> what is counted, and what it is."""
SHOWN_THRESHOLDS = (0, 5, 9)
"""Indices of OKS .5, .75 and .95."""
MOST_TRACKS = 60
"""Identities in the chart."""


def percent(value: float, digits: int = 1) -> str:
    """A fraction of one as percent, `-` where there is none."""
    return "-" if math.isnan(value) else spell(100 * value, f".{digits}f")


def signed(value: float) -> str:
    """A difference of fractions in percent points, with its sign."""
    return "-" if math.isnan(value) else f"{100 * value:+.1f}"


def training_charts(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Loss, learning rate and score of runs over their epochs."""
    charts, task = [], TASKS[sources[0].task]
    score = task.score
    shown = ("loss", "training loss"), ("learning_rate", "learning rate"), (score, score)
    for key, label in shown:
        lines = []
        for source in sources:
            points = [(r["epoch"], r[key]) for r in source.records if {"epoch", key} <= r.keys()]
            factor = task.factor if key == score else 1
            x, y = [one for one, _ in points], [factor * one for _, one in points]
            lines.append(Series(source.name, x, y, dots=key == score or len(points) < 40))
        if any(line.x for line in lines):
            charts.append({"title": label, "chart": line_chart(lines, "epoch", label)})
    return charts


def overview(analysis: Analysis, source: Source) -> dict[str, Any]:
    """The headline row."""
    people = analysis.people
    return {
        "name": analysis.name,
        "preset": source.facts.get("preset") or "unknown",
        "boxes": source.facts.get("boxes") or "unknown",
        "pictures": f"{len(people.image_ids):,}",
        "people": f"{int(analysis.taxonomy.matches.counted.sum()):,}",
        "poses": f"{len(analysis.rows):,}",
        "numbers": [percent(analysis.metrics[name]) for name in COLUMNS],
    }


def taxonomy_view(analysis: Analysis) -> dict[str, Any]:
    """The parts of 1 - AP, with a bar of their sizes."""
    taxonomy, parts = analysis.taxonomy, []
    for name in PARTS:
        gain, alone = taxonomy.stacked[name], taxonomy.alone.get(name)
        unit, meaning = MEANINGS[name]
        parts.append(
            {
                "name": name,
                "key": {"background FP": "bgfp", "background FN": "bgfn"}.get(name, name),
                "count": f"{taxonomy.counts[name]:,} {unit}" if name in taxonomy.counts else "",
                "meaning": meaning,
                "alone": "" if alone is None else signed(float(alone.mean())),
                "gain": signed(float(gain.mean())),
                "levels": [signed(float(gain[index])) for index in SHOWN_THRESHOLDS],
                "width": round(100 * max(float(np.nan_to_num(gain.mean())), 0), 2),
            }
        )
    precision = taxonomy.precision
    return {
        "name": analysis.name,
        "ap": percent(float(precision.mean())),
        "width": round(100 * float(np.nan_to_num(precision.mean())), 2),
        "levels": [percent(float(precision[index])) for index in SHOWN_THRESHOLDS],
        "parts": parts,
    }


def precision_chart(analyses: Sequence[Analysis]) -> Any:
    """Precision over recall at OKS .5, .75 and the mean of all thresholds."""
    lines = []
    for analysis in analyses:
        curves = precision_curves(analysis.taxonomy.matches)
        named = {"OKS .5": curves[0], "OKS .75": curves[5], "mean of .5 to .95": curves.mean(0)}
        prefix = f"{analysis.name}: " if len(analyses) > 1 else ""
        recalls = RECALLS.tolist()
        lines += [Series(f"{prefix}{key}", recalls, one.tolist()) for key, one in named.items()]
    return line_chart(lines, "recall", "precision", x_range=(0, 1), y_range=(0, 1))


def threshold_chart(analyses: Sequence[Analysis]) -> Any:
    """AP over the OKS threshold."""
    levels = OKS_THRESHOLDS.tolist()
    values = [(one.name, one.taxonomy.precision.tolist()) for one in analyses]
    lines = [Series(name, levels, found, dots=True) for name, found in values]
    return line_chart(lines, "OKS threshold", "AP", y_range=(0, 1))


def calibration_view(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """Fraction of right keypoints over their score, beside the diagonal."""
    lines, errors, silent = [], [], []
    for one in analyses:
        if not one.has_keypoint_scores:
            silent.append(one.name)
            continue
        error, points = calibration_curve(one)
        x, y, _ = zip(*points, strict=True) if points else ((), (), ())
        lines.append(Series(one.name, x, y, dots=True))
        errors.append((one.name, f"{error:.3f}"))
    lines.append(Series("what a probability would give", (0, 1), (0, 1), dashed=True))
    limits = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0)}
    chart = line_chart(lines, "keypoint score", "fraction right", **limits) if errors else ""
    return {"chart": chart, "errors": errors, "silent": silent}


def group_view(analyses: Sequence[Analysis]) -> dict[str, list[dict[str, Any]]]:
    """AP, AP .5 and AR of each group, one cell a result."""
    numbers = [group_numbers(one.people, one.rows) for one in analyses]

    def cell(values: Mapping[str, float]) -> dict[str, Any]:
        more = " / ".join(percent(values[name]) for name in ("AP50", "AR"))
        return {
            "AP": percent(values["AP"]),
            "more": more,
            "width": round(100 * max(values["AP"], 0)),
        }

    return {
        by: [
            {
                "group": group,
                "people": f"{first['people']:,}",
                "cells": [cell(own[by][group]) for own in numbers],
            }
            for group, first in groups.items()
        ]
        for by, groups in numbers[0].items()
    }


def keypoint_view(analysis: Analysis) -> dict[str, Any]:
    """The table of keypoints, percent; the worst value of a column stands out."""
    table = keypoint_table(analysis)
    shown = []
    for row in table:
        cells = [
            {
                "text": percent(float(row[kind])),
                "worst": kind != "good"
                and bool(row[kind] > 0)
                and row[kind] == np.nanmax([other[kind] for other in table]),
            }
            for kind in KINDS[1:]
        ]
        similarity = float(row["similarity"])
        text = "-" if math.isnan(similarity) else f"{similarity:.3f}"
        shown.append(row | {"cells": cells, "similarity": text})
    return {"name": analysis.name, "rows": shown}


def comparison_view(analyses: Sequence[Analysis]) -> dict[str, Any] | None:
    """Paired differences of two results; None for one."""
    if len(analyses) != 2 or not all(one.rows for one in analyses):
        return None
    found, rows = compare(*analyses), []
    for name, head in COLUMNS.items():
        if name in found["metrics"]:
            change, low, high, chance = found["metrics"][name]
            rows.append(
                {
                    "name": head,
                    "values": [percent(one.metrics[name]) for one in analyses],
                    "change": signed(change),
                    "interval": f"{signed(low)} to {signed(high)}",
                    "chance": "below .002" if chance < 0.002 else f"{chance:.3f}",
                }
            )
    chance = f"{found['chance']:.3f}" if found["chance"] >= 0.001 else "below .001"
    return {**found, "rows": rows, "chance": chance}


def track_view(tracks: Sequence[Track], frames: int, truth: Mapping[str, Any] | None) -> Any:
    """Identities over time, longest first, and beside annotated ones where there are any."""
    by_length = sorted(tracks, key=lambda one: -len(one.frames))[:MOST_TRACKS]
    spans = {f"#{one.name}": one.spans for one in sorted(by_length, key=lambda one: one.frames[0])}
    rows = [
        {
            "name": f"#{one.name}",
            "first": int(one.frames[0]),
            "last": int(one.frames[-1]),
            "frames": len(one.frames),
            "interruptions": len(one.spans) - 1,
            "lost": one.lost,
            "filled": one.filled,
            "score": f"{one.score:.2f}",
        }
        for one in by_length
    ]
    view: dict[str, Any] = {
        "title": "",
        "frames": f"{frames:,}",
        "identities": f"{len(tracks):,}",
        "shown": len(by_length),
        "interruptions": sum(len(one.spans) - 1 for one in tracks),
        "short": sum(len(one.frames) < 5 for one in tracks),
        "chart": span_chart(spans, "frame", frames),
        "rows": rows,
        "truth": None,
    }
    if truth is not None:
        numbers = {
            name: percent(value) if isinstance(value, float) else f"{value:,}"
            for name, value in truth["numbers"].items()
        }
        people = {f"person {name}": own for name, own in truth["spans"].items()}
        chart = span_chart(dict(list(people.items())[:MOST_TRACKS]), "frame", frames)
        view["truth"] = {**truth, "numbers": numbers, "chart": chart}
    return view
