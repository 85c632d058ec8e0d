"""Settings that check themselves, however they are made: in Python, from YAML, on the command line.

A class is decorated with `@settings("section")`. Each field says its type and its limits (`epochs:
AtLeast1 = 140`), pydantic checks both, and a mistake is a `UserError` that names the field, its
value and what would be valid. A rule between two fields stands in `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Callable, Mapping
from typing import (
    Annotated,
    Any,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked
from pydantic_core import PydanticCustomError, to_jsonable_python

from simplepose.core.errors import UserError, brief, nearest, shown

T = TypeVar("T")


def _no_flag(value: Any) -> Any:
    """Python takes True for 1; a setting does not."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number, not true or false")
    return value


def _as_integer(value: Any) -> Any:
    """The command line writes the choices of a Literal as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else _no_flag(value)


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Flag = StrictBool
Integer = Annotated[int, BeforeValidator(_no_flag)]
AtLeast0 = Annotated[Integer, Field(ge=0)]
AtLeast1 = Annotated[Integer, Field(ge=1)]
IntegerOf = Annotated[T, BeforeValidator(_as_integer)]
"""One of a few integers: `IntegerOf[Literal[2, 3]]`."""
Number = Annotated[float, BeforeValidator(_no_flag), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Limit = Annotated[float, BeforeValidator(_no_flag)]
"""A number that may be infinite."""
PathText = Annotated[str, BeforeValidator(_as_text)]
"""A path or an address, stored as text; Python may give a `Path`."""
Seed = Annotated[Integer, Field(ge=0, le=10**18)]
"""What every generator of random numbers takes, also with the rank of a process added."""


RECIPE = "recipe"
"""Marks a field or section that makes a recipe: it comes with a preset or YAML, and only
`--help-all` lists its option."""
Recipe = Annotated[T, RECIPE]


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
def settings(section: str = "") -> Callable[[type[T]], type[T]]:
    """Makes a frozen, keyword-only dataclass that is checked when it is made.

    Args:
        section: where it stands in the tree of settings, for messages.
    """

    def decorate(cls: type[T]) -> type[T]:
        made: Any = checked(
            cls,
            frozen=True,
            kw_only=True,
            config=ConfigDict(extra="forbid", use_attribute_docstrings=True),
        )
        check = made.__init__

        def init(self: Any, *args: Any, **values: Any) -> None:
            try:
                check(self, *args, **values)
            except ValidationError as error:
                raise UserError(_sentence(error, made, section)) from None

        made.__init__ = init
        return cast(type[T], made)

    return decorate


def build(
    cls: type[T], values: Any, source: str = "", names: Mapping[tuple[str, ...], str] | None = None
) -> T:
    """A tree of settings from plain values.

    Args:
        cls: its class.
        values: mapping of field names to values; the class's defaults stand where one is missing.
        source: the file the values come from, for messages.
        names: path of a field -> what the user calls it; by default the path with dots.

    Raises:
        UserError: an unknown key (the nearest one is suggested), a value of the wrong type or
            outside its limits, or a broken rule between two fields.
    """
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        sentence = _sentence(error, cls, "", names or {})
        raise UserError(f"{source}: {sentence}" if source else sentence) from None


def _sentence(
    error: ValidationError,
    cls: type,
    section: str,
    names: Mapping[tuple[str, ...], str] | None = None,
) -> str:
    """The first complaint as `field is value. Cure: what would be valid`."""
    first = error.errors(include_url=False)[0]
    if isinstance(own := first.get("ctx", {}).get("error"), UserError):
        return str(own)
    path = tuple(part for part in first["loc"] if isinstance(part, str))
    name = (names or {}).get(path) or ".".join([section, *path] if section else path) or "all of it"
    kind, value = first["type"], first["input"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {name}. Cure: {_nearest(cls, path, name)}"
    if kind == "missing" and path == first["loc"]:
        return f"{name} is missing. Cure: give it a value"
    cure = _CURES.get(kind, "").format(**first.get("ctx", {}))
    cure = cure or first["msg"].removeprefix("Input should be ")
    # The command line has only text: quotes around it would say nothing.
    given = brief(value, 80) if names and isinstance(value, str) else shown(value)
    return f"{name} is {given}. Cure: {cure[:1].lower()}{cure[1:]}"


_CURES = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "missing": "one value more",
    "dataclass_type": "names and values, indented below it",
    "bool_type": "true or false",
}
"""Where pydantic's own words do not say what to write."""


def _nearest(cls: type, path: tuple[str, ...], name: str) -> str:
    """The fields that an unknown one may have meant."""
    for part in path[:-1]:
        cls = dataclass_of(get_type_hints(cls)[part]) or cls
    prefix = name.removesuffix(path[-1])
    return nearest(path[-1], [field.name for field in dataclasses.fields(cls)], prefix)


def dataclass_of(hint: Any) -> type | None:
    """The dataclass that a type hint without extras is, or is optionally; None for any other."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    classes = (one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one))
    return next(classes, None)


def to_plain(value: Any) -> Any:
    """A tree of settings as nested dictionaries and lists, for YAML and JSON."""
    return to_jsonable_python(value)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one, with dots in its keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        below = flatten(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}.{key}".removesuffix("."): item for key, item in below.items()}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = value
    return tree
