"""What TensorFlow's Adam remembers, read from a snapshot of the seed.

Beside each trained variable `X` a snapshot holds its first moment m (`X/Adam`) and its second
moment v (`X/Adam_1`). TensorFlow does not count updates: it keeps `beta1_power` and `beta2_power`,
.9^(t + 1) and .999^(t + 1) after t updates, each a float32 number that is multiplied once an
update. The product is repeated here number by number, so t is found exactly as long as
`beta2_power` is a normal float32 number, which is 87,292 updates (18 epochs of COCO in batches of
32; `beta1_power` lasts 827). Beyond it t cannot be known and does not matter: both bias corrections
are 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from simplepose.core.errors import UserError
from simplepose.weights.key_maps import shortened, tensorflow_name, torch_layout

BETA1, BETA2 = np.float32(0.9), np.float32(0.999)
FIRST, SECOND = "/Adam", "/Adam_1"
_SMALLEST = np.finfo(np.float32).smallest_normal
_POWERS = ("beta1_power", "beta2_power")


@dataclass(frozen=True, kw_only=True)
class AdamState:
    """Adam's memory after a number of updates, in our names and layouts."""

    first_moments: dict[str, torch.Tensor]
    """m of each trained parameter, float32, shaped as the parameter."""
    second_moments: dict[str, torch.Tensor]
    """v of each trained parameter, likewise."""
    updates: int
    """Updates so far (t), or the most that can be told where `underflowed`."""
    underflowed: bool
    """There were at least `updates` updates: `beta2_power` has left the range of float32."""
    learning_rate: float | None
    """Of the last update, as the seed saves it (`Variable`); None where it is not in the file."""


def require_adam(names: Mapping[str, np.ndarray], path: str) -> None:
    """Refuses a snapshot that lacks what Adam remembers, before anything large is read.

    Args:
        names: the variables of a TensorFlow checkpoint.
        path: names the file in messages.

    Raises:
        UserError: slots or powers are missing; says which and how many.
    """
    wanted = [name + slot for name in _trained(names) for slot in (FIRST, SECOND)]
    missing = [name for name in (*_POWERS, *wanted) if name not in names]
    if missing or not wanted:
        raise UserError(
            f"{path} cannot go on where it stopped: it holds no "
            f"{shortened(missing or ['network'])} ({len(missing)} of the {len(wanted) + 2} "
            "variables of Adam are missing). "
            f"Cure: --train.weights {path} starts from its weights with a new optimiser"
        )


def read_adam(variables: Mapping[str, np.ndarray], path: str) -> AdamState:
    """Reads the moments, the count of updates and the last learning rate.

    Args:
        variables: a TensorFlow checkpoint.
        path: names the file in messages.

    Raises:
        UserError: something is missing, not finite, negative (v) or of another shape than its
            variable; or the powers are not those of an Adam with .9 and .999.
    """
    require_adam(variables, path)
    moments: dict[str, dict[str, torch.Tensor]] = {FIRST: {}, SECOND: {}}
    for name in _trained(variables):
        ours = tensorflow_name(name)
        assert ours is not None
        for slot, found in moments.items():
            array = variables[name + slot]
            if array.shape != variables[name].shape:
                raise UserError(
                    f"{path}: {name + slot} has shape {array.shape}, {name} has "
                    f"{variables[name].shape}. Cure: use another snapshot of that run"
                )
            if not np.isfinite(array).all() or (slot == SECOND and (array < 0).any()):
                raise UserError(
                    f"{path} holds numbers in {name + slot} that Adam cannot have made (NaN, "
                    "infinite or negative). Cure: use an earlier snapshot of that run"
                )
            found[ours] = torch_layout(array.astype(np.float32))
    beta1_power, beta2_power = (float(variables[name]) for name in _POWERS)
    updates, underflowed = count_updates(beta1_power, beta2_power, path)
    rate = variables.get("Variable")
    return AdamState(
        first_moments=moments[FIRST],
        second_moments=moments[SECOND],
        updates=updates,
        underflowed=underflowed,
        learning_rate=float(rate) if rate is not None and rate.ndim == 0 else None,
    )


def count_updates(beta1_power: float, beta2_power: float, path: str) -> tuple[int, bool]:
    """The number of updates that Adam's powers tell.

    Args:
        beta1_power: .9^(t + 1) in float32.
        beta2_power: .999^(t + 1) in float32.
        path: names the file in messages.

    Returns:
        t, and whether the power has underflowed, which makes t the least it can be.

    Raises:
        UserError: the two numbers are not powers of .9 and .999 with the same exponent.
    """
    powers = np.multiply.accumulate(np.full(90_000, BETA2))
    powers = powers[powers >= _SMALLEST].astype(np.float64)  # after 0, 1, 2, ... updates
    underflowed = 0 <= beta2_power < powers[-1]
    updates = len(powers) if underflowed else int(np.abs(powers - beta2_power).argmin())
    expected = float(BETA1) ** (updates + 1)
    tiny = float(_SMALLEST)
    fits = underflowed or abs(beta2_power / powers[updates] - 1) < 5e-4
    if not fits or abs(max(beta1_power, tiny) / max(expected, tiny) - 1) > 0.01:
        raise UserError(
            f"{path}: beta1_power {beta1_power:g} and beta2_power {beta2_power:g} are not those of "
            "one Adam with .9 and .999, so its count of updates cannot be told. "
            f"Cure: --train.weights {path} starts from its weights with a new optimiser"
        )
    return updates, underflowed


def _trained(names: Mapping[str, np.ndarray]) -> list[str]:
    """The variables that the optimiser changes."""
    ours = {name: tensorflow_name(name) for name in names}
    return [name for name, new in ours.items() if new and not new.endswith(("_mean", "_var"))]
