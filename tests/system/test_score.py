"""`simplepose score` on finished result files, against published numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simplepose.cli import main
from simplepose.core.lines import header_of, read_lines
from simplepose.core.schema import COCO_17, KeypointSchema
from simplepose.core.structures import Frame, Poses
from simplepose.video.outputs import LinesWriter, write_coco_results

Find = Callable[[str], Path]


def numbers(text: str) -> dict[str, float]:
    """The table that the command prints."""
    return {
        line[:-8].strip(): float(line[-8:]) for line in text.splitlines() if line.startswith("  ")
    }


def test_no_score_stands_without_its_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result file does not say on which boxes it was made; -1 is no score."""
    truth, results = animals()
    assert score(tmp_path, truth, results)["APL"] == -1
    lines = capsys.readouterr().out.splitlines()
    assert "preset and boxes unknown, from" in lines[0] and "results.json" in lines[0]
    assert [
        line.split()[1] for line in lines if line.strip().startswith(("AP ", "APL", "ARL"))
    ] == ["1.0000", "-", "-"]


def test_coco_published_numbers(
    real_data: Find, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth = real_data("coco_val2014_fake100/person_keypoints_val2014_100_rebuilt.json")
    results = real_data(
        "evaluator_fixtures/cocoapi/person_keypoints_val2014_fakekeypoints100_results.json"
    )
    published = [0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522]
    for evaluator in ("hotcoco", "pycocotools"):
        assert (
            main(
                [
                    "score",
                    str(results),
                    "--annotations",
                    str(truth),
                    "--evaluator",
                    evaluator,
                    "--output",
                    str(tmp_path / f"{evaluator}.json"),
                ]
            )
            == 0
        )
        record = json.loads((tmp_path / f"{evaluator}.json").read_text())
        assert [round(record[name], 3) for name in numbers(capsys.readouterr().out)] == published


@pytest.mark.parametrize(
    ("name", "mean"), [("bearpaw-hg_s1_b1.mat", 85.09), ("bearpaw-hg_s2_b1.mat", 87.30)]
)
def test_mpii_published_numbers(
    real_data: Find, name: str, mean: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = real_data("mpii_valid")
    argv = [
        "score",
        str(folder / "preds" / name),
        "--task",
        "mpii",
        "--annotations",
        str(folder / "detections_our_format.mat"),
    ]
    assert main(argv) == 0
    assert numbers(capsys.readouterr().out)["Mean"] == pytest.approx(mean, abs=0.011)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["results.json"], "needs its ground truth"),
        (["results.json", "--annotations", "none.json"], "there is no"),
        (["results.mat", "--task", "mpii", "--annotations", "none.mat"], "there is no"),
        (["folder", "--task", "posetrack", "--annotations", "none"], "there is no"),
        (
            ["preds.npy", "--task", "mpii", "--annotations", "none.mat"],
            "preds.npy is no result file of task mpii (.mat, .h5, .hdf5)",
        ),
    ],
)
def test_missing_files_are_named(
    argv: list[str], words: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "results.mat").write_bytes(b"x")
    (tmp_path / "preds.npy").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text("{}")
    assert main(["score", *argv]) == 2
    assert words in capsys.readouterr().err


def evaluate(folder: Path, truth: dict, results: list[dict], *more: str) -> int:
    """The exit status of `simplepose score results.json`."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    argv = [
        "score",
        str(folder / "results.json"),
        "--annotations",
        str(folder / "truth.json"),
        "--output",
        str(folder / "out.json"),
    ]
    return main([*argv, "--overwrite", *more])


def score(folder: Path, truth: dict, results: list[dict], *more: str) -> dict:
    """The record that it writes."""
    assert evaluate(folder, truth, results, *more) == 0
    return json.loads((folder / "out.json").read_text())


def animals() -> tuple[dict, list[dict]]:
    """Cats and dogs by turns with the same keypoints, and perfect answers that are all of the first category, as ours are."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1 + n % 2,
            "bbox": [10, 10, 60, 50],
            "area": 2000.0,
            "keypoints": np.concatenate([rng.integers(12, 60, (3, 2)), np.full((3, 1), 2)], 1)
            .ravel()
            .tolist(),
        }
        for n in range(1, 7)
    ]
    categories = [
        {"id": i, "name": name, "keypoints": ["nose", "left_paw", "right_paw"]}
        for i, name in ((1, "cat"), (2, "dog"))
    ]
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(1, 7)],
        "annotations": rows,
        "categories": categories,
    }
    return truth, [
        {"image_id": row["image_id"], "category_id": 1, "keypoints": row["keypoints"], "score": 0.9}
        for row in rows
    ]


