"""A run that is killed and goes on ends with the weights it would have had, bit for bit; several processes train as one."""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_workers import losses_of, resumed, run_training, small_config, state_of, write_people

from simplepose.commands.options import parse
from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.training import run as run_module
from simplepose.training.folder import Journal, read_records
from simplepose.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_people(tmp_path_factory.mktemp("data") / "people")


@pytest.fixture
def finished(data: Path, tmp_path: Path) -> Config:
    """A run of one epoch that is over."""
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[])
    assert run_training(config) == [0]
    return config


def same_state(one: dict, other: dict) -> None:
    for name in one["network"]:
        assert torch.equal(one["network"][name], other["network"][name]), name
    for index, moments in one["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other["optimizer"]["state"][index][name])
    if one["ema"] is not None:
        for name, value in one["ema"]["network"].items():
            assert torch.equal(value, other["ema"]["network"][name]), name
    assert one["position"] == other["position"]


MODERN = {
    "ema": 0.9,
    "optimizer": "adamw",
    "weight_decay": 0.02,
    "clip_gradient": 1.0,
    "schedule": "flat_cosine",
    "warmup_epochs": 0.5,
    "augment": {
        "colour": 0.2,
        "cutout_probability": 0.5,
        "grid_probability": 0.5,
        "half_body_probability": 0.5,
        "shift_factor": 0.1,
        "weak_epochs": 1,
    },
}


@pytest.mark.parametrize(
    ("count", "kill_at", "options"),
    [(1, 8, {"ema": 0.9}), (1, 14, MODERN), (1, 12, {"accumulate": 2}), (2, 5, {}), (2, 7, MODERN)],
)
def test_killed_and_resumed_is_as_never_killed(
    data: Path, tmp_path: Path, count: int, kill_at: int, options: dict
) -> None:
    whole = small_config(data, tmp_path / "whole", **options)
    assert run_training(whole, count=count) == [0] * count
    killed = small_config(data, tmp_path / "killed", save_every_minutes=1e-9, **options)
    codes = run_training(killed, count=count, kill_at=kill_at, kill_rank=count - 1)
    assert codes[-1] == -signal.SIGKILL
    if count > 1:
        assert codes[0] == 2
        sentence = Path(f"{killed.run_folder}.error0").read_text()
        assert "another of the 2 processes stopped answering" in sentence and "--resume" in sentence
    stopped = state_of(killed)["position"]["step"]
    assert 0 < stopped <= kill_at and state_of(killed)["network"]["0.weight"].shape == (8, 3, 3, 3)
    assert run_training(resumed(killed), count=count) == [0] * count
    same_state(state_of(whole), state_of(killed))
    assert losses_of(whole) == losses_of(killed)


@pytest.mark.parametrize("kind", ["heatmap", "softmax"])
def test_two_processes_train_as_one_with_twice_the_batch(
    data: Path, tmp_path: Path, kind: str
) -> None:
    alone = small_config(data, tmp_path / "alone", batch_size=8, kind=kind)
    both = small_config(data, tmp_path / "both", batch_size=4, kind=kind, sync_batch_norm=True)
    apart = small_config(data, tmp_path / "apart", batch_size=4, kind=kind)
    assert (
        run_training(alone) == [0]
        and run_training(both, count=2) == [0, 0]
        and run_training(apart, count=2) == [0, 0]
    )
    wanted, found, unsynchronised = losses_of(alone), losses_of(both), losses_of(apart)
    assert [step for step, _ in wanted] == [step for step, _ in found] == [3, 6, 9]
    for (_, loss), (_, ours) in zip(wanted, found, strict=True):
        assert abs(ours / loss - 1) < 1e-5
    assert (
        max(
            abs(ours / loss - 1)
            for (_, loss), (_, ours) in zip(wanted, unsynchronised, strict=True)
        )
        > 1e-4
    )  # the test can fail


def test_each_process_draws_its_own_colours(data: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[], augment={"colour": 0.2})
    assert run_training(config, count=2) == [0, 0]
    one, other = state_of(config)["random"]
    assert not torch.equal(one["torch"], other["torch"])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(
    data: Path, tmp_path: Path, number: int, code: int
) -> None:
    config = small_config(data, tmp_path / "run")
    assert run_training(config, kill_at=7, kill_with=number) == [code]
    assert state_of(config)["position"]["step"] == 8  # the step it was in is finished
    said = (config.run_folder / "console.log").read_text()
    assert "note: train.evaluate_every is 0: nothing is evaluated, `best` is the last" in said
    _, command = said.rstrip().split("stopped at step 8 of 18. Go on with: ")
    words = shlex.split(command)
    assert words[:2] == ["simplepose", "train"]
    again = parse("train", words[2:]).config
    assert again == replace(config, resume=True)
    assert run_training(again) == [0]
    assert [step for step, _ in losses_of(config)] == [6, 12, 18]


def test_losses_that_are_read_seldom_still_stop_it_at_the_end_of_the_epoch(
    data: Path, tmp_path: Path
) -> None:
    """On an accelerator and with several processes the losses are read every 20 steps, and an epoch may be shorter."""
    config = small_config(data, tmp_path / "run")
    assert run_training(config, count=2, kill_at=4, kill_with=signal.SIGTERM, read_every=20) == [
        143,
        130,
    ]
    assert state_of(config)["position"]["step"] == 6  # of 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 8}, "train.batch_size 4, here it is 8. Cure: --train.batch-size as it was"),
        ({"weight_decay": 0.05}, "train.weight_decay 0.0, here it is 0.05"),
        (
            {"backbone_learning_rate_factor": 0.1},
            "train.backbone_learning_rate_factor 1.0, here it is 0.1",
        ),
        ({"optimizer": "adamw"}, "train.optimizer adam, here it is adamw"),
        ({"ema": 0.5}, "train.ema 0.0, here it is 0.5"),
    ],
)
def test_settings_that_cannot_change_within_a_run(
    finished: Config, changes: dict, sentence: str
) -> None:
    written = (finished.run_folder / "config.yaml").read_bytes()
    assert run_training(resumed(finished, **changes)) == [2]
    assert sentence in Path(f"{finished.run_folder}.error0").read_text()
    assert (finished.run_folder / "config.yaml").read_bytes() == written


