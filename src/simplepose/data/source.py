"""Which files a run reads, and who reads them: the seed's layout from its root alone, files named
one by one, the data sets' own forms.

root/annotations/person_keypoints_{train2017,val2017}.json
root/dets/human_detection.json
root/imagenet_weights/resnet_v1_50.ckpt
root/images/{train2017,val2017}/
root/model_dump/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from simplepose.config import DataConfig, GroundTruthBoxes, Task
from simplepose.core.errors import UserError
from simplepose.core.files import read_bytes
from simplepose.core.schema import COCO_17, CROWDPOSE_14, KeypointSchema
from simplepose.data.annotations import Annotations, Detections, ground_truth_boxes
from simplepose.data.boxes import read_labelled_boxes
from simplepose.data.categories import tell_sides
from simplepose.data.coco import load, read_coco, read_detections
from simplepose.data.mapping import concatenate, map_annotations
from simplepose.data.mpii import read_mpii
from simplepose.data.pictures import with_orientation_note, with_picture_sizes
from simplepose.data.posetrack import read_posetrack


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


Split = Literal["train", "val"]
READERS: dict[Task, Callable[[str | Path, str | Path], Annotations]] = {
    "mpii": read_mpii,
    "posetrack": read_posetrack,
    "crowdpose": read_crowdpose,
    "ochuman": read_ochuman,
    "coco": read_coco,
}
"""Who reads a data set's own form: (file or folder, folder of the pictures) -> people."""
PIECES = (
    "train_annotations",
    "train_images",
    "val_annotations",
    "val_images",
    "detections",
    "imagenet_weights",
)
"""What a data folder should hold."""


@dataclass(frozen=True, kw_only=True)
class DataLayout:
    """The pieces of a data folder. A path is where the piece is, or, if it is missing, exactly
    where it is expected."""

    root: Path
    """The folder given by the user."""
    train_annotations: Path
    """COCO keypoints JSON of the training split."""
    train_images: Path
    """Folder of the training pictures."""
    val_annotations: Path
    """COCO keypoints JSON of the validation split."""
    val_images: Path
    """Folder of the validation pictures."""
    detections: Path
    """Person boxes of a detector on the validation pictures."""
    imagenet_weights: Path
    """Folder of ImageNet backbones."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the pieces that are not there, in the order of the fields."""
        return tuple(name for name in PIECES if not getattr(self, name).exists())

    def report(self) -> list[str]:
        """One line a piece: found, or missing with the exact path expected."""
        state = dict.fromkeys(PIECES, "found") | dict.fromkeys(self.missing, "missing, expected at")
        return [f"{name:<18}{word:<22}{getattr(self, name)}" for name, word in state.items()]

    def require(self, *names: str) -> DataLayout:
        """Returns itself if the named pieces are there.

        Raises:
            UserError: lists each missing piece with the exact path expected.
        """
        absent = [name for name in names if name in self.missing]
        if absent:
            listed = "; ".join(
                f"{name.replace('_', ' ')} at {getattr(self, name)}" for name in absent
            )
            raise UserError(
                f"the data folder {self.root} lacks {listed}. "
                "Cure: put the files there, or name them with their own options"
            )
        return self