def people_of_coco() -> tuple[dict, list[dict]]:
    """Three of COCO's people, and perfect answers."""
    flat = [value for k in range(17) for value in (50 + 5 * k, 60 + 9 * k, 2)]
    rows = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "bbox": [10, 10, 60, 50],
            "area": 2000.0,
            "keypoints": flat,
            "iscrowd": 0,
        }
        for n in (1, 2, 3)
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}]
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in (1, 2, 3)],
        "annotations": rows,
        "categories": categories,
    }
    return truth, [
        {"image_id": n, "category_id": 1, "keypoints": flat, "score": 0.9} for n in (1, 2, 3)
    ]


def test_what_can_be_trained_on_can_be_scored(tmp_path: Path) -> None:
    """NaN and text in the ground truth are repaired as in training; categories with the same keypoints are one."""
    truth, results = animals()
    truth["annotations"][0]["area"] = float("nan")
    truth["annotations"][1]["area"] = "2000"
    truth["annotations"][2]["keypoints"] = [
        float("nan"),
        float("nan"),
        0,
        *truth["annotations"][2]["keypoints"][3:],
    ]
    assert score(tmp_path, truth, results)["AP"] == pytest.approx(1)


def test_results_that_tell_categories_apart(tmp_path: Path) -> None:
    truth, results = animals()
    cats = [
        row
        for row, animal in zip(results, truth["annotations"], strict=True)
        if animal["category_id"] == 1
    ]
    dogs = [{**row, "category_id": 2} for row in results if row not in cats]
    assert score(tmp_path, truth, cats + dogs)["AP"] == pytest.approx(1)
    assert (
        score(tmp_path, truth, [{**row, "category_id": 2} for row in results])["AP"] < 0.6
    )  # the cats are dogs and not found


def test_one_of_several_skeletons(tmp_path: Path) -> None:
    truth, results = animals()
    truth["categories"][1]["keypoints"] = ["nose", "tail"]
    cats = [
        row
        for row, animal in zip(results, truth["annotations"], strict=True)
        if animal["category_id"] == 1
    ]
    assert score(tmp_path, truth, cats, "--category", "cat")["AP"] == pytest.approx(1)
    # rows of the others, also of another length, are left out
    tails = [
        {**row, "category_id": 2, "keypoints": [1, 1, 1, 2, 2, 1]}
        for row in results
        if row not in cats
    ]
    assert score(tmp_path, truth, [*tails, *cats], "--category", "cat")["AP"] == pytest.approx(1)
    assert evaluate(tmp_path, truth, cats) == 2


@pytest.mark.parametrize("named", ["as text", "by words", "by our numbers"])
def test_results_may_name_pictures_and_categories_as_the_ground_truth_does(
    tmp_path: Path, named: str
) -> None:
    truth, results = animals()
    for row in truth["images"]:
        row["id"] = f"im{row['id']}" if named != "as text" else row["id"]
    for row in [*truth["annotations"], *(results if named != "by our numbers" else [])]:
        row["image_id"] = f"im{row['image_id']}" if named != "as text" else str(row["image_id"])
    assert score(tmp_path, truth, results)["AP"] == pytest.approx(1)
    for row in truth["categories"]:
        row["id"] = str(row["id"]) if named == "as text" else row["name"]
    names = {1: "1", 2: "2"} if named == "as text" else {1: "cat", 2: "dog"}
    for row in [*truth["annotations"], *(results if named != "by our numbers" else [])]:
        row["category_id"] = names[row["category_id"]]
    assert score(tmp_path, truth, results)["AP"] == pytest.approx(1)
    apart = [
        {**row, "category_id": animal["category_id"]}
        for row, animal in zip(results, truth["annotations"], strict=True)
    ]
    assert score(tmp_path, truth, apart)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("task", ["coco", "ochuman"])
@pytest.mark.parametrize(
    "change",
    [
        {"iscrowd": None},
        {"bbox": []},
        {"bbox": ["10", "10", "60", "50"]},
        {"area": "2000"},
        {"area": "x"},
        {"category_id": "1"},
        {"keypoints": None},
        {"num_keypoints": None},
    ],
)
def test_ground_truth_that_reading_repairs_is_scored_by_each_task(
    tmp_path: Path, task: str, change: dict
) -> None:
    truth, results = people_of_coco()
    truth["annotations"][1] |= change
    if change == {"keypoints": None}:
        results.pop(1)
    assert score(tmp_path, truth, results, "--task", task)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("task", ["coco", "ochuman"])
