"""`simplepose report` through the command line: what it takes, what it refuses, what it never overwrites."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_results import write_people, write_results
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.config import dump_config, load_preset
from simplepose.core.files import encode_json
from simplepose.core.lines import header_of
from simplepose.core.schema import COCO_17
from simplepose.data.posetrack import FILE_KEYPOINTS

Find = Callable[[str], Path]


def report(*words: object) -> int:
    return main(["report", *map(str, words)])


def given(folder: Path) -> list[object]:
    """Drawn people and spoilt results as the command takes them."""
    people = write_people(folder / "data")
    results = write_results(folder / "results.json", people)
    return [results, "--annotations", people, "--images", folder / "data"]


def run_folder(folder: Path, people: Path) -> Path:
    """A run of three epochs that has evaluated twice but lacks its results."""
    folder.mkdir()
    data = {"val_annotations": str(people), "val_images": str(people.parent)}
    config = load_preset("coco_r18_128x96_mini")
    text = dump_config(config)
    assert "val_annotations: ''" in text
    for name, value in data.items():
        text = text.replace(f"{name}: ''", f"{name}: {value}")
    (folder / "config.yaml").write_text(text)
    records = [
        {"step": 9 * e, "epoch": e, "loss": 0.5 / e, "learning_rate": 1e-3} for e in (1, 2, 3)
    ]
    records += [{"step": 9 * e, "epoch": e, "AP": 0.1 * e, "evaluation_seconds": 1} for e in (1, 2)]
    lines = "\n".join(map(json.dumps, records))
    (folder / "metrics.jsonl").write_text(f'{lines}\n{{"step": 4')  # the last line is cut short
    return folder


def test_results_beside_ground_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = given(tmp_path)
    assert report(*words) == 0
    page = (tmp_path / "report.html").read_text()
    assert "7 keypoints" in page and "4 keypoints" in page and "5 keypoints" in page
    assert "1 people" in page and page.count("data:image/jpeg") >= 7
    assert report(*words) == 0, "an older report is replaced"
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["letter.html", "people.json", "folder.html"])
def test_nothing_but_a_report_is_replaced(tmp_path: Path, name: str) -> None:
    words = given(tmp_path)
    (tmp_path / "letter.html").write_text("<!doctype html><title>a letter</title>")
    (tmp_path / "folder.html").mkdir()
    assert report(*words, "--output", tmp_path / name) == 2
    assert (tmp_path / "letter.html").read_text().endswith("a letter</title>")


def test_two_results_side_by_side(tmp_path: Path) -> None:
    first, *words = given(tmp_path)
    people = tmp_path / "data" / "people.json"
    (tmp_path / "other").mkdir()
    second = write_results(tmp_path / "other" / "results.json", people, spoil=False)
    assert report(first, second, *words) == 0
    page = (tmp_path / "report.html").read_text()
    assert "3 pictures got better and 0 worse" in page
    assert "other/results.json" in page, "equal names get their folder"
    assert report(first, second, first, *words) == 2


def test_a_run_that_has_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", write_people(tmp_path / "data"))
    assert report(run) == 0
    page = (run / "report.html").read_text()
    assert "has not been evaluated yet" in capsys.readouterr().err
    assert page.count("<svg") == 3 and "Where the AP is lost" not in page
    assert "http-equiv" not in page


def test_a_run_with_results_reads_its_own_data(tmp_path: Path) -> None:
    people = write_people(tmp_path / "data")
    run = run_folder(tmp_path / "run", people)
    write_results(run / "predictions.json", people)
    assert report(run) == 0
    page = (run / "report.html").read_text()
    assert "Where the AP is lost" in page and "coco_r18_128x96_mini" in page


def test_heatmaps_on_demand(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = save_network(tmp_path / "net.onnx")
    words = given(tmp_path)
    page = tmp_path / "report.html"
    assert report(*words, "--weights", network, "--people", 3) == 0
    assert page.read_text().count("<details>") == 3
    assert report(*words, "--weights", network, "--people", 3, "--no-heatmaps") == 0
    assert "<details>" not in page.read_text()


def test_watch_writes_again_until_the_run_ends(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", write_people(tmp_path / "data"))
    (run / ".owner").write_text("process 1 on host here")
    page, seen = run / "report.html", []

    def train() -> None:
        while not page.exists():
            time.sleep(0.02)
        seen.append("http-equiv" in page.read_text())
        with (run / "metrics.jsonl").open("a") as file:
            file.write('\n{"step": 36, "epoch": 4, "loss": 0.01, "learning_rate": 0.1}\n')
        (run / ".owner").unlink()

    thread = threading.Thread(target=train)
    thread.start()
    assert report(run, "--watch") == 0
    thread.join()
    text = page.read_text()
    assert seen == [True] and "http-equiv" not in text and text.count("4, 0.01") == 1


def test_a_folder_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = given(tmp_path)
    (tmp_path / "empty").mkdir()
    assert report(*words[:-1], tmp_path / "empty") == 0
    assert "--images" in capsys.readouterr().err
    assert "the picture cannot be read" in (tmp_path / "report.html").read_text()


def test_scores_that_say_nothing(tmp_path: Path) -> None:
    results, *words = given(tmp_path)
    rows = json.loads(Path(str(results)).read_text())
    for row in rows:
        row["keypoints"][2::3] = [0] * 17
    Path(str(results)).write_text(json.dumps(rows))
    assert report(results, *words) == 0
    assert "nothing to calibrate" in (tmp_path / "report.html").read_text()
    Path(str(results)).write_text("[]")
    assert report(results, *words) == 0, "no pose at all is a normal answer"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_id": 77}, "77"),
        ({"category_id": 5}, "5"),
        ({"keypoints": [1.0, 2.0, 1.0]}, "3 keypoint numbers"),
    ],
)
def test_results_of_something_else_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], named: str
) -> None:
    results, *words = given(tmp_path)
    rows = json.loads(Path(str(results)).read_text())
    rows[0] |= change
    Path(str(results)).write_text(json.dumps(rows))
    assert report(results, *words) == 2
    error = capsys.readouterr().err
    assert named in error and "results.json" in error and "Cure:" in error
    assert not (tmp_path / "report.html").exists()


def test_what_makes_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, *words = given(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "net.mat").write_bytes(b"x")
    for argv in (
        [results],
        [tmp_path / "nowhere", *words],
        [tmp_path / "empty", *words],
        [tmp_path / "net.onnx", *words],
        [tmp_path / "net.mat", *words],
        [results, *words, "--task", "mpii"],
        [results, "--task", "posetrack"],
        [tmp_path / "empty", *words, "--task", "posetrack"],
        [results, *words, "--watch"],
        [results, *words, "--weights", tmp_path / "none.onnx"],
    ):
        assert report(*argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Cure: " in error


def lines_of(folder: Path, people: Path, names: list[list[int | None]]) -> Path:
    """A poses.jsonl of the drawn people; `names` has the identities of each frame's two."""
    rows = json.loads(people.read_text())["annotations"]
    lines = [encode_json(header_of(COCO_17, boxes="motion"))]
    for frame, pair in enumerate(names):
        both = [
            {
                "track_id": name,
                "score": 0.5,
                "bbox": row["bbox"],
                "keypoints": np.reshape(row["keypoints"], (17, 3)).tolist(),
            }
            for name, row in zip(pair, rows[2 * frame : 2 * frame + 2], strict=True)
            if name is not None
        ]
        line = {"frame": frame, "seconds": frame / 10, "source": "a.mp4", "image_id": frame + 1}
        lines.append(encode_json(line | {"width": 400, "height": 240, "people": both}))
    path = folder / "poses.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_identities_over_time(tmp_path: Path) -> None:
    people = write_people(tmp_path / "data", pictures=6)
    # 1 is lost for a frame; the right person's identity changes from 2 to 3
    names: list[list[int | None]] = [[1, 2], [1, 2], [None, 2], [1, 3], [1, 3], [1, 3]]
    lines = lines_of(tmp_path, people, names)
    assert report(lines) == 0
    page = (tmp_path / "report.html").read_text()
    assert "3 identities in 6 frames, interrupted 1 times" in page
    assert report(tmp_path, "--annotations", people, "--images", tmp_path / "data") == 0
    page = (tmp_path / "report.html").read_text()
    assert "Switches" in page and "Where the AP is lost" in page
    assert report(lines_of(tmp_path, people, [[None, None]])) == 2, "nobody is followed"


