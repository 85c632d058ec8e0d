"""The visibility head: what it learns, what it leaves alone, and its way to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simplepose.config import Config, ModelConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.core.lines import Line, line_of
from simplepose.core.schema import COCO_17
from simplepose.core.structures import VISIBILITY, Frame, Poses
from simplepose.data.loader import Batch
from simplepose.pose.calibration import (
    Matches,
    fit,
    fit_temperature,
    tempered,
    visibility_measures,
)
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork
from simplepose.pose.visibility import VisibilityHead, visibility_loss
from simplepose.tracking.smooth import fill_gaps
from simplepose.training.schedule import make_optimizer
from simplepose.training.start import load_weights
from simplepose.training.step import TrainStep
from simplepose.video.outputs import write_table

SIZE_WH = (64, 64)
FLIPPED = COCO_17.flip_order


def config(*, seen: bool = True) -> Config:
    """A narrow network."""
    one = load_preset("coco_r18_128x96_narrow_mini")
    return replace(one, input_size_wh=SIZE_WH, model=replace(one.model, width=8, visibility=seen))


def network(*, seen: bool = True) -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(config(seen=seen).model, 17, SIZE_WH)


def step(one: PoseNetwork, settings: Config) -> TrainStep:
    optimizer = make_optimizer(one, settings.train)
    return TrainStep(one, optimizer, settings, torch.device("cpu"), "fp32")


def batch(count: int = 8) -> Batch:
    """Dark crops where the keypoints are hidden, light ones where they are seen."""
    seen = torch.arange(count) % 2 == 0
    pixels = torch.where(seen, 220, 30).to(torch.uint8)[:, None, None, None]
    pixels = pixels.expand(count, 3, *SIZE_WH).contiguous()
    keypoints = torch.full((count, 17, 2), 30.0)
    keypoints[:, 0] = -20  # outside: absent, whatever the annotation says
    visibility = torch.where(seen, 2, 1).to(torch.uint8)[:, None].repeat(1, 17)
    return Batch(pixels, keypoints, visibility, np.arange(count))


def test_without_the_head_a_network_is_what_it_was() -> None:
    plain, seen = network(seen=False), network()
    assert plain.visibility is None and not any("visib" in name for name in plain.state_dict())
    own = seen.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_the_pose_is_trained_as_without_it() -> None:
    plain, seen = network(seen=False), network()
    steps = step(plain, config(seen=False)), step(seen, config())
    losses = [[float(one(batch(), 1e-3, n)) for n in range(4)] for one in steps]
    own = seen.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, own[name]), name
    assert all(with_head > without for without, with_head in zip(*losses, strict=True))
    assert own["visibility.what.weight"].abs().sum() > 0


def test_it_learns_who_is_seen() -> None:
    one = network().train()
    learns = step(one, config())
    for count in range(120):
        learns(batch(), 5e-3, count)
    pixels = batch().pixels.float() / 127 - 1
    with torch.no_grad():
        _, logits = one(pixels, visibility=True)
    classes = logits.argmax(-1)
    assert (classes[:, 0] == 0).all(), "outside of the crop is absent"
    assert (classes[::2, 1:] == 2).all() and (classes[1::2, 1:] == 1).all()


def test_the_loss_is_the_cross_entropy_and_halves_average() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 17, 3, generator=generator)
    one = batch(6)
    arguments = logits, one.keypoints, one.visibility
    whole = visibility_loss(*arguments, SIZE_WH)
    expected = []
    for person in range(6):
        for keypoint in range(17):
            wanted = 0 if keypoint == 0 else int(one.visibility[person, keypoint])
            values = logits[person, keypoint].double().exp()
            expected.append(-float((values[wanted] / values.sum()).log()))
    assert float(whole) == pytest.approx(np.mean(expected), rel=1e-5)
    halves = [
        visibility_loss(*(a[rows] for a in arguments), SIZE_WH) for rows in (slice(3), slice(3, 6))
    ]
    assert float(sum(halves)) / 2 == pytest.approx(float(whole), rel=1e-5)


def test_each_keypoint_looks_where_it_wants() -> None:
    head = VisibilityHead(2, 1)
    with torch.no_grad():
        head.where.weight[0, 1] = 50.0  # looks where channel 1 is large
        head.what.weight[2, 0] = 1.0  # visible as channel 0 says
    features = torch.zeros(1, 2, 3, 4)
    features[0, 1, 2, 3], features[0, 0, 2, 3], features[0, 0, 0, 0] = 1, 7, -90
    assert head(features)[0, 0].tolist() == pytest.approx([0, 0, 7], abs=1e-4)


def with_random_head(calibration: object = None) -> tuple[PoseNetwork, ModelSpec]:
    one = network().eval()
    with torch.no_grad():
        for parameter in one.visibility.parameters():
            parameter.normal_(std=0.5)
    spec = ModelSpec(
        preset="",
        schema=COCO_17,
        input_size_wh=SIZE_WH,
        model=config().model,
        calibration=calibration,
    )
    return one, spec


CROPS = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)


def test_the_flip_test_averages_logits_of_both_sides(tmp_path: Path) -> None:
    plain, both = (PoseEstimator(*with_random_head(), flip_test=flip) for flip in (False, True))
    one, other = (
        plain.in_crops(CROPS).visibility,
        plain.in_crops(CROPS[:, :, ::-1].copy()).visibility,
    )
    logits = (np.log(one) + np.log(other[:, FLIPPED])) / 2
    # the mirrored input is moved by stride - 1 pixels with the exact shift only
    assert both.spec.codec.flip_shift == "one_pixel"
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = both.in_crops(CROPS).visibility
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert both.estimate_crops(CROPS[:0], np.zeros((0, 2, 3))).visibility.shape == (0, 17, 3)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, *with_random_head())
    again = PoseEstimator.from_pretrained(path, device="cpu", precision="fp32")
    assert again.spec.model.visibility and again.knows_visibility
    np.testing.assert_allclose(again.in_crops(CROPS).visibility, found, atol=1e-5)


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_exported_graph_has_it_calibrated(tmp_path: Path, flip_test: bool) -> None:
    onnx = pytest.importorskip("onnx", reason="exports need the package onnx")
    from simplepose.export.graph import onnx_of
    from simplepose.pose.checkpoints import LoadedModel

    curve = calibrated(1.7)
    model, path = LoadedModel(*with_random_head(curve)), tmp_path / "a.onnx"
    onnx.save(onnx_of(model, "keypoints", flip_test=flip_test), str(path))
    file = PoseEstimator.from_pretrained(path, flip_test=flip_test)
    whole = PoseEstimator(*model, flip_test=flip_test)
    raw = whole.in_crops(CROPS).visibility
    answers = file.network.session.run({"crops": CROPS})
    np.testing.assert_allclose(answers["visibility"], curve.visibility(raw), atol=1e-4)
    np.testing.assert_allclose(file.in_crops(CROPS).visibility, raw, atol=1e-4)
    image, boxes = np.tile(CROPS[0], (2, 2, 1)), [[4, 4, 60, 60]]
    np.testing.assert_allclose(
        file(image, boxes).visibility, whole(image, boxes).visibility, atol=1e-4
    )
    heatmaps = tmp_path / "b.onnx"
    onnx.save(onnx_of(model, "heatmaps", flip_test=False), str(heatmaps))
    assert PoseEstimator.from_pretrained(heatmaps)(image, boxes).visibility is None


def test_a_calibration_that_came_after_the_export_is_not_undone(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="exports need the package onnx")
    from simplepose.export.formats import write_calibrated
    from simplepose.export.graph import onnx_of
    from simplepose.pose.checkpoints import LoadedModel

    curve, (plain, later) = calibrated(1.7), (tmp_path / name for name in ("a.onnx", "b.onnx"))
    model = LoadedModel(*with_random_head())
    onnx.save(onnx_of(model, "keypoints", flip_test=True), str(plain))
    write_calibrated(plain, later, replace(model.spec, calibration=curve))
    raw = PoseEstimator.from_pretrained(plain, device="cpu").in_crops(CROPS).visibility
    file = PoseEstimator.from_pretrained(later, device="cpu")
    np.testing.assert_array_equal(file.in_crops(CROPS).visibility, raw)
    image, boxes = np.tile(CROPS[0], (2, 2, 1)), [[4, 4, 60, 60]]
    whole = PoseEstimator(*with_random_head(curve))
    np.testing.assert_allclose(
        file(image, boxes).visibility, whole(image, boxes).visibility, atol=1e-4
    )


def people(count: int = 400) -> Matches:
    """Softmax twice as sure as it may be."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, 17, 3)) * 1.5
    true = tempered(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 1)
    drawn = (true.cumsum(-1) < rng.random((count, 17, 1))).sum(-1)
    scores = rng.uniform(0.1, 0.9, (count, 17))
    return Matches(
        scores,
        rng.random(scores.shape) < scores,
        drawn > 0,
        scores.mean(1),
        scores.mean(1),
        visibility=tempered(true, 0.5),
        annotated_visibility=drawn,
    )


