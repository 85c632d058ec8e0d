"""Words of a command line -> options that are checked, and the help of a command.

tyro splits the words and writes the help. What they mean is decided by `core.settings` alone, so
that a setting is refused with the same sentence here as in Python and in YAML, under the name that
the user typed.
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import BytesIO, StringIO, TextIOWrapper
from itertools import dropwhile, takewhile
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from simplepose.core.errors import UserError, nearest
from simplepose.core.settings import RECIPE, build, dataclass_of

T = TypeVar("T")
Path = tuple[str, ...]
POSITIONAL = get_args(tyro.conf.Positional[int])[1]
COMMON = ("preset", "weights", "root", "boxes", "annotations", "images", "to", "output", "device")
"""Fields that a help lists first."""


def parse_words(
    cls: type[T], words: Sequence[str], *, name: str, default: T | None = None, note: str = ""
) -> T:
    """The options of a command.

    Args:
        cls: their class, made with `settings`.
        words: what follows the command's name.
        name: of the command.
        default: options that stand where nothing is given, in place of the class's own.
        note: a paragraph for the help.

    Raises:
        UserError: an option that does not exist (the nearest one is suggested), one that is
            missing, or a value that makes no sense.
        SystemExit: the help was asked for and is printed.
    """
    everything = "--help-all" in words
    asked = everything or not {"-h", "--help"}.isdisjoint(words)
    # tyro draws its boxes in the encoding of the screen.
    screen = TextIOWrapper(BytesIO(), getattr(sys.stdout, "encoding", None) or "utf-8")
    try:
        with redirect_stderr(StringIO()) as complaint, redirect_stdout(screen):
            values, unknown = tyro.cli(
                cls,
                args=["--help"] if asked else list(words),
                default=default,
                prog=f"simplepose {name}",
                registry=_registry(hide_recipes=asked and not everything),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            more = "--help-all also lists the fields that make a recipe."
            hidden = more if _has_recipe(cls) and not everything else ""
            print(_help_head(cls, name, note, hidden), end="\n\n")
            screen.seek(0)
            print(screen.read().partition("\n\n")[2])
            raise
        problem = _unboxed(complaint.getvalue())
        raise UserError(f"{problem} Cure: see simplepose {name} --help") from None
    names = dict(option_names(cls))
    if unknown:
        raise _unknown(unknown[0], sorted(names.values()), name)
    return build(cls, values, names=names)


def _help_head(cls: type, name: str, *more: str) -> str:
    """What stands above the options: examples, what the command does, how it is called."""
    parts = [" ".join(part.split()) for part in (inspect.getdoc(cls) or "").split("\n\n")]
    parts.sort(key=lambda part: not part.startswith("example: "))
    usage = " ".join(["usage: simplepose", name, *_positionals(cls, name), "[OPTIONS]"])
    width = min(80, shutil.get_terminal_size().columns)
    wrapped = textwrap.TextWrapper(width, break_on_hyphens=False)
    filled = []
    for part in filter(None, (*parts, *more, usage)):
        wrapped.subsequent_indent = " " * 4 if part.startswith(("example: ", "usage: ")) else ""
        filled.append(wrapped.fill(part))
    return "\n\n".join(filled)


def _positionals(cls: type, name: str) -> Iterator[str]:
    """The words that have no `--`, but those that the command's name says."""
    for field, hint, marks in _fields(cls):
        word = field.name.upper()
        if POSITIONAL in marks and word not in name:
            word = f"[{word}]" if _own_default(field) == "" else word
            yield f"{word}..." if get_origin(hint) is tuple else word


def completion(classes: dict[str, type], shell: str) -> str:
    """The script that makes a shell complete commands and options.

    Args:
        classes: command -> class of its options.
        shell: bash, zsh or fish.
    """
    named = [Annotated[cls, tyro.conf.subcommand(name)] for name, cls in classes.items()]
    with redirect_stdout(StringIO()) as script, suppress(SystemExit):
        tyro.cli(  # type: ignore[call-overload]
            Union[tuple(named)],  # noqa: UP007
            prog="simplepose",
            args=["--tyro-print-completion", shell],
            registry=_registry(hide_recipes=False),
        )
    return script.getvalue()


