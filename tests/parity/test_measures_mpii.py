"""The published PCKh numbers of three networks, from their prediction files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simplepose.evaluation.mpii import (
    GROUPS,
    evaluate_mpii,
    read_mpii_predictions,
    read_mpii_truth,
)

# head shoulder elbow wrist hip knee ankle mean
PUBLISHED = {
    "preds/bearpaw-hg_s1_b1.mat": (95.12, 93.61, 85.53, 79.56, 84.51, 78.28, 73.38, 85.09),
    "preds/bearpaw-hg_s2_b1.mat": (95.81, 94.57, 88.12, 83.31, 86.24, 80.88, 77.45, 87.30),
    "detections_our_format.mat": (
        95.60,
        92.71,
        83.37,
        76.74,
        81.93,
        73.36,
        65.45,
        82.34,
    ),  # Tompson et al., inside the ground truth file
}


def score(truth: Path, predictions: Path) -> dict[str, float]:
    return evaluate_mpii(read_mpii_predictions(predictions), read_mpii_truth(truth))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pckh(real_data: Callable[[str], Path], name: str) -> None:
    folder = real_data("mpii_valid")
    result = score(folder / "detections_our_format.mat", folder / name)
    assert [result[group] for group in (*GROUPS, "Mean")] == pytest.approx(
        PUBLISHED[name], abs=0.01
    )
    assert 20 < result["Mean@0.1"] < result["Mean@0.11"] < 40


def test_h5_form(real_data: Callable[[str], Path]) -> None:
    pytest.importorskip("h5py")
    folder = real_data("mpii_valid")
    truth = read_mpii_truth(folder / "valid.h5")
    assert truth.keypoints.shape == (2958, 16, 2)
    assert (
        abs(
            truth.head_sizes - read_mpii_truth(folder / "detections_our_format.mat").head_sizes
        ).max()
        < 1e-3
    )
    tompson = read_mpii_predictions(folder / "preds/tompson.h5")
    assert abs(tompson - read_mpii_predictions(folder / "detections_our_format.mat")).max() < 1e-3
    result = score(folder / "valid.h5", folder / "preds/bearpaw-hg_s1_b1.mat")
    assert [result[group] for group in (*GROUPS, "Mean")] == pytest.approx(
        PUBLISHED["preds/bearpaw-hg_s1_b1.mat"], abs=0.1
    )
