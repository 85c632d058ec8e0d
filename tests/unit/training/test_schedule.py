"""Learning rates: the references' steps are tested in tests/parity; here warm-up, flat-cosine and schedules that do not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from simplepose.config import ModelConfig, TrainConfig, load_preset
from simplepose.core.errors import UserError
from simplepose.pose.network import PoseNetwork
from simplepose.training.schedule import (
    check_schedule,
    learning_rate_at,
    make_optimizer,
    set_update,
)

COSINE = TrainConfig(
    schedule="flat_cosine",
    epochs=10,
    flat_fraction=0.5,
    warmup_epochs=1,
    learning_rate=1.0,
    drop_epochs=(),
)


@pytest.mark.parametrize(
    ("iteration", "rate"),
    [
        (0, 0.01),
        (49, 0.5),
        (99, 1.0),
        (100, 1.0),
        (499, 1.0),
        (500, 1.0),
        (750, 0.5),
        (999, 9.8696e-6),
    ],
)
def test_flat_cosine(iteration: int, rate: float) -> None:
    assert learning_rate_at(COSINE, iteration, 100) == pytest.approx(rate, rel=1e-3)


def test_the_rate_never_rises_after_the_warm_up() -> None:
    rates = [learning_rate_at(COSINE, iteration, 100) for iteration in range(1000)]
    assert all(later >= earlier for earlier, later in pairwise(rates[:100]))
    assert all(later <= earlier for earlier, later in pairwise(rates[99:]))


def test_warm_up_works_under_steps_too() -> None:
    config = TrainConfig(epochs=10, drop_epochs=(5,), warmup_epochs=2, learning_rate=1.0)
    assert [
        learning_rate_at(config, iteration, 10) for iteration in (0, 9, 19, 49, 50)
    ] == pytest.approx([0.05, 0.5, 1, 1, 0.1])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (TrainConfig(epochs=30), r"90, 120.* 30.*--train\.drop-epochs 19 26"),
        (TrainConfig(epochs=90, drop_epochs=(90,)), "epochs 90.* has 90"),
        (replace(COSINE, warmup_epochs=6), r"6 epochs .*5 .*--train\.warmup-epochs"),
        (
            TrainConfig(epochs=3, drop_epochs=(), warmup_epochs=4),
            r"4 epochs .*3 .*--train\.warmup-epochs",
        ),
    ],
)
def test_a_schedule_longer_than_the_run_is_refused(config: TrainConfig, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_schedule(config, 0)


def test_a_run_of_weak_epochs_only_is_refused() -> None:
    modern = load_preset("coco_r18_128x96_mini_modern")
    short = replace(modern, train=replace(modern.train, epochs=4))
    with pytest.raises(
        UserError, match="the last 4 epochs.*the run has 4.*--augment.weak-epochs 0"
    ):
        check_schedule(short.train, short.augment.weak_epochs)
    check_schedule(short.train, 3)


@pytest.mark.parametrize(
    "preset",
    [
        "coco_r50_256x192_ms",
        "coco_r50_256x192_modern",
        "coco_r18_128x96_mini",
        "coco_r18_128x96_mini_modern",
    ],
)
def test_presets_fit(preset: str) -> None:
    config = load_preset(preset)
    check_schedule(config.train, config.augment.weak_epochs)


def test_the_backbone_may_learn_more_slowly() -> None:
    network = PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=4), 2)
    config = TrainConfig(backbone_learning_rate_factor=0.1, weight_decay=0.01)
    optimizer = make_optimizer(network, config)
    set_update(optimizer, 2.0, 0, config.adam_epsilon)
    rates = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    assert rates[id(network.backbone.conv1.weight)] == (pytest.approx(0.2), 0.01)
    assert rates[id(network.backbone.bn1.weight)] == (pytest.approx(0.2), 0.0)
    assert rates[id(network.final_layer.weight)] == (2.0, 0.01)
    assert rates[id(network.final_layer.bias)] == (2.0, 0.0)
    assert isinstance(optimizer, torch.optim.Adam)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7, 30, 90])
def test_the_advised_drops_fit(epochs: int) -> None:
    preset = load_preset("coco_r50_256x192_ms")
    with pytest.raises(UserError, match=r"90, 120.*--train\.drop-epochs") as error:
        check_schedule(replace(preset.train, epochs=epochs), 0)
    advised = str(error.value).split("--train.drop-epochs")[1].split("(")[0].split()
    assert epochs == 1 or advised
    check_schedule(replace(preset.train, epochs=epochs, drop_epochs=tuple(map(int, advised))), 0)
