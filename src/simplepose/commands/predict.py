"""`simplepose predict PICTURES...`: poses of pictures, drawn and as JSON."""

from __future__ import annotations

import itertools
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from simplepose import __version__ as VERSION
from simplepose.commands.networks import Seen, open_estimator, open_people
from simplepose.commands.options import PeopleInPictures, PredictOptions, TrackOptions
from simplepose.core.device import share_cores
from simplepose.core.draw import draw_poses
from simplepose.core.errors import UserError
from simplepose.core.files import readable, write_bytes
from simplepose.core.images import is_picture, kind_of, list_pictures, write_image
from simplepose.core.lines import Line, header_of, read_header, read_lines
from simplepose.core.progress import Progress, note
from simplepose.core.schema import KeypointSchema
from simplepose.core.storage import is_remote
from simplepose.detection.files import BoxFile, read_listing
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
from simplepose.video.streams import VIDEO_ENDINGS, PictureStream, shown_address, stream_name
from simplepose.weights.public import cache_folder

LARGEST_PICTURE = 100 << 20
"""Bytes of an address that are read at most."""


def run(options: PredictOptions) -> None:
    """Predicts and writes a line of poses.jsonl and the overlay of each picture, then results.json
    and the table."""
    if options.engine == "ray":
        from simplepose.commands import predict_on_ray

        return predict_on_ray.run(options)
    if _is_video(options):
        return _track(options)
    pictures = _pictures(options)
    require_table(options.table)
    # a detector works beside the network
    threads = share_cores(1 if options.boxes.endswith((".json", "gt", "whole")) else 2)
    estimator, options = open_estimator(options, threads)
    folder, before = _folder(options, pictures)
    overlays = _overlays(options, pictures, folder, before)
    if before:
        note(f"going on in {folder}: {len(before):,} pictures are done")
    people = open_people(options, estimator, annotations=options.annotations, threads=threads)
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
    threshold = options.keypoint_threshold
    seen = Seen(estimator.drawn_threshold if threshold is None else threshold)
    with finished(lines, lambda: _finish(options, folder, estimator.schema, category)):
        runner = PoseTracker(estimator, people, track=False)
        _predict(options, runner, stream, overlays, lines, seen)
    seen.tell()
    for reason in stream.broken:
        print(f"skipped: {reason}", file=sys.stderr)
    print(
        f"{lines.people:,} people in {lines.frames:,} pictures -> {readable(str(folder))}/ "
        f"({lines.frames:,} overlays, poses.jsonl, results.json)"
    )


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


def _is_video(options: PredictOptions) -> bool:
    """Whether the one thing that is named is a video."""
    paths = [Path(one) for one in options.pictures if not is_remote(one)]
    videos = [one for one in paths if one.suffix.lower() in VIDEO_ENDINGS and one.is_file()]
    if videos and len(options.pictures) > 1:
        raise UserError(
            f"{videos[0]} is a video among other sources. Cure: alone, simplepose track {videos[0]}"
        )
    return bool(videos)


def _track(options: PredictOptions) -> None:
    """Hands a video on to `simplepose track`."""
    from simplepose.commands import track

    (video,) = options.pictures
    for name in ("annotations", "skip_broken"):
        if getattr(options, name):
            raise UserError(
                f"{video} is a video, and --{name.replace('_', '-')} is for pictures. "
                "Cure: leave it out"
            )
    note(f"{video} is a video: people are followed, as by simplepose track")
    shared = {one.name for one in fields(PeopleInPictures)} | {"output", "flip_test"}
    track.run(TrackOptions(video=video, **{name: getattr(options, name) for name in shared}))


def _pictures(options: PredictOptions) -> list[Path]:
    """The pictures that are named."""
    if not options.pictures:
        raise UserError(
            "no picture is named. "
            "Cure: simplepose predict PICTURES..., files, folders or glob patterns"
        )
    named = [_fetched(one) if is_remote(one) else one for one in options.pictures]
    pictures = list_pictures(named)
    for path in pictures:
        if path.is_file() and not is_picture(path):
            raise UserError(f"{path} is no picture. Cure: for a video, simplepose track {path}")
    return pictures


