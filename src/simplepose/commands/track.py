"""`simplepose track VIDEO --weights W --boxes DETECTOR`: estimate and follow people, draw them, write their poses."""

from __future__ import annotations

import math
import os
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from simplepose.commands.options import TrackOptions
from simplepose.core.errors import UserError, need
from simplepose.core.files import readable, write_bytes
from simplepose.core.progress import StatusLine
from simplepose.core.schema import POSETRACK_15, KeypointSchema
from simplepose.video.outputs import (
    LinesWriter,
    keep_sources,
    new_folder,
    read_lines,
    write_coco_results,
    write_posetrack_results,
    write_table,
)
from simplepose.video.streams import CODECS, PictureStream, VideoStream, VideoWriter, open_stream

if TYPE_CHECKING:
    from simplepose.pose.estimator import PoseEstimator
    from simplepose.video.engine import PoseTracker
    from simplepose.video.engine import Speed


def run(options: TrackOptions) -> None:
    """Tracks and writes `poses.jsonl`, `results.json` and the annotated video into the output folder."""
    name = Path(options.video).stem or "video"
    folder = Path(options.output) if options.output else Path("tracked") / name
    _check(options)
    keep_sources((options.video, options.boxes, options.weights), _outputs(options, folder, name))
    estimator, runner = build(options)
    stream = open_stream(options.video)
    if not stream.is_video and (options.smooth or options.smooth_after or options.fill_gaps):
        raise UserError(
            f"{options.video}: people in pictures are not followed. Cure: leave --smooth, --smooth-after and --fill-gaps out"
        )
    new_folder(folder, overwrite=options.overwrite)
    _note_boxes(runner.detector, stream)
    schema = estimator.schema
    absent = [name for name in POSETRACK_15.keypoints if name not in schema.keypoints]
    if options.posetrack and absent:
        print(
            f"note: the network lacks PoseTrack's keypoints {', '.join(absent)}: "
            "simplepose score --task posetrack refuses the PoseTrack file",
            file=sys.stderr,
        )
    threshold = (
        estimator.drawn_threshold
        if options.keypoint_threshold is None
        else options.keypoint_threshold
    )
    status = Status(stream.frame_count)
    ids: set[int] = set()
    done = people = 0
    lines = LinesWriter(folder / "poses.jsonl")
    try:
        with ExitStack() as open_files:
            open_files.enter_context(lines)
            video = _video_writer(options, folder / name, stream.fps or 10.0)
            if video is not None:
                open_files.enter_context(video)
            for frame, poses in runner(stream):
                if video is not None:
                    with runner.speed.measure("draw and write"):
                        video.write(poses.draw(frame.image, schema, keypoint_threshold=threshold))
                lines.write(frame, poses)
                done, people = done + 1, people + len(poses)
                ids.update([] if poses.track_ids is None else poses.track_ids.tolist())
                status(done, runner.speed)
                if options.frames and done >= options.frames:
                    break
    except (Exception, KeyboardInterrupt):
        status.end()
        if lines.saved:
            print(
                f"stopped after {lines.frames:,} frames; what is written so far is whole",
                file=sys.stderr,
            )
            _finish(options, folder, name, schema)
        raise
    status.end()
    _finish(options, folder, name, schema)
    broken = f", {stream.skipped:,} frames did not decode" if stream.skipped else ""
    followed = f", {len(ids):,} identities" if stream.is_video else ""
    written = readable(f"{folder}/ ({', '.join(sorted(path.name for path in folder.iterdir()))})")
    print(f"{done:,} frames{broken}: {people:,} poses{followed} -> {written}")
    print(f"frames/s of each stage alone: {runner.speed}; device {device_name(estimator)}")


def _check(options: TrackOptions) -> None:
    """Refuses numbers that make no sense, and what would fail only when the last frame is done."""
    if options.boxes == "gt":
        raise UserError(
            "--boxes gt belongs to simplepose predict. Cure: give track the annotation file itself, --boxes FILE.json"
        )
    for package in ("pandas", "pyarrow") if options.table == "parquet" else ():
        try:
            import_module(package)
        except ImportError as error:
            raise need(package, "tables", "--table parquet") from error


