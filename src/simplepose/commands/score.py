"""`simplepose score RESULTS --task TASK --annotations FILE`: a finished result file's numbers."""

from __future__ import annotations

from pathlib import Path

from simplepose.commands.options import ScoreOptions
from simplepose.core.errors import UserError
from simplepose.core.files import require_new, write_json
from simplepose.core.progress import note
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.doctor.checks import check_annotations
from simplepose.evaluation.tasks import number_table, score_results


def run(options: ScoreOptions) -> None:
    """Scores, prints the numbers and writes them.

    Raises:
        UserError: a file is missing, of another kind or does not fit the ground truth; an output
            that exists.
    """
    output = Path(options.output)
    if options.output and output.suffix.lower() != ".json":
        raise UserError(
            f"--output {output} is no .json file. "
            "Cure: name the file of the numbers, e.g. score.json"
        )
    if options.output:
        require_new(output, overwrite=options.overwrite)
    truth: str | Annotations = options.annotations
    if options.task == "coco" and Path(options.annotations).is_file():
        truth = _read_truth(options)
    numbers = score_results(
        options.task,
        options.results,
        truth,
        evaluator=options.evaluator,
        exact_poseval=options.exact_poseval,
        ap_threshold=options.ap_threshold,
        tracking_threshold=options.tracking_threshold,
    )
    print(number_table(options.task, numbers, options.results))
    if options.output:
        names = ("task", "results", "annotations")
        record = numbers | {name: getattr(options, name) for name in names}
        write_json(output, record, indent=True)
        print(f"written: {output}")


def _read_truth(options: ScoreOptions) -> Annotations:
    """COCO's people; says what was assumed of them, and what the doctor finds broken."""
    people = read_coco(options.annotations, None, category=options.category or None)
    broken = [str(one) for one in check_annotations(people) if one.level == "broken"]
    note(*people.warnings, *(f"{people.source}: {one}" for one in broken))
    return people
