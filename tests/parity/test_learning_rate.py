"""The learning rate of every update around each boundary, and how many updates an epoch has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import references

from simplepose.config import AugmentConfig, load_preset
from simplepose.data.augment import epoch_samples
from simplepose.data.loader import TrainLoader
from simplepose.training.schedule import learning_rate_at

PEOPLE = 149_813  # of COCO train2017


def seed_rate(iteration: int, per_epoch: int, base: float, drops: tuple[int, ...]) -> float:
    """`iteration` counts from 1; its epoch is iteration // per_epoch, so the last update of an epoch belongs to the next."""
    epoch = iteration // per_epoch
    passed = 0
    for drop in drops:
        if epoch >= drop:
            passed += 1
    return base / 10**passed


def microsoft_rate(epoch: int, base: float, drops: tuple[int, ...]) -> float:
    """Epochs from 0, stepped before the epoch: epoch 90 is the first at a tenth."""
    rate = base
    for drop in drops:
        if epoch >= drop:
            rate *= 0.1
    return rate


@pytest.mark.parametrize(
    ("preset", "base", "epochs", "drops"),
    [
        ("coco_r50_256x192_ms", 1e-3, 140, (90, 120)),
        ("coco_r50_256x192_tf", 5e-4, 140, (90, 120)),
        ("posetrack_r50_256x192_tf", 5e-5, 20, (10, 15)),
        ("posetrack_r50_256x192_ms", 1e-4, 20, (10, 15)),
    ],
)
@pytest.mark.parametrize("per_epoch", [1, 3, math.ceil(PEOPLE / 32)])
def test_rate_at_every_boundary(
    preset: str, base: float, epochs: int, drops: tuple[int, ...], per_epoch: int
) -> None:
    """The updates before, at and after the end of every epoch: exact up to the last digit of a division by ten."""
    config = load_preset(preset).train
    assert config.epochs == epochs
    for boundary in range(epochs + 1):
        for update in range(
            max(boundary * per_epoch - 2, 0), min(boundary * per_epoch + 2, epochs * per_epoch)
        ):
            ours = learning_rate_at(config, update, per_epoch)
            expected = (
                seed_rate(update + 1, per_epoch, base, drops)
                if preset.endswith("tf")
                else microsoft_rate(update // per_epoch, base, drops)
            )
            assert ours == pytest.approx(expected, rel=1e-12), (update, boundary)


def test_the_seed_drops_one_update_earlier() -> None:
    """With 3 updates an epoch the seed's 270th update (index 269) has the second rate, Microsoft's the first."""
    for preset, expected in (("coco_r50_256x192_tf", 5e-5), ("coco_r50_256x192_ms", 1e-3)):
        config = load_preset(preset).train
        rate = learning_rate_at(config, 269, 3)
        assert rate == pytest.approx(expected)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_updates_an_epoch(devices: int) -> None:
    """Both round up: Microsoft's last batch is smaller, the seed's is completed from the next pass."""
    from test_crops import noise_world

    for people, steps in ((75, math.ceil(75 / 32 / devices)), (64, math.ceil(2 / devices))):
        for fill in (False, True):
            loader = TrainLoader(
                noise_world(people)[0],
                AugmentConfig(),
                input_size_wh=(96, 128),
                batch_size=32,
                seed=0,
                fill=fill,
                world_size=devices,
            )
            assert len(loader) == len(loader.samples(1)) == steps


@pytest.mark.parametrize(("people", "batch"), [(10, 4), (8, 4), (3, 4), (5, 16)])
def test_stream_of_the_seed(people: int, batch: int) -> None:
    """Batches are always full, and the stream of people is one shuffled pass after the other, whatever the batches cut from it."""
    from test_crops import noise_world

    annotations = noise_world(people)[0]
    augment = load_preset("coco_r50_256x192_tf").augment
    epochs = [
        epoch_samples(annotations, augment, seed=3, number=n, batch_size=batch, fill=True)
        for n in range(6)
    ]
    assert all(
        len(rows) == math.ceil(people / batch) * batch == len(draws.scales)
        for rows, draws in epochs
    )
    stream = np.concatenate([rows for rows, _ in epochs])
    for start in range(0, len(stream) - people + 1, people):
        assert sorted(stream[start : start + people]) == list(range(people))
    again = epoch_samples(annotations, augment, seed=3, number=4, batch_size=batch, fill=True)
    assert np.array_equal(again[0], epochs[4][0]) and np.array_equal(
        again[1].rotations, epochs[4][1].rotations
    )


def test_passes_of_microsoft() -> None:
    """Each epoch shows everybody once, in another order."""
    from test_crops import noise_world

    annotations = noise_world(10)[0]
    augment = load_preset(references.PRESETS["ms"]).augment
    orders = [
        epoch_samples(annotations, augment, seed=3, number=n, batch_size=4, fill=False)[0]
        for n in range(2)
    ]
    assert all(sorted(order) == list(range(10)) for order in orders) and not np.array_equal(*orders)
