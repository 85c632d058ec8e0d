"""Presets: each loads, holds what its family says, and mistakes list what would have been valid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simplepose import UserError
from simplepose.config import (
    Config,
    DataConfig,
    TrainConfig,
    dump_config,
    load_preset,
    preset_names,
)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_preset(name)
    assert config.preset == name
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_preset(str(tmp_path / "config.yaml")) == config
    depth = int(name.split("_r")[1].split("_")[0]) if "_r" in name else None
    assert depth is None or config.model.backbone == f"resnet{depth}"
    sizes = [part for part in name.split("_") if part[0].isdigit() and "x" in part]
    assert not sizes or config.input_size_wh == tuple(
        int(side) for side in reversed(sizes[0].split("x"))
    )


def test_microsofts_recipe() -> None:
    config = load_preset("coco_r50_256x192_ms")
    assert config.pixels.channel_order == "bgr" and config.pixels.mean[0] == pytest.approx(
        0.485 * 255
    )
    assert (config.train.learning_rate, config.train.weight_decay, config.train.drop_epochs) == (
        1e-3,
        0,
        (90, 120),
    )
    assert (config.codec.peak, config.codec.center, config.codec.truncate, config.codec.sigma) == (
        1,
        "truncate",
        True,
        2,
    )
    assert config.heatmap_size_wh == (48, 64)
    assert load_preset("coco_r152_384x288_ms").codec.sigma == 3
    assert load_preset("coco_r18_128x96_mini").codec.sigma == 1


@pytest.mark.parametrize("name", preset_names())
def test_ground_truth_boxes_of_each_family(name: str) -> None:
    """Microsoft clips, the seed takes everybody; MPII's squares are the crops themselves."""
    family = "ms" if name.endswith("_mini") else name.rsplit("_", 1)[-1]
    wanted = {"ms": "annotated" if name.startswith("mpii") else "clipped", "tf": "everybody"}
    assert load_preset(name).evaluate.ground_truth_boxes == wanted.get(family, "annotated")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "evaluate: {ground_truth_boxes: all}",
            "evaluate.ground_truth_boxes.*'all'.*clipped.*annotated.*everybody",
        ),
        ("train: {keep_every: -1}", "train.keep_every is -1"),
        ("train: {epoch: 3}", r"unknown key train\.epoch.*train\.epochs"),
        ("input_size_wh: [100, 100]", r"input_size_wh is 100"),
        ("train: [", "cannot be read as YAML"),
        ("- 1", "holds list"),
        ("base: nothing", "there is no preset 'nothing'.*coco_r50_256x192_ms"),
        ("model: {backbone: resnet42}", "resnet42"),
    ],
)
def test_mistakes_are_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_preset(str(tmp_path / "mine.yaml"))


def test_device_graphs_and_accumulated_gradients_exclude_each_other() -> None:
    TrainConfig(compile="on", accumulate=2), TrainConfig(compile="graphs")
    with pytest.raises(UserError, match="train.accumulate 2 would overwrite them. Cure:"):
        TrainConfig(compile="graphs", accumulate=2)


def test_threads_are_the_cores_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    assert (DataConfig().threads, DataConfig(workers=5).threads) == (12, 5)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert DataConfig().threads == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert DataConfig().threads == 1


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: coco_r50_256x192_ms\ntrain:\n  epochs: 3\n")
    config = load_preset(str(tmp_path / "mine.yaml"))
    assert (
        config.preset == "mine" and config.train.epochs == 3 and config.train.learning_rate == 1e-3
    )
    assert config.run_folder == Path("runs/mine") and Config(output="x").run_folder == Path("x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"preset: caf\xe9\n", "own.yaml cannot be read as YAML.*invalid continuation byte.*UTF-8"),
        (b"base: own.yaml\n", "own.yaml: `base` own.yaml leads back to itself.*Cure"),
        (b"base: [1, 2]\n", r"own.yaml: `base` is \[1, 2\].*Cure"),
    ],
)
def test_files_and_bases_that_cannot_be_read(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_preset("own.yaml")
