"""Distillation: what a teacher adds to the target, and which teachers are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simplepose.config import CodecConfig, Config, ModelConfig, TrainConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, MPII_16, KeypointSchema
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint
from simplepose.pose.exported import ExportedNetwork
from simplepose.pose.network import PoseNetwork
from simplepose.training.distill import load_teacher
from simplepose.training.schedule import make_optimizer
from simplepose.training.step import TrainStep

MODEL = ModelConfig(backbone="resnet18", deconv_filters=4)


def save(
    path: Path,
    *,
    schema: KeypointSchema = COCO_17,
    size: tuple[int, int] = (64, 64),
    codec: CodecConfig | None = None,
) -> str:
    torch.manual_seed(0)
    codec = codec or CodecConfig()
    model = replace(MODEL, head="simcc") if codec.kind == "simcc" else MODEL
    network = PoseNetwork(model, len(schema), size)
    save_checkpoint(
        path,
        network,
        ModelSpec(preset="t", schema=schema, input_size_wh=size, codec=codec, model=model),
    )
    return str(path)


def student(teacher: str, **codec: object) -> Config:
    return Config(
        input_size_wh=(64, 64),
        model=MODEL,
        codec=CodecConfig(**codec),
        train=TrainConfig(teacher=teacher, teacher_fraction=0.25),  # type: ignore[arg-type]
    )


def test_no_teacher() -> None:
    assert load_teacher(Config(), COCO_17, torch.device("cpu")) is None


@pytest.mark.parametrize("kind", ["heatmap", "softmax"])
def test_the_target_is_a_blend(kind: str, tmp_path: Path) -> None:
    teacher = load_teacher(
        student(save(tmp_path / "t.safetensors"), kind=kind), COCO_17, torch.device("cpu")
    )
    assert teacher is not None
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    target = torch.rand(2, 17, 16, 16)
    nothing = torch.zeros_like(target)
    blended = teacher.blend(pixels, target)
    assert blended.shape == target.shape and not blended.requires_grad
    if kind == "heatmap":
        assert torch.allclose(blended - teacher.blend(pixels, nothing), 0.75 * target, atol=1e-6)
    else:
        ratio = blended.sum((2, 3)) / target.sum((2, 3))
        kept, alone = (
            (ratio - 1).abs() < 1e-3,
            (ratio - 0.75).abs() < 1e-3,
        )  # alone: the teacher's map has nothing above zero
        assert (kept | alone).all() and kept.float().mean() > 0.8
        assert not teacher.blend(pixels, nothing).any()  # an unlabelled keypoint stays empty


def test_a_teacher_may_see_larger_pictures_with_equal_maps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = replace(MODEL, deconv_layers=2)  # stride 8 at 128 = stride 4 at 64
    network = PoseNetwork(model, 17)
    save_checkpoint(
        tmp_path / "t.safetensors",
        network,
        ModelSpec(preset="t", schema=COCO_17, input_size_wh=(128, 128), model=model),
    )
    teacher = load_teacher(student(str(tmp_path / "t.safetensors")), COCO_17, torch.device("cpu"))
    assert teacher is not None
    assert teacher.blend(
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 17, 16, 16)
    ).shape == (1, 17, 16, 16)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"schema": MPII_16}, "16 keypoints"),
        ({"size": (96, 128)}, "24x32.*16x16"),
        ({"codec": CodecConfig(udp=True)}, "udp"),
        ({"codec": CodecConfig(kind="simcc")}, "simcc"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(made: dict, sentence: str, tmp_path: Path) -> None:
    config = student(save(tmp_path / "t.safetensors", **made))
    with pytest.raises(UserError, match=sentence):
        load_teacher(config, COCO_17, torch.device("cpu"))


class Elsewhere:
    """A tensor of another device: only `cpu()` brings it to where numpy can read it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def cpu(self) -> torch.Tensor:
        return self.tensor

    def __array__(self, *_: object, **__: object) -> None:
        raise TypeError("can't convert device type tensor to numpy. Use Tensor.cpu() first")


def test_an_onnx_teacher_takes_pixels_of_any_device(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    sides = (
        helper.make_tensor_value_info(name, floats, [1, 3, 64, 64]) for name in ("pixels", "maps")
    )
    graph = helper.make_graph(
        [helper.make_node("Relu", ["pixels"], ["maps"])], "teacher", *([side] for side in sides)
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "teacher.onnx",
    )
    pixels = torch.randn(1, 3, 64, 64)
    found = ExportedNetwork(tmp_path / "teacher.onnx")(Elsewhere(pixels))
    assert torch.equal(found, pixels.relu())


def test_missing_teacher_and_wrong_share(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors"):
        load_teacher(student(str(tmp_path / "none.safetensors")), COCO_17, torch.device("cpu"))
    config = student("x")
    with pytest.raises(UserError, match="teacher-fraction"):
        load_teacher(
            replace(config, train=replace(config.train, teacher_fraction=0.0)),
            COCO_17,
            torch.device("cpu"),
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_computes_in_the_precision_of_the_run(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cpu = student(save(tmp_path / "t.safetensors")), torch.device("cpu")
    teacher = load_teacher(config, COCO_17, cpu)
    assert teacher is not None
    network = torch.nn.Conv2d(3, 17, 5, 4, 2)
    step = TrainStep(
        network, make_optimizer(network, config.train), config, cpu, precision, teacher
    )
    seen: list[torch.dtype] = []
    answer = teacher.estimator.network
    monkeypatch.setattr(
        teacher.estimator,
        "network",
        lambda inputs: (maps := answer(inputs), seen.append(maps.dtype))[0],
    )
    loss = step.loss(
        torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        torch.rand(2, 17, 2) * 64,
        torch.ones(2, 17) > 0,
    )
    assert (
        seen == [torch.bfloat16 if precision == "bf16" else torch.float32]
        and loss.dtype == torch.float32
    )
