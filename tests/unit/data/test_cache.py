"""Which cache is chosen and why; what happens to broken pictures. That all give the same pixels: tests/parity/test_loader.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from opencv import WARP_LEVELS
from training_workers import write_people

from simplepose.config import AugmentConfig, Config, DataConfig
from simplepose.core.errors import UserError
from simplepose.data import cache
from simplepose.data.annotations import Annotations
from simplepose.data.augment import person_views
from simplepose.data.cache import open_pixels
from simplepose.data.coco import read_coco
from simplepose.data.loader import TrainLoader, owners

GB = 10**9
CPU, CARD = torch.device("cpu"), torch.device("xpu", 0)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch):
    def put(host: float, card: float) -> None:
        monkeypatch.setattr(
            cache,
            "memory_bytes",
            lambda device: (int((host if device.type == "cpu" else card) * GB),) * 2,
        )

    return put


@pytest.mark.parametrize(
    ("host", "card", "device", "has_pack", "kind", "whole"),
    [
        (64, 140, CARD, False, "device", True),  # COCO on a large card
        (
            64,
            80,
            CARD,
            False,
            "device",
            False,
        ),  # 46.4 GB of pictures do not fit half of 80 GB, their regions do
        (128, 24, CARD, False, "ram", True),
        (64, 24, CARD, True, "ram", False),
        (16, 24, CARD, True, "pack", True),
        (16, 24, CARD, False, "files", True),
        (128, 0, CPU, False, "ram", True),
        (16, 0, CPU, False, "files", True),
    ],
)
def test_auto_takes_the_fastest_that_fits(
    memory, host, card, device, has_pack, kind, whole
) -> None:
    memory(host, card)
    chosen = cache.choose_cache("auto", int(46.4 * GB), int(35 * GB), device, has_pack=has_pack)
    assert chosen[:2] == (kind, whole)
    assert "46.40 GB" in chosen[2]


@pytest.mark.parametrize(
    ("card", "need", "place"),
    [
        (80, 20, ("device", True)),  # 56 GB beside the need and 4 GB of margin
        (80, 29.6, ("device", True)),  # 46.4 GB are left
        (80, 29.7, ("device", False)),
        (80, 42, ("ram", True)),
        (80, 80, ("ram", True)),  # training itself did not fit
        (0.2, 20, ("ram", True)),  # somebody else has the card
    ],
)
def test_a_cache_takes_what_training_does_not_need(memory, card, need, place) -> None:
    memory(128, card)
    sizes = int(46.4 * GB), int(35 * GB)
    *chosen, reason = cache.choose_cache("auto", *sizes, CARD, has_pack=False, need=int(need * GB))
    assert tuple(chosen) == place
    assert f"{max(0, 0.95 * card - need):.1f}" in reason and f"beside {need:.2f} GB" in reason


def test_a_cache_that_does_not_fit_says_what_fits(memory) -> None:
    memory(128, 24)
    with pytest.raises(
        UserError,
        match=r"--data.cache device does not fit \(decoded pictures 46.40 GB.*Cure: --data.cache ram, or simplepose pack",
    ):
        cache.choose_cache("device", int(46.4 * GB), int(35 * GB), CARD, has_pack=False)
    with pytest.raises(
        UserError, match=r"--data\.cache ram .*46\.40 GB.*--data\.cache files.*simplepose pack"
    ):
        cache.choose_cache("ram", int(46.4 * GB), int(35 * GB), CPU, has_pack=False, processes=8)


@pytest.fixture
def people(tmp_path: Path) -> Annotations:
    folder = write_people(tmp_path / "people", 9)
    return read_coco(folder / "people.json", folder).trainable()


def run(**data: Any) -> Config:
    return Config(data=DataConfig(**data), input_size_wh=(32, 32))


@pytest.mark.parametrize("kind", ["auto", "ram", "device"])
def test_a_broken_picture_stops_the_filling_or_is_counted(people: Annotations, kind: str) -> None:
    path = Path(people.image_paths[2])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"0002\.png .*200 bytes"):
        open_pixels(run(cache=kind), people, CPU)
    calls = []
    source, on_device, reason = open_pixels(
        run(cache=kind, skip_broken=True),
        people,
        CPU,
        progress=lambda *n: calls.append(n),
    )
    assert calls[-1] == (5, 5) and "memory" in reason and on_device == (kind == "device")
    loader = TrainLoader(
        people,
        AugmentConfig(),
        input_size_wh=(32, 32),
        batch_size=4,
        seed=0,
        skip_broken=True,
        source=source,
    )
    assert sum(len(batch.rows) for batch in loader.epoch(0)) == 7 and list(loader.broken) == [
        str(path)
    ]
    loader = TrainLoader(
        people, AugmentConfig(), input_size_wh=(32, 32), batch_size=4, seed=0, source=source
    )
    with pytest.raises(UserError, match=r"0002\.png .*200 bytes"):
        list(loader.epoch(0))


def test_a_shard_holds_only_its_own_people(people: Annotations) -> None:
    sizes = []
    for rank in range(2):
        source, _, _ = open_pixels(
            run(cache="ram"),
            people,
            CPU,
            rows=np.flatnonzero(owners(people.image_index, 2) == rank),
        )
        assert isinstance(source, cache.Memory)
        sizes.append(source.buffer.nbytes)
    assert (
        max(sizes) <= 3 * 64 * 80 * 3 and sum(sizes) >= 5 * 64 * 80 * 3
    )  # 5 pictures, one of them may be on both


def test_a_pack_must_be_named(people: Annotations) -> None:
    with pytest.raises(UserError, match=r"--data\.cache pack .*--data\.pack"):
        open_pixels(run(cache="pack"), people, CPU)


def test_a_picture_of_another_size_than_annotated(people: Annotations) -> None:
    import cv2

    cv2.imwrite(people.image_paths[1], np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(UserError, match=r"0001\.png .*10x10.*80x64"):
        open_pixels(run(cache="device"), people, CPU)
    for regions in (None, person_views(people, AugmentConfig(), (32, 32))[0]):
        with pytest.raises(UserError, match=r"0001\.png .*10x10.*80x64"):
            cache.fill_memory(people, regions)


@pytest.mark.parametrize("at", [(-3000, 5), (3000, 5), (5, -3000), (3000, 3000)])
def test_a_person_outside_the_picture_is_black_in_every_cache(
    people: Annotations, at: tuple[int, int]
) -> None:
    """As MPII's boxes may be, which are not cut to the picture."""
    boxes = people.bbox_xywh.copy()
    boxes[3, :2] = at
    people = replace(people, bbox_xywh=boxes)
    plain = AugmentConfig(scale_factor=0, rotation_probability=0, flip_probability=0)
    regions, _ = person_views(people, plain, (32, 32))
    assert (
        (regions >= 0).all()
        and (regions[:, :2] <= regions[:, 2:]).all()
        and (regions[:, 2:] <= (80, 64)).all()
    )
    crops = []
    memory = cache.fill_memory(people, regions)
    for source in (cache.Files(people), memory, SimpleNamespace(view=memory.view)):
        for on_device in (False, True):
            loader = TrainLoader(
                people,
                plain,
                input_size_wh=(32, 32),
                batch_size=9,
                seed=0,
                source=source,
                warp_on_device=on_device,
            )
            batch = next(loader.epoch(0)).to(CPU)
            crops.append(batch.pixels[np.argsort(batch.rows)].int())
    assert crops[0][:3].any() and not crops[0][3].any()
    assert all((other - crops[0]).abs().max() <= WARP_LEVELS for other in crops[1:])
    alone = people.select(np.array([3]))
    source = cache.fill_memory(alone, regions[3:4])
    for on_device in (False, True):
        loader = TrainLoader(
            alone,
            AugmentConfig(),
            input_size_wh=(32, 32),
            batch_size=1,
            seed=0,
            source=source,
            warp_on_device=on_device,
        )
        assert not next(loader.epoch(0)).to(CPU).pixels.any()
