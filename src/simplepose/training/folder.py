"""The folder of a run: who owns it, what the run writes while it works, and what it must remember
to go on exactly where it stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import torch
from filelock import FileLock, Timeout

from simplepose.config import Config
from simplepose.core.device import random_state, restore_random_state
from simplepose.core.errors import UserError, need, shown
from simplepose.core.files import atomic_path, encode_json, reading, require_whole_zip, write_bytes
from simplepose.core.progress import StatusLine
from simplepose.core.settings import flatten
from simplepose.pose.checkpoints import ModelSpec, load_tensors, require_schema
from simplepose.training.distributed import World, gather
from simplepose.training.start import Parts

STATE_PARTS = ("position", "network", "optimizer", "random", "people", "spec", "ema")
"""What the state of a run is made of."""
STATE = Path("checkpoints", "last.train.pt")
"""Where a run's state lies in its folder; `last.safetensors` beside it holds the same weights for
use."""
FIXED = (
    "input_size_wh",
    "pixels.",
    "model.",
    "codec.",
    "train.batch_size",
    "train.last_batch",
    "train.optimizer",
    "train.weight_decay",
    "train.divide_decay",
    "train.backbone_learning_rate_factor",
    "train.frozen_stages",
    "train.seed",
    "train.ema",
    "evaluate.task",
)
"""Fields that decide what a step, a position or the optimiser's memory mean, so that they cannot
change within a run; of the average only whether there is one."""


@contextlib.contextmanager
def own_folder(config: Config, world: World) -> Iterator[Path]:
    """Takes the run folder for the life of a run; rank 0 does it for all.

    The system frees the lock if the process dies. A run that ends before it has written anything
    leaves no folder behind.

    Raises:
        UserError: another process trains there, see also `check_folder`.
    """
    folder = config.run_folder
    lock, owner = FileLock(folder / ".lock"), folder / ".owner"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    problem = ""
    if world.first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            check_folder(config)
            write_bytes(owner, f"process {os.getpid()} on host {socket.gethostname()}".encode())
        except Timeout:
            name = owner.read_text() if owner.exists() else "another process"
            problem = f"{name} trains in {folder}. Cure: wait for it, or --output with another one"
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"cannot write {folder}: {error.strerror}. Cure: --output with another folder"
    try:
        if problem := gather(problem, world)[0]:
            raise UserError(problem)
        yield folder
    finally:
        if lock.is_locked:
            owner.unlink(missing_ok=True)
            if missing and len(list(folder.iterdir())) == 1:
                # Windows keeps what is open; a parent may hold something else by now.
                with contextlib.suppress(OSError):
                    Path(lock.lock_file).unlink()
                    for path in missing:
                        path.rmdir()
            lock.release()


def check_folder(config: Config) -> None:
    """Refuses a folder with another run; nothing is written yet.

    A folder holds a run from its first checkpoint on: one that failed before it left nothing to go
    on with, and is begun anew.

    Raises:
        UserError: the folder holds a run and `resume` is off, or holds none that can go on and
            `resume` is on.
    """
    folder, can_go_on = config.run_folder, (config.run_folder / STATE).exists()
    # Without the hidden remains of a crash.
    weights = sorted((folder / STATE.parent).glob("[!.]*.safetensors"))
    if not config.resume and (weights or can_go_on):
        how = "--resume to go on with it, or " if can_go_on else ""
        raise UserError(f"{folder} already holds a run. Cure: {how}--output with another folder")
    if config.resume and not can_go_on:
        cure = (
            f"a new run with --train.weights {weights[0]} and another --output"
            if weights
            else "leave --resume away"
        )
        raise UserError(f"{folder} holds no run to go on with (no {STATE}). Cure: {cure}")


class Journal:
    """What a run says while it works: metrics.jsonl, console.log, one progress line, TensorBoard on
    request. Lines are whole: each is written and flushed at once."""

    def __init__(
        self, folder: Path, *, tensorboard: bool = False, quiet: bool = False, anew: bool = False
    ) -> None:
        """Opens the files for appending, or empties them (`anew`); `quiet` (other ranks) writes
        nothing."""
        self.quiet, self._line, self._writer = quiet, StatusLine(), None
        if quiet:
            return
        mode = "wb" if anew else "ab"
        self._metrics = (folder / "metrics.jsonl").open(mode, buffering=0)
        self._console = (folder / "console.log").open(mode, buffering=0)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise need("tensorboard", "tensorboard", "train.tensorboard") from error
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def say(self, text: str) -> None:
        """One line for people: screen and console.log."""
        if not self.quiet:
            self._line.clear()
            print(text, flush=True)
            _write_whole(self._console, f"{text}\n".encode())

    def record(self, step: int, **values: Any) -> None:
        """One line of metrics.jsonl (and TensorBoard scalars)."""
        if self.quiet:
            return
        line = encode_json({"step": step, "time": time.time(), **values}) + b"\n"
        _write_whole(self._metrics, line)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def progress(self, text: str) -> None:
        """The line that is redrawn in place, see `simplepose.core.progress`."""
        if not self.quiet:
            self._line.show(text)

    def close(self) -> None:
        """Closes the files."""
        if self.quiet:
            return
        self._line.clear()
        self._metrics.close()
        self._console.close()
        if self._writer is not None:
            self._writer.close()


def _write_whole(file: IO[bytes], line: bytes) -> None:
    """Appends a line, or nothing.

    Raises:
        UserError: it cannot be written.
    """
    end = file.seek(0, os.SEEK_END)
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        file.truncate(end)
        raise UserError(
            f"cannot write {file.name}: {error.strerror}. "
            "Cure: make space on the disk, then --resume where checkpoints/ holds a state"
        ) from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a crash cut short is left out."""
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            records.append(msgspec.json.decode(line, type=dict))
    return records


