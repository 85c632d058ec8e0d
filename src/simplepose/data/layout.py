"""The seed's folder layout, found from its root alone.

root/annotations/person_keypoints_{train2017,val2017}.json
root/dets/human_detection.json
root/imagenet_weights/resnet_v1_50.ckpt
root/images/{train2017,val2017}/
root/model_dump/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simplepose.core.errors import UserError

PIECES = (
    "train_annotations",
    "train_images",
    "val_annotations",
    "val_images",
    "detections",
    "imagenet_weights",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLayout:
    """The pieces of a data folder. A path is where the piece is, or, if it is missing, exactly where it is expected."""

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
    """Folder of ImageNet trunks."""
    model_dump: Path
    """Folder for runs; need not exist."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the pieces that are not there, in the order of the fields."""
        return tuple(name for name in PIECES if not getattr(self, name).exists())

    def report(self) -> list[str]:
        """One line a piece: found, or missing with the exact path expected."""
        state = {
            name: "missing, expected at" if name in self.missing else "found" for name in PIECES
        }
        return [f"{name:<18}{state[name]:<22}{getattr(self, name)}" for name in PIECES]

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
                f"the data folder {self.root} lacks {listed}. Cure: put the files there, or name them with their own options"
            )
        return self


def find_layout(root: str | Path) -> DataLayout:
    """Finds the pieces below `root`; missing ones are reported by the result, not raised.

    Pictures may also lie directly under `root/train2017`. Splits of other names (`person_keypoints_trainX.json`) are taken
    where exactly one file fits.

    Raises:
        UserError: `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder. Cure: give the folder that holds annotations/, dets/ and images/"
        )
    splits = {split: _split(root, split) for split in ("train", "val")}
    return DataLayout(
        root=root,
        train_annotations=root / "annotations" / f"person_keypoints_{splits['train']}.json",
        train_images=_images(root, splits["train"]),
        val_annotations=root / "annotations" / f"person_keypoints_{splits['val']}.json",
        val_images=_images(root, splits["val"]),
        detections=_detections(root),
        imagenet_weights=root / "imagenet_weights",
        model_dump=root / "model_dump",
    )


def _split(root: Path, kind: str) -> str:
    """The name of the train or val split: `train2017`, or the only other one that has an annotation file."""
    usual = f"{kind}2017"
    if (root / "annotations" / f"person_keypoints_{usual}.json").exists():
        return usual
    others = sorted((root / "annotations").glob(f"person_keypoints_{kind}*.json"))
    return others[0].stem.removeprefix("person_keypoints_") if len(others) == 1 else usual


def _images(root: Path, split: str) -> Path:
    expected = root / "images" / split
    return next((folder for folder in (expected, root / split) if folder.is_dir()), expected)


def _detections(root: Path) -> Path:
    expected = root / "dets" / "human_detection.json"
    others = sorted((root / "dets").glob("*.json"))
    return others[0] if not expected.exists() and len(others) == 1 else expected