def mpii_files(folder: Path, off: list[float]) -> tuple[Path, Path]:
    """Ground truth of people with heads of 30 pixels, and answers `off` pixels beside it."""
    from scipy.io import savemat

    count, rng = len(off), np.random.default_rng(0)
    places = rng.uniform(100, 200, (16, 2, count))
    heads = np.zeros((2, 2, count))
    heads[1] = np.array([[30.0], [40.0]])  # 0.6 x the diagonal: 30
    truth, answers = folder / "truth.mat", folder / "answers.mat"
    missing = np.zeros((16, count))
    savemat(truth, {"jnt_missing": missing, "pos_gt_src": places, "headboxes_src": heads})
    moved = np.moveaxis(places, 2, 0) + np.array(off)[:, None, None] / np.sqrt(2)
    savemat(answers, {"preds": moved})
    return truth, answers


def test_mpii_has_its_table_and_curves(tmp_path: Path) -> None:
    truth, answers = mpii_files(tmp_path, [0, 2, 14, 16])  # of 30: 0, .07, .47, .53
    words = ["--task", "mpii", "--annotations", truth]
    assert report(answers, *words) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("75.0") >= 8 and "50.0" in page, "PCKh@0.5 of all joints, and Mean@0.1"
    assert page.count("<polyline") == 8 and "Where the AP is lost" not in page
    (tmp_path / "other").mkdir()
    other = (tmp_path / "other" / "answers.mat").write_bytes(answers.read_bytes())
    assert other and report(answers, tmp_path / "other" / "answers.mat", *words) == 0
    assert (tmp_path / "report.html").read_text().count("<polyline") == 16


