"""Dataclasses from plain values: mistakes are named with what would have been valid."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import pytest

from simplepose import UserError
from simplepose.core.settings import build, to_plain
from simplepose.data.augment import AugmentConfig
from simplepose.training.options import TrainConfig


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


@pytest.mark.parametrize(
    ("section", "kind", "values", "sentence"),
    [
        ("train", TrainConfig, {"batch_size": 0}, "train.batch_size is 0. Cure: 1 or more"),
        ("train", TrainConfig, {"learning_rate": float("nan")}, "train.learning_rate is nan. Cure: 0 or more"),
        ("train", TrainConfig, {"warmup_epochs": -1.0}, "train.warmup_epochs is -1.0. Cure: 0 or more"),
        ("train", TrainConfig, {"flat_share": 1.5}, "train.flat_share is 1.5. Cure: a number from 0 to 1"),
        ("augment", AugmentConfig, {"scale_factor": 1.0}, "augment.scale_factor is 1.0. Cure: a number from 0 to 0.95"),
        ("augment", AugmentConfig, {"flip_probability": -0.1}, "augment.flip_probability is -0.1. Cure: a number from 0 to 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(section: str, kind: type, values: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        kind(**values)


def test_scientific_notation_that_yaml_reads_as_text() -> None:
    assert build(Inner, {"rate": "1e-3"}, "f.yaml").rate == 1e-3


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