@dataclass
class Position:
    """Where a run is."""

    step: int = 0
    """Updates done so far."""
    best_score: float = -1.0
    """Best score of its evaluations: AP, or what `evaluate.task` has in its place."""
    loss_sum: float = 0.0
    """Sum of the losses of this epoch so far."""
    loss_count: int = 0
    """Their number."""
    evaluated_step: int = 0
    """Step of the last evaluation."""
    adam_offset: int = 0
    """Adam's own count of updates less `step`: not 0 where a run goes on from another program's."""


def forget_later_records(path: Path, position: Position) -> None:
    """Cuts metrics.jsonl off at the first line that the state does not know of, or that a crash cut
    short: a run that goes on writes it again.

    That is one of a later step, or an evaluation after which the state was not written. The file is
    cut in place, because the journal has it open already.
    """
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            break
        evaluated = "evaluation_seconds" in record
        known = position.evaluated_step if evaluated else position.step
        if not line.endswith(b"\n") or record.get("step", known + 1) > known:
            break
        kept += len(line)
    os.truncate(path, kept)


def save_state(folder: Path, position: Position, parts: Parts, world: World) -> None:
    """Writes everything `restore_state` needs in one file, whole or not at all; all ranks call it
    together, the first one writes."""
    random_states = gather(random_state(parts.step.device), world)
    if not world.first:
        return
    ema = parts.ema
    state: dict[str, Any] = {
        "position": vars(position),
        "network": parts.network.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "random": random_states,
        "people": len(parts.loader.annotations),
        "spec": parts.spec.to_json(),
        "ema": ema and {"network": ema.network.state_dict(), "updates": ema.updates},
    }
    with atomic_path(folder / STATE, durable=True) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch reports that the disk is full
            raise OSError(str(error).splitlines()[0]) from error


def restore_state(
    folder: Path, parts: Parts, world: World, *, say: Callable[[str], None]
) -> Position:
    """Loads what `save_state` wrote into the network, the optimiser, the average and the random
    generators.

    `say` takes a sentence about the settings that are no longer those of the run so far: learning
    rates, their schedule, epochs, augmentation, paths and devices may change.

    Raises:
        UserError: the file is damaged, of another network, of another number of processes or
            training people, or of settings that cannot change within a run.
    """
    path, people = folder / STATE, len(parts.loader.annotations)
    state = read_state(path)
    spec = ModelSpec.from_json(state["spec"], str(path))
    require_schema(spec, parts.spec.schema, str(path))
    if len(state["random"]) != world.size:
        raise UserError(
            f"{path} belongs to a run of {len(state['random'])} processes, here are {world.size}. "
            "Cure: go on with the same number, with which the run is repeated exactly, or start a "
            f"new run with --train.weights {path.with_name('last.safetensors')}"
        )
    before, now = flatten(spec.config), flatten(parts.spec.config)
    for name in sorted(before.keys() & now.keys()):
        same = before[name] == now[name] or name == "model.init"
        if name == "train.ema":
            same = bool(before[name]) == bool(now[name])
        if name.startswith(FIXED) and not same:
            raise UserError(
                f"{path} belongs to a run with {name} {before[name]}, here it is {now[name]}. "
                f"Cure: --{name.replace('_', '-')} as it was, or a new run (with --train.weights "
                "it begins where this one is)"
            )
    if changes := changed_settings(spec.config, parts.spec.config):
        say(f"note: other settings than so far: {', '.join(changes)}")
    if state["people"] != people:
        raise UserError(
            f"{path} belongs to a run on {state['people']} people, here are {people}. "
            "Cure: name the same training data"
        )
    load_tensors(parts.network, state["network"], str(path))
    with reading(path, "the state of a run", "start a new run with --train.weights"):
        parts.optimizer.load_state_dict(state["optimizer"])
        if parts.ema is not None:
            load_tensors(parts.ema.network, state["ema"]["network"], str(path))
            parts.ema.updates = state["ema"]["updates"]
        restore_random_state(state["random"][world.rank], parts.step.device)
        return Position(**state["position"])


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; `network` holds the weights themselves, `ema` their average or None.

    Raises:
        UserError: the file is damaged.
    """
    cure = f"start a new run with --train.weights {path.with_name('last.safetensors')}"
    with reading(path, "the state of a run", cure):
        require_whole_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if lacking := [name for name in STATE_PARTS if name not in state]:
            raise ValueError(f"it holds no {shown(lacking)}")
        return state


def changed_settings(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`field old -> new` for each setting that differs; where the run is written and how it was
    called are none."""
    before, after = flatten(stored), flatten(now)
    names = sorted((before.keys() & after.keys()) - {"output", "preset", "resume", "profile"})
    return [
        f"{name} {before[name]} -> {after[name]}" for name in names if before[name] != after[name]
    ]
