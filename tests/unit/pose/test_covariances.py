"""Covariances of keypoints: from maps, over the calibration, to files and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simplepose.config import CodecConfig
from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError
from simplepose.core.lines import line_of
from simplepose.core.oks import COVERED, ELLIPSE
from simplepose.core.schema import COCO_17
from simplepose.core.structures import Frame, Poses
from simplepose.pose import codec
from simplepose.pose.calibration import Calibration, Matches, fit, fit_quantile, match_people
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator
from simplepose.tracking.smooth import fill_gaps

INPUT_WH = (192, 256)
CURVES = Calibration(
    keypoint_slope=1.0,
    keypoint_offset=0.0,
    pose_slope=1.0,
    pose_offset=0.0,
    people=100,
    error_raw=0.1,
    error=0.1,
    spread_slope=0.0,
    spread_offset=float(np.log(2)),
)


def gaussian(size_wh: tuple[int, int], centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(H, W) map of a normal distribution that peaks at 1, in map pixels."""
    grid = np.stack(np.meshgrid(*map(np.arange, size_wh)), -1) - centre
    return np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", grid, np.linalg.inv(covariance), grid))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_moments_of_a_gaussian_are_its_covariance(library: str) -> None:
    covariance = np.array([[9.0, 3.0], [3.0, 4.0]])
    one = gaussian((48, 64), np.array([22.0, 30.0]), covariance).astype(np.float32)
    maps = np.stack([one, 0.5 * one - 1e-6])[None]  # heights and values below 0 change nothing
    given = torch.from_numpy(maps) if library == "torch" else maps
    keypoints, _ = codec.decode(given, CodecConfig(), INPUT_WH)
    found = np.asarray(codec.spread(given, keypoints, CodecConfig(), INPUT_WH))
    assert found.shape == (1, 2, 2, 2) and found.dtype == np.float32
    expected = 16 * (covariance + np.eye(2) / 12)
    np.testing.assert_allclose(found[0], [expected, expected], rtol=5e-3)


def test_torch_and_numpy_agree_and_every_matrix_can_be_inverted() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 5, 16, 12)).astype(np.float32)
    maps[0, 0], maps[0, 1] = -1, 0  # says nothing
    maps[0, 2] = 0
    maps[0, 2, 0, 0] = 1  # a single pixel in the corner
    keypoints, _ = codec.decode(maps, CodecConfig(), (48, 64))
    ours = codec.spread(maps, keypoints, CodecConfig(), (48, 64))
    other = codec.spread(
        torch.from_numpy(maps), torch.from_numpy(keypoints), CodecConfig(), (48, 64)
    )
    np.testing.assert_allclose(ours, other.numpy(), rtol=1e-3, atol=1e-2)
    assert (np.linalg.eigvalsh(ours) > 1).all()
    # the nothing of a map is as wide as the map, the single pixel as narrow as a pixel
    assert ours[0, 0, 0, 0] == pytest.approx(((np.arange(12) * 4) ** 2).mean() + 16 / 12, rel=1e-3)
    assert ours[0, 2, 0, 0] == pytest.approx(16 / 12, rel=1e-3)


def test_two_peaks_make_a_long_ellipse() -> None:
    one, far = np.array([12.0, 30.0]), np.array([36.0, 30.0])
    shape = np.eye(2) * 4
    maps = gaussian((48, 64), one, shape) + 0.8 * gaussian((48, 64), far, shape)
    maps = maps[None, None].astype(np.float32)
    keypoints, _ = codec.decode(maps, CodecConfig(), INPUT_WH)
    ((found,),) = codec.spread(maps, keypoints, CodecConfig(), INPUT_WH)
    assert found[0, 0] > 20 * found[1, 1]


def test_simcc_has_the_variances_of_its_two_rows() -> None:
    """By the sum over the bins, which stand at (b + .5) / 2 - .5 input pixels."""
    rules = CodecConfig(kind="simcc", decoder="argmax", sigma=3.0)
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.dirichlet(np.ones(64), (1, 2, 2)).astype(np.float32))
    outputs = rows.reshape(1, 2, 128)
    keypoints, _ = codec.decode(outputs, rules, (32, 32))
    found = codec.spread(outputs, keypoints, rules, (32, 32)).numpy()
    bins = (np.arange(64) + 0.5) / 2 - 0.5
    for keypoint in range(2):
        for axis in range(2):
            away = bins - float(keypoints[0, keypoint, axis])
            variance = float((rows[0, keypoint, axis].numpy() * away**2).sum()) + 0.25 / 12
            assert found[0, keypoint, axis, axis] == pytest.approx(variance, rel=1e-4)
    assert (found[..., 0, 1] == 0).all() and (found[..., 1, 0] == 0).all()


