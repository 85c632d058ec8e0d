"""The notebooks of docs/notebooks run from top to bottom, on smaller data, without Jupyter: commands
of the shell go through the command line's own entry, displays are evaluated."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simplepose import Frame, KeypointSchema, Poses
from simplepose.cli import main
from simplepose.core.lines import read_lines

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALL = {
    "own-keypoints": {"TRAIN": 16, "VAL": 4, "EPOCHS": 2},
    "people-in-a-video": {"FRAMES": 8},
    "reading-a-report": {"PEOPLE": 12},
}

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="docs/notebooks is not here")


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    content = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def execute(name: str) -> tuple[dict[str, Any], list[Any]]:
    """Runs the cells in order; the variables at the end, and what the last lines display."""

    def command(words: str) -> None:
        assert main(shlex.split(words)) == 0, words

    values: dict[str, Any] = {"_command": command}
    shown = []
    for cell in cells(name, "code"):
        text = re.sub(
            r"^!simplepose (.*)$", r'_command(f"""\1""")', "".join(cell["source"]), flags=re.M
        )
        tree = ast.parse(text)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), values)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert SMALL[name].keys() <= values.keys()
            values |= SMALL[name]
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), name, "eval"), values))
    return values, [one for one in shown if one is not None]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_are_run_linked_and_without_outputs() -> None:
    assert {path.stem for path in NOTEBOOKS} == SMALL.keys()
    page = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in page
        assert all(cell["outputs"] == [] for cell in cells(path.stem, "code"))
        text = "".join("".join(cell["source"]) for cell in cells(path.stem, "markdown"))
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_own_keypoints(here: Path) -> None:
    values, shown = execute("own-keypoints")
    schema, poses = (one for one in shown if isinstance(one, (KeypointSchema, Poses)))
    assert schema.flip_pairs == ((2, 3),) and "left_wing" in schema._repr_html_()
    assert poses.keypoints.shape == (1, 4, 2) and "<img" in poses._repr_html_()
    assert (here / "doctor.html").exists() and (here / "kites/results/metrics.json").exists()
    drawn = np.asarray(Image.open("kites/val/0001.png"))
    x, y, _ = np.array(values["truth"]["keypoints"]).reshape(4, 3)[0]
    nearby = drawn[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].astype(int)
    assert (np.ptp(nearby, axis=2) > 100).any()  # the annotated nose is on the coloured kite


def test_people_in_a_video() -> None:
    values, shown = execute("people-in-a-video")
    lines = list(read_lines("tracked/poses.jsonl"))
    assert len(lines) == 8 and values["paths"]
    assert len(values["people"]) == 3 and sum(len(line.people) for line in lines) > 12
    assert Path("tracked/film.mp4").exists()
    poses, picture, frame = shown[-3:]
    assert isinstance(poses, Poses) and isinstance(picture, Image.Image)
    assert isinstance(frame, Frame) and "<img" in frame._repr_html_()


def test_reading_a_report() -> None:
    values, _ = execute("reading-a-report")
    assert "<html" in Path("report.html").read_text("utf-8")
    rates = {row["name"]: row["inversion"] for row in values["table"]}
    planted = values["planted"]["inversion"] / len(values["truth"])
    assert rates["nose"] == 0 and 0 < rates["left_knee"] < 2 * planted
    total = values["analysis"].metrics["AP"] + sum(
        gain.mean() for gain in values["taxonomy"].stacked.values()
    )
    assert total == pytest.approx(1, abs=1e-6)
