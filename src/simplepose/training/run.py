"""A training on its way: what it consists of, and what it does between steps: evaluate, save,
report, stop."""

from __future__ import annotations

import math
import shlex
import signal
import time
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from simplepose.config import Config
from simplepose.core.device import is_accelerator
from simplepose.core.errors import UserError
from simplepose.core.progress import format_seconds
from simplepose.core.stopping import Stopped
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.source import read_split
from simplepose.detection.trained import TrainedDetector
from simplepose.doctor.checks import require_sound
from simplepose.evaluation.boxes import BOX_TEST, evaluate_detector
from simplepose.evaluation.tasks import (
    TASKS,
    boxes_of_task,
    require_truth,
    task_table,
    write_results,
)
from simplepose.evaluation.top_down import Evaluation, evaluate_network, name_boxes
from simplepose.pose.checkpoints import epoch_weights, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.training.distributed import (
    World,
    anyone,
    average,
    broadcast_buffers,
    detect_together,
    estimate_together,
)
from simplepose.training.folder import STATE, Journal, Position, save_state
from simplepose.training.schedule import learning_rate_at
from simplepose.training.start import Parts

READ_EVERY = 20
"""Steps between two readings of the losses where reading makes the host wait for the device or for
other processes."""


@dataclass
class Stop:
    """Whether somebody has asked the run to stop."""

    signal: int = 0
    """The signal that asked, 0 as long as nobody did."""
    in_epoch: bool = False
    """Whether the loop asks between steps; elsewhere a signal ends the run at once, `last` is on
    disk already."""

    def ask(self, number: int) -> None:
        """Hears a signal: the loop stops after the step it is in; asked again, at once."""
        again, self.signal = bool(self.signal), number
        if again or not self.in_epoch:
            self.end()

    def end(self) -> None:
        """Ends the run, as Ctrl-C does where another process was asked."""
        raise Stopped(self.signal or signal.SIGINT)


@dataclass(frozen=True)
class HeldOut:
    """What the network is evaluated on."""

    people: Annotations
    """The ground truth."""
    boxes: Detections | None
    """Where the network looks; None for a detector, which finds out."""

    @cached_property
    def box_name(self) -> str:
        """The boxes with their AP, which takes seconds to measure."""
        return name_boxes(self.people, self.boxes)[0] if self.boxes else "its own"

    @property
    def box_source(self) -> str:
        """What a weight file says of the boxes beside its score."""
        return self.boxes.source if self.boxes else "its own"


def read_held_out(config: Config, people: Annotations) -> HeldOut:
    """The validation data.

    Raises:
        UserError: it is missing, damaged or broken (`require_sound`), lacks what the task needs,
            or has other keypoints than `people`, who are trained on.
    """
    data, test = config.data, config.evaluate
    if config.detects:
        data = replace(data, category=",".join(people.schema.keypoints))
        return HeldOut(require_sound(read_split(data, "val", boxes=True), data), None)
    held_out = require_sound(read_split(data, "val"), data)
    require_same_keypoints(people, held_out)
    require_truth(test.task, held_out)
    boxes = boxes_of_task(
        test.task,
        data.boxes,
        held_out,
        data.root,
        ground_truth=test.ground_truth_boxes,
        skip_broken=data.skip_broken,
    )
    return HeldOut(held_out, boxes)


def require_same_keypoints(people: Annotations, held_out: Annotations) -> None:
    """Refuses validation data whose keypoints are others, or stand in another order: its AP would
    mean nothing, and choose `best`.

    Raises:
        UserError: names both files and the first keypoint that differs.
    """
    ours, theirs = people.schema.keypoints, held_out.schema.keypoints
    if ours == theirs:
        return
    what = f"{len(theirs)} keypoints, the training data {people.source} has {len(ours)}"
    if len(ours) == len(theirs):
        index = [one == other for one, other in zip(ours, theirs, strict=True)].index(False)
        what = (
            f"{theirs[index]!r} as keypoint {index + 1}, the training data {people.source} has "
            f"{ours[index]!r} there"
        )
    raise UserError(
        f"{held_out.source} has {what}. Cure: --data.val-annotations with the same keypoints in "
        "the same order, or --train.evaluate-every 0"
    )


