"""Training, from the first line to the last.

One device:      simplepose train coco_r50_256x192_ms --data.root dataset
Go on with it:   simplepose train coco_r50_256x192_ms --data.root dataset --resume

The run folder holds config.yaml, metrics.jsonl, console.log and checkpoints/{best,last}.safetensors with last.train.pt beside them.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from simplepose.atomic import atomic_path, write_bytes, write_json
from simplepose.checkpoints import ModelSpec, load_tensors, read_checkpoint, require_schema, save_checkpoint
from simplepose.config import Config, dump_config
from simplepose.data.dataset import TrainLoader
from simplepose.data.source import has_split, read_boxes, read_split
from simplepose.device import autocast, choose_device, random_state, resolve_precision, restore_random_state, seed_everything
from simplepose.errors import UserError
from simplepose.estimator import PoseEstimator
from simplepose.evaluation.coco import table_row
from simplepose.evaluation.top_down import Evaluation, evaluate_network
from simplepose.heatmaps import encode
from simplepose.models.pose_resnet import build_network
from simplepose.pixels import normalise
from simplepose.settings import to_plain
from simplepose.training.first_weights import load_first_weights
from simplepose.training.journal import Journal, format_seconds
from simplepose.training.loss import heatmap_loss
from simplepose.training.optimizer import make_optimizer, set_update
from simplepose.training.schedule import learning_rate


def train(config: Config) -> Path:
    """Trains a network.

    Args:
        config: the whole configuration, e.g. `load_preset("coco_r50_256x192_ms")` with `data.root` set.

    Returns:
        The run folder.

    Raises:
        UserError: missing data, an output folder that holds another run, a loss that is not finite, ...
        KeyboardInterrupt: after Ctrl-C, once a usable `last` checkpoint is written.
    """
    # Where: a new folder, or the folder of the run that goes on.
    folder, checkpoints = config.run_folder, config.run_folder / "checkpoints"
    check_folder(config)

    # What: people to train on, people to evaluate on.
    everybody = read_split(config.data, "train")
    people = everybody.trainable()
    held_out = read_split(config.data, "val") if config.train.evaluate_every and has_split(config.data, "val") else None
    boxes = read_boxes(config.data.boxes, held_out, config.data.root) if held_out is not None else None

    # With: device, seeds, network, optimiser.
    seed_everything(config.train.seed)
    device = choose_device(config.train.device)
    precision = resolve_precision(config.train.precision, device)
    network = build_network(config.model, len(people.schema), config.input_size_wh)
    spec = ModelSpec(
        preset=config.preset, schema=people.schema, input_size_wh=config.input_size_wh, pixels=config.pixels, codec=config.codec,
        model=config.model, config=to_plain(config),
    )  # fmt: skip
    write_bytes(folder / "config.yaml", dump_config(config).encode())
    journal = Journal(folder, tensorboard=config.train.tensorboard)
    for warning in everybody.warnings:
        journal.say(f"note: {warning}")
    for sentence in [] if config.resume else load_first_weights(network, people.schema, config):
        journal.say(sentence)
    network.to(device)
    if config.train.channels_last:
        network.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, config.train)
    loader = TrainLoader(
        people, config.augment, input_size_wh=config.input_size_wh, batch_size=config.train.batch_size, seed=config.train.seed,
        workers=config.data.workers, udp=config.codec.udp, skip_broken=config.data.skip_broken, fill=config.train.last_batch == "fill",
    )  # fmt: skip

    # From: the beginning, or the step where the run stopped.
    step, best_ap = 0, -1.0
    if config.resume:
        step, best_ap = restore(checkpoints, network, optimizer, device, spec)
        journal.say(f"resumed {folder} at step {step}")
    total, per_epoch = config.train.epochs * len(loader), len(loader)
    journal.say(
        f"{config.preset}: {len(people):,} people in {len(people.image_ids):,} pictures, {per_epoch} steps an epoch, "
        f"{config.train.epochs} epochs on {device}, {precision}{', channels-last' if config.train.channels_last else ''} -> {folder}"
    )

    def save(name: str, score: dict[str, Any] | None = None) -> None:
        save_checkpoint(checkpoints / f"{name}.safetensors", network, replace(spec, score=score or {}))
        if name == "last":
            state = {"step": step, "best_ap": best_ap, "optimizer": optimizer.state_dict(), "random": random_state(device)}
            with atomic_path(checkpoints / "last.train.pt") as temporary:
                torch.save(state, temporary)

    # The loop.
    evaluation: Evaluation | None = None
    try:
        while step < total:
            epoch, began, seen, losses = step // per_epoch, time.monotonic(), 0, []
            network.train()
            for batch in loader.epoch(epoch, start=step % per_epoch):
                rate = learning_rate(
                    config.train.learning_rate, step, per_epoch, drop_epochs=config.train.drop_epochs,
                    drop_factor=config.train.drop_factor, count_from_one=config.train.count_from_one,
                )  # fmt: skip
                set_update(optimizer, rate, step, config.train)
                pixels = normalise(batch.pixels.to(device, non_blocking=True), config.pixels)  # (B, 3, H_in, W_in)
                target, weights = encode(
                    batch.keypoints.to(device), batch.visible.to(device), config.codec, config.input_size_wh, config.heatmap_size_wh
                )  # (B, K, H, W), (B, K)
                with autocast(device, precision):
                    predicted = network(pixels)  # (B, K, H, W)
                loss = heatmap_loss(predicted, target, weights, config.train.loss_factor)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise UserError(
                        f"the loss became {value} at step {step} (epoch {epoch + 1}, learning rate {rate:g}); {checkpoints} keeps the last good "
                        "checkpoint. Cure: lower --train.learning-rate, or train in fp32"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
                seen += len(batch.rows)
                losses.append(value)
                pace = seen / (time.monotonic() - began)
                left = (total - step) * config.train.batch_size / pace
                journal.progress(
                    f"epoch {epoch + 1}/{config.train.epochs}  step {step % per_epoch or per_epoch}/{per_epoch}  loss {value:.3g}  "
                    f"rate {rate:g}  {pace:.0f} samples/s  left {format_seconds(left)}"
                )
            step = (epoch + 1) * per_epoch  # broken pictures may have shortened the epoch
            seconds = time.monotonic() - began
            mean = sum(losses) / max(len(losses), 1)
            journal.record(step, epoch=epoch + 1, loss=mean, learning_rate=rate, samples_per_second=seen / seconds, seconds=seconds)
            journal.say(f"epoch {epoch + 1}: loss {mean:.4g}, rate {rate:g}, {seen / seconds:.0f} samples/s, {format_seconds(seconds)}")
            if loader.broken:
                journal.say(f"note: {len(loader.broken)} unreadable pictures skipped, first: {next(iter(loader.broken.values()))}")
            save("last")

            # Evaluation: every n epochs and at the end.
            every = config.train.evaluate_every
            if held_out is not None and boxes is not None and ((epoch + 1) % every == 0 or step >= total):
                estimator = PoseEstimator(
                    network.eval(), spec, device=device, flip_test=config.evaluate.flip_test, precision=precision,
                    batch_size=config.evaluate.batch_size, keypoint_threshold=config.evaluate.keypoint_threshold,
                )  # fmt: skip
                evaluation = evaluate_network(
                    estimator, held_out, boxes, config.evaluate, skip_broken=config.data.skip_broken,
                    progress=lambda done, count: journal.progress(f"evaluating {done}/{count} boxes"),
                )  # fmt: skip
                journal.say(table_row(evaluation.metrics, config.preset, boxes.source, evaluation.pictures))
                journal.record(step, epoch=epoch + 1, **evaluation.metrics, evaluation_seconds=evaluation.seconds)
                if evaluation.metrics["AP"] > best_ap:
                    best_ap = evaluation.metrics["AP"]
                    save("best", {**evaluation.metrics, "boxes": boxes.source, "annotations": held_out.source, "epoch": epoch + 1})
                    write_json(folder / "predictions.json", evaluation.results)
                    save("last")
    except KeyboardInterrupt:
        save("last")
        journal.say(f"stopped at step {step} of {total}. Go on with: --resume --output {folder}")
        raise
    finally:
        journal.close()
    if evaluation is None and not (checkpoints / "best.safetensors").exists():
        save("best")
    return folder


def check_folder(config: Config) -> None:
    """Refuses a folder with another run; nothing is written yet.

    Raises:
        UserError: the folder holds a run and `resume` is off, or holds none and `resume` is on.
    """
    folder = config.run_folder
    exists = (folder / "config.yaml").exists() or (folder / "checkpoints").exists()
    if exists and not config.resume:
        raise UserError(f"{folder} already holds a run. Cure: --resume to go on with it, or --output with another folder")
    if config.resume and not (folder / "checkpoints" / "last.train.pt").exists():
        raise UserError(f"{folder} holds no run to go on with (no checkpoints/last.train.pt). Cure: leave --resume away")


def restore(
    checkpoints: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, spec: ModelSpec
) -> tuple[int, float]:
    """Loads what `last` holds into the network, the optimiser and the random generators; returns the step and the best AP so far."""
    tensors, stored = read_checkpoint(checkpoints / "last.safetensors")
    require_schema(stored, spec.schema, str(checkpoints / "last.safetensors"))
    load_tensors(network, tensors, str(checkpoints / "last.safetensors"))
    path = checkpoints / "last.train.pt"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for a damaged file
        raise UserError(f"{path} cannot be read: {error}. Cure: start a new run, with --model.init for its weights") from error
    optimizer.load_state_dict(state["optimizer"])
    restore_random_state(state["random"], device)
    return state["step"], state["best_ap"]
