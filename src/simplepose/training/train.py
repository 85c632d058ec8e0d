"""Training, from the first line to the last.

One device:      simplepose train coco_r50_256x192_ms --data.root dataset
Four:            torchrun --nproc-per-node 4 -m simplepose train coco_r50_256x192_ms
                     --data.root dataset
Go on with it:   the same command with --resume
Why so slow:     simplepose train coco_r50_256x192_ms --data.root dataset --profile

The run folder holds config.yaml, metrics.jsonl, console.log, the results of the best evaluation
(predictions.json, .mat for MPII, a folder for PoseTrack) and checkpoints/{best,last}.safetensors
with last.train.pt beside them, and epoch_010.safetensors, ... where train.keep_every asks for them.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import torch

from simplepose.config import Config, dump_config
from simplepose.core.device import (
    choose_device,
    enough_memory,
    has_fused_optimizer,
    is_accelerator,
)
from simplepose.core.files import write_bytes
from simplepose.core.stopping import heed_signals
from simplepose.data.annotations import Annotations
from simplepose.data.augment import augment_of_epoch
from simplepose.data.loader import Batch
from simplepose.data.source import has_split
from simplepose.training.distributed import World, join_world
from simplepose.training.folder import (
    STATE,
    Journal,
    Position,
    forget_later_records,
    own_folder,
    restore_state,
)
from simplepose.training.run import HeldOut, Run, Stop, read_held_out
from simplepose.training.schedule import check_schedule
from simplepose.training.snapshot import check_snapshot, continue_snapshot
from simplepose.training.start import assemble, read_training


def train(config: Config) -> Path:
    """Trains a network. Under torchrun, or inside a process group that is already there, this is
    one process of several.

    Args:
        config: the whole configuration, e.g. `load_preset("coco_r50_256x192_ms")` with `data.root`
            set.

    Returns:
        The run folder.

    Raises:
        UserError: missing data, an output folder that holds another run or in which another process
            trains, a loss that is not finite, another process lost, ...
        Stopped: a KeyboardInterrupt, after Ctrl-C, SIGTERM or SIGHUP, once the `last` checkpoint
            is written.
    """
    options, device = config.train, choose_device(config.train.device)
    stop = Stop()
    with (
        join_world(device, timeout_minutes=options.timeout_minutes) as world,
        heed_signals(stop.ask),
        own_folder(config, world) as folder,
    ):
        check_schedule(options, config.augment.weak_epochs)
        check_snapshot(config)
        people = read_training(config)
        evaluated = options.evaluate_every and has_split(config.data, "val")
        held_out = read_held_out(config, people) if evaluated else None
        if world.first and not config.resume:
            write_bytes(folder / "config.yaml", dump_config(config).encode())
        log = Journal(
            folder,
            tensorboard=options.tensorboard,
            quiet=not world.first,
            anew=not config.resume,
        )
        with closing(log) as journal:
            for note in _notes(config, people, held_out):
                journal.say(f"note: {note}")
            run = begin(config, people, held_out, world, journal, stop)
            # The run may have been killed between the state of an epoch and its weights.
            run.keep_epoch()
            while True:
                if run.evaluation_due():
                    run.evaluate()
                if run.position.step >= run.total:
                    break
                with enough_memory(options.batch_size, "--train.batch-size"):
                    train_epoch(run)
            # No best: nothing was evaluated, or there was nobody to find; no last: a stop before it
            # was written.
            for name in ("last", "best"):
                if not (folder / STATE.with_name(f"{name}.safetensors")).exists():
                    run.save_weights(name)
    return folder


def _notes(config: Config, people: Annotations, held_out: HeldOut | None) -> list[str]:
    """What is to be known of the data before hours of training."""
    tested = held_out.people.warnings if held_out else ()
    notes = [*dict.fromkeys((*people.warnings, *tested)), people.schema.sides_note()]
    if held_out is None:
        every = config.train.evaluate_every
        why = "no validation data" if every else "train.evaluate_every is 0"
        notes.append(f"{why}: nothing is evaluated, `best` is the last")
    return list(filter(None, notes))


def begin(
    config: Config,
    people: Annotations,
    held_out: HeldOut | None,
    world: World,
    journal: Journal,
    stop: Stop,
) -> Run:
    """Puts a run together: at its beginning, at the step where it stopped, or after a snapshot of
    TensorFlow.

    Args:
        config: the run.
        people: to train on.
        held_out: to evaluate on.
        world: the processes.
        journal: of the run.
        stop: who asks it to stop.
    """
    folder, options, device = config.run_folder, config.train, choose_device(config.train.device)
    parts = assemble(
        config,
        people,
        device,
        world,
        say=journal.say,
        progress=lambda done, count: journal.progress(f"reading {done}/{count} pictures"),
    )
    per_epoch, position = len(parts.loader), Position()
    if config.resume:
        position = restore_state(folder, parts, world, say=journal.say)
        if world.first:
            write_bytes(folder / "config.yaml", dump_config(config).encode())
            forget_later_records(folder / "metrics.jsonl", position)
        journal.say(f"resumed {folder} at step {position.step}")
    elif options.continue_from:
        position = continue_snapshot(
            parts.network, parts.optimizer, config, per_epoch, say=journal.say
        )
    layout = ", channels-last" if options.channels_last else ""
    journal.say(
        f"{config.preset}: {len(people):,} {'boxes' if config.detects else 'people'} "
        f"in {len(people.image_ids):,} pictures, "
        f"{per_epoch} steps an epoch, {options.epochs} epochs on {device}{world}, "
        f"{parts.precision}{layout} -> {folder}"
    )
    if is_accelerator(device):
        journal.say(accelerator_line(config, parts.precision, device))
    return Run(config, folder, world, device, parts, position, held_out, journal, stop)


def accelerator_line(config: Config, precision: str, device: torch.device) -> str:
    """What of the fast ways is on and off in a run on an accelerator, with the option of each."""
    options = config.train
    ways = {
        "bf16 (--train.precision bf16)": precision == "bf16",
        "channels-last (--train.channels-last)": options.channels_last,
        "fused optimiser": has_fused_optimizer(device),
        "compiled step (--train.compile on)": options.compile != "off",
        "device graph (--train.compile graphs)": options.compile == "graphs",
    }
    on, off = (", ".join(way for way in ways if ways[way] == wanted) for wanted in (True, False))
    return f"{device}: on: {on or 'nothing'}; off: {off or 'nothing'}"


def train_epoch(run: Run) -> None:
    """Trains the rest of an epoch, records it and saves.

    Somebody's wish to stop is heeded between two steps and after the epoch's record, so that no
    record is lost.

    Raises:
        UserError: no picture can be read, or a loss is not finite.
    """
    parts, position, options = run.parts, run.position, run.config.train
    epoch, first = divmod(position.step, run.per_epoch)
    began, samples, learning_rate = time.monotonic(), 0, run.learning_rate()
    run.stop.in_epoch = True
    parts.network.train()
    parts.loader.augment = parts.step.augment = augment_of_epoch(
        run.config.augment, epoch, options.epochs
    )
    for batch in parts.loader.epoch(epoch, start=first):
        learning_rate = run.learning_rate()
        time_to_read = update(run, batch, learning_rate)
        position.step = epoch * run.per_epoch + batch.index + 1
        samples += len(batch.rows) * run.world.size
        if time_to_read:
            run.read_losses()
            run.progress(samples / (time.monotonic() - began))
            if batch.index + 1 < run.per_epoch:
                run.rest()
    run.read_losses()
    if not samples and not first:
        raise parts.loader.no_picture(epoch)
    # Broken pictures may have shortened the epoch.
    position.step = (epoch + 1) * run.per_epoch
    run.report(epoch + 1, learning_rate, samples, time.monotonic() - began)
    run.rest(save=True)
    run.stop.in_epoch = False


def update(run: Run, batch: Batch, learning_rate: float) -> bool:
    """One step of the loop, the host waiting for nothing; returns whether it is time to read the
    losses."""
    parts, position = run.parts, run.position
    on_device = batch.to(run.device, parts.step.cut)
    loss = parts.step(on_device, learning_rate, position.step + position.adam_offset)
    if parts.ema:
        parts.ema.update(parts.network)
    return run.add_loss(loss * batch.loss_weight)
