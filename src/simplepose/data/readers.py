"""The data sets by name: who reads each one's own form, or what `convert` made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simplepose.config import Task
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.coco import read_coco
from simplepose.data.crowdpose import read_crowdpose, read_ochuman
from simplepose.data.mpii import read_mpii
from simplepose.data.posetrack import read_posetrack

READERS: dict[Task, Callable[[str | Path, str | Path], Annotations]] = {
    "mpii": read_mpii,
    "posetrack": read_posetrack,
    "crowdpose": read_crowdpose,
    "ochuman": read_ochuman,
    "coco": read_coco,
}
"""Who reads a data set's own form: (file or folder, folder of the pictures) -> people."""


def read_annotated(
    task: Task,
    path: str | Path,
    images_dir: str | Path,
    schema: KeypointSchema | None = None,
    *,
    category: str | None = None,
    allow_empty: bool = False,
) -> Annotations:
    """Reads what a network is tested on: the data set's own form, or what `convert` wrote.

    Args:
        task: the data set.
        path: the file; for PoseTrack also a folder.
        images_dir: folder of the pictures.
        schema: expected keypoints of a COCO file; by default its own.
        category: id or name, where a COCO file has several categories with different keypoints.
        allow_empty: accept a COCO file without people.

    Raises:
        UserError: names the file and the cure.
    """
    if task in ("crowdpose", "ochuman") or (
        task in ("mpii", "posetrack") and has_own_form(task, path)
    ):
        return READERS[task](path, images_dir)
    return read_coco(path, images_dir, schema, category=category, allow_empty=allow_empty)


def has_own_form(task: Task, path: str | Path) -> bool:
    """Whether MPII or PoseTrack annotations have the data set's own form.

    `simplepose convert` writes one object, with `head_box_xyxy` beside the people; MPII's own form
    is a .mat or a JSON list, PoseTrack's a folder or a file with other head boxes.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".mat":
        return True
    try:
        if task == "posetrack":
            return b'"head_box_xyxy"' not in path.read_bytes()
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"[")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error
