"""`simplepose predict PICTURES... --weights W --boxes FILE|DETECTOR|whole`: poses of pictures, drawn and as JSON."""

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
    if not options.pictures:
        raise UserError(
            "no picture is named. Cure: simplepose predict PICTURES..., files, folders or glob patterns"
        )
    pictures = list_pictures(options.pictures)
    for path in pictures:
        if path.suffix.lower() not in PICTURE_ENDINGS:
            raise UserError(
                f"{path} is no picture ({', '.join(PICTURE_ENDINGS)}). Cure: for a video, simplepose track {path}"
            )
    require_choice(options.boxes)
    folder, names = Path(options.output), _overlay_names(pictures)
    outputs = [folder / name for name in ("poses.json", *names.values())]
    keep_sources((*pictures, options.boxes, options.annotations, options.weights), outputs)
    taken = [path.name for path in outputs if path.exists()]
    if taken and not options.overwrite:
        raise UserError(
            f"{folder} already holds {taken[0]}. Cure: --overwrite, or --output with another folder"
        )
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.flip_test
    )
    people = people_source(
        options.boxes,
        annotations=options.annotations or None,
        score_threshold=options.box_threshold,
        keypoints=estimator.schema.keypoints,
        device=options.device,
    )
    if isinstance(people, BoxFile):
        _require_match(people, pictures)
    threshold = (
        estimator.drawn_threshold
        if options.keypoint_threshold is None
        else options.keypoint_threshold
    )

    stream = PictureStream(pictures, listed=True)
    rows: list[dict[str, Any]] = []
    record = {
        "weights": readable(options.weights),
        "preset": estimator.spec.preset,
        "schema": to_plain(estimator.schema),
        "pictures": rows,
    }
    try:
        with Progress("predicting", "pictures") as progress:
            for frame, poses in PoseTracker(estimator, people, track=False)(stream):
                if frame.index > len(
                    rows
                ):  # the reader is ahead: what comes before the broken picture is finished first
                    _stop_at_broken(stream, options.skip_broken)
                overlay = poses.draw(
                    frame.image,
                    estimator.schema,
                    keypoint_threshold=threshold,
                    boxes=options.draw_boxes,
                )
                rows.append(_row(frame, poses))
                write_image(folder / names[frame.source], overlay)
                progress(frame.index + 1, len(pictures))
        _stop_at_broken(stream, options.skip_broken)
    except (Exception, KeyboardInterrupt):
        if rows:
            write_json(folder / "poses.json", record)
            print(
                f"stopped; {folder / 'poses.json'} holds the {len(rows):,} pictures that are done",
                file=sys.stderr,
            )
        raise
    for reason in stream.broken:
        print(f"skipped: {reason}", file=sys.stderr)
    write_json(folder / "poses.json", record)
    count = sum(len(row["people"]) for row in rows)
    print(
        f"{count:,} people in {len(rows):,} pictures -> {readable(str(folder))}/ ({len(rows):,} overlays, poses.json)"
    )


def _require_match(people: BoxFile, pictures: list[Path]) -> None:
    """Says which boxes of a file nobody gets.

    Refuses a file that knows none of the pictures, or cannot tell two of them apart: both would be wrong answers.
    """
    ids = [people.image_id(path) for path in pictures]
    first: dict[int, Path] = {}
    for path, image_id in zip(pictures, ids, strict=True):
        if (
            image_id is not None
            and image_id in people.by_id
            and (other := first.setdefault(image_id, path)) != path
        ):
            raise UserError(
                f"{people.path}: {other} and {path} would both get the boxes of image id {image_id}. Cure: --annotations FILE whose `images` "
                "name both with their folders"
            )
    places = set(people.image_ids(pictures))
    note = people.left_out(places)
    if not people.by_id:
        raise UserError(
            f"{f'{note}; none is used' if note else f'{people.path} holds no box'}. Cure: lower --box-threshold, or give a file with boxes"
        )
    if not places & people.by_id.keys():
        raise UserError(
            f"{people.path}: none of its boxes is on {pictures[0].name} or the other {len(pictures) - 1} pictures (its image ids start "
            f"{sorted(people.by_id)[:3]}). Cure: --annotations FILE tells which picture has which image_id"
        )
    if note:
        print(f"note: {note}", file=sys.stderr)


def _stop_at_broken(stream: PictureStream, skip: bool) -> None:
    if stream.broken and not skip:
        raise UserError(f"{stream.broken[0]}; or go on without such pictures: --skip-broken")


def _overlay_names(pictures: list[Path]) -> dict[str, str]:
    """A file name for each overlay; equal names from different folders get the first number that is free."""
    used: set[str] = set()
    names: dict[str, str] = {}
    for path in dict.fromkeys(pictures):
        numbered = (f"{path.stem}_{number}.jpg" for number in itertools.count(2))
        names[str(path)] = name = next(
            name for name in itertools.chain([f"{path.stem}.jpg"], numbered) if name not in used
        )
        used.add(name)
    return names


def _row(frame: Frame, poses: Poses) -> dict[str, Any]:
    """One picture of poses.json."""
    columns = zip(
        poses.boxes_xyxy.tolist(),
        poses.scores.tolist(),
        poses.keypoints.tolist(),
        poses.keypoint_scores.tolist(),
        strict=True,
    )
    names = ("box_xyxy", "score", "keypoints", "keypoint_scores")
    height, width = frame.image.shape[:2]
    return {
        "file_name": readable(frame.source),
        "width": width,
        "height": height,
        "people": [dict(zip(names, row, strict=True)) for row in columns],
    }
