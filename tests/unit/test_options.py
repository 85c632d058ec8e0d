"""The options of every command: parsed before anything heavy is imported, named as they are typed, the common ones listed."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from simplepose import UserError
from simplepose.cli import COMMANDS, main
from simplepose.commands.options import OPTIONS, TrainOptions, parse
from simplepose.commands.parse import option_names
from simplepose.config import load_preset

BAD: dict[str, list[str]] = {
    "train": ["coco_r50_256x192_ms", "--train.epochs", "0"],
    "evaluate": ["runs/x", "--batch-size", "0"],
    "score": ["r.json", "--annotatons", "a.json"],
    "report": ["r.json", "--people", "0"],
    "predict": ["a.jpg", "--weights", "w", "--box-threshold", "2"],
    "track": ["a.mp4", "--weights", "w", "--detect-every", "0"],
    "serve": ["--port", "70000"],
    "pack": ["coco_r50_256x192_ms", "--output", "o", "--quality", "101"],
    "import": ["f.pth", "--as", "coco_r50_256x192_ms", "--outputt", "x"],
    "weights": ["list", "--outputs", "x"],
    "convert": ["mpii", "a.mat", "--output", "o.json", "--overwrit"],
    "calibrate": ["runs/x", "--box", "gt"],
    "export": ["runs/x", "--format", "onnx", "--allow-loss", "2"],
    "ablation": ["coco_r50_256x192_modern", "--seeds", "0"],
    "doctor": ["--imges", "x"],
    "demo": ["--people", "0"],
    "completion": ["bash", "--shell", "bash"],
}
HEAVY = ("torch", "cv2", "scipy", "onnxruntime", "hotcoco")
CODE = f"""
import sys
from simplepose.cli import main
codes = []
for argv in (sys.argv[1:2] + ["--help"], sys.argv[1:]):
    try:
        codes.append(main(argv))
    except SystemExit as stop:
        codes.append(stop.code or 0)
print("LOADED", codes, [name for name in {HEAVY!r} if name in sys.modules])
"""


def test_every_command_is_in_both_tables() -> None:
    assert set(OPTIONS) == set(COMMANDS) == set(BAD)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_and_refusals_come_before_torch(name: str) -> None:
    argv = [sys.executable, "-c", CODE, name, *BAD[name]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED [0, 2] []", done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_bad_option_is_one_line_that_names_it_as_it_was_typed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, *BAD[name]]) == 2
    error = capsys.readouterr().err
    wrong = next(word for word in reversed(BAD[name]) if word.startswith("--"))
    assert error.startswith("error: ") and error.count("\n") == 1
    assert f"{wrong} is " in error or f"no option {wrong}." in error


def listed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main(argv)
    text = capsys.readouterr().out
    return set(re.findall(r"^(?:│ |  )(--[a-z][a-z.-]+)", text, re.M))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_stands_on_top(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"example: simplepose {name}") and f"\nusage: simplepose {name}" in text
    if name == "evaluate":  # it would read the weights
        return
    for example in re.findall(r"example: simplepose (.+)", inspect.getdoc(OPTIONS[name]) or ""):
        parse(name, example.partition(" > ")[0].split()[1:])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--help-all"])
    assert main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80


def test_common_options_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = capsys.readouterr().out
    assert text.index("--weights ") < text.index("--boxes ") < text.index("--draw ")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(*words: str) -> list[str]:
        code = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_simplepose; '
        code += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", code, "_", *words], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert completed("simplepose", "pre") == ["predict"]
    assert completed("simplepose", "track", "a.mp4", "--video") == ["--video-codec"]


def test_the_help_of_train_lists_the_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    common, everything = (
        listed(["train", "--help"], capsys),
        listed(["train", "--help-all"], capsys),
    )
    assert common < everything and len(common) <= 42
    assert {
        "--recipe",
        "--data.root",
        "--train.epochs",
        "--train.batch-size",
        "--output",
        "--resume",
    } <= common
    recipe = {
        "--codec.sigma",
        "--augment.scale-factor",
        "--pixels.mean",
        "--train.optimizer",
        "--model.head",
        "--evaluate.person-score",
    }
    assert recipe <= everything - common
    assert everything == {name for _, name in option_names(TrainOptions) if name.startswith("--")}


def test_what_is_not_listed_is_accepted() -> None:
    options = parse(
        "train",
        [
            "coco_r50_256x192_ms",
            "--codec.sigma",
            "1.5",
            "--train.drop_epochs",
            "1",
            "2",
            "--train.tensorboard",
        ],
    )
    assert (
        options.config.codec.sigma == 1.5
        and options.config.train.drop_epochs == (1, 2)
        and options.config.train.tensorboard
    )


def test_evaluate_has_no_options_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        name for name in listed(["evaluate", "--help-all"], capsys) if name.startswith("--data.")
    }
    names = ("root", "category", "flip-pairs", "skip-broken", "upright", "accept-findings")
    assert data == {f"--data.{name}" for name in names}


@pytest.mark.parametrize("typed", [["--recipe", "modern"], ["--recipe=modern"]])
@pytest.mark.parametrize(
    "preset", ["coco_r50_256x192_ms", "coco_r50_256x192_tf", "coco_r50_256x192"]
)
def test_a_recipe_by_name(preset: str, typed: list[str]) -> None:
    assert parse("train", [preset, *typed]).config == load_preset("coco_r50_256x192_modern")


def test_recipes_of_small_presets_and_of_ones_own(tmp_path: Any) -> None:
    assert load_preset("coco_r18_128x96_mini_modern", "ms") == load_preset("coco_r18_128x96_mini")
    assert load_preset("coco_r18_128x96_mini", "modern") == load_preset(
        "coco_r18_128x96_mini_modern"
    )
    path = tmp_path / "mine.yaml"
    path.write_text("base: coco_r50_256x192_ms\ntrain: {epochs: 3}\n")
    mine = load_preset(str(path), "modern")
    assert (mine.train.epochs, mine.train.optimizer, mine.preset) == (3, "adamw", "mine")
    path.write_text("train: {epochs: 3}\n")
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_preset(str(path), "modern")


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [("mpii_r50_256x256_ms", "modern"), ("coco_r50_256x192_ms", "best"), ("nothing", "ms")],
)
def test_recipes_that_there_are_not(preset: str, recipe: str) -> None:
    with pytest.raises(UserError) as caught:
        parse("train", [preset, "--recipe", recipe])
    assert recipe in caught.value.problem and "ms" in caught.value.cure


@pytest.mark.parametrize("words", [["--train.epochs"], ["--input-size-wh", "64"], ["surplus"]])
def test_words_that_are_missing_or_too_many(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "coco_r50_256x192_ms", *words]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ") and words[0] in error and "Cure: " in error and "╭" not in error
    )


def test_a_missing_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "coco_r50_256x192_ms"]) == 2
    assert "--output" in capsys.readouterr().err
