"""The one exception that is a user's to read: it names the file, the value and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

_REPR = Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxstring, _REPR.maxother = 3, 8, 76, 76
_LONGEST, _LONGEST_PROBLEM = 240, 1000
_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("insufficient memory", "failed to allocate"),
)
MORE_MEMORY = "stop other programs, or take smaller pictures or batches"
"""The cure where memory ran out."""


class UserError(ValueError):
    """A mistake in a command, a file or a value, as `problem. Cure: cure`.

    The command line prints it without a traceback. A problem that quotes too much is shortened.
    """

    def __init__(self, sentence: object = "") -> None:
        problem, cure, advice = str(sentence).partition(" Cure: ")
        if len(problem) > _LONGEST_PROBLEM:
            problem = f"{problem[:_LONGEST_PROBLEM]} ..."
        super().__init__(problem + cure + advice)

    @property
    def problem(self) -> str:
        """The sentence before the cure, with its full stop."""
        return str(self).partition(" Cure: ")[0]

    @property
    def cure(self) -> str:
        """What to do; empty where nothing is advised."""
        return str(self).partition(" Cure: ")[2]


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, in the words of Python, PyTorch, OpenCV or ONNX Runtime."""
    if isinstance(error, UserError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def nearest(name: str, known: Iterable[str], prefix: str = "", *, otherwise: str = "") -> str:
    """A cure for a name that does not exist: the one that was meant, or all that there are.

    Args:
        name: what was written, without `prefix`.
        known: the names that there are.
        prefix: stands before each of them in the sentence.
        otherwise: the cure where none is near; by default all of them.
    """
    known = list(known)
    if near := get_close_matches(name, known, 1):
        return f"did you mean {prefix}{near[0]}?"
    return otherwise or f"one of {', '.join(prefix + one for one in known)}"


def shown(value: Any) -> str:
    """A value of a file as messages quote it: its `repr`, short however long or deep it is."""
    return brief(_REPR.repr(value), 80)


def brief(text: object, longest: int = _LONGEST) -> str:
    """A text on one line, its end left out where it is longer."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 4].rstrip(" .,") + " ..."


def need(package: str, extra: str, purpose: str) -> UserError:
    """The sentence for an optional package that is not installed."""
    return UserError(
        f"{purpose} needs the package {package!r}, which is not installed. "
        f"Cure: pip install 'simplepose[{extra}]'"
    )
