"""`simplepose import` and `simplepose weights` from the command line down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from simplepose.cli import main
from simplepose.commands.weights import get
from simplepose.config import load_preset
from simplepose.pose.checkpoints import load_model
from simplepose.pose.network import PoseNetwork
from simplepose.weights.public import PUBLIC_WEIGHTS, PublicWeights

PRESET = "coco_r18_128x96_mini"


@pytest.fixture(scope="module")
def microsoft_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "pose_resnet_18.pth.tar"
    state = PoseNetwork(load_preset(PRESET).model, 17).state_dict()
    torch.save({name.removeprefix("backbone."): tensor for name, tensor in state.items()}, path)
    return path


def test_import_writes_a_checkpoint_that_knows_its_preprocessing(
    microsoft_file: Path, tmp_path: Path, capsys
) -> None:
    assert (
        main(["import", str(microsoft_file), "--as", PRESET, "--output", str(tmp_path / "run")])
        == 0
    )
    said = capsys.readouterr().out
    assert "Microsoft pose_resnet_18, 17 keypoints" in said and "next: simplepose evaluate" in said
    loaded = load_model(tmp_path / "run")
    assert loaded.spec.schema.name == "coco_17" and loaded.spec.input_size_wh == (96, 128)
    assert (
        loaded.spec.pixels.channel_order,
        loaded.spec.codec.peak,
        loaded.spec.codec.flip_shift,
    ) == ("bgr", 1.0, "one_pixel")
    state = torch.load(microsoft_file, weights_only=True)
    for name, tensor in loaded.network.state_dict().items():
        assert torch.equal(tensor, state[name.removeprefix("backbone.")]), name


def test_conventions_of_the_file_replace_the_presets(
    microsoft_file: Path, tmp_path: Path, capsys
) -> None:
    state = torch.load(microsoft_file, weights_only=True)
    renamed = {
        ("head." if name.startswith(("deconv", "final")) else "backbone.") + name: tensor
        for name, tensor in state.items()
    }
    torch.save({"state_dict": renamed}, tmp_path / "mm.pth")
    assert (
        main(
            [
                "import",
                str(tmp_path / "mm.pth"),
                "--as",
                PRESET,
                "--output",
                str(tmp_path / "mm.safetensors"),
            ]
        )
        == 0
    )
    assert "trained on RGB with mean [123.675, 116.28, 103.53]" in capsys.readouterr().err
    assert load_model(tmp_path / "mm.safetensors").spec.pixels.channel_order == "rgb"


def test_a_preset_with_a_simcc_head(microsoft_file: Path, tmp_path: Path, capsys) -> None:
    """Its layers depend on the input's size."""
    preset = tmp_path / "coco_simcc.yaml"
    preset.write_text(
        f"base: {PRESET}\nmodel: {{head: simcc, deconv_layers: 0}}\ncodec: {{kind: simcc}}\n"
    )
    backbone, whole = tmp_path / "backbone.safetensors", tmp_path / "whole.safetensors"
    assert (
        main(
            [
                "import",
                str(microsoft_file),
                "--as",
                str(preset),
                "--backbone-only",
                "--output",
                str(backbone),
            ]
        )
        == 0
    )
    assert main(["import", str(backbone), "--as", str(preset), "--output", str(whole)]) == 0
    assert "simplepose checkpoint of coco_simcc, 17 keypoints" in capsys.readouterr().out
    first, second = load_model(backbone), load_model(whole)
    assert first.spec == second.spec and second.spec.codec.kind == "simcc"
    for name, tensor in second.network.state_dict().items():
        assert torch.equal(tensor, first.network.state_dict()[name]), name


def test_nothing_is_overwritten(microsoft_file: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "kept.safetensors").write_bytes(b"kept")
    assert (
        main(
            [
                "import",
                str(microsoft_file),
                "--as",
                PRESET,
                "--output",
                str(tmp_path / "kept.safetensors"),
            ]
        )
        == 2
    )
    assert (
        "exists. Cure" in capsys.readouterr().err
        and (tmp_path / "kept.safetensors").read_bytes() == b"kept"
    )