def test_the_quantile_line_is_the_one_it_was_made_with() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = 2 - 0.7 * x + rng.exponential(size=4000)
    slope, offset = fit_quantile(x, y, 0.9)
    assert slope == pytest.approx(-0.7, abs=0.1)
    assert offset == pytest.approx(2 + np.log(10), abs=0.1)  # quantile of the exponential
    assert (y <= slope * x + offset).mean() == pytest.approx(0.9, abs=1e-3)
    rising, _ = fit_quantile(x, x, 0.9)  # a surer keypoint never has a larger ellipse
    assert rising == pytest.approx(0, abs=1e-3)


def test_heavy_tails_are_covered_on_other_people() -> None:
    def people(seed: int) -> Matches:
        """Errors of normal people, times ten of one in eight (taken for somebody else)."""
        rng = np.random.default_rng(seed)
        scores = rng.uniform(0.05, 0.95, (900, 17))
        distances = rng.chisquare(2, scores.shape) * (1 - scores) / scores
        distances[rng.random(scores.shape) < 1 / 8] *= 100
        labelled = rng.random(scores.shape) < 0.7
        right = rng.random(scores.shape) < scores
        return Matches(scores, right, labelled, scores.mean(1), scores.mean(1), distances)

    calibration, held_out = fit(people(0), "made"), people(1)
    assert calibration.coverage(people(0)) == pytest.approx(COVERED, abs=1e-3)
    assert calibration.coverage(held_out) == pytest.approx(COVERED, abs=0.02)
    for low in (0.05, 0.35, 0.65):
        these = (held_out.keypoint_scores > low) & (held_out.keypoint_scores < low + 0.3)
        some = replace(held_out, labelled=held_out.labelled & these)
        assert calibration.coverage(some) == pytest.approx(COVERED, abs=0.03)
    without = fit(replace(people(0), distances=None), "made")
    assert without.spread_offset is None and np.isnan(without.coverage(held_out))


def test_distances_are_mahalanobis() -> None:
    truth = np.zeros((1, 17, 3))
    truth[..., :2], truth[..., 2] = 50, 2
    found = truth.copy()
    found[..., 0] += 3
    moments = np.tile(np.array([[4.0, 1.0], [1.0, 2.0]]), (1, 17, 1, 1))
    where, area = np.zeros(1, int), np.full(1, 900.0)
    matches = match_people(where, found, np.ones(1), where, truth, area, COCO_17.sigmas, moments)
    assert matches.distances == pytest.approx(np.full((1, 17), 9 * 2 / 7))


def estimator(calibration: Calibration | None) -> PoseEstimator:
    """Answers the same round peak for every crop, at (8, 8) of 16 x 16 maps."""
    one = gaussian((16, 16), np.array([8.0, 8.0]), np.eye(2) * 4).astype(np.float32)
    maps = torch.from_numpy(np.tile(one, (17, 1, 1)))
    spec = ModelSpec(preset="", schema=COCO_17, input_size_wh=(64, 64), calibration=calibration)
    return PoseEstimator(lambda pixels: maps.expand(len(pixels), -1, -1, -1), spec, flip_test=False)


def test_only_a_calibrated_network_gives_them_in_pixels_of_the_picture() -> None:
    image, boxes = np.zeros((90, 120, 3), np.uint8), [[10, 10, 50, 50], [10, 10, 90, 90]]
    raw, calibrated = estimator(None)(image, boxes), estimator(CURVES)(image, boxes)
    assert raw.covariances is None and not estimator(None).knows_covariances
    assert estimator(replace(CURVES, spread_offset=None))(image, boxes).covariances is None
    np.testing.assert_array_equal(raw.keypoints, calibrated.keypoints)
    assert calibrated.covariances is not None and calibrated.covariances.shape == (2, 17, 2, 2)
    # the crop of a box of 40 pixels is 50 wide: 64 / 50 input pixels a pixel; CURVES doubles
    variance = 2 * 16 * (4 + 1 / 12) * (50 / 64) ** 2
    spread = calibrated.covariances[:, 0]
    np.testing.assert_allclose(spread[0], np.eye(2) * variance, rtol=0.02, atol=0.3)
    np.testing.assert_allclose(spread[1], 4 * spread[0], rtol=0.01, atol=0.3)
    assert estimator(CURVES)(image, np.zeros((0, 4))).covariances is not None


