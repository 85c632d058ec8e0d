"""What is installed, used in an empty folder. `make test-package` runs this file with the wheel."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import simplepose
from simplepose.core.images import write_image
from simplepose.core.lines import read_lines
from simplepose.video.streams import VideoWriter

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


def blocks(page: str, heading: str) -> list[str]:
    """The blocks of commands below a heading."""
    text = (Path(__file__).resolve().parents[2] / page).read_text()
    return re.findall(r"^```\w*\n(.*?)^```", text.split(heading)[1].split("\n## ")[0], re.M | re.S)


def test_the_first_pose_of_the_readme_word_for_word(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 72, 3), np.uint8)
    write_image(tmp_path / "photo.jpg", picture)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for _ in range(3):
            writer.write(picture)
    shell, python = blocks("README.md", "## The first pose")
    lines = [shlex.split(line, comments=True) for line in shell.splitlines()]
    words = [line for line in lines if line[0] == "simplepose"]
    for line in (*words, [sys.executable, "-c", python]):
        subprocess.run(line, cwd=tmp_path, check=True)
    assert len(words) == 2
    made = ("predictions/photo.jpg", "tracked/clip/clip.mp4", "poses.jpg")
    assert all((tmp_path / name).stat().st_size for name in made)
