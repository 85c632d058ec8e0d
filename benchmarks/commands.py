"""What a user waits for: whole commands, from the shell's view, beside rtmlib and the same work
written by hand (`limits.py`).

    python benchmarks/commands.py --pictures DIR --video FILE --weights pose.onnx --boxes yolox.onnx
        [--annotations FILE.json] [--rtmlib PYTHON] [--rounds 3] [--only predict] [--output FILE]

Every row is a process of its own: its processor time (with its children's, from the system) and its
time by the clock, medians of interleaved rounds. `--rtmlib` is a Python that has rtmlib;
`--pictures` holds the pictures of `--annotations` as well.
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import simplepose
from simplepose.cli import COMMANDS
from simplepose.core.files import write_json

LIMITS = str(Path(__file__).with_name("limits.py"))
SIMPLEPOSE = [sys.executable, "-m", "simplepose"]


def rows_of(options: argparse.Namespace, folder: str) -> dict[str, dict[str, list[str]]]:
    """Table -> row -> command line; the first row is what the others are compared with."""
    files = [options.boxes, options.weights, folder]
    ours = ["--weights", options.weights, "--boxes", options.boxes, "--output", f"{folder}/ours"]
    fresh = [*ours, "--overwrite", "--no-flip-test"]
    tables: dict[str, dict[str, list[str]]] = {"start": {}}
    tables["start"]["python"] = [sys.executable, "-c", "pass"]
    tables["start"] |= {name: [*SIMPLEPOSE, name, "--help"] for name in COMMANDS}
    if options.pictures:
        one = str(min(Path(options.pictures).iterdir()))
        tables["photo"] = {"predict, one photo": [*SIMPLEPOSE, "predict", one, *fresh]}
        tables["predict"] = {
            "by hand": [sys.executable, LIMITS, "predict", options.pictures, *files],
            "simplepose predict": [*SIMPLEPOSE, "predict", options.pictures, *fresh],
        }
        if options.rtmlib:
            rtmlib = [options.rtmlib, LIMITS, "rtmlib", options.pictures, *files]
            tables["predict"]["rtmlib"] = rtmlib
    if options.video:
        track = [*SIMPLEPOSE, "track", options.video, *fresh]
        tables["track"] = {
            "by hand": [sys.executable, LIMITS, "track", options.video, *files],
            "simplepose track": track,
            "the same, no video": [*track, "--video-codec", "none"],
        }
    if options.annotations and options.pictures:
        test = [*SIMPLEPOSE, "evaluate", options.weights, "--annotations", options.annotations]
        test += ["--images", options.pictures, "--boxes", "gt"]
        tables["evaluate"] = {"simplepose evaluate": test}
    return tables


def timed(command: list[str]) -> tuple[float, float]:
    """Processor seconds and seconds by the clock of a process that ends well."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # as installed: with bytecode
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--pictures", "--video", "--annotations", "--rtmlib"):
        parser.add_argument(name)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--boxes", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="start, photo, predict, track, evaluate")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    compileall.compile_dir(str(Path(simplepose.__file__).parent), quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        for table, rows in rows_of(options, folder).items():
            if options.only and table not in options.only:
                continue
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
            for _ in range(options.rounds):
                for name, command in rows.items():
                    times[name].append(timed(command))
            base = [processor for processor, _ in next(iter(times.values()))]
            print(f"\n{table:<28}{'processor s':>12}{'ratio':>7}{'clock s':>9}")
            for name, pairs in times.items():
                processor, clock = zip(*pairs, strict=True)
                ratios = [a / b for a, b in zip(processor, base, strict=True)]
                row = {"processor": processor, "ratio": ratios, "clock": clock}
                medians = {key: statistics.median(values) for key, values in row.items()}
                results.setdefault(table, {})[name] = medians
                print(
                    f"{name:<28}{{processor:12.2f}}{{ratio:7.2f}}{{clock:9.2f}}".format(**medians)
                )
    if options.output:
        write_json(options.output, results, indent=True)


if __name__ == "__main__":
    main()
