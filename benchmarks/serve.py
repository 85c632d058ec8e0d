"""Many clients of `simplepose serve` at once: a server that makes batches beside one that does not, and one client alone.

The clients send pictures over loopback, each its next one as soon as the answer to the last is there. Every answer is compared with what
the estimator says of that picture by itself, and its `source` with the name that was sent: a lost or a mixed-up one ends in the table.
The servers are asked in turn, so that a machine that gets slower or faster harms both.

    python benchmarks/serve.py PICTURES --weights starter --boxes whole [--clients 64] [--seconds 30] [--device cpu]
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.images import list_pictures
from simplepose.core.lines import line_of
from simplepose.core.structures import Frame
from simplepose.detection.people import people_in, people_source
from simplepose.pose.estimator import PoseEstimator

PIXELS, SCORE = 0.05, 0.002
"""An answer is the estimator's own within these: batches of other sizes round otherwise."""


@dataclass
class Tally:
    """What one group of clients saw."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    wrong: int = 0

    def __add__(self, other: Tally) -> Tally:
        lost, wrong = self.lost + other.lost, self.wrong + other.wrong
        return Tally(self.seconds + other.seconds, lost, wrong)

    def at(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent))


def own_answers(files: Sequence[Path], weights: str, boxes: str, device: str) -> list[Any]:
    """The line of each picture, one by one."""
    estimator = PoseEstimator.from_pretrained(weights, device=device, flip_test=False)
    source, lines = people_source(boxes, device=device), []
    for path in files:
        frame = Frame.of(path)
        (poses,) = estimator.estimate_batch([frame.image], [people_in(source, frame)])
        lines.append(json.loads(line_of(frame, poses, 0).encoded()))
    return lines


def same(found: dict[str, Any], truth: dict[str, Any]) -> bool:
    """Whether an answer is the estimator's own."""
    if len(found["people"]) != len(truth["people"]):
        return False
    pairs = zip(found["people"], truth["people"], strict=True)
    gaps = [np.abs(np.array(a["keypoints"]) - b["keypoints"]).max(0) for a, b in pairs]
    return all(gap[:2].max() <= PIXELS and gap[2] <= SCORE for gap in gaps)


def attack(
    port: int, contents: Sequence[bytes], truths: Sequence[Any], clients: int, seconds: float
) -> Tally:
    """So many clients for so long."""
    tally, lock, start = Tally(), threading.Lock(), threading.Barrier(clients)
    end = float("inf")

    def client(number: int) -> None:
        nonlocal end
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        start.wait()
        with lock:
            end = min(end, time.perf_counter() + seconds)
        step = 0
        while time.perf_counter() < end:
            index, name = (7 * number + step) % len(contents), f"{number}-{step}"
            step, began = step + 1, time.perf_counter()
            try:
                line.request("POST", f"/poses?name={name}", contents[index])
                answer = line.getresponse()
                content, status = json.loads(answer.read()), answer.status
            except (OSError, http.client.HTTPException, ValueError):
                status = 0
                line.close()
            took = time.perf_counter() - began
            with lock:
                if status != 200:
                    tally.lost += 1
                    continue
                tally.seconds.append(took)
                right = content["source"] == name and same(content, truths[index])
                tally.wrong += not right
        line.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def batches(port: int) -> tuple[float, float]:
    """Pictures and batches so far."""
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("GET", "/metrics")
    text = line.getresponse().read().decode()
    line.close()
    found = [
        re.search(rf"^simplepose_batch_pictures_{name} (\S+)", text, re.M)
        for name in ("sum", "count")
    ]
    pictures, count = (float(one[1]) for one in found if one)
    return pictures, count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--boxes", default="whole")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=2, help="the two servers in turn, so often")
    parser.add_argument("--files", type=int, default=32, help="pictures that are sent in turn")
    options = parser.parse_args()
    files = list_pictures([options.pictures])[: options.files]
    contents = [path.read_bytes() for path in files]
    truths = own_answers(files, options.weights, options.boxes, options.device)
    argv = ["--weights", options.weights, "--boxes", options.boxes, "--device", options.device]
    servers = [start([*argv, "--batch-pictures", str(count)]) for count in (1, 16)]
    alone, single, many = Tally(), Tally(), Tally()
    sizes = np.zeros(2)
    try:
        for _, port in servers:
            attack(port, contents, truths, 1, 2)
        for _ in range(options.rounds):
            part = options.seconds / options.rounds
            alone += attack(servers[0][1], contents, truths, 1, part / 3)
            single += attack(servers[0][1], contents, truths, options.clients, part)
            before = batches(servers[1][1])
            many += attack(servers[1][1], contents, truths, options.clients, part)
            sizes += np.subtract(batches(servers[1][1]), before)
    finally:
        statuses = [stop(server) for server, _ in servers]
    print(
        f"{'clients':>24} {'answers':>8} {'a second':>9} {'p50 ms':>8} {'p95 ms':>8} {'lost':>5} {'wrong':>6}"
    )
    rows = {"1": (1, alone), f"{options.clients}, one by one": (options.clients, single)}
    rows[f"{options.clients}, in batches"] = (options.clients, many)
    for name, (clients, tally) in rows.items():
        rate = clients * len(tally.seconds) / sum(tally.seconds)
        times = f"{1000 * tally.at(50):8.0f} {1000 * tally.at(95):8.0f}"
        print(
            f"{name:>24} {len(tally.seconds):8d} {rate:9.1f} {times} {tally.lost:5d} {tally.wrong:6d}"
        )
    for percent in (50, 95):
        print(
            f"p{percent}: in batches {many.at(percent) / single.at(percent):.2f} times one by one, "
            f"{many.at(percent) / alone.at(percent):.1f} times one client's"
        )
    print(f"{sizes[0] / sizes[1]:.1f} pictures a batch; the servers ended with {statuses}")


def start(argv: list[str]) -> tuple[subprocess.Popen[str], int]:
    """A server and its port."""
    command = [sys.executable, "-m", "simplepose", "serve", "--port", "0", *argv]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    found = re.search(r":(\d+) ", server.stdout.readline())
    assert found, "the server did not start"
    return server, int(found[1])


def stop(server: subprocess.Popen[str]) -> int:
    server.send_signal(signal.SIGTERM)
    return server.wait()


if __name__ == "__main__":
    main()
