"""Averages the weights of trainings that began with the same weights ("Model soups", Wortsman et
al., ICML 2022): one network of the same size, often better than each.

    python benchmarks/average_weights.py RUN RUN ... OUTPUT.safetensors

A RUN is a run folder (its best weights) or a weight file. `starter` was made so.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from simplepose import UserError, load_model
from simplepose.core.files import require_new
from simplepose.pose.checkpoints import ModelSpec, read_checkpoint, save_checkpoint


def average(runs: list[str]) -> tuple[torch.nn.Module, ModelSpec]:
    """The mean network, batch statistics too, and the first run's description, less its score.

    Raises:
        UserError: networks of different kinds.
    """
    network, spec = load_model(runs[0], "cpu")
    states = [read_checkpoint(run) for run in runs]
    for run, (_, other) in zip(runs, states, strict=True):
        if (other.model, other.schema, other.codec) != (spec.model, spec.schema, spec.codec):
            raise UserError(f"{run} is another kind of network than {runs[0]}. Cure: leave it out")
    mean = {}
    for name, value in network.state_dict().items():
        values = torch.stack([tensors[name].double() for tensors, _ in states])
        mean[name] = values.mean(0).to(value.dtype)
    network.load_state_dict(mean)
    return network, replace(spec, score={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    try:
        require_new(options.output, overwrite=False)
        save_checkpoint(options.output, *average(options.runs))
    except UserError as error:
        parser.error(str(error))
    print(f"{len(options.runs)} networks -> {options.output}")


if __name__ == "__main__":
    main()
