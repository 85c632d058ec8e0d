"""CrowdPose and OCHuman: COCO-like files with their own conventions -> Annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14
from simplepose.data.annotations import Annotations
from simplepose.data.coco import load, read_coco


def read_crowdpose(path: Any, images_dir: str | Path | None) -> Annotations:
    """Reads crowdpose_{train,val,test,trainval}.json.

    The area is always that of the box x 0.53, as CrowdPose's own evaluation takes it;
    `image_extras[i]["crowdIndex"]` is the crowding of picture i; where easy ends and hard begins
    is `evaluation.crowdpose`'s to say.

    Raises:
        UserError: also where pictures lack `crowdIndex`.
    """
    annotations = read_coco(path, images_dir, CROWDPOSE_14, box_areas=True)
    extras = annotations.image_extras
    if lacking := sum("crowdIndex" not in extra for extra in extras):
        raise UserError(
            f"{annotations.source}: {lacking} of {len(extras)} pictures lack crowdIndex. "
            "Cure: give the official CrowdPose file, or read it as COCO"
        )
    return annotations


def read_ochuman(path: Any, images_dir: str | Path | None) -> Annotations:
    """Reads OCHuman in its official COCO form (ochuman_coco_format_{val,test}_range_*.json).

    Raises:
        UserError: also for OCHuman's other form (ochuman.json, annotations inside the pictures).
    """
    try:
        return read_coco(path, images_dir, COCO_17)
    except UserError:
        file = load(path)
        if isinstance(file, list) or file.annotations:
            raise
        raise UserError(
            f"{path} lists no people beside its pictures, it is OCHuman's other form. "
            "Cure: give ochuman_coco_format_val_range_0.00_1.00.json, not ochuman.json"
        ) from None
