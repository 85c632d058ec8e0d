"""`simplepose report RUN|RESULTS`: one page that says where a network errs, how a run goes, or who
was followed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.commands.options import ReportOptions
from simplepose.core.draw import draw_heatmaps
from simplepose.core.errors import UserError
from simplepose.core.lines import read_lines
from simplepose.core.progress import note
from simplepose.data.annotations import Annotations
from simplepose.data.source import has_split, read_annotated, read_split
from simplepose.evaluation.coco import COLUMNS, read_results
from simplepose.evaluation.tasks import TASKS, require_files
from simplepose.pose.checkpoints import find_weights, require_schema
from simplepose.pose.estimator import PoseEstimator
from simplepose.report import page
from simplepose.report.analysis import analyse
from simplepose.report.benchmarks import own_numbers
from simplepose.report.gallery import Gallery, Heatmap
from simplepose.report.html import check_page, write_page
from simplepose.report.sources import RECORDS, Source, open_sources
from simplepose.report.taxonomy import KINDS
from simplepose.report.tracks import against_truth, sightings_of, tracks_of
from simplepose.training.folder import STATE

REFRESH = 15
"""Seconds after which the page of a running training loads itself again."""
SLEEP = 2
"""Seconds between two looks at a run's files."""


def run(options: ReportOptions) -> None:
    """Writes the page; with `--watch` again whenever the run has written something.

    Raises:
        UserError: what is given makes no report, or the page would replace something else.
    """
    if not 1 <= len(options.results) <= 2:
        raise UserError(
            f"report takes one run or result, or two to compare, got {len(options.results)}. "
            "Cure: one or two of them"
        )
    sources = open_sources(options.results, options.task)
    output = Path(options.output) if options.output else sources[0].folder / "report.html"
    check_page(output, "report", "--output")
    if options.watch and sources[0].config is None:
        raise UserError(
            f"--watch is for a run that trains, {sources[0].path} is a result. "
            "Cure: name the run's folder"
        )
    while True:
        state, running = _state(sources[0]), options.watch and sources[0].running
        content = _content(options, sources, REFRESH if running else 0)
        write_page(output, "report", content)
        note(*content["notes"])
        print(f"wrote {output}", flush=True)
        if not running:
            return
        while sources[0].running and _state(sources[0]) == state:
            time.sleep(SLEEP)
        sources = open_sources(options.results, options.task)


def _state(source: Source) -> list[int]:
    """What changes whenever a run has written something."""
    paths = source.folder / RECORDS, source.folder / TASKS[source.task].results
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]


def _content(options: ReportOptions, sources: list[Source], refresh: int) -> dict[str, Any]:
    """All that the template shows."""
    content: dict[str, Any] = {
        "names": [one.name for one in sources],
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "refresh": refresh,
        "notes": [
            f"{one.path} has not been evaluated yet: there are only its curves"
            for one in sources
            if one.config is not None and one.results is None
        ],
        "training": page.training_charts(sources),
        "comparison": None,
        **{name: [] for name in ("tables", "charts", "overview", "taxonomies", "keypoints")},
        **{name: [] for name in ("identities", "cards")},
    }
    found = [one for one in sources if one.results is not None]
    if not sources[0].has_oks:
        results = [(one.name, str(one.results)) for one in found]
        truth = _truth(options, sources[0])
        return content | (own_numbers(sources[0].task, results, truth) if found else {})
    people = _people(options, sources)
    content["identities"] = _identities(sources[0], people)
    if people is not None and found:
        content |= _errors(options, found, people, content["notes"])
    return content


def _errors(
    options: ReportOptions, sources: list[Source], people: Annotations, notes: list[str]
) -> dict[str, Any]:
    """Where results err; adds to the notes where pictures cannot be read."""
    analyses = [
        analyse(one.name, people, read_results(one.results, people))
        for one in sources
        if one.results is not None
    ]
    gallery = Gallery(analyses, _heatmap(options, sources[0], people))
    cards = gallery.cards(options.people)
    if gallery.unread:
        notes.append(
            f"{gallery.unread} of {len(cards)} people are shown without their "
            "picture, which cannot be read. Cure: --images with the folder of the pictures"
        )
    return {
        "columns": COLUMNS.values(),
        "kinds": KINDS[1:],
        "filters": (*KINDS[2:], "not found", "background FP"),
        "overview": [page.overview(*pair) for pair in zip(analyses, sources, strict=True)],
        "taxonomies": [page.taxonomy_view(one) for one in analyses],
        "comparison": page.comparison_view(analyses),
        "keypoints": [page.keypoint_view(one) for one in analyses],
        "precision": page.precision_chart(analyses),
        "threshold": page.threshold_chart(analyses),
        "calibration": page.calibration_view(analyses),
        "groups": page.group_view(analyses),
        "cards": cards,
    }


def _truth(options: ReportOptions, source: Source) -> str:
    """File or folder of MPII's or PoseTrack's ground truth."""
    truth = options.annotations or (source.config.data.val_annotations if source.config else "")
    if source.results is not None:
        require_files(source.task, source.results, truth)
    return truth


def _people(options: ReportOptions, sources: list[Source]) -> Annotations | None:
    """The ground truth; None where there is nothing to compare with it."""
    config, task = sources[0].config, sources[0].task
    if config is not None and not options.annotations:
        if sources[0].results is None or not has_split(config.data, "val"):
            return None
        return read_split(config.data, "val")
    if options.annotations and any(one.results is not None for one in sources):
        images = options.images or str(Path(options.annotations).parent)
        category = options.category or None
        return read_annotated(task, options.annotations, images, category=category)
    if not options.annotations and any(not one.is_lines and not one.config for one in sources):
        raise UserError(
            f"{sources[0].path} needs its ground truth. Cure: --annotations FILE --images FOLDER"
        )
    return None


def _identities(source: Source, people: Annotations | None) -> list[Any]:
    """Those of a poses.jsonl that has any."""
    if not source.is_lines or source.results is None:
        return []
    lines = list(read_lines(source.results))
    if not (tracks := tracks_of(sightings_of(lines))):
        if people is None:
            raise UserError(
                f"{source.path} has neither identities nor a ground truth to compare with. "
                "Cure: --annotations FILE --images FOLDER"
            )
        return []
    truth = None
    if people is not None and people.track_ids is not None:
        truth = against_truth(lines, people)
    return [page.track_view(tracks, len(lines), truth)]


def _heatmap(options: ReportOptions, source: Source, people: Annotations) -> Heatmap | None:
    """What shows a network's heatmaps, if there is a network: a run's own, or --weights."""
    weights = options.weights
    if not weights and source.config is not None and (source.folder / STATE.parent).is_dir():
        weights = source.path
    if not weights or not options.heatmaps:
        return None
    estimator = PoseEstimator.from_pretrained(find_weights(weights), device=options.device)
    require_schema(estimator.spec, people.schema, weights)

    def draw(image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        crops, _ = estimator.cut(image, box[None])
        maps = estimator.heatmaps(crops)
        return (
            draw_heatmaps(crops[0], maps[0], peak=estimator.spec.codec.peak)
            if maps.ndim == 4
            else None
        )

    return draw
