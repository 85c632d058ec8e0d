"""`simplepose score RESULTS --task TASK --annotations FILE`: a finished result file's numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.data.readers import Task
from simplepose.evaluation.result_files import number_table, score_results


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Scores a result file."""

    results: Annotated[str, tyro.conf.Positional]
    """Result .json of COCO, CrowdPose or OCHuman, MPII .mat or .h5, PoseTrack folder."""
    annotations: str = ""
    """The ground truth, in the data set's own form (PoseTrack: the folder; MPII: also gt_valid.mat)
    or as simplepose convert wrote it."""
    task: Task = "coco"
    """Whose measure."""
    category: str = ""
    """COCO: id or name of the one to score, where several have different keypoints."""
    exact_poseval: bool = True
    """PoseTrack: as the original tool, whose quirks drop the last frame of each sequence; off:
    every annotated frame as it is."""
    ap_threshold: float = -math.inf
    """PoseTrack: keypoints with a lower score do not count in AP."""
    tracking_threshold: float = -math.inf
    """PoseTrack: keypoints with a lower score do not count in the tracking numbers."""
    evaluator: Literal["hotcoco", "pycocotools"] = "hotcoco"
    """Which implementation scores OKS-AP; their numbers are equal."""
    output: str = ""
    """File for the numbers, a .json."""
    overwrite: bool = False
    """Replace that file."""


def main(argv: list[str]) -> None:
    """Scores, prints the numbers and writes them.

    Raises:
        UserError: a file is missing, of another kind or does not fit the ground truth; an output
            that exists.
    """
    options = tyro.cli(
        ScoreOptions,
        args=argv,
        prog="simplepose score",
        description="Scores a finished result file against its annotations.",
    )
    for name in ("ap_threshold", "tracking_threshold"):
        if math.isnan(getattr(options, name)):
            raise UserError(f"--{name.replace('_', '-')} is nan. Cure: a number; -inf counts every keypoint")
    if options.output and Path(options.output).suffix.lower() != ".json":
        raise UserError(f"--output {options.output} is no .json file. Cure: name the file of the numbers, e.g. score.json")
    if options.output and Path(options.output).exists() and not options.overwrite:
        raise UserError(f"{options.output} exists. Cure: --overwrite, or another --output")
    numbers = score_results(
        options.task,
        options.results,
        options.annotations,
        evaluator=options.evaluator,
        exact_poseval=options.exact_poseval,
        ap_threshold=options.ap_threshold,
        tracking_threshold=options.tracking_threshold,
        category=options.category or None,
    )
    print(number_table(options.task, numbers, options.results))
    if options.output:
        record = {
            **numbers,
            "task": options.task,
            "results": options.results,
            "annotations": options.annotations,
        }
        write_json(Path(options.output), record, indent=True)
        print(f"written: {options.output}")
