"""One rung of a ladder as a network of its own: the weights of the training that serves it, used as the rung uses them, and tested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simplepose.config import Config, DataConfig, GroundTruthBoxes
from simplepose.core.progress import Progress
from simplepose.core.settings import to_plain
from simplepose.data.source import boxes_to_test, read_split
from simplepose.evaluation.top_down import evaluate_network, name_boxes
from simplepose.pose.checkpoints import load_model, load_tensors, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.training.preconditions import require_same_keypoints
from simplepose.training.state import read_state


class Scorer:
    """Scores rungs on the validation data."""

    def __init__(self, data: DataConfig, device: str, ground_truth: GroundTruthBoxes) -> None:
        """Reads the validation data: what is wrong with it is told before hours of training.

        Args:
            data: where it is.
            device: where networks are tested.
            ground_truth: which boxes `data.boxes` gt means, the same for all rungs.

        Raises:
            UserError: it is missing or damaged, or its keypoints are not those of the training data.
        """
        self.data, self.device = data, device
        self.people = read_split(data, "val")
        require_same_keypoints(read_split(data, "train"), self.people)
        self.boxes = boxes_to_test(
            data.boxes,
            self.people,
            data.root,
            ground_truth=ground_truth,
            skip_broken=data.skip_broken,
        )
        self.box_name = name_boxes(self.people, self.boxes)[0]
        """The boxes on which every training is scored, and their AP."""

    def __call__(self, run: Path, config: Config) -> dict[str, float]:
        """The ten numbers of a rung.

        Args:
            run: folder of the training that serves it.
            config: the rung. Where its folder is another, its weights are written there, so that every rung can be used and evaluated.
        """
        if config.run_folder != run:
            write_weights(run, config)
        estimator = PoseEstimator.from_checkpoint(
            config.run_folder,
            device=self.device,
            flip_test=config.evaluate.flip_test,
            precision=config.train.precision,
            batch_size=config.evaluate.batch_size,
        )
        with Progress("evaluating", "boxes") as progress:
            outcome = evaluate_network(
                estimator,
                self.people,
                self.boxes,
                config.evaluate,
                skip_broken=self.data.skip_broken,
                progress=progress,
            )
        return outcome.metrics


def write_weights(run: Path, config: Config) -> None:
    """Writes the weights of a finished training as those of a rung that is used in another way: decoded otherwise, or not averaged.

    Args:
        run: folder of the training.
        config: the rung; `checkpoints/best.safetensors` below its folder is written.
    """
    trained = load_model(run)
    if trained.spec.config["train"]["ema"] and not config.train.ema:
        path = run / "checkpoints" / "last.train.pt"
        load_tensors(trained.network, read_state(path)["network"], str(path))
    spec = replace(trained.spec, preset=config.preset, codec=config.codec, config=to_plain(config))
    save_checkpoint(config.run_folder / "checkpoints" / "best.safetensors", trained.network, spec)
