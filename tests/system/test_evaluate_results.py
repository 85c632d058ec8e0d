"""`simplepose evaluate --task ...` on finished result files, against published numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
        (["preds.npy", "--task", "mpii", "--annotations", "none.mat"], "preds.npy is no result file of task mpii (.mat, .h5, .hdf5)"),
    ],
)
def test_missing_files_are_named(argv: list[str], words: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "results.mat").write_bytes(b"x")
    (tmp_path / "preds.npy").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text("{}")
    assert main(["evaluate", *argv]) == 2
    assert words in capsys.readouterr().err


def score(folder: Path, truth: dict, results: list[dict], *more: str) -> dict:
    """The record of `simplepose evaluate results.json`."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    argv = ["evaluate", str(folder / "results.json"), "--annotations", str(folder / "truth.json"), "--output", str(folder / "out")]
    assert main([*argv, "--overwrite", *more]) == 0
    return json.loads((folder / "out" / "metrics.json").read_text())


def animals() -> tuple[dict, list[dict]]:
    """Cats and dogs by turns with the same keypoints, and perfect answers that are all of the first category, as ours are."""
    rng = np.random.default_rng(0)
    rows = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [10, 10, 60, 50], "area": 2000.0,
         "keypoints": np.concatenate([rng.integers(12, 60, (3, 2)), np.full((3, 1), 2)], 1).ravel().tolist()}
        for n in range(1, 7)
    ]  # fmt: skip
    categories = [{"id": i, "name": name, "keypoints": ["nose", "left_paw", "right_paw"]} for i, name in ((1, "cat"), (2, "dog"))]
    truth = {"images": [{"id": n, "file_name": f"{n}.png"} for n in range(1, 7)], "annotations": rows, "categories": categories}
    return truth, [{"image_id": row["image_id"], "category_id": 1, "keypoints": row["keypoints"], "score": 0.9} for row in rows]


def test_what_can_be_trained_on_can_be_scored(tmp_path: Path) -> None:
    """NaN and text in the ground truth are repaired as in training; categories with the same keypoints are one."""
    truth, results = animals()
    truth["annotations"][0]["area"] = float("nan")
    truth["annotations"][1]["area"] = "2000"
    truth["annotations"][2]["keypoints"] = [float("nan"), float("nan"), 0, *truth["annotations"][2]["keypoints"][3:]]
    assert score(tmp_path, truth, results)["AP"] == pytest.approx(1)


def test_results_that_tell_categories_apart(tmp_path: Path) -> None:
    truth, results = animals()
    cats = [row for row, animal in zip(results, truth["annotations"], strict=True) if animal["category_id"] == 1]
    dogs = [{**row, "category_id": 2} for row in results if row not in cats]
    assert score(tmp_path, truth, cats + dogs)["AP"] == pytest.approx(1)
    assert score(tmp_path, truth, [{**row, "category_id": 2} for row in results])["AP"] < 0.6  # the cats are dogs and not found


def test_one_of_several_skeletons(tmp_path: Path) -> None:
    truth, results = animals()
    truth["categories"][1]["keypoints"] = ["nose", "tail"]
    cats = [row for row, animal in zip(results, truth["annotations"], strict=True) if animal["category_id"] == 1]
    assert score(tmp_path, truth, cats, "--data.category", "cat")["AP"] == pytest.approx(1)