@pytest.mark.parametrize(
    ("name", "mean"), [("bearpaw-hg_s1_b1.mat", 85.1), ("bearpaw-hg_s2_b1.mat", 87.3)]
)
def test_mpii_published_numbers(real_data: Find, tmp_path: Path, name: str, mean: float) -> None:
    folder, page = real_data("mpii_valid"), tmp_path / "page.html"
    truth = folder / "detections_our_format.mat"
    words = ["--task", "mpii", "--annotations", truth, "--output", page]
    assert report(folder / "preds" / name, *words) == 0
    assert f">{mean}" in page.read_text()


def posetrack_sequence(names: list[list[int | None]]) -> dict[str, Any]:
    """Two people 300 pixels apart; `names` has the identities of each frame's two."""
    frames = [
        {"id": n, "file_name": f"images/val/a/{n}.jpg", "is_labeled": True}
        for n in range(len(names))
    ]
    people = [
        {
            "id": 2 * n + side,
            "image_id": n,
            "track_id": name,
            "bbox": [300 * side, 0, 100, 100],
            "bbox_head": [300 * side, 0, 30, 40],
            "keypoints": [one for k in range(17) for one in (300 * side + 5 + 4 * k, 9 + 3 * k, 1)],
            "scores": [0.5] * 17,
        }
        for n, pair in enumerate(names)
        for side, name in enumerate(pair)
        if name is not None
    ]
    category = {"id": 1, "name": "person", "keypoints": list(FILE_KEYPOINTS)}
    return {"images": frames, "annotations": people, "categories": [category]}


def test_a_posetrack_folder_has_its_table_and_identities(tmp_path: Path) -> None:
    """In a somebody is lost for a frame and the two change their names; in b nothing happens."""
    right, wrong = [[0, 1]] * 8, [[0, 1], [0, 1], [None, 1], [0, 1], *[[1, 0]] * 4]
    for folder, sequences in {"truth": (right, right), "found": (wrong, right)}.items():
        (tmp_path / folder).mkdir()
        for name, one in zip("ab", sequences, strict=True):
            path = tmp_path / folder / f"{name}.json"
            path.write_text(json.dumps(posetrack_sequence(one)))
    words = ["--task", "posetrack", "--annotations", tmp_path / "truth"]
    assert report(tmp_path / "found", *words) == 0
    page = (tmp_path / "report.html").read_text()
    assert '<td>a<td class="n">8<td class="n">2' in page.replace("\n", "")
    row = page[page.index("<td>a<td") :].split("<tr>")[0]
    cells = [one.strip() for one in row.split('<td class="n">')[1:]]
    # MOTA 1 - 3 / 16; two switches, one interruption, one miss, nobody invented
    assert cells[2] == "81.2" and cells[5:] == ["2", "1", "1", "0"]
    assert page.index("<h3>a</h3>") < page.index("<h3>b</h3>") and "Switches" in page
    # of results without identities beside it nobody is followed
    (tmp_path / "poses").mkdir()
    for name in "ab":
        content = posetrack_sequence(right)
        for person in content["annotations"]:
            del person["track_id"]
        (tmp_path / "poses" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "report.html").unlink()
    assert report(tmp_path / "poses", tmp_path / "found", *words) == 0
    again = (tmp_path / "report.html").read_text()
    assert row in again and "found: its sequences" in again
    # a file a sequence is missing, and another measure beside it
    (tmp_path / "found" / "b.json").unlink()
    assert report(tmp_path / "found", *words) == 2
    # no frame is annotated, so there is nobody to compare identities with
    (tmp_path / "truth" / "b.json").unlink()
    nobody = posetrack_sequence([[None, None]] * 8)
    for image in nobody["images"]:
        image["is_labeled"] = False
    (tmp_path / "truth" / "a.json").write_text(json.dumps(nobody))
    assert report(tmp_path / "found", *words) == 0
    assert "Identities over time" not in (tmp_path / "report.html").read_text()
