"""README and docs: every command is one that the option parser takes, every block of commands says
whether a test runs it, every link and anchor leads somewhere."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path

import pytest

from simplepose.commands import options

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
MARKER = re.compile(r"<!-- (run|not run): (.+?) -->", re.S)
COMMAND = re.compile(r"^\s*(?:\w+=\S+ )*(?:python -m |torchrun .*-m )?simplepose ")

pytestmark = pytest.mark.skipif(not PAGES[0].exists(), reason="README.md is not here")


def commands(block: str) -> list[list[str]]:
    """The words after `simplepose` of each command line of a block."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if COMMAND.match(line)]
    return [words[len(words) - words[::-1].index("simplepose") :] for words in found]


def blocks(page: Path) -> list[tuple[int, str]]:
    """Position and text of the blocks that hold commands."""
    found = FENCED.finditer(page.read_text(encoding="utf-8"))
    return [(one.start(), one[1]) for one in found if commands(one[1])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The weights of the examples are not here.
    monkeypatch.setattr(options, "_with_stored_settings", lambda parsed, words: parsed)
    for _, block in blocks(page):
        for name, *words in commands(block):
            if name not in ("--help", "version"):
                options.parse(name, [word for word in words if word != "..."])


def test_commands_are_found() -> None:
    assert sum(len(commands(block)) for page in PAGES for _, block in blocks(page)) > 70


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_commands_say_whether_a_test_runs_them(page: Path) -> None:
    """A marker holds for the blocks below it, up to the next one."""
    text = page.read_text(encoding="utf-8")
    markers = [(one.start(), one[1], one[2]) for one in MARKER.finditer(text)]
    for _, kind, what in markers:
        assert kind == "not run" or (ROOT / what).is_file(), f"{page.name} names {what}"
    for start, block in blocks(page):
        assert any(place < start for place, _, _ in markers), f"{page.name}: no marker:\n{block}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = unicodedata.normalize("NFKD", re.sub(r"[`*]", "", heading)).lower()
        found.add(re.sub(r"[^\w\s-]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"
        if page.parent.name == "docs":
            assert (ROOT / "docs") in target.resolve().parents, (
                f"{page.name}: {link} leaves the site"
            )


def test_the_home_page_has_no_links_that_a_package_page_breaks() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert all(link.startswith("https://") for link in links)


def test_the_site_lists_every_page() -> None:
    listed = set(re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}