def calibrated(temperature: float):
    return replace(fit(people(120), "made"), visibility_temperature=temperature)


def test_the_temperature_is_the_one_that_was_planted() -> None:
    held_out = people()
    assert fit_temperature(held_out.visibility, held_out.annotated_visibility) == pytest.approx(
        2, abs=0.1
    )
    curve = fit(held_out, "made")
    assert curve.visibility_temperature == pytest.approx(2, abs=0.1)
    assert fit(replace(held_out, visibility=None), "made").visibility_temperature is None
    before = visibility_measures(held_out)
    after = visibility_measures(replace(held_out, visibility=curve.visibility(held_out.visibility)))
    assert after["visibility_error"] < 0.02 < before["visibility_error"]
    assert after["visibility_accuracy"] == before["visibility_accuracy"]
    assert visibility_measures(replace(held_out, visibility=None)) == {}


def test_measures_by_hand() -> None:
    truth = np.array([[2, 1, 0], [2, 2, 0], [1, 2, 0]])
    seen = np.full((3, 3, 3), 0.1)
    for person, keypoint, said in (
        (0, 0, 2),
        (0, 1, 2),
        (0, 2, 0),
        (1, 0, 2),
        (1, 1, 2),
        (1, 2, 0),
    ):
        seen[person, keypoint, said] = 0.8
    seen[2, 0, 1], seen[2, 1, 2], seen[2, 2, 1] = 0.8, 0.8, 0.8
    nothing = np.zeros((3, 3))
    found = visibility_measures(
        Matches(nothing, nothing > 0, truth > 0, nothing[0], nothing[0], None, seen, truth)
    )
    assert found["visibility_accuracy"] == pytest.approx(7 / 9)
    assert found["visibility_majority"] == pytest.approx((2 + 2 + 3) / 9)
    # 4 visible beside 2 hidden ones: one hidden is told as visible as they are (half a pair each)
    assert found["visibility_auc"] == pytest.approx((4 + 4 * 0.5) / 8)