def build(options: TrackOptions) -> tuple[PoseEstimator, PoseTracker]:
    """The network and the engine that the options describe. Each network gets its share of the processor, as both run at the same time."""
    from simplepose.detection.people import people_source, require_choice
    from simplepose.pose.estimator import PoseEstimator
    from simplepose.tracking.flow import dis_flow, farneback_flow
    from simplepose.tracking.smooth import OneEuroConfig
    from simplepose.tracking.track import TrackConfig
    from simplepose.video.engine import PoseTracker, share_processor

    require_choice(options.boxes)
    threads = share_processor()
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.flip_test, threads=threads
    )
    detector = people_source(
        options.boxes,
        score_threshold=options.box_threshold,
        keypoints=estimator.schema.keypoints,
        device=options.device,
        threads=threads,
        cut_border=True,
    )
    return estimator, PoseTracker(
        estimator,
        detector,
        config=TrackConfig(
            mode=options.mode, matching=options.matching, keep_frames=options.keep_frames
        ),
        detect_every=options.detect_every,
        batch_frames=options.batch_frames or None,
        smoothing=OneEuroConfig() if options.smooth else None,
        flow=farneback_flow() if options.flow == "farneback" else dis_flow(),
    )


def _note_boxes(detector: object, stream: VideoStream | PictureStream) -> None:
    """Says which boxes of a file nobody gets, and where that is all of them."""
    from simplepose.detection.files import BoxFile

    if not isinstance(detector, BoxFile):
        return
    ids = (
        detector.image_ids(stream.paths)
        if isinstance(stream, PictureStream)
        else range(stream.frame_count)
    )
    if ids and not detector.by_id.keys() & set(ids):
        print(
            f"note: {detector.path}: none of its boxes is used on {stream.source}, nobody will be found there",
            file=sys.stderr,
        )
    note = detector.left_out(set(ids) if ids else None)
    if note:
        print(f"note: {note}", file=sys.stderr)


def device_name(estimator: PoseEstimator) -> str:
    """Where the pose network runs, in words."""
    count = os.cpu_count() or 1
    return f"cpu ({count} cores)" if str(estimator.device) == "cpu" else str(estimator.device)


class Status:
    """Frames done and the speed of each stage, on the terminal alone; silent where nobody looks."""

    def __init__(self, total: int) -> None:
        self.total, self._line = total, StatusLine(elsewhere=math.inf)

    def __call__(self, done: int, speed: Speed) -> None:
        """Shows progress."""
        of = f" of {self.total:,}" if self.total else ""
        self._line.show(f"frame {done:,}{of}; frames/s: {speed}")

    def end(self) -> None:
        """Clears the line."""
        self._line.clear()


def _outputs(options: TrackOptions, folder: Path, name: str) -> list[Path]:
    """Every file that may be written."""
    names = ["poses.jsonl", "results.json", "poses.csv", "poses.parquet", f"posetrack/{name}.json"]
    video = _video_path(options, folder / name)
    return [folder / file for file in names] + ([video] if video else [])


def _video_path(options: TrackOptions, stem: Path) -> Path | None:
    """The annotated video, or None."""
    return (
        None if options.video_codec == "none" else Path(f"{stem}{CODECS[options.video_codec][1]}")
    )


def _video_writer(options: TrackOptions, stem: Path, fps: float) -> VideoWriter | None:
    """The writer of the annotated video, or None."""
    path = _video_path(options, stem)
    return None if path is None else VideoWriter(path, fps, options.video_codec)


def _finish(options: TrackOptions, folder: Path, name: str, schema: KeypointSchema) -> None:
    """Everything that is made from the JSON lines."""
    path = folder / "poses.jsonl"
    if options.fill_gaps or options.smooth_after:
        _smooth_file(path, options)
    write_coco_results(folder / "results.json", read_lines(path))
    if options.posetrack:
        write_posetrack_results(folder / "posetrack", name, read_lines(path), schema)
    if options.table != "none":
        write_table(folder / f"poses.{options.table}", read_lines(path), schema)


def _smooth_file(path: Path, options: TrackOptions) -> None:
    """Gap filling and zero-phase smoothing of the finished file; needs the whole sequence in memory."""
    from simplepose.tracking.smooth import fill_gaps, smooth_zero_phase

    lines = list(read_lines(path))
    sequence, filled = fill_gaps([line.poses for line in lines], max_gap=options.fill_gaps)
    if options.smooth_after:
        sequence = smooth_zero_phase(sequence, sigma_frames=options.smooth_after)
    texts = [
        line.with_poses(poses, mark).encoded()
        for line, poses, mark in zip(lines, sequence, filled, strict=True)
    ]
    write_bytes(path, b"".join(texts))