def _fetched(address: str) -> Path:
    """The picture at a network address, in the user's cache."""
    import http.client
    import urllib.error
    import urllib.request

    shown = shown_address(address)
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"{shown} is no http address of a picture. Cure: simplepose track ADDRESS for a stream"
        )
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"simplepose/{VERSION}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read(LARGEST_PICTURE)
    except (OSError, http.client.HTTPException, ValueError) as error:
        refused = isinstance(error, urllib.error.HTTPError)
        reason = error if refused else getattr(error, "reason", None) or error
        raise UserError(
            f"{shown} cannot be fetched: {reason}. Cure: check the address and the connection"
        ) from error
    if not (kind := kind_of(content)):
        raise UserError(
            f"{shown} is no picture ({len(content):,} bytes). "
            "Cure: the address of the picture itself; for a video, simplepose track ADDRESS"
        )
    path = cache_folder() / "pictures" / f"{stream_name(address)}.{kind.lower()}"
    write_bytes(path, content)
    note(f"{shown} is fetched into {path} ({len(content):,} bytes)")
    return path


def _overlays(
    options: PredictOptions, pictures: list[Path], folder: Path, before: list[Line]
) -> dict[str, Path]:
    """A file for each overlay. Refuses to write over anything but what goes on; takes a line whose
    overlay was not written out of `before`."""
    overlays = _overlay_names(pictures, folder)
    made = [folder / name for name in ("poses.jsonl", "results.json", f"poses.{options.table}")]
    outputs = [*made, *overlays.values()]
    keep_sources((*pictures, options.boxes, options.annotations, options.weights), outputs)
    goes_on = bool(before)
    before[:] = [line for line in before if overlays[str(pictures[line.frame])].exists()]
    taken = next((path for path in outputs if path.exists()), None)
    if taken and not (options.overwrite or goes_on):
        raise UserError(
            f"{folder} already holds {taken.name}. "
            "Cure: --overwrite, or --output with another folder"
        )
    return overlays


def _overlay_names(pictures: list[Path], folder: Path) -> dict[str, Path]:
    """Picture -> NAME.jpg; equal names from different folders get the first number that is free."""
    names: dict[str, str] = {}
    used = set[str]()
    for path in pictures:
        if str(path) in names:
            continue
        numbered = (f"{path.stem}_{number}.jpg" for number in itertools.count(2))
        names[str(path)] = next(
            name for name in itertools.chain([f"{path.stem}.jpg"], numbered) if name not in used
        )
        used.add(names[str(path)])
    return {source: folder / name for source, name in names.items()}


def _predict(
    options: PredictOptions,
    runner: PoseTracker,
    stream: PictureStream,
    overlays: dict[str, Path],
    lines: LinesWriter,
    seen: Seen,
) -> None:
    """Writes a line, then an overlay for each picture."""
    schema, style = runner.estimator.schema, options.style
    with Progress("predicting", "pictures") as progress:
        for frame, poses in runner(stream):
            # the reader is ahead: what comes before the broken picture is finished first
            if frame.index > lines.frames:
                _stop_at_broken(stream, options.skip_broken)
            lines.write(frame, poses)
            drawn = draw_poses(
                frame.image, poses, schema, keypoint_threshold=seen.threshold, **style
            )
            write_image(overlays[frame.source], drawn)
            seen.add(poses)
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
    unused = people.left_out(first)
    if not people.by_id:
        why = unused or f"{people.path} holds no box"
        raise UserError(f"{why}. Cure: lower --box-threshold, or give a file with boxes")
    if not first.keys() & people.by_id.keys():
        raise UserError(
            f"{people.path}: none of its boxes is on {pictures[0].name} or the other "
            f"{len(pictures) - 1} pictures (its image ids start {list(people.by_id)[:3]}). "
            "Cure: --annotations FILE tells which picture has which image_id"
        )
    if unused:
        note(unused)
