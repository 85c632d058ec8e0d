"""Export: the graphs, the gate that refuses, the command. A tiny random network on drawn people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_onnx import save_network

from simplepose import UserError
from simplepose.cli import main
from simplepose.commands import export
from simplepose.commands.options import parse
from simplepose.config import CodecConfig, EvaluateConfig, PixelConfig, load_preset
from simplepose.core.schema import COCO_17, KeypointSchema
from simplepose.data.coco import read_coco
from simplepose.data.source import boxes_to_test
from simplepose.detection.people import people_source
from simplepose.detection.trained import TrainedDetector
from simplepose.export import gate, poses
from simplepose.export.boxes import BoxSource
from simplepose.export.formats import FORMATS, write_calibrated
from simplepose.export.graph import OPSET, Material, onnx_of, onnx_with_free_batch
from simplepose.export.openvino import openvino_model
from simplepose.pose import codec
from simplepose.pose.calibration import Calibration
from simplepose.pose.checkpoints import LoadedModel, ModelSpec, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork
from simplepose.synthetic.dataset import write_synthetic_dataset

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CURVE = Calibration(
    keypoint_slope=1.5,
    keypoint_offset=-0.5,
    pose_slope=1.0,
    pose_offset=0.0,
    people=100,
    error_raw=0.1,
    error=0.05,
)


def tiny(**codec_: object) -> LoadedModel:
    """A narrow ResNet-18 for 64 x 64 pixels with random weights that answer differently."""
    config = load_preset("coco_r18_128x96_narrow_mini")
    model = replace(config.model, width=8, deconv_filters=16)
    rules = replace(config.codec, **codec_)
    if rules.kind == "simcc":
        model = replace(model, head="simcc", deconv_layers=0)
    torch.manual_seed(0)
    network = PoseNetwork(model, 17, (64, 64)).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(("deconv", "final", "head")):
                weight.mul_(1 if weight.dim() == 1 else 5 if rules.kind == "simcc" else 30)
        if rules.kind in ("heatmap", "softmax"):
            peak = network(torch.randn(4, 3, 64, 64)).abs().max()
            # a softmax has clear peaks as trained ones do: logits up to 20
            peak /= 20 if rules.kind == "softmax" else 1
            network.final_layer.weight.div_(peak)
            network.final_layer.bias.div_(peak)
    spec = ModelSpec(
        preset="tiny", schema=COCO_17, input_size_wh=(64, 64), codec=rules, model=model
    )
    return LoadedModel(network, spec)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, spec = tiny(decoder="dark", flip_shift="exact")
    path = tmp_path_factory.mktemp("run") / "tiny.safetensors"
    save_checkpoint(path, network, spec)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("drawn") / "data"
    write_synthetic_dataset(root, train_people=40, val_people=70)
    (annotations,) = (root / "annotations").glob("*val*.json")
    return ["--annotations", str(annotations), "--images", str(root / "images" / "val2017")]


CROPS = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("flip_test", [True, False])
@pytest.mark.parametrize(
    "rules",
    [
        {"decoder": "quarter", "flip_shift": "one_pixel"},
        {"decoder": "dark", "flip_shift": "exact"},
        {"decoder": "dark", "kind": "softmax", "udp": True},
        {"decoder": "dark", "kind": "simcc", "sigma": 4.0},
    ],
    ids=["quarter", "dark", "softmax", "simcc"],
)
def test_both_graphs_answer_as_the_estimator(
    tmp_path: Path, rules: dict[str, object], flip_test: bool
) -> None:
    model = tiny(**rules)
    network = PoseEstimator(*model, flip_test=flip_test)
    ties = poses.near_ties(network, CROPS)
    assert ties.mean() < 0.5
    for graph in ("keypoints", "heatmaps"):
        path = tmp_path / f"{graph}.onnx"
        onnx.save(onnx_of(model, graph, flip_test=flip_test), str(path))
        file = PoseEstimator.from_pretrained(path, flip_test=flip_test)
        assert file.spec == network.spec and file.network.fixed_batch == 0
        for count in gate.BATCHES:
            found, wanted = (one.in_crops(CROPS[:count]) for one in (file, network))
            far = np.linalg.norm(found[0] - wanted[0], axis=-1)
            assert far[~ties[:count]].max() <= poses.MOST_PIXELS
            np.testing.assert_allclose(found[1], wanted[1], atol=1e-4)


PLAIN = {"Conv", "Relu", "Add", "Identity"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("resnet", {"ConvTranspose", "BatchNormalization", "MaxPool"}),
        ("simcc", {"MaxPool", "Constant", "MatMul", "Concat", "Reshape", "Shape", "Slice"}),
        ("lite0", {"Constant", "Clip", "Resize"}),
    ],
)
def test_the_heatmap_file_is_opset_17_of_plain_layers(name: str, more: set[str]) -> None:
    model = tiny(**({"kind": "simcc", "sigma": 4.0} if name == "simcc" else {}))
    if name == "lite0":
        config = load_preset("coco_lite0_128x96_mini_modern").model
        network = PoseNetwork(config, 17, (64, 64)).eval()
        model = LoadedModel(network, replace(model.spec, model=config))
    proto = onnx_of(model, "heatmaps", flip_test=True)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == OPSET == 17
    # docs/export.md lists them for ATC
    assert {node.op_type for node in proto.graph.node} == PLAIN | more


def test_probabilities_are_those_of_the_calibration(tmp_path: Path) -> None:
    network, spec = tiny()
    model = LoadedModel(network, replace(spec, calibration=CURVE))
    path = tmp_path / "a.onnx"
    onnx.save(onnx_of(model, "keypoints", flip_test=False), str(path))
    file = PoseEstimator.from_pretrained(path, flip_test=False)
    answers = file.network.session.run({"crops": CROPS[:4]})
    wanted = CURVE.keypoints(answers["scores"])
    np.testing.assert_allclose(answers["probabilities"], wanted, atol=1e-5)
    assert "covariances" not in answers and not file.has_moments


@pytest.mark.parametrize("flip_test", [False, True])
def test_covariances_are_those_of_the_network(tmp_path: Path, flip_test: bool) -> None:
    network, spec = tiny()
    curve = replace(CURVE, spread_slope=-0.7, spread_offset=-1.3)
    model = LoadedModel(network, replace(spec, calibration=curve))
    path = tmp_path / "a.onnx"
    onnx.save(onnx_of(model, "keypoints", flip_test=flip_test), str(path))
    whole = PoseEstimator(*model, flip_test=flip_test)
    file = PoseEstimator.from_pretrained(path, flip_test=flip_test)
    _, scores, moments, _ = whole.in_crops(CROPS[:3], covariances=True)
    wanted = curve.covariances(moments, scores)
    answers = file.network.session.run({"crops": CROPS[:3]})
    np.testing.assert_allclose(answers["covariances"], wanted, rtol=1e-3, atol=1e-2)
    boxes = [[4, 4, 60, 60], [0, 0, 90, 70]]
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    ours, theirs = whole(image, boxes).covariances, file(image, boxes).covariances
    np.testing.assert_allclose(theirs, ours, rtol=1e-2, atol=1e-2)


def altered(how: str, model: LoadedModel) -> tuple[LoadedModel, ModelSpec]:
    """A network that is not quite the one it says it is."""
    network, spec = model
    wrong = spec
    if how == "colours":
        wrong = replace(spec, pixels=replace(spec.pixels, channel_order="bgr"))
    return LoadedModel(network, wrong), spec


@pytest.mark.parametrize("how", ["colours", "half a pixel", "fixed batch", "metadata", "none"])
def test_the_gate_refuses(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(decoder="dark", flip_shift="exact")
    wrong, spec = altered(how, model)
    if how == "half a pixel":
        right = codec.decode
        monkeypatch.setattr(
            codec, "decode", lambda *a: (right(*a)[0] + 0.5, right(*a)[1]), raising=True
        )
    proto = onnx_of(wrong, "keypoints", flip_test=True)
    monkeypatch.undo()
    if how == "fixed batch":
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 2
    said = replace(spec, codec=replace(spec.codec, sigma=3.0)) if how == "metadata" else spec
    onnx.helper.set_model_props(proto, {"simplepose": said.to_json(), "simplepose_flip_test": "1"})
    path = tmp_path / "a.onnx"
    onnx.save(proto, str(path))
    source = poses.PoseSource(PoseEstimator(*model))
    found = gate.examine(source, path, "fp32", timed=False)
    refused = [check.name for check in found.refused]
    expected = {
        "colours": "scores",
        "half a pixel": "keypoints",
        "fixed batch": "batch",
        "metadata": "metadata",
    }
    assert expected[how] in refused if how in expected else not refused, found.table()


def test_the_command_writes_a_file_that_every_command_opens(
    weights: Path, people: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.onnx"
    words = ["export", str(weights), "--format", "onnx", *people, "--answers"]
    assert main([*words, "--output", str(output)]) == 0
    assert "REFUSED" not in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "tiny.onnx",
        "tiny.onnx.answers.npz",
        "tiny.onnx.parity.json",
    ]
    record = json.loads((tmp_path / "tiny.onnx.parity.json").read_text())
    assert record["network"].keys() == record["file"].keys() and record["flip_test"]
    answers = np.load(tmp_path / "tiny.onnx.answers.npz")
    found = PoseEstimator.from_pretrained(weights, precision="fp32", device="cpu").in_crops(
        answers["crops"]
    )
    np.testing.assert_allclose(answers["scores"], found[1], atol=1e-4)
    assert main(["evaluate", str(output), *people, "--boxes", "gt"]) == 0
    capsys.readouterr()
    foreign = save_network(tmp_path / "foreign.onnx")
    assert main(["evaluate", str(output), *people, "--boxes", str(foreign)]) == 2
    assert "foreign.onnx is a network of another program" in capsys.readouterr().err
    photo = next(Path(people[3]).iterdir())
    predict = ["predict", str(photo), "--weights", str(output), "--boxes", "whole"]
    assert main([*predict, "--output", str(tmp_path / "out")]) == 0
    assert main([*words, "--output", str(output)]) == 2
    assert " exists" in capsys.readouterr().err


def test_without_annotations_it_compares_numbers_only(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(weights), "--format", "cann", "--output", str(tmp_path / "a.onnx")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "numbers only" in printed.err
    assert '--input_shape="pixels:-1,3,64,64"' in printed.out
    assert "network" not in json.loads((tmp_path / "a.onnx.parity.json").read_text())


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["export", *words]) == 2
    return capsys.readouterr().err


def test_bad_input_is_one_sentence(
    weights: Path,
    people: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    assert "best.safetensors" in refusal([str(tmp_path / "empty"), "--format", "onnx"], capsys)
    assert "--format is onyx" in refusal([str(weights), "--format", "onyx"], capsys)
    other = json.loads(Path(people[1]).read_text())
    other["categories"][0]["keypoints"][0] = "chin"
    (tmp_path / "other.json").write_text(json.dumps(other))
    wrong = ["--annotations", str(tmp_path / "other.json"), *people[2:]]
    out = ["--output", str(tmp_path / "o.onnx")]
    assert "keypoints" in refusal([str(weights), "--format", "onnx", *wrong, *out], capsys)
    proto = onnx_of(tiny(), "heatmaps", flip_test=False)
    onnx.save(proto, str(tmp_path / "source.onnx"))
    source = [str(tmp_path / "source.onnx"), "--format", "onnx", *out]
    assert "source.onnx" in refusal(source, capsys)

    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"simplepose\[export\]"):
        export.run(parse("export", [str(weights), "--format", "onnx", *out]))
    assert not (tmp_path / "o.onnx").exists()


def test_a_full_disk_leaves_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    options = parse(
        "export", [str(weights), "--format", "onnx", "--output", str(tmp_path / "a.onnx")]
    )
    with pytest.raises(UserError, match=r"a\.onnx: No space left"):
        export.run(options)
    assert not list(tmp_path.iterdir())


def test_an_old_file_of_another_program_gets_a_free_batch(tmp_path: Path) -> None:
    proto = onnx_of(tiny(), "heatmaps", flip_test=False)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "fixed.onnx"
    onnx.save(proto, str(path))
    spec = replace(tiny().spec, model=None, codec=CodecConfig())
    onnx.save(onnx_with_free_batch(path, spec), str(tmp_path / "free.onnx"))
    fixed, free = (
        PoseEstimator.from_pretrained(one, flip_test=False)
        for one in (path, tmp_path / "free.onnx")
    )
    assert (fixed.network.fixed_batch, free.network.fixed_batch) == (1, 0)
    assert free.spec == spec
    np.testing.assert_allclose(fixed.heatmaps(CROPS[:3]), free.heatmaps(CROPS[:3]), atol=1e-5)


def test_pictures_of_the_test_are_not_for_int8(people: list[str], tmp_path: Path) -> None:
    scored = read_coco(people[1], people[3])
    copy = tmp_path / "another_name.png"
    copy.write_bytes(Path(scored.image_paths[5]).read_bytes())
    paths = (str(copy), *scored.image_paths[1:])
    other = replace(scored, image_paths=paths)
    with pytest.raises(UserError, match="another_name"):
        gate.require_other_pictures(other, scored)


def rtmpose_file(path: Path, keypoints: np.ndarray, peaks: np.ndarray) -> Path:
    """A two-output network of 64 x 64 pixels that always answers these rows of RTMPose's form.

    Args:
        path: the file.
        keypoints: (K, 2) in crop pixels.
        peaks: (K, 2) heights of the rows.
    """
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    bins = np.arange(128, dtype=np.float32)
    rows = np.exp(-0.5 * ((keypoints[..., None] * 2 - bins) / 4.9) ** 2) * peaks[..., None]
    nodes = [
        helper.make_node("Slice", ["input", "zero", "one", "one"], ["thin"]),
        helper.make_node("ReduceMean", ["thin"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        helper.make_node("Squeeze", ["nothing", "three"], ["flat"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([number], np.int64), name)
        for name, number in (("zero", 0), ("one", 1), ("three", 3))
    ]
    for axis, name in enumerate(("simcc_x", "simcc_y")):
        weights.append(numpy_helper.from_array(rows[None, :, axis].astype(np.float32), name + "_"))
        nodes.append(helper.make_node("Add", ["flat", name + "_"], [name]))
    value, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "rtmpose",
        [value("input", kind, ["batch", 3, 64, 64])],
        [value(name, kind, ["batch", len(keypoints), 128]) for name in ("simcc_x", "simcc_y")],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


def test_a_published_network_of_two_rows_opens(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    keypoints = np.round(rng.uniform(2, 60, (17, 2)) * 2) / 2  # RTMPose's bins: half pixels
    peaks = rng.uniform(0.3, 1, (17, 2))
    path = rtmpose_file(tmp_path / "rtmpose.onnx", keypoints, peaks)
    plain = PoseEstimator.from_pretrained(path, flip_test=False)
    assert plain.spec.codec.kind == "rtmpose"
    found, scores, *_ = plain.in_crops(CROPS[:3])
    # MMPose's get_simcc_maximum: argmax / split ratio, the lower of the two peaks
    np.testing.assert_allclose(found[2], keypoints, atol=1e-5)
    np.testing.assert_allclose(scores[2], peaks.min(1), atol=1e-5)
    # a figure that is its own mirror is where it was with the flip test too
    order, mirrored = plain.schema.flip_order, keypoints.copy()
    mirrored[order[order > np.arange(17)], 0] = 63 - keypoints[order > np.arange(17), 0]
    mirrored[order[order > np.arange(17)], 1] = keypoints[order > np.arange(17), 1]
    mirrored[order == np.arange(17), 0] = 31.5
    path = rtmpose_file(tmp_path / "mirror.onnx", mirrored, np.ones((17, 2)))
    found, *_ = PoseEstimator.from_pretrained(path).in_crops(CROPS[:1])
    np.testing.assert_allclose(found[0], mirrored, atol=1e-5)


@pytest.mark.parametrize("form", ["onnx-int8", "openvino", "openvino-bf16", "openvino-int8"])
def test_other_formats_pass_the_gate_and_open(
    weights: Path,
    people: list[str],
    tmp_path: Path,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if form.startswith("openvino"):
        monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
        pytest.importorskip("openvino")
        pytest.importorskip("nncf")
        # ranking the layers of a random network says nothing and takes minutes
        monkeypatch.setattr("simplepose.export.openvino.AGREEMENT", 0.0)
    root = tmp_path / "ranges"
    write_synthetic_dataset(root, train_people=40, val_people=1, seed=5)
    (ranges,) = (root / "annotations").glob("*train*.json")
    int8 = ["--int8.annotations", str(ranges), "--int8.images", str(root / "images/train2017")]
    output = tmp_path / f"a{FORMATS[form].ending}"
    words = ["export", str(weights), "--format", form, *people, *int8, "--output", str(output)]
    assert main([*words, "--int8.people", "32", "--no-flip-test"]) == 0
    file = PoseEstimator.from_pretrained(output, flip_test=False)
    network = PoseEstimator.from_pretrained(
        weights, precision="fp32", device="cpu", flip_test=False
    )
    assert file.spec == network.spec and file.network.decodes
    if form == "openvino":
        found, wanted = (one.in_crops(CROPS[:3])[1] for one in (file, network))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_executorch_passes_the_gate_and_opens(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("executorch.runtime")
    output = tmp_path / "a.pte"
    words = ["export", str(weights), "--format", "executorch", "--output", str(output)]
    assert main(words) == 0
    file = PoseEstimator.from_pretrained(output)
    network = PoseEstimator.from_pretrained(weights, precision="fp32", device="cpu")
    assert file.spec == network.spec and not file.network.decodes
    # more crops than the file has room for
    np.testing.assert_allclose(file.heatmaps(CROPS), network.heatmaps(CROPS), atol=1e-4)


def test_core_ml_is_written_and_said_to_be_unverified(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coremltools")
    output = tmp_path / "a.mlpackage"
    words = ["export", str(weights), "--format", "coreml", "--output", str(output)]
    assert main(words) == 0
    assert "NOT VERIFIED" in capsys.readouterr().err
    assert output.is_dir() and not (tmp_path / "a.mlpackage.parity.json").exists()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with random weights that finds something everywhere."""
    config = load_preset("person_lite0_320")
    torch.manual_seed(0)
    network = PoseNetwork(config.model, 1, (96, 96)).eval()
    with torch.no_grad():
        maps = network(torch.randn(2, 3, 96, 96))
        network.head.output.weight.mul_(2 / maps[:, :1].std())
        network.head.box_output.weight.mul_(0.5 / maps[:, 1:].std())
    spec = ModelSpec(
        preset="tiny",
        schema=KeypointSchema(name="classes", keypoints=("coco_17",)),  # as drawn people are called
        input_size_wh=(96, 96),
        pixels=config.pixels,
        model=config.model,
    )
    path = tmp_path_factory.mktemp("detector") / "tiny.safetensors"
    save_checkpoint(path, network, spec)
    return path


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_detector_leaves_and_opens_as_boxes(
    detector: Path, people: list[str], tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    output = tmp_path / f"a{FORMATS[form].ending}"
    words = ["export", str(detector), "--format", form, *people, "--output", str(output)]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "REFUSED" not in table and "\nAP " in table
    file, network = (
        people_source(path, score_threshold=0.05, device="cpu") for path in (output, detector)
    )
    rng = np.random.default_rng(0)
    for shape in ((60, 400, 3), (333, 100, 3)):  # the narrowest inputs
        image = rng.integers(0, 256, shape).astype(np.uint8)
        found, wanted = file(image), network(image)
        assert len(wanted) and len(found) == len(wanted)
        np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.05)
    assert main(["evaluate", str(output), *people]) == 0
    photo = next(Path(people[3]).iterdir())
    assert main(["predict", str(photo), "--weights", str(output), "--boxes", "whole"]) == 2
    assert "give it as --boxes" in capsys.readouterr().err


