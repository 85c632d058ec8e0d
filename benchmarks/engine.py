"""Frames per second of the video engine beside a plain loop of the same networks, interleaved in one run; and its memory on a long video.

The plain loop is what one writes first: read a frame, detect, estimate each person with a call of its own, track, next frame; each
library uses the threads it likes. The engine overlaps the stages, gives each network its share of the processor, cuts the detector's grey
border off, and with `every 5th` lets the tracker carry the boxes between the detector's looks. Before anything is timed, the engine in its
strictest setting (detect every frame, one frame a batch, uncut detector) must give exactly the plain loop's poses where that loop too joins
the tracker's boxes.

    python benchmarks/engine.py VIDEO --weights pose.onnx --boxes detector.onnx [--frames N] [--rounds 3] [--output FILE.json]
    python benchmarks/engine.py --memory 10000 --weights pose.onnx [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from drawn_walkers import endless

from simplepose.core.device import share_cores
from simplepose.core.lines import header_of
from simplepose.core.structures import People
from simplepose.detection.motion import MotionDetector
from simplepose.detection.onnx import PersonDetector
from simplepose.pose.estimator import PoseEstimator
from simplepose.tracking.track import Tracker, join_boxes
from simplepose.video.engine import PoseTracker
from simplepose.video.outputs import LinesWriter
from simplepose.video.streams import VideoStream, VideoWriter


def plain_loop(
    video: str,
    detector: PersonDetector,
    estimator: PoseEstimator,
    frames: int,
    *,
    join: bool = False,
) -> list[np.ndarray]:
    """Keypoints of each frame, one thing after the other."""
    tracker = Tracker(estimator.schema)
    out: list[np.ndarray] = []
    for frame in VideoStream(video):
        people, seen = detector(frame.image), None
        if join:
            people, seen = join_boxes(
                people, tracker.propagated_boxes(frame.image), tracker.config.nms_threshold
            )
        parts = [
            estimator.estimate_batch([frame.image], [people[person]])[0]
            for person in range(len(people))
        ]
        poses = estimator.estimate_batch([frame.image], [People.empty()])[0]
        if parts:
            fields = ("keypoints", "keypoint_scores", "boxes_xyxy", "scores")
            poses = type(poses)(
                *(np.concatenate([getattr(part, name) for part in parts]) for name in fields)
            )
        out.append(tracker.update(frame.image, poses, detected=seen).keypoints)
        if len(out) == frames:
            break
    return out


def engine(runner: PoseTracker, video: str, frames: int) -> list[np.ndarray]:
    """Keypoints of each frame by the engine."""
    out: list[np.ndarray] = []
    for _, poses in runner(video):
        out.append(poses.keypoints)
        if len(out) == frames:
            break
    return out


def timed(work: Callable[[], list[np.ndarray]]) -> tuple[float, int]:
    """Frames per second, and how many poses came out."""
    begin = time.perf_counter()
    found = work()
    return len(found) / (time.perf_counter() - begin), sum(len(keypoints) for keypoints in found)


def compare_speed(options: argparse.Namespace) -> dict[str, Any]:
    """The table of frames per second."""
    cv2_threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()

    def estimator(threads: int) -> PoseEstimator:
        return PoseEstimator.from_pretrained(
            options.weights, device="cpu", flip_test=False, threads=threads
        )

    plain_detector, plain_estimator = PersonDetector(options.boxes), estimator(0)
    threads = share_cores(2)
    cut, whole = (
        PersonDetector(options.boxes, threads=threads, cut_border=flag) for flag in (True, False)
    )
    shared = estimator(threads)
    runners = {
        "engine, every frame": PoseTracker(shared, cut, detect_every=1),
        "engine, every frame, uncut detector": PoseTracker(shared, whole, detect_every=1),
        "engine, every 5th": PoseTracker(shared, cut, detect_every=5),
    }
    check = min(120, options.frames or 120)
    strict = engine(
        PoseTracker(shared, whole, detect_every=1, batch_frames=1), options.video, check
    )
    reference = plain_loop(options.video, whole, shared, check, join=True)
    assert sum(map(len, reference)) and all(
        a.shape == b.shape and np.allclose(a, b, atol=1e-2)
        for a, b in zip(strict, reference, strict=True)
    ), "the engine's poses differ from the plain loop's"

    def plain() -> list[np.ndarray]:
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(torch_threads)
        try:
            return plain_loop(options.video, plain_detector, plain_estimator, options.frames)
        finally:
            share_cores(2)

    works: dict[str, Callable[[], list[np.ndarray]]] = {"plain loop": plain}
    works |= {
        name: (lambda runner=runner: engine(runner, options.video, options.frames))
        for name, runner in runners.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    poses: dict[str, int] = {}
    for number in range(options.rounds):
        for name, work in works.items():
            rate, poses[name] = timed(work)
            rates[name].append(rate)
            print(f"round {number + 1}  {name:<38}{rate:7.1f} frames/s", flush=True)
    print(f"\n{'':<38}{'frames/s':>9}{'ratio':>7}{'poses':>8}")
    result = {}
    for name, values in rates.items():
        ratio = statistics.median(
            value / base for value, base in zip(values, rates["plain loop"], strict=True)
        )
        result[name] = {"fps": statistics.median(values), "ratio": ratio, "poses": poses[name]}
        print(f"{name:<38}{statistics.median(values):9.1f}{ratio:7.2f}{poses[name]:8,}")
    print("stages of the last engine run alone, frames/s:", runners["engine, every 5th"].speed)
    return result


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory while a long drawn video goes through everything: reading, motion boxes, network, tracking, writing."""
    share_cores(2)
    estimator = PoseEstimator.from_pretrained(
        options.weights, device="cpu", flip_test=False, threads=1
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn = endless()
        with VideoWriter(f"{folder}/long.mp4", 25) as video:
            for _ in range(options.memory):
                video.write(next(drawn))
        sizes: list[float] = []
        runner = PoseTracker(estimator, MotionDetector(), detect_every=5)
        with (
            LinesWriter(f"{folder}/poses.jsonl", header_of(estimator.schema)) as lines,
            VideoWriter(f"{folder}/out.mp4", 25) as video,
        ):
            for frame, poses in runner(f"{folder}/long.mp4"):
                lines.write(frame, poses)
                video.write(frame.image)
                if (frame.index + 1) % max(1, options.memory // 10) == 0:
                    sizes.append(resident_mb())
                    print(
                        f"frame {frame.index + 1:6,}  {sizes[-1]:7.1f} MB  {len(poses)} people",
                        flush=True,
                    )
    print(f"growth over the last nine tenths: {sizes[-1] - sizes[0]:.1f} MB")
    return {"frames": options.memory, "resident_mb": sizes}


def resident_mb() -> float:
    """Memory of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", nargs="?")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--boxes")
    parser.add_argument("--frames", type=int, default=0, help="0 is all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=0, help="frames of the memory run")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.memory and not (options.video and options.boxes):
        parser.error("give VIDEO and --boxes, or --memory N")
    result = measure_memory(options) if options.memory else compare_speed(options)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