def test_settings_that_may_change(finished: Config) -> None:
    assert run_training(resumed(finished)) == [0]
    said = (finished.run_folder / "console.log").read_text()
    assert "no validation data" not in said and "other settings" not in said
    assert run_training(resumed(finished, learning_rate=5e-4, epochs=2, evaluate_every=1)) == [0]
    said = (finished.run_folder / "console.log").read_text()
    assert "note: no validation data: nothing is evaluated, `best` is the last" in said
    assert (
        "so far: train.epochs 1 -> 2, train.evaluate_every 0 -> 1, train.learning_rate 0.001 -> 0.0005\n"
        in said
    )
    assert state_of(finished)["position"]["step"] == 12


def test_other_people_are_refused(finished: Config, tmp_path: Path) -> None:
    others = small_config(write_people(tmp_path / "others", 9), Path(finished.output), epochs=3)
    assert run_training(resumed(others)) == [2]
    assert (
        "belongs to a run on 22 people, here are 9"
        in Path(f"{finished.run_folder}.error0").read_text()
    )


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    config = small_config(data, tmp_path / "run", learning_rate=1e30, epochs=3)
    assert run_training(config) == [2]
    sentence = Path(f"{config.run_folder}.error0").read_text()
    path = config.run_folder / "checkpoints" / "last.train.pt"
    assert (
        not path.exists()
        and "the loss became" in sentence
        and "no checkpoint had been written yet" in sentence
    )
    config = small_config(
        data, tmp_path / "saved", learning_rate=1e30, epochs=3, save_every_minutes=1e-9
    )
    assert run_training(config) == [2]
    assert (
        f"{config.run_folder / 'checkpoints'} keeps the last good checkpoint"
        in Path(f"{config.run_folder}.error0").read_text()
    )


def test_validation_data_with_other_keypoints_is_refused(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "people.json").read_text())
    names = content["categories"][0]["keypoints"]
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[], evaluate_every=1)
    for keypoints, sentence in (
        ([names[1], names[0], *names[2:]], "'k1' as keypoint 1, the training data"),
        (names[:8], "8 keypoints, the training data"),
    ):
        content["categories"][0]["keypoints"] = keypoints
        for person in content["annotations"]:
            person["keypoints"] = person["keypoints"][: 3 * len(keypoints)]
        (tmp_path / "val.json").write_text(json.dumps(content))
        held_out = replace(
            config.data, val_annotations=str(tmp_path / "val.json"), val_images=str(data)
        )
        assert run_training(replace(config, data=held_out)) == [2]
        error = Path(f"{config.run_folder}.error0").read_text()
        assert (
            f"{tmp_path / 'val.json'} has {sentence} {data / 'people.json'}" in error
            and not config.run_folder.exists()
        )
    assert run_training(
        replace(config, data=held_out, train=replace(config.train, evaluate_every=0))
    ) == [0]


