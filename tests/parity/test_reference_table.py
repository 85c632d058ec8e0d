"""Every preset of the two references against a table of what they are known to do, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from simplepose.config import load_preset, preset_names
from simplepose.core.settings import flatten, to_plain

BOTH: dict[str, Any] = {
    "pixels.channel_order": "bgr",
    "model.stride_style": "3x3",
    "model.head": "heatmap",
    "model.deconv_layers": 3,
    "model.deconv_kernel": 4,
    "model.deconv_filters": 256,
    "model.output_kernel": 1,
    "codec.kind": "heatmap",
    "codec.adaptive_sigma": False,
    "codec.decoder": "quarter",
    "codec.flip_shift": "one_pixel",
    "codec.udp": False,
    "augment.scale_factor": 0.3,
    "augment.rotation_degrees": 40,
    "augment.rotation_probability": 0.6,
    "augment.flip_probability": 0.5,
    "augment.shift_factor": 0,
    "augment.half_body_probability": 0,
    "augment.colour": 0,
    "augment.cutout_probability": 0,
    "augment.grid_probability": 0,
    "train.epochs": 140,
    "train.batch_size": 32,
    "train.optimizer": "adam",
    "train.drop_epochs": [90, 120],
    "train.drop_factor": 0.1,
    "train.warmup_epochs": 0,
    "train.ema": 0,
    "train.hard_keypoints": 0,
    "evaluate.flip_test": True,
    "evaluate.person_score": "rescored",
    "evaluate.keypoint_threshold": 0.2,
    "evaluate.oks_nms_threshold": 0.9,
}
TF: dict[str, Any] = {
    "pixels.mean": [123.68, 116.78, 103.94],
    "pixels.std": [1, 1, 1],
    "codec.peak": 255,
    "codec.center": "floor",
    "codec.truncate": False,
    "codec.trained_when": "inside",
    "codec.zero_without_peak": False,
    "train.learning_rate": 5e-4,
    "train.weight_decay": 1e-5,
    "train.divide_decay": True,
    "train.loss_factor": 1,
    "model.batch_norm_momentum": 0.01,
    "model.batch_norm_eps": 1.001e-5,
    "evaluate.visibility_column": "one",
    "evaluate.score_decimals": 4,
    "evaluate.coordinate_decimals": 3,
}
MS: dict[str, Any] = {
    "pixels.mean": [0.485 * 255, 0.456 * 255, 0.406 * 255],
    "pixels.std": [0.229 * 255, 0.224 * 255, 0.225 * 255],
    "codec.peak": 1,
    "codec.center": "truncate",
    "codec.truncate": True,
    "codec.trained_when": "patch",
    "codec.zero_without_peak": True,
    "train.learning_rate": 1e-3,
    "train.weight_decay": 0,
    "train.loss_factor": 0.5,
    "model.batch_norm_momentum": 0.1,
    "model.batch_norm_eps": 1e-5,
    "evaluate.visibility_column": "score",
    "evaluate.score_decimals": None,
    "evaluate.coordinate_decimals": None,
}
OF_DATA: dict[str, dict[str, Any]] = {
    "coco": {},
    "mpii": {
        "augment.scale_factor": 0.25,
        "augment.rotation_degrees": 30,
        "evaluate.oks_nms_threshold": 1,
    },  # PCKh: one pose a person
    "posetrack": {
        "train.epochs": 20,
        "train.drop_epochs": [10, 15],
        "evaluate.person_score": "keypoint_mean",
    },
}


def wrong_fields(preset: str, wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> what the preset says and what the table says, where they differ."""
    fields = flatten(to_plain(load_preset(preset)))
    return {
        field: (fields[field], value)
        for field, value in wanted.items()
        if fields[field] != pytest.approx(value)
    }


REFERENCES = [name for name in preset_names() if name.endswith(("_tf", "_ms"))]


def expected(name: str) -> dict[str, Any]:
    """The table's row of a preset."""
    data, depth, size, family = name.split("_")
    height, width = (int(side) for side in size.split("x"))
    row = {**BOTH, **(TF if family == "tf" else MS), **OF_DATA[data]}
    if data == "posetrack":
        row["train.learning_rate"] /= 10
    sigma = {256: 2, 384: 3}[height]  # in heatmap pixels, 64 and 96 of them high
    return {
        **row,
        "model.backbone": f"resnet{depth[1:]}",
        "input_size_wh": [width, height],
        "codec.sigma": sigma,
    }


def test_there_is_every_size_of_both_families() -> None:
    assert len(REFERENCES) == 2 * (3 * 2 + 3 * 2 + 2)


@pytest.mark.parametrize("name", REFERENCES)
def test_preset_is_the_reference(name: str) -> None:
    assert wrong_fields(name, expected(name)) == {}


def test_the_mini_preset_is_microsofts_recipe_made_small() -> None:
    small = {
        "model.backbone": "resnet18",
        "input_size_wh": [96, 128],
        "codec.sigma": 1,
        "train.epochs": 30,
        "train.drop_epochs": [19, 26],
    }
    assert wrong_fields("coco_r18_128x96_mini", {**expected("coco_r50_256x192_ms"), **small}) == {}
    narrow = {"model.width": 16, "model.deconv_filters": 64}
    assert (
        wrong_fields(
            "coco_r18_128x96_narrow_mini", {**expected("coco_r50_256x192_ms"), **small, **narrow}
        )
        == {}
    )
