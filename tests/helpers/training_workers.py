"""A small data set, a tiny network, and trainings in processes of their own that can be killed. No test in here."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simplepose.config import Config, load_preset
from simplepose.core.settings import build, flatten, to_plain, unflatten
from simplepose.core.stopping import Stopped

KEYPOINTS = 17


def write_people(folder: Path, count: int = 22) -> Path:
    """`count` people on half as many pictures of noise, as COCO keypoints; returns the folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    images, people = [], []
    for picture in range((count + 1) // 2):
        name = f"{picture:04d}.png"
        cv2.imwrite(
            str(folder / name),
            cv2.resize(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), (80, 64)),
        )
        images.append({"id": picture + 1, "file_name": name, "width": 80, "height": 64})
    for number in range(count):
        left, top = rng.uniform(2, 30, 2)
        points = np.concatenate(
            [
                rng.uniform([left, top], [left + 30, top + 30], (KEYPOINTS, 2)),
                rng.integers(1, 3, (KEYPOINTS, 1)),
            ],
            axis=1,
        )
        people.append(
            {
                "id": number + 1,
                "image_id": number // 2 + 1,
                "category_id": 1,
                "bbox": [left, top, 30.0, 30.0],
                "area": 500.0,
                "iscrowd": 0,
                "keypoints": points.round(2).ravel().tolist(),
                "num_keypoints": KEYPOINTS,
            }
        )
    category = {
        "id": 1,
        "name": "person",
        "keypoints": [f"k{number}" for number in range(KEYPOINTS)],
        "skeleton": [],
    }
    (folder / "people.json").write_text(
        json.dumps({"images": images, "annotations": people, "categories": [category]})
    )
    return folder


def changed(config: Config, values: dict[str, Any]) -> Config:
    """`config` with other values in some places."""
    return build(Config, unflatten(flatten(to_plain(config)) | flatten(values)), "test")


def small_config(
    data: Path,
    output: Path,
    *,
    kind: str = "heatmap",
    augment: dict[str, Any] | None = None,
    **train: Any,
) -> Config:
    """A run of a few seconds."""
    values = {
        "output": str(output),
        "input_size_wh": [32, 32],
        "codec": {"kind": kind},
        "augment": augment or {},
        "data": {
            "train_annotations": str(data / "people.json"),
            "train_images": str(data),
            "workers": 1,
        },
        "train": {
            "precision": "fp32",
            "epochs": 3,
            "batch_size": 4,
            "drop_epochs": [2],
            "evaluate_every": 0,
            "save_every_minutes": 0.0,
            **train,
        },
    }
    return changed(load_preset("coco_r18_128x96_mini"), values)


def tiny_network(*_: Any) -> Any:
    """Stands in for the ResNet: stride 4, with batch norm."""
    import torch
    from torch import nn

    layers = [
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
    ]
    network = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(8, KEYPOINTS, 1))
    torch.nn.init.normal_(network[-1].weight, std=0.1)
    return network


def train_here(
    config: Config,
    *,
    kill_at: int = -1,
    kill_with: int = signal.SIGKILL,
    read_every: int = 2,
    environment: dict[str, str],
) -> None:
    """Runs in the child: trains, and kills itself before update `kill_at`."""
    os.environ.update(environment)
    import torch

    from simplepose.core.errors import UserError
    from simplepose.training import run, start, step, train

    torch.set_num_threads(1)
    start.PoseNetwork = tiny_network
    run.READ_EVERY = read_every
    plain = step.TrainStep.__call__

    def deadly(self: Any, batch: Any, learning_rate: float, updates_done: int) -> Any:
        if updates_done == kill_at:
            os.kill(os.getpid(), kill_with)
        return plain(self, batch, learning_rate, updates_done)

    step.TrainStep.__call__ = deadly
    try:
        train.train(config)
    except UserError as error:
        Path(environment["ERROR_FILE"]).write_text(str(error))
        os._exit(2)
    except Stopped as stopped:
        os._exit(stopped.status)


def train_in_ray(data: str, output: str) -> None:
    """What each worker of Ray Train runs."""
    import torch

    from simplepose.training import start
    from simplepose.training.train import train

    torch.set_num_threads(1)
    start.PoseNetwork = tiny_network
    train(small_config(Path(data), Path(output)))


def run_training(
    config: Config,
    *,
    count: int = 1,
    kill_rank: int = 0,
    kill_at: int = -1,
    timeout: float = 60,
    **options: Any,
) -> list[int]:
    """Trains in `count` processes; the one of rank `kill_rank` dies before update `kill_at`. Returns their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "torch._dynamo", "torch.distributed.nn", "simplepose.training.train"]
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = []
    for rank in range(count):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ERROR_FILE": f"{config.run_folder}.error{rank}",
        }
        chosen = {
            "kill_at": kill_at if rank == kill_rank else -1,
            "environment": environment,
            **options,
        }
        workers.append(context.Process(target=train_here, args=(config,), kwargs=chosen))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout)
    codes = [worker.exitcode if worker.exitcode is not None else 999 for worker in workers]
    for worker in workers:
        worker.kill()
    return codes


def state_of(config: Config) -> dict[str, Any]:
    """The last checkpoint."""
    import torch

    return torch.load(config.run_folder / "checkpoints" / "last.train.pt", weights_only=True)


def losses_of(config: Config) -> list[tuple[int, float]]:
    """(step, loss) of each epoch in metrics.jsonl."""
    lines = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    return [
        (record["step"], record["loss"]) for record in map(json.loads, lines) if "loss" in record
    ]


def resumed(config: Config, **train: Any) -> Config:
    """The same run, going on, with these changes."""
    return changed(config, {"resume": True, "train": train})
