"""What the doctor knows, every command that trains or tests asks before it starts."""

from __future__ import annotations

from dataclasses import replace

from simplepose.config import DataConfig
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.pictures import with_picture_sizes
from simplepose.doctor.checks import check_annotations


def require_sound(annotations: Annotations, config: DataConfig) -> Annotations:
    """The same annotations, if the doctor finds nothing broken in them.

    Args:
        annotations: N people in M pictures; without any there is nothing to check.
        config: `accept_findings` goes on.

    Returns:
        `warnings` name the findings that were accepted.

    Raises:
        UserError: something is broken; names the first finding and how many more there are.
    """
    if not len(annotations):
        return annotations
    sized = with_picture_sizes(annotations, skip_broken=True)
    broken = [found for found in check_annotations(sized) if found.level == "broken"]
    notes = [f"accepted: {found}" for found in broken]
    if broken and not config.accept_findings:
        first, examples = broken[0], "; ".join(broken[0].examples)
        more = f"; and {len(broken) - 1} more findings" if len(broken) > 1 else ""
        raise UserError(
            f"{annotations.source}: {first} ({examples}){more}. "
            f"Cure: {first.cure}; simplepose doctor shows all, --data.accept-findings goes on"
        )
    said = [f"{annotations.source}: {note}" for note in notes]
    return replace(annotations, warnings=(*annotations.warnings, *said))