def poses(**more: object) -> Poses:
    """One tracked person."""
    spread = np.tile(np.array([[100.0, 60.0], [60.0, 49.0]]), (1, 17, 1, 1))
    spread[0, 3] = np.nan
    keypoints = np.random.default_rng(2).uniform(20, 70, (1, 17, 2))
    box = [[5.0, 5.0, 80.0, 80.0]]
    return Poses(keypoints, np.full((1, 17), 0.9), box, [0.5], [7], covariances=spread, **more)


def test_they_are_checked_selected_and_written() -> None:
    one = poses()
    assert one[[0, 0]].covariances.shape == (2, 17, 2, 2)
    with pytest.raises(UserError, match="covariances"):
        replace(one, covariances=np.zeros((1, 16, 2, 2)))
    line = line_of(Frame(np.zeros((90, 90, 3), np.uint8)), one, 0)
    assert list(line.people[0].covariances[0]) == [100.0, 60.0, 49.0]  # xx, xy, yy
    np.testing.assert_array_equal(line.poses.covariances, one.covariances)
    assert b"covariances" not in line.with_poses(replace(one, covariances=None)).encoded()


def test_filled_poses_have_none() -> None:
    filled, added = fill_gaps([poses(), Poses.empty(17), poses()], max_gap=1)
    assert added[1].all() and np.isnan(filled[1].covariances).all()


def test_ellipses_are_drawn_where_nine_in_ten_lie() -> None:
    grey = np.full((90, 90, 3), 120, np.uint8)
    one = poses()
    spread = np.array([[64.0, 0.0], [0.0, 16.0]])
    alone = Poses([[[45.0, 40.0]]], [[1.0]], [[0.0, 0, 90, 90]], [1.0], None, spread[None, None])
    plain, drawn = draw_poses(grey, alone), draw_poses(grey, alone, ellipses=True)
    ys, xs = np.nonzero((drawn != plain).any(-1))
    radii = np.sqrt(ELLIPSE) * np.array([8, 4])
    assert (np.ptp(xs) / 2, np.ptp(ys) / 2) == pytest.approx(
        tuple(radii), abs=3.5
    )  # the line is wide
    assert (draw_poses(grey, one, ellipses=True) != draw_poses(grey, one)).any()
    nobody_knows = replace(one, covariances=None)
    np.testing.assert_array_equal(
        draw_poses(grey, nobody_knows, ellipses=True), draw_poses(grey, one)
    )


def test_the_published_network_on_real_people(real_data) -> None:
    """Fitted on one data set, scored on another: .9 of true positions are meant."""
    from simplepose.config import EvaluateConfig
    from simplepose.data.annotations import ground_truth_boxes
    from simplepose.data.coco import read_coco
    from simplepose.evaluation.top_down import estimate_boxes, match_estimates

    weights = real_data("weights_ultralight_simplepose/deploy.onnx")
    network = PoseEstimator.from_pretrained(weights, flip_test=False)

    def matches(folder: str, file: str, images: str) -> Matches:
        data: Path = real_data(folder)
        annotations = read_coco(data / file, data / images)
        boxes = ground_truth_boxes(annotations)
        estimates = estimate_boxes(network, annotations, boxes, covariances=True)
        return match_estimates(estimates, annotations, EvaluateConfig())

    calibration = fit(
        matches("coco_train2017_images160", "person_keypoints_train2017_160.json", "train2017"),
        "images160",
    )
    held_out = matches(
        "coco_val2017_visible150", "person_keypoints_val2017_visible150.json", "val2017"
    )
    assert len(held_out) == 374 and 0.87 <= calibration.coverage(held_out) <= 0.93
