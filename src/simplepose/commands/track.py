"""`simplepose track VIDEO`: estimate and follow people, draw them, write their poses."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.commands.networks import Seen, open_estimator, open_people
from simplepose.commands.options import TrackOptions
from simplepose.core.device import own_cores, share_cores
from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError
from simplepose.core.files import encode_json, readable, write_bytes
from simplepose.core.lines import header_of, read_header, read_lines
from simplepose.core.progress import Progress, note
from simplepose.core.schema import POSETRACK_15, KeypointSchema
from simplepose.detection.files import BoxFile
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.exported import ExportedNetwork
from simplepose.tracking.flow import dis_flow, farneback_flow
from simplepose.tracking.smooth import OneEuroConfig, fill_gaps, smooth_zero_phase
from simplepose.tracking.track import TrackConfig
from simplepose.video.engine import PoseTracker
from simplepose.video.outputs import (
    LinesWriter,
    finished,
    free_folder,
    keep_sources,
    new_folder,
    picture_ids,
    require_table,
    write_coco_results,
    write_posetrack_results,
    write_table,
)
from simplepose.video.streams import (
    CODECS,
    PictureStream,
    VideoStream,
    VideoWriter,
    open_stream,
    stream_name,
    usual_codec,
)
from simplepose.video.window import Window


def run(options: TrackOptions) -> None:
    """Tracks and writes `poses.jsonl`, `results.json` and the annotated video into the output
    folder."""
    name = stream_name(options.video)
    usual = Path("tracked") / name
    folder = Path(options.output) if options.output else usual
    if not options.output and not options.overwrite:
        folder, _ = free_folder(usual)
    codec = usual_codec() if options.video_codec == "auto" else str(options.video_codec)
    video = None if codec == "none" else folder / f"{name}{CODECS[codec][1]}"
    if options.boxes == "gt":
        raise UserError(
            "--boxes gt belongs to simplepose predict. "
            "Cure: give track the annotation file itself, --boxes FILE.json"
        )
    require_table(options.table)
    tables = ("poses.csv", "poses.parquet")
    outputs = ["poses.jsonl", "results.json", *tables, f"posetrack/{name}.json"]
    keep_sources(
        (options.video, options.boxes, options.weights),
        [*(folder / file for file in outputs), *([video] if video else [])],
    )
    window = Window(name) if options.show else None
    options, runner = build(options)
    estimator = runner.estimator
    stream = open_stream(options.video)
    if not stream.is_video and any((options.smooth, options.smooth_after, options.fill_gaps)):
        raise UserError(
            f"{options.video}: people in pictures are not followed. "
            "Cure: leave --smooth, --smooth-after and --fill-gaps out"
        )
    new_folder(folder, overwrite=options.overwrite)
    _note_boxes(runner.detector, stream)
    _note_posetrack(options, estimator.schema)
    lines = LinesWriter(
        folder / "poses.jsonl",
        header_of(
            estimator.schema,
            weights=options.weights,
            preset=estimator.spec.preset,
            boxes=options.boxes,
        ),
        image_ids=_image_ids(runner.detector, stream),
    )
    boxes = runner.detector
    category = boxes.category_id if isinstance(boxes, BoxFile) else 1
    with finished(lines, lambda: _finish(options, folder, name, estimator.schema, category)):
        _follow(options, runner, stream, lines, (video, codec) if video else None, window)
    _tell(runner, stream, lines, folder)


def _tell(
    runner: PoseTracker, stream: VideoStream | PictureStream, lines: LinesWriter, folder: Path
) -> None:
    """What came out, and how fast."""
    broken = f", {stream.skipped:,} frames did not decode" if stream.skipped else ""
    if runner.speed.dropped:
        broken += f", {runner.speed.dropped:,} left out because the network was slower"
    followed = f", {len(lines.track_ids):,} identities" if stream.is_video else ""
    written = readable(f"{folder}/ ({', '.join(sorted(path.name for path in folder.iterdir()))})")
    print(f"{lines.frames:,} frames{broken}: {lines.people:,} poses{followed} -> {written}")
    device = _device_name(runner.estimator)
    print(f"frames/s of each stage alone: {runner.speed}; device {device}")


def _image_ids(detector: object, stream: VideoStream | PictureStream) -> list[int | str] | None:
    """Those of pictures; the frames of a video have their index."""
    if not isinstance(stream, PictureStream):
        return None
    return picture_ids(stream.paths, detector if isinstance(detector, BoxFile) else None)


def _follow(
    options: TrackOptions,
    runner: PoseTracker,
    stream: VideoStream | PictureStream,
    lines: LinesWriter,
    video: tuple[Path, str] | None,
    window: Window | None,
) -> None:
    """Writes each frame's line, then its picture into the annotated video."""
    estimator, threshold = runner.estimator, options.keypoint_threshold
    seen = Seen(estimator.drawn_threshold if threshold is None else threshold)
    style: dict[str, Any] = {"keypoint_threshold": seen.threshold, **options.style}
    writer = VideoWriter(video[0], stream.fps or 10.0, video[1]) if video else None
    with ExitStack() as open_files:
        open_files.enter_context(writer or nullcontext())
        open_files.enter_context(window or nullcontext())
        progress = open_files.enter_context(Progress("tracking", "frames"))
        for frame, poses in runner(stream, drop_frames=options.drop_frames):
            if writer:
                # Before the first line: a codec that is missing costs nobody an older file.
                writer.begin(frame.image)
            lines.write(frame, poses)
            seen.add(poses)
            if writer or window:
                with runner.speed.measure("draw and write"):
                    drawn = draw_poses(frame.image, poses, estimator.schema, **style)
                    if not _show(drawn, frame.seconds, writer, window):
                        break
            progress(lines.frames, stream.frame_count or None)
            if lines.frames == options.frames:
                break
    seen.tell()