@pytest.mark.parametrize(
    "change",
    [
        {"bbox": "x"},
        {"bbox": ["x", 1, 2, 3]},
        {"bbox": [1, 2, 3]},
        {"keypoints": 5},
        {"keypoints": ["x", 5, 2] * 17},
    ],
)
def test_ground_truth_that_nobody_can_read(
    tmp_path: Path, task: str, change: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, results = people_of_coco()
    truth["annotations"][1] |= change
    assert evaluate(tmp_path, truth, results, "--task", task) == 2
    error = capsys.readouterr().err
    assert (
        "truth.json: " in error
        and "annotation 2" in error
        and next(iter(change))[:8] in error
        and "Cure:" in error
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": None}, "row 1 has 0 keypoint numbers"),
        ({"keypoints": "x"}, "row 1 has the keypoints 'x'"),
        ({"keypoints": [None] * 51}, "row 1 has nan (or null) among its keypoints"),
        ({"score": None}, "row 1 has the score None"),
        ({"score": "high"}, "row 1 has the score 'high'"),
        ({"score": math.nan}, "row 1 has the score nan"),
        ({"image_id": []}, "row 1 has the image_id []"),
        ({"category_id": "x"}, "1 category id(s) that the ground truth does not have, e.g. x"),
    ],
)
def test_results_that_nobody_can_score(
    tmp_path: Path, change: dict, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, results = people_of_coco()
    results[1] |= change
    assert evaluate(tmp_path, truth, results) == 2
    error = capsys.readouterr().err
    assert f"results.json: {words}" in error and "Cure:" in error


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--ap-threshold", "nan"], "--ap-threshold is nan"),
        (["--output", "folder"], "--output folder is no .json file"),
        (["--output", "results.json"], "results.json exists. Cure: --overwrite"),
    ],
)
def test_options_that_make_no_sense(
    more: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    assert main(["score", "results.json", *more]) == 2
    assert words in capsys.readouterr().err


def test_what_only_networks_have_is_refused_for_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` takes results as `score` does, with no option that would do nothing."""
    (tmp_path / "results.json").write_text("[]")
    for words in ([], ["--flip-shift", "none"], ["--images", "x"]):
        assert main(["evaluate", str(tmp_path / "results.json"), *words]) == 2
        assert (words or ["--annotations"])[0] in capsys.readouterr().err


def test_broken_ground_truth_is_named_beside_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, results = people_of_coco()
    score(tmp_path, truth, results)
    assert "area" not in capsys.readouterr().err
    for row in truth["annotations"]:
        row["area"] = 3.0
    score(tmp_path, truth, results)
    error = capsys.readouterr().err
    assert "truth.json: 3 people" in error and "area" in error


def write_lines(folder: Path, truth: dict, results: list[dict], schema: KeypointSchema) -> None:
    """The results as `predict` would write them into `folder`."""
    ids = [image["id"] for image in truth["images"]]
    with LinesWriter(folder / "poses.jsonl", header_of(schema), image_ids=ids) as lines:
        for index, image_id in enumerate(ids):
            rows = [row for row in results if row["image_id"] == image_id]
            keypoints = np.array([row["keypoints"] for row in rows]).reshape(len(rows), -1, 3)
            scores = [row["score"] for row in rows]
            boxes = np.zeros((len(rows), 4))
            poses = Poses(keypoints[..., :2], keypoints[..., 2], boxes, scores)
            lines.write(Frame(np.zeros((9, 9, 3), np.uint8), f"{image_id}.jpg", index), poses)
    write_coco_results(folder / "results.json", read_lines(folder / "poses.jsonl"))


@pytest.mark.parametrize("command", ["score", "evaluate"])
@pytest.mark.parametrize("name", ["", "poses.jsonl", "results.json", "alone"])
def test_what_predict_writes_has_the_numbers_of_its_rows(
    tmp_path: Path, name: str, command: str
) -> None:
    truth, results = animals()
    for number, row in enumerate(results):
        x, *rest = row["keypoints"]
        row["keypoints"] = [x + 4.0 * number, *rest]  # not all are right
    wanted = score(tmp_path, truth, results)
    names = truth["categories"][0]["keypoints"]
    write_lines(
        tmp_path / "out", truth, results, KeypointSchema(name="beast", keypoints=tuple(names))
    )
    if name == "alone":
        (tmp_path / "out" / name).mkdir()
        (tmp_path / "out" / "results.json").rename(tmp_path / "out" / name / "results.json")
    argv = [command, str(tmp_path / "out" / name), "--annotations", str(tmp_path / "truth.json")]
    assert main([*argv, "--output", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0.1 < found["AP"] < 1
    assert {k: v for k, v in found.items() if k != "results"} == pytest.approx(
        {k: v for k, v in wanted.items() if k != "results"}
    )


def test_poses_with_other_keypoints_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, results = animals()
    score(tmp_path, truth, results)
    names = tuple(truth["categories"][0]["keypoints"])[::-1]
    write_lines(tmp_path / "out", truth, results, KeypointSchema(name="beast", keypoints=names))
    argv = ["score", str(tmp_path / "out"), "--annotations", str(tmp_path / "truth.json")]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "poses.jsonl" in error and names[0] in error and "Cure:" in error
