"""What is installed, used in an empty folder. `make test-package` runs this file with the wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import simplepose
from simplepose.core.lines import read_lines

pytestmark = pytest.mark.skipif(
    "site-packages" not in simplepose.__file__, reason="make test-package runs it with the wheel"
)


def command(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "simplepose", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_metadata() -> None:
    about = metadata.metadata("simplepose")
    assert about["Version"] == simplepose.__version__
    assert about["License-Expression"] == "Apache-2.0" and about["Author"]
    scripts = metadata.entry_points(group="console_scripts", name="simplepose")
    assert [one.value for one in scripts] == ["simplepose.cli:main"]
    text = about.get_payload() or about["Description"] or ""
    links = re.findall(r"\]\(([^)]+)\)", str(text))
    assert all(link.startswith("https://") for link in links), "links that a package page breaks"


def test_the_demo_and_what_follows_it(tmp_path: Path) -> None:
    """`simplepose demo`, small; then its network on its pictures, and the results elsewhere."""
    small = ["--people", "40", "--val-people", "10", "--epochs", "1", "--pictures", "2"]
    out = command(tmp_path, "demo", "--output", "demo", *small)
    assert "AP" in out
    pictures = sorted((tmp_path / "demo").rglob("*.jpg"))
    shutil.copy(pictures[0], tmp_path / "photo.jpg")
    command(tmp_path, "predict", "photo.jpg", "--weights", "demo/run", "--boxes", "whole")
    lines = [*read_lines(tmp_path / "predictions" / "poses.jsonl")]
    assert len(lines) == 1 and len(lines[0].people) == 1
    command(
        tmp_path, "convert", "results", "predictions", "--to", "deeplabcut", "--output", "a.csv"
    )
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3 + 1
