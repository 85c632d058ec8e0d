"""CrowdPose and OCHuman: COCO-like files with their own conventions -> Annotations."""

from __future__ import annotations

from pathlib import Path

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14
from simplepose.data.annotations import coco_annotations, read_coco
from simplepose.data.coco_columns import loads
from simplepose.data.columns import Annotations


def read_crowdpose(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads crowdpose_{train,val,test,trainval}.json.

    The area is always that of the box x 0.53, as CrowdPose's own evaluation takes it; `image_extras[i]["crowdIndex"]` is the crowding of
    picture i; where easy ends and hard begins is `evaluation.crowdpose`'s to say.

    Raises:
        UserError: also where pictures lack `crowdIndex`.
    """
    annotations = read_coco(path, images_dir, CROWDPOSE_14, box_areas=True)
    if annotations.image_extras is None or not all("crowdIndex" in extra for extra in annotations.image_extras):
        raise UserError(f"{path}: pictures lack crowdIndex. Cure: give the official CrowdPose file, or read it as COCO")
    return annotations


def read_ochuman(path: str | Path, images_dir: str | Path) -> Annotations:
    """Reads OCHuman in its official COCO form (ochuman_coco_format_{val,test}_range_0.00_1.00.json).

    Raises:
        UserError: also for OCHuman's other form (ochuman.json, 19 keypoints, annotations inside the pictures).
    """
    content = loads(path)
    if isinstance(content, dict) and not content.get("annotations"):
        raise UserError(
            f"{path} lists no people beside its pictures, it is OCHuman's other form. "
            "Cure: give ochuman_coco_format_val_range_0.00_1.00.json, not ochuman.json"
        )
    return coco_annotations(content, str(path), images_dir, COCO_17)