@dataclass
class Run:
    """A training on its way. What all ranks must do together says so."""

    config: Config
    """Its settings."""
    folder: Path
    """Where it is written."""
    world: World
    """The processes."""
    device: torch.device
    """Where it computes."""
    parts: Parts
    """What it moves."""
    position: Position
    """How far it is."""
    held_out: HeldOut | None
    """What it is evaluated on, if anything."""
    journal: Journal
    """What it says."""
    stop: Stop
    """Whether somebody wants it to stop."""
    last_loss: float = 0.0
    """The newest one that was read."""
    _unread: list[torch.Tensor] = field(default_factory=list)
    """() each: the losses since they were read, on the device, because reading makes the host
    wait."""
    _saved: float = field(default_factory=time.monotonic)
    """When `last` was written."""

    def __post_init__(self) -> None:
        self.per_epoch = len(self.parts.loader)
        """Steps an epoch."""
        self.total = self.per_epoch * self.config.train.epochs
        """Steps in all."""
        waits = self.world.size > 1 or is_accelerator(self.device)
        self.read_every = READ_EVERY if waits else 1
        """Steps between two readings of the losses."""

    def learning_rate(self) -> float:
        """That of the next step."""
        options = self.config.train
        factor = self.world.size if options.scale_learning_rate == "linear" else 1
        return factor * learning_rate_at(options, self.position.step, self.per_epoch)

    def add_loss(self, loss: torch.Tensor) -> bool:
        """Keeps the loss of a step, () on the device; returns whether it is time to read them."""
        self._unread.append(loss)
        return len(self._unread) >= self.read_every

    def read_losses(self) -> None:
        """Reads the losses into `position`, the only place of the loop where the host waits for the
        device; all ranks together.

        Raises:
            UserError: one is not finite; names its step.
        """
        if not self._unread:
            return
        position, values = self.position, average(torch.stack(self._unread), self.world).tolist()
        self._unread.clear()
        for step, value in enumerate(values, position.step - len(values)):
            if not math.isfinite(value):
                kept = (
                    f"{self.folder / STATE.parent} keeps the last good checkpoint"
                    if (self.folder / STATE).exists()
                    else "no checkpoint had been written yet"
                )
                raise UserError(
                    f"the loss became {value} at step {step} (epoch {step // self.per_epoch + 1}); "
                    f"{kept}. Cure: lower --train.learning-rate, or train in fp32"
                )
            position.loss_sum += value
            position.loss_count += 1
            self.last_loss = value

    def progress(self, pace: float) -> None:
        """Shows where the run is; `pace` is in samples a second."""
        epoch, index = divmod(self.position.step - 1, self.per_epoch)
        together = self.config.train.batch_size * self.world.size
        left = (self.total - self.position.step) * together / pace
        self.journal.progress(
            f"epoch {epoch + 1}/{self.config.train.epochs}  step {index + 1}/{self.per_epoch}  "
            f"loss {self.last_loss:.3g}  {pace:.0f} samples/s  left {format_seconds(left)}"
        )

    def report(self, epoch: int, learning_rate: float, samples: int, seconds: float) -> None:
        """Records a finished epoch and begins to count the next one's losses.

        Args:
            epoch: its number, from 1.
            learning_rate: of its last step.
            samples: people it has shown, on all ranks.
            seconds: how long it took, since it began or was resumed.
        """
        position, broken = self.position, self.parts.loader.broken
        loss = position.loss_sum / max(position.loss_count, 1)
        position.loss_sum, position.loss_count = 0.0, 0
        self.journal.record(
            position.step,
            epoch=epoch,
            loss=loss,
            learning_rate=learning_rate,
            samples_per_second=samples / seconds,
            seconds=seconds,
        )
        self.journal.say(
            f"epoch {epoch}: loss {loss:.4g}, learning rate {learning_rate:g}, "
            f"{samples / seconds:.0f} samples/s, {format_seconds(seconds)}"
        )
        if broken:
            first = next(iter(broken.values()))
            self.journal.say(f"note: {len(broken)} unreadable pictures skipped, first: {first}")

    def save_weights(self, name: str, score: dict[str, Any] | None = None) -> None:
        """Weights for use; rank 0 writes."""
        if self.world.first:
            path = self.folder / STATE.with_name(f"{name}.safetensors")
            save_checkpoint(path, self.parts.used, replace(self.parts.spec, score=score or {}))

    def save(self) -> None:
        """All that a run needs to go on, then its weights; all ranks together."""
        save_state(self.folder, self.position, self.parts, self.world)
        self.save_weights("last")
        self.keep_epoch()
        self._saved = time.monotonic()

    def keep_epoch(self) -> None:
        """Keeps the weights of a finished epoch, where they are wanted and not there yet."""
        every = self.config.train.keep_every * self.per_epoch
        epoch = self.position.step // self.per_epoch
        if every and epoch and self.position.step % every == 0:
            path = epoch_weights(self.folder, epoch)
            if not path.exists():
                self.save_weights(path.stem, {"epoch": epoch})

    def rest(self, *, save: bool = False) -> None:
        """Between steps: saves where that is due, and ends the run where somebody asked for it; all
        ranks together."""
        seconds = self.config.train.save_every_minutes * 60
        due = save or 0 < seconds <= time.monotonic() - self._saved
        if saved := anyone(due, self.world, self.device):
            self.save()
        if anyone(bool(self.stop.signal), self.world, self.device):
            if not saved:
                self.save()
            self.journal.say(
                f"stopped at step {self.position.step} of {self.total}. "
                f"Go on with: {resume_command(self.folder, self.world)}"
            )
            self.stop.end()

    def evaluation_due(self) -> bool:
        """Whether an epoch has just ended after which the network is evaluated."""
        position, (epoch, rest) = self.position, divmod(self.position.step, self.per_epoch)
        if self.held_out is None or rest or position.step in (0, position.evaluated_step):
            return False
        return position.step >= self.total or epoch % self.config.train.evaluate_every == 0

    def evaluate(self) -> None:
        """Tests the network on the held-out pictures and keeps the best weights; all ranks
        together."""
        held_out, position, test = self.held_out, self.position, self.config.evaluate
        assert held_out is not None
        epoch = position.step // self.per_epoch
        broadcast_buffers(self.parts.used.eval(), self.world)
        outcome = self._test_boxes() if held_out.boxes is None else self._test_poses()
        kind = BOX_TEST if held_out.boxes is None else TASKS[test.task]
        metrics, name = outcome.metrics, held_out.box_name if self.world.first else ""
        self.journal.say(task_table(kind, metrics, self.config.preset, name, outcome.pictures))
        self.journal.record(
            position.step, epoch=epoch, **metrics, evaluation_seconds=outcome.seconds
        )
        position.evaluated_step = position.step
        if outcome.score > position.best_score:
            position.best_score = outcome.score
            source = {"boxes": held_out.box_source, "annotations": held_out.people.source}
            self.save_weights("best", {**metrics, **source, "epoch": epoch})
            if self.world.first:
                write_results(self.folder, test.task, held_out.people, outcome.results)
        self.save()

    def _test_boxes(self) -> Evaluation:
        assert self.held_out is not None
        network, data = self.parts.used, self.config.data
        detector = TrainedDetector(
            network, self.parts.spec, device=self.device, precision=self.parts.precision
        )
        return evaluate_detector(
            detector,
            self.held_out.people,
            detect=partial(detect_together, world=self.world),
            workers=data.threads,
            skip_broken=data.skip_broken,
            progress=lambda done, count: self.journal.progress(
                f"evaluating {done}/{count} pictures"
            ),
        )

    def _test_poses(self) -> Evaluation:
        held_out, test = self.held_out, self.config.evaluate
        assert held_out is not None
        assert held_out.boxes is not None
        estimator = PoseEstimator(
            self.parts.used,
            self.parts.spec,
            device=self.device,
            flip_test=test.flip_test,
            precision=self.parts.precision,
            batch_size=test.batch_size,
            keypoint_threshold=test.keypoint_threshold,
        )
        return evaluate_network(
            estimator,
            held_out.people,
            held_out.boxes,
            test,
            skip_broken=self.config.data.skip_broken,
            progress=lambda done, count: self.journal.progress(f"evaluating {done}/{count} boxes"),
            estimate=partial(estimate_together, world=self.world),
        )


def resume_command(folder: Path, world: World) -> str:
    """What to type to go on with a run: its own config.yaml names all options as they were."""
    words = [str(folder / "config.yaml"), "--resume", "--output", str(folder)]
    processes = f" (in {world.size} processes, as before)" if world.size > 1 else ""
    return f"simplepose train {shlex.join(words)}{processes}"
