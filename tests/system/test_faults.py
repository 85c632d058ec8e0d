"""Every long command, stopped by a signal or by a full disk in the middle of its work: nothing that
was done is lost, nothing half done has a whole file's name, and the same command does it again.

Stops of a training at every step are in test_records.py, kills in test_resume.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_onnx import save_network
from training_workers import tiny_network, write_people

from simplepose.cli import main
from simplepose.config import ModelConfig
from simplepose.core import files
from simplepose.core.images import write_image
from simplepose.core.lines import read_lines
from simplepose.core.progress import Progress
from simplepose.core.schema import COCO_17
from simplepose.data.coco import read_coco
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint
from simplepose.pose.network import PoseNetwork
from simplepose.synthetic import dataset
from simplepose.training import start
from simplepose.training.folder import STATE
from simplepose.training.step import TrainStep
from simplepose.video.streams import VideoWriter, open_stream
from simplepose.weights.public import PublicWeights

pytest.importorskip("onnxruntime")
FRAMES, PICTURES = 12, 4
PRESET = "coco_r18_128x96_mini"


class Silent(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the commands read."""
    folder = tmp_path_factory.mktemp("source")
    save_network(folder / "net.onnx")
    for name, count in (("people", 8), ("many", 100)):
        path = write_people(folder / name, count) / "people.json"
        content = json.loads(path.read_text())
        content["categories"][0]["keypoints"] = list(COCO_17.keypoints)
        path.write_text(json.dumps(content))
    noise = np.random.default_rng(0)
    for index in range(PICTURES):
        write_image(folder / "pictures" / f"{index}.png", np.full((40, 30, 3), 90, np.uint8))
    with VideoWriter(folder / "film.mp4", 10) as film:
        for _ in range(FRAMES):
            film.write(cv2.resize(noise.integers(0, 256, (60, 80, 3), np.uint8), (320, 240)))
    network = PoseNetwork(ModelConfig(backbone="resnet18", deconv_filters=8), 17)
    spec = ModelSpec(preset="mine", schema=COCO_17, input_size_wh=(32, 32), model=network.config)
    save_checkpoint(folder / "w.safetensors", network, spec)
    torch.save({f"backbone.{k}": v for k, v in network.backbone.state_dict().items()}, folder / "b")
    (folder / "served").mkdir()
    (folder / "served" / "det.onnx").write_bytes(noise.bytes(300_000))
    return folder


