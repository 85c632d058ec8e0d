"""The learning rate as one pure function of the iteration."""

from __future__ import annotations


def learning_rate(
    base: float,
    iteration: int,
    iterations_per_epoch: int,
    *,
    drop_epochs: tuple[int, ...],
    drop_factor: float,
    count_from_one: bool,
) -> float:
    """Step decay.

    Args:
        base: rate before the first drop.
        iteration: 0-based index of the update.
        iterations_per_epoch: updates an epoch.
        drop_epochs: 0-based epochs at whose start the rate falls.
        drop_factor: the rate is multiplied by this at each drop.
        count_from_one: the seed numbers iterations from 1, so the last update of an epoch already has the next epoch's rate; ms does not.
    """
    epoch = (iteration + int(count_from_one)) // max(iterations_per_epoch, 1)
    return base * drop_factor ** sum(epoch >= drop for drop in drop_epochs)
