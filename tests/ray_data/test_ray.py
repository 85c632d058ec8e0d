"""Two workers on this machine: the same poses as one process, whatever dies on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray.data", reason="Ray is not installed: make test-ray")

import ray
from tiny_onnx import save_network

from simplepose.cli import main
from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.core.lines import Line, read_lines
from simplepose.core.schema import COCO_17
from simplepose.core.shards import RUN

MARK = "SIMPLEPOSE_RAY_TEST"
"""Environment variable that tells these workers from everybody else's."""
PICTURES = 64


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    os.environ[MARK] = str(os.getpid())
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray is modest: beside other work its workers would starve
    os.environ.update({"RAY_worker_niceness": "0"})
    helpers = Path(__file__).parent.parent / "helpers"
    os.environ["PYTHONPATH"] = f"{os.environ.get('PYTHONPATH', '')}:{helpers}"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a video, a network, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("ray")
    save_network(folder / "net.onnx")
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        noise = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (800, 600))
        write_image(folder / "pictures" / f"p{number}.jpg", noise)
    writer = cv2.VideoWriter(
        str(folder / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
    )
    for number in range(12):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    assert main(["predict", *command(folder, "one", sources=("pictures",))]) == 0
    film = ["track", *command(folder, "film", "--flip-test", sources=("walk.avi",))]
    assert main(film) == 0
    return folder


def command(folder: Path, output: str, *more: str, sources: tuple[str, ...]) -> list[str]:
    named = [str(folder / source) for source in sources]
    weights = ["--weights", str(folder / "net.onnx"), "--device", "cpu", "--boxes", "whole"]
    return [*named, *weights, "--output", str(folder / output), *more]


def on_ray(
    folder: Path, output: str, *more: str, shard: int, sources: tuple[str, ...] = ("pictures",)
) -> int:
    rules = ("--engine", "ray", "--ray.workers", "2", "--ray.shard", str(shard))
    return main(["predict", *command(folder, output, *rules, *more, sources=sources)])


def rows(folder: Path, output: str) -> list[Line]:
    return list(read_lines(folder / output / RUN))


def test_two_workers_and_one_process_agree(data: Path) -> None:
    """Row for row; a video's tracks are whole."""
    both = ("pictures", "walk.avi")
    assert on_ray(data, "two", "--ray.overlays", shard=16, sources=both) == 0
    found = rows(data, "two")
    assert found[:PICTURES] == list(read_lines(data / "one" / "poses.jsonl"))
    assert found[PICTURES:] == list(read_lines(data / "film" / "poses.jsonl"))
    assert len(list((data / "two" / "overlays").iterdir())) == PICTURES


def workers() -> list[int]:
    """Processes of these tests that estimate."""
    mark, found = f"{MARK}={os.getpid()}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
            if b"ShardPredictor" in name and mark in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def survived(data: Path) -> list[int]:
    """The folder `killed` of a run whose workers were killed three times, each when a random number
    of shards was done; the processes."""
    draw, killed, over = random.Random(), [], threading.Event()
    moments = sorted(draw.sample(range(1, PICTURES * 2 // 3), 3))

    def kill() -> None:
        while len(killed) < 3 and not over.is_set():
            done = len(list((data / "killed").glob("poses-*.parquet")))
            if done >= moments[len(killed)] and (alive := workers()):
                os.kill(victim := draw.choice(alive), signal.SIGKILL)
                killed.append(victim)
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert on_ray(data, "killed", shard=1) == 0
    finally:
        over.set()
        thread.join()
    return killed


def test_workers_that_are_killed_lose_and_double_nothing(data: Path, survived: list[int]) -> None:
    assert len(set(survived)) == 3
    found = rows(data, "killed")
    assert set(Counter(line.frame for line in found).values()) == {1}
    assert found == list(read_lines(data / "one" / "poses.jsonl"))


def test_score_reads_shards_as_it_reads_lines(data: Path, survived: list[int]) -> None:
    lines = {line.image_id: line for line in rows(data, "killed")}
    truth = {
        "images": [
            {"id": n, "file_name": f"p{n}.jpg", "width": 800, "height": 600}
            for n in range(PICTURES)
        ],
        "annotations": [
            {
                **{"id": n + 1, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 1e5},
                **{"bbox": [0, 0, 800, 600], "num_keypoints": 17},
                "keypoints": [
                    value for x, y, _ in lines[n].people[0].keypoints for value in (x + n, y, 2)
                ],
            }
            for n in range(PICTURES)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }
    (data / "truth.json").write_text(json.dumps(truth))
    numbers = []
    for results in ("one", "killed"):
        score = data / f"{results}.json"
        words = ["score", str(data / results), "--annotations", str(data / "truth.json")]
        assert main([*words, "--output", str(score)]) == 0
        numbers.append(json.loads(score.read_text())["AP"])
    assert numbers[0] == numbers[1] and 0.1 < numbers[0] < 1


def test_a_run_goes_on(data: Path, survived: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """Missing and unreadable shards are made, the others not touched; other pictures or options
    are another run."""
    shards = sorted((data / "killed").glob("poses-*.parquet"))
    before, times = rows(data, "killed"), {path: path.stat().st_mtime_ns for path in shards}
    shards[1].unlink()
    shards[3].write_bytes(shards[3].read_bytes()[:100])
    with pytest.raises(UserError, match=r"lacks poses-000001\.parquet"):
        rows(data, "killed")
    assert on_ray(data, "killed", shard=1) == 0
    said = capsys.readouterr()
    assert "poses-000003.parquet cannot be read" in said.err
    assert f"{PICTURES} shards, {PICTURES - 2} of them from before" in said.out
    changed = [path for path in shards if path.stat().st_mtime_ns != times[path]]
    assert changed == [shards[1], shards[3]] and rows(data, "killed") == before

    assert on_ray(data, "killed", "--no-flip-test", shard=1) == 2
    assert "options differ" in capsys.readouterr().err
    assert on_ray(data, "killed", shard=8) == 2
    assert "listing differ" in capsys.readouterr().err
    assert rows(data, "killed") == before


def test_what_a_worker_says_is_a_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    assert on_ray(data, "stopped", shard=4, sources=("broken.jpg",)) == 2
    error = capsys.readouterr().err
    assert "broken.jpg" in error and "--skip-broken" in error and "Traceback" not in error


def test_the_class_in_a_pipeline_of_ones_own(data: Path) -> None:
    from simplepose.ray import PosePredictor

    paths = [{"path": str(data / "pictures" / f"p{n}.jpg")} for n in range(6)]
    poses = ray.data.from_items(paths).map_batches(
        PosePredictor,
        fn_constructor_kwargs={"weights": str(data / "net.onnx"), "boxes": "whole"},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=4,
    )
    expected = {line.source: line for line in read_lines(data / "one" / "poses.jsonl")}
    found = poses.take_all()
    assert len(found) == 6
    for row in found:
        assert row["people"][0]["score"] == expected[row["source"]].people[0].score


def test_ray_train_is_torchrun(tmp_path: Path) -> None:
    """The losses of two workers are those of two processes."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from training_workers import losses_of, run_training, small_config, train_in_ray, write_people

    data = write_people(tmp_path / "data")
    config = small_config(data, tmp_path / "torchrun")
    assert run_training(config, count=2, timeout=150) == [0, 0]
    output = str(tmp_path / "ray")
    TorchTrainer(
        partial(train_in_ray, str(data), output),
        scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
        run_config=RunConfig(storage_path=str(tmp_path / "results")),
    ).fit()
    losses = losses_of(config)
    assert len(losses) == 3 and losses_of(replace(config, output=output)) == losses
