"""Frames per second of the video engine beside a plain loop of the same networks, interleaved in one run; and its memory on a long video.

The plain loop is what one writes first: read a frame, detect, estimate each person with a call of its own, track, next frame. It
shares the threads out as well: one network works at a time, with all cores, asleep where it waits. The engine overlaps the stages, gives each network its share of the processor, cuts the detector's grey
border off, and with `every 5th` lets the tracker carry the boxes between the detector's looks. Before anything is timed, the engine in its
strictest setting (detect every frame, one frame a batch, uncut detector) must give exactly the plain loop's poses where that loop too joins
the tracker's boxes.

    python benchmarks/engine.py VIDEO --weights pose.onnx --boxes detector.onnx [--frames N] [--rounds 3] [--output FILE.json]
    python benchmarks/engine.py --memory 10000 --weights pose.onnx [--output FILE.json]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from drawn_walkers import endless

from simplepose.core.device import share_cores
from simplepose.core.files import write_json
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


def timed(work: Callable[[], list[np.ndarray]]) -> tuple[float, float, int]:
    """Frames per second by the clock and of processor time, and how many poses came out."""
    begin, processor = time.perf_counter(), time.process_time()
    found = work()
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    return len(found) / seconds, len(found) / processor, sum(map(len, found))


def compare_speed(options: argparse.Namespace) -> dict[str, Any]:
    """The table of frames per second."""

    def estimator(threads: int) -> PoseEstimator:
        return PoseEstimator.from_pretrained(
            options.weights, device="cpu", flip_test=False, threads=threads
        )

    alone = share_cores(1)
    plain_detector = PersonDetector(options.boxes, threads=alone)
    plain_estimator = estimator(alone)
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
        share_cores(1)
        try:
            return plain_loop(options.video, plain_detector, plain_estimator, options.frames)
        finally:
            share_cores(2)

    works: dict[str, Callable[[], list[np.ndarray]]] = {"plain loop": plain}
    works |= {
        name: (lambda runner=runner: engine(runner, options.video, options.frames))
        for name, runner in runners.items()
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    poses: dict[str, int] = {}
    for number in range(options.rounds):
        for name, work in works.items():
            *pair, poses[name] = timed(work)
            rates[name].append((pair[0], pair[1]))
            print(f"round {number + 1}  {name:<38}{pair[0]:7.1f} frames/s", flush=True)
    print(f"\n{'':<38}{'frames/s':>9}{'ratio':>7}{'of processor time':>19}{'ratio':>7}{'poses':>8}")
    result = {}
    plain_rates = np.array(rates["plain loop"])
    for name, pairs in rates.items():
        fps, ratios = (np.median(part, 0) for part in (pairs, np.array(pairs) / plain_rates))
        row = {"fps": fps[0], "ratio": ratios[0], "processor_fps": fps[1]}
        result[name] = row | {"processor_ratio": ratios[1], "poses": poses[name]}
        print(
            f"{name:<38}{fps[0]:9.1f}{ratios[0]:7.2f}{fps[1]:19.1f}{ratios[1]:7.2f}{poses[name]:8,}"
        )
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
        write_json(options.output, result, indent=True)


if __name__ == "__main__":
    main()
