"""Frozen dataclasses from plain values and back, with errors that list what would have been valid."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from simplepose.core.errors import UserError

Dataclass = TypeVar("Dataclass")


def build(cls: type[Dataclass], values: Any, source: str, *, path: str = "") -> Dataclass:
    """Makes a (nested) dataclass from a mapping.

    Args:
        cls: the dataclass.
        values: mapping of field names to plain values; the class's defaults stand where one is missing.
        source: the file the values come from, for messages.
        path: where in the tree this is, for messages.

    Raises:
        UserError: an unknown key (the valid ones are listed) or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{source}: {path or 'the file'} is {values!r}, expected a mapping of names to values. Cure: indent its fields below it"
        )
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = [str(key) for key in values if key not in names]
    if unknown:
        raise UserError(f"{source}: unknown key {path}{unknown[0]}. Cure: one of {', '.join(path + name for name in names)}")
    return cls(**{name: _convert(hints[name], value, source, f"{path}{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, source: str, path: str) -> Any:
    """One value, checked against its type hint."""
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, source, path=f"{path}.")  # type: ignore[arg-type]
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise UserError(f"{source}: {path} is {value!r}. Cure: one of {', '.join(map(str, get_args(hint)))}")
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _convert(options[0], value, source, path)
    if origin is dict and isinstance(value, dict):
        return value
    if origin is tuple:
        kinds = get_args(hint)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not Ellipsis and len(value) != len(kinds)):
            wanted = "a list" if kinds[-1] is Ellipsis else f"a list of {len(kinds)}"
            raise UserError(f"{source}: {path} is {value!r}, expected {wanted}. Cure: write it as [a, b, ...]")
        kinds = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
        return tuple(_convert(kind, item, source, path) for kind, item in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if hint in (int, bool, str) and type(value) is hint:
        return value
    if isinstance(value, hint if isinstance(hint, type) and hint is not float else ()):
        return value
    raise UserError(f"{source}: {path} is {value!r}, expected {getattr(hint, '__name__', hint)}. Cure: correct the value")


def to_plain(value: Any) -> Any:
    """A dataclass tree as nested dictionaries and lists, for YAML and JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [to_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dots in its keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return tree


def require_ranges(section: str, options: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuses numbers that make no sense.

    Args:
        section: name of the part of the configuration, for the message.
        options: its dataclass.
        ranges: field -> lowest and highest value, both allowed.

    Raises:
        UserError: a field lies outside, or is not a number.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise _outside(f"{section}.{name}", value, low, high)


def require_options(options: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuses numbers of a command's own options that make no sense, named as they are typed; None, not given, passes.

    Args:
        options: the command's dataclass.
        ranges: field -> lowest and highest value, both allowed.

    Raises:
        UserError: a field lies outside, or is not a finite number.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise _outside(f"--{name.replace('_', '-')}", value, low, high)


def _outside(name: str, value: float, low: float, high: float) -> UserError:
    """The sentence for a number that makes no sense."""
    cure = f"{low:g} or more" if high == math.inf else f"a number from {low:g} to {high:g}"
    return UserError(f"{name} is {value}. Cure: {cure}")
