"""Several processes, one data set: who shows whom, so that no sample of an epoch is lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of each update's people a process shows."""

    rank: int = 0
    """This process."""
    count: int = 1
    """All processes."""
    apart: bool = False
    """Every process keeps to its own part of the people (its cache holds nothing else) and shuffles inside it."""


def slices_to(ends: np.ndarray) -> list[slice]:
    """Consecutive slices that end at `ends`."""
    return [
        slice(first, last)
        for first, last in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    ]


def count_steps(samples: int, batch_size: int, count: int) -> int:
    """Updates of an epoch: samples / people an update, rounded up, but no more than leave one sample for each process."""
    return min(-(-samples // (batch_size * count)), samples // count)


def deal(
    order: np.ndarray, image_index: np.ndarray, batch_size: int, share: Share
) -> tuple[list[np.ndarray], np.ndarray]:
    """Deals the samples of an epoch out to the processes: each sample to exactly one.

    An update's people are one piece of `order`, as they would be with one process, cut into nearly equal parts. Where the last piece is
    smaller than the number of processes it takes a few from the one before, so that no process stands without work.

    Args:
        order: (S,) rows in the order of the epoch.
        image_index: (N,) picture of each person, for `share.apart`.
        batch_size: people a batch on each process.
        share: number of processes, and whether each keeps to its own part of the people.

    Returns:
        the places in `order` of each process, and sizes (processes, batches).
    """
    count, together = share.count, batch_size * share.count
    steps = count_steps(len(order), batch_size, count)
    if share.apart:
        owner = owners(image_index, count)[order]
        places = [np.flatnonzero(owner == rank) for rank in range(count)]
        sizes = np.array([[len(part) for part in np.array_split(mine, steps)] for mine in places])
        return places, sizes
    ends = np.minimum(np.arange(1, steps + 1) * together, len(order))
    ends[-1] = len(order)
    if steps > 1 and ends[-1] - ends[-2] < count:
        ends[-2] = ends[-1] - count
    updates = [
        np.array_split(np.arange(piece.start, piece.stop), count) for piece in slices_to(ends)
    ]
    return [
        np.concatenate([update[rank] for update in updates]) for rank in range(count)
    ], np.array([[len(update[rank]) for update in updates] for rank in range(count)])


def owners(image_index: np.ndarray, count: int) -> np.ndarray:
    """(N,) the process that keeps each person in its cache: equal numbers of people, and people of one picture together where possible."""
    owner = np.empty(len(image_index), np.int64)
    owner[np.argsort(image_index, kind="stable")] = (
        np.arange(len(image_index)) * count // max(len(image_index), 1)
    )
    return owner
