"""Lists and addresses, without Ray itself."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: make test-ray")
pytest.importorskip("ray.data", reason="Ray is not installed: make test-ray")

from fake_store import fake_store  # noqa: E402
from pyarrow import parquet as pq  # noqa: E402
from tiny_onnx import save_network  # noqa: E402

from simplepose.config import RayConfig  # noqa: E402
from simplepose.core import storage  # noqa: E402
from simplepose.core.errors import UserError  # noqa: E402
from simplepose.core.images import write_image  # noqa: E402
from simplepose.core.shards import RUN, shard_name  # noqa: E402
from simplepose.core.storage import open_store  # noqa: E402
from simplepose.ray.job import ShardPredictor, predict_shards, write_listing  # noqa: E402
from simplepose.ray.predictor import PosePredictor  # noqa: E402
from simplepose.ray.storage import OutputFolder, addresses  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(storage, "PAUSE", 0.01)
    save_network(tmp_path / "net.onnx")
    for name in ("1.jpg", "2.jpg", "10.jpg"):
        write_image(tmp_path / "pictures" / name, np.full((60, 50, 3), 90, np.uint8))
    return tmp_path


def arguments(folder: Path, **more: object) -> dict[str, object]:
    return {"weights": str(folder / "net.onnx"), "boxes": "whole", **more}


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_store_that_answers_500_now_and_then(folder: Path, kind: str) -> None:
    pictures = sorted((folder / "pictures").iterdir())
    objects = {f"photos/{path.name}": path.read_bytes() for path in pictures}
    predictor = PosePredictor(**arguments(folder), device="cpu")
    with fake_store(objects, every=3) as (root, answers):
        root = "s3://box" if kind == "s3" else root
        names = [f"{root}/photos/{name}" for name in ("1.jpg", "2.jpg", "10.jpg")]
        listed = list(addresses((f"{root}/photos",) if kind == "s3" else tuple(names)))
        found = predictor({"path": np.array(listed)}).to_pylist()
    assert answers.count(500) >= 1
    assert [row["source"] for row in found] == names and all(row["people"] for row in found)
    local = predictor({"path": np.array([str(path) for path in pictures])}).to_pylist()
    assert [row["people"] for row in found] == [row["people"] for row in local]


def test_a_store_that_only_answers_500_is_no_broken_picture(folder: Path) -> None:
    predictor = PosePredictor(**arguments(folder, skip_broken=True), device="cpu")
    with (
        fake_store({"a.jpg": b""}, every=1),
        pytest.raises(UserError, match=r"s3://box/a\.jpg: .*the same command again"),
    ):
        predictor({"path": np.array(["s3://box/a.jpg"])})


@pytest.mark.parametrize(
    ("address", "words"),
    [("s3://me:secret@box/a", "holds a password"), ("gopher://box/a", "gopher://box/a")],
)
def test_addresses_that_are_refused(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        open_store(address)
    assert "secret" not in str(error.value)


def test_a_long_list_needs_little_memory(tmp_path: Path) -> None:
    """Of 300,000 addresses, 30 MB as text, some 8 bytes each stay."""
    count, source = 300_000, tmp_path / "list.parquet"
    with pq.ParquetWriter(source, pa.schema({"path": pa.string()})) as writer:
        for first in range(0, count, 10_000):
            names = [f"/{'x' * 80}/{number:012d}.jpg" for number in range(first, first + 10_000)]
            writer.write_table(pa.table({"path": names}))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        told = write_listing(tmp_path / "listing.parquet", (str(source),), 256)
        peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()
    assert told[:2] == (count, -(-count // 256)) and told[3]
    assert peak < 12_000_000
    rows = pq.ParquetFile(tmp_path / "listing.parquet").read_row_group(1000)
    assert rows["frame"][0].as_py() == 256_000 and len(rows) == 256


def test_a_list_that_has_no_column_path(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"list\.parquet has the columns file"):
        list(addresses((str(tmp_path / "list.parquet"),)))
    (tmp_path / "list.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match=r"list\.parquet cannot be read as Parquet"):
        list(addresses((str(tmp_path / "list.parquet"),)))


def test_a_broken_picture_becomes_a_row(folder: Path) -> None:
    (folder / "pictures" / "2.jpg").write_bytes(b"\xff\xd8\xff no")
    given = arguments(folder, skip_broken=True, numbered=True)
    paths = np.array(list(addresses((str(folder / "pictures"),))))
    found = PosePredictor(**given, device="cpu")({"path": paths}).to_pylist()
    assert [(row["image_id"], bool(row["error"])) for row in found] == [
        *((1, False), (10, False), (2, True)),
    ]


def shard_worker(folder: Path, version: str) -> ShardPredictor:
    output = OutputFolder(str(folder / "out"))
    (folder / "out").mkdir()
    write_listing(folder / "out" / "listing.parquet", (str(folder / "pictures"),), 2)
    return ShardPredictor(output, version, arguments(folder), False, None)


def test_mixed_versions_and_memory_become_sentences(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simplepose import __version__

    batch = {"shard": np.array([1])}
    worker = shard_worker(folder, "0.0.1")
    assert "0.0.1" in worker(batch)["error"][0] and not (folder / "out" / shard_name(1)).exists()
    worker.version = __version__
    assert worker(batch) == {"frames": [1], "people": [1], "broken": [0], "error": [""]}

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PosePredictor, "lines", full)
    assert "out of memory at shard 1" in worker(batch)["error"][0]


def test_an_output_folder_of_something_else(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("")
    given = ((str(folder / "pictures"),), str(folder / "out"), arguments(folder), RayConfig())
    with pytest.raises(UserError, match="is not empty"):
        predict_shards(*given)
    (folder / "out" / RUN).write_text("{}")
    with pytest.raises(UserError, match=RUN):
        predict_shards(*given)
