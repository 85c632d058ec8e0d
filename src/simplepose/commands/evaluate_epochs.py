"""`simplepose evaluate RUN --epochs 100:140:10`: which of the weights that a run has kept are tested."""

from __future__ import annotations

import re
from pathlib import Path

from simplepose.core.errors import UserError
from simplepose.pose.checkpoints import epoch_weights, kept_epochs


def weights_of_epochs(run: str, epochs: str) -> dict[int, Path]:
    """The weights of the epochs that are asked for, in order.

    Args:
        run: folder of a run that was trained with `train.keep_every`.
        epochs: `140`, or `100:140:10` (both ends, every tenth), or `100:140`.

    Raises:
        UserError: other text, no run that keeps epochs, or an epoch that it has not kept.
    """
    wanted, kept = parse_epochs(epochs), kept_epochs(run)
    if not kept:
        raise UserError(
            f"{run} keeps no weights of single epochs (no checkpoints/epoch_*.safetensors). Cure: "
            "name the folder of a run that was trained with --train.keep-every, or leave --epochs out"
        )
    missing = next((epoch for epoch in wanted if epoch not in kept), None)
    if missing is not None:
        listed = ", ".join(map(str, kept))
        raise UserError(f"{run} keeps no weights of epoch {missing}. Cure: --epochs of {listed}")
    return {epoch: epoch_weights(run, epoch) for epoch in wanted}


def parse_epochs(text: str) -> range:
    """`140`, `100:140` or `100:140:10` as numbers; both ends belong to it.

    Raises:
        UserError: it is none of these, or no epoch lies between its ends.
    """
    match = re.fullmatch(r"([0-9]{1,9})(:[0-9]{1,9})?(:[0-9]{1,9})?", text)
    if match:
        first, last, step = (
            match[1],
            (match[2] or match[1]).lstrip(":"),
            (match[3] or "1").lstrip(":"),
        )
        if 1 <= int(first) <= int(last) and int(step):
            return range(int(first), int(last) + 1, int(step))
    raise UserError(f"--epochs is {text!r}. Cure: FIRST:LAST:STEP as 100:140:10, or one epoch")
