"""What a rung of a ladder reached: found once, kept in its folder, refused where it is of another ladder."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from simplepose.config import Config, load_preset
from simplepose.core.errors import UserError
from simplepose.core.files import read_json, write_json
from simplepose.core.settings import to_plain
from simplepose.training.journal import read_records
from simplepose.training.state import changed_settings


def read_outcome(config: Config) -> dict[str, Any] | None:
    """AP and seconds of one rung, or None where they are not known yet.

    Raises:
        UserError: they are there, but of other settings.
    """
    path = config.run_folder / "outcome.json"
    if not path.exists():
        return None
    stored: dict[str, Any] = read_json(path)
    require_same(stored["settings"], config, "was trained")
    return stored


def find_outcome(
    config: Config,
    trained: Config,
    train: Callable[[Config], Path],
    score: Callable[[Path, Config], dict[str, float]],
) -> bool:
    """Writes the outcome of one rung if it is not there yet, and says whether it did; its training is done or gone on with if need be.

    Args:
        config: the rung.
        trained: the rung whose training serves it, often itself.
        train: trains one configuration.
        score: (folder of a training, configuration of a rung that it serves) -> AP, AP50, AP75, AR.

    Raises:
        UserError: the folder holds a training with other settings.
    """
    if read_outcome(config) is not None:
        return False
    run = trained.run_folder
    started = (run / "checkpoints" / "last.train.pt").exists()
    ended = (
        run / "checkpoints" / "best.safetensors"
    ).exists()  # nothing is evaluated on the way, so it is the end that writes it
    if started or ended:
        require_same(to_plain(load_preset(str(run / "config.yaml"))), trained, "was begun")
    if not ended:
        train(replace(trained, resume=started))
    seconds = [
        record["seconds"] for record in read_records(run / "metrics.jsonl") if "seconds" in record
    ]
    scores = score(run, config)
    outcome: dict[str, Any] = {name: scores[name] for name in ("AP", "AP50", "AP75", "AR")}
    outcome |= {
        "seconds_an_epoch": statistics.median(seconds) if seconds else None,
        "settings": to_plain(config),
    }
    write_json(config.run_folder / "outcome.json", outcome, durable=True)
    return True


def require_same(stored: dict[str, Any], config: Config, what: str) -> None:
    """Refuses a folder of another ladder; where it lies, and on which device it was trained, does not matter.

    Raises:
        UserError: names the settings that differ.
    """
    stored = {**stored, "train": {**stored["train"], "device": config.train.device}}
    if changes := changed_settings(stored, to_plain(config)):
        raise UserError(
            f"{config.run_folder} {what} with other settings ({', '.join(changes)}). Cure: the same command as before, or another --output"
        )
