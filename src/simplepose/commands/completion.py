"""`simplepose completion SHELL`: the shell's completion script."""

from __future__ import annotations

from simplepose.commands.options import OPTIONS, CompletionOptions
from simplepose.commands.parse import completion


def run(options: CompletionOptions) -> None:
    """The command line."""
    print(completion(OPTIONS, options.shell), end="")
