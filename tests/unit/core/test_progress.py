"""The progress line: redrawn on a terminal, rare elsewhere; its rate where work goes on that was half done."""

from __future__ import annotations

import io
import math

import pytest

from simplepose.core import progress
from simplepose.core.progress import Progress, StatusLine, format_seconds


class Screen(io.StringIO):
    """A stderr that is a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def screen(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Screen:
    made = Screen(terminal)
    monkeypatch.setattr(progress.sys, "stderr", made)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (123.9, "2:03"), (3723, "1:02:03"), (math.inf, "-"), (math.nan, "-")],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_terminal_sees_one_line_redrawn_and_cleared(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    err = screen(monkeypatch, terminal=True)
    line = StatusLine()
    for text, passed in (("a", 0.0), ("b", 0.1), ("c", 0.15)):
        clock.now += passed
        line.show(text)
    line.clear()
    assert err.getvalue() == "\r\x1b[Ka\r\x1b[Kc\r\x1b[K"


def test_elsewhere_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    err = screen(monkeypatch, terminal=False)
    line = StatusLine()
    for text, passed in (("a", 29.0), ("b", 2.0), ("c", 2.0)):
        clock.now += passed
        line.show(text)
    line.clear()
    assert err.getvalue() == "b\n"


def test_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    err = screen(monkeypatch, terminal=True)
    with Progress("evaluating", "boxes") as show:
        clock.now += 10
        show(50, 1050)
        clock.now += 10
        show(150, 1050)
        assert err.getvalue().split("\r\x1b[K")[1:] == [
            "evaluating 50/1,050 boxes  5.0/s  left 3:20",
            "evaluating 150/1,050 boxes  10.0/s  left 1:30",
        ]
    assert err.getvalue().endswith("\r\x1b[K")


def test_what_was_done_before_does_not_count_and_the_end_may_be_unknown(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    err = screen(monkeypatch, terminal=True)
    with Progress("downloading x", "MiB") as show:
        show(900, 1000)
        clock.now += 10
        show(910, 1000)
        clock.now += 10
        show(920, None)
    assert "downloading x 910/1,000 MiB  1.0/s  left 1:30\r" in err.getvalue()
    assert "downloading x 920 MiB  1.0/s  left -\r" in err.getvalue()
