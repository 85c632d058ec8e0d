"""A calibration changes what is written, never what ranks: AP stays, and every door gives a pose the same score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from training_workers import write_people

from simplepose.cli import main
from simplepose.config import EvaluateConfig, ModelConfig
from simplepose.core.lines import read_lines
from simplepose.core.oks import rescore
from simplepose.data.annotations import Annotations, ground_truth_boxes
from simplepose.data.coco import read_coco
from simplepose.evaluation.top_down import Estimates, evaluate_network, match_estimates
from simplepose.pose.calibration import Calibration
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

CURVES = Calibration(
    keypoint_slope=1,
    keypoint_offset=2,
    pose_slope=1,
    pose_offset=3,
    people=100,
    error_raw=0.3,
    error=0.1,
)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 40)
    return read_coco(folder / "people.json", folder)


def guesses(people: Annotations) -> Estimates:
    """Three poses a person, the better the higher their scores, most of them lower than one in ten thousand."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(len(people)), 3)
    error = rng.uniform(0, 6, len(rows))
    keypoints = (
        people.keypoints[rows].astype(np.float64)
        + rng.normal(size=(len(rows), 17, 2)) * error[:, None, None]
    )
    keypoint_scores = np.repeat(10 ** -(1 + error[:, None]), 17, 1).astype(np.float32)
    return Estimates(
        people.image_index[rows],
        keypoints,
        keypoint_scores,
        rng.uniform(0.3, 1, len(rows)),
        np.full(len(rows), 900.0),
    )


@pytest.mark.parametrize("person_score", ["rescored", "keypoint_mean"])
def test_ap_does_not_change(
    people: Annotations, person_score: Literal["rescored", "keypoint_mean"]
) -> None:
    config, estimates = (
        EvaluateConfig(keypoint_threshold=0.0, person_score=person_score),
        guesses(people),
    )
    spec = ModelSpec(preset="", schema=people.schema, input_size_wh=(32, 32))
    outcomes = []
    for calibration in (None, CURVES):
        estimator = PoseEstimator(torch.nn.Identity(), replace(spec, calibration=calibration))
        outcomes.append(
            evaluate_network(
                estimator,
                people,
                ground_truth_boxes(people),
                config,
                estimate=lambda *_, **__: estimates,
            )
        )
    raw, calibrated = outcomes
    assert raw.metrics == calibrated.metrics and 0.05 < raw.metrics["AP"] < 0.95
    expected = CURVES.expected_oks(rescore(estimates.box_scores, estimates.keypoint_scores, 0.0))
    assert {round(row["score"], 9) for row in calibrated.results} <= {
        round(float(value), 9) for value in expected
    }
    assert [row["keypoints"][:2] for row in raw.results] == [
        row["keypoints"][:2] for row in calibrated.results
    ]


@pytest.mark.parametrize("person_score", ["rescored", "keypoint_mean"])
def test_the_curve_is_fitted_to_the_estimators_score(
    people: Annotations, person_score: Any
) -> None:
    estimates = guesses(people)
    matches = match_estimates(
        estimates, people, EvaluateConfig(keypoint_threshold=0.01, person_score=person_score)
    )
    np.testing.assert_allclose(
        matches.pose_scores, rescore(estimates.box_scores, estimates.keypoint_scores, 0.01)
    )


def test_calibrate_writes_the_same_network_with_the_curves(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "people", 120)
    model = ModelConfig(backbone="resnet18", width=8, deconv_filters=8, initialisation="torch")
    spec = ModelSpec(
        preset="mine",
        schema=read_coco(folder / "people.json", folder).schema,
        input_size_wh=(32, 32),
        model=model,
    )
    save_checkpoint(tmp_path / "raw.safetensors", PoseNetwork(model, 17), spec)
    command = [
        "calibrate",
        "--annotations",
        str(folder / "people.json"),
        "--images",
        str(folder),
        "--device",
        "cpu",
    ]
    assert main([*command, str(tmp_path / "raw.safetensors")]) == 0
    raw, calibrated = (
        load_model(tmp_path / f"{name}.safetensors") for name in ("raw", "raw_calibrated")
    )
    assert calibrated.spec.calibration is not None and calibrated.spec.calibration.people == 120
    assert replace(calibrated.spec, calibration=None) == raw.spec == spec
    for name, value in calibrated.network.state_dict().items():
        torch.testing.assert_close(value, raw.network.state_dict()[name], rtol=0, atol=0)
    # weights that are calibrated already are calibrated from their raw scores, so the curves are the same
    again = tmp_path / "again.safetensors"
    assert (
        main([*command, str(tmp_path / "raw_calibrated.safetensors"), "--output", str(again)]) == 0
    )
    assert load_model(again).spec == calibrated.spec
    # covariances: right on the people they were fitted on, in files, and drawn where they are known
    assert calibrated.spec.calibration.spread_offset is not None
    both = ["--annotations", str(folder / "people.json"), "--images", str(folder)]
    tested = tmp_path / "tested"
    assert main(["evaluate", str(again), *both, "--boxes", "gt", "--output", str(tested)]) == 0
    record = json.loads((tested / "metrics.json").read_text())
    assert record["ellipse_coverage"] == pytest.approx(0.9, abs=0.01)
    picture = str(next(folder.glob("*.png")))
    predict = ["predict", picture, "--boxes", "whole", "--draw", "ellipses", "--output"]
    assert main([*predict, str(tmp_path / "no"), "--weights", str(tmp_path / "raw.safetensors")])
    assert not (tmp_path / "no").exists()
    assert main([*predict, str(tmp_path / "yes"), "--weights", str(again)]) == 0
    (line,) = read_lines(tmp_path / "yes" / "poses.jsonl")
    assert np.linalg.eigvalsh(line.poses.covariances).min() > 0
