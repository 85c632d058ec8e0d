"""Every field of every preset keeps its value; new fields are free."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import doors
import pytest


@pytest.fixture(scope="module")
def defaults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    empty = tmp_path_factory.mktemp("presets") / "empty.yaml"
    empty.write_text("preset: ''\n")
    return doors.settings(empty)


def test_presets(
    golden: Callable[..., None], request: pytest.FixtureRequest, defaults: dict[str, object]
) -> None:
    """Recorded are the defaults, and what differs from them in each preset."""
    found: dict[str, dict[str, object]] = {"": dict(defaults)}
    for name in doors.presets():
        values = doors.settings(name)
        found[name] = {key: value for key, value in values.items() if value != defaults[key]}
    if not request.config.getoption("--record", default=False):
        found = in_recorded_terms(found)
    golden("settings", found)


def in_recorded_terms(found: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The recorded presets and fields, under the names and against the defaults of then."""
    recorded = json.loads((Path(__file__).parent / "recorded" / "settings.json").read_text())[
        "value"
    ]
    before, now = recorded[""], found[""]
    old_name = {doors.RENAMED.get(key, key): key for key in before}
    assert not old_name.keys() - now.keys(), "fields are gone: see doors.RENAMED, or record"
    terms = {}
    for name in recorded.keys() & found.keys():
        own = found[name]
        values = {old_name[key]: value for key, value in (now | own).items() if key in old_name}
        terms[name] = (
            values
            if not name
            else {key: value for key, value in values.items() if value != before[key]}
        )
    return terms
