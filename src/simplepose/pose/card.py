"""The model card of a network that is passed on: what it is, how it was trained, what was measured,
how to use it. The header is that of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from simplepose.core.files import write_bytes
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint
from simplepose.pose.hub import CARD, MODEL

if TYPE_CHECKING:
    from torch import nn


def save_with_card(
    path: str | Path,
    network: nn.Module,
    spec: ModelSpec,
    *,
    half: bool = False,
    licence: str = "",
    about: str = "",
) -> Path:
    """Writes a pose network or a detector and its card; see `PoseEstimator.save_pretrained`."""
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / MODEL
    spec = without_folders(spec)
    save_checkpoint(file, network, spec, half=half)
    card = file.with_suffix(".md") if file == path else path / CARD
    text = model_card(file, network, spec, licence=licence, about=about)
    write_bytes(card, text.encode())
    return file


def without_folders(spec: ModelSpec) -> ModelSpec:
    """The spec with the names of files in place of their paths: folders of the machine that trained
    the network are nobody else's business."""
    return replace(spec, config=_names(spec.config), score=_names(spec.score))


def _names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _names(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_names(one) for one in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def model_card(
    path: Path, network: nn.Module, spec: ModelSpec, *, licence: str = "", about: str = ""
) -> str:
    """Markdown.

    Args:
        path: the weight file, which is there already.
        network: what it holds.
        spec: what it says of itself.
        licence: of the weights.
        about: Markdown that stands below the table.
    """
    header = {
        "library_name": "simplepose",
        "pipeline_tag": "object-detection" if spec.detects else "keypoint-detection",
        "license": licence.lower() or "unknown",
        "tags": ["object-detection"] if spec.detects else ["keypoint-detection", "pose-estimation"],
    }
    millions = sum(one.numel() for one in network.parameters()) / 1e6
    (width, height), model = spec.input_size_wh, spec.model
    listed = ", ".join(spec.schema.keypoints)
    rows = {
        "classes" if spec.detects else "keypoints": listed
        if spec.detects
        else f"{len(spec.schema)} ({spec.schema.name}): {listed}",
        "network": f"{model.backbone}, head {model.head}, {millions:.2f} M parameters"
        if model
        else "",
        "input": f"{height} x {width} pixels (height x width), {spec.pixels.channel_order.upper()}",
        "trained": _training(spec),
        "measured": _score(spec.score),
        "file": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB",
        "licence": licence or "not stated",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items() if text)
    opened = f'estimator = PoseEstimator.from_pretrained("{path.name}")  # or hf:OWNER/NAME'
    if spec.detects:
        opened = (
            f"# on the command line: --boxes {path.name}\n"
            f'estimator = PoseEstimator(detector="{path.name}")'
        )
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n"
        f"# {path.stem if path.stem != 'model' else spec.preset}\n\n"
        f"A {'detector' if spec.detects else 'top-down pose network'}, trained with simplepose.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"{about.strip() + chr(10) * 2 if about.strip() else ''}"
        "## Use\n\n"
        "```python\n"
        "from simplepose import PoseEstimator\n\n"
        f"{opened}\n"
        'estimator("photo.jpg").draw().save("poses.jpg")\n'
        "```\n"
    )


def _training(spec: ModelSpec) -> str:
    """`preset P on FILE, begun with W, 4 epochs, seed 0`."""
    data, train = (spec.config.get(name, {}) for name in ("data", "train"))
    parts = [f"preset {spec.preset}"]
    if source := data.get("train_annotations") or data.get("root"):
        parts[0] += f" on {source}"
    if start := train.get("weights") or train.get("continue_from"):
        parts.append(f"begun with {start}")
    parts += [f"{train['epochs']} epochs"] if "epochs" in train else []
    parts += [f"seed {train['seed']}"] if "seed" in train else []
    return ", ".join(parts)


def _score(score: dict[str, Any]) -> str:
    """`AP .277, AP50 .588 on FILE, boxes: ground truth`; empty where nothing was measured."""
    numbers = [
        f"{name} {value:.3f}"
        for name, value in score.items()
        if isinstance(value, float) and name in ("AP", "AP50", "AP75", "AR", "PCKh@0.5")
    ]
    if not numbers:
        return ""
    where = f" on {score['annotations']}" if "annotations" in score else ""
    return f"{', '.join(numbers)}{where}, boxes: {score.get('boxes', 'not stated')}"
