"""`simplepose weights list` and `simplepose weights get NAME`: known public weights, downloaded on
request and verified."""

from __future__ import annotations

from pathlib import Path

from simplepose.commands.options import ImportOptions, WeightsOptions
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress
from simplepose.weights.public import PUBLIC_WEIGHTS, PublicWeights, download, find_public


def table(rows: tuple[PublicWeights, ...] = PUBLIC_WEIGHTS) -> str:
    """The table as aligned text."""
    cells = [("name", "MiB", "sha256", "licence", "reported", "import as", "source")]
    for row in rows:
        source = f"{row.url} (by hand: {row.by_hand})" if row.by_hand else row.url
        facts = (f"{row.size_mb or '-'}", row.sha256[:8] or "-", row.licence, row.score)
        cells.append((row.name, *facts, row.preset or "-", source))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [zip(line, widths, strict=True) for line in cells]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in line).rstrip() for line in lines
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
        return [*said, f"next: simplepose predict PICTURES --weights W --boxes {path}"]
    if not row.preset:
        return [*said, f"next: simplepose train PRESET --model.init {path} --data.root DIR"]
    from simplepose.commands.import_weights import import_weights

    output = folder / f"{row.name}.safetensors"
    follow = f"next: simplepose evaluate {output} --data.root DIR"
    if output.exists():
        return [*said, f"{output} is there already and stays as it is", follow]
    imported = import_weights(ImportOptions(file=path, preset=row.preset, output=output))
    notes = [f"note: {note}" for note in imported.notes]
    return [*said, *notes, f"wrote {imported.path}", follow]


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
    for sentence in get(find_public(options.name), options.output):
        print(sentence)