def poses(**more: object) -> Poses:
    seen = np.random.default_rng(1).dirichlet(np.ones(3), (1, 17))
    keypoints = np.random.default_rng(2).uniform(20, 70, (1, 17, 2))
    box = [[5.0, 5.0, 80.0, 80.0]]
    return Poses(keypoints, np.full((1, 17), 0.9), box, [0.5], [7], visibility=seen, **more)


def test_it_is_checked_selected_written_and_filled() -> None:
    one = poses(schema=COCO_17)
    assert one[[0, 0]].visibility.shape == (2, 17, 3)
    with pytest.raises(UserError, match="visibility"):
        replace(one, visibility=np.zeros((1, 17, 2)))
    line = line_of(Frame(np.zeros((90, 90, 3), np.uint8)), one, 0)
    np.testing.assert_allclose(line.poses.visibility, one.visibility, atol=6e-4)
    assert b"visibility" not in line.with_poses(replace(one, visibility=None)).encoded()
    filled, added = fill_gaps([one, Poses.empty(17), one], max_gap=1)
    assert added[1].all() and np.isnan(filled[1].visibility).all()


def test_tables_have_columns_of_what_is_known(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="tables need pandas")
    spread = np.tile(np.array([[9.0, 2.0], [2.0, 4.0]]), (1, 17, 1, 1))
    one = poses(covariances=spread, schema=COCO_17)
    one.save(tmp_path / "a.csv")
    table = pandas.read_csv(tmp_path / "a.csv")
    assert list(table.columns)[6:] == ["xx", "xy", "yy", *VISIBILITY]
    assert (table[["xx", "xy", "yy"]] == [9, 2, 4]).all(axis=None)
    np.testing.assert_allclose(table[list(VISIBILITY)], one.visibility[0], atol=1e-6)
    nobody = Line(0, 0.0, "a.mp4", 0, 90, 90, [])
    lines = [nobody, nobody.with_poses(one), nobody.with_poses(replace(one, visibility=None))]
    write_table(tmp_path / "b.csv", lines, COCO_17)
    wide = pandas.read_csv(tmp_path / "b.csv")
    assert wide.shape == (2, 11 + 17 * 9) and (wide["nose_xy"] == 2).all()
    assert wide["nose_hidden"][0] == pytest.approx(one.visibility[0, 0, 1], abs=1e-3)
    assert np.isnan(wide["nose_hidden"][1])
    assert len(replace(one, visibility=None, covariances=None).to_pandas().columns) == 6


def test_fine_tuning_gives_and_takes_the_head(tmp_path: Path) -> None:
    seen, without = tmp_path / "seen.safetensors", tmp_path / "without.safetensors"
    save_checkpoint(seen, *with_random_head())
    plain = network(seen=False)
    spec = ModelSpec(
        preset="", schema=COCO_17, input_size_wh=SIZE_WH, model=config(seen=False).model
    )
    save_checkpoint(without, plain, spec)

    def start(one: PoseNetwork, settings: Config, file: Path) -> str:
        settings = replace(settings, train=replace(settings.train, weights=str(file)))
        return " ".join(load_weights(one, COCO_17, settings))

    target = network()
    assert "left out" not in start(target, config(), seen)
    assert torch.equal(
        target.visibility.what.weight, load_model(seen).network.visibility.what.weight
    )
    target = network()
    start(target, config(), without)
    assert not target.visibility.what.weight.any(), "a new head begins at 0"
    assert "left out: visibility." in start(network(seen=False), config(seen=False), seen)


def test_a_detector_has_none() -> None:
    with pytest.raises(UserError, match="model.visibility"):
        ModelConfig(head="boxes", visibility=True)
