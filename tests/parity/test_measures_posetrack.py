"""PoseTrack folders of JSON: the real 2018 samples parse and score, and made-up folders give known numbers in both forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import POSETRACK_15
from simplepose.evaluation.posetrack import evaluate_posetrack, read_sequences

RNG = np.random.default_rng(0)
BODY = RNG.integers(1, 100, (15, 2)).astype(float)


def score_posetrack(truth: Path, found: Path, *, exact: bool = False) -> dict[str, float]:
    return evaluate_posetrack(read_sequences(truth, found), exact=exact)


def test_real_samples_against_themselves(real_data: Callable[[str], Path]) -> None:
    """The annotations as predictions: everything is right, except where the samples annotate nothing."""
    folder = real_data("mmpose_tests_data") / "tests/data/posetrack18/annotations/val"
    result = score_posetrack(folder, folder)
    assert {name: result[name] for name in ("AP", "MOTA", "MOTP", "IDF1", "HOTA")} == pytest.approx(
        dict.fromkeys(("AP", "MOTA", "MOTP", "IDF1", "HOTA"), 100)
    )


def test_real_sample_with_noise_and_a_lost_person(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """Against the formulas: every keypoint of one person missing lowers the recall by its share of the annotated keypoints."""
    source = (
        real_data("mmpose_tests_data")
        / "tests/data/posetrack18/annotations/val/012834_mpii_test.json"
    )
    content = json.loads(source.read_text())
    labelled = [
        np.array(row["keypoints"]).reshape(-1, 3)[[0, 1, 2, *range(5, 17)]].any(1)
        for row in content["annotations"]
    ]
    (tmp_path / source.name).write_text(
        json.dumps({**content, "annotations": content["annotations"][1:]})
    )
    result = score_posetrack(source, tmp_path / source.name)
    everything, kept = np.sum(labelled, axis=0), np.sum(labelled[1:], axis=0)
    assert kept.sum() < everything.sum()
    expected = np.mean((kept / np.maximum(everything, 1))[everything > 0]) * 100
    assert result["Rec"] == pytest.approx(expected) == result["MOTA"] == pytest.approx(result["AP"])


def new_form(frames: list[dict[int, float]], score: float = 0.9) -> dict:
    """A PoseTrack18 file: in each frame track id -> x offset."""
    images = [
        {"id": 100 + i, "file_name": f"images/val/000001/{i:06d}.jpg", "is_labeled": True}
        for i in range(len(frames))
    ]
    rows = []
    for i, people in enumerate(frames):
        for track, x in people.items():
            triples = np.zeros((17, 3))
            triples[[0, 1, 2, *range(5, 17)]] = np.concatenate(
                [BODY + np.array([x, 0.0]), np.ones((15, 1))], 1
            )
            rows.append(
                {
                    "id": len(rows),
                    "image_id": 100 + i,
                    "track_id": track,
                    "keypoints": triples.ravel().tolist(),
                    "scores": [score] * 17,
                    "bbox_head": [0, 0, 30, 40],
                }
            )
    names = [*POSETRACK_15.keypoints[:3], "left_ear", "right_ear", *POSETRACK_15.keypoints[3:]]
    return {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }


def old_form(frames: list[dict[int, float]], score: float = 0.9) -> dict:
    """The same as a PoseTrack17 file."""
    legs = ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle")
    arms = (
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    )
    ids = {
        name: place for place, name in enumerate((*legs, *arms, "head_bottom", "nose", "head_top"))
    }
    annolist = []
    for i, people in enumerate(frames):
        rects = []
        for track, x in people.items():
            points = [
                {"id": [ids[n]], "x": [px + x], "y": [py], "score": [score]}
                for n, (px, py) in zip(POSETRACK_15.keypoints, BODY, strict=True)
            ]
            rects.append(
                {
                    "track_id": [track],
                    "x1": [0],
                    "y1": [0],
                    "x2": [30],
                    "y2": [40],
                    "annopoints": [{"point": points}],
                }
            )
        annolist.append({"image": [{"name": f"images/val/000001/{i:06d}.jpg"}], "annorect": rects})
    return {"annolist": annolist}


TRUTH = [{1: 0.0, 2: 1000.0}] * 4
FOUND = [{5: 0.0, 6: 1000.0}, {5: 0.0}, {7: 0.0, 6: 1000.0}, {}]


@pytest.mark.parametrize("truth_form", [new_form, old_form])
@pytest.mark.parametrize("found_form", [new_form, old_form])
def test_both_forms(tmp_path: Path, truth_form: Callable, found_form: Callable) -> None:
    for name, content in (("gt", truth_form(TRUTH)), ("pr", found_form(FOUND))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000001.json").write_text(json.dumps(content))
    result = score_posetrack(tmp_path / "gt", tmp_path / "pr")
    assert result["MOTA"] == pytest.approx(100 * (1 - 4 / 8))  # 1 + 2 misses, 1 switch
    assert result["Rec"] == result["AP"] == pytest.approx(100 * 5 / 8)
    assert score_posetrack(tmp_path / "gt", tmp_path / "pr", exact=True)["MOTA"] == pytest.approx(
        100 * (1 - 2 / 6)
    )


def test_bad_folders(tmp_path: Path) -> None:
    truth, found = tmp_path / "gt", tmp_path / "pr"
    truth.mkdir()
    found.mkdir()
    with pytest.raises(UserError, match=r"gt .*JSON"):
        score_posetrack(truth, found)
    (truth / "000001.json").write_text(json.dumps(new_form(TRUTH)))
    cases = [
        (None, "lacks 1 of 1 sequences"),
        (new_form(FOUND[:3]), "lacks 1 of 4 frames, e.g. 000001/000003.jpg"),
        (new_form([*FOUND, {}]), "gt lacks 1 of 5 frames, e.g. 000001/000004.jpg"),
        ({"annotations": []}, "no `images` list"),
        (new_form([{1.5: 0.0}, {}, {}, {}]), "track_id"),
        (new_form([{"a": 0.0}, {}, {}, {}]), "track_id"),
        (new_form([{None: 0.0, 3: 1000.0}, {}, {}, {}]), "track_id"),
    ]
    for content, message in cases:
        if content is not None:
            (found / "000001.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message) as caught:
            score_posetrack(truth, found)
        assert "Cure" in str(caught.value)
    # Nobody has a track id: AP only.
    (found / "000001.json").write_text(json.dumps(new_form([{None: 0.0}, {}, {}, {}])))
    numbers = score_posetrack(truth, found)
    assert numbers["AP"] == pytest.approx(100 / 8) and "MOTA" not in numbers
    (truth / "000001.json").write_text(
        json.dumps({**new_form(TRUTH), "images": [], "annotations": []})
    )
    with pytest.raises(UserError, match="gt lacks 4 of 4 frames"):
        score_posetrack(truth, found)
