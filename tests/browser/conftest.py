"""Pages in a real Chromium: Debian's (`apt install chromium`), driven by playwright from PyPI."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; the tests that need it are skipped where there is none."""
    why = "browser tests need playwright (pip install playwright) and Debian's chromium"
    playwright = pytest.importorskip("playwright.sync_api", reason=why)
    path = shutil.which("chromium")
    if path is None:
        pytest.skip(why)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`visit(url, width=400, dark=False)` opens a page.

    At the end of the test no page may have had a console message of an error, an exception, or a
    request to anywhere but its own address (the same file, or the same host).
    """
    problems: list[str] = []
    contexts = []

    def visit(url: str, *, width: int = 1100, dark: bool = False) -> Any:
        scheme = "dark" if dark else "light"
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB"
        )
        contexts.append(context)
        page = context.new_page()
        own = url if url.startswith("file:") else "/".join(url.split("/")[:3]) + "/"

        def asked(request: Any) -> None:
            if not request.url.startswith(("data:", "blob:", own)):
                problems.append(f"request to {request.url}")

        page.on("request", asked)
        page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type == "error" else None,
        )
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="session")
def fits() -> Callable[[Any], None]:
    """Asserts that a page needs no horizontal scrolling and that all its pictures are there."""

    def check(page: Any) -> None:
        inner, needed = page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner, f"{needed} pixels wide in a window of {inner}"
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.evaluate(broken) == 0

    return check
