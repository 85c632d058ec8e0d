"""Fifty updates of each recipe on real pictures, and batches from every place that holds pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doors
import pytest

TINY = {
    "input_size_wh": [64, 96],
    "model.backbone": "resnet18",
    "model.width": 8,
    "model.deconv_filters": 16,
    "model.init": "",
    "data.workers": 1,
    "data.cache": "files",
    "data.warp": "host",
    "train.epochs": 25,
    "train.batch_size": 4,
    "train.evaluate_every": 0,
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.seed": 3,
}
"""A network of minimal width; two updates an epoch of eight people."""
DROPS = {"train.drop_epochs": [10, 20]}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "ms": ("coco_r50_256x192_ms", DROPS),
    "tf": ("coco_r50_256x192_tf", DROPS),
    "modern": ("coco_r18_128x96_mini_modern", {"train.ema": 0.9}),
    "simcc": (
        "coco_r50_256x192_ms",
        DROPS
        | {
            "model.head": "simcc",
            "model.deconv_layers": 0,
            "codec.kind": "simcc",
            "codec.decoder": "dark",
        },
    ),
}
Train = Callable[..., tuple[list[float], Path]]


@pytest.fixture
def train(few_people: Callable[[int], tuple[Path, Path]], tmp_path: Path) -> Train:
    """`train(recipe, **fields)`: the mean loss of each epoch, and the run folder."""
    people, images = few_people(8)

    def run(recipe: str, name: str = "run", **fields: Any) -> tuple[list[float], Path]:
        base, own = RECIPES[recipe]
        data = {"data.train_annotations": str(people), "data.train_images": str(images)}
        preset = doors.write_preset(tmp_path / f"{name}.yaml", base, TINY | own | data | fields)
        doors.train(preset, tmp_path / name)
        rows = [
            json.loads(line)
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        return [row["loss"] for row in rows if "loss" in row], tmp_path / name

    return run


def trained(folder: Path) -> dict[str, Any]:
    """The tensors of the weights for use."""
    state = doors.load_model(folder).network.state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_loss_curve(recipe: str, train: Train, golden: Callable[..., None]) -> None:
    losses, folder = train(recipe)
    assert len(losses) == 25
    golden(f"training_{recipe}", losses, rtol=0.02, exact=[losses, [*trained(folder).values()]])


def test_loss_curve_with_a_teacher(train: Train, golden: Callable[..., None]) -> None:
    _, teacher = train("ms", "teacher", **{"train.epochs": 10, "train.drop_epochs": [6, 8]})
    losses, folder = train(
        "ms", **{"train.teacher": str(teacher), "train.teacher_share": 0.3, "train.seed": 4}
    )
    golden("training_teacher", losses, rtol=0.02, exact=[losses, [*trained(folder).values()]])


@pytest.mark.parametrize("recipe", ["ms", "tf", "modern"])
def test_batches(
    recipe: str,
    few_people: Callable[[int], tuple[Path, Path]],
    tmp_path: Path,
    golden: Callable[..., None],
) -> None:
    """Order, augmentation and pixels of the second epoch."""
    base, own = RECIPES[recipe]
    people, images = few_people(40)
    data = {
        "data.train_annotations": str(people),
        "data.train_images": str(images),
        "train.batch_size": 16,
    }
    preset = doors.write_preset(tmp_path / "preset.yaml", base, TINY | own | data)
    packed = tmp_path / "packed"
    doors.pack(preset, people, images, packed)
    exact, value = {}, {}
    for place in ("files", "pack", "ram", "device"):
        exact[place] = list(doors.batches(preset, 1, place, packed))
        value[place] = [
            {
                "rows": batch["rows"].tolist(),
                "visible": int(batch["visible"].sum()),
                "pixels": round(float(batch["pixels"].mean()), 2),
                "keypoints": round(float(batch["keypoints"].mean()), 3),
            }
            for batch in exact[place]
        ]
    golden(f"batches_{recipe}", value, atol=0.05, exact=exact)
