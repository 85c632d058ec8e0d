"""The command line's own behaviour."""

from __future__ import annotations

import pytest

from simplepose import __version__
from simplepose.cli import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name}" in text for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"simplepose {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fly"], "there is no command 'fly'"),
        (["train", "no_such_preset"], "there is no preset 'no_such_preset'"),
        (["train", "--data.root", "x"], "the preset comes first"),
        (["train", "coco_r18_128x96_mini"], "no train data is named"),
        (
            ["train", "coco_r18_128x96_mini", "--data.root", "/no/such/folder"],
            "/no/such/folder is not a folder",
        ),
        (
            ["evaluate", "nothing.safetensors", "--data.root", "/no/such/folder"],
            "no weights at nothing.safetensors",
        ),
        (["predict", ".", "--weights", "w"], "holds no pictures"),
        (["predict", "nothing.jpg", "--weights", "w", "--boxes", "whole"], "no such picture"),
    ],
)
def test_mistakes_are_one_line_without_traceback(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert (
        words in error
        and "Cure: " in error
        and "Traceback" not in error
        and error.startswith("error: ")
    )
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"simplepose {name}" in capsys.readouterr().out


def test_ctrl_c_has_its_own_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simplepose.commands.weights.run", stop)
    assert main(["weights", "list"]) == 130
    assert "Ctrl-C" in capsys.readouterr().err
