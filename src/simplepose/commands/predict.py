"""`simplepose predict PICTURES... --weights W --boxes FILE|DETECTOR|whole`: poses of pictures,
drawn and as JSON."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from simplepose.commands.options import PredictOptions
from simplepose.core.errors import UserError
from simplepose.core.files import readable, write_json
from simplepose.core.images import PICTURE_ENDINGS, list_pictures, write_image
from simplepose.core.progress import Progress
from simplepose.core.settings import to_plain
from simplepose.core.structures import Frame, Poses
from simplepose.detection.files import BoxFile
from simplepose.detection.people import people_source, require_choice
from simplepose.pose.estimator import PoseEstimator
from simplepose.video.engine import PoseTracker
from simplepose.video.outputs import keep_sources
from simplepose.video.streams import PictureStream


def run(options: PredictOptions) -> None:
    """Predicts and writes the overlays and poses.json."""
    pictures = _pictures(options)
    require_choice(options.boxes)
    overlays = _overlays(options, pictures)
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.flip_test
    )
    people = people_source(
        options.boxes,
        annotations=options.annotations or None,
        score_threshold=options.box_threshold,
        keypoints=estimator.schema.keypoints,
        device=options.device,
        person_class=options.person_class,
    )
    if isinstance(people, BoxFile):
        _require_match(people, pictures)
    stream = PictureStream(pictures, listed=True)
    rows: list[dict[str, Any]] = []
    result = Path(options.output) / "poses.json"
    record = {
        "weights": readable(options.weights),
        "preset": estimator.spec.preset,
        "schema": to_plain(estimator.schema),
        "pictures": rows,
    }
    try:
        _predict(options, PoseTracker(estimator, people, track=False), stream, overlays, rows)
    except (Exception, KeyboardInterrupt):
        if rows:
            write_json(result, record)
            print(
                f"stopped; {result} holds the {len(rows):,} pictures that are done",
                file=sys.stderr,
            )
        raise
    for reason in stream.broken:
        print(f"skipped: {reason}", file=sys.stderr)
    write_json(result, record)
    count = sum(len(row["people"]) for row in rows)
    print(
        f"{count:,} people in {len(rows):,} pictures -> {readable(options.output)}/ "
        f"({len(rows):,} overlays, poses.json)"
    )


def _pictures(options: PredictOptions) -> list[Path]:
    """The pictures that are named."""
    if not options.pictures:
        raise UserError(
            "no picture is named. "
            "Cure: simplepose predict PICTURES..., files, folders or glob patterns"
        )
    pictures = list_pictures(options.pictures)
    for path in pictures:
        if path.suffix.lower() not in PICTURE_ENDINGS:
            raise UserError(
                f"{path} is no picture ({', '.join(PICTURE_ENDINGS)}). "
                f"Cure: for a video, simplepose track {path}"
            )
    return pictures


def _overlays(options: PredictOptions, pictures: list[Path]) -> dict[str, Path]:
    """A file for each overlay; equal names from different folders get the first number that is
    free. Refuses to write over anything."""
    folder, overlays = Path(options.output), dict[str, Path]()
    for path in pictures:
        numbered = (f"{path.stem}_{number}.jpg" for number in itertools.count(2))
        names = (folder / name for name in itertools.chain([f"{path.stem}.jpg"], numbered))
        if str(path) not in overlays:
            used = set(overlays.values())
            overlays[str(path)] = next(name for name in names if name not in used)
    outputs = [folder / "poses.json", *overlays.values()]
    keep_sources((*pictures, options.boxes, options.annotations, options.weights), outputs)
    taken = next((path for path in outputs if path.exists()), None)
    if taken and not options.overwrite:
        raise UserError(
            f"{folder} already holds {taken.name}. "
            "Cure: --overwrite, or --output with another folder"
        )
    return overlays


def _predict(
    options: PredictOptions,
    runner: PoseTracker,
    stream: PictureStream,
    overlays: dict[str, Path],
    rows: list[dict[str, Any]],
) -> None:
    """Adds a row and writes an overlay for each picture."""
    schema, threshold = runner.estimator.schema, options.keypoint_threshold
    threshold = runner.estimator.drawn_threshold if threshold is None else threshold
    style = {"keypoint_threshold": threshold, "boxes": options.draw_boxes}
    with Progress("predicting", "pictures") as progress:
        for frame, poses in runner(stream):
            # the reader is ahead: what comes before the broken picture is finished first
            if frame.index > len(rows):
                _stop_at_broken(stream, options.skip_broken)
            rows.append(_row(frame, poses))
            write_image(overlays[frame.source], poses.draw(frame.image, schema, **style))
            progress(frame.index + 1, stream.frame_count)
    _stop_at_broken(stream, options.skip_broken)


def _stop_at_broken(stream: PictureStream, skip: bool) -> None:
    if stream.broken and not skip:
        raise UserError(f"{stream.broken[0]}; or go on without such pictures: --skip-broken")


def _require_match(people: BoxFile, pictures: list[Path]) -> None:
    """Says which boxes of a file nobody gets.

    Refuses a file that knows none of the pictures, or cannot tell two of them apart: both would be
    wrong answers.
    """
    ids = people.image_ids(pictures)
    first: dict[Any, Path] = {}
    for path, image_id in zip(pictures, ids, strict=True):
        other = first.setdefault(image_id, path)
        if other != path and image_id in people.by_id:
            raise UserError(
                f"{people.path}: {other} and {path} would both get the boxes of image id "
                f"{image_id}. Cure: --annotations FILE whose `images` name both with their folders"
            )
    note = people.left_out(first)
    if not people.by_id:
        why = note or f"{people.path} holds no box"
        raise UserError(f"{why}. Cure: lower --box-threshold, or give a file with boxes")
    if not first.keys() & people.by_id.keys():
        raise UserError(
            f"{people.path}: none of its boxes is on {pictures[0].name} or the other "
            f"{len(pictures) - 1} pictures (its image ids start {list(people.by_id)[:3]}). "
            "Cure: --annotations FILE tells which picture has which image_id"
        )
    if note:
        print(f"note: {note}", file=sys.stderr)


def _row(frame: Frame, poses: Poses) -> dict[str, Any]:
    """One picture of poses.json."""
    columns = {
        "box_xyxy": poses.boxes_xyxy.tolist(),
        "score": poses.scores.tolist(),
        "keypoints": poses.keypoints.tolist(),
        "keypoint_scores": poses.keypoint_scores.tolist(),
    }
    height, width = frame.image.shape[:2]
    return {
        "file_name": readable(frame.source),
        "width": width,
        "height": height,
        "people": [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ],
    }
