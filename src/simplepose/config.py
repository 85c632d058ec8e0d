"""The whole configuration: one tree of frozen dataclasses, presets in YAML, every field documented where it is owned.

A preset may name a `base` preset and then lists only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from simplepose.core.errors import UserError
from simplepose.core.settings import build, to_plain
from simplepose.data.augment import AugmentConfig
from simplepose.data.source import DataConfig
from simplepose.evaluation.top_down import EvaluateConfig
from simplepose.pose.codec import CodecConfig
from simplepose.pose.network import ModelConfig
from simplepose.pose.pixels import PixelConfig
from simplepose.training.options import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a training run."""

    preset: str = ""
    """Name of the preset it began from."""
    output: str = ""
    """Run folder; runs/PRESET by default. A folder with another run is never overwritten."""
    resume: bool = False
    """Go on with the run in the output folder."""
    profile: bool = False
    """Only measure where the time of a training step goes, and say what to change; nothing is written."""
    input_size_wh: tuple[int, int] = (192, 256)
    """Width and height of the network's input in pixels."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the data is."""
    pixels: PixelConfig = field(default_factory=PixelConfig)
    """What the network sees."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    codec: CodecConfig = field(default_factory=CodecConfig)
    """Targets and decoding."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of a sample."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training loop."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """The test."""

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 32 for side in self.input_size_wh):
            raise UserError(f"input_size_wh is {self.input_size_wh}. Cure: choose sides that are multiples of 32, e.g. 192 256")
        if (self.model.head == "simcc") != (self.codec.kind == "simcc"):
            raise UserError(
                f"model.head is {self.model.head} and codec.kind {self.codec.kind}: only a SimCC head makes SimCC distributions. "
                "Cure: --model.head simcc with --codec.kind simcc, or neither"
            )

    @property
    def heatmap_size_wh(self) -> tuple[int, int]:
        """Width and height of the network's output."""
        stride = self.model.heatmap_stride
        return self.input_size_wh[0] // stride, self.input_size_wh[1] // stride

    @property
    def run_folder(self) -> Path:
        """Where the run is written."""
        return Path(self.output or f"runs/{self.preset or 'unnamed'}")


def preset_names() -> list[str]:
    """Names of the built-in presets."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in (resources.files("simplepose") / "presets").iterdir() if entry.name.endswith(".yaml")
    )


def load_preset(name: str) -> Config:
    """A built-in preset by name, or any YAML file by path.

    Raises:
        UserError: no such preset (all are listed), an unknown key (the valid ones are listed), or a value of the wrong type.
    """
    values = _read(name)
    return replace(build(Config, values, name), preset=values.get("preset") or Path(name).stem)


def _read(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset laid over those of its bases; `above` are the files that name it as theirs."""
    if name in above:
        raise UserError(f"{above[-1]}: `base` {name} leads back to itself. Cure: name another preset as base, or leave it out")
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read preset {name}: {error.strerror}. Cure: check the path") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{name} is not UTF-8 text (byte {error.start}). Cure: save it as UTF-8") from error
    elif name in preset_names():
        text = (resources.files("simplepose") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise UserError(f"there is no preset {name!r}. Cure: a .yaml file, or one of {', '.join(preset_names())}")
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {str(error).replace(chr(10), ' ')}. Cure: correct that line") from error
    if not isinstance(values, dict):
        raise UserError(f"{name} holds {type(values).__name__}, expected names and values. Cure: see the built-in presets")
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UserError(f"{name}: `base` is {base!r}. Cure: the name of one preset, or the path of one .yaml file")
    return _merge(_read(base, (*above, name)), values) if base else values


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, mapping by mapping."""
    merged = dict(under)
    for key, value in over.items():
        merged[key] = _merge(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def dump_config(config: Config) -> str:
    """YAML that `load_preset` reads back."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, width=120)
