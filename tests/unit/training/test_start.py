"""Where a run's first weights come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simplepose.cli import main
from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.data.coco import read_coco
from simplepose.pose.checkpoints import ModelSpec, load_model, save_checkpoint
from simplepose.pose.network import PoseNetwork
from simplepose.training.start import load_weights, with_sides_of_weights
from simplepose.training.train import accelerator_line


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", (64, 8, 8, 8))


def make(preset: str, schema: KeypointSchema, seed: int) -> tuple[PoseNetwork, Config]:
    config = load_preset(preset)
    config = replace(config, model=replace(config.model, backbone="resnet18", deconv_filters=8))
    torch.manual_seed(seed)
    return PoseNetwork(config.model, len(schema)), config


def values(network: PoseNetwork, start: str) -> list[torch.Tensor]:
    return [
        tensor.clone()
        for name, tensor in network.state_dict().items()
        if name.startswith(start) and tensor.is_floating_point()
    ]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_nothing_is_asked_for() -> None:
    """No file: the network stays as it is, nothing is said."""
    network, config = make("posetrack_r50_256x192_tf", POSETRACK_15, 0)
    before = values(network, "")
    assert load_weights(network, POSETRACK_15, config) == [] and same(before, values(network, ""))


@pytest.mark.parametrize("preset", ["coco_r50_256x192_ms", "coco_r50_256x192_tf"])
def test_trunk_is_found_in_the_layout(preset: str, tmp_path: Path) -> None:
    """`auto` takes imagenet_weights/ of the data root, head untouched; without one it says aloud what that costs."""
    network, config = make(preset, COCO_17, 0)
    before = values(network, "")
    for root in ("", str(tmp_path)):
        (sentence,) = load_weights(
            network, COCO_17, replace(config, data=replace(config.data, root=root))
        )
        assert sentence.startswith("warning: no ImageNet weights for ResNet-18") and same(
            before, values(network, "")
        )
    other, _ = make(preset, COCO_17, 1)
    (tmp_path / "imagenet_weights").mkdir()
    file = tmp_path / "imagenet_weights" / "resnet18-0123abcd.pth"
    torch.save(other.backbone.state_dict(), file)
    head = values(network, "deconv"), values(network, "final")
    (sentence,) = load_weights(
        network, COCO_17, replace(config, data=replace(config.data, root=str(tmp_path)))
    )
    assert sentence == f"backbone from {file}"
    assert same(values(network, "backbone."), values(other, "backbone."))
    assert same(values(network, "deconv"), head[0]) and same(values(network, "final"), head[1])


@pytest.mark.parametrize(
    ("schema", "same_output"),
    [
        (COCO_17, True),
        (POSETRACK_15, False),
        (MPII_16, False),
        (replace(COCO_17, keypoints=COCO_17.keypoints[::-1]), False),
    ],
)
def test_fine_tuning(schema: KeypointSchema, same_output: bool, tmp_path: Path) -> None:
    """Everything is taken; an output layer for other keypoints (also 17 others) keeps its own initialisation and is named."""
    teacher, config = make("coco_r50_256x192_tf", COCO_17, 1)
    save_checkpoint(
        tmp_path / "run" / "checkpoints" / "best.safetensors",
        teacher,
        ModelSpec(
            preset="coco_r50_256x192_tf",
            schema=COCO_17,
            input_size_wh=(192, 256),
            model=config.model,
        ),
    )
    network, config = make("posetrack_r50_256x192_tf", schema, 0)
    output = values(network, "final_layer")
    (sentence,) = load_weights(
        network, schema, replace(config, train=replace(config.train, weights=str(tmp_path / "run")))
    )
    assert same(values(network, "backbone."), values(teacher, "backbone.")) and same(
        values(network, "deconv"), values(teacher, "deconv")
    )
    assert same(
        values(network, "final_layer"), values(teacher, "final_layer") if same_output else output
    )
    assert ("final_layer.bias, final_layer.weight" in sentence) != same_output


@pytest.mark.parametrize("option", ["weights", "init", "import"])
def test_own_checkpoints_of_another_width(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks of synthetic_demo are narrower than any published ResNet."""
    monkeypatch.undo()
    config = load_preset("synthetic_demo")
    torch.manual_seed(1)
    teacher, file = PoseNetwork(config.model, 17, config.input_size_wh), tmp_path / "w.safetensors"
    save_checkpoint(
        file,
        teacher,
        ModelSpec(
            preset="synthetic_demo",
            schema=COCO_17,
            input_size_wh=config.input_size_wh,
            model=config.model,
        ),
    )
    if option == "import":
        assert (
            main(["import", str(file), "--as", "synthetic_demo", "--output", str(tmp_path / "run")])
            == 0
        )
        return
    network = PoseNetwork(config.model, 17, config.input_size_wh)
    changes = (
        {"train": replace(config.train, weights=str(file))}
        if option == "weights"
        else {"model": replace(config.model, init=str(file))}
    )
    load_weights(network, COCO_17, replace(config, **changes))
    assert config.model.width != 64 and same(
        values(network, "backbone."), values(teacher, "backbone.")
    )
    assert same(values(network, "head.output"), values(teacher, "head.output")) == (
        option == "weights"
    )


