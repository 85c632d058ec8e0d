"""`simplepose predict PICTURES... --weights W --boxes FILE|DETECTOR|whole`: poses of pictures,
drawn and as JSON."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from simplepose.commands.options import PredictOptions
from simplepose.core.device import share_cores
from simplepose.core.errors import UserError, need
from simplepose.core.files import readable
from simplepose.core.images import is_picture, list_pictures, write_image
from simplepose.core.lines import Line, header_of, read_header, read_lines
from simplepose.core.progress import Progress
from simplepose.core.schema import KeypointSchema
from simplepose.data.categories import with_flip_pairs
from simplepose.detection.files import BoxFile, read_listing
from simplepose.detection.people import people_source, require_choice
from simplepose.pose.estimator import PoseEstimator
from simplepose.video.engine import PoseTracker
from simplepose.video.outputs import (
    LinesWriter,
    finished,
    free_folder,
    keep_sources,
    picture_ids,
    require_table,
    write_coco_results,
    write_table,
)
from simplepose.video.streams import PictureStream, shown_address


def run(options: PredictOptions) -> None:
    """Predicts and writes a line of poses.jsonl and the overlay of each picture, then results.json
    and the table."""
    if options.engine == "ray":
        return _run_on_ray(options)
    pictures = _pictures(options)
    require_choice(options.boxes)
    require_table(options.table)
    folder, before = _folder(options, pictures)
    overlays = _overlays(options, pictures, folder, before)
    if before:
        print(f"note: going on in {folder}: {len(before):,} pictures are done", file=sys.stderr)
    # a detector works beside the network
    threads = share_cores(1 if options.boxes.endswith((".json", "gt", "whole")) else 2)
    estimator = PoseEstimator.from_checkpoint(
        options.weights, device=options.device, flip_test=options.flip_test, threads=threads
    )
    schema = with_flip_pairs(estimator.schema, options.flip_pairs)
    estimator.spec = replace(estimator.spec, schema=schema)
    if estimator.flip_test and (note := schema.sides_note("--flip-pairs")):
        print(f"note: {note}", file=sys.stderr)
    people = people_source(
        options.boxes,
        annotations=options.annotations or None,
        score_threshold=options.box_threshold,
        keypoints=estimator.schema.keypoints,
        device=options.device,
        threads=threads,
        person_class=options.person_class,
    )
    listing = people if isinstance(people, BoxFile) else None
    if listing:
        _require_match(listing, pictures)
    elif options.annotations:
        listing = read_listing(options.annotations, estimator.schema.keypoints)
    category = listing.category_id if listing else 1
    stream = PictureStream(pictures, listed=True, done=[line.frame for line in before])
    lines = LinesWriter(
        folder / "poses.jsonl",
        header_of(estimator.schema, preset=estimator.spec.preset, **_made_by(options)),
        image_ids=picture_ids(pictures, listing),
        before=before,
    )
    with finished(lines, lambda: _finish(options, folder, estimator.schema, category)):
        _predict(options, PoseTracker(estimator, people, track=False), stream, overlays, lines)
    for reason in stream.broken:
        print(f"skipped: {reason}", file=sys.stderr)
    print(
        f"{lines.people:,} people in {lines.frames:,} pictures -> {readable(str(folder))}/ "
        f"({lines.frames:,} overlays, poses.jsonl, results.json)"
    )


def _run_on_ray(options: PredictOptions) -> None:
    """Shards of poses, by Ray Data."""
    if not options.pictures or not options.output:
        raise UserError(
            "--engine ray needs pictures and --output, so that a run can go on. "
            "Cure: simplepose predict FOLDER --engine ray --output poses ..."
        )
    if options.table != "none" or options.draw_boxes:
        raise UserError(
            "--engine ray writes Parquet shards and draws poses only. "
            "Cure: leave --table and --draw-boxes out"
        )
    for package in ("ray", "pyarrow"):
        try:
            import_module(package)
        except ImportError as error:
            raise need(package, "ray", "--engine ray") from error
    from simplepose.ray.job import predict_shards

    people = {
        "annotations": _absolute(options.annotations) or None,
        "score_threshold": options.box_threshold,
        "person_class": options.person_class,
    }
    predictor = {
        "weights": _absolute(options.weights),
        "boxes": _absolute(options.boxes),
        "flip_test": options.flip_test,
        "flip_pairs": _absolute(options.flip_pairs),
        "skip_broken": options.skip_broken,
        **people,
    }
    print(
        predict_shards(
            options.pictures,
            options.output,
            predictor,
            options.ray,
            device=options.device,
            keypoint_threshold=options.keypoint_threshold,
            overwrite=options.overwrite,
        )
    )


def _absolute(path: str) -> str:
    """A file that is there by its whole path, which other machines need; else the word as it is."""
    return str(Path(path).absolute()) if path and Path(path).exists() else path


def _made_by(options: PredictOptions) -> dict[str, str]:
    """What the header says of the options."""
    return {"weights": options.weights, "boxes": options.boxes}


def _finish(
    options: PredictOptions, folder: Path, schema: KeypointSchema, category: int | str
) -> None:
    """Everything that is made from the JSON lines."""
    path = folder / "poses.jsonl"
    write_coco_results(folder / "results.json", read_lines(path), category)
    if options.table != "none":
        write_table(folder / f"poses.{options.table}", read_lines(path), schema)


def _folder(options: PredictOptions, pictures: list[Path]) -> tuple[Path, list[Line]]:
    """Where to write, and the lines of an earlier try that goes on there.

    With --skip-broken a try goes on that had the same network, boxes and pictures and did not come
    to all of them.
    """
    usual = "predictions"
    free, tried = (Path(options.output),) * 2 if options.output else free_folder(usual)
    if options.overwrite:
        return Path(options.output or usual), []
    if options.skip_broken and tried and (tried / "poses.jsonl").is_file():
        header, lines = read_header(tried / "poses.jsonl"), list(read_lines(tried / "poses.jsonl"))
        same = all(getattr(header, name) == readable(v) for name, v in _made_by(options).items())
        places = {readable(str(path)): index for index, path in enumerate(pictures)}
        if (
            same
            and len(lines) < len(places)
            and all(places.get(line.source) == line.frame for line in lines)
        ):
            return tried, lines
    return free, []


def _pictures(options: PredictOptions) -> list[Path]:
    """The pictures that are named."""
    if not options.pictures:
        raise UserError(
            "no picture is named. "
            "Cure: simplepose predict PICTURES..., files, folders or glob patterns"
        )
    for address in (one for one in options.pictures if "://" in one):
        raise UserError(
            f"{shown_address(address)} is a network address, predict takes files. "
            "Cure: simplepose track ADDRESS for a stream; download a picture"
        )
    pictures = list_pictures(options.pictures)
    for path in pictures:
        if path.is_file() and not is_picture(path):
            raise UserError(f"{path} is no picture. Cure: for a video, simplepose track {path}")
    return pictures


def _overlays(
    options: PredictOptions, pictures: list[Path], folder: Path, before: list[Line]
) -> dict[str, Path]:
    """A file for each overlay; equal names from different folders get the first number that is
    free. Refuses to write over anything but what goes on; takes a line whose overlay was not
    written out of `before`."""
    overlays: dict[str, Path] = {}
    for path in pictures:
        numbered = (f"{path.stem}_{number}.jpg" for number in itertools.count(2))
        names = (folder / name for name in itertools.chain([f"{path.stem}.jpg"], numbered))
        if str(path) not in overlays:
            used = set(overlays.values())
            overlays[str(path)] = next(name for name in names if name not in used)
    made = [folder / name for name in ("poses.jsonl", "results.json", f"poses.{options.table}")]
    keep_sources(
        (*pictures, options.boxes, options.annotations, options.weights),
        [*made, *overlays.values()],
    )
    drawn = {line.frame: overlays[str(pictures[line.frame])] for line in before}
    before[:] = [line for line in before if drawn[line.frame].exists()]
    taken = next((path for path in (*made, *overlays.values()) if path.exists()), None)
    if taken and not options.overwrite and not drawn:
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
    lines: LinesWriter,
) -> None:
    """Writes a line, then an overlay for each picture."""
    schema, threshold = runner.estimator.schema, options.keypoint_threshold
    threshold = runner.estimator.drawn_threshold if threshold is None else threshold
    style = {"keypoint_threshold": threshold, "boxes": options.draw_boxes}
    with Progress("predicting", "pictures") as progress:
        for frame, poses in runner(stream):
            # the reader is ahead: what comes before the broken picture is finished first
            if frame.index > lines.frames:
                _stop_at_broken(stream, options.skip_broken)
            lines.write(frame, poses)
            write_image(overlays[frame.source], poses.draw(frame.image, schema, **style))
            progress(lines.frames, stream.frame_count)
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
