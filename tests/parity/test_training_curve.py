"""Fifty updates of each family, followed by an independent training loop from the same first weights.

The other side has its own data (cv2, affines through three points), targets, network (functional, batch norm written out), loss, L2 and
Adam; only the random numbers (order and augmentation) and the first weights are shared. Both sides compute in double precision: such a
small training amplifies differences about sevenfold an update (measured: the very same code in single and double precision is 1 % apart
after 20 updates), because Adam divides gradients by their own size. For the same reason the rate falls early, so that all three rates are
seen and rounding stays below the tolerance; crops come from the picture files, and the mirror is a matrix on both sides (test_crops
compares it with a mirrored copy): one grey level in one pixel moves these curves by 1e-3. The backbone is slimmed for speed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import references
import torch
from torch.nn import functional as F

from simplepose.config import Config, load_preset
from simplepose.core.schema import COCO_17
from simplepose.data.augment import epoch_samples
from simplepose.data.coco import read_coco
from simplepose.pose.checkpoints import ModelSpec, read_checkpoint, save_checkpoint
from simplepose.pose.network import PoseNetwork
from simplepose.training.train import train

SIZE_WH, MAP_WH, PEOPLE, BATCH = (64, 96), (16, 24), 10, 4
DROPS = (1, 2)
NORM = {"ms": (0.1, 1e-5), "tf": (0.01, 1.001e-5)}
RATE, DECAY = {"ms": 1e-3, "tf": 5e-4}, {"ms": 0.0, "tf": 1e-5}


def drawn_people(folder: Path) -> tuple[Path, Path]:
    """Ten smooth pictures of different size with one annotated person each."""
    rng = np.random.default_rng(8)
    content: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }
    for index in range(1, PEOPLE + 1):
        width, height = (int(side) for side in rng.integers(80, 160, 2))
        picture = cv2.resize(
            rng.integers(0, 256, (12, 12, 3), np.uint8),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        cv2.imwrite(str(folder / f"{index}.png"), picture)
        x, y = rng.uniform(-5, 20, 2)
        w, h = rng.uniform(40, 70, 2)
        points = np.stack(
            [rng.uniform(x, x + w, 17), rng.uniform(y, y + h, 17), rng.integers(0, 3, 17)], 1
        )
        content["images"].append(
            {"id": index, "file_name": f"{index}.png", "width": width, "height": height}
        )
        content["annotations"].append(
            {
                "id": index,
                "image_id": index,
                "category_id": 1,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
                "keypoints": points.ravel().tolist(),
                "num_keypoints": 17,
            }
        )
    (folder / "people.json").write_text(json.dumps(content))
    return folder / "people.json", folder


def real_people(folder: Path, root: Path) -> tuple[Path, Path]:
    """Ten people of mini-COCO, each in a picture of their own."""
    content = json.loads((root / "person_keypoints_train_small384.json").read_text())
    chosen = {}
    for annotation in content["annotations"]:
        if annotation["num_keypoints"] > 8 and len(chosen) < PEOPLE:
            chosen.setdefault(annotation["image_id"], annotation)
    content["annotations"] = list(chosen.values())
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    (folder / "people.json").write_text(json.dumps(content))
    return folder / "people.json", root / "images"


def forward(state: dict[str, torch.Tensor], x: torch.Tensor, family: str) -> torch.Tensor:
    """ResNet-18 and three deconvolutions in training mode."""
    share, eps = NORM[family]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = (
            x.mean((0, 2, 3), keepdim=True),
            x.var((0, 2, 3), unbiased=False, keepdim=True),
        )
        count = x.numel() / x.shape[1]
        with torch.no_grad():
            state[f"{name}.running_mean"] += share * (
                mean.flatten() - state[f"{name}.running_mean"]
            )
            state[f"{name}.running_var"] += share * (
                variance.flatten() * count / (count - 1) - state[f"{name}.running_var"]
            )
        scaled = (x - mean) / torch.sqrt(variance + eps)
        return scaled * state[f"{name}.weight"].view(1, -1, 1, 1) + state[f"{name}.bias"].view(
            1, -1, 1, 1
        )

    x = F.relu(
        norm(F.conv2d(x, state["backbone.conv1.weight"], stride=2, padding=3), "backbone.bn1")
    )
    x = F.max_pool2d(x, 3, 2, padding=1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"backbone.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if f"{name}.downsample.0.weight" in state:
                shortcut = norm(
                    F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride),
                    f"{name}.downsample.1",
                )
            y = F.relu(
                norm(
                    F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1),
                    f"{name}.bn1",
                )
            )
            x = F.relu(
                norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
                + shortcut
            )
    for layer in (0, 3, 6):
        x = F.conv_transpose2d(x, state[f"deconv_layers.{layer}.weight"], stride=2, padding=1)
        x = F.relu(norm(x, f"deconv_layers.{layer + 1}"))
    return F.conv2d(x, state["final_layer.weight"], state["final_layer.bias"])


def plain_training(
    state: dict[str, torch.Tensor], config: Config, family: str
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Mean loss of each epoch, and the trained tensors."""
    annotations = read_coco(config.data.train_annotations, config.data.train_images)
    boxes = [
        references.clip_box(*map(float, box), *map(int, size))
        for box, size in zip(annotations.bbox_xywh, annotations.person_sizes_wh, strict=True)
    ]
    learned = [name for name in state if "running" not in name]
    m, v = ({name: torch.zeros_like(state[name]) for name in learned} for _ in range(2))
    curve, update, per_epoch = [], 0, math.ceil(PEOPLE / BATCH)
    for epoch in range(config.train.epochs):
        rows, draws = epoch_samples(
            annotations.trainable(),
            config.augment,
            seed=0,
            number=epoch,
            batch_size=BATCH,
            fill=family == "tf",
        )
        losses = []
        for first in range(0, len(rows), BATCH):
            inputs, maps, weights = [], [], []
            for place in range(first, min(first + BATCH, len(rows))):
                row = int(rows[place])
                picture = cv2.imread(
                    annotations.image_paths[annotations.image_index[row]],
                    cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
                )
                crop, points, visible = references.training_sample(
                    picture,
                    boxes[row],
                    annotations.keypoints[row],
                    annotations.visibility[row],
                    float(draws.scales[place]),
                    float(draws.rotations[place]),
                    bool(draws.flips[place]),
                    SIZE_WH,
                    copy=False,
                )
                target, weight = references.targets(points, visible, family, 2, SIZE_WH, MAP_WH)
                inputs.append(references.normalised(crop, family))
                maps.append(target)
                weights.append(weight)
            x, target, weight = (
                torch.from_numpy(np.array(values)) for values in (inputs, maps, weights)
            )
            for name in learned:
                state[name].requires_grad_(True)
            predicted = forward(state, x, family)
            squares = (predicted - target) ** 2 * weight[:, :, None, None]
            # tf: one mean; ms: half the mean of each keypoint, averaged
            loss = (
                squares.mean()
                if family == "tf"
                else sum(0.5 * squares[:, k].mean() for k in range(17)) / 17
            )
            gradients = torch.autograd.grad(loss, [state[name] for name in learned])
            losses.append(float(loss.detach()))
            passed = sum(
                ((update + 1) // per_epoch if family == "tf" else epoch) >= drop for drop in DROPS
            )
            rate, update = RATE[family] / 10**passed, update + 1
            with torch.no_grad():
                for name, gradient in zip(learned, gradients, strict=True):
                    kernel = state[name].dim() > 1
                    gradient = gradient + DECAY[family] * state[name] if kernel else gradient
                    m[name] = 0.9 * m[name] + 0.1 * gradient
                    v[name] = 0.999 * v[name] + 0.001 * gradient * gradient
                    first_correction, second_correction = (
                        1 - 0.9**update,
                        math.sqrt(1 - 0.999**update),
                    )
                    if family == "tf":
                        step = (
                            rate
                            * second_correction
                            / first_correction
                            * m[name]
                            / (v[name].sqrt() + 1e-8)
                        )
                    else:
                        step = (
                            rate
                            / first_correction
                            * m[name]
                            / (v[name].sqrt() / second_correction + 1e-8)
                        )
                    state[name] = state[name].detach() - step
        curve.append(sum(losses) / len(losses))
    return curve, state


def compare(
    family: str,
    annotations: Path,
    images: Path,
    folder: Path,
    epochs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(4)
    monkeypatch.setattr("simplepose.pose.backbone.STAGE_WIDTHS", (64, 16, 16, 16))
    preset = load_preset(references.PRESETS[family])
    model = replace(preset.model, backbone="resnet18", deconv_filters=16, init="")
    network = PoseNetwork(model, 17)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.float())  # weight files are read in single precision
    state = {
        name: tensor.clone()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    weights = folder / "first.safetensors"
    save_checkpoint(
        weights, network, ModelSpec(preset="", schema=COCO_17, input_size_wh=SIZE_WH, model=model)
    )
    config = replace(
        preset,
        output=str(folder / "run"),
        input_size_wh=SIZE_WH,
        model=model,
        data=replace(
            preset.data,
            train_annotations=str(annotations),
            train_images=str(images),
            cache="files",
            warp="host",
        ),
        train=replace(
            preset.train,
            weights=str(weights),
            epochs=epochs,
            batch_size=BATCH,
            drop_epochs=DROPS,
            evaluate_every=0,
            device="cpu",
        ),
    )
    train(config)
    rows = [
        json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    ours = [row["loss"] for row in rows if "loss" in row and "epoch" in row]
    before = {name: tensor.clone() for name, tensor in state.items()}
    expected, after = plain_training(state, config, family)
    assert len(ours) == len(expected) == epochs
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    tensors, _ = read_checkpoint(folder / "run" / "checkpoints" / "last.safetensors")
    for kind, wanted in (("kernels", 4), ("norms and biases", 1)):
        names = [name for name in after if after[name].dim() == wanted]
        moved, missed = (
            torch.cat([(after[name] - other[name]).flatten() for name in names]).norm().item()
            for other in (before, tensors)
        )
        print(
            f"{family} {kind}: moved {moved:.4g}, missed {missed:.3g}; curve off by {np.max(np.abs(np.divide(ours, expected) - 1)):.2g}"
        )
        assert missed < 0.01 * moved, kind


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("family", references.FAMILIES)
def test_drawn_people(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """21 updates on pictures that need no data."""
    compare(family, *drawn_people(tmp_path), tmp_path, 7, monkeypatch)


@pytest.mark.parametrize("family", references.FAMILIES)
def test_mini_coco(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_data) -> None:
    """51 updates on photographs."""
    compare(
        family, *real_people(tmp_path, real_data("coco_train_small384")), tmp_path, 17, monkeypatch
    )
