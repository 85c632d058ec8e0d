"""Everything that depends on the accelerator, and how the processor's cores are shared out. No
other file names an accelerator.

Ascend NPUs come through `torch-npu`, which registers itself with torch when it is installed. Torch
is imported by the functions that need it: a command that runs ONNX files alone does without.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simplepose.core.errors import UserError, brief, is_out_of_memory

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PREFERENCE = ("cuda", "npu", "xpu", "mps")
"""`auto` takes the first of these that is available, else the CPU."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells the memory limits of containers and jobs."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Where Linux tells which of them this process is in."""
CGROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Limit, use, and what of the use is given up when it is wanted, in version 2 and version 1."""
CPU_QUOTAS = {
    "": ("cpu.max",),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
}
"""Time on the processor and the period it is for, in version 2 (one file) and version 1."""
ONNX_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "npu": "CANNExecutionProvider",
    "xpu": "OpenVINOExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}
"""What ONNX Runtime calls each accelerator. TensorRT builds an engine for minutes at the first
picture: nobody gets it unasked."""
COLLECTIVES = {"cuda": "nccl", "npu": "hccl", "xpu": "xccl"}
"""torch.distributed backend of each accelerator; everything else uses gloo."""


_shared = {"threads": 0}
"""What `share_cores` said last, for torch where it is imported later."""
_streams: dict[torch.device, Any] = {}
"""What `copy_beside` made."""


@contextlib.contextmanager
def enough_memory(batch_size: int, setting: str) -> Iterator[None]:
    """Around work on batches: memory that runs out, on any device, is said with their size.

    Args:
        batch_size: samples that are held together.
        setting: what the user calls it.

    Raises:
        UserError: in place of other libraries' errors of that kind.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"not enough memory for batches of {batch_size} ({setting}): {brief(error)}. "
            f"Cure: {setting} below {batch_size}, or other programs stopped"
        ) from error


def is_available(kind: str) -> bool:
    """Whether an accelerator of this kind can be used now."""
    import torch

    module = getattr(torch, kind, None)
    return module is not None and bool(module.is_available())


def choose_device(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `npu`, `mps`, `xpu`.

    Under torchrun the local rank picks the card.

    Raises:
        UserError: the device is not there; the message lists those that are.
    """
    import torch

    most = _shared["threads"] or own_cores()
    torch.set_num_threads(min(torch.get_num_threads(), most))
    available = [*filter(is_available, PREFERENCE), "cpu"]
    name = available[0] if name == "auto" else name
    kind, _, number = name.partition(":")
    if kind not in available or not (number.isdecimal() or name == kind):
        hint = " (install torch-npu and CANN, see docs/ascend.md)" if kind == "npu" else ""
        raise UserError(
            f"device {name!r} is not available here{hint}. "
            f"Cure: one of auto, {', '.join(available)}"
        )
    if kind in ("cpu", "mps"):
        return torch.device(name)
    module = getattr(torch, kind)
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= module.device_count():
        raise UserError(
            f"device {kind}:{index} is asked for and there are {module.device_count()}. "
            "Cure: a lower number, or no more processes on this machine than it has devices"
        )
    device = torch.device(kind, index)
    module.set_device(device)
    return device


def onnx_providers(name: str, have: Sequence[str]) -> list[Any]:
    """What ONNX Runtime is asked for, best first, for the words of `choose_device`.

    Args:
        name: `cpu` is the processor alone; an accelerator is itself, then the processor for what it
            cannot do; `auto` is the first accelerator that ONNX Runtime has.
        have: the providers of the ONNX Runtime that is installed.

    Raises:
        UserError: the word is not known, or ONNX Runtime has no such accelerator.
    """
    usable = [kind for kind in PREFERENCE if ONNX_PROVIDERS[kind] in have]
    kind, _, number = ((usable or ["cpu"])[0] if name == "auto" else name).partition(":")
    if kind not in (*usable, "cpu") or not (number.isdecimal() or ":" not in name):
        raise UserError(
            f"device {name!r} is not available to ONNX Runtime here. Cure: one of "
            f"{', '.join(['auto', *usable, 'cpu'])}, or install the ONNX Runtime of that device "
            "(onnxruntime-gpu for NVIDIA)"
        )
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    index, provider = int(number or os.environ.get("LOCAL_RANK", "0")), ONNX_PROVIDERS[kind]
    numbered = index and kind in ("cuda", "npu")
    return [(provider, {"device_id": index}) if numbered else provider, "CPUExecutionProvider"]


