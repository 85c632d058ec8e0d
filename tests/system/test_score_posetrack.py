"""`simplepose score --task posetrack` on files: the two thresholds, and files that cannot be scored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from simplepose.cli import main
from simplepose.data.posetrack import FILE_KEYPOINTS


def sequence(scores: list[float], shifts: list[float]) -> dict[str, Any]:
    """One person on as many frames, `shifts` pixels beside its place; the head size is 30."""
    images = [
        {"id": n, "file_name": f"images/val/a/{n}.jpg", "is_labeled": True, "nframes": len(scores)}
        for n in range(len(scores))
    ]
    people = [
        {
            "id": n,
            "image_id": n,
            "track_id": 1,
            "bbox": [0, 0, 100, 100],
            "bbox_head": [0, 0, 30, 40],
            "keypoints": [value for k in range(17) for value in (5 + 4 * k + shift, 9 + 3 * k, 1)],
            "scores": [score] * 17,
        }
        for n, (score, shift) in enumerate(zip(scores, shifts, strict=True))
    ]
    return {
        "images": images,
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(FILE_KEYPOINTS)}],
    }


def evaluate(folder: Path, truth: Any, result: Any, *more: str) -> int:
    for name, value in (("truth", truth), ("result", result)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "a.json").write_text(json.dumps(value))
    argv = [
        "score",
        str(folder / "result"),
        "--task",
        "posetrack",
        "--annotations",
        str(folder / "truth"),
    ]
    return main([*argv, "--output", str(folder / "out.json"), "--overwrite", *more])


def test_one_threshold_for_ap_and_one_for_tracking(tmp_path: Path) -> None:
    """Right with .9, right with .3, wrong with .1."""
    truth, result = sequence([1, 1, 1], [0, 0, 0]), sequence([0.9, 0.3, 0.1], [0, 0, 500])

    def numbers(*more: str) -> list[float]:
        assert evaluate(tmp_path, truth, result, "--no-exact-poseval", *more) == 0
        record = json.loads((tmp_path / "out.json").read_text())
        return [record["AP"], record["MOTA"]]

    assert numbers() == pytest.approx([200 / 3, 100 / 3])
    assert numbers("--tracking-threshold", "0.2") == pytest.approx([200 / 3, 200 / 3])
    assert numbers("--ap-threshold", "0.5") == pytest.approx([100 / 3, 100 / 3])
    assert numbers("--ap-threshold", "0.5", "--tracking-threshold", "0.2") == pytest.approx(
        [100 / 3, 200 / 3]
    )


@pytest.mark.parametrize("broken", ["truth", "result"])
@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("annotations", {"track_id": math.nan}, "has the track_id nan"),
        ("annotations", {"track_id": [1]}, "has the track_id [1]"),
        ("annotations", {"track_id": 10**30}, "has the track_id '1000000"),
        ("annotations", {"keypoints": "x"}, "has the keypoints 'x'"),
        ("annotations", {"bbox_head": [1, 2]}, "has the bbox_head [1, 2]"),
        ("annotations", {"image_id": []}, "has the image_id []"),
        ("images", {"id": None}, "frame 1 has the id None"),
        (
            "images",
            {"ignore_regions_x": None, "ignore_regions_y": [[1, 2, 3]]},
            "has ignore_regions_x [] and ignore_regions_y [[1, 2, 3]]",
        ),
        (
            "images",
            {"ignore_regions_x": [[1, 2]], "ignore_regions_y": [[1, 2, 3]]},
            "which do not fit",
        ),
    ],
)
def test_files_that_cannot_be_scored(
    tmp_path: Path,
    broken: str,
    part: str,
    change: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {name: sequence([1, 1], [0, 0]) for name in ("truth", "result")}
    files[broken][part][1] |= change
    assert evaluate(tmp_path, files["truth"], files["result"]) == 2
    error = capsys.readouterr().err
    assert words in error and "a.json" in error and "Cure:" in error
