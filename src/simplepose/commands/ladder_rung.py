"""One rung of a ladder as a network of its own: the weights of the training that serves it, used as the rung uses them, and tested."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from simplepose.checkpoints import load_model, load_tensors, save_checkpoint
from simplepose.config import Config
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.source import DataConfig, boxes_to_test, read_split
from simplepose.estimator import PoseEstimator
from simplepose.evaluation.top_down import evaluate_network
from simplepose.progress import Progress
from simplepose.settings import to_plain
from simplepose.training.state import read_state


class Tester:
    """Scores rungs on the validation data, which is read once."""

    def __init__(self, data: DataConfig, device: str) -> None:
        """Keeps where the data is; nothing is read yet."""
        self.data, self.device = data, device

    @cached_property
    def people(self) -> Annotations:
        """The annotated people."""
        return read_split(self.data, "val")

    @cached_property
    def boxes(self) -> Detections:
        """Where the network looks."""
        return boxes_to_test(self.data.boxes, self.people, self.data.root)

    def __call__(self, run: Path, config: Config) -> dict[str, float]:
        """The ten numbers of a rung.

        Args:
            run: folder of the training that serves it.
            config: the rung. Where its folder is another, its weights are written there, so that every rung can be used and evaluated.
        """
        if config.run_folder != run:
            write_weights(run, config)
        estimator = PoseEstimator.from_checkpoint(
            config.run_folder, device=self.device, flip_test=config.evaluate.flip_test, precision=config.train.precision,
            batch_size=config.evaluate.batch_size,
        )  # fmt: skip
        with Progress("evaluating", "boxes") as progress:
            outcome = evaluate_network(
                estimator, self.people, self.boxes, config.evaluate, skip_broken=self.data.skip_broken, progress=progress
            )  # fmt: skip
        return outcome.metrics


def write_weights(run: Path, config: Config) -> None:
    """Writes the weights of a finished training as those of a rung that is used in another way: decoded otherwise, or not trained.

    Args:
        run: folder of the training.
        config: the rung; `checkpoints/best.safetensors` below its folder is written.
    """
    trained = load_model(run)
    if not config.train.ema:
        path = run / "checkpoints" / "last.train.pt"
        load_tensors(trained.network, read_state(path)["network"], str(path))
    spec = replace(trained.spec, codec=config.codec, config=to_plain(config))
    save_checkpoint(config.run_folder / "checkpoints" / "best.safetensors", trained.network, spec)
