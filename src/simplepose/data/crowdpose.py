"""CrowdPose and OCHuman: COCO-like files with their own conventions -> Annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from simplepose.data.annotations import AREA_FRACTION, read_coco
from simplepose.data.columns import Annotations
from simplepose.errors import UserError
from simplepose.schema import COCO_17, CROWDPOSE_14


def read_crowdpose(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads crowdpose_{train,val,test,trainval}.json.

    The area is always that of the box x 0.53, as CrowdPose's own evaluation takes it; `image_extras[i]["crowdIndex"]` is the crowding of
    picture i; where easy ends and hard begins is `evaluation.crowdpose`'s to say.

    Raises:
        UserError: also where pictures lack `crowdIndex`.
    """
    annotations = read_coco(path, images_dir, CROWDPOSE_14)
    if annotations.image_extras is None or not all("crowdIndex" in extra for extra in annotations.image_extras):
        raise UserError(f"{path}: pictures lack crowdIndex. Cure: give the official CrowdPose file, or read it as COCO")
    area = AREA_FRACTION * annotations.bbox_xywh[:, 2].astype(np.float64) * annotations.bbox_xywh[:, 3]
    kept = tuple(warning for warning in annotations.warnings if "have no area" not in warning)
    return replace(annotations, area=area, warnings=kept)


def read_ochuman(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads OCHuman in its official COCO form (ochuman_coco_format_{val,test}_range_0.00_1.00.json).

    Raises:
        UserError: also for OCHuman's other form (ochuman.json, 19 keypoints, annotations inside the pictures).
    """
    try:
        return read_coco(path, images_dir, COCO_17)
    except UserError as error:
        if "no annotation" in str(error):
            raise UserError(f"{error}. OCHuman: give ochuman_coco_format_val_range_0.00_1.00.json, not ochuman.json") from error
        raise
