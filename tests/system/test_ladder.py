"""The ladder: its rungs, what it writes, going on after a stop. Training itself is replaced by a stand-in."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from simplepose.commands.ladder import LadderOptions, base_of, climb
from simplepose.config import Config, load_preset
from simplepose.data.source import DataConfig
from simplepose.errors import UserError
from simplepose.settings import flatten, to_plain, unflatten
from simplepose.training.rungs import NOT_RUNGS, make_rungs, shorten

GOAL = "coco_r18_128x96_mini_modern"


def stand_in(trained: list[Config], stop_after: int = 1000) -> Any:
    """Writes what a training would: AP .1 + .01 x (fields that differ from the reference) + .001 x seed."""
    base = flatten(to_plain(load_preset("coco_r18_128x96_mini")))

    def train(config: Config) -> Path:
        if len(trained) == stop_after:
            raise KeyboardInterrupt
        trained.append(config)
        changed = sum(base[name] != value for name, value in flatten(to_plain(config)).items() if not name.startswith(NOT_RUNGS))
        config.run_folder.mkdir(parents=True, exist_ok=True)
        lines = [{"step": 1, "epoch": e + 1, "seconds": 2.0 + e} for e in range(config.train.epochs)]
        scores = dict.fromkeys(("AP50", "AP75", "AR"), 0.5) | {"AP": 0.1 + 0.01 * changed + 0.001 * config.train.seed}
        (config.run_folder / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in [*lines, {"step": 2, **scores}]))
        return config.run_folder

    return train


def options(tmp_path: Path, **values: Any) -> LadderOptions:
    data = DataConfig(val_annotations="val.json", val_images="val", train_annotations="t.json", train_images="t")
    return LadderOptions(**{"preset": GOAL, "seeds": 2, "epochs": 3, "output": str(tmp_path / "ladder"), "data": data, **values})


def test_rungs_lead_from_the_reference_to_the_preset() -> None:
    base, goal = load_preset(base_of(GOAL)), load_preset(GOAL)
    rungs = make_rungs(base, goal)
    assert rungs[0].changes == {} and rungs[-1].config == replace(goal, preset=rungs[-1].config.preset)
    first = flatten(to_plain(rungs[0].config))
    assert all(value == first[name] or name.startswith(NOT_RUNGS) for name, value in flatten(to_plain(base)).items())
    for before, after in pairwise(rungs):
        one, two = flatten(to_plain(before.config)), flatten(to_plain(after.config))
        assert {name for name in one if one[name] != two[name]} == set(after.changes) and after.changes
    assert len({rung.name for rung in rungs}) == len(rungs) >= 8
    assert len(make_rungs(goal, goal)) == 1
    assert unflatten(flatten(to_plain(goal))) == to_plain(goal)


def test_a_ladder_to_simcc_switches_head_and_codec_together() -> None:
    base, goal = load_preset(base_of(GOAL)), load_preset(GOAL)
    simcc = replace(goal, model=replace(goal.model, head="simcc"), codec=replace(goal.codec, kind="simcc", sigma=3.0))
    rungs = make_rungs(base, simcc)
    assert {"model.head", "codec.kind", "codec.sigma"} <= next(rung for rung in rungs if rung.name == "head").changes.keys()
    assert rungs[-1].config == replace(simcc, preset=rungs[-1].config.preset)


@pytest.mark.parametrize(("epochs", "drops"), [(30, (19, 26)), (3, (2,)), (2, (1,)), (1, ()), (60, (38, 52))])
def test_another_budget_keeps_the_shape_of_the_schedule(epochs: int, drops: tuple[int, ...]) -> None:
    assert shorten(load_preset("coco_r18_128x96_mini"), epochs).train.drop_epochs == drops
    modern = shorten(load_preset(GOAL), epochs)
    warmup = load_preset(GOAL).train.warmup_epochs
    assert modern.train.warmup_epochs == pytest.approx(warmup * epochs / 30) and modern.augment.weak_epochs == round(4 * epochs / 30)


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained: list[Config] = []
    folder = climb(options(tmp_path), stand_in(trained))
    table = orjson.loads((folder / "ladder.json").read_bytes())
    rungs = len(table["rungs"])
    assert rungs == len(make_rungs(*(shorten(load_preset(name), 3) for name in (base_of(GOAL), GOAL))))
    assert len(trained) == 2 * rungs and {config.train.seed for config in trained} == {0, 1}
    assert all(config.train.epochs == config.train.evaluate_every == 3 for config in trained)
    assert [row["AP_all"][1] - row["AP_all"][0] for row in table["rungs"]] == pytest.approx([0.001] * rungs)
    assert table["rungs"][0]["delta"] is None and all(row["delta"] > 0 for row in table["rungs"][1:])
    assert table["rungs"][3]["AP_spread"] == pytest.approx(0.001 / 2**0.5) and table["rungs"][0]["seconds_an_epoch"] == 3.0
    text = (folder / "ladder.md").read_text()
    assert "| reference | 0.1" in text and " +- 0.001 |  | 2 | 3.0 |" in text and text in capsys.readouterr().out
    assert table["boxes"] == "ground truth" and "; boxes: ground truth." in text


def test_detected_boxes_are_named_and_nobody_to_find_is_no_score(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.png", "width": 50, "height": 50}
    crowd = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 1, "keypoints": [5, 5, 2], "area": 81}
    truth = {"images": [image], "annotations": [crowd], "categories": [{"id": 1, "name": "thing", "keypoints": ["tip"]}]}
    (tmp_path / "val.json").write_bytes(orjson.dumps(truth))
    (tmp_path / "dets.json").write_bytes(orjson.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}]))
    data = DataConfig(val_annotations=str(tmp_path / "val.json"), val_images=str(tmp_path), boxes=str(tmp_path / "dets.json"))

    def train(config: Config) -> Path:
        config.run_folder.mkdir(parents=True, exist_ok=True)
        (config.run_folder / "metrics.jsonl").write_bytes(b'{"seconds": 1.0}\n{"AP": -1, "AP50": -1, "AP75": -1, "AR": -1}\n')
        return config.run_folder

    folder = climb(options(tmp_path, data=data), train)
    text, table = (folder / "ladder.md").read_text(), orjson.loads((folder / "ladder.json").read_bytes())
    assert table["boxes"] == "dets.json (box AP -)" and "boxes: dets.json (box AP -)." in text
    assert "| reference | - |  | 2 | 1.0 |" in text and "-1" not in text and all(row["delta"] is None for row in table["rungs"])


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trained: list[Config] = []
    with pytest.raises(KeyboardInterrupt):
        climb(options(tmp_path), stand_in(trained, stop_after=3))
    assert (tmp_path / "ladder" / "ladder.md").exists()
    done = {config.output for config in trained}
    later: list[Config] = []
    climb(options(tmp_path), stand_in(later))
    assert not done & {config.output for config in later}
    again: list[Config] = []
    climb(options(tmp_path), stand_in(again))
    assert not again


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no ladder"):
        climb(options(tmp_path, seeds=0), stand_in([]))
    with pytest.raises(UserError, match="no validation data"):
        climb(options(tmp_path, data=DataConfig()), stand_in([]))
    with pytest.raises(UserError, match="--base"):
        climb(options(tmp_path, preset="coco_r50_256x192_ms"), stand_in([]))
    climb(options(tmp_path, seeds=1), stand_in([]))
    with pytest.raises(UserError, match="other settings"):
        climb(options(tmp_path, seeds=1, epochs=4), stand_in([]))
