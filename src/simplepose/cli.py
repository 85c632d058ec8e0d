"""The `simplepose` command: picks the subcommand, and turns a user's mistake into one line instead
of a traceback.

`simplepose --help` imports neither torch nor any command, and a command's options are parsed before
its file is imported.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module

from simplepose import __version__
from simplepose.core.errors import MORE_MEMORY, UserError, brief, is_out_of_memory, nearest
from simplepose.core.stopping import Stopped, heed_signals, screens

COMMANDS = {
    "train": "train a network: simplepose train PRESET --data.root DIR",
    "evaluate": "test a network on an annotated data set by its own measure",
    "score": "score a finished result file by a data set's measure",
    "report": "a page of where a network errs, how a run goes, who was followed",
    "predict": "estimate poses in pictures and draw them",
    "track": "estimate and follow people through a video",
    "serve": "poses over HTTP, and a page to try a network",
    "pack": "cut every person's region into shards for fast training",
    "import": "bring weights of TensorFlow, Microsoft, torchvision, timm, MMPose",
    "weights": "list and download known public weights",
    "convert": "annotations -> COCO's JSON; results -> COCO, OpenPose, DeepLabCut",
    "calibrate": "turn scores into probabilities, fitted on held-out people",
    "export": "write a network for another runtime, checked by its score",
    "ablation": "train a recipe group by group of its fields and write the table",
    "doctor": "check versions, devices, the data layout and annotations",
    "demo": "draw people, train on them, evaluate and predict",
    "completion": "print the completion script of a shell",
}


def usage() -> str:
    """The text of `simplepose --help`."""
    lines = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return (
        "example: simplepose predict photo.jpg\n\n"
        "usage: simplepose COMMAND [OPTIONS]\n\n"
        "Top-down keypoint estimation and tracking with Simple Baselines networks.\n\n"
        f"commands:\n{lines}\n\n"
        "simplepose COMMAND --help shows the options of a command,\n"
        "simplepose COMMAND --help-all also the rare ones.\n"
        "simplepose version prints the version."
    )


PRINTED = ("evaluate", "score", "weights", "doctor", "completion")
"""Commands whose result is what they print."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0; 1 where the result could not be printed; 2 for a user's mistake; 130
        after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    argv = sys.argv[1:] if argv is None else argv
    with screens() as out:
        status = _run(argv)
        out.flush()
        if out.lost:
            print(f"note: text for the screen (stdout) is lost: {out.lost}", file=sys.stderr)
            status = status or int(argv[0] in PRINTED)
    return status


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version", "version"):
        print(f"simplepose {__version__}")
        return 0
    name, *rest = argv
    try:
        with heed_signals():
            if name not in COMMANDS:
                raise UserError(f"there is no command {name!r}. Cure: {nearest(name, COMMANDS)}")
            from simplepose.commands.options import parse
            from simplepose.core.device import let_threads_sleep, share_cores

            options = parse(name, rest)
            let_threads_sleep()
            module = "import_weights" if name == "import" else name
            command = import_module(f"simplepose.commands.{module}")
            share_cores()
            command.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: the disk is full: {error}. Cure: make space, then again", file=sys.stderr)
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: not enough memory: {brief(error)}. Cure: {MORE_MEMORY}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        how = {130: "Ctrl-C"}.get(stopped.status, stopped)
        print(f"stopped by {how}", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
