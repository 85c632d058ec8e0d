"""`simplepose score RESULTS --task TASK --annotations FILE`: a finished result file's numbers."""

from __future__ import annotations

from pathlib import Path

from simplepose.commands.options import ScoreOptions
from simplepose.core.errors import UserError
from simplepose.core.files import write_json
from simplepose.evaluation.result_files import number_table, score_results


def run(options: ScoreOptions) -> None:
    """Scores, prints the numbers and writes them.

    Raises:
        UserError: a file is missing, of another kind or does not fit the ground truth; an output
            that exists.
    """
    if options.output and Path(options.output).suffix.lower() != ".json":
        raise UserError(
            f"--output {options.output} is no .json file. Cure: name the file of the numbers, e.g. score.json"
        )
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
