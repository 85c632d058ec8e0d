"""Everything that depends on the accelerator. No other file names one.

Ascend NPUs come through `torch-npu`, which registers itself with torch when it is installed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplepose.core.errors import UserError

PREFERENCE = ("cuda", "npu", "xpu", "mps")
"""`auto` takes the first of these that is available, else the CPU."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells the memory limits of containers and jobs."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Where Linux tells which of them this process is in."""
COLLECTIVES = {"cuda": "nccl", "npu": "hccl", "xpu": "xccl"}
"""torch.distributed backend of each accelerator; everything else uses gloo."""


def is_available(kind: str) -> bool:
    """Whether an accelerator of this kind can be used now."""
    module = torch.cpu if kind == "cpu" else getattr(torch, kind, None)
    return module is not None and bool(module.is_available())


def choose_device(name: str = "auto") -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `npu`, `mps`, `xpu`; under torchrun the local rank picks the card.

    Raises:
        UserError: the device is not there; the message lists those that are.
    """
    available = [kind for kind in PREFERENCE if is_available(kind)]
    if name == "auto":
        name = available[0] if available else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        if name.partition(":")[0] == "npu":  # torch knows the name only with the plug-in
            raise _not_here(name, available) from error
        raise UserError(
            f"device {name!r} is not known. Cure: one of auto, cpu, {', '.join(PREFERENCE)}"
        ) from error
    if device.type != "cpu" and device.type not in available:
        raise _not_here(name, available)
    if device.type not in ("cpu", "mps"):
        module = getattr(torch, device.type)
        index = int(os.environ.get("LOCAL_RANK", 0)) if device.index is None else device.index
        if not 0 <= index < module.device_count():
            raise UserError(
                f"device {device.type}:{index} is asked for and there are {module.device_count()}. "
                "Cure: a lower number, or no more processes on this machine than it has devices"
            )
        device = torch.device(device.type, index)
        module.set_device(device)
    return device


def _not_here(name: str, available: list[str]) -> UserError:
    """The sentence for a known device that this machine lacks."""
    hint = " (install torch-npu and CANN, see docs/ascend.md)" if name.startswith("npu") else ""
    return UserError(
        f"device {name!r} is not available here{hint}. Cure: one of {', '.join(['cpu', *available])}"
    )


def describe_devices() -> list[str]:
    """One line a device that is there, the one `auto` takes first."""
    lines = []
    for kind in PREFERENCE:
        if is_available(kind):
            module = getattr(torch, kind)
            count = module.device_count() if hasattr(module, "device_count") else 1
            named = getattr(module, "get_device_name", lambda index: "")
            lines += [f"{kind}:{index} {named(index)}" for index in range(count)]
    lines.append(f"cpu {torch.get_num_threads()} threads")
    return lines


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass: `bf16`, `fp16` or `fp32` (none)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(
        device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16
    )


def collective_backend(device: torch.device) -> str:
    """The torch.distributed backend for this device."""
    return COLLECTIVES.get(device.type, "gloo")


def has_own_sync_batch_norm(device: torch.device) -> bool:
    """Whether torch.nn.SyncBatchNorm serves this device."""
    return device.type == "cuda"


def tune_for_fixed_sizes(device: torch.device) -> None:
    """Lets the device try several convolution kernels for each size it meets and keep the fastest: batches here have one size."""
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


def page_lock(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Host memory that the device may read while the host goes on: page-locked where that exists, as it is where it does not.

    Copies of ordinary memory make the host wait on some devices; on others its owner would have to keep it until they are done.
    """
    return tensor.pin_memory() if page_locked(device) and tensor.device.type == "cpu" else tensor


def has_fused_optimizer(device: torch.device) -> bool:
    """Whether the references' Adam is fused on this device; on the CPU that would change the last bits of a run for next to nothing."""
    return device.type in ("cuda", "xpu")


def local_processes() -> int:
    """Processes of this training on this machine, as torchrun tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def own_cores() -> int:
    """Processor cores for each process of this training on this machine, at least one."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, cores // local_processes())


def synchronize(device: torch.device) -> None:
    """Waits until the device has done its work (for timing)."""
    module = getattr(torch, device.type, None)
    if device.type != "cpu" and module is not None:
        module.synchronize()


def memory_bytes(device: torch.device) -> tuple[int, int]:
    """(free, total) memory of the device in bytes; the host's for the CPU."""
    module = getattr(torch, device.type, None)
    if device.type != "cpu" and hasattr(module, "mem_get_info"):
        gc.collect()  # a training before this one may lie in reference cycles
        module.empty_cache()  # type: ignore[union-attr]  # what torch keeps for later counts as taken otherwise
        return tuple(module.mem_get_info(device))  # type: ignore[union-attr]
    return _host_memory()


def _host_memory() -> tuple[int, int]:
    """(available, total) bytes of the host, or of the container it is cut to."""
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    with contextlib.suppress(
        OSError, ValueError, IndexError
    ):  # Linux counts the page cache as available
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    physical = total
    for folder, limit, used, stale in _memory_groups():
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            cap = int((folder / limit).read_text())
            taken = int((folder / used).read_text())
            with contextlib.suppress(
                OSError, ValueError
            ):  # files read before are given up when memory is wanted
                lines = (folder / "memory.stat").read_text().splitlines()
                taken -= next((int(line.split()[1]) for line in lines if line.startswith(stale)), 0)
            if cap < physical:
                free, total = min(free, cap - taken), min(total, cap)
    return max(free, 0), total


def _memory_groups() -> list[tuple[Path, str, str, str]]:
    """Control groups that may limit this process, its own and all above (Slurm limits one below the top): folder, names of its files."""
    kinds: dict[str, tuple[Path, str, str, str]] = {
        "": (CGROUP, "memory.max", "memory.current", "inactive_file "),
        "memory": (
            CGROUP / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file ",
        ),
    }
    groups = []
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for name in {"memory", ""} & set(controllers.split(",")):
                top, limit, used, stale = kinds[name]
                own = top / path.strip("/")
                groups += [
                    (one, limit, used, stale)
                    for one in (own, *own.parents)
                    if one != top and one.is_relative_to(top)
                ]
    return groups + list(kinds.values())


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """The random states that exact resume needs (Python, numpy, torch, the device), of types that `torch.load` accepts without pickles."""
    legacy: Any = np.random.get_state()  # a tuple, which numpy's types forget
    kind, keys, position, has_gauss, gauss = legacy
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if device.type != "cpu":
        state["device"] = getattr(torch, device.type).get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """The inverse of `random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and "device" in state:
        getattr(torch, device.type).set_rng_state(state["device"])


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it natively, fp32 elsewhere: emulated bf16 is several times slower than fp32."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        native = any(
            getattr(torch.cpu, name, lambda: False)()
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    else:
        module = getattr(torch, device.type)
        answer: Any = getattr(module, "is_bf16_supported", lambda: device.type == "npu")
        try:
            native = bool(answer(including_emulation=False))
        except TypeError:  # only some devices know emulation
            native = bool(answer())
    return "bf16" if native else "fp32"
