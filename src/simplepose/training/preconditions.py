"""What must be true before a training begins: a folder of its own, and validation data that speaks of the same keypoints."""

from __future__ import annotations

from simplepose.config import Config
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations


def check_folder(config: Config) -> None:
    """Refuses a folder with another run; nothing is written yet.

    A folder holds a run from its first checkpoint on: one that failed before it left nothing to go on with, and is begun anew.

    Raises:
        UserError: the folder holds a run and `resume` is off, or holds none that can go on and `resume` is on.
    """
    folder, checkpoints = config.run_folder, config.run_folder / "checkpoints"
    weights = [
        path for path in sorted(checkpoints.glob("*.safetensors")) if not path.name.startswith(".")
    ]  # no remains of a crash
    can_go_on = (checkpoints / "last.train.pt").exists()
    if not config.resume and (weights or can_go_on):
        how = "--resume to go on with it, or " if can_go_on else ""
        raise UserError(f"{folder} already holds a run. Cure: {how}--output with another folder")
    if config.resume and not can_go_on:
        cure = (
            f"a new run with --train.weights {weights[0]} and another --output"
            if weights
            else "leave --resume away"
        )
        raise UserError(
            f"{folder} holds no run to go on with (no checkpoints/last.train.pt). Cure: {cure}"
        )


def require_same_keypoints(people: Annotations, held_out: Annotations | None) -> None:
    """Refuses validation data whose keypoints are others, or stand in another order: its AP would mean nothing, and choose `best`.

    Raises:
        UserError: names both files and the first keypoint that differs.
    """
    if held_out is None or held_out.schema.keypoints == people.schema.keypoints:
        return
    ours, theirs = people.schema.keypoints, held_out.schema.keypoints
    if len(ours) != len(theirs):
        what = f"{len(theirs)} keypoints, the training data {people.source} has {len(ours)}"
    else:
        place = next(
            index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]
        )
        what = f"{theirs[place]!r} as keypoint {place + 1}, the training data {people.source} has {ours[place]!r} there"
    raise UserError(
        f"{held_out.source} has {what}. Cure: --data.val-annotations with the same keypoints in the same order, or --train.evaluate-every 0"
    )