def _show(
    drawn: np.ndarray, seconds: float, writer: VideoWriter | None, window: Window | None
) -> bool:
    """Writes and shows a picture; whether nobody closed the window."""
    if writer:
        writer.write(drawn, seconds)
    return window is None or window.show(drawn)


def build(options: TrackOptions) -> tuple[TrackOptions, PoseTracker]:
    """The engine that the options describe, and the options with the networks that nobody chose.
    Each network gets its half of the processor, as both run at the same time."""
    threads = share_cores(2)
    estimator, options = open_estimator(options, threads)
    return options, PoseTracker(
        estimator,
        open_people(options, estimator, threads=threads, cut_border=True),
        config=TrackConfig(
            mode=options.mode, matching=options.matching, keep_frames=options.keep_frames
        ),
        detect_every=options.detect_every,
        batch_frames=options.batch_frames or None,
        smoothing=OneEuroConfig() if options.smooth else None,
        flow=farneback_flow() if options.flow == "farneback" else dis_flow(),
    )


def _note_boxes(detector: object, stream: VideoStream | PictureStream) -> None:
    """Says which boxes of a file nobody gets."""
    if not isinstance(detector, BoxFile):
        return
    ids: Collection[int | str]
    if isinstance(stream, PictureStream):
        ids = detector.image_ids(stream.paths)
    else:
        ids = range(stream.frame_count)
    # of a camera nobody knows how many frames there will be
    if unused := detector.left_out(ids or detector.by_id):
        note(unused)


def _note_posetrack(options: TrackOptions, schema: KeypointSchema) -> None:
    """Says that a network's PoseTrack file cannot be scored."""
    absent = [name for name in POSETRACK_15.keypoints if name not in schema.keypoints]
    if options.posetrack and absent:
        note(
            f"the network lacks PoseTrack's keypoints {', '.join(absent)}: "
            "simplepose score --task posetrack refuses the PoseTrack file"
        )


def _device_name(estimator: PoseEstimator) -> str:
    """Where the pose network runs, in words."""
    if isinstance(estimator.network, ExportedNetwork):
        return estimator.network.session.provider
    cores = f" ({own_cores()} cores)" if str(estimator.device) == "cpu" else ""
    return f"{estimator.device}{cores}"


def _finish(
    options: TrackOptions, folder: Path, name: str, schema: KeypointSchema, category: int | str
) -> None:
    """Everything that is made from the JSON lines."""
    path = folder / "poses.jsonl"
    if options.fill_gaps or options.smooth_after:
        _smooth_file(path, options)
    write_coco_results(folder / "results.json", read_lines(path), category)
    if options.posetrack:
        write_posetrack_results(folder / "posetrack", name, read_lines(path), schema)
    if options.table != "none":
        write_table(folder / f"poses.{options.table}", read_lines(path), schema)


def _smooth_file(path: Path, options: TrackOptions) -> None:
    """Gap filling and zero-phase smoothing of the finished file; needs the whole sequence in
    memory."""
    lines = list(read_lines(path))
    sequence, filled = fill_gaps([line.poses for line in lines], max_gap=options.fill_gaps)
    if options.smooth_after:
        sequence = smooth_zero_phase(sequence, sigma_frames=options.smooth_after)
    texts = [
        line.with_poses(poses, mark).encoded()
        for line, poses, mark in zip(lines, sequence, filled, strict=True)
    ]
    write_bytes(path, b"".join([encode_json(read_header(path)) + b"\n", *texts]))
