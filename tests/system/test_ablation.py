"""The ablation: its variants, what it writes, going on after a stop. Training is replaced by a stand-in but for the last tests."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from filelock import FileLock

from simplepose.cli import main
from simplepose.commands.ablation import plan
from simplepose.commands.options import AblationOptions
from simplepose.config import Config, DataConfig, dump_config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import write_bytes
from simplepose.core.settings import flatten, to_plain, unflatten
from simplepose.synthetic.dataset import write_synthetic_dataset
from simplepose.training.ablation import (
    NO_RECIPE,
    Scorer,
    ablate,
    make_rows,
    make_variants,
    shorten,
)

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

    def __init__(self, goal: Config) -> None:
        assert goal.evaluate.ground_truth_boxes == load_preset(GOAL).evaluate.ground_truth_boxes

    def __call__(self, config: Config) -> dict[str, float]:
        assert (config.run_folder / "checkpoints" / "best.safetensors").exists()
        base = flatten(to_plain(load_preset("coco_r18_128x96_mini")))
        changed = sum(
            base[name] != value
            for name, value in flatten(to_plain(config)).items()
            if not name.startswith(NO_RECIPE)
        )
        return dict.fromkeys(("AP50", "AP75", "AR"), 0.5) | {
            "AP": 0.1 + 0.01 * changed + 0.001 * config.train.seed
        }


def options(tmp_path: Path, **values: Any) -> AblationOptions:
    data = DataConfig(
        val_annotations="val.json", val_images="val", train_annotations="t.json", train_images="t"
    )
    return AblationOptions(
        **{
            "preset": GOAL,
            "seeds": 2,
            "epochs": 3,
            "output": str(tmp_path / "ablation"),
            "data": data,
            **values,
        }
    )


def test_variants_lead_from_the_reference_to_the_preset() -> None:
    base, goal = load_preset(GOAL, "ms"), load_preset(GOAL)
    variants = make_variants(base, goal)
    assert variants[0].changes == {} and variants[-1].config == replace(
        goal, preset=variants[-1].config.preset
    )
    first = flatten(to_plain(variants[0].config))
    assert all(
        value == first[name] or name.startswith(NO_RECIPE)
        for name, value in flatten(to_plain(base)).items()
    )
    for before, after in pairwise(variants):
        one, two = flatten(to_plain(before.config)), flatten(to_plain(after.config))
        assert {name for name in one if one[name] != two[name]} == set(
            after.changes
        ) and after.changes
    assert len({variant.name for variant in variants}) == len(variants) >= 8
    assert len(make_variants(goal, goal)) == 1
    assert unflatten(flatten(to_plain(goal))) == to_plain(goal)


def test_an_ablation_to_simcc_switches_head_and_codec_together() -> None:
    base, goal = load_preset(GOAL, "ms"), load_preset(GOAL)
    simcc = replace(
        goal,
        model=replace(goal.model, head="simcc"),
        codec=replace(goal.codec, kind="simcc", sigma=3.0),
    )
    variants = make_variants(base, simcc)
    assert {"model.head", "codec.kind", "codec.sigma"} <= next(
        variant for variant in variants if variant.name == "head"
    ).changes.keys()
    assert variants[-1].config == replace(simcc, preset=variants[-1].config.preset)


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
    folder = ablate(*plan(options(tmp_path)), stand_in(trained), Scores)
    table = msgspec.json.decode((folder / "ablation.json").read_bytes())
    variants = len(table["variants"])
    assert variants == len(
        make_variants(*(shorten(load_preset(GOAL, recipe), 3) for recipe in ("ms", "")))
    )
    assert len(trained) == 2 * variants
    assert {config.train.seed for config in trained} == {0, 1}
    assert all((config.train.epochs, config.train.evaluate_every) == (3, 0) for config in trained)
    # every variant is tested on the same boxes, whatever its family's are
    assert {config.evaluate.ground_truth_boxes for config in trained} == {"annotated"}
    assert [row["AP_all"][1] - row["AP_all"][0] for row in table["variants"]] == pytest.approx(
        [0.001] * variants
    )
    assert table["variants"][0]["delta"] is None and all(
        row["delta"] > 0 for row in table["variants"][1:]
    )
    assert table["variants"][3]["AP_spread"] == pytest.approx(0.001 / 2**0.5) and table["variants"][
        3
    ]["delta_spread"] == pytest.approx(0)
    assert table["variants"][0]["seconds_an_epoch"] == 3.0
    text = (folder / "ablation.md").read_text()
    printed = capsys.readouterr().out
    assert "| reference | 0.1" in text and " +- 0.001 |  | 2 | 3.0 |" in text and text in printed
    assert f"{2 * variants} of {2 * variants} trainings of 3 epochs done -> {folder}" in printed
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
        accept_findings=True,
        **names,
    )

    class Nobody(Scorer):
        def __call__(self, config: Config) -> dict[str, float]:
            return dict.fromkeys(("AP", "AP50", "AP75", "AR"), -1.0)

    folder = ablate(*plan(options(tmp_path, data=data)), stand_in([]), Nobody)
    text, table = (
        (folder / "ablation.md").read_text(),
        msgspec.json.decode((folder / "ablation.json").read_bytes()),
    )
    assert table["boxes"] == "dets.json (box AP -)" and "boxes: dets.json (box AP -)." in text
    assert (
        "| reference | - |  | 2 | 3.0 |" in text
        and "-1" not in text
        and all(row["delta"] is None for row in table["variants"])
    )


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    trained: list[Config] = []
    with pytest.raises(KeyboardInterrupt):
        ablate(*plan(options(tmp_path)), stand_in(trained, stop_after=3), Scores)
    assert (tmp_path / "ablation" / "ablation.md").exists()
    done = {config.output for config in trained}
    later: list[Config] = []
    ablate(*plan(options(tmp_path)), stand_in(later), Scores)
    assert not done & {config.output for config in later}
    again: list[Config] = []
    ablate(*plan(options(tmp_path, device="cpu")), stand_in(again), Scores)
    assert not again


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="^seeds is 0"):
        ablate(*plan(options(tmp_path, seeds=0)), stand_in([]), Scores)
    with pytest.raises(UserError, match="validation data"):
        ablate(*plan(options(tmp_path, data=DataConfig())), stand_in([]), Scores)
    with pytest.raises(UserError, match="--base"):
        ablate(*plan(options(tmp_path, preset="coco_r50_256x192_ms")), stand_in([]), Scores)
    ablate(*plan(options(tmp_path, seeds=1)), stand_in([]), Scores)
    with pytest.raises(UserError, match="epochs 3.* 4"):
        ablate(*plan(options(tmp_path, seeds=1, epochs=4)), stand_in([]), Scores)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun"):
        ablate(*plan(options(tmp_path, seeds=1)), stand_in([]), Scores)


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
            ablate(*plan(options(tmp_path, seeds=1)), stand_in(there), Scores)
            assert "still with other commands: variant00_seed0. If" in capsys.readouterr().out
        return stand_in(here)(config)

    folder = ablate(*plan(options(tmp_path, seeds=1)), train, Scores)
    variants = make_variants(*(shorten(load_preset(GOAL, recipe), 3) for recipe in ("ms", "")))
    assert {config.output for config in here} == {str(folder / "variant00_seed0")}
    assert len(there) == len({config.output for config in there}) == len(variants) - 1
    rows = msgspec.json.decode((folder / "ablation.json").read_bytes())["variants"]
    assert [row["variant"] for row in rows] == [variant.name for variant in variants] and all(
        row["delta"] is not None for row in rows[1:]
    )


def test_what_a_stopped_command_left_is_done_by_the_other(tmp_path: Path) -> None:
    first: list[Config] = []
    second: list[Config] = []
    lock = FileLock(str(tmp_path / "ablation" / "variant00_seed0.lock"))
    lock.acquire()

    def train(config: Config) -> Path:
        lock.release()  # the command that held it is gone by the time the others are done
        return stand_in(second)(config)

    ablate(*plan(options(tmp_path, seeds=1)), train, Scores)
    assert Path(second[-1].output).name == "variant00_seed0"
    ablate(*plan(options(tmp_path, seeds=1)), stand_in(first), Scores)
    assert not first


def test_a_training_stopped_at_its_last_step_has_no_seconds(tmp_path: Path) -> None:
    def train(config: Config) -> Path:
        stand_in([])(config)
        write_bytes(
            config.run_folder / "metrics.jsonl", b'{"step": 1, "sec'
        )  # what a crash may leave
        return config.run_folder

    folder = ablate(*plan(options(tmp_path, seeds=1)), train, Scores)
    assert "| reference | 0.110 |  | 1 | - |" in (folder / "ablation.md").read_text()


def test_gains_are_over_the_seeds_that_both_variants_have() -> None:
    variants = make_variants(load_preset(GOAL, "ms"), load_preset(GOAL))[:4]
    aps = {(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.2, (3, 0): 0.4, (3, 1): -1.0}
    rows = make_rows(
        variants, {index: {"AP": value, "seconds_an_epoch": 1.0} for index, value in aps.items()}
    )
    assert [row["variant"] for row in rows] == [variants[index].name for index in (0, 1, 3)]
    assert (
        rows[1]["delta"] == pytest.approx(0.1) and rows[1]["delta_spread"] is None
    )  # not .2 - mean(.1, .3)
    assert rows[2]["delta"] is None  # the variant before is not there yet


@pytest.fixture(scope="module")
def drawn_ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ablation of one epoch, from a reference without to a goal with another decoder and averaged weights."""
    root = tmp_path_factory.mktemp("ablation")
    write_synthetic_dataset(root / "dataset", train_people=32, val_people=8, seed=3)
    small = "input_size_wh: [64, 96]\nmodel: {width: 8, deconv_filters: 16}\n"
    (root / "base.yaml").write_text(
        f"base: synthetic_demo\n{small}codec: {{decoder: quarter}}\ntrain: {{ema: 0}}\n"
    )
    (root / "goal.yaml").write_text(
        f"base: synthetic_demo\n{small}codec: {{decoder: dark}}\ntrain: {{ema: 0.9}}\n"
    )
    command = [
        "ablation",
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


def test_every_variant_can_be_evaluated(drawn_ablation: Path) -> None:
    rows = msgspec.json.decode((drawn_ablation / "out" / "ablation.json").read_bytes())["variants"]
    for index, row in enumerate(rows):
        folder = drawn_ablation / f"evaluated{index}"
        weights = str(drawn_ablation / "out" / f"variant{index:02}_seed0")
        assert (
            main(
                [
                    "evaluate",
                    weights,
                    "--data.root",
                    str(drawn_ablation / "dataset"),
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
    drawn_ablation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = next((drawn_ablation / "dataset" / "annotations").glob("*val*.json"))
    truth = msgspec.json.decode(source.read_bytes())
    names = truth["categories"][0]["keypoints"]
    names[0], names[1] = names[1], names[0]
    write_bytes(drawn_ablation / "swapped.json", msgspec.json.encode(truth))
    command = [
        "ablation",
        str(drawn_ablation / "goal.yaml"),
        "--base",
        str(drawn_ablation / "base.yaml"),
        "--output",
        str(drawn_ablation / "none"),
    ]
    data = [
        "--data.root",
        str(drawn_ablation / "dataset"),
        "--data.val-annotations",
        str(drawn_ablation / "swapped.json"),
    ]
    assert main([*command, *data]) == 2
    assert (
        "as keypoint 1, the training data" in capsys.readouterr().err
        and not (drawn_ablation / "none").exists()
    )


def test_a_begun_training_of_other_settings_is_refused(
    drawn_ablation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = drawn_ablation / "out"
    for outcome in out.glob("*/outcome.json"):
        outcome.unlink()
    command = [
        "ablation",
        str(drawn_ablation / "goal.yaml"),
        "--base",
        str(drawn_ablation / "base.yaml"),
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
                str(drawn_ablation / "dataset"),
                "--output",
                str(out),
            ]
        )
        == 2
    )
    assert "train.epochs 1 -> 2" in capsys.readouterr().err
