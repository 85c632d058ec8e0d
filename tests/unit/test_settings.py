"""Dataclasses from plain values: mistakes are named with what would have been valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from simplepose import UserError
from simplepose.settings import build, to_plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = ""
    size: tuple[int, int] = (1, 2)
    drops: tuple[int, ...] = ()
    decimals: int | None = None
    on: bool = False
    inner: Inner = field(default_factory=Inner)


def test_round_trip() -> None:
    value = build(Outer, {"name": "x", "size": [3, 4], "drops": [9], "decimals": 3, "inner": {"rate": 2, "kind": "b"}}, "f.yaml")
    assert value == Outer(name="x", size=(3, 4), drops=(9,), decimals=3, inner=Inner(rate=2.0, kind="b"))
    assert build(Outer, to_plain(value), "f.yaml") == value
    assert build(Outer, {}, "f.yaml") == Outer()


def test_scientific_notation_that_yaml_reads_as_text() -> None:
    assert build(Inner, {"rate": "1e-3"}, "f.yaml").rate == 1e-3


def test_defaults_of_an_instance_are_kept() -> None:
    base = Outer(name="base", inner=Inner(rate=5.0))
    assert build(Outer, {"inner": {"kind": "b"}}, "f", default=base) == Outer(name="base", inner=Inner(rate=5.0, kind="b"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nam": "x"}, "unknown key nam.*name, size, drops"),
        ({"inner": {"rat": 1}}, r"unknown key inner\.rat.*inner\.rate, inner\.kind"),
        ({"inner": {"kind": "c"}}, r"inner\.kind is 'c'.*one of a, b"),
        ({"size": [1]}, "size is .1., expected a list of 2"),
        ({"size": [1, "x"]}, "size is 'x', expected int"),
        ({"name": 3}, "name is 3, expected str"),
        ({"on": "yes please"}, "on is 'yes please', expected bool"),
        ({"decimals": "x"}, "decimals is 'x', expected int"),
        ({"inner": {"rate": True}}, "rate is True, expected float"),
        ({"inner": 3}, "inner.* is 3, expected a mapping"),
        ([1], "expected a mapping"),
    ],
)
def test_mistakes_are_named(values: object, words: str) -> None:
    with pytest.raises(UserError, match=f"f.yaml: .*{words}"):
        build(Outer, values, "f.yaml")
