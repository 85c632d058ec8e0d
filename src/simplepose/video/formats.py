"""A `poses.jsonl` in the files of other programs: OpenPose (which Pose2Sim and Sports2D read),
DeepLabCut (SimBA, B-SOiD, Anipose, Keypoint-MoSeq), OpenSim's marker files (.trc), and COCO
annotations for CVAT, Label Studio and FiftyOne, where people correct them.

An individual is an identity of a tracked video. Where nobody was followed, it is the position in
the line: the same number in two pictures need not be the same person.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, product, repeat
from pathlib import Path, PurePath
from typing import Any

from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path, cannot_write, encode_json, write_bytes, write_json
from simplepose.core.images import PICTURE_ENDINGS
from simplepose.core.lines import Header, Keypoint, Line, Person, read_header, read_lines
from simplepose.core.schema import SCHEMAS, KeypointSchema, infer_flip_pairs
from simplepose.data.categories import category_of
from simplepose.data.coco import AREA_FRACTION

ELSEWHERE = (
    *(f"{part}_keypoints_2d" for part in ("face", "hand_left", "hand_right")),
    *(f"{part}_keypoints_3d" for part in ("pose", "face", "hand_left", "hand_right")),
)
"""Arrays of OpenPose's JSON that stay empty."""


def write_openpose(lines: str | Path, folder: str | Path) -> int:
    """One JSON file a frame, `FOLDER/NAME_000000000012_keypoints.json`, as OpenPose's
    `--write_json` does: `people`, each with `person_id` and `pose_keypoints_2d` [x, y, score, ...].

    The keypoints are all of the network's, in its order (Pose2Sim: the `pose_model` of that order,
    e.g. COCO_17 or HALPE_26). One that is not a number is 0, 0, 0, as OpenPose writes it.

    Args:
        lines: the poses.jsonl.
        folder: where the files go; it is there.

    Returns:
        How many files were written.

    Raises:
        UserError: `lines` cannot be read, or the folder cannot be written.
    """
    written, empty = 0, {name: list[float]() for name in ELSEWHERE}
    for line in read_lines(lines):
        people = [
            {
                "person_id": [-1 if person.track_id is None else person.track_id],
                "pose_keypoints_2d": [*chain(*map(_or_zeros, person.keypoints))],
                **empty,
            }
            for person in line.people
        ]
        path = Path(folder) / f"{_stem(line)}_{line.frame:012d}_keypoints.json"
        try:
            path.write_bytes(encode_json({"version": 1.3, "people": people}))
        except OSError as error:
            raise cannot_write(path, error) from error
        written += 1
    return written


