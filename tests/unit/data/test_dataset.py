"""The loader: every person once, on any number of processes; what goes wrong says so."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from training_workers import write_people

from simplepose.config import AugmentConfig
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations
from simplepose.data.augment import View
from simplepose.data.cache import Files
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader, owners

AUGMENT, SIZE = AugmentConfig(), (32, 32)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Annotations:
    folder = write_people(tmp_path_factory.mktemp("data") / "people", 23)
    return read_coco(folder / "people.json", folder).trainable()


def loader_of(people: Annotations, **options) -> TrainLoader:
    return TrainLoader(
        people, AUGMENT, **{"input_size_wh": SIZE, "batch_size": 4, "seed": 1, **options}
    )


def test_nobody_and_fewer_than_processes(people: Annotations) -> None:
    with pytest.raises(UserError, match="has 0 people to train on"):
        loader_of(people.select(np.zeros(0, np.int64)))
    with pytest.raises(UserError, match=r"has 2 people to train on for 3 processes"):
        loader_of(people.select(np.arange(2)), rank=0, world_size=3)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
@pytest.mark.parametrize("apart", [False, True])
def test_no_sample_is_lost_or_doubled(
    people: Annotations, count: int, batch_size: int, apart: bool
) -> None:
    loaders = [
        loader_of(people, batch_size=batch_size, rank=rank, world_size=count, apart=apart)
        for rank in range(count)
    ]
    epochs = [list(loader.epoch(3)) for loader in loaders]
    assert {len(epoch) for epoch in epochs} == {
        len(loaders[0])
    }  # the same number of steps everywhere
    shown = np.concatenate([batch.rows for epoch in epochs for batch in epoch])
    assert sorted(shown.tolist()) == list(range(len(people)))
    for step in range(len(loaders[0])):
        sizes = np.array([len(epoch[step].rows) for epoch in epochs])
        weights = np.array([epoch[step].loss_weight for epoch in epochs])
        assert sizes.min() > 0
        np.testing.assert_allclose(
            weights * sizes.sum(), sizes * count
        )  # the mean of weighted means is the mean over all people
    alone = loader_of(people, batch_size=batch_size * count)
    if not apart and count > 1:
        whole = [set(batch.rows.tolist()) for batch in alone.epoch(3)]
        together = [
            set(np.concatenate([epoch[step].rows for epoch in epochs]).tolist())
            for step in range(len(loaders[0]))
        ]
        same = len(together) - 2
        assert whole[:same] == together[:same] and set().union(*whole[same:]) == set().union(
            *together[same:]
        )


def test_people_kept_apart_stay_with_their_process(people: Annotations) -> None:
    owner = owners(people.image_index, 3)
    assert np.ptp(np.bincount(owner)) <= 1
    for rank in range(3):
        for epoch in (0, 1):
            for batch in loader_of(people, rank=rank, world_size=3, apart=True).epoch(epoch):
                assert (owner[batch.rows] == rank).all()


class Dying:
    """A source whose thread dies at one person."""

    def __init__(self, people: Annotations, error: Exception) -> None:
        self.files, self.error = Files(people), error

    def view(self, row: int):
        if row == 5:
            raise self.error
        return self.files.view(row)


def test_a_thread_that_dies_stops_the_training_and_says_where(people: Annotations) -> None:
    with pytest.raises(UserError, match=r"a reading thread failed at .*0002.png: MemoryError"):
        list(loader_of(people, source=Dying(people, MemoryError())).epoch(0))


def test_a_broken_picture_is_named_or_skipped_and_places_are_kept(people: Annotations) -> None:
    source = Dying(people, UserError("picture x is cut short"))
    with pytest.raises(UserError, match="cut short"):
        list(loader_of(people, source=source).epoch(0))
    loader = loader_of(people, source=source, skip_broken=True, batch_size=1)
    batches = list(loader.epoch(0))
    assert len(batches) == 22 and list(loader.broken.values()) == ["picture x is cut short"]
    hole = set(range(23)) - {batch.index for batch in batches}
    assert (
        len(hole) == 1
    )  # the batch without a picture leaves its number free: a resumed run finds its place
    later = list(loader.epoch(0, start=10))
    assert [batch.index for batch in later] == [
        batch.index for batch in batches if batch.index >= 10
    ]
    shared = loader_of(people, source=source, skip_broken=True, batch_size=1, rank=0, world_size=2)
    other = loader_of(people, source=source, skip_broken=True, batch_size=1, rank=1, world_size=2)
    with pytest.raises(UserError, match="the other processes wait for it"):
        list(shared.epoch(0)), list(other.epoch(0))


def test_threads_do_not_change_samples(people: Annotations) -> None:
    one, three = (list(loader_of(people, workers=workers).epoch(0)) for workers in (1, 3))
    for left, right in zip(one, three, strict=True):
        assert (left.pixels == right.pixels).all() and (left.keypoints == right.keypoints).all()


def test_all_threads_read_where_the_device_cuts(people: Annotations) -> None:
    """One batch is then the work of one thread, so more batches than usual are under way."""
    together, files = threading.Barrier(6), Files(people)

    class Meeting:
        def view(self, row: int) -> View:
            if not together.broken and len(met) < 6:
                met.append(row)
                together.wait(20)
            return files.view(row)

    met: list[int] = []
    loader = loader_of(people, batch_size=1, workers=6, warp_on_device=True, source=Meeting())
    assert len(list(loader.epoch(0))) == len(people) and not together.broken
