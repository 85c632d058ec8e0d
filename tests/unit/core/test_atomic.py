"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simplepose.core.errors import UserError
from simplepose.core.files import atomic_path, read_json, write_json


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(ValueError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError
    assert read_json(path) == [1] and [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_file_is_on_the_disk_before_it_has_its_name(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("sync"), sync(descriptor)))
    monkeypatch.setattr(
        os, "replace", lambda source, target: (events.append("rename"), rename(source, target))
    )
    write_json(tmp_path / "deep" / "a.json", {"x": 1}, durable=durable)
    assert events == (["sync", "rename"] if durable else ["rename"]) and read_json(
        tmp_path / "deep" / "a.json"
    ) == {"x": 1}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a\.json.*Cure:"):
        write_json(tmp_path / "file" / "a.json", 1)
