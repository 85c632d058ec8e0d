"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simplepose.core.errors import UserError
from simplepose.core.files import HOST, atomic_path, partial_name, read_json, write_json


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


def test_remains_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = partial_name(tmp_path / "b.json").name
    gone = mine.replace(f"-{os.getpid()}.", f"-{dead.pid}.")
    (tmp_path / gone).write_text("half")
    (tmp_path / gone.replace(".json", "")).mkdir()
    (tmp_path / gone.replace(".json", "") / "c").touch()
    kept = [mine, gone.replace(HOST, "00000000"), "b.partial.json", f".b.{dead.pid}.partial", ".b"]
    for name in kept:
        (tmp_path / name).write_text("")
    write_json(tmp_path / "a.json", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "a.json"])


def test_a_whole_file_that_cannot_get_its_name_keeps_a_visible_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*/a\.json.*a\.partial\.json.*Cure:"):
        write_json(tmp_path / "a.json", [5])
    assert read_json(tmp_path / "a.partial.json") == [5]
    assert len(list(tmp_path.iterdir())) == 2
