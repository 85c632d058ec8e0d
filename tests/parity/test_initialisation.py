"""First values of both references, as distributions: standard deviations to 3 % (more than ten thousand draws each), bounds exactly.

tf: variance scaling 2 / fan in, drawn from a normal of deviation sqrt(1.3 x 2 / fan in) cut at two deviations (slim's initialiser) for
backbone and output; a normal of .01 cut at two deviations for the deconvolutions. A cut at two deviations leaves .8796 of the deviation.
ms: deconvolutions and output normal .001; the backbone always comes from a file.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from simplepose.config import load_preset
from simplepose.pose.network import PoseNetwork

CUT = math.sqrt(
    1 - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(2 / math.sqrt(2))
)  # deviation of a normal cut at +-2


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of equal width: enough numbers to judge, fewer to draw."""
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", (64, 64, 64, 64))


def network(preset: str) -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(
        replace(load_preset(preset).model, backbone="resnet18", deconv_filters=64), 17
    )


def test_cut() -> None:
    """The constant against its published value."""
    assert pytest.approx(0.87962566, abs=1e-6) == CUT


def test_tf() -> None:
    """Truncated normals of the right width, biases 0, gammas 1."""
    seen = 0
    for name, module in network("coco_r50_256x192_tf").named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.weight.detach()
            if isinstance(module, nn.ConvTranspose2d):
                deviation = 0.01
            else:
                fan_in = weight.shape[1] * weight.shape[2] * weight.shape[3]
                deviation = math.sqrt(1.3 * 2 / fan_in)
            assert weight.abs().max() <= 2 * deviation * (1 + 1e-6), name
            if weight.numel() > 10_000:
                seen += 1
                assert weight.std().item() == pytest.approx(CUT * deviation, rel=0.03), name
                assert weight.abs().max() > 1.9 * deviation, name
            if module.bias is not None:
                assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (
                (module.weight == 1).all()
                and not module.bias.any()
                and not module.running_mean.any()
                and (module.running_var == 1).all()
            )
    assert seen > 10


def test_ms() -> None:
    """Normal .001, not cut, in the whole head; the output's bias 0."""
    built = network("coco_r50_256x192_ms")
    for name, module in (*built.deconv_layers.named_modules(), ("final", built.final_layer)):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.1), name
            assert module.weight.abs().max() > 0.0022, name
    assert not built.final_layer.bias.any()
