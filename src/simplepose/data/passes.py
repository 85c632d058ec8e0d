"""Who is shown when: the order and the random numbers of an epoch, from (seed, pass) alone.

A pass shows every person once, in a new order. With `fill=False` (Microsoft's reference) an epoch is a pass, and its last batch may be
smaller. With `fill=True` (the seed) batches are cut from one endless stream of passes: every batch is full, an epoch is as many batches
as a pass needs (rounded up), and people of the next pass complete the last one.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from simplepose.config import AugmentConfig
from simplepose.data.annotations import Annotations
from simplepose.data.augment import Draws, draw


def batches_per_epoch(people: int, batch_size: int) -> int:
    """Updates an epoch of either kind: people / batch size, rounded up."""
    return -(-people // batch_size)


def epoch_samples(
    annotations: Annotations,
    augment: AugmentConfig,
    *,
    seed: int,
    number: int,
    batch_size: int,
    fill: bool,
) -> tuple[np.ndarray, Draws]:
    """The samples of one epoch, in order; nothing is remembered between calls, so a run can go on anywhere.

    Args:
        annotations: N people, at least one.
        augment: random changes.
        seed: of the run.
        number: which epoch, from 0.
        batch_size: people an update, all devices together.
        fill: complete the last batch from the next pass.

    Returns:
        rows (S,) of the annotations and their draws (S,). S is N, or with `fill` the next multiple of `batch_size`.
    """
    people = len(annotations)
    if not fill:
        return _pass(annotations, augment, seed, number)
    size = batches_per_epoch(people, batch_size) * batch_size
    first, last = number * size, (number + 1) * size  # places in the endless stream
    parts = []
    for index in range(first // people, (last - 1) // people + 1):
        rows, draws = _pass(annotations, augment, seed, index)
        places = np.arange(max(first - index * people, 0), min(last - index * people, people))
        parts.append((rows[places], draws[places]))
    joined = [
        np.concatenate([getattr(draws, field.name) for _, draws in parts])
        for field in fields(Draws)
    ]
    return np.concatenate([rows for rows, _ in parts]), Draws(*joined)


def _pass(
    annotations: Annotations, augment: AugmentConfig, seed: int, index: int
) -> tuple[np.ndarray, Draws]:
    """Everybody once: rows (N,) and their draws."""
    rng = np.random.default_rng([seed, index])
    order = rng.permutation(len(annotations))
    return order, draw(rng, annotations, augment)[order]
