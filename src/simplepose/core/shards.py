"""What `simplepose predict --engine ray` writes: `poses.run.json` and, beside it, Parquet shards of
poses, a row a picture or frame of a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from simplepose.core.errors import UserError, need
from simplepose.core.files import decode_json, encode_json, read_bytes, reading

if TYPE_CHECKING:
    import pyarrow

    from simplepose.core.lines import Line

RUN = "poses.run.json"
"""Name of the file that says which run a folder is of."""


class Run(msgspec.Struct):
    """What must be equal for a run to go on in a folder."""

    header: dict[str, Any]
    """As the first line of a poses.jsonl."""
    simplepose: str
    """Version."""
    pictures: int
    """Pictures and videos on the list."""
    shards: int
    """Shards of the whole run."""
    listing: str
    """Digest of the addresses, in their order."""
    files: dict[str, str]
    """Digests of the weights and of the files of boxes."""
    numbered: bool
    """Whether the image ids are the numbers in the pictures' names, not their positions."""
    options: dict[str, Any]
    """Options that change a number."""


def shard_name(shard: int) -> str:
    """Name of a shard by its number."""
    return f"poses-{shard:06d}.parquet"


@cache
def row_schema() -> pyarrow.Schema:
    """The columns of a shard; docs/scale.md describes them.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise need("pyarrow", "ray", "Parquet shards of poses") from error
    person = {
        "track_id": pa.int64(),
        "score": pa.float64(),
        "bbox": pa.list_(pa.float64()),
        "keypoints": pa.list_(pa.list_(pa.float64())),
        "filled": pa.bool_(),
    }
    columns = {
        "frame": pa.int64(),
        "seconds": pa.float64(),
        "source": pa.string(),
        "image_id": pa.int64(),
        "image_name": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "people": pa.list_(pa.struct(list(person.items()))),
        "error": pa.string(),
    }
    return pa.schema(list(columns.items()))


def table_of(rows: Iterable[tuple[Line, str]]) -> pyarrow.Table:
    """Lines, and what was wrong with each picture that did not decode ("" otherwise), as rows."""
    import pyarrow as pa

    def row(line: Line, error: str) -> dict[str, Any]:
        values: dict[str, Any] = msgspec.to_builtins(line)
        number = isinstance(line.image_id, int)
        values["image_id"] = line.image_id if number else None
        values["image_name"] = None if number else line.image_id
        for person in values["people"]:
            person.setdefault("filled", False)
        return values | {"error": error or None}

    return pa.Table.from_pylist([row(*one) for one in rows], row_schema())


def read_run(path: str | Path) -> Run:
    """Which run a folder is of, by its `RUN` file.

    Raises:
        UserError: it is missing, or another file.
    """
    return decode_run(read_bytes(path), str(path))


def decode_run(content: bytes, name: str) -> Run:
    """The content of a `RUN` file; `name` is for messages.

    Raises:
        UserError: it is another file.
    """
    try:
        run: Run = decode_json(content, name, Run)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{name} is not of simplepose predict --engine ray ({error}). "
            "Cure: a folder that it wrote"
        ) from error
    return run


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The pictures and frames of all shards beside a `RUN` file as the fields of `core.lines.Line`,
    in the order of the list; those that did not decode are left out. One shard is in memory at a
    time.

    Raises:
        UserError: a shard is missing or damaged.
    """
    row_schema()
    import pyarrow.parquet as pq

    for number in range(read_run(path).shards):
        shard = path.with_name(shard_name(number))
        if not shard.exists():
            raise UserError(
                f"{path.parent} lacks {shard.name}: its run is not finished. "
                "Cure: the same simplepose predict again, which goes on"
            )
        cure = "the same simplepose predict again, which makes it anew"
        with reading(shard, "a shard of poses", cure):
            rows = pq.read_table(shard, schema=row_schema()).to_pylist()
        for row in rows:
            name, error = row.pop("image_name"), row.pop("error")
            if error is None:
                yield row if name is None else row | {"image_id": name}


def encode_run(run: Run) -> bytes:
    """The content of its `RUN` file."""
    return encode_json(run, indent=True)
