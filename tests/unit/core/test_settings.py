"""Settings check themselves, whoever makes them: nonsense is refused with the field, the value and what would be valid."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from simplepose import UserError
from simplepose.cli import main
from simplepose.config import (
    AugmentConfig,
    CodecConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    PixelConfig,
    TrainConfig,
    load_preset,
)
from simplepose.core.settings import (
    AtLeast0,
    AtLeast1,
    Flag,
    NotNegative,
    PathText,
    build,
    flatten,
    settings,
    to_plain,
    unflatten,
)
from simplepose.tracking.smooth import OneEuroConfig
from simplepose.tracking.track import TrackConfig

SECTIONS = {
    "data": DataConfig,
    "pixels": PixelConfig,
    "model": ModelConfig,
    "codec": CodecConfig,
    "augment": AugmentConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
NONSENSE: list[tuple[str, str, Any, str]] = [
    ("train", "optimizer", "sgd", "adamw"),
    ("train", "schedule", "cosine", "flat_cosine"),
    ("train", "learning_rate", math.inf, "finite"),
    ("train", "drop_epochs", (-5,), "0"),
    ("train", "timeout_minutes", -1, "more than 0"),
    ("train", "save_every_minutes", math.nan, "finite"),
    ("train", "precision", "fp8", "bf16"),
    ("train", "last_batch", "drop", "fill"),
    ("train", "flat_fraction", 1.5, "1"),
    ("train", "batch_size", 0, "1"),
    ("train", "ema", 1.0, "less than 1"),
    ("train", "seed", -1, "0"),
    ("train", "seed", 2**63, "1e+18 or less"),
    ("codec", "decoder", "darkk", "dark"),
    ("codec", "kind", "simc", "simcc"),
    ("codec", "center", "round", "exact"),
    ("codec", "sigma", 0.0, "more than 0"),
    ("data", "cache", "disk", "ram"),
    ("data", "workers", -1, "0"),
    ("evaluate", "person_score", "mean", "rescored"),
    ("evaluate", "batch_size", 2.5, "integer"),
    ("evaluate", "best_per_picture", -1, "0"),
    ("evaluate", "keypoint_threshold", math.nan, "finite"),
    ("evaluate", "score_decimals", -1, "0"),
    ("augment", "weak_epochs", -1, "0"),
    ("augment", "scale_factor", 1.0, "0.95"),
    ("model", "backbone", "resnet42", "resnet50"),
    ("model", "width", 0, "1"),
    ("model", "deconv_kernel", 5, "4"),
    ("pixels", "std", (1.0, 0.0, 1.0), "more than 0"),
    ("pixels", "mean", (0.0, math.nan, 0.0), "finite"),
]


def words(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize(("section", "name", "value", "cure"), NONSENSE)
def test_nonsense_is_refused_from_python_yaml_and_command_line(
    section: str,
    name: str,
    value: Any,
    cure: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError) as python:
        SECTIONS[section](**{name: value})
    assert str(python.value).startswith(f"{section}.{name} is ") and cure in python.value.cure

    path = tmp_path / "mine.yaml"
    plain = list(value) if isinstance(value, tuple) else value
    path.write_text(yaml.safe_dump({"base": "coco_r50_256x192_ms", section: {name: plain}}))
    with pytest.raises(UserError) as file:
        load_preset(str(path))
    assert str(file.value) == f"{path}: {python.value}"

    option = f"--{section}.{name}".replace("_", "-")
    assert main(["train", "coco_r50_256x192_ms", option, *words(value)]) == 2
    error = capsys.readouterr().err
    offending = (
        next(word for word in words(value) if word not in ("1.0", "0.0") or len(words(value)) == 1)
        if name != "std"
        else "0.0"
    )
    assert error.startswith(f"error: {option} is {offending}. Cure: ") and cure in error


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TrackConfig(min_similarity=math.nan), "track.min_similarity is nan"),
        (lambda: TrackConfig(box_margin=-3.0), "track.box_margin is -3.0"),
        (lambda: TrackConfig(mode="sort"), "track.mode is 'sort'"),  # type: ignore[arg-type]
        (lambda: TrackConfig(history=0), "track.history is 0"),
        (lambda: OneEuroConfig(min_cutoff=0.0), "smooth.min_cutoff is 0.0"),
        (lambda: Config(input_size_wh=(192,)), "input_size_wh is (192,)"),  # type: ignore[arg-type]
        (lambda: Config(input_size_wh=(100, 128)), "input_size_wh is 100"),
    ],
)
def test_nonsense_in_python(make: Any, name: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert caught.value.problem == f"{name}." and caught.value.cure


@pytest.mark.parametrize("size", ["[192]", "[100, 128]", "[0, 32]", "192", "[a, b]"])
def test_sizes_in_yaml(size: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"input_size_wh: {size}\n")
    with pytest.raises(UserError) as caught:
        load_preset(str(tmp_path / "mine.yaml"))
    assert caught.value.problem.startswith(f"{tmp_path / 'mine.yaml'}: input_size_wh is ")


@settings("inner")
class Inner:
    rate: NotNegative = 1.0
    kind: Literal["a", "b"] = "a"


@settings()
class Outer:
    name: PathText = ""
    size: tuple[AtLeast1, AtLeast1] = (1, 2)
    drops: tuple[AtLeast0, ...] = ()
    decimals: AtLeast0 | None = None
    on: Flag = False
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.on and not self.drops:
            raise UserError("on needs drops. Cure: give both")


def test_round_trip() -> None:
    values = {
        "name": "x",
        "size": [3, 4],
        "drops": [9],
        "decimals": 3,
        "inner": {"rate": 2, "kind": "b"},
    }
    value = build(Outer, values, "f.yaml")
    assert value == Outer(
        name="x", size=(3, 4), drops=(9,), decimals=3, inner=Inner(rate=2.0, kind="b")
    )
    assert isinstance(value.inner.rate, float) and isinstance(value.size, tuple)
    assert build(Outer, to_plain(value), "f.yaml") == value
    assert build(Outer, {}, "f.yaml") == Outer()
    assert unflatten(flatten(to_plain(value))) == to_plain(value)


def test_settings_are_frozen_and_checked_again_when_they_are_replaced() -> None:
    from dataclasses import replace

    with pytest.raises(FrozenInstanceError):
        Inner().rate = 2.0  # type: ignore[misc]
    with pytest.raises(UserError, match=r"^inner\.rate is -1"):
        replace(Inner(), rate=-1)


def test_what_yaml_and_python_write_in_other_forms() -> None:
    assert build(Inner, {"rate": "1e-3"}, "f.yaml").rate == 1e-3  # YAML 1.1 reads it as text
    assert build(Inner, {"rate": 2}, "f.yaml").rate == 2.0
    assert Outer(name=Path("a/b")).name == "a/b"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "problem", "cure"),
    [
        ({"nam": "x"}, "unknown key nam", "name"),
        ({"inner": {"rat": 1}}, "unknown key inner.rat", "inner.rate"),
        ({"inner": {"zzz": 1}}, "unknown key inner.zzz", "inner.rate, inner.kind"),
        ({"inner": {"kind": "c"}}, "inner.kind is 'c'", "'a' or 'b'"),
        ({"size": [1]}, "size is [1]", "one value more"),
        ({"size": [1, 2, 3]}, "size is [1, 2, 3]", "2"),
        ({"size": [1, "x"]}, "size is 'x'", "integer"),
        ({"name": 3}, "name is 3", "string"),
        ({"on": "yes please"}, "on is 'yes please'", "true or false"),
        ({"on": 1}, "on is 1", "true or false"),
        ({"decimals": "x"}, "decimals is 'x'", "integer"),
        ({"decimals": True}, "decimals is True", "number"),
        ({"inner": {"rate": True}}, "inner.rate is True", "number"),
        ({"inner": {"rate": None}}, "inner.rate is None", "number"),
        ({"inner": 3}, "inner is 3", "names and values"),
        ({"on": True}, "on needs drops", "give both"),
        ([1], "all of it is [1]", "names and values"),
    ],
)
def test_mistakes_in_a_file_are_named(values: object, problem: str, cure: str) -> None:
    with pytest.raises(UserError) as caught:
        build(Outer, values, "f.yaml")
    assert caught.value.problem == f"f.yaml: {problem}." and cure in caught.value.cure


def test_a_rule_between_two_fields_holds_in_python_too() -> None:
    with pytest.raises(UserError, match=r"^on needs drops"):
        Outer(on=True)
    assert Outer(on=True, drops=(1,)).on


def test_every_number_of_the_tree_has_a_limit() -> None:
    """A bare int or float would take True, nan and -1."""
    bare = [
        f"{name}.{one.name}"
        for name, cls in SECTIONS.items()
        for one in fields(cls)
        if str(one.type) in ("int", "float", "bool")
    ]
    assert not bare
