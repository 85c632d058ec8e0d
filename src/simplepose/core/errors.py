"""The one exception that is a user's to read: it names the file, the value and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in a command, a file or a value, as `problem. Cure: cure`.

    The command line prints it without a traceback.
    """

    @property
    def problem(self) -> str:
        """The sentence before the cure, with its full stop."""
        return str(self).partition(" Cure: ")[0]

    @property
    def cure(self) -> str:
        """What to do; empty where nothing is advised."""
        return str(self).partition(" Cure: ")[2]


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A cure for a name that does not exist: the one that was meant, or all that there are.

    Args:
        name: what was written, without `prefix`.
        known: the names that there are.
        prefix: stands before each of them in the sentence.
    """
    known = list(known)
    if near := get_close_matches(name, known, 1):
        return f"did you mean {prefix}{near[0]}?"
    return f"one of {', '.join(prefix + one for one in known)}"


def need(package: str, extra: str, purpose: str) -> UserError:
    """The sentence for an optional package that is not installed."""
    return UserError(
        f"{purpose} needs the package {package!r}, which is not installed. "
        f"Cure: pip install 'simplepose[{extra}]'"
    )
