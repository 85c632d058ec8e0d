"""`simplepose pack`, then training from the pack: through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_store import fake_store
from training_workers import losses_of, small_config, tiny_network, write_people

from simplepose.cli import main
from simplepose.training import start, train


def test_pack_then_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    data = write_people(tmp_path / "people", 9)
    where = [
        "--data.train-annotations",
        str(data / "people.json"),
        "--data.train-images",
        str(data),
    ]
    pack = tmp_path / "packed"
    assert main(["pack", "coco_r18_128x96_mini", *where, "--output", str(pack)]) == 0
    assert "9 people: about" in capsys.readouterr().out
    curves = []
    for cache in ("files", "ram", "device", "pack"):
        plain = small_config(data, tmp_path / cache, epochs=2, drop_epochs=[1])
        config = replace(plain, data=replace(plain.data, cache=cache, pack=str(pack)))
        # the 3:4 pack holds more than a square preset needs in height, less in width: give this one its own
        if cache == "pack":
            from simplepose.data.pack import plan_pack, write_pack
            from simplepose.data.source import read_split

            people = read_split(config.data, "train").trainable()
            write_pack(
                pack, plan_pack(people, config.augment, config.input_size_wh), overwrite=True
            )
        train.train(config)
        curves.append([loss for _, loss in losses_of(config)])
    files, ram, device, packed = curves
    if find_spec("aiohttp"):
        objects = {f"a/{file.name}": file.read_bytes() for file in pack.iterdir()}
        with fake_store(objects, every=7) as (root, _):
            served = replace(config.data, pack=f"{root}/a")
            config = replace(config, output=str(tmp_path / "served"), data=served)
            train.train(config)
        assert [loss for _, loss in losses_of(config)] == packed
    assert (
        files == ram
        and device == pytest.approx(files, rel=1e-3)
        and packed == pytest.approx(files, rel=0.02)
    )
    assert (
        main(
            [
                "train",
                "coco_r18_128x96_mini",
                *where,
                "--data.cache",
                "pack",
                "--output",
                str(tmp_path / "x"),
                "--train.epochs",
                "1",
                "--train.drop-epochs",
                "0",
            ]
        )
        == 2
    )
    assert "--data.cache pack needs to know which one" in capsys.readouterr().err
    (pack / "pack.npz").write_bytes(b"PK")
    assert (
        main(
            [
                "train",
                "coco_r18_128x96_mini",
                *where,
                "--data.cache",
                "pack",
                "--data.pack",
                str(pack),
                "--output",
                str(tmp_path / "y"),
                "--train.epochs",
                "1",
                "--train.drop-epochs",
                "0",
            ]
        )
        == 2
    )
    assert "cannot be read as the index of a pack" in capsys.readouterr().err


def test_two_files_that_do_not_tell_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    folders = [write_people(tmp_path / "one", 6), write_people(tmp_path / "two", 5)]
    for folder in folders:
        content = json.loads((folder / "people.json").read_text())
        content["images"] = [
            {"id": image["id"], "file_name": image["file_name"]} for image in content["images"]
        ]
        (folder / "people.json").write_text(json.dumps(content))
    one, two = (str(folder) for folder in folders)
    where = ["--data.train-annotations", f"{one}/people.json", "--data.train-images", one]
    where += ["--data.more-annotations", f"{two}/people.json", "--data.more-images", two]
    pack = tmp_path / "both"
    assert main(["pack", "coco_r18_128x96_mini", *where, "--output", str(pack)]) == 0
    assert "11 people: about" in capsys.readouterr().out
    short = [
        "--train.epochs",
        "1",
        "--train.drop-epochs",
        "0",
        "--train.batch-size",
        "4",
        "--train.evaluate-every",
        "0",
    ]
    losses = []
    for cache in ("pack", "files", "device"):
        chosen = [
            "--data.cache",
            cache,
            "--data.pack",
            str(pack),
            "--output",
            str(tmp_path / cache),
        ]
        assert main(["train", "coco_r18_128x96_mini", *where, *chosen, *short]) == 0, (
            capsys.readouterr().err
        )
        records = map(json.loads, (tmp_path / cache / "metrics.jsonl").read_text().splitlines())
        losses.append(next(record["loss"] for record in records if "loss" in record))
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[2] == pytest.approx(
        losses[1], rel=1e-3
    )