def test_another_detector_under_its_description_is_refused(detector: Path, tmp_path: Path) -> None:
    network = TrainedDetector.from_pretrained(detector, device="cpu")
    model = LoadedModel(network.network, replace(network.spec, pixels=PixelConfig(mean=(0, 0, 0))))
    proto = onnx_of(model, "boxes", flip_test=False)
    onnx.helper.set_model_props(proto, {"simplepose": network.spec.to_json()})
    onnx.save(proto, str(tmp_path / "a.onnx"))
    found = gate.examine(BoxSource(network), tmp_path / "a.onnx", "fp32", timed=False)
    assert [check.name for check in found.refused] == ["boxes"]


def test_what_a_detector_cannot_become_is_one_sentence(
    detector: Path, people: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "a.onnx")]
    assert "detector" in refusal([str(detector), "--format", "cann", *out], capsys)
    words = [str(detector), "--format", "onnx", "--graph", "heatmaps", *out]
    assert "detector" in refusal(words, capsys)
    assert main(["export", str(detector), "--format", "onnx", *out]) == 0
    again = [out[1], "--format", "onnx", "--output", str(tmp_path / "b.onnx")]
    assert "exported already" in refusal(again, capsys)


def test_the_gate_refuses_int8_by_the_usual_recipe(
    tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    """NNCF's default on the starter network: every layer in int8, no accuracy control."""
    scored, ranges = map(real_data, ("coco_val2017_visible150", "coco_train2017_images160"))
    sys.modules.setdefault("openvino_telemetry", None)
    nncf, openvino = pytest.importorskip("nncf"), pytest.importorskip("openvino")
    network = PoseEstimator.from_pretrained("starter", device="cpu", flip_test=False)
    source = poses.PoseSource(network, some_of(scored, 40))
    crops = some_of(ranges, 20).crops(network, 32)
    model = LoadedModel(network.network, network.spec)
    proto = onnx_of(model, "keypoints", flip_test=False)
    material = Material(proto, "keypoints", network.spec, model, crops)
    rows = nncf.Dataset(range(len(crops)), lambda row: crops[row : row + 1])
    quantised = nncf.quantize(openvino_model(material), rows, subset_size=len(crops))
    quantised.set_rt_info(network.spec.to_json(), "simplepose")
    openvino.save_model(quantised, tmp_path / "a.xml", compress_to_fp16=False)
    found = gate.examine(source, tmp_path / "a.xml", "int8", timed=False)
    assert [check.name for check in found.refused] == ["AP"], found.table()


def some_of(folder: Path, pictures: int) -> poses.Scored:
    """The people of a data set's first pictures that have people."""
    (path,) = folder.glob("person_keypoints_*.json")
    content = json.loads(path.read_text())
    wanted = sorted({row["image_id"] for row in content["annotations"]})[:pictures]
    content["images"] = [one for one in content["images"] if one["id"] in wanted]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in wanted]
    (images,) = (one for one in folder.iterdir() if one.is_dir())
    annotations = read_coco(content, images)
    config = EvaluateConfig(flip_test=False)
    return poses.Scored(annotations, boxes_to_test("gt", annotations, ""), config)


