"""Parquet shards of poses: what is written is read back, and what is missing or damaged is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.lines import Line, header_of, line_of, read_header, read_lines
from simplepose.core.schema import COCO_17
from simplepose.core.shards import RUN, Run, encode_run, shard_name, table_of
from simplepose.core.structures import Frame, Poses

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def lines() -> list[Line]:
    frame = Frame(np.zeros((4, 6, 3), np.uint8), "a.jpg", 3, 0.12)
    keypoints = np.arange(68).reshape(2, 17, 2) / 7
    boxes = np.array([[0, 0, 3, 4], [1, 1, 5, 2.5]])
    spread, seen = np.full((2, 17, 2, 2), 1.5), np.full((2, 17, 3), 0.25)
    scores = np.full((2, 17), 0.25), boxes, np.array([0.5, 1])
    people = Poses(keypoints, *scores, np.array([1, 7]), spread, seen)
    return [line_of(frame, people, "a.jpg"), line_of(frame, Poses.empty(17), 12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = Run(
        header=msgspec.to_builtins(header_of(COCO_17, weights="w", preset="p", boxes="whole")),
        simplepose="0",
        pictures=4,
        shards=2,
        listing="",
        files={},
        numbered=False,
        options={},
    )
    (tmp_path / RUN).write_bytes(encode_run(run))
    broken = msgspec.structs.replace(lines()[1], people=[])
    rows = [(one, "") for one in lines()]
    pq.write_table(table_of([rows[0], (broken, "cut short")]), tmp_path / shard_name(0))
    pq.write_table(table_of(rows[1:]), tmp_path / shard_name(1))
    return tmp_path


def test_lines_come_back_in_their_order_without_broken_pictures(folder: Path) -> None:
    found = [line.encoded() for line in read_lines(folder / RUN)]
    assert found == [line.encoded() for line in lines()]
    assert read_header(folder / RUN) == header_of(COCO_17, weights="w", preset="p", boxes="whole")


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"damaged" * 20])
def test_a_missing_or_damaged_shard_is_named(folder: Path, content: bytes | None) -> None:
    shard = folder / shard_name(1)
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    with pytest.raises(UserError, match=r"poses-000001\.parquet.*Cure"):
        list(read_lines(folder / RUN))


def test_another_json_is_refused(folder: Path) -> None:
    (folder / RUN).write_text("[]")
    with pytest.raises(UserError, match=RUN):
        read_header(folder / RUN)
