"""Results whose measure is not OKS: MPII's PCKh, PoseTrack's AP and its identities over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simplepose.config import Task
from simplepose.evaluation import posetrack
from simplepose.evaluation.mpii import GROUPS, evaluate_mpii, pckh
from simplepose.evaluation.tasks import read_mpii, spell
from simplepose.report.charts import Series, line_chart
from simplepose.report.page import track_view
from simplepose.report.tracks import followed, tracks_of

THRESHOLDS = np.linspace(0.02, 0.5, 25)
"""Of head sizes, in the chart."""
MOST_SEQUENCES = 12
"""Of which identities are shown over time."""
PEOPLE = ("MOTP", "Prec", "Rec", "IDF1", "HOTA", "DetA", "AssA")
"""PoseTrack's numbers without a column a joint."""


def own_numbers(task: Task, results: Sequence[tuple[str, str]], truth: str) -> dict[str, Any]:
    """What the page shows of `mpii` or `posetrack`.

    Args:
        task: which of the two.
        results: name to show, and file (PoseTrack: folder).
        truth: file (PoseTrack: folder) of the annotations.

    Returns:
        `tables`, `charts` and `identities` of the template.

    Raises:
        UserError: a file is missing, of another kind, or does not fit the ground truth.
    """
    return (_mpii if task == "mpii" else _posetrack)(results, truth)


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    def cell(value: Any) -> str:
        return spell(value, ".1f") if isinstance(value, float) else str(value)

    return {"caption": caption, "heads": heads, "rows": [[*map(cell, row)] for row in rows]}


def _mpii(results: Sequence[tuple[str, str]], truth: str) -> dict[str, Any]:
    heads, rows, curves = ["results", *GROUPS, "Mean", "Mean@0.1"], [], {}
    for name, file in results:
        answers, people = read_mpii(truth, file)
        numbers = evaluate_mpii(answers, people)
        rows.append([name, *(numbers[head] for head in heads[1:])])
        levels = [pckh(answers, people, float(level)) for level in THRESHOLDS]
        curves[name] = {head: [one[head] for one in levels] for head in heads[1:-1]}
    limits = {"x_range": (0.0, 0.5), "y_range": (0.0, 100.0)}
    parts = {"upper body": heads[1:5], "lower body and mean": heads[5:9]}
    if len(curves) > 1:
        parts = {head: [head] for head in heads[1:9]}
    charts = []
    for title, names in parts.items():
        lines = [
            Series(source if len(curves) > 1 else head, THRESHOLDS.tolist(), own[head])
            for source, own in curves.items()
            for head in names
        ]
        chart = line_chart(lines, "distance in head sizes", "percent right", **limits)
        charts.append({"title": title, "chart": chart})
    caption = "PCKh@0.5, percent: keypoints at most half a head size from their place"
    return {"tables": [_table(caption, heads, rows)], "charts": charts}


def _posetrack(results: Sequence[tuple[str, str]], truth: str) -> dict[str, Any]:
    joints, people, tracked = list[list[Any]](), list[list[Any]](), {}
    for name, folder in results:
        sequences = posetrack.read_sequences(truth, folder)
        numbers = posetrack.evaluate_posetrack(sequences, exact=True)
        for measure in ("AP", "MOTA"):
            if measure in numbers:
                groups = (numbers[f"{measure} {group}"] for group in posetrack.GROUPS)
                joints.append([name, measure, *groups, numbers[measure]])
        if "MOTA" in numbers:
            people.append([name, *(numbers[one] for one in PEOPLE)])
            tracked[name] = sequences
    heads = ["results", "measure", *posetrack.GROUPS, "all"]
    tables = [_table("percent, as poseval counts", heads, joints)]
    if not people:
        return {"tables": tables}
    tables.append(_table("keypoints over time, and whole people", ["results", *PEOPLE], people))
    name, sequences = next(iter(tracked.items()))
    views = {
        one: _identities(frames)
        for one, frames in sequences.items()
        if any(annotated.annotated for annotated, _ in frames)
    }
    if not views:
        return {"tables": tables}
    order = sorted(views, key=lambda one: (-views[one]["truth"]["broken"], one))
    heads = ["sequence", "frames", "identities", *views[order[0]]["truth"]["numbers"]]
    rows = [
        [one, views[one]["frames"], views[one]["identities"], *numbers.values()]
        for one in order
        for numbers in [views[one]["truth"]["numbers"]]
    ]
    caption = f"{name}: its sequences, most switches and interruptions first"
    tables.append(_table(caption, heads, rows))
    shown = [{**views[one], "title": one} for one in order[:MOST_SEQUENCES]]
    return {"tables": tables, "identities": shown}


def _identities(pairs: Sequence[posetrack.Pair]) -> dict[str, Any]:
    """Of one sequence: who is found in its frames, and how well the annotated are followed."""
    sightings = (
        (frame, int(name), False, float(score))
        for frame, (_, people) in enumerate(pairs)
        for name, score in zip(people.track_ids, _scores(people), strict=True)
    )
    truth = followed(*posetrack.people_of(pairs))
    broken = truth["numbers"]["switches"] + truth["numbers"]["interruptions"]
    return track_view(tracks_of(sightings), len(pairs), {**truth, "broken": broken})


def _scores(people: posetrack.Frame) -> np.ndarray:
    """(N,) mean score of the keypoints that are there."""
    there = people.labelled & np.isfinite(people.scores)
    return np.where(there, people.scores, 0).sum(1) / np.maximum(there.sum(1), 1)
