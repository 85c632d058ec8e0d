"""`simplepose convert` through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simplepose.cli import main
from simplepose.core.schema import COCO_17
from simplepose.data.coco import read_coco

PERSON = {
    "image": "7.jpg",
    "center": [50.0, 60.0],
    "scale": 0.5,
    "joints": [[10.0 + k, 20.0] for k in range(16)],
    "joints_vis": [1] * 16,
}


def test_mpii_to_coco_and_no_silent_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "valid.json").write_text(json.dumps([PERSON]))
    command = [
        "convert",
        "mpii",
        str(tmp_path / "valid.json"),
        "--output",
        str(tmp_path / "out" / "coco.json"),
        "--images",
        str(tmp_path / "pictures"),
    ]
    assert main(command) == 0
    assert "1 people in 1 pictures, 16 keypoints (mpii_16), 16 labelled" in capsys.readouterr().out
    found = read_coco(tmp_path / "out" / "coco.json", tmp_path / "pictures")
    assert found.image_paths == (str(tmp_path / "pictures/7.jpg"),) and not found.clip_boxes
    before = (tmp_path / "out" / "coco.json").read_bytes()
    assert main(command) == 2 and "exists. Cure" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--schema", "coco_17"]) == 0
    assert (tmp_path / "out" / "coco.json").read_bytes() != before
    assert read_coco(tmp_path / "out" / "coco.json", tmp_path).keypoint_counts.tolist() == [12]


@pytest.mark.parametrize("kind", ["mpii", "posetrack", "crowdpose", "ochuman"])
def test_bad_input_is_one_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text('{"images": []}')
    assert (
        main(["convert", kind, str(tmp_path / "bad.json"), "--output", str(tmp_path / "out.json")])
        == 2
    )
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ")
        and "bad.json" in error
        and "Cure" in error
        and not (tmp_path / "out.json").exists()
    )


def test_real_posetrack(real_data: Any, tmp_path: Path) -> None:
    folder = real_data("mmpose_tests_data") / "tests/data/posetrack18"
    command = [
        "convert",
        "posetrack",
        str(folder / "annotations/val"),
        "--output",
        str(tmp_path / "coco.json"),
        "--images",
        str(folder),
    ]
    assert main(command) == 0
    found = read_coco(tmp_path / "coco.json", folder)
    assert (
        len(found) == 14
        and found.track_ids is not None
        and all(Path(path).exists() for path in found.image_paths)
    )


def test_join_two_sets_and_set_sigmas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "valid.json").write_text(json.dumps([PERSON]))
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 50, "height": 50}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "bbox": [1, 1, 20, 20],
                "area": 9,
                "keypoints": [4, 5, 2] * 17,
            }
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "sigmas.json").write_text(json.dumps([0.1] * 17))
    command = [
        "convert",
        "coco",
        str(tmp_path / "coco.json"),
        "--images",
        str(tmp_path / "one"),
        "--output",
        str(tmp_path / "joined.json"),
    ]
    command += ["--also", "mpii", str(tmp_path / "valid.json"), str(tmp_path / "two")]
    assert main([*command, "--sigmas", str(tmp_path / "sigmas.json")]) == 0
    assert f"its pictures: {tmp_path}" in capsys.readouterr().out
    found = read_coco(tmp_path / "joined.json", tmp_path)
    assert found.image_paths == (str(tmp_path / "one/a.jpg"), str(tmp_path / "two/7.jpg"))
    assert found.keypoint_counts.tolist() == [17, 12] and found.schema.sigmas == (0.1,) * 17
    assert len(set(found.image_ids.tolist())) == 2
    again = ["--also", "coco", str(tmp_path / "coco.json"), str(tmp_path / "three")]
    assert main([*command, *again, "--overwrite"]) == 0  # each --also adds one
    assert len(read_coco(tmp_path / "joined.json", tmp_path)) == 3
    (tmp_path / "sigmas.json").write_text("[0.1]")
    assert main([*command, "--overwrite", "--sigmas", str(tmp_path / "sigmas.json")]) == 2
    assert "1 sigmas for 17 keypoints" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--estimate-sigmas"]) == 2
    assert "repeated annotations" in capsys.readouterr().err
