"""SimCC: codec beside head, flip without a shift, and the errors of mixing it with heatmaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_cost import count_cost

from simplepose.commands.evaluate import changed_codec
from simplepose.commands.options import EvaluateOptions
from simplepose.config import CodecConfig, Config, ModelConfig
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.pose.checkpoints import ModelSpec, load_model, load_tensors, save_checkpoint
from simplepose.pose.codec import activate, decode, encode, flip_average, flip_inputs
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

SIZE = (96, 128)
CODEC = CodecConfig(kind="simcc", sigma=3.0, decoder="dark")


def test_nobody_is_a_normal_answer() -> None:
    keypoints, scores = decode(torch.zeros(0, 17, 448), CODEC, SIZE)
    assert keypoints.shape == (0, 17, 2) and scores.shape == (0, 17)


@pytest.mark.parametrize(("decoder", "limit"), [("dark", 1e-3), ("argmax", 0.251)])
def test_round_trip(decoder: str, limit: float) -> None:
    keypoints = torch.rand(20, 17, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [95.0, 127.0]
    )
    codec = replace(CODEC, decoder=decoder)
    target, weights = encode(keypoints, torch.ones(20, 17, dtype=torch.bool), codec, SIZE, (24, 32))
    assert target.shape == (20, 17, 448) and weights.min() == 1
    found, scores = decode(target, codec, SIZE)
    assert (found - keypoints).abs().max() < limit
    assert scores.min() > 0.95 and scores.max() <= 1


def test_each_half_is_a_distribution_and_hidden_keypoints_have_no_weight() -> None:
    keypoints = torch.tensor([[[10.0, 20.0], [200.0, 20.0], [30.0, 40.0]]])
    target, weights = encode(keypoints, torch.tensor([[True, True, False]]), CODEC, SIZE, (24, 32))
    assert torch.allclose(target[..., :192].sum(-1), torch.ones(1, 3)) and torch.allclose(
        target[..., 192:].sum(-1), torch.ones(1, 3)
    )
    assert weights.tolist() == [[1, 0, 0]]


def test_activation_gives_back_a_perfect_answer() -> None:
    target, _ = encode(
        torch.tensor([[[40.3, 60.6]]]), torch.ones(1, 1, dtype=torch.bool), CODEC, SIZE, (24, 32)
    )
    found, scores = decode(activate(target.clamp(min=1e-30).log(), CODEC, SIZE), CODEC, SIZE)
    assert np.allclose(found, [[[40.3, 60.6]]], atol=1e-3) and scores[0, 0] > 0.99


def test_flip_is_exact() -> None:
    keypoints = torch.rand(4, 17, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [95.0, 127.0]
    )
    seen = torch.ones(4, 17, dtype=torch.bool)
    mirrored = keypoints[:, COCO_17.flip_order] * torch.tensor([-1.0, 1.0]) + torch.tensor(
        [95.0, 0.0]
    )  # x -> W-1-x
    plain, back = (
        encode(points, seen, CODEC, SIZE, (24, 32))[0] for points in (keypoints, mirrored)
    )
    assert torch.allclose(
        flip_average(plain, back, COCO_17.flip_order, CODEC, SIZE), plain, atol=1e-6
    )
    pixels = torch.rand(1, 3, 8, 8)
    assert torch.equal(flip_inputs(pixels, replace(CODEC, flip_shift="exact")), pixels.flip(-1))


@pytest.mark.parametrize("deconv_layers", [0, 2])
def test_network_learns_and_travels(deconv_layers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ModelConfig(
        backbone="resnet18", head="simcc", deconv_layers=deconv_layers, deconv_filters=8
    )
    network = PoseNetwork(model, 17, (64, 64))
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 17, 256)
    spec = ModelSpec(preset="x", schema=COCO_17, input_size_wh=(64, 64), codec=CODEC, model=model)
    save_checkpoint(tmp_path / "w.safetensors", network, spec)
    again = load_model(tmp_path / "w.safetensors")
    assert again.spec.codec == CODEC
    poses = PoseEstimator(again.network, again.spec)(
        np.zeros((90, 90, 3), np.uint8), [[5, 5, 60, 80]]
    )
    assert poses.keypoints.shape == (1, 17, 2)


def test_without_deconvolutions_the_head_costs_next_to_nothing() -> None:
    _, plain = count_cost(PoseNetwork(ModelConfig(backbone="resnet18"), 17), SIZE)
    _, light = count_cost(
        PoseNetwork(ModelConfig(backbone="resnet18", head="simcc", deconv_layers=0), 17, SIZE), SIZE
    )
    assert light < 0.65 * plain


def test_simcc_weights_into_a_heatmap_network_are_refused(tmp_path: Path) -> None:
    network = PoseNetwork(
        ModelConfig(backbone="resnet18", head="simcc", deconv_layers=3, deconv_filters=8),
        17,
        (64, 64),
    )
    with pytest.raises(UserError, match="the head simcc, the network heatmap"):
        load_tensors(
            PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=8), 17),
            network.state_dict(),
            "simcc.safetensors",
        )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model": ModelConfig(head="simcc")}, "codec.kind simcc"),
        ({"codec": CodecConfig(kind="simcc")}, "model.head simcc"),
    ],
)
def test_head_and_codec_belong_together(values: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Config(**values)


def test_the_head_must_know_the_input_size() -> None:
    with pytest.raises(UserError, match="input_size_wh"):
        PoseNetwork(ModelConfig(backbone="resnet18", head="simcc"), 17)


@pytest.mark.parametrize(
    "given", [{"flip_shift": "exact"}, {"flip_shift": "none"}, {"decoder": "quarter"}]
)
def test_options_that_would_do_nothing_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="run .*SimCC.*--flip-shift.*--decoder"):
        changed_codec(EvaluateOptions(weights="run", **given), CODEC)
    assert (
        changed_codec(EvaluateOptions(weights="run", decoder="argmax"), CODEC).decoder == "argmax"
    )
    heatmap = changed_codec(EvaluateOptions(weights="run", **given), CodecConfig())
    assert all(getattr(heatmap, name) == value for name, value in given.items())
