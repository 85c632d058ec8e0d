"""`simplepose weights list` and `simplepose weights get NAME`: known public weights, downloaded on
request and verified."""

from __future__ import annotations

import textwrap
from pathlib import Path

from simplepose.commands.options import ImportOptions, WeightsOptions
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress
from simplepose.pose.checkpoints import STARTERS
from simplepose.weights.download import download
from simplepose.weights.public import (
    KINDS,
    PUBLIC_WEIGHTS,
    PublicWeights,
    cache_folder,
    find_public,
)

PEOPLE = "people"
"""What `weights get` calls the networks that are then the default."""


def table() -> str:
    """The table as text, a line or two a row, at most 100 columns."""
    width = max(len(row.name) for row in PUBLIC_WEIGHTS)
    lines = []
    for kind in KINDS:
        lines += ["", f"{kind[0].upper()}{kind[1:]}s"]
        for row in (one for one in PUBLIC_WEIGHTS if one.kind == kind):
            size = f"{row.size_mb:g} MiB" if row.size_mb else "-"
            facts = [row.licence, row.score]
            facts += [f"part of {PEOPLE}"] * row.people + ["by hand"] * bool(row.by_hand)
            if path := row.found():
                facts.append(f"here: {path}")
            first, *more = textwrap.wrap("; ".join(filter(None, facts)), 99 - width - 14)
            lines.append(f"  {row.name:<{width}}  {size:>9}  {first}")
            lines += [" " * (width + 15) + line for line in more]
    starters = [
        f"  {path.stem:<{width}}  {path.stat().st_size / 2**20:>5.1f} MiB  Apache-2.0"
        for path in sorted(STARTERS.glob("*.safetensors"))
    ]
    return "\n".join(
        [
            "Come with simplepose",
            *starters,
            *lines,
            "",
            f"simplepose weights get NAME downloads one ({PEOPLE}: a detector and a pose network,",
            "from then on the default), and names its address, licence and sha256. --weights and",
            "--boxes take the names.",
        ]
    )


def get(row: PublicWeights, folder: Path) -> list[str]:
    """Downloads one row with progress on stderr, imports pose networks.

    Returns:
        Sentences that say what was written and what comes next.

    Raises:
        UserError: see `download` and `import_weights`.
    """
    with Progress(f"downloading {row.name}", "MiB") as progress:
        path = download(
            row, folder, lambda have, total: progress(have >> 20, total and total >> 20)
        )
    said = [f"{path}: complete, sha256 begins {row.sha256[:8]} as published; licence {row.licence}"]
    if path.suffix == ".onnx":
        return [*said, f"next: simplepose predict PICTURES --boxes {_named(row, path)}"]
    if not row.preset:
        return [*said, f"next: simplepose train PRESET --model.init {path} --data.root DIR"]
    from simplepose.commands.import_weights import import_weights

    output = folder / f"{row.name}.safetensors"
    if output.exists():
        said.append(f"{output} is there already and stays as it is")
    else:
        imported = import_weights(ImportOptions(file=path, preset=row.preset, output=output))
        said += [f"note: {note}" for note in imported.notes] + [f"wrote {imported.path}"]
    return [*said, f"next: simplepose predict PICTURES --weights {_named(row, output)}"]


def _named(row: PublicWeights, path: Path) -> str:
    """What the options call it: its name, where names are looked for, else its path."""
    return row.name if row.found() else str(path)


def run(options: WeightsOptions) -> None:
    """The command line."""
    if options.action == "list":
        print(table())
        return
    if not options.name:
        raise UserError(
            "no weights are named. Cure: simplepose weights get NAME; "
            "simplepose weights list shows the names"
        )
    wanted = [row for row in PUBLIC_WEIGHTS if row.people]
    if options.name != PEOPLE:
        wanted = [find_public(options.name)]
    for row in wanted:
        score = f", {row.score}" if row.score else ""
        print(f"{row.name}: {row.kind}, {row.size}{score}; licence {row.licence}\n  {row.url}")
    for row in wanted:
        for sentence in get(row, Path(options.output) if options.output else cache_folder()):
            print(sentence)
    if options.name == PEOPLE and all(row.found() for row in wanted):
        print("predict and track take them from now on. next: simplepose predict photo.jpg")
