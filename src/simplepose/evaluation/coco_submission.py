"""The result file that the COCO server takes: a zip with one JSON of a name it understands."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.files import atomic_path, encode_json


def check_submission(folder: Path | str, name: str, split: str) -> Path:
    """The zip that `write_coco_submission` will write; asked before a long run.

    Raises:
        UserError: a name the server would not understand, or a file that exists.
    """
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise UserError(
            f"the method name {name!r} must be letters, digits, '-' and '.'. Cure: e.g. simplepose-r50"
        )
    path = Path(folder) / f"person_keypoints_{split}_{name}_results.zip"
    if path.exists():
        raise UserError(f"{path} exists. Cure: choose another name or remove it")
    return path


def write_coco_submission(
    folder: Path | str, results: list[dict[str, Any]], name: str, *, split: str = "test-dev2017"
) -> Path:
    """Writes `person_keypoints_{split}_{name}_results.json` inside a zip of the same name, as the COCO server wants it.

    Args:
        folder: where the zip goes.
        results: rows of `coco_results`, of all pictures of the split.
        name: of the method: letters, digits, `-` and `.`.
        split: `test-dev2017` or `val2017`.

    Returns:
        The path of the zip.

    Raises:
        UserError: a name the server would not understand, rows with other than 17 keypoints, or a file that exists.
    """
    path = check_submission(folder, name, split)
    for index, row in enumerate(results):
        if len(row["keypoints"]) != 51:
            raise UserError(
                f"row {index} has {len(row['keypoints'])} keypoint numbers, the server takes 51. Cure: use a COCO network"
            )
    kept = [
        {key: row[key] for key in ("image_id", "category_id", "keypoints", "score")}
        for row in results
    ]
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr(f"{path.stem}.json", encode_json(kept))
    return path
