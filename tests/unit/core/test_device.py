"""One file names accelerators; everything else takes what it is given. Shown by reading the source and by a stand-in accelerator."""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from training_workers import small_config, state_of, tiny_network, write_people

from simplepose.config import load_preset
from simplepose.core import device as device_module
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.pose.checkpoints import ModelSpec
from simplepose.pose.estimator import PoseEstimator
from simplepose.training import memory, start, train

SOURCE = Path(device_module.__file__).parents[1]
NAMES = re.compile(r"\b(cuda|npu|mps|xpu|gloo|nccl|hccl|xccl)\b")
ALLOWED = {
    "commands/doctor.py": "explains a broken torch-npu installation before torch can be imported",
    "detection/onnx.py": "names of ONNX Runtime's providers",
    "pose/onnx.py": "names of ONNX Runtime's providers",
}


def names_in_code(path: Path) -> list[str]:
    """Accelerators named outside comments and documentation strings."""
    found = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        documentation = token.type == tokenize.STRING and before in (
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.NL,
        )
        if (
            token.type != tokenize.COMMENT
            and not documentation
            and NAMES.search(token.string.lower())
        ):
            found.append(f"{path.relative_to(SOURCE)}:{token.start[0]} {token.string}")
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    return found


def test_no_other_file_names_an_accelerator() -> None:
    files = [
        path
        for path in SOURCE.rglob("*.py")
        if path.name != "device.py" and str(path.relative_to(SOURCE)) not in ALLOWED
    ]
    assert len(files) > 50 and names_in_code(
        SOURCE / "core" / "device.py"
    )  # the search finds them where they are
    assert [name for path in files for name in names_in_code(path)] == []


class StandIn(TorchFunctionMode):
    """Everything sent to `xpu` stays on the CPU, and is counted by the function that sent it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def home(value):
            if isinstance(value, torch.device) and value.type == "xpu":
                self.sent[getattr(function, "__name__", str(function))] += 1
                return torch.device("cpu")
            return value

        return function(
            *map(home, args), **{name: home(value) for name, value in (kwargs or {}).items()}
        )


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What of a stand-in for `xpu` was called: 1 GB, of which a training takes .2 GB."""
    used: Counter[str] = Counter()

    def seen(name: str, value=None):
        def call(*_args):
            used[name] += 1
            return value

        return call

    fake = SimpleNamespace(**vars(torch.xpu))
    fake.__dict__.update(
        is_available=seen("is_available", True),
        set_device=seen("set_device"),
        empty_cache=seen("empty_cache"),
        synchronize=seen("synchronize"),
        mem_get_info=seen("mem_get_info", (10**9, 10**9)),
        reset_peak_memory_stats=seen("reset_peak_memory_stats"),
        memory_reserved=lambda device: 10**8,
        max_memory_reserved=seen("max_memory_reserved", 3 * 10**8),
        is_bf16_supported=seen("bf16", False),
        get_rng_state=lambda: torch.zeros(4, dtype=torch.uint8),
        set_rng_state=seen("set_rng_state"),
        device_count=lambda: 1,
        get_device_name=lambda index: "stand-in",
    )
    monkeypatch.setattr(torch, "xpu", fake)
    monkeypatch.setattr(device_module, "page_locked", lambda device: False)
    monkeypatch.setattr(device_module, "has_fused_optimizer", lambda device: False)
    monkeypatch.setattr("simplepose.data.loader.page_locked", lambda device: False)
    monkeypatch.setattr(start, "has_fused_optimizer", lambda device: False)
    monkeypatch.setattr(start, "PoseNetwork", tiny_network)
    return used


def test_training_and_evaluation_run_on_a_stand_in(tmp_path: Path, used: Counter[str]) -> None:
    data = write_people(tmp_path / "people", 9)
    config = small_config(
        data, tmp_path / "run", device="xpu", precision="auto", epochs=1, drop_epochs=[]
    )
    stand_in = StandIn()
    with stand_in:
        folder = train.train(config)
    log = (folder / "console.log").read_text()
    assert (
        "epochs on xpu:0, fp32" in log and "pictures decoded once into the memory of xpu:0, " in log
    )
    assert "0.75 GB on xpu:0 beside 0.20 GB for training" in log
    assert (
        used["set_device"]
        and used["mem_get_info"]
        and used["bf16"]
        and stand_in.sent["to"] >= 5
        and stand_in.sent["empty"]
    )


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_measuring_leaves_a_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: Counter[str], ema: float
) -> None:
    """Weights, statistics, optimiser, average and random numbers: equal to a run that measures
    nothing."""
    data, states, measured = write_people(tmp_path / "people", 9), [], []
    plain = memory.peak_memory

    def peak(work: Any, device: torch.device) -> int | None:
        measured.append(plain(work, device))
        return measured[-1]

    monkeypatch.setattr(memory, "peak_memory", peak)
    for name in ("measured", "not measured"):
        config = small_config(
            data,
            tmp_path / name,
            augment={"colour": 0.4, "cutout_probability": 0.5},
            device="xpu",
            epochs=1,
            drop_epochs=[],
            ema=ema,
            evaluate_every=1,
        )
        with StandIn():
            train.train(config)
        state = state_of(config)
        states.append({part: state[part] for part in ("network", "optimizer", "random", "ema")})
        monkeypatch.setattr(memory, "is_accelerator", lambda device: False)
    assert measured == [2 * 10**8]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert bool(states[0]["ema"]) == bool(ema)