def test_weights_that_do_not_fit_name_an_option_of_train(tmp_path: Path) -> None:
    """`--backbone-only` belongs to `import`; and who asked for the backbone alone is not told to ask for it."""
    network, config = make("coco_r50_256x192_tf", COCO_17, 0)
    file = tmp_path / "wide.pth"
    torch.save(PoseNetwork(replace(config.model, deconv_filters=16), 17).state_dict(), file)
    with pytest.raises(
        UserError,
        match=r"wide\.pth .*deconv_layers\.0\.weight.*--model\.init .*wide\.pth .*--train\.weights$",
    ):
        load_weights(
            network, COCO_17, replace(config, train=replace(config.train, weights=str(file)))
        )
    state = {
        name: tensor for name, tensor in network.state_dict().items() if name != "backbone.bn1.bias"
    }
    torch.save(state, file)
    with pytest.raises(UserError, match=r"wide\.pth .*bn1\.bias(?!.*--)"):
        load_weights(network, COCO_17, replace(config, model=replace(config.model, init=str(file))))


def test_a_trunk_is_no_network(tmp_path: Path) -> None:
    """`train.weights` wants heatmaps; a backbone belongs to `model.init`."""
    network, config = make("coco_r50_256x192_tf", COCO_17, 0)
    torch.save(network.backbone.state_dict(), tmp_path / "t.pth")
    with pytest.raises(UserError, match=r"only a backbone.*--model\.init"):
        load_weights(
            network,
            COCO_17,
            replace(config, train=replace(config.train, weights=str(tmp_path / "t.pth"))),
        )
    with pytest.raises(UserError, match=r"absent\.pth"):
        load_weights(
            network,
            COCO_17,
            replace(config, train=replace(config.train, weights=str(tmp_path / "absent.pth"))),
        )


def test_the_starter_is_fine_tuned_to_other_keypoints() -> None:
    config = load_preset("coco_lite0_256x192_mini_modern")
    config = replace(config, train=replace(config.train, weights="starter"))
    dogs = KeypointSchema(name="dog_3", keypoints=("nose", "withers", "tail"))
    network = PoseNetwork(config.model, len(dogs), config.input_size_wh)
    output = values(network, "head.output")
    (sentence,) = load_weights(network, dogs, config)
    assert "starter" in sentence and "left out (other keypoints): head.output" in sentence
    starter = load_model("starter").network
    assert same(values(network, "backbone"), values(starter, "backbone"))
    assert same(values(network, "head.mixes"), values(starter, "head.mixes"))
    assert same(values(network, "head.output"), output)
    people = PoseNetwork(config.model, len(COCO_17), config.input_size_wh)
    (sentence,) = load_weights(people, COCO_17, config)
    assert "left out" not in sentence and same(values(people, ""), values(starter, ""))


def test_a_run_on_an_accelerator_says_what_is_on_and_off() -> None:
    config = load_preset("coco_r50_256x192_modern")
    line = accelerator_line(config, "bf16", torch.device("cuda", 0))
    on, off = line.split("; off: ")
    assert on.startswith("cuda:0: on: bf16") and "channels-last" in on and "fused" in on
    assert "--train.compile on" in off and "--train.compile graphs" in off
    config = replace(config, train=replace(config.train, compile="graphs", channels_last=False))
    on, off = accelerator_line(config, "fp32", torch.device("mps")).split("; off: ")
    assert "graphs" in on and "compile on" in on
    assert "bf16" in off and "channels-last" in off and "fused" in off


@pytest.mark.parametrize(
    ("keypoints", "own", "known", "pairs"),
    [
        ("abc", (), ((0, 2),), ((0, 2),)),
        ("abc", ((0, 1),), ((0, 2),), ((0, 1),)),  # what the data says counts
        ("acb", (), ((0, 2),), ()),  # other keypoints: whose sides?
        ("abc", (), (), ()),
    ],
)
def test_sides_come_with_the_weights(
    tmp_path: Path, keypoints: str, own: tuple, known: tuple, pairs: tuple
) -> None:
    """For keypoints whose names do not tell left from right."""
    network, config = make("coco_r50_256x192_ms", COCO_17, 0)
    schema = KeypointSchema(name="abc", keypoints=tuple("abc"), flip_pairs=known)
    spec = ModelSpec(preset="x", schema=schema, input_size_wh=(32, 32), model=config.model)
    save_checkpoint(tmp_path / "w.safetensors", network, spec)
    rows = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 1, 9, 9],
        "keypoints": [3, 3, 2] * 3,
    }
    listed = [{"id": 1, "name": "x", "keypoints": list(keypoints)}]
    images = [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 20}]
    people = read_coco({"images": images, "annotations": [rows], "categories": listed}, None)
    people = replace(people, schema=replace(people.schema, flip_pairs=own))
    for name in (str(tmp_path / "w.safetensors"), ""):
        changed = replace(config, train=replace(config.train, weights=name))
        found = with_sides_of_weights(people, changed)
        assert found.schema.flip_pairs == (pairs if name else own)
        told = len(found.warnings) - len(people.warnings)
        assert told == (found.schema.flip_pairs != own)
    missing = replace(config, train=replace(config.train, weights=str(tmp_path / "none")))
    assert with_sides_of_weights(people, missing) is people
