"""`simplepose train PRESET --profile` says where a step's time goes and what the bottleneck is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from training_workers import small_config, tiny_network, write_people

from simplepose.core.errors import UserError
from simplepose.training import start
from simplepose.training.profile import MEASURED, PARTS, Profile, profile


def test_the_parts_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    found = profile(small_config(write_people(tmp_path / "people", 7), tmp_path / "run"))
    assert (
        tuple(found.seconds) == PARTS
        and all(seconds > 0 for seconds in found.seconds.values())
        and MEASURED > 10
    )
    lines = found.report()
    assert (
        len(lines) == 8
        and "memory" in lines[0]
        and "samples/s on cpu" in lines[-2]
        and lines[-1].endswith(".")
    )
    assert not (tmp_path / "run").exists()


def test_without_any_readable_picture_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    config = small_config(write_people(tmp_path / "people", 7), tmp_path / "run")
    for picture in (tmp_path / "people").glob("*.png"):
        picture.write_bytes(b"")
    with pytest.raises(UserError, match=r"epoch 1 .*picture .* empty"):
        profile(replace(config, data=replace(config.data, skip_broken=True)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (
            (5, 0, 3, 6, 0.1),
            "The bottleneck is the loader: the device stands idle 35%.*--data.cache ram or device, or run simplepose pack",
        ),
        ((0.1, 4, 3, 6, 0.1), "bringing pixels to the device.*--data.cache device"),
        ((0.1, 0.1, 3, 6, 4), "The optimiser takes 30%; raise --train.batch-size"),
        (
            (0.1, 0.1, 3, 6, 0.3),
            r"The bottleneck is the network \(95% forward and backward\), as it should be",
        ),
    ],
)
def test_the_sentence(seconds: tuple[float, ...], words: str) -> None:
    import re

    assert re.search(
        words, Profile(dict(zip(PARTS, seconds, strict=True)), 1.0, "cpu", "").bottleneck()
    )
