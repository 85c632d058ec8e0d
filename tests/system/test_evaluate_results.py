"""`simplepose evaluate --task ...` on finished result files, against published numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simplepose.cli import main

Find = Callable[[str], Path]


def numbers(text: str) -> dict[str, float]:
    """The table that the command prints."""
    return {line[:-8].strip(): float(line[-8:]) for line in text.splitlines() if line.startswith("  ")}


def test_coco_published_numbers(real_data: Find, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth = real_data("coco_val2014_fake100/person_keypoints_val2014_100_rebuilt.json")
    results = real_data("evaluator_fixtures/cocoapi/person_keypoints_val2014_fakekeypoints100_results.json")
    published = [0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522]
    for evaluator in ("hotcoco", "pycocotools"):
        assert (
            main(["evaluate", str(results), "--annotations", str(truth), "--evaluator", evaluator, "--output", str(tmp_path / evaluator)])
            == 0
        )
        record = json.loads((tmp_path / evaluator / "metrics.json").read_text())
        assert [round(record[name], 3) for name in numbers(capsys.readouterr().out)] == published


@pytest.mark.parametrize(("name", "mean"), [("bearpaw-hg_s1_b1.mat", 85.09), ("bearpaw-hg_s2_b1.mat", 87.30)])
def test_mpii_published_numbers(real_data: Find, name: str, mean: float, capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_data("mpii_valid")
    argv = ["evaluate", str(folder / "preds" / name), "--task", "mpii", "--annotations", str(folder / "detections_our_format.mat")]
    assert main(argv) == 0
    assert numbers(capsys.readouterr().out)["Mean"] == pytest.approx(mean, abs=0.011)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["results.json"], "needs its ground truth"),
        (["results.json", "--annotations", "none.json"], "there is no"),
        (["results.mat", "--task", "mpii", "--annotations", "none.mat"], "there is no"),
        (["folder", "--task", "posetrack", "--annotations", "none"], "there is no"),
    ],
)
def test_missing_files_are_named(argv: list[str], words: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "results.mat").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text("{}")
    assert main(["evaluate", *argv]) == 2
    assert words in capsys.readouterr().err