def test_only_the_processor_compares(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(weights), "--format", "onnx", "--output", str(tmp_path / "a.onnx")]
    assert "--device" in refusal([*words, "--device", "cuda"], capsys)


def test_a_package_of_another_distribution_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def unknown(name: str) -> str:
        raise export.PackageNotFoundError(name)

    monkeypatch.setattr(export, "version", unknown)
    assert export._version("onnxruntime") == onnxruntime.__version__


def test_int8_needs_a_score_and_other_pictures(
    weights: Path, people: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(weights), "--format", "onnx-int8", "--output", str(tmp_path / "a.onnx")]
    assert "--annotations" in refusal(words, capsys)
    assert "--int8.annotations" in refusal([*words, *people], capsys)
    same = ["--int8.annotations", people[1], "--int8.images", people[3]]
    assert "scored too" in refusal([*words, *people, *same], capsys)
    assert not list(tmp_path.iterdir())


def test_what_is_inside_a_file_cannot_be_changed_by_options(
    weights: Path, people: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = PoseEstimator.from_pretrained(weights, precision="fp32", device="cpu")
    path = tmp_path / "a.onnx"
    proto = onnx_of(LoadedModel(model.network, model.spec), "keypoints", flip_test=True)
    onnx.save(proto, str(path))
    assert main(["evaluate", str(path), *people, "--decoder", "argmax"]) == 2
    assert "--decoder" in capsys.readouterr().err
    with pytest.raises(UserError, match="keypoints"):
        PoseEstimator.from_pretrained(path).heatmaps(CROPS[:1])


def test_calibrated_files_keep_their_curve(weights: Path, tmp_path: Path) -> None:
    model = PoseEstimator.from_pretrained(weights, precision="fp32", device="cpu")
    spec = replace(model.spec, calibration=CURVE)
    plain, calibrated = tmp_path / "a.onnx", tmp_path / "b.onnx"
    proto = onnx_of(LoadedModel(model.network, model.spec), "keypoints", flip_test=True)
    onnx.save(proto, str(plain))
    write_calibrated(plain, calibrated, spec)
    assert PoseEstimator.from_pretrained(calibrated).spec == spec
    inside = onnx_of(LoadedModel(model.network, spec), "keypoints", flip_test=True)
    onnx.save(inside, str(plain))
    with pytest.raises(UserError, match="probabilities"):
        write_calibrated(plain, calibrated, model.spec)