def find_layout(root: str | Path) -> DataLayout:
    """Finds the pieces below `root`; missing ones are reported by the result, not raised.

    Pictures may also lie directly under `root/train2017`. Splits of other names
    (`person_keypoints_trainX.json`) and detections are taken where exactly one file fits.

    Raises:
        UserError: `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder. "
            "Cure: give the folder that holds annotations/, dets/ and images/"
        )

    def usual_or_only(usual: Path, pattern: str) -> Path:
        others = list(usual.parent.glob(pattern))
        return others[0] if not usual.exists() and len(others) == 1 else usual

    pieces = {}
    for split in ("train", "val"):
        usual = root / "annotations" / f"person_keypoints_{split}2017.json"
        file = usual_or_only(usual, f"person_keypoints_{split}*.json")
        name = file.stem.removeprefix("person_keypoints_")
        inside, beside = root / "images" / name, root / name
        pieces[f"{split}_annotations"] = file
        pieces[f"{split}_images"] = beside if beside.is_dir() and not inside.is_dir() else inside
    return DataLayout(
        root=root,
        detections=usual_or_only(root / "dets" / "human_detection.json", "*.json"),
        imagenet_weights=root / "imagenet_weights",
        **pieces,
    )


def read_split(config: DataConfig, split: Split, *, boxes: bool = False) -> Annotations:
    """The annotations of one split; those to train on with `more_annotations` joined and the sizes
    of their pictures known.

    Args:
        config: names the files.
        split: which one.
        boxes: read the boxes of all categories (`read_labelled_boxes`), for a detector.

    Raises:
        UserError: neither `root` nor the files are given, something is missing, or a picture of
            unknown size cannot be read.
    """
    files, category = _files_of(config, split), config.category or None
    if boxes:
        found = read_labelled_boxes(*files, category=category)
        return with_orientation_note(replace(found, upright=config.upright))
    first = read_coco(*files, category=category)
    first = tell_sides(replace(first, upright=config.upright), config.flip_pairs)
    if split == "val":
        return with_orientation_note(first)
    more, folders = config.more_annotations, config.more_images
    if len(more) != len(folders):
        raise UserError(
            f"{len(more)} files in data.more-annotations but {len(folders)} folders in "
            "data.more-images. "
            "Cure: name one folder of pictures for each file, in the same order"
        )
    others = [
        replace(read_coco(*pair, category=category), upright=config.upright)
        for pair in zip(more, folders, strict=True)
    ]
    parts = [first, *(map_annotations(other, first.schema) for other in others)]
    # sizes first: joining clips boxes
    parts = [with_picture_sizes(part, skip_broken=config.skip_broken) for part in parts]
    return concatenate([with_orientation_note(part) for part in parts])


def _files_of(config: DataConfig, split: Split) -> tuple[str, str]:
    """Annotations and pictures of a split: as named, else where the layout has them."""
    names = (f"{split}_annotations", f"{split}_images")
    lacking = [name for name in names if not getattr(config, name)]
    if lacking and not config.root:
        raise UserError(
            f"no {split} data is named. Cure: give --data.root DIR, or "
            f"--data.{split}-annotations FILE and --data.{split}-images DIR"
        )
    layout: Any = find_layout(config.root).require(*lacking) if lacking else None
    file, folder = (str(getattr(config, name) or getattr(layout, name)) for name in names)
    return file, folder


def has_split(config: DataConfig, split: Split) -> bool:
    """Whether the annotations of a split are named, or there."""
    name = f"{split}_annotations"
    named, root = getattr(config, name), config.root
    return bool(named) or (bool(root) and name not in find_layout(root).missing)


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
                "boxes 'detections' means the file of the data layout, but no --data.root is "
                "given. Cure: name the detection file"
            )
        boxes = str(find_layout(root).require("detections").detections)
    if not Path(boxes).exists():
        raise UserError(
            f"no detection file at {boxes}. Cure: gt, detections, or the path of a detection file"
        )
    return read_detections(boxes, annotations)


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

    `simplepose convert` writes one object, with `head_box_xyxy` beside the people; MPII's own form
    is a .mat or a JSON list, PoseTrack's a folder or a file with other head boxes.

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
    own = task in ("crowdpose", "ochuman") or Path(path).is_dir()
    if task in ("mpii", "posetrack") and not own:
        content = read_bytes(path)
        listed = str(path).lower().endswith(".mat") or content.lstrip().startswith(b"[")
        own = listed if task == "mpii" else b'"head_box_xyxy"' not in content
    if own and task != "coco":
        return READERS[task](path, images_dir)
    return read_coco(path, images_dir, schema, category=category, allow_empty=allow_empty)