def option_names(cls: type, path: Path = (), prefix: str = "") -> Iterator[tuple[Path, str]]:
    """Path of each field -> what it is called on the command line."""
    for field, hint, marks in _fields(cls):
        here = (*path, field.name)
        named = next((mark.name for mark in marks if getattr(mark, "name", None) is not None), None)
        word = field.name.replace("_", "-") if named is None else named
        if inner := dataclass_of(hint):
            yield from option_names(inner, here, f"{prefix}{word}." if word else prefix)
        elif POSITIONAL in marks:
            yield here, field.name.upper()
        else:
            yield here, f"--{prefix}{word}"


def _fields(cls: type) -> Iterator[tuple[dataclasses.Field[Any], Any, tuple[Any, ...]]]:
    """Field, type without extras, and extras of each field: the common ones first, those of base
    classes last."""
    full, bare = get_type_hints(cls, include_extras=True), get_type_hints(cls)
    own = cls.__annotations__
    first = {name: index for index, name in enumerate(COMMON)}

    def order(field: dataclasses.Field[Any]) -> tuple[int, bool]:
        return first.get(field.name, len(first)), field.name not in own

    for field in sorted(dataclasses.fields(cls), key=order):
        hint = full[field.name]
        yield field, bare[field.name], get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _has_recipe(cls: type) -> bool:
    return any(
        RECIPE in marks or ((inner := dataclass_of(hint)) and _has_recipe(inner))
        for _, hint, marks in _fields(cls)
    )


def _registry(*, hide_recipes: bool) -> ConstructorRegistry:
    """tyro's rules: a class of settings gives a dictionary of its fields, and a value stays the
    word that was typed."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def fields_of(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not dataclasses.is_dataclass(info.type) or info.type.__module__.startswith("tyro."):
            return None
        given = info.default if isinstance(info.default, info.type) else None
        fields = tuple(_specs(info.type, given, hide_recipes))
        return StructConstructorSpec(instantiate=dict, fields=fields)

    registry.primitive_rule(_as_typed)
    return registry


def _specs(cls: type, given: Any, hide_recipes: bool) -> Iterator[StructFieldSpec]:
    """tyro's description of each field; `given` holds the values where nothing is typed."""
    docs, full = _docs(cls), get_type_hints(cls, include_extras=True)
    suppress: Any = tyro.conf.Suppress
    for field, bare, marks in _fields(cls):
        hint: Any = full[field.name]
        if hide_recipes and RECIPE in marks:
            hint = suppress[hint]
        value = _own_default(field) if given is None else getattr(given, field.name)
        if value is None or value in ("", ()):
            hint = Annotated[hint, tyro.conf.arg(help_behavior_hint="")]
        if POSITIONAL in marks and get_origin(bare) is not Literal:
            hint = Annotated[hint, tyro.conf.arg(metavar=field.name.upper())]
        yield StructFieldSpec(field.name, hint, value, docs.get(field.name))


def _as_typed(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    choices = get_args(info.type) if get_origin(info.type) is Literal else ()
    if not choices and info.type not in (int, float):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(map(str, choices))}}}" if choices else info.type.__name__.upper(),
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: isinstance(value, (str, int, float)),
        str_from_instance=lambda value: [f"{value:g}" if isinstance(value, float) else str(value)],
    )


def _own_default(field: dataclasses.Field[Any]) -> Any:
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


def _docs(cls: type) -> dict[str, str]:
    """The strings below the fields of a class and its base classes."""
    bases = [vars(base).get("__pydantic_fields__", {}) for base in reversed(cls.__mro__)]
    fields = [one for base in bases for one in base.items()]
    return {name: " ".join(one.description.split()) for name, one in fields if one.description}


def _unboxed(text: str) -> str:
    """The sentence in the box that tyro draws around it: between its title and its rule."""
    rows = [line.strip("│╭╮╰╯ ") for line in text.splitlines()][1:]
    body = takewhile(lambda row: not _is_rule(row), dropwhile(_is_rule, rows))
    return " ".join(filter(None, body))


def _is_rule(row: str) -> bool:
    return bool(row) and not row.strip("─-")


def _unknown(word: str, known: list[str], name: str) -> UserError:
    cure = f"simplepose {name} --help-all lists them"
    if not word.startswith("-"):
        return UserError(f"{word!r} belongs to no option. Cure: {cure}")
    word = word.partition("=")[0]
    return UserError(f"there is no option {word}. Cure: {nearest(word, known, otherwise=cure)}")
