"""The ladder: its rungs, what it writes, going on after a stop. Training is replaced by a stand-in but for the last tests."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from filelock import FileLock

from simplepose.cli import main
from simplepose.commands.ladder import climb
from simplepose.commands.ladder_rung import Scorer
from simplepose.commands.ladder_table import make_rows
from simplepose.commands.options import LadderOptions
from simplepose.config import Config, DataConfig, dump_config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import write_bytes
from simplepose.core.settings import flatten, to_plain, unflatten
from simplepose.pose.checkpoints import read_checkpoint
from simplepose.synthetic.dataset import write_synthetic_dataset
from simplepose.training.rungs import NOT_RUNGS, make_rungs, shorten, training_rungs

GOAL = "coco_r18_128x96_mini_modern"


def stand_in(trained: list[Config], stop_after: int = 1000) -> Any:
    """Writes what a training would."""

    def train(config: Config) -> Path:
        if len(trained) == stop_after:
            raise KeyboardInterrupt
        trained.append(config)
        lines = [
            {"step": 1, "epoch": e + 1, "seconds": 2.0 + e} for e in range(config.train.epochs)
        ]
        write_bytes(
            config.run_folder / "metrics.jsonl",
            b"".join(msgspec.json.encode(line) + b"\n" for line in lines),
        )
        write_bytes(config.run_folder / "config.yaml", dump_config(config).encode())
        write_bytes(config.run_folder / "checkpoints" / "best.safetensors", b"")
        return config.run_folder

    return train


class Scores:
    """AP .1 + .01 x (fields that differ from the reference) + .001 x seed."""

    box_name = "ground truth"

    def __init__(self, data: DataConfig, device: str, ground_truth: str) -> None:
        assert ground_truth == load_preset(GOAL).evaluate.ground_truth_boxes

    def __call__(self, run: Path, config: Config) -> dict[str, float]:
        assert (run / "checkpoints" / "best.safetensors").exists()
        base = flatten(to_plain(load_preset("coco_r18_128x96_mini")))
        changed = sum(
            base[name] != value
            for name, value in flatten(to_plain(config)).items()
            if not name.startswith(NOT_RUNGS)
        )
        return dict.fromkeys(("AP50", "AP75", "AR"), 0.5) | {
            "AP": 0.1 + 0.01 * changed + 0.001 * config.train.seed
        }


def options(tmp_path: Path, **values: Any) -> LadderOptions:
    data = DataConfig(
        val_annotations="val.json", val_images="val", train_annotations="t.json", train_images="t"
    )
    return LadderOptions(
        **{
            "preset": GOAL,
            "seeds": 2,
            "epochs": 3,
            "output": str(tmp_path / "ladder"),
            "data": data,
            **values,
        }
    )


def test_rungs_lead_from_the_reference_to_the_preset() -> None:
    base, goal = load_preset(GOAL, "ms"), load_preset(GOAL)
    rungs = make_rungs(base, goal)
    assert rungs[0].changes == {} and rungs[-1].config == replace(
        goal, preset=rungs[-1].config.preset
    )
    first = flatten(to_plain(rungs[0].config))
    assert all(
        value == first[name] or name.startswith(NOT_RUNGS)
        for name, value in flatten(to_plain(base)).items()
    )
    for before, after in pairwise(rungs):
        one, two = flatten(to_plain(before.config)), flatten(to_plain(after.config))
        assert {name for name in one if one[name] != two[name]} == set(
            after.changes
        ) and after.changes
    assert len({rung.name for rung in rungs}) == len(rungs) >= 8
    assert len(make_rungs(goal, goal)) == 1
    assert unflatten(flatten(to_plain(goal))) == to_plain(goal)


def test_a_ladder_to_simcc_switches_head_and_codec_together() -> None:
    base, goal = load_preset(GOAL, "ms"), load_preset(GOAL)
    simcc = replace(
        goal,
        model=replace(goal.model, head="simcc"),
        codec=replace(goal.codec, kind="simcc", sigma=3.0),
    )
    rungs = make_rungs(base, simcc)
    assert {"model.head", "codec.kind", "codec.sigma"} <= next(
        rung for rung in rungs if rung.name == "head"
    ).changes.keys()
    assert rungs[-1].config == replace(simcc, preset=rungs[-1].config.preset)


@pytest.mark.parametrize(
    ("epochs", "drops"), [(30, (19, 26)), (3, (2,)), (2, (1,)), (1, ()), (60, (38, 52))]
)
def test_another_budget_keeps_the_shape_of_the_schedule(
    epochs: int, drops: tuple[int, ...]
) -> None:
    assert shorten(load_preset("coco_r18_128x96_mini"), epochs).train.drop_epochs == drops
    modern = shorten(load_preset(GOAL), epochs)
    warmup = load_preset(GOAL).train.warmup_epochs
    assert modern.train.warmup_epochs == pytest.approx(
        warmup * epochs / 30
    ) and modern.augment.weak_epochs == round(4 * epochs / 30)


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained: list[Config] = []
    folder = climb(options(tmp_path), stand_in(trained), Scores)
    table = msgspec.json.decode((folder / "ladder.json").read_bytes())
    rungs = len(table["rungs"])
    assert rungs == len(
        make_rungs(*(shorten(load_preset(GOAL, recipe), 3) for recipe in ("ms", "")))
    )
    assert len(trained) == 2 * (rungs - 3) and {config.train.seed for config in trained} == {
        0,
        1,
    }  # decoding, flip, average: no training
    assert all((config.train.epochs, config.train.evaluate_every) == (3, 0) for config in trained)
    # every rung is tested on the same boxes, whatever its family's are
    assert {config.evaluate.ground_truth_boxes for config in trained} == {"annotated"}
    assert [row["AP_all"][1] - row["AP_all"][0] for row in table["rungs"]] == pytest.approx(
        [0.001] * rungs
    )
    assert table["rungs"][0]["delta"] is None and all(
        row["delta"] > 0 for row in table["rungs"][1:]
    )
    assert table["rungs"][3]["AP_spread"] == pytest.approx(0.001 / 2**0.5) and table["rungs"][3][
        "delta_spread"
    ] == pytest.approx(0)
    assert table["rungs"][0]["seconds_an_epoch"] == 3.0
    text = (folder / "ladder.md").read_text()
    printed = capsys.readouterr().out
    assert "| reference | 0.1" in text and " +- 0.001 |  | 2 | 3.0 |" in text and text in printed
    assert (
        f"{2 * (rungs - 3)} of {2 * (rungs - 3)} trainings of 3 epochs done -> {folder}; left 0:00"
        in printed
    )
    assert table["boxes"] == "ground truth" and "; boxes: ground truth." in text


def test_detected_boxes_are_named_and_nobody_to_find_is_no_score(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.png", "width": 50, "height": 50}
    crowd = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 1, 9, 9],
        "iscrowd": 1,
        "keypoints": [5, 5, 2],
        "area": 81,
    }
    truth = {
        "images": [image],
        "annotations": [crowd],
        "categories": [{"id": 1, "name": "thing", "keypoints": ["tip"]}],
    }
    (tmp_path / "val.json").write_bytes(msgspec.json.encode(truth))
    (tmp_path / "dets.json").write_bytes(
        msgspec.json.encode([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}])
    )
    names = {"train_annotations": str(tmp_path / "val.json"), "train_images": str(tmp_path)}
    data = DataConfig(
        val_annotations=str(tmp_path / "val.json"),
        val_images=str(tmp_path),
        boxes=str(tmp_path / "dets.json"),
        **names,
    )

    class Nobody(Scorer):
        def __call__(self, run: Path, config: Config) -> dict[str, float]:
            return dict.fromkeys(("AP", "AP50", "AP75", "AR"), -1.0)

    folder = climb(options(tmp_path, data=data), stand_in([]), Nobody)
    text, table = (
        (folder / "ladder.md").read_text(),
        msgspec.json.decode((folder / "ladder.json").read_bytes()),
    )
    assert table["boxes"] == "dets.json (box AP -)" and "boxes: dets.json (box AP -)." in text
    assert (
        "| reference | - |  | 2 | 3.0 |" in text
        and "-1" not in text
        and all(row["delta"] is None for row in table["rungs"])
    )


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trained: list[Config] = []
    with pytest.raises(KeyboardInterrupt):
        climb(options(tmp_path), stand_in(trained, stop_after=3), Scores)
    assert (tmp_path / "ladder" / "ladder.md").exists()
    done = {config.output for config in trained}
    later: list[Config] = []
    climb(options(tmp_path), stand_in(later), Scores)
    assert not done & {config.output for config in later}
    again: list[Config] = []
    climb(options(tmp_path, device="cpu"), stand_in(again), Scores)
    assert not again


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="^seeds is 0"):
        climb(options(tmp_path, seeds=0), stand_in([]), Scores)
    with pytest.raises(UserError, match="validation data"):
        climb(options(tmp_path, data=DataConfig()), stand_in([]), Scores)
    with pytest.raises(UserError, match="--base"):
        climb(options(tmp_path, preset="coco_r50_256x192_ms"), stand_in([]), Scores)
    climb(options(tmp_path, seeds=1), stand_in([]), Scores)
    with pytest.raises(UserError, match="epochs 3.* 4"):
        climb(options(tmp_path, seeds=1, epochs=4), stand_in([]), Scores)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun"):
        climb(options(tmp_path, seeds=1), stand_in([]), Scores)


def test_the_last_rung_that_trains_the_same_way_serves_all_of_them() -> None:
    rungs = make_rungs(load_preset(GOAL, "ms"), load_preset(GOAL))
    names, serving = [rung.name for rung in rungs], training_rungs(rungs)
    shared = {names[index]: names[place] for index, place in enumerate(serving) if index != place}
    assert shared == {
        "sub-pixel targets": "exact flip",
        "DARK decoding": "exact flip",
        "AdamW, warm-up, cosine": "averaged weights",
    }
    goal = load_preset(GOAL)
    other = replace(goal, train=replace(goal.train, ema=0.99))
    assert training_rungs(make_rungs(other, goal)) == [
        0,
        1,
    ]  # two averages: neither training holds the other's


def test_two_commands_share_the_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here: list[Config] = []
    there: list[Config] = []

    def train(config: Config) -> Path:
        if (
            not here
        ):  # while this command is at its first training, another begins and does all the others
            here.append(config)
            climb(options(tmp_path, seeds=1), stand_in(there), Scores)
            assert "still with other commands: rung00_seed0. If" in capsys.readouterr().out
        return stand_in(here)(config)

    folder = climb(options(tmp_path, seeds=1), train, Scores)
    rungs = make_rungs(*(shorten(load_preset(GOAL, recipe), 3) for recipe in ("ms", "")))
    assert {config.output for config in here} == {str(folder / "rung00_seed0")}
    assert len(there) == len(set(training_rungs(rungs))) - 1 and len(
        {config.output for config in there}
    ) == len(there)
    rows = msgspec.json.decode((folder / "ladder.json").read_bytes())["rungs"]
    assert [row["rung"] for row in rows] == [rung.name for rung in rungs] and all(
        row["delta"] is not None for row in rows[1:]
    )


def test_what_a_stopped_command_left_is_done_by_the_other(tmp_path: Path) -> None:
    first: list[Config] = []
    second: list[Config] = []
    lock = FileLock(str(tmp_path / "ladder" / "rung00_seed0.lock"))
    lock.acquire()

    def train(config: Config) -> Path:
        lock.release()  # the command that held it is gone by the time the others are done
        return stand_in(second)(config)

    climb(options(tmp_path, seeds=1), train, Scores)
    assert Path(second[-1].output).name == "rung00_seed0"
    climb(options(tmp_path, seeds=1), stand_in(first), Scores)
    assert not first


def test_a_training_stopped_at_its_last_step_has_no_seconds(tmp_path: Path) -> None:
    def train(config: Config) -> Path:
        stand_in([])(config)
        write_bytes(
            config.run_folder / "metrics.jsonl", b'{"step": 1, "sec'
        )  # what a crash may leave
        return config.run_folder

    folder = climb(options(tmp_path, seeds=1), train, Scores)
    assert "| reference | 0.110 |  | 1 | - |" in (folder / "ladder.md").read_text()


def test_gains_are_over_the_seeds_that_both_rungs_have() -> None:
    rungs = make_rungs(load_preset(GOAL, "ms"), load_preset(GOAL))[:4]
    aps = {(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.2, (3, 0): 0.4, (3, 1): -1.0}
    rows = make_rows(
        rungs, {place: {"AP": value, "seconds_an_epoch": 1.0} for place, value in aps.items()}
    )
    assert [row["rung"] for row in rows] == [rungs[index].name for index in (0, 1, 3)]
    assert (
        rows[1]["delta"] == pytest.approx(0.1) and rows[1]["delta_spread"] is None
    )  # not .2 - mean(.1, .3)
    assert rows[2]["delta"] is None  # the rung before is not there yet


@pytest.fixture(scope="module")
def drawn_ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ladder of one epoch, from a reference without to a goal with another decoder and averaged weights."""
    root = tmp_path_factory.mktemp("ladder")
    write_synthetic_dataset(root / "dataset", train_people=32, val_people=8, seed=3)
    small = "input_size_wh: [64, 96]\nmodel: {width: 8, deconv_filters: 16}\n"
    (root / "base.yaml").write_text(
        f"base: synthetic_demo\n{small}codec: {{decoder: quarter}}\ntrain: {{ema: 0}}\n"
    )
    (root / "goal.yaml").write_text(
        f"base: synthetic_demo\n{small}codec: {{decoder: dark}}\ntrain: {{ema: 0.9}}\n"
    )
    command = [
        "ladder",
        str(root / "goal.yaml"),
        "--base",
        str(root / "base.yaml"),
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    assert (
        main([*command, "--data.root", str(root / "dataset"), "--output", str(root / "out")]) == 0
    )
    return root


def test_a_rung_without_training_is_what_its_own_training_would_be(drawn_ladder: Path) -> None:
    out = drawn_ladder / "out"
    assert [(out / f"rung0{index}_seed0" / "metrics.jsonl").exists() for index in range(3)] == [
        False,
        False,
        True,
    ]
    command = [
        "train",
        str(drawn_ladder / "base.yaml"),
        "--train.epochs",
        "1",
        "--train.evaluate-every",
        "0",
        "--train.device",
        "cpu",
    ]
    assert (
        main(
            [
                *command,
                "--data.root",
                str(drawn_ladder / "dataset"),
                "--output",
                str(drawn_ladder / "alone"),
            ]
        )
        == 0
    )
    alone, spec = read_checkpoint(drawn_ladder / "alone")
    shared, shared_spec = read_checkpoint(out / "rung00_seed0")
    averaged, averaged_spec = read_checkpoint(out / "rung02_seed0")
    assert (
        all(torch.equal(alone[name], shared[name]) for name in alone)
        and spec.codec == shared_spec.codec
    )
    assert (shared_spec.preset, averaged_spec.preset) == (
        "goal: reference",
        "goal: averaged weights",
    )
    assert (
        not all(torch.equal(averaged[name], shared[name]) for name in averaged)
        and averaged_spec.codec.decoder == "dark"
    )


def test_every_rung_can_be_evaluated(drawn_ladder: Path) -> None:
    rows = msgspec.json.decode((drawn_ladder / "out" / "ladder.json").read_bytes())["rungs"]
    for index, row in enumerate(rows):
        folder = drawn_ladder / f"evaluated{index}"
        weights = str(drawn_ladder / "out" / f"rung{index:02}_seed0")
        assert (
            main(
                [
                    "evaluate",
                    weights,
                    "--data.root",
                    str(drawn_ladder / "dataset"),
                    "--boxes",
                    "gt",
                    "--output",
                    str(folder),
                ]
            )
            == 0
        )
        assert msgspec.json.decode((folder / "metrics.json").read_bytes())["AP"] == pytest.approx(
            row["AP"], abs=1e-6
        )


def test_validation_data_with_other_keypoints_is_refused_before_training(
    drawn_ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = next((drawn_ladder / "dataset" / "annotations").glob("*val*.json"))
    truth = msgspec.json.decode(source.read_bytes())
    names = truth["categories"][0]["keypoints"]
    names[0], names[1] = names[1], names[0]
    write_bytes(drawn_ladder / "swapped.json", msgspec.json.encode(truth))
    command = [
        "ladder",
        str(drawn_ladder / "goal.yaml"),
        "--base",
        str(drawn_ladder / "base.yaml"),
        "--output",
        str(drawn_ladder / "none"),
    ]
    data = [
        "--data.root",
        str(drawn_ladder / "dataset"),
        "--data.val-annotations",
        str(drawn_ladder / "swapped.json"),
    ]
    assert main([*command, *data]) == 2
    assert (
        "as keypoint 1, the training data" in capsys.readouterr().err
        and not (drawn_ladder / "none").exists()
    )


def test_a_begun_training_of_other_settings_is_refused(
    drawn_ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = drawn_ladder / "out"
    for outcome in out.glob("*/outcome.json"):
        outcome.unlink()
    command = [
        "ladder",
        str(drawn_ladder / "goal.yaml"),
        "--base",
        str(drawn_ladder / "base.yaml"),
        "--seeds",
        "1",
        "--device",
        "cpu",
    ]
    assert (
        main(
            [
                *command,
                "--epochs",
                "2",
                "--data.root",
                str(drawn_ladder / "dataset"),
                "--output",
                str(out),
            ]
        )
        == 2
    )
    assert "epochs 1, here 2" in capsys.readouterr().err
    (out / "ladder.json").unlink()
    assert (
        main(
            [
                *command,
                "--epochs",
                "2",
                "--data.root",
                str(drawn_ladder / "dataset"),
                "--output",
                str(out),
            ]
        )
        == 2
    )
    assert "train.epochs 1 -> 2" in capsys.readouterr().err
