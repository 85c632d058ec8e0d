"""`simplepose weights list` and `simplepose weights get NAME`: known public weights, downloaded on request and verified."""

from __future__ import annotations

from pathlib import Path

from simplepose.commands.options import WeightsOptions
from simplepose.core.errors import UserError
from simplepose.core.progress import Progress
from simplepose.weights.public import PUBLIC_WEIGHTS, PublicWeights, download, find_public


def table(rows: tuple[PublicWeights, ...] = PUBLIC_WEIGHTS) -> str:
    """The table as aligned text."""
    cells = [("name", "MiB", "sha256", "licence", "reported", "import as", "source")]
    for row in rows:
        size = f"{row.size_mb:.1f}" if row.size_mb else "-"
        source = f"{row.url} (by hand: {row.by_hand})" if row.by_hand else row.url
        cells.append(
            (
                row.name,
                size,
                row.sha256[:8] or "-",
                row.licence,
                row.score,
                row.preset or "-",
                source,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]) - 1)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True)
        ).rstrip()
        for line in cells
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
            row,
            folder,
            lambda have, total: progress(have >> 20, None if total is None else total >> 20),
        )
    said = [f"{path}: complete, sha256 begins {row.sha256[:8]} as published; licence {row.licence}"]
    if not row.preset:
        detector = f"next: simplepose predict PICTURES --weights W --boxes {path}"
        said.append(
            detector
            if path.suffix == ".onnx"
            else f"next: simplepose train PRESET --model.init {path} --data.root DIR"
        )
        return said
    from simplepose.commands.import_weights import import_weights
    from simplepose.commands.options import ImportOptions

    imported = import_weights(
        ImportOptions(file=path, preset=row.preset, output=folder / f"{row.name}.safetensors")
    )
    said += [f"note: {note}" for note in imported.notes]
    return [
        *said,
        f"wrote {imported.path}",
        f"next: simplepose evaluate {imported.path} --data.root DIR",
    ]


def run(options: WeightsOptions) -> None:
    """The command line."""
    if options.action == "list":
        print(table())
        return
    if not options.name:
        raise UserError(
            "no weights are named. Cure: simplepose weights get NAME; simplepose weights list shows the names"
        )
    for sentence in get(find_public(options.name), options.output):
        print(sentence)
