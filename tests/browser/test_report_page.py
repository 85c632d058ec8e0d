"""The pages of report and doctor in a browser: offline, wide and narrow, light and dark, clicked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawn_results import write_people, write_results

from simplepose.cli import main

EVIL = "<img src=x onerror=alert(1)>&{}.jpg"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two results, with HTML in the names of pictures and results."""
    folder = tmp_path_factory.mktemp("report")
    people = write_people(folder / "data", name=EVIL)
    results = [write_results(folder / "<b>first.json", people)]
    results.append(write_results(folder / "second.json", people, spoil=False))
    page = folder / "page.html"
    words = ["--annotations", str(people), "--images", str(folder / "data"), "--output", str(page)]
    assert main(["report", *map(str, results), *words]) == 0
    return page


@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("dark", [False, True])
def test_report_fits_and_shows_what_it_is_of(
    visit: Callable[..., Any], fits: Callable[[Any], None], report: Path, width: int, dark: bool
) -> None:
    page = visit(report.as_uri(), width=width, dark=dark)
    fits(page)
    text = page.inner_text("body")
    assert "<b>first.json" in text and "<img src=x onerror=alert(1)>&0.jpg" in text
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(", "))) < 384) == dark


def test_sort_and_filter(visit: Callable[..., Any], report: Path) -> None:
    page = visit(report.as_uri())
    shown = "[...document.querySelectorAll('.person:not([hidden])')]"

    def values(name: str) -> list[str]:
        return page.evaluate(f"{shown}.map(card => card.dataset.{name})")

    assert values("oks") == sorted(values("oks"), key=float)
    everybody = len(values("oks"))
    page.select_option("#sort", "-errors")
    errors = [int(value) for value in values("errors")]
    assert errors == sorted(errors, reverse=True) and errors[0] == 7
    page.select_option("#filter", "swap")
    assert [value.split("|") for value in values("kinds")] == [["swap"]]
    assert page.inner_text("#shown") == f"1 of {everybody}"
    page.select_option("#filter", "not found")
    assert values("oks") == ["0.000"]
    page.select_option("#filter", "")
    assert len(values("oks")) == everybody


def test_doctors_page(
    visit: Callable[..., Any], fits: Callable[[Any], None], tmp_path: Path
) -> None:
    people = write_people(tmp_path / "data", name=EVIL)
    words = ["--annotations", str(people), "--images", str(tmp_path / "data")]
    assert main(["doctor", *words, "--html", str(tmp_path / "page.html")]) == 0
    page = visit((tmp_path / "page.html").as_uri(), width=400)
    fits(page)
    assert page.locator("img").count() >= 3
