"""Training, from the first line to the last.

One device:      simplepose train coco_r50_256x192_ms --data.root dataset
Four:            torchrun --nproc-per-node 4 -m simplepose.cli train coco_r50_256x192_ms --data.root dataset
Go on with it:   the same command with --resume
Why so slow:     simplepose train coco_r50_256x192_ms --data.root dataset --profile

The run folder holds config.yaml, metrics.jsonl, console.log, the results of the best evaluation
(predictions.json, .mat for MPII, a folder for PoseTrack) and checkpoints/{best,last}.safetensors
with last.train.pt beside them, and epoch_010.safetensors, ... where train.keep_every asks for them.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from simplepose.config import Config, dump_config
from simplepose.core.device import choose_device, is_accelerator
from simplepose.core.files import write_bytes
from simplepose.core.progress import format_seconds
from simplepose.data.augment import augment_of_epoch
from simplepose.data.source import has_split, read_split
from simplepose.evaluation.tasks import boxes_of_task, require_truth, task_table, write_results
from simplepose.evaluation.top_down import evaluate_network, name_boxes
from simplepose.pose.checkpoints import epoch_weights, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.training.assemble import assemble
from simplepose.training.distributed import anyone, broadcast_buffers, processes
from simplepose.training.journal import Journal, forget_later_records
from simplepose.training.losses import Losses
from simplepose.training.preconditions import check_folder, require_same_keypoints
from simplepose.training.schedule import check_schedule, rate_at
from simplepose.training.start import check_snapshot, continue_snapshot
from simplepose.training.state import Position, restore_state, save_state
from simplepose.training.stopping import Clock, stop_signals
from simplepose.training.together import estimate_together

LOOK_EVERY = 20
"""Steps between two looks at the losses where looking makes the host wait for the device or for other processes."""


def train(config: Config) -> Path:
    """Trains a network. Under torchrun, or inside a process group that is already there, this is one process of several.

    Args:
        config: the whole configuration, e.g. `load_preset("coco_r50_256x192_ms")` with `data.root` set.

    Returns:
        The run folder.

    Raises:
        UserError: missing data, an output folder that holds another run, a loss that is not finite, another process lost, ...
        KeyboardInterrupt: after Ctrl-C, once the `last` checkpoint is written. SystemExit after SIGTERM, likewise.
    """
    device, task = choose_device(config.train.device), config.evaluate.task
    with (
        processes(device, timeout_minutes=config.train.timeout_minutes) as who,
        stop_signals() as stop,
    ):
        # Where: a new folder, or the folder of the run that goes on. Only the first process writes.
        folder, checkpoints = config.run_folder, config.run_folder / "checkpoints"
        check_folder(config)
        check_schedule(config)
        check_snapshot(config)
        per_look = LOOK_EVERY if who.count > 1 or is_accelerator(device) else 1

        # What: people to train on, people to evaluate on.
        everybody = read_split(config.data, "train")
        people = everybody.trainable()
        held_out = (
            read_split(config.data, "val")
            if config.train.evaluate_every and has_split(config.data, "val")
            else None
        )
        require_same_keypoints(everybody, held_out)
        boxes = None
        if held_out is not None:
            require_truth(task, held_out)
            boxes = boxes_of_task(
                task,
                config.data.boxes,
                held_out,
                config.data.root,
                ground_truth=config.evaluate.ground_truth_boxes,
                skip_broken=config.data.skip_broken,
            )

        # With: network, optimiser, loader, pixels.
        anyone(False, who, device)  # until here others may still look whether the folder is new
        if who.first and not config.resume:
            write_bytes(folder / "config.yaml", dump_config(config).encode())
        journal = Journal(
            folder,
            tensorboard=config.train.tensorboard,
            quiet=not who.first,
            anew=not config.resume,
        )
        for warning in everybody.warnings:
            journal.say(f"note: {warning}")
        if held_out is None:
            why = (
                "no validation data" if config.train.evaluate_every else "train.evaluate_every is 0"
            )
            journal.say(f"note: {why}: nothing is evaluated, `best` is the last")
        parts = assemble(
            config,
            people,
            device,
            who,
            say=journal.say,
            progress=lambda done, count: journal.progress(f"reading {done}/{count} pictures"),
        )
        network, loader, position = parts.network, parts.loader, Position()

        # From: the beginning, the step where the run stopped, or a TensorFlow snapshot.
        per_epoch = len(loader)
        if config.resume:
            position = restore_state(
                checkpoints / "last.train.pt",
                network,
                parts.optimizer,
                parts.ema,
                parts.spec,
                device,
                who,
                people=len(people),
                say=journal.say,
            )
            if who.first:
                write_bytes(folder / "config.yaml", dump_config(config).encode())
                forget_later_records(folder / "metrics.jsonl", position.step)
            journal.say(f"resumed {folder} at step {position.step}")
        elif config.train.continue_from:
            position = continue_snapshot(
                network, parts.optimizer, config, per_epoch, say=journal.say
            )
        total = config.train.epochs * per_epoch
        factor = who.count if config.train.scale_learning_rate == "linear" else 1
        journal.say(
            f"{config.preset}: {len(people):,} people in {len(people.image_ids):,} pictures, {per_epoch} steps an epoch, "
            f"{config.train.epochs} epochs on {device}{f' x {who.count}' if who.count > 1 else ''}, {parts.precision}"
            f"{', channels-last' if config.train.channels_last else ''} -> {folder}"
        )
        clock, losses = Clock(config.train.save_every_minutes), Losses(who, per_epoch, checkpoints)

        def save_weights(name: str, score: dict[str, Any] | None = None) -> None:
            """Weights for use; the first process writes."""
            if who.first:
                used = parts.ema.network if parts.ema else network
                save_checkpoint(
                    checkpoints / f"{name}.safetensors",
                    used,
                    replace(parts.spec, score=score or {}),
                )

        def save_last() -> None:
            """All that a run needs to go on, then its weights; all processes together."""
            save_state(
                checkpoints / "last.train.pt",
                position,
                network,
                parts.optimizer,
                parts.ema,
                parts.spec,
                device,
                who,
                people=len(people),
            )
            save_weights("last")
            keep_epoch()
            clock.reset()

        def keep_epoch() -> None:
            """Keeps the weights of a finished epoch, where they are wanted and not there yet."""
            every, (epoch, within) = config.train.keep_every, divmod(position.step, per_epoch)
            if not every or not epoch or within or epoch % every:
                return
            if not (path := epoch_weights(folder, epoch)).exists():
                save_weights(path.stem, {"epoch": epoch})

        def rest(*, save_now: bool) -> None:
            """Between steps: writes `last` where that is due, and ends the run where somebody asked for it. All processes together."""
            if saved := save_now or anyone(clock.due(), who, device):
                save_last()
            if anyone(bool(stop.signal), who, device):
                if not saved:
                    save_last()
                journal.say(
                    f"stopped at step {position.step} of {total}. Go on with: {resume_command(folder, who.count)}"
                )
                stop.end()

        @cache
        def box_name() -> str:
            """The boxes of the evaluation with their AP, measured once, where a table is printed."""
            return (
                name_boxes(held_out, boxes)[0]
                if who.first and held_out is not None and boxes is not None
                else ""
            )

        def evaluate(epoch: int) -> None:
            """The test on the held-out pictures; keeps the best weights."""
            assert held_out is not None and boxes is not None
            tested = (parts.ema.network if parts.ema else network).eval()
            broadcast_buffers(tested, who)
            estimator = PoseEstimator(
                tested,
                parts.spec,
                device=device,
                flip_test=config.evaluate.flip_test,
                precision=parts.precision,
                batch_size=config.evaluate.batch_size,
                keypoint_threshold=config.evaluate.keypoint_threshold,
            )
            outcome = evaluate_network(
                estimator,
                held_out,
                boxes,
                config.evaluate,
                skip_broken=config.data.skip_broken,
                progress=lambda done, count: journal.progress(f"evaluating {done}/{count} boxes"),
                estimate=partial(estimate_together, who=who),
            )
            journal.say(
                task_table(task, outcome.metrics, config.preset, box_name(), outcome.pictures)
            )
            journal.record(
                position.step, epoch=epoch, **outcome.metrics, evaluation_seconds=outcome.seconds
            )
            position.evaluated_step = position.step
            if outcome.score > position.best_score:
                position.best_score = outcome.score
                save_weights(
                    "best",
                    {
                        **outcome.metrics,
                        "boxes": boxes.source,
                        "annotations": held_out.source,
                        "epoch": epoch,
                    },
                )
                if who.first:
                    write_results(folder, task, held_out, outcome.results)
            save_last()

        # The loop.
        try:
            # A run may have been killed between the state of an epoch and its weights.
            keep_epoch()
            while True:
                # Evaluation: every n epochs and at the end.
                epoch, every = position.step // per_epoch, config.train.evaluate_every
                due = (
                    position.step
                    and position.step % per_epoch == 0
                    and position.evaluated_step != position.step
                )
                if due and held_out is not None and (epoch % every == 0 or position.step >= total):
                    evaluate(epoch)
                if position.step >= total:
                    break

                began, seen, stop.in_step = time.monotonic(), 0, True
                network.train()
                loader.augment = parts.step.augment = augment_of_epoch(
                    config.augment, epoch, config.train.epochs
                )
                rate = factor * rate_at(
                    config.train, position.step, per_epoch
                )  # of the first step; there may be none
                for batch in loader.epoch(epoch, start=position.step % per_epoch):
                    rate = factor * rate_at(config.train, position.step, per_epoch)
                    updates_done = position.step + position.adam_offset
                    loss = parts.step(batch.to(device, parts.step.cut), rate, updates_done)
                    losses.unread.append(loss * batch.loss_weight)
                    if parts.ema:
                        parts.ema.update(network)
                    position.step = epoch * per_epoch + batch.index + 1
                    seen += len(batch.rows) * who.count
                    if len(losses.unread) < per_look:
                        continue
                    losses.look(position)
                    pace = seen / (time.monotonic() - began)
                    left = (total - position.step) * config.train.batch_size * who.count / pace
                    journal.progress(
                        f"epoch {epoch + 1}/{config.train.epochs}  step {batch.index + 1}/{per_epoch}  loss {losses.last:.3g}  "
                        f"rate {rate:g}  {pace:.0f} samples/s  left {format_seconds(left)}"
                    )
                    rest(save_now=False)
                losses.look(position)
                if not seen and position.step % per_epoch == 0:
                    raise loader.no_picture(epoch)
                position.step = (
                    epoch + 1
                ) * per_epoch  # broken pictures may have shortened the epoch
                seconds = time.monotonic() - began
                mean = position.loss_sum / max(position.loss_count, 1)
                position.loss_sum, position.loss_count = 0.0, 0
                journal.record(
                    position.step,
                    epoch=epoch + 1,
                    loss=mean,
                    learning_rate=rate,
                    samples_per_second=seen / seconds,
                    seconds=seconds,
                )
                journal.say(
                    f"epoch {epoch + 1}: loss {mean:.4g}, rate {rate:g}, {seen / seconds:.0f} samples/s, {format_seconds(seconds)}"
                )
                if loader.broken:
                    journal.say(
                        f"note: {len(loader.broken)} unreadable pictures skipped, first: {next(iter(loader.broken.values()))}"
                    )
                rest(save_now=True)
                stop.in_step = False
        finally:
            journal.close()
        for name in (
            "last",
            "best",
        ):  # no best: nothing was evaluated, or there was nobody to find; no last: a stop before it was written
            if not (checkpoints / f"{name}.safetensors").exists():
                save_weights(name)
        return folder


def resume_command(folder: Path, count: int) -> str:
    """What to type to go on with a run: its own config.yaml names the preset's values, the data and all options as they were given."""
    command = f"simplepose train {shlex.join([str(folder / 'config.yaml'), '--resume', '--output', str(folder)])}"
    return command + (f" (in {count} processes, as before)" if count > 1 else "")
