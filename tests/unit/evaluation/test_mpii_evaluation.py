"""PCKh by hand, files in and out, and clear errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from simplepose.core.errors import UserError
from simplepose.evaluation.mpii import (
    MpiiTruth,
    evaluate_mpii,
    head_sizes,
    pckh,
    read_mpii_predictions,
    read_mpii_truth,
    write_mpii_submission,
)

RNG = np.random.default_rng(0)
KEYPOINTS = RNG.integers(1, 500, (4, 16, 2)).astype(float)
BOXES = np.tile([10.0, 10.0, 40.0, 50.0], (4, 1))  # diagonal 50: head size 30
SIZES = head_sizes(BOXES)
TRUTH = MpiiTruth(KEYPOINTS, np.ones((4, 16), bool), SIZES, "test")


def test_nobody() -> None:
    empty = MpiiTruth(np.zeros((0, 16, 2)), np.zeros((0, 16), bool), np.zeros(0), "test")
    assert all(math.isnan(value) for value in evaluate_mpii(np.zeros((0, 16, 2)), empty).values())


def test_perfect() -> None:
    assert set(evaluate_mpii(KEYPOINTS, TRUTH).values()) == {100.0}


@pytest.mark.parametrize(
    ("pixels", "at_half", "at_tenth", "at_eleven"),
    [(15, 100, 0, 0), (15.001, 0, 0, 0), (3, 100, 100, 100), (3.2, 100, 0, 100)],
)
def test_distance_is_inclusive(
    pixels: float, at_half: float, at_tenth: float, at_eleven: float
) -> None:
    result = evaluate_mpii(KEYPOINTS + np.array([pixels, 0]), TRUTH)
    assert (result["Mean"], result["Mean@0.1"], result["Mean@0.11"]) == (
        at_half,
        at_tenth,
        at_eleven,
    )


def test_mean_is_weighted_and_leaves_out_pelvis_and_thorax() -> None:
    wrong = KEYPOINTS.copy()
    wrong[:, [6, 7]] += 1000
    assert pckh(wrong, TRUTH)["Mean"] == 100
    labelled = np.ones((4, 16), bool)
    labelled[1:, 9] = False  # the head is annotated once
    wrong[:, 9] += 1000
    result = pckh(wrong, MpiiTruth(KEYPOINTS, labelled, SIZES, "test"))
    assert result["Head"] == 0
    assert result["Mean"] == pytest.approx(100 * 52 / 53)


def test_left_and_right_are_averaged() -> None:
    wrong = KEYPOINTS.copy()
    wrong[:, 10] += 1000
    assert pckh(wrong, TRUTH)["Wrist"] == 50


def our_format(path: Path, **changes: object) -> Path:
    content = {
        "jnt_missing": np.zeros((16, 4), np.uint8),
        "pos_gt_src": KEYPOINTS.transpose(1, 2, 0),
        "headboxes_src": BOXES.reshape(4, 2, 2).transpose(1, 2, 0),
        "pos_pred_src": KEYPOINTS.transpose(1, 2, 0) + 3,
    }
    savemat(path, {name: value for name, value in (content | changes).items() if value is not None})
    return path


def test_files(tmp_path: Path) -> None:
    truth = our_format(tmp_path / "gt.mat")
    read = read_mpii_truth(truth)
    assert (
        np.array_equal(read.keypoints, KEYPOINTS)
        and read.labelled.all()
        and np.allclose(read.head_sizes, 30)
    )
    assert np.array_equal(read_mpii_predictions(truth), KEYPOINTS + 3)
    write_mpii_submission(tmp_path / "pred.mat", KEYPOINTS, ["a.jpg"] * 4)
    assert evaluate_mpii(read_mpii_predictions(tmp_path / "pred.mat"), read)["Mean"] == 100


def test_h5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        part = KEYPOINTS.copy()
        part[0, 0] = 0
        file["part"], file["normalize"] = part, np.full(4, 30.0)
    with h5py.File(tmp_path / "preds.h5", "w") as file:
        file["preds"] = KEYPOINTS.transpose(2, 1, 0)
    truth = read_mpii_truth(tmp_path / "valid.h5")
    assert truth.labelled.sum() == 63 and not truth.labelled[0, 0]
    assert np.array_equal(read_mpii_predictions(tmp_path / "preds.h5"), KEYPOINTS)


def test_submission_structure(tmp_path: Path) -> None:
    write_mpii_submission(tmp_path / "pred.mat", KEYPOINTS, ["a.jpg", "b.jpg", "a.jpg", "c.jpg"])
    pred = loadmat(tmp_path / "pred.mat", struct_as_record=False, squeeze_me=True)["pred"]
    assert [picture.image.name for picture in pred] == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(pred[0].annorect) == 2
    point = pred[0].annorect[1].annopoints.point[15]
    assert (point.x, point.y, point.id) == (*KEYPOINTS[2, 15], 15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headboxes_src": None}, "headboxes_src"),
        ({"headboxes_src": np.zeros((2, 2, 4))}, "person 0 .*head box"),
        ({"jnt_missing": None}, "jnt_missing"),
    ],
)
def test_bad_truth(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_mpii_truth(our_format(tmp_path / "gt.mat", **changes))
    assert "gt.mat" in str(caught.value) and "Cure" in str(caught.value)


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.mat"):
        read_mpii_truth(tmp_path / "nothing.mat")
    (tmp_path / "text.mat").write_text("hello")
    with pytest.raises(UserError, match=r"text\.mat .*MATLAB"):
        read_mpii_predictions(tmp_path / "text.mat")
    with pytest.raises(UserError, match=r"\(3, 16, 2\).*\(4, 16, 2\)"):
        pckh(KEYPOINTS[:3], TRUTH)