def test_16_keypoints_into_17_takes_the_backbone_on_request(tmp_path: Path, capsys) -> None:
    torch.save(PoseNetwork(load_preset(PRESET).model, 16).state_dict(), tmp_path / "mpii.pth")
    command = [
        "import",
        str(tmp_path / "mpii.pth"),
        "--as",
        PRESET,
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(command) == 2
    assert (
        "estimates 16 keypoints, the network 17" in capsys.readouterr().err
        and not (tmp_path / "out").exists()
    )
    assert main([*command, "--backbone-only"]) == 0
    said = "".join(capsys.readouterr())
    assert "left out: deconv_layers.0.weight" in said and "--model.init" in said
    assert main([*command[:-1], str(tmp_path / "as16"), "--schema", "mpii_16"]) == 0
    assert load_model(tmp_path / "as16").spec.schema.name == "mpii_16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pth", "--as", PRESET], "there is no weight file"),
        (["FILE", "--as", "coco_r50_256x192_ms"], "holds ResNet-18, the network is ResNet-50"),
        (["FILE", "--as", "no_such_preset"], "there is no preset"),
        (["FILE", "--as", PRESET, "--schema", "dogs"], "there is no schema 'dogs'"),
    ],
)
def test_mistakes(
    microsoft_file: Path, tmp_path: Path, capsys, monkeypatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["import", *(str(microsoft_file) if word == "FILE" else word for word in arguments)])
        == 2
    )
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


FACE = ["nose", "left_eye", "right_eye"]


@pytest.mark.parametrize(
    ("file", "text", "name", "pairs", "sigmas"),
    [
        ("face.json", json.dumps({"keypoints": FACE}), "face_3", ((1, 2),), (0.05,) * 3),
        (
            "face.yaml",
            "name: mine\nkeypoints: [nose, a, b]\nflip_pairs: [[2, 1]]\nsigmas: [.1, .2, .3]\n",
            "mine",
            ((2, 1),),
            (0.1, 0.2, 0.3),
        ),
        (
            "coco.json",
            json.dumps({"categories": [{"id": 1, "name": "face", "keypoints": FACE}]}),
            "face_3",
            ((1, 2),),
            (0.05,) * 3,
        ),
    ],
)
def test_ones_own_keypoints_come_from_a_file(
    tmp_path: Path, file: str, text: str, name: str, pairs: tuple, sigmas: tuple
) -> None:
    (tmp_path / file).write_text(text)
    torch.save(PoseNetwork(load_preset(PRESET).model, 3).state_dict(), tmp_path / "w.pth")
    words = ["import", str(tmp_path / "w.pth"), "--as", PRESET, "--schema", str(tmp_path / file)]
    assert main([*words, "--output", str(tmp_path / "w.safetensors")]) == 0
    schema = load_model(tmp_path / "w.safetensors").spec.schema
    assert (schema.name, schema.flip_pairs, schema.sigmas) == (name, pairs, sigmas)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("none.json", None),
        ("list.json", "[1]"),
        ("empty.yaml", ""),
        ("broken.yaml", "a: [1"),
        ("unknown.json", '{"keypoints": ["nose"], "pairs": []}'),
        ("names.json", '{"keypoints": [1, 2]}'),
        ("nothing.json", '{"categories": []}'),
        ("number.json", '{"categories": 3}'),
        ("without.yaml", "name: x"),
    ],
)
def test_files_that_describe_no_keypoints(
    microsoft_file: Path, tmp_path: Path, capsys, file: str, text: str | None
) -> None:
    if text is not None:
        (tmp_path / file).write_text(text)
    words = ["import", str(microsoft_file), "--as", PRESET, "--schema", str(tmp_path / file)]
    assert main([*words, "--output", str(tmp_path / "w.safetensors")]) == 2
    error = capsys.readouterr().err
    assert file in error and "Cure: " in error
    assert not (tmp_path / "w.safetensors").exists()


def test_weights_list(capsys) -> None:
    assert main(["weights", "list"]) == 0
    said = capsys.readouterr().out
    assert all(row.name in said and row.licence.split()[0] in said for row in PUBLIC_WEIGHTS)


def test_weights_get_mistakes(capsys) -> None:
    for arguments, words in (
        (["get"], "no weights are named"),
        (["get", "x"], "no public weights 'x'"),
        (["get", "microsoft-r50-256x192"], "cannot be fetched directly"),
    ):
        assert main(["weights", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_weights_get_imports_pose_networks(microsoft_file: Path, tmp_path: Path) -> None:
    """A file that is there already is verified and imported; downloads have their own tests."""
    content = microsoft_file.read_bytes()
    row = PublicWeights(
        name="mine",
        url=f"https://example.invalid/{microsoft_file.name}",
        licence="none",
        sha256=hashlib.sha256(content).hexdigest(),
        preset=PRESET,
    )
    (tmp_path / microsoft_file.name).write_bytes(content)
    assert f"wrote {tmp_path / 'mine.safetensors'}" in get(row, tmp_path)
    assert load_model(tmp_path / "mine.safetensors").spec.preset == PRESET
    before = (tmp_path / "mine.safetensors").read_bytes()
    assert f"{tmp_path / 'mine.safetensors'} is there already and stays as it is" in get(
        row, tmp_path
    )
    assert (tmp_path / "mine.safetensors").read_bytes() == before
    assert (tmp_path / "mine.safetensors").stat().st_mode & 0o444 == 0o444
