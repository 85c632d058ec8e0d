"""The one exception that is a user's to read: its message names the file, the value and the cure."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in a command, a file or a value. The command line prints it without a traceback."""


def need(package: str, extra: str, purpose: str) -> UserError:
    """The sentence for an optional package that is not installed."""
    return UserError(f"{purpose} needs the package {package!r}, which is not installed. Cure: pip install 'simplepose[{extra}]'")
