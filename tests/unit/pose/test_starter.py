"""The network that comes with the package, and networks that are passed on: files, cards, the hub."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from tiny_onnx import save_network

from simplepose import COCO_17, UserError
from simplepose.config import ModelConfig
from simplepose.pose import checkpoints
from simplepose.pose.checkpoints import ModelSpec, beside, find_weights, load_model, read_spec
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)


@pytest.fixture
def estimator() -> PoseEstimator:
    torch.manual_seed(0)
    model = ModelConfig(backbone="resnet18", width=8, deconv_filters=8)
    spec = ModelSpec(
        preset="mine",
        schema=COCO_17,
        input_size_wh=(64, 64),
        model=model,
        score={"AP": 0.2774, "AP50": 0.5, "boxes": "ground truth", "annotations": "/a/b/val.json"},
        config={
            "data": {"train_annotations": "/home/me/secret/train.json"},
            "train": {"epochs": 3, "seed": 1},
        },
    )
    return PoseEstimator(PoseNetwork(model, 17, (64, 64)).eval(), spec, flip_test=False)


def test_the_starter_is_whole_small_and_says_what_it_is() -> None:
    path = find_weights("starter")
    assert path.stat().st_size < 8e6
    network, spec = load_model("starter")
    assert spec.schema.keypoints == COCO_17.keypoints and spec.score["boxes"]
    assert all(one.dtype == torch.float32 for one in network.parameters())
    card = path.with_suffix(".md").read_text()
    assert f"AP {spec.score['AP']:.3f}" in card and f"boxes: {spec.score['boxes']}" in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    folders = re.findall(r'"(/|[A-Z]:\\\\)[^"]*"', spec.to_json())
    assert not folders, "the file names folders of the machine it was trained on"


def test_a_damaged_starter_says_how_to_get_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(find_weights("starter"), tmp_path / "starter.safetensors")
    monkeypatch.setattr(checkpoints, "STARTERS", tmp_path)
    assert load_model("starter").spec.schema.name == "coco_17"
    content = bytearray((tmp_path / "starter.safetensors").read_bytes())
    content[-1000] ^= 8
    (tmp_path / "starter.safetensors").write_bytes(content)
    message = r"starter\.safetensors.*changed.*Cure: install simplepose again.*--force-reinstall"
    with pytest.raises(UserError, match=message):
        PoseEstimator.from_pretrained("starter")
    (tmp_path / "starter.safetensors").unlink()
    with pytest.raises(UserError, match="without the network starter.*weights get people"):
        find_weights("starter")


def test_half_precision_is_half_the_file_and_nearly_the_same_network(
    tmp_path: Path, estimator: PoseEstimator
) -> None:
    whole = estimator.save_pretrained(tmp_path / "whole.safetensors")
    half = estimator.save_pretrained(tmp_path / "half.safetensors", half=True)
    assert 0.5 < half.stat().st_size / whole.stat().st_size < 0.6
    with safe_open(half, "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert kinds["backbone.conv1.weight"] == torch.float16
    assert kinds["backbone.bn1.running_var"] == torch.float32
    assert isinstance(estimator.network, PoseNetwork)
    loaded = [load_model(path).network.state_dict() for path in (whole, half)]
    for name, weights in estimator.network.state_dict().items():
        exact, near = (each[name] for each in loaded)
        assert exact.dtype == near.dtype == weights.dtype and exact.equal(weights)
        torch.testing.assert_close(near, weights, rtol=2**-11, atol=2**-24)  # of 11 bits, rounded
    changed = "backbone.conv1.weight"
    assert not loaded[1][changed].equal(loaded[0][changed])


def test_cards_tell_what_is_known_and_no_folders(tmp_path: Path, estimator: PoseEstimator) -> None:
    file = estimator.save_pretrained(
        tmp_path / "out", licence="CC-BY-4.0", about="Data: mine.\n\nLimits: many."
    )
    assert file == tmp_path / "out" / "model.safetensors"
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in (
        "# mine",
        "AP 0.277, AP50 0.500 on val.json, boxes: ground truth",
        "preset mine on train.json, 3 epochs, seed 1",
        "CC-BY-4.0",
        "Limits: many.",
        "left_ear",
    ):
        assert fact in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert "secret" not in card + read_spec(file).to_json()
    assert find_weights(tmp_path / "out") == file
    silent = replace(estimator.spec, score={}, config={})
    estimator.spec = silent
    estimator.save_pretrained(tmp_path / "silent.safetensors")
    card = (tmp_path / "silent.md").read_text()
    assert "not stated" in card and "measured" not in card


def test_an_onnx_network_is_not_saved_again(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    opened = PoseEstimator.from_pretrained(save_network(tmp_path / "a.onnx"))
    with pytest.raises(UserError, match="ONNX.*Cure: copy"):
        opened.save_pretrained(tmp_path / "b.safetensors")


class Hub:
    """A client of a hub that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, []

    def hf_hub_download(self, repository: str, name: str) -> str:
        path = self.folder / repository / name
        if not path.exists():
            raise ConnectionError(f"404 for {repository}")
        return str(path)

    def HfApi(self) -> Hub:
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        self.made.append((name, private, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        if "/" not in repo_id:
            raise PermissionError("403: nobody is logged in")
        shutil.copytree(folder_path, self.folder / repo_id)
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    names = {name: getattr(made, name) for name in ("hf_hub_download", "HfApi")}
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(**names))
    return made


def test_there_and_back_by_the_hub(hub: Hub, estimator: PoseEstimator) -> None:
    address = estimator.push_to_hub("me/mine", private=True, licence="MIT")
    assert address.endswith("me/mine/commit/1") and hub.made == [("me/mine", True, True)]
    files = sorted(path.name for path in (hub.folder / "me/mine").iterdir())
    assert files == ["README.md", "model.safetensors"]
    again = PoseEstimator.from_pretrained("hf:me/mine", flip_test=False)
    boxes = [[5, 5, 50, 70]]
    np.testing.assert_array_equal(again(IMAGE, boxes).keypoints, estimator(IMAGE, boxes).keypoints)


def test_a_hub_that_refuses_or_is_not_there_is_one_sentence(
    hub: Hub, estimator: PoseEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"hf:me/other.*404.*Cure: check OWNER/NAME"):
        PoseEstimator.from_pretrained("hf:me/other")
    with pytest.raises(UserError, match=r"hf:mine cannot be written.*403.*Cure: "):
        estimator.push_to_hub("mine")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: find_weights("hf:me/mine"), lambda: estimator.push_to_hub("me/mine")):
        with pytest.raises(UserError, match=r"pip install 'simplepose\[hub\]'"):
            call()


def test_what_is_made_of_it_does_not_land_in_the_package(tmp_path: Path) -> None:
    assert beside(find_weights("starter"), "starter.onnx") == Path("starter.onnx")
    assert beside(tmp_path / "best.safetensors", "best.onnx") == tmp_path / "best.onnx"