@pytest.fixture(autouse=True)
def surroundings(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tiny network to train, and a server of public weights."""
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=source / "served"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    digest = hashlib.sha256((source / "served" / "det.onnx").read_bytes()).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/det.onnx"
    row = PublicWeights(name="det", url=url, licence="none", sha256=digest)
    monkeypatch.setattr("simplepose.commands.weights.find_public", lambda name: row)
    yield
    server.shutdown()
    server.server_close()


def words_of(command: str, source: Path, out: Path) -> list[str]:
    """A command line that writes below `out`."""
    people = source / ("many" if command == "calibrate" else "people")
    data = ["--data.train-annotations", people / "people.json", "--data.train-images", people]
    held_out = ["--data.val-annotations", people / "people.json", "--data.val-images", people]
    tested = ["--annotations", people / "people.json", "--images", people, "--device", "cpu"]
    findings = "--data.accept-findings"  # people of noise
    short = ["--input-size-wh", "32", "32", "--train.epochs", "2", "--train.drop-epochs", "1"]
    short += ["--train.batch-size", "4", "--train.device", "cpu", "--train.evaluate-every", "0"]
    network = ["--weights", source / "net.onnx", "--boxes", "whole", "--device", "cpu"]
    words: dict[str, list[Any]] = {
        "train": [PRESET, *data, *short, "--output", out],
        "ablation": [f"{PRESET}_modern", *data, *held_out, "--epochs", "2", "--device", "cpu"],
        "evaluate": [source / "net.onnx", *tested, "--output", out],
        "calibrate": [
            source / "w.safetensors",
            *tested,
            "--output",
            out / "c.safetensors",
            findings,
        ],
        "predict": [source / "pictures", *network, "--output", out],
        "track": [source / "film.mp4", *network, "--output", out, "--video-codec", "mp4"],
        "pack": [PRESET, *data, "--output", out / "p", "--shard", "1", "--data.workers", "1"],
        "convert": ["coco", people / "people.json", "--images", people, "--output", out / "c.json"],
        "import": [source / "b", "--as", PRESET, "--backbone-only", "--output", out / "i"],
        "weights": ["get", "det", "--output", out],
        "demo": ["--output", out, "--only-data", "--people", "5", "--val-people", "2"],
    }
    more = ["--output", out] if command == "ablation" else []
    return [command, *map(str, [*words[command], *more])]


WORK = {
    "train": (TrainStep, "__call__", 3),
    "ablation": (TrainStep, "__call__", 2),
    "evaluate": (Progress, "__call__", 1),
    "calibrate": (Progress, "__call__", 1),
    "predict": (Progress, "__call__", 2),
    "track": (Progress, "__call__", 6),
    "pack": (Progress, "__call__", 3),
    "convert": (files, "give_name", 1),
    "import": (files, "give_name", 1),
    "weights": (Progress, "__call__", 2),
    "demo": (dataset, "write_image", 3),
}
"""Command -> what it calls again and again, and at which call the fault comes."""


@contextlib.contextmanager
def at_work(command: str, fault: Callable[[], object]) -> Iterator[None]:
    """Calls `fault` once, in the middle of the work of `command`."""
    owner, name, number = WORK[command]
    plain, calls = getattr(owner, name), []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            fault()
        return plain(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield
    assert len(calls) >= number, "the fault never came: the test tests nothing"


def require_nothing_half(out: Path) -> None:
    """No hidden remains; what has a whole file's name is whole."""
    assert not [path for path in out.rglob(".*") if path.name not in (".lock", ".det.onnx.lock")]
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    for path in out.rglob("poses.jsonl"):
        lines = list(read_lines(path))
        rows = json.loads(path.with_name("results.json").read_text())
        assert len(rows) == sum(len(line.people) for line in lines)
    for path in out.rglob("*.zip"):
        files.require_whole_zip(path)


def require_work_kept(command: str, out: Path) -> None:
    """What was done before the fault is there; commands with one result have none."""
    if command in ("evaluate", "calibrate", "convert", "import", "demo"):
        assert not [path for path in out.rglob("*") if path.is_file()]
    elif command == "predict":
        assert len(list(read_lines(out / "poses.jsonl"))) == WORK[command][2]
        assert len(list(out.glob("*.jpg"))) == WORK[command][2]
    elif command == "track":
        assert len(list(read_lines(out / "poses.jsonl"))) == WORK[command][2]
        assert sum(1 for _ in open_stream(out / "film.mp4")) == WORK[command][2]
    elif command == "pack":
        assert list((out / "p.partial").glob("*.zip")) and not (out / "p").exists()
    elif command == "weights":
        assert 0 < (out / "det.onnx.partial").stat().st_size < 300_000
    elif command == "train":
        state = torch.load(out / STATE, weights_only=True)
        assert state["position"]["step"] == WORK[command][2]
    else:
        (path,) = out.rglob(STATE.name)
        assert torch.load(path, weights_only=True)["position"]["step"] == WORK[command][2]


def require_done_again(command: str, source: Path, out: Path) -> None:
    """The command that is typed again does the whole work."""
    more = {"train": ["--resume"], "predict": ["--overwrite"], "track": ["--overwrite"]}
    resumes = command == "train" and (out / STATE).exists()
    words = more.get(command, []) if resumes or command != "train" else []
    assert main([*words_of(command, source, out), *words]) == 0
    require_nothing_half(out)
    assert not list(out.rglob("*partial*"))
    if command == "track":
        assert sum(1 for _ in open_stream(out / "film.mp4")) == FRAMES
    elif command == "predict":
        assert len(list(read_lines(out / "poses.jsonl"))) == PICTURES
    elif command == "convert":
        assert len(read_coco(out / "c.json", None)) == 8
    elif command == "train":
        assert torch.load(out / STATE, weights_only=True)["position"]["step"] == 4
    elif command == "weights":
        served = source / "served" / "det.onnx"
        assert (out / "det.onnx").read_bytes() == served.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", WORK)
def test_a_signal_in_the_middle(
    source: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    with at_work(command, lambda: os.kill(os.getpid(), number)):
        assert main(words_of(command, source, out)) == 128 + number
    require_nothing_half(out)
    require_work_kept(command, out)
    if number == signal.SIGTERM and command != "ablation":
        require_done_again(command, source, out)


@contextlib.contextmanager
def full_disk() -> Iterator[Callable[[int], None]]:
    """Yields what fills the disk: from then on no file gets longer than so many bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("command", "size"),
    [
        ("train", 5_000),
        ("evaluate", 500),
        ("calibrate", 5_000),
        ("predict", 2_000),
        ("track", 10_000),
        ("pack", 3_000),
        ("convert", 300),
        ("import", 5_000),
        ("weights", 70_000),
        ("demo", 1_000),
    ],
)
def test_a_disk_that_gets_full_in_the_middle(
    source: Path, tmp_path: Path, command: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with full_disk() as fill:
        if command in ("convert", "import"):
            fill(size)
            assert main(words_of(command, source, out)) == 2
        else:
            with at_work(command, lambda: fill(size)):
                assert main(words_of(command, source, out)) == 2
    error = capsys.readouterr().err
    assert str(out) in error and "Cure: " in error and "Traceback" not in error
    require_nothing_half(out)
    if command == "train":
        assert torch.load(out / STATE, weights_only=True)["position"]["step"] == 2
    elif command in ("predict", "track"):
        kept = len(list(read_lines(out / "poses.jsonl")))
        assert kept >= 1 and f"stopped after {kept}" in error
    require_done_again(command, source, out)


@pytest.mark.parametrize("command", ["predict", "track"])
def test_a_second_run_into_the_folder_is_refused(
    source: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with --overwrite; the first one loses nothing."""
    pytest.importorskip("fcntl")
    out, seen = tmp_path / "out", []

    def second() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Progress, "__call__", lambda *_: None)
            words = [*words_of(command, source, out), "--overwrite"]
            seen.append((main(words), capsys.readouterr().err))

    with at_work(command, second):
        assert main(words_of(command, source, out)) == 0
    ((status, error),) = seen
    assert status == 2 and "another process writes" in error and "poses.jsonl" in error
    wanted = {"predict": PICTURES, "track": FRAMES}[command]
    assert len(list(read_lines(out / "poses.jsonl"))) == wanted
    require_nothing_half(out)
