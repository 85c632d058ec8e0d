"""The command line's own behaviour."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simplepose import __version__
from simplepose.cli import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name}" in text for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--version", "-V", "version"):
        assert main([word]) == 0
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


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_a_signal_stops_every_command_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    number: signal.Signals,
    status: int,
    word: str,
) -> None:
    done = []

    def work(options: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            done.append("finished its files")
            raise

    module = "import_weights" if name == "import" else name
    monkeypatch.setattr("simplepose.commands.options.parse", lambda *words: None)
    monkeypatch.setattr(f"simplepose.commands.{module}.run", work)
    before = signal.signal(number, signal.default_int_handler)
    try:
        assert main([name]) == status and done
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"stopped by {word}\n"


def run_module(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell runs `simplepose` with the redirections of `words`."""
    return subprocess.run(
        f"{sys.executable} -m simplepose {words}",
        shell=True,
        text=True,
        capture_output=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ("weights list >&-", 0, ""),
        ("weights list >&- 2>&-", 0, ""),
        ("fly >&- 2>&-", 2, ""),
        ("weights list <&- | head -1 > /dev/null", 0, ""),
        ("weights list 2>/dev/full >/dev/full", 1, ""),
        ("weights list >/dev/full", 1, "note: text for the screen (stdout) is lost: No space left"),
    ],
)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_screen_stops_nobody(words: str, status: int, error: str) -> None:
    result = run_module(words)
    assert result.returncode == status
    assert result.stderr.startswith(error) and result.stderr.count("\n") == bool(error)


def test_a_terminal_without_accents_shows_names() -> None:
    result = run_module("evaluate 'Z\u00fcrich\u2713.safetensors'", PYTHONIOENCODING="ascii:strict")
    assert result.returncode == 2 and "Z\\xfcrich\\u2713.safetensors" in result.stderr


def test_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x.bin")

    monkeypatch.setattr("simplepose.commands.weights.run", full)
    assert main(["weights", "list"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "x.bin" in error and "Cure: " in error


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")
def test_a_terminal_that_closes_stops_it_as_ctrl_c_does(tmp_path: Path) -> None:
    """The program writes on when the terminal is gone, and finishes its files."""
    code = (
        "import sys, time, pathlib, simplepose.cli as cli, simplepose.commands.weights as w\n"
        "def run(options):\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        print('finishing'); print('finishing', file=sys.stderr, flush=True)\n"
        "        pathlib.Path('finished').touch()\n"
        "        raise\n"
        "w.run = run\n"
        "sys.exit(cli.main(['weights', 'list']))\n"
    )
    import pty

    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", code])
    assert b"begun" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    assert (tmp_path / "finished").exists()