def describe_devices() -> list[str]:
    """One line a device that is there, the one `auto` takes first."""
    import torch

    lines = []
    for kind in filter(is_available, PREFERENCE):
        module = getattr(torch, kind)
        named = getattr(module, "get_device_name", lambda index: "")
        lines += [f"{kind}:{index} {named(index)}" for index in range(module.device_count())]
    return [*lines, f"cpu {torch.get_num_threads()} threads"]


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass: `bf16`, `fp16` or `fp32` (none)."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def collective_backend(device: torch.device) -> str:
    """The torch.distributed backend for this device."""
    return COLLECTIVES.get(device.type, "gloo")


def has_own_sync_batch_norm(device: torch.device) -> bool:
    """Whether torch.nn.SyncBatchNorm serves this device."""
    return device.type == "cuda"


def tune_for_fixed_sizes(device: torch.device) -> None:
    """Lets the device try several convolution kernels for each size it meets and keep the fastest:
    batches here have one size."""
    import torch

    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def is_accelerator(device: torch.device) -> bool:
    """Whether the device has memory of its own and works beside the CPU."""
    return device.type != "cpu"


def page_locked(device: torch.device) -> bool:
    """Whether pinned host memory makes copies to the device asynchronous."""
    return device.type in ("cuda", "npu", "xpu")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of host memory on the device that the host does not wait for."""
    return page_lock(tensor, device).to(device, non_blocking=True)


def copy_beside(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device of page-locked memory, while the device works on: on a stream of its
    own. Neither the host nor what the device has to do already waits for it; what comes after
    does."""
    if not page_locked(device):
        return tensor.to(device, non_blocking=True)
    import torch

    module: Any = getattr(torch, device.type)
    side = _streams.get(device) or _streams.setdefault(device, module.Stream(device))
    work = module.current_stream(device)
    with module.stream(side):
        copy = tensor.to(device, non_blocking=True)
    work.wait_stream(side)
    copy.record_stream(work)  # its memory is not given away before that work is done
    return copy


def has_compiler(device: torch.device) -> bool:
    """Whether torch can compile kernels for this accelerator: Triton is installed."""
    return device.type in ("cuda", "xpu") and find_spec("triton") is not None


