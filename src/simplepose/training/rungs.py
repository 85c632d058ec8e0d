"""The rungs between two presets: the fields in which they differ, in groups, each added to all before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simplepose.config import Config
from simplepose.core.settings import build, flatten, to_plain, unflatten
from simplepose.training.schedule import fitting_drops

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sub-pixel targets", ("codec.center", "codec.truncate", "codec.trained_when", "codec.udp")),
    ("DARK decoding", ("codec.decoder", "codec.zero_without_peak")),
    ("exact flip", ("codec.flip_shift",)),
    ("target width", ("codec.sigma", "codec.adaptive_sigma")),
    ("order of colours", ("pixels.channel_order",)),
    (
        "loss and scores",
        ("codec.kind", "train.hard_keypoints", "train.loss_factor", "evaluate.keypoint_threshold"),
    ),
    ("batch size", ("train.batch_size",)),
    (
        "AdamW, warm-up, cosine",
        (
            "train.optimizer",
            "train.learning_rate",
            "train.weight_decay",
            "train.schedule",
            "train.flat_fraction",
            "train.warmup_epochs",
            "train.drop_epochs",
            "train.drop_factor",
            "train.clip_gradient",
        ),
    ),
    ("averaged weights", ("train.ema",)),
    (
        "first values",
        (
            "model.zero_init_last_bn_gamma",
            "model.initialisation",
            "model.init",
            "train.backbone_learning_rate_factor",
            "train.frozen_stages",
        ),
    ),
    (
        "head",
        (
            "model.head",
            "model.deconv_layers",
            "model.deconv_kernel",
            "model.deconv_filters",
            "model.output_kernel",
        ),
    ),
    (
        "scale, rotation, shift, half body",
        (
            "augment.scale_factor",
            "augment.rotation_degrees",
            "augment.rotation_probability",
            "augment.shift_factor",
            "augment.half_body_probability",
            "augment.half_body_min_keypoints",
            "augment.flip_probability",
        ),
    ),
    (
        "colour and occlusion",
        ("augment.colour", "augment.cutout_probability", "augment.grid_probability"),
    ),
    ("strong, then weak", ("augment.weak_epochs",)),
    ("teacher", ("train.teacher", "train.teacher_fraction")),
)
"""What is switched together, in the order of the ladder. Fields that stand nowhere here are the last rung."""
USED_ONLY = ("codec.decoder", "codec.zero_without_peak", "codec.flip_shift", "evaluate.")
"""Fields that say how a trained network is used: rungs that differ in nothing else share one training."""
NOT_RUNGS = (
    *("preset", "output", "resume", "data.", "train.seed", "train.device", "train.precision"),
    *("train.epochs", "train.evaluate_every", "train.keep_every", "evaluate.ground_truth_boxes"),
)
"""Fields that say where, how long and on which boxes, not which recipe."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder."""

    name: str
    """What is new in it."""
    changes: dict[str, Any]
    """Field -> new value, only those that are new."""
    config: Config
    """Everything up to here."""


def make_rungs(base: Config, goal: Config) -> list[Rung]:
    """The way from one configuration to another; the first rung is the base itself, the last one has every field of the goal.

    Args:
        base: where the ladder stands.
        goal: where it leads. `NOT_RUNGS` are taken from it throughout: data, epochs, device.
    """
    start, end = flatten(to_plain(base)), flatten(to_plain(goal))
    common = {name: value for name, value in end.items() if name.startswith(NOT_RUNGS)}
    start = {**start, **common}
    differing = [name for name in end if start[name] != end[name]]
    listed = {name for _, names in GROUPS for name in names}
    simcc = "simcc" in (start["codec.kind"], end["codec.kind"])
    groups = [
        *(with_head(GROUPS) if simcc else GROUPS),
        ("everything else", tuple(name for name in differing if name not in listed)),
    ]
    values, rungs = dict(start), []
    for name, names in [("reference", ()), *groups]:
        changes = {field: end[field] for field in names if field in differing}
        if not changes and name != "reference":
            continue
        values |= changes
        rungs.append(Rung(name, changes, build(Config, unflatten(values), f"rung {name!r}")))
    return rungs


def training_rungs(rungs: list[Rung]) -> list[int]:
    """For each rung the place of the one whose training serves it: the last that differs from it only in how a network is used.

    A training with averaged weights serves those without as well, because the average changes nothing in the training; both are kept.
    """
    fields = [flatten(to_plain(rung.config)) for rung in rungs]

    def serves(mine: dict[str, Any], other: dict[str, Any]) -> bool:
        differing = {
            name for name in mine if mine[name] != other[name] and not name.startswith(USED_ONLY)
        }
        return not differing or (differing == {"train.ema"} and not mine["train.ema"])

    return [
        max(place for place in range(len(rungs)) if serves(mine, fields[place])) for mine in fields
    ]


def with_head(groups: tuple[tuple[str, tuple[str, ...]], ...]) -> list[tuple[str, tuple[str, ...]]]:
    """The groups with what belongs to the kind of output switched together with the head: SimCC's head and codec need each other."""
    moved = ("codec.kind", "codec.sigma", "codec.adaptive_sigma")
    return [
        (
            name,
            (*fields, *moved)
            if name == "head"
            else tuple(field for field in fields if field not in moved),
        )
        for name, fields in groups
    ]


def shorten(config: Config, epochs: int) -> Config:
    """The same recipe in another number of epochs: drops, warm-up and weak epochs keep their share of the run."""
    share = epochs / config.train.epochs
    drops = fitting_drops((drop * share for drop in config.train.drop_epochs), epochs)
    train = replace(
        config.train,
        epochs=epochs,
        drop_epochs=drops,
        warmup_epochs=config.train.warmup_epochs * share,
    )
    weak = round(config.augment.weak_epochs * share)
    return replace(config, train=train, augment=replace(config.augment, weak_epochs=weak))