def write_deeplabcut(lines: str | Path, path: str | Path) -> list[str]:
    """A row a frame, x, y and likelihood of each keypoint, as DeepLabCut's predictions: `.csv`, or
    `.h5` with the key `df_with_missing`.

    The header has the rows scorer, bodyparts, coords, and with more than one individual also
    individuals (`individual1`, ... by track id). Who is not there has empty cells.

    Args:
        lines: the poses.jsonl.
        path: the .csv or .h5 file.

    Returns:
        The individuals.

    Raises:
        UserError: `lines` cannot be read, another ending, or a package for HDF5 is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".h5"):
        raise UserError(f"{path}: DeepLabCut reads .csv and .h5. Cure: use one of these endings")
    names = read_header(lines).keypoints
    keys = sorted({key for line in read_lines(lines) for key in _people(line)}) or [1]
    individuals = [f"individual{key}" for key in keys]
    columns = [*product(["simplepose"], individuals, names, ("x", "y", "likelihood"))]
    titles = ("scorer", "individuals", "bodyparts", "coords")
    header = [[title, *(one[level] for one in columns)] for level, title in enumerate(titles)]
    if len(keys) == 1:
        del header[1]
    absent = [None] * 3 * len(names)
    with atomic_path(path) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(header)
            for line in read_lines(lines):
                people = _people(line)
                cells = (chain(*people[k].keypoints) if k in people else absent for k in keys)
                csv.writer(file).writerow([line.frame, *chain(*cells)])
        if path.suffix.lower() == ".h5":
            _to_hdf5(temporary, len(header))
    return individuals


def write_trc(lines: str | Path, folder: str | Path) -> list[Path]:
    """One marker file an individual, `FOLDER/NAME_person1.trc`, from its first frame to its last.

    Units are pixels: X to the right, Y upward from the picture's lower edge, Z 0. A frame without
    the person has empty cells.

    Args:
        lines: the poses.jsonl of a video.
        folder: where the files go; it is there.

    Returns:
        The files.

    Raises:
        UserError: `lines` cannot be read or has no time, or the folder cannot be written.
    """
    names = read_header(lines).keypoints
    times: list[float] = []
    stem, found = "", dict[int, dict[int, str]]()
    for line in read_lines(lines):
        for key, person in _people(line).items():
            found.setdefault(key, {})[len(times)] = "\t".join(_marker_cells(person, line.height))
        times.append(line.seconds)
        stem = _stem(line)
    if len(times) < 2 or times[-1] <= times[0]:
        raise UserError(
            f"{lines} holds no video: its frames have no time. "
            "Cure: use the poses.jsonl of a tracked video"
        )
    rate = (len(times) - 1) / (times[-1] - times[0])
    paths = []
    for key, rows in sorted(found.items()):
        paths.append(Path(folder) / f"{stem}_person{key}.trc")
        frames = range(min(rows), max(rows) + 1)
        absent = "\t" * (3 * len(names) - 1)
        body = [f"{i + 1}\t{times[i]:.4f}\t{rows.get(i, absent)}" for i in frames]
        text = "\n".join([*_trc_header(paths[-1].name, names, rate, frames), *body, ""])
        write_bytes(paths[-1], text.encode())
    return paths


def write_coco_annotations(
    lines: str | Path,
    path: str | Path,
    *,
    visibility: tuple[float, float] = (0.2, 0.5),
    images_dir: str | Path | None = None,
) -> int:
    """One COCO-keypoints annotation file, as CVAT, Label Studio and FiftyOne import it; `read_coco`
    reads it, and what they export.

    Coordinates have two decimals, which is what CVAT keeps. A keypoint that counts as not labelled
    keeps its place, so that who makes it visible need not drag it from the corner. A frame of a
    video is named as CVAT names it, `frame_000012.png`.

    Args:
        lines: the poses.jsonl.
        path: the .json file.
        visibility: keypoints of at least the first score are labelled, as hidden (1), of at least
            the second as visible (2). Calibrated scores are probabilities, 0..1. Where poses know
            their visibility, the likeliest counts instead.
        images_dir: folder that the names of pictures become relative to; by default the deepest one
            that holds all of them.

    Returns:
        How many people were written.

    Raises:
        UserError: `lines` cannot be read, or the file cannot be written.
    """
    header, images, annotations = read_header(lines), list[dict[str, Any]](), list[dict[str, Any]]()
    frames = [*read_lines(lines)]
    names = _file_names(frames, images_dir)
    ids = [line.image_id for line in frames]
    numbered = len({*ids}) == len(ids) and all(isinstance(one, int) for one in ids)
    for number, line, name in zip(ids if numbered else count(1), frames, names, strict=False):
        images.append({"id": number, "file_name": name, "width": line.width, "height": line.height})
        for person in line.people:
            own = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(own | _annotation(person, visibility))
    category = {"supercategory": ""} | category_of(_schema(header))
    write_json(
        path,
        {
            "info": {"description": "estimated by simplepose"},
            "images": images,
            "annotations": annotations,
            "categories": [category],
        },
    )
    return len(annotations)


def _trc_header(file: str, names: tuple[str, ...], rate: float, frames: range) -> list[str]:
    columns = "DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame"
    values = [f"{rate:.2f}", f"{rate:.2f}", len(frames), len(names), "px", f"{rate:.2f}"]
    return [
        f"PathFileType\t4\t(X/Y/Z)\t{file}",
        "\t".join([*columns.split(), "OrigNumFrames"]),
        "\t".join(map(str, [*values, frames[0] + 1, len(frames)])),
        "\t".join(["Frame#", "Time", *chain(*((name, "", "") for name in names))]).rstrip(),
        "\t".join(["", "", *(f"{axis}{i + 1}" for i in range(len(names)) for axis in "XYZ")]),
    ]


def _marker_cells(person: Person, height: int) -> Iterator[str]:
    for x, y, _ in person.keypoints:
        yield from ("", "", "") if x is None or y is None else (f"{x:g}", f"{height - y:g}", "0")


def _annotation(person: Person, visibility: tuple[float, float]) -> dict[str, Any]:
    """What is said of a person beside its ids. CVAT wants `segmentation`, and identities among the
    `attributes`."""
    box = [round(value, 2) for value in person.bbox]
    seen: Iterable[Any] = person.visibility or repeat(None, len(person.keypoints))
    pairs = zip(person.keypoints, seen, strict=True)
    triples = [_labelled(keypoint, likely, visibility) for keypoint, likely in pairs]
    row = {
        "keypoints": [*chain(*triples)],
        "num_keypoints": sum(state > 0 for _, _, state in triples),
        "bbox": box,
        "area": float(f"{AREA_FRACTION * box[2] * box[3]:.6g}"),
        "iscrowd": 0,
        "segmentation": [],
        "score": person.score,
    }
    if person.track_id is None:
        return row
    attributes = {"track_id": person.track_id, "keyframe": True}
    return row | {"track_id": person.track_id, "attributes": attributes}


def _labelled(
    keypoint: Keypoint, likely: Keypoint | None, visibility: tuple[float, float]
) -> tuple[float, float, int]:
    x, y, score = keypoint
    if x is None or y is None or score is None:
        return 0.0, 0.0, 0
    known = [one for one in likely or () if one is not None]
    if known:
        return round(x, 2), round(y, 2), known.index(max(known))
    return round(x, 2), round(y, 2), sum(score >= limit for limit in visibility)


def _file_names(frames: Sequence[Line], images_dir: str | Path | None) -> list[str]:
    """Names of pictures, relative to a folder; of a video, whose frames share their source, the
    names that CVAT gives them."""
    sources = [line.source for line in frames]
    ending = PurePath(sources[0] if sources else ".jpg").suffix.lower()
    if len({*sources}) < len(sources) or ending not in PICTURE_ENDINGS:
        return [f"frame_{line.frame:06d}.png" for line in frames]
    paths = [os.path.abspath(source) for source in sources]
    folders = {os.path.dirname(path) for path in paths} or {""}
    root = os.path.abspath(images_dir) if images_dir else os.path.commonpath(folders)
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def _schema(header: Header) -> KeypointSchema:
    """The built-in schema of these keypoints, else what the header tells."""
    known = (one for one in SCHEMAS.values() if one.keypoints == header.keypoints)
    return next(known, None) or KeypointSchema(
        name=header.schema,
        keypoints=header.keypoints,
        skeleton=header.skeleton,
        flip_pairs=infer_flip_pairs(header.keypoints),
    )


def _stem(line: Line) -> str:
    """The name of the video, or of the picture, as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", PurePath(line.source).stem) or "poses"


def _or_zeros(keypoint: Keypoint) -> Keypoint:
    return (0.0, 0.0, 0.0) if None in keypoint else keypoint


def _people(line: Line) -> dict[int, Person]:
    """Individual -> the person of this line."""
    return {
        position if person.track_id is None else person.track_id: person
        for position, person in enumerate(line.people, 1)
    }


def _to_hdf5(path: Path, levels: int) -> None:
    """Turns the CSV file into DeepLabCut's HDF5 file of the same name."""
    try:
        import pandas

        table = pandas.read_csv(path, header=[*range(levels)], index_col=0)
        table.to_hdf(path, key="df_with_missing", mode="w")
    except ImportError as error:
        package = "pandas" if "pandas" in str(error) else "tables"
        raise need(package, "deeplabcut", "DeepLabCut's HDF5 file") from error