def page_lock(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Host memory that the device may read while the host goes on: page-locked where that exists,
    as it is where it does not.

    Copies of ordinary memory make the host wait on some devices; on others its owner would have to
    keep it until they are done.
    """
    return tensor.pin_memory() if page_locked(device) and tensor.device.type == "cpu" else tensor


def has_fused_optimizer(device: torch.device) -> bool:
    """Whether the references' Adam is fused on this device; on the CPU that would change the last
    bits of a run for next to nothing."""
    return device.type in ("cuda", "xpu")


def local_processes() -> int:
    """Processes of this training on this machine, as torchrun tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def share_cores(networks: int = 1) -> int:
    """Shares the cores of this process out, once a command: OpenCV, torch and ONNX Runtime bring a
    pool of threads each, and each pool takes the whole machine unless it is told.

    Args:
        networks: how many of them work at the same time.

    Returns:
        Threads for each of them, at most the user's `OMP_NUM_THREADS`.
    """
    import cv2

    asked, cores = os.environ.get("OMP_NUM_THREADS", ""), own_cores()
    if asked.isdecimal() and int(asked):
        cores = min(cores, int(asked))
    threads = _shared["threads"] = max(1, cores // networks)
    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):  # else when a device is chosen
        torch.set_num_threads(threads)
    return threads


def let_threads_sleep() -> None:
    """To be called before torch is imported: threads of OpenMP wait for each other asleep. Awake
    they hold cores that others need, which made trainings beside each other up to twenty times
    slower. An `OMP_WAIT_POLICY` of the user's stands."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def own_cores() -> int:
    """Processor cores for each process of this training on this machine, at least one: of those
    that this process may use, by affinity and by the quota of its container or job."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    for folder, names in _control_groups(CPU_QUOTAS):
        # "max" and -1 where there is no quota
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            texts = [(folder / name).read_text() for name in names]
            quota, period = map(int, " ".join(texts).split())
            if quota > 0:
                cores = min(cores, -(-quota // period))
    return max(1, cores // local_processes())


def synchronize(device: torch.device) -> None:
    """Waits until the device has done its work (for timing)."""
    import torch

    if is_accelerator(device):
        getattr(torch, device.type).synchronize()


def memory_bytes(device: torch.device) -> tuple[int, int]:
    """(free, total) memory of the device in bytes; the host's for the CPU."""
    import torch

    module: Any = getattr(torch, device.type)
    if not hasattr(module, "mem_get_info"):
        return _host_memory()
    gc.collect()  # a training before this one may lie in reference cycles
    module.empty_cache()  # what torch keeps for later counts as taken otherwise
    free, total = module.mem_get_info(device)
    return free, total


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Does some work, and draws random numbers as if it had not been done.

    Args:
        work: leaves nothing behind that holds memory.
        device: where.

    Returns:
        Bytes that the device's memory gave for it at its peak, beside what was taken before: all
        there are where the work did not fit, None where the device does not count them.
    """
    import torch

    module: Any = getattr(torch, device.type)
    if not (hasattr(module, "mem_get_info") and hasattr(module, "max_memory_reserved")):
        return None
    _, total = memory_bytes(device)  # after which torch keeps nothing for later
    before, state = int(module.memory_reserved(device)), random_state(device)
    module.reset_peak_memory_stats(device)
    try:
        work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return total
    finally:
        restore_random_state(state, device)
    return int(module.max_memory_reserved(device)) - before


def _host_memory() -> tuple[int, int]:
    """(available, total) bytes of the host, or of the container or job it is cut to."""
    physical = total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = 1024 * _table(Path("/proc/meminfo")).get("MemAvailable:", total // 1024)
    for folder, (limit, used, stale) in _control_groups(CGROUP_FILES):
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            cap, taken = (int((folder / name).read_text()) for name in (limit, used))
            if cap < physical:
                taken -= _table(folder / "memory.stat").get(stale, 0)
                free, total = min(free, cap - taken), min(total, cap)
    return max(free, 0), total


def _table(path: Path) -> dict[str, int]:
    """A file of Linux with a name and a number in each line; empty where there is none."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows}


def _control_groups(files: Mapping[str, T]) -> Iterator[tuple[Path, T]]:
    """Folders that may limit this process, its own and all above (Slurm limits one below the top),
    with the names of their `files`, which are told by controller ("" in version 2)."""
    rows = ["0::/", *(f"0:{kind}:/" for kind in files if kind)]
    with contextlib.suppress(OSError):
        rows += OWN_CGROUPS.read_text().splitlines()
    for row in rows:
        _, controllers, path = row.split(":", 2)
        for kind in files.keys() & set(controllers.split(",")):
            top = CGROUP / kind
            own = top / path.strip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(top):
                    yield folder, files[kind]


def seed_everything(seed: int) -> None:
    """Seeds torch on every device; nothing here draws from Python's or numpy's global generator."""
    import torch

    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The random states that exact resume needs: torch's and the device's."""
    import torch

    state = {"torch": torch.get_rng_state()}
    if is_accelerator(device):
        state["device"] = getattr(torch, device.type).get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """The inverse of `random_state`."""
    import torch

    torch.set_rng_state(state["torch"])
    if is_accelerator(device) and "device" in state:
        getattr(torch, device.type).set_rng_state(state["device"])


def resolve_precision(precision: str, device: torch.device, *, training: bool = False) -> str:
    """`auto` is bf16 where the hardware multiplies it natively, fp32 elsewhere: emulated bf16 is
    several times slower than fp32. On a processor only a training takes bf16: poses and AP are
    those of every other processor."""
    import torch

    if precision != "auto":
        return precision
    if device.type == "cpu" and not training:
        return "fp32"
    module: Any = getattr(torch, device.type)
    if device.type == "cpu":
        tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = any(getattr(module, test, lambda: False)() for test in tests)
    else:
        answer: Any = getattr(module, "is_bf16_supported", lambda: device.type == "npu")
        try:
            native = answer(including_emulation=False)
        except TypeError:  # only some devices know emulation
            native = answer()
    return "bf16" if native else "fp32"