def test_a_device_that_is_taken_gets_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: Counter[str]
) -> None:
    """The copies do not fit; the run itself finds memory again."""
    plain, failed = memory.Regions, []

    def no_memory(*_: Any) -> None:
        failed.append(True)
        raise torch.OutOfMemoryError("xpu out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(memory, "Regions", no_memory)
    data = write_people(tmp_path / "people", 9)
    config = small_config(data, tmp_path / "run", device="xpu", epochs=1, drop_epochs=[])
    with StandIn():
        folder = train.train(config)
    log = (folder / "console.log").read_text()
    assert failed and plain is not memory.Regions
    assert "memory of cpu" in log and "0.0 MB on xpu:0 beside 1.00 GB for training" in log


def test_only_memory_that_runs_out_is_an_answer(used: Counter[str]) -> None:
    """Any other error is the caller's; random numbers go on as before in any case."""
    device = torch.device("xpu", 0)

    def draw(error: Exception) -> None:
        torch.rand(3)
        raise error

    state = torch.get_rng_state()
    assert device_module.peak_memory(lambda: draw(MemoryError()), device) == 10**9
    with pytest.raises(ZeroDivisionError):
        device_module.peak_memory(lambda: draw(ZeroDivisionError()), device)
    assert device_module.peak_memory(lambda: torch.rand(3), device) == 2 * 10**8
    assert torch.equal(torch.get_rng_state(), state)
    assert device_module.peak_memory(lambda: draw(MemoryError()), torch.device("cpu")) is None


def test_a_batch_is_copied_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is put on the side stream, and only what comes after waits for it."""
    seen: list[str] = []

    class Stream:
        def __init__(self, name: Any = "side") -> None:
            self.name = name if isinstance(name, str) else "side"

        def wait_stream(self, other: Stream) -> None:
            seen.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            seen.append(f"on {self.name}")

        def __exit__(self, *_: object) -> None:
            seen.append(f"off {self.name}")

    work = Stream("work")
    fake = SimpleNamespace(
        Stream=Stream, stream=lambda one: one, current_stream=lambda device: work
    )
    monkeypatch.setattr(torch, "xpu", fake)
    monkeypatch.setattr(device_module, "_streams", {})
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: seen.append(f"kept for {stream.name}")
    )
    batch = torch.arange(3)
    with StandIn() as stand_in:
        for _ in range(2):
            copy = device_module.copy_beside(batch, torch.device("xpu", 0))
    assert torch.equal(copy, batch) and stand_in.sent["to"] == 2
    assert seen == 2 * ["on side", "off side", "work waits for side", "kept for work"]


def test_both_flips_are_one_call_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_preset("coco_r18_128x96_mini")
    size_wh, kept = (96, 128), {"codec": config.codec, "model": config.model}
    spec = ModelSpec(preset="x", schema=COCO_17, input_size_wh=size_wh, **kept)
    network, calls = torch.nn.Conv2d(3, 17, 4, 4).eval(), []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return network(pixels)

    estimator = PoseEstimator(counted, spec)
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), np.uint8)
    plain = estimator.heatmaps(crops)
    monkeypatch.setattr("simplepose.pose.estimator.is_accelerator", lambda device: True)
    np.testing.assert_allclose(estimator.heatmaps(crops), plain, rtol=1e-4, atol=1e-4)
    assert calls == [3, 3, 6]


def test_a_device_that_is_not_there() -> None:
    missing = next(
        kind for kind in device_module.PREFERENCE if not device_module.is_available(kind)
    )
    with pytest.raises(UserError, match=f"device '{missing}' is not (available here|known)"):
        device_module.choose_device(missing)
    with pytest.raises(UserError, match="'tpu9' .*auto"):
        device_module.choose_device("tpu9")


def test_backends_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kinds = {"cpu": "gloo", "cuda": "nccl", "npu": "hccl", "xpu": "xccl", "mps": "gloo"}
    assert {
        kind: device_module.collective_backend(SimpleNamespace(type=kind)) for kind in kinds
    } == kinds
    free, total = device_module.memory_bytes(torch.device("cpu"))
    assert 0 < free <= total
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(device_module, "CGROUP", tmp_path)
    monkeypatch.setattr(device_module, "OWN_CGROUPS", tmp_path / "cgroup")
    assert device_module.memory_bytes(torch.device("cpu")) == (
        600000,
        1000000,
    )  # a container's limit counts
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 250000\n")
    assert device_module.memory_bytes(torch.device("cpu")) == (
        850000,
        1000000,
    )  # but not files that were read once
    job = tmp_path / "slurm" / "job_7"
    (job / "step_0").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("3:cpuset:/elsewhere\n0::/slurm/job_7/step_0\n")
    (job / "memory.max").write_text("500000\n")
    (job / "memory.current").write_text("100000\n")
    (job / "step_0" / "memory.max").write_text("max\n")
    assert device_module.memory_bytes(torch.device("cpu")) == (
        400000,
        500000,
    )  # a job's limit lies between the top and its own group


def test_a_named_card_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    fake = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, set_device=chosen.append
    )
    monkeypatch.setattr(torch, "xpu", fake)
    assert str(device_module.choose_device("xpu:1")) == "xpu:1" and chosen == [
        torch.device("xpu:1")
    ]
    for name, rank in (("xpu:2", "0"), ("xpu", "2")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(UserError, match=r"xpu:2 .* 2\."):
            device_module.choose_device(name)


@pytest.mark.parametrize(
    ("answer", "precision"),
    [
        (lambda including_emulation=True: including_emulation, "fp32"),
        (lambda including_emulation=True: True, "bf16"),
        (lambda: True, "bf16"),
    ],
)
def test_emulated_bf16_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, answer: Any, precision: str
) -> None:
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(is_bf16_supported=answer))
    assert device_module.resolve_precision("auto", torch.device("xpu")) == precision


def test_random_states_come_back() -> None:
    cpu = torch.device("cpu")
    device_module.seed_everything(3)
    state = device_module.random_state(cpu)
    first = torch.rand(3)
    device_module.restore_random_state(state, cpu)
    assert torch.equal(torch.rand(3), first)


def test_an_absent_npu_names_its_plugin() -> None:
    """torch does not even know the name without it."""
    for name in ("npu", "npu:1"):
        with pytest.raises(UserError, match=r"'npu.*torch-npu.*CANN"):
            device_module.choose_device(name)
    with pytest.raises(UserError, match="'tpu9'"):
        device_module.choose_device("tpu9")


# ONNX Runtime


EVERYTHING = [
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("cpu", ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("cuda:0", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("cuda:3", [("CUDAExecutionProvider", {"device_id": 3}), "CPUExecutionProvider"]),
        ("xpu", ["OpenVINOExecutionProvider", "CPUExecutionProvider"]),
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_onnx_runtime_gets_the_device_that_is_asked_for(name: str, asked: list[Any]) -> None:
    assert device_module.onnx_providers(name, EVERYTHING) == asked
    if name in ("cpu", "auto"):
        only = ["AzureExecutionProvider", "CPUExecutionProvider"]
        assert device_module.onnx_providers(name, only) == ["CPUExecutionProvider"]


@pytest.mark.parametrize("name", ["gpu", "npu", "cuda:", "cuda:x", "tensorrt", "", "CPU"])
def test_onnx_runtime_refuses_a_device_it_has_not(name: str) -> None:
    with pytest.raises(UserError, match=f"device '{name}'.*auto, cuda, xpu, cpu"):
        device_module.onnx_providers(name, EVERYTHING)


def test_threads_keep_to_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device_module, "CGROUP", tmp_path)
    monkeypatch.setattr(device_module, "OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(device_module.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(device_module.os, "sched_getaffinity", lambda pid: range(12), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert device_module.own_cores() == 12
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert device_module.own_cores() == 12
    (tmp_path / "cpu.max").write_text("350000 100000\n")
    assert device_module.own_cores() == 4
    (tmp_path / "cpu.max").write_text("50000 100000\n")  # half a core
    assert device_module.own_cores() == 1
    (tmp_path / "cpu.max").write_text("350000 100000\n")
    (tmp_path / "cpu" / "job").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("4:cpu,cpuacct:/job\n0::/\n")
    for name, value in (("cpu.cfs_quota_us", 50000), ("cpu.cfs_period_us", 25000)):
        (tmp_path / "cpu" / "job" / name).write_text(f"{value}\n")
    assert device_module.own_cores() == 2
    (tmp_path / "cpu" / "job" / "cpu.cfs_quota_us").write_text("-1\n")
    assert device_module.own_cores() == 4


@pytest.mark.parametrize(
    ("cores", "networks", "asked", "threads"),
    [
        (8, 1, None, 8),
        (8, 2, None, 4),
        (1, 2, None, 1),
        (8, 2, "6", 3),
        (8, 1, "0", 8),
        (4, 1, "x", 4),
    ],
)
def test_cores_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, cores: int, networks: int, asked: str | None, threads: int
) -> None:
    said: dict[str, int] = {}
    monkeypatch.setattr(device_module, "own_cores", lambda: cores)
    monkeypatch.setattr("cv2.setNumThreads", lambda count: said.update(opencv=count))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: said.update(torch=count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setitem(device_module._shared, "threads", 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert device_module.share_cores(networks) == threads
    assert said == {"opencv": threads, "torch": threads}
    said.clear()
    device_module.choose_device("cpu")  # torch, where it is imported later
    assert said == {"torch": threads}


def test_threads_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, wanted in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        device_module.let_threads_sleep()
        assert device_module.os.environ["OMP_WAIT_POLICY"] == wanted
    monkeypatch.delenv("OMP_WAIT_POLICY")
