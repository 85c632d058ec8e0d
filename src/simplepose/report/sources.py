"""What a report is of: a run, or results with or without identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simplepose.config import Config, Task, load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import read_json, readable
from simplepose.core.lines import LINES, read_header
from simplepose.evaluation.tasks import TASKS, require_files, results_in
from simplepose.training.folder import read_records

RECORDS = "metrics.jsonl"
"""What a run writes line by line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One run or result file."""

    path: str
    """As it was given."""
    name: str
    """Its last words, to show."""
    folder: Path
    """Where the page goes by default."""
    task: Task
    """Whose measure its results have."""
    results: Path | None = None
    """The result file, of PoseTrack the folder; None where a run has not evaluated yet."""
    config: Config | None = None
    """A run's settings."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """The lines of a run's metrics.jsonl."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is known of it: `preset`, `boxes`, `weights`."""

    @property
    def is_lines(self) -> bool:
        """Whether it is a poses.jsonl."""
        return self.results is not None and self.results.suffix.lower() == ".jsonl"

    @property
    def has_oks(self) -> bool:
        """Whether its measure is OKS, which the analysis of errors is made of."""
        return TASKS[self.task].factor == 100

    @property
    def running(self) -> bool:
        """Whether somebody trains there now, as far as the folder tells."""
        return self.config is not None and (self.folder / ".owner").exists()


def open_sources(paths: Sequence[str], task: Task) -> list[Source]:
    """Finds out what each is; names that would be equal get the folder before them.

    Raises:
        UserError: see `open_source`; also results with two measures.
    """
    sources = [open_source(path, task) for path in paths]
    if len({one.has_oks or one.task for one in sources}) != 1:
        first, second = sources
        raise UserError(
            f"{first.path} is of the task {first.task}, {second.path} of {second.task}, which "
            "count otherwise. Cure: a report of each"
        )
    if len({one.name for one in sources}) == len(sources):
        return sources
    longer = ["/".join(Path(path).resolve().parts[-2:]) for path in paths]
    unique = longer if len({*longer}) == len(longer) else paths
    return [replace(one, name=name) for one, name in zip(sources, unique, strict=True)]


def open_source(name: str, task: Task) -> Source:
    """Finds out what `name` is; a run knows its own task.

    Raises:
        UserError: there is nothing, or nothing that a report could be made of.
    """
    path = Path(name)
    shown = readable(path.resolve().name)
    if not path.exists():
        raise UserError(f"there is no {name}. Cure: check the path")
    if (path / "config.yaml").is_file():
        return _open_run(name, path)
    if TASKS[task].factor != 100:
        inside = Path(results_in(task, path))
        require_files(task, inside, name)
        return Source(path=name, name=shown, folder=path.parent, task=task, results=inside)
    if path.is_dir():
        known = [path / one for one in (LINES, TASKS["coco"].results) if (path / one).is_file()]
        if not known:
            raise UserError(
                f"{name} holds no run (config.yaml) and no results ({LINES}, "
                f"{TASKS['coco'].results}). Cure: a run folder, or what simplepose evaluate, "
                "predict or track wrote"
            )
        path = known[0]
    if (ending := path.suffix.lower()) not in TASKS["coco"].endings:
        cure = (
            "--task mpii"
            if ending in TASKS["mpii"].endings
            else f"for a network first simplepose evaluate {name} --output results, then "
            "simplepose report results"
        )
        raise UserError(f"{name} is no result file (.json or .jsonl). Cure: {cure}")
    facts: dict[str, Any] = {}
    if path.suffix.lower() == ".jsonl":
        header = read_header(path)
        facts = {"preset": header.preset, "boxes": header.boxes, "weights": header.weights}
    elif (record := path.with_name("metrics.json")).is_file():
        content = read_json(record)
        facts = content if isinstance(content, dict) else {}
    return Source(path=name, name=shown, folder=path.parent, task=task, results=path, facts=facts)


def _open_run(name: str, path: Path) -> Source:
    config = load_preset(str(path / "config.yaml"))
    task = config.evaluate.task
    results = path / TASKS[task].results
    records = read_records(path / RECORDS) if (path / RECORDS).is_file() else []
    return Source(
        path=name,
        name=readable(path.resolve().name),
        folder=path,
        task=task,
        results=results if results.exists() else None,
        config=config,
        records=records,
        facts={"preset": config.preset, "boxes": config.data.boxes},
    )