def test_an_evaluation_with_nobody_to_find_still_leaves_weights_for_use(
    data: Path, tmp_path: Path
) -> None:
    """AP is -1 then, better than none before it: no evaluation writes `best`, so the end of the run does."""
    content = json.loads((data / "people.json").read_text())
    for person in content["annotations"]:
        person.update(iscrowd=1)
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    (tmp_path / "boxes.json").write_text(
        json.dumps([{**person, "iscrowd": 0, "score": 1.0} for person in content["annotations"]])
    )
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[], evaluate_every=1)
    held_out: dict[str, str | bool] = {
        "accept_findings": True,
        "val_annotations": str(tmp_path / "nobody.json"),
        "val_images": str(data),
        "boxes": str(tmp_path / "boxes.json"),
    }
    config = replace(config, data=replace(config.data, **held_out))
    assert run_training(config) == [0]
    records = [
        json.loads(line) for line in (config.run_folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert records[-1]["AP"] == -1, "the test tests nothing"
    assert (config.run_folder / "checkpoints" / "best.safetensors").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_failed_before_its_first_checkpoint_is_begun_anew(
    data: Path, tmp_path: Path, count: int
) -> None:
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[])
    missing = replace(config, train=replace(config.train, weights=str(tmp_path / "nosuch.pth")))
    assert (
        run_training(missing, count=count)[0] == 2 and (config.run_folder / "config.yaml").exists()
    )
    error = Path(f"{config.run_folder}.error0")
    assert (
        run_training(resumed(config)) == [2] and "holds no run to go on with" in error.read_text()
    )
    (config.run_folder / "metrics.jsonl").write_text('{"step": 3, "loss": 7.0}\n')
    assert run_training(config, count=count) == [0] * count, error.read_text()
    assert [step for step, _ in losses_of(config)] == [6 // count]
    assert "nosuch" not in (config.run_folder / "config.yaml").read_text()


def test_weights_alone_are_neither_overwritten_nor_resumed(data: Path, tmp_path: Path) -> None:
    """As where the disk was full when `last.train.pt` was to follow; what a crash left of a file is no weights."""
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[])
    weights = config.run_folder / "checkpoints" / "last.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    error = Path(f"{config.run_folder}.error0")
    assert (
        run_training(config) == [2]
        and "already holds a run. Cure: --output with another folder" in error.read_text()
    )
    assert (
        run_training(resumed(config)) == [2]
        and f"--train.weights {weights} and another --output" in error.read_text()
    )
    weights.rename(weights.with_name(".last.123.partial.safetensors"))
    assert run_training(config) == [0]


def test_more_processes_than_people(tmp_path: Path) -> None:
    config = small_config(write_people(tmp_path / "one", 1), tmp_path / "run")
    assert run_training(config, count=2) == [2, 2]
    assert (
        "has 1 people to train on for 2 processes"
        in Path(f"{config.run_folder}.error0").read_text()
    )


def test_what_cannot_be_resumed_is_refused(data: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[])
    assert run_training(config) == [0]
    error = Path(f"{config.run_folder}.error0")
    assert (
        run_training(resumed(config), count=2) == [2, 2]
        and "belongs to a run of 1 processes, here are 2" in error.read_text()
    )
    assert (
        f"start a new run with --train.weights {config.run_folder / 'checkpoints' / 'last.safetensors'}"
        in error.read_text()
    )
    path = config.run_folder / "checkpoints" / "last.train.pt"
    path.write_bytes(path.read_bytes()[:2000])
    assert run_training(resumed(config)) == [2] and f"{path} cannot be read" in error.read_text()
    assert (
        f"Cure: start a new run with --train.weights {path.with_name('last.safetensors')}"
        in error.read_text()
    )
    assert UserError is not None


def test_a_stop_between_the_two_files_of_a_checkpoint_can_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state comes first: weights without it would neither go on nor make room for a new run."""

    def cut(path: Path, *_: object) -> None:
        raise UserError(f"cannot write {path}: no space")

    config = small_config(data, tmp_path / "run", epochs=1, drop_epochs=[])
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", cut)
        with pytest.raises(UserError, match="no space"):
            train(config)
    assert [path.name for path in (config.run_folder / "checkpoints").iterdir()] == [
        "last.train.pt"
    ]
    train(replace(config, resume=True))
    assert {"best.safetensors", "last.safetensors"} <= {
        path.name for path in (config.run_folder / "checkpoints").iterdir()
    }


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """Room for some lines, not for all."""
    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path, anew=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl"):
            for step in range(100):
                journal.record(step, loss=0.123456)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.close()
    text = (tmp_path / "metrics.jsonl").read_bytes()
    records = read_records(tmp_path / "metrics.jsonl")
    assert text.endswith(b"}\n") and text.count(b"\n") == len(records) == step > 1
