"""Which files a run reads: the seed's layout from its root alone, or named one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simplepose.core.device import own_cores
from simplepose.core.errors import UserError
from simplepose.core.settings import require_ranges
from simplepose.data.annotations import Annotations, Detections, ground_truth_boxes, read_coco, read_detections
from simplepose.data.layout import find_layout
from simplepose.data.mapping import concatenate, map_annotations
from simplepose.data.picture_sizes import with_picture_sizes


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data is."""

    root: str = ""
    """Folder in the seed's layout: annotations/, dets/, images/{train2017,val2017}/, imagenet_weights/."""
    train_annotations: str = ""
    """COCO-keypoints JSON to train on, in place of the layout's."""
    train_images: str = ""
    """Its pictures."""
    more_annotations: tuple[str, ...] = ()
    """More COCO-keypoints files to train on; their keypoints are mapped by name."""
    more_images: tuple[str, ...] = ()
    """The folder of pictures of each of them."""
    val_annotations: str = ""
    """COCO-keypoints JSON to evaluate on, in place of the layout's."""
    val_images: str = ""
    """Its pictures."""
    category: str = ""
    """Id or name of one category, where a file has several with different keypoints."""
    boxes: str = "gt"
    """Boxes of the evaluation during training: gt, detections (the layout's file) or a detection file."""
    skip_broken: bool = False
    """Leave unreadable pictures out and count them, instead of stopping at the first; also in `simplepose pack`."""
    workers: int = 0
    """Threads that read and cut pictures; 0: one for each core, shared among the processes of this machine."""
    cache: Literal["auto", "files", "pack", "ram", "device"] = "auto"
    """Where pixels are while training: decoded again from the files each time, in a pack, or decoded once into the host's or the device's
    memory. auto takes the fastest that fits and says why."""
    pack: str = ""
    """The zip that `simplepose pack` wrote, for cache pack."""
    warp: Literal["auto", "host", "device"] = "auto"
    """Who cuts crops out of pictures: the host with OpenCV, or the device, all crops of a batch at once. auto: an accelerator does."""
    shard: bool = False
    """Several processes: each caches only its own part of the people and shuffles inside it."""

    def __post_init__(self) -> None:
        require_ranges("data", self, {"workers": (0, math.inf)})

    @property
    def threads(self) -> int:
        """How many `workers` are."""
        return self.workers or own_cores()


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
    return concatenate([with_picture_sizes(part, skip_broken=config.skip_broken) for part in parts])  # sizes first: joining clips boxes


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
    wanted = [name for name, given in ((f"{split}_annotations", annotations), (f"{split}_images", images)) if not given]
    layout.require(*wanted)
    annotations, images = annotations or getattr(layout, f"{split}_annotations"), images or getattr(layout, f"{split}_images")
    return read_coco(annotations, images, category=config.category or None)


def has_split(config: DataConfig, split: Literal["train", "val"]) -> bool:
    """Whether the files of a split are there."""
    annotations = config.train_annotations if split == "train" else config.val_annotations
    return bool(annotations) or (bool(config.root) and f"{split}_annotations" not in find_layout(config.root).missing)


def boxes_to_test(boxes: str, annotations: Annotations, root: str = "") -> Detections:
    """The boxes to test on.

    Args:
        boxes: `gt`, `detections` (the layout's file below `root`) or the path of a detection file.
        annotations: the pictures.
        root: the layout's root.
    """
    if boxes == "gt":
        return ground_truth_boxes(annotations)
    if boxes == "detections":
        if not root:
            raise UserError(
                "boxes 'detections' means the file of the data layout, but no --data.root is given. Cure: name the detection file"
            )
        boxes = str(find_layout(root).require("detections").detections)
    if not Path(boxes).exists():
        raise UserError(f"no detection file at {boxes}. Cure: gt, detections, or the path of a detection file")
    return read_detections(boxes, annotations)
