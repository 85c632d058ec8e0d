"""Which files a run reads: the seed's layout from its root alone, or named one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simplepose.config import DataConfig, GroundTruthBoxes
from simplepose.core.errors import UserError
from simplepose.data.annotations import Annotations, Detections, ground_truth_boxes
from simplepose.data.coco import read_coco, read_detections
from simplepose.data.layout import find_layout
from simplepose.data.mapping import concatenate, map_annotations
from simplepose.data.pictures import with_picture_sizes


def read_split(config: DataConfig, split: Literal["train", "val"]) -> Annotations:
    """The annotations of one split; those to train on with `more_annotations` joined and the sizes of their pictures known.

    Raises:
        UserError: neither `root` nor the files are given, something is missing, or a picture of unknown size cannot be read.
    """
    first = _read_first(config, split)
    if split == "val":
        return first
    if len(config.more_annotations) != len(config.more_images):
        raise UserError(
            f"{len(config.more_annotations)} files in data.more-annotations but {len(config.more_images)} folders in data.more-images. "
            "Cure: name one folder of pictures for each file, in the same order"
        )
    others = [
        read_coco(file, images, category=config.category or None)
        for file, images in zip(config.more_annotations, config.more_images, strict=True)
    ]
    parts = [first, *(map_annotations(other, first.schema) for other in others)]
    return concatenate(
        [with_picture_sizes(part, skip_broken=config.skip_broken) for part in parts]
    )  # sizes first: joining clips boxes


def _read_first(config: DataConfig, split: Literal["train", "val"]) -> Annotations:
    """The one file of a split."""
    annotations = config.train_annotations if split == "train" else config.val_annotations
    images = config.train_images if split == "train" else config.val_images
    if annotations and images:
        return read_coco(annotations, images, category=config.category or None)
    if not config.root:
        raise UserError(
            f"no {split} data is named. Cure: give --data.root DIR, or --data.{split}-annotations FILE and --data.{split}-images DIR"
        )
    layout = find_layout(config.root)
    wanted = [
        name
        for name, given in ((f"{split}_annotations", annotations), (f"{split}_images", images))
        if not given
    ]
    layout.require(*wanted)
    annotations, images = (
        annotations or getattr(layout, f"{split}_annotations"),
        images or getattr(layout, f"{split}_images"),
    )
    return read_coco(annotations, images, category=config.category or None)


def has_split(config: DataConfig, split: Literal["train", "val"]) -> bool:
    """Whether the files of a split are there."""
    annotations = config.train_annotations if split == "train" else config.val_annotations
    return bool(annotations) or (
        bool(config.root) and f"{split}_annotations" not in find_layout(config.root).missing
    )


def boxes_to_test(
    boxes: str,
    annotations: Annotations,
    root: str = "",
    *,
    ground_truth: GroundTruthBoxes = "annotated",
    skip_broken: bool = False,
) -> Detections:
    """The boxes to test on.

    Args:
        boxes: `gt`, `detections` (the layout's file below `root`) or the path of a detection file.
        annotations: the pictures.
        root: the layout's root.
        ground_truth: which boxes `gt` means. For `clipped` the sizes of pictures that the
            annotations do not tell are read from the files.
        skip_broken: go on where such a picture cannot be read.

    Raises:
        UserError: a file is missing or damaged.
    """
    if boxes == "gt":
        if ground_truth == "clipped" and annotations.clip_boxes:
            annotations = with_picture_sizes(annotations, skip_broken=skip_broken)
        return ground_truth_boxes(annotations, ground_truth)
    if boxes == "detections":
        if not root:
            raise UserError(
                "boxes 'detections' means the file of the data layout, but no --data.root is given. Cure: name the detection file"
            )
        boxes = str(find_layout(root).require("detections").detections)
    if not Path(boxes).exists():
        raise UserError(
            f"no detection file at {boxes}. Cure: gt, detections, or the path of a detection file"
        )
    return read_detections(boxes, annotations)
