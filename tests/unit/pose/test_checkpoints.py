"""Weight files carry what is needed to use them, and say so when they cannot be used."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from simplepose import COCO_17, CROWDPOSE_14, UserError, load_model
from simplepose.commands.options import parse
from simplepose.config import CodecConfig, ModelConfig, PixelConfig
from simplepose.pose.checkpoints import (
    ModelSpec,
    find_weights,
    load_tensors,
    read_checkpoint,
    read_spec,
    require_schema,
    save_checkpoint,
)
from simplepose.pose.network import PoseNetwork

MODEL = ModelConfig(backbone="resnet18", deconv_filters=8)


def spec() -> ModelSpec:
    return ModelSpec(
        preset="mine",
        schema=COCO_17,
        input_size_wh=(96, 128),
        pixels=PixelConfig(channel_order="bgr", mean=(1.0, 2.0, 3.0)),
        codec=CodecConfig(peak=255.0),
        model=MODEL,
        score={"AP": 0.5},
        config={"train": {"epochs": 3}},
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.safetensors"
    save_checkpoint(path, PoseNetwork(MODEL, 17), spec())
    return path


def test_everything_comes_back(weights: Path) -> None:
    tensors, stored = read_checkpoint(weights)
    assert stored == spec() == read_spec(weights)
    model = load_model(weights.parent.parent)
    assert not model.network.training and model.spec == spec()
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, tensors[name], rtol=0, atol=0)


def test_nothing_is_left_behind_and_nothing_half_written(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]
    before = weights.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*best\.safetensors: No space left"):
        save_checkpoint(weights, PoseNetwork(MODEL, 17), spec())
    assert weights.read_bytes() == before and len(list(weights.parent.iterdir())) == 1


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        save_checkpoint(tmp_path / "x.safetensors", PoseNetwork(MODEL, 17), spec())


def test_damage_is_named(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"cut\.safetensors .*(?i:incomplete)"):
        load_model(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match=r"foreign\.safetensors .*simplepose import"):
        load_model(foreign)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match=re.escape(str(missing))):
            find_weights(missing)


def test_other_shapes_and_schemas_are_named() -> None:
    network = PoseNetwork(MODEL, 17)
    tensors = dict(network.state_dict())
    tensors["surplus.weight"] = tensors.pop("backbone.conv1.weight")
    tensors["final_layer.bias"] = torch.zeros(14)
    with pytest.raises(
        UserError,
        match=r"missing: backbone\.conv1\.weight; surplus: surplus\.weight; wrong shapes: final_layer\.bias \(14,\) for \(17,\)",
    ):
        load_tensors(network, tensors, "file.safetensors")
    with pytest.raises(UserError, match=r"w .*17 .*coco_17.* 14 .*crowdpose_14"):
        require_schema(spec(), CROWDPOSE_14, "w")


@pytest.mark.parametrize(
    "argv",
    [["RUN"], ["RUN", "--boxes", "gt"], ["--boxes", "gt", "RUN"], ["--score-decimals", "3", "RUN"]],
)
def test_a_trained_network_brings_the_settings_of_its_test(argv: list[str], tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "best.safetensors"
    save_checkpoint(
        path,
        PoseNetwork(MODEL, 17),
        replace(spec(), config={"evaluate": {"keypoint_threshold": 0.1, "score_decimals": 4}}),
    )
    options = parse(
        "evaluate", [str(tmp_path / "run") if word == "RUN" else word for word in argv]
    ).evaluate
    assert (options.keypoint_threshold, options.score_decimals) == (0.1, 3 if "3" in argv else 4)
