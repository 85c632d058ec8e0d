"""A whole data set as columns: Annotations (people with keypoints) and Detections (boxes to
estimate poses in).

N people or boxes, M pictures, K keypoints. All coordinates are pixels of the full picture, pixel
centres at whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from simplepose.config import GroundTruthBoxes
from simplepose.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from simplepose.core.errors import UserError
from simplepose.core.schema import KeypointSchema

COLUMNS: dict[str, tuple[str, type]] = {
    "image_ids": ("M", np.int64),
    "image_sizes_wh": ("M2", np.int32),
    "annotation_ids": ("N", np.int64),
    "image_index": ("N", np.int64),
    "bbox_xywh": ("N4", np.float32),
    "keypoints": ("NK2", np.float32),
    "visibility": ("NK", np.uint8),
    "area": ("N", np.float32),
    "is_crowd": ("N", np.bool_),
    "track_ids": ("N", np.int64),
    "head_boxes_xyxy": ("N4", np.float32),
    "person_categories": ("N", np.int64),
    "unscored": ("N", np.bool_),
}
"""Shape and dtype of each column of `Annotations`, one letter or digit an axis."""
UNLABELLED = "have no labelled keypoint"
LEFT_OUT = {
    UNLABELLED: "annotate keypoints with visibility 1 or 2",
    "are crowds": "set iscrowd to 0 for single people",
    "have a box without width or height": "give each person a bbox: x, y, width, height",
    "have a box outside their picture, or one pixel wide": "correct bbox, or the pictures' sizes",
    "have no positive area": "leave `area` out (it is then made from the box), or correct it",
}
"""Why somebody is not trained on, and the cure."""
PER_PERSON = [name for name, (axes, _) in COLUMNS.items() if axes[0] == "N"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Annotations:
    """N annotated people in M pictures. Rows are selected with `select`; the pictures always stay,
    also those without people."""

    schema: KeypointSchema
    """Which K keypoints."""
    source: str
    """The file it came from, for messages."""
    image_ids: np.ndarray
    """(M,) int64."""
    image_paths: tuple[str, ...]
    """M full paths."""
    image_sizes_wh: np.ndarray
    """(M, 2) int32; 0 where unknown."""
    annotation_ids: np.ndarray
    """(N,) int64."""
    image_index: np.ndarray
    """(N,) int64: the picture of each person, an index into the M pictures."""
    bbox_xywh: np.ndarray
    """(N, 4) float32, pixels."""
    keypoints: np.ndarray
    """(N, K, 2) float32, pixels of the full picture."""
    visibility: np.ndarray
    """(N, K) uint8: 0 not labelled, 1 labelled but hidden, 2 labelled and visible."""
    area: np.ndarray
    """(N,) float32, square pixels, the scale of the OKS."""
    is_crowd: np.ndarray
    """(N,) bool: a group drawn as one, never trained on and ignored in scoring."""
    track_ids: np.ndarray | None = None
    """(N,) int64 identities through a video (-1 where one is missing), or None where nothing is
    tracked."""
    category_id: int = 1
    """Category of the people in the file and in result files."""
    more_categories: tuple[int, ...] = ()
    """Others of the file with the same keypoints, read as one with it: their boxes in a detection
    file are people too."""
    person_categories: np.ndarray | None = None
    """(N,) int64 category of each person, or None where all have `category_id`."""
    unscored: np.ndarray | None = None
    """(N,) bool: labelled people whom the file gives 0 as `num_keypoints` (CrowdPose): trained on,
    ignored in scoring as by the COCO code; or None where there is nobody."""
    category_numbers: Mapping[int | str, int] = field(default_factory=dict)
    """The number of each category of the file by the id that the file gives it, words included."""
    warnings: tuple[str, ...] = ()
    """What was repaired or synthesised while reading, with counts."""
    head_boxes_xyxy: np.ndarray | None = None
    """(N, 4) float32 boxes of the heads (MPII, PoseTrack), NaN where one is missing, or None."""
    image_extras: tuple[dict[str, Any], ...] = ()
    """What a data set says beside a picture, M dictionaries (empty ones where none are given):
    `spelled_id` (an id that is a word); `crowdIndex` (CrowdPose); `vid_id`, `frame_id`,
    `is_labeled`, `ignore_regions_x`, `ignore_regions_y` (PoseTrack)."""
    clip_boxes: bool = True
    """False where a box is the crop itself (MPII: from centre and scale) and must not be cut at the
    picture's border."""
    joined_files: tuple[str, ...] = ()
    """The files that were joined; empty where `source` is the only one."""
    upright: bool = False
    """Whether boxes and keypoints are of the pictures turned as their EXIF says (one's own phone
    pictures); False: of the raster as stored, as in COCO."""

    def __post_init__(self) -> None:
        pictures = len(self.image_ids)
        object.__setattr__(self, "image_extras", self.image_extras or ({},) * pictures)
        _freeze(self, COLUMNS, N=len(self), M=pictures, K=len(self.schema))
        for name in ("image_paths", "image_extras"):
            if len(value := getattr(self, name)) != pictures:
                raise UserError(
                    f"{self.source}: {len(value)} {name} for {pictures} pictures. "
                    "Cure: pass one a picture"
                )
        if len(self) and not (0 <= self.image_index.min() <= self.image_index.max() < pictures):
            raise UserError(
                f"{self.source}: image_index is outside 0..{pictures - 1}. "
                "Cure: point each person at one of the pictures"
            )

    def __len__(self) -> int:
        return len(self.annotation_ids)

    def __repr__(self) -> str:
        sizes = f"pictures={len(self.image_ids)}, people={len(self)}"
        return f"Annotations({self.source!r}, schema={self.schema.name!r}, {sizes})"

    @property
    def source_files(self) -> tuple[str, ...]:
        """All files that the people came from."""
        return self.joined_files or (self.source,)

    @property
    def keypoint_counts(self) -> np.ndarray:
        """(N,) int64: labelled keypoints of each person (COCO's `num_keypoints`)."""
        return (self.visibility > 0).sum(1)

    @property
    def person_sizes_wh(self) -> np.ndarray:
        """(N, 2) int32: the size of each person's picture; 0 where unknown."""
        return self.image_sizes_wh[self.image_index]

    def select(self, rows: np.ndarray) -> Annotations:
        """The people of a boolean mask (N,) or of indices, in their order; pictures are kept."""
        rows = np.arange(len(self))[rows]
        columns = {name: getattr(self, name) for name in PER_PERSON}
        kept = {name: column[rows] for name, column in columns.items() if column is not None}
        return replace(self, **kept)

    def clipped_bbox_xywh(self) -> np.ndarray:
        """(N, 4) float32 boxes as both references train on them: cut to the picture, one pixel
        smaller than annotated.

        x1 = max(0, x); x2 = min(W - 1, x1 + max(0, w - 1)), the same for y; a box cut at the left
        keeps its width (their quirk). Where a picture's size is unknown or `clip_boxes` is False
        the box stays as it is. A side may come out zero or negative.
        """
        if not self.clip_boxes:
            return self.bbox_xywh
        box = self.bbox_xywh.astype(np.float64)
        top_left = np.maximum(box[:, :2], 0)
        bottom_right = np.minimum(
            self.person_sizes_wh - 1, top_left + np.maximum(box[:, 2:] - 1, 0)
        )
        clipped = np.concatenate([top_left, bottom_right - top_left], axis=1)
        known = (self.person_sizes_wh > 0).all(1, keepdims=True)
        return np.where(known, clipped, box).astype(np.float32)

    def trainable(self) -> Annotations:
        """The people both references train on, with their clipped boxes.

        Kept: no crowd, at least one labelled keypoint, positive area, and a clipped box with
        positive sides. The references also keep a clipped side of exactly 0 (a box one pixel wide),
        whose crop would be one point; that we do not follow. `warnings` counts people with
        labelled keypoints who are left out.

        Raises:
            UserError: nobody is left; says why.
        """
        reasons = self.left_out()
        kept = ~np.any([*reasons.values()], axis=0)
        note, cure = self.left_out_note()
        if not kept.any():
            raise UserError(f"{self.source} has nobody to train on: {note}. Cure: {cure}")
        boxes = self.clipped_bbox_xywh()
        warnings = (*self.warnings, *[f"{self.source}: {note}"] * bool(note))
        return replace(self, bbox_xywh=boxes, clip_boxes=False, warnings=warnings).select(kept)

    def left_out(self) -> dict[str, np.ndarray]:
        """Why people are not trained on, the reasons of `LEFT_OUT`: reason -> mask (N,), everybody
        under one reason at most."""
        boxes = self.clipped_bbox_xywh()
        masks = (
            self.keypoint_counts == 0,
            self.is_crowd,
            ~(self.bbox_xywh[:, 2:] > 0).all(1),
            ~(boxes[:, 2:] > 0).all(1),
            ~(self.area > 0),
        )
        taken, reasons = np.zeros(len(self), bool), {}
        for reason, mask in zip(LEFT_OUT, masks, strict=True):
            reasons[reason] = mask & ~taken
            taken |= mask
        return reasons

    def left_out_note(self) -> tuple[str, str]:
        """How many people with labelled keypoints are not trained on, and why; and the cure of the
        most frequent reason. Empty where all are; nobody with keypoints is a reason too."""
        counts = {reason: int(mask.sum()) for reason, mask in self.left_out().items()}
        labelled = len(self) - counts[UNLABELLED]
        if labelled:
            del counts[UNLABELLED]
        found = {reason: count for reason, count in counts.items() if count}
        if not found:
            return "" if len(self) else "no person is annotated", LEFT_OUT[UNLABELLED]
        whom = "people with labelled keypoints" if labelled else "people"
        said = ", ".join(f"{count} {reason}" for reason, count in found.items())
        total = labelled or len(self)
        cure = LEFT_OUT[max(found, key=found.__getitem__)]
        return f"{sum(found.values())} of {total} {whom} are left out: {said}", cure


GROUND_TRUTH = {protocol: f"ground truth, {protocol}" for protocol in get_args(GroundTruthBoxes)}
"""Protocol -> the source of its boxes."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Detections:
    """D boxes of people in the pictures of an `Annotations`."""

    image_index: np.ndarray
    """(D,) int64: index into the pictures of the annotations."""
    boxes_xyxy: np.ndarray
    """(D, 4) float32, pixels, not cut to the picture."""
    scores: np.ndarray
    """(D,) float32."""
    source: str
    """The file, or `GROUND_TRUTH`: printed beside every AP."""
    notes: tuple[tuple[int, str], ...] = ()
    """How many boxes of the file, and what about them: `(3, "have no score above 0 and are left
    out")`."""

    def __post_init__(self) -> None:
        columns: dict[str, tuple[str, type]] = {
            "image_index": ("D", np.int64),
            "boxes_xyxy": ("D4", np.float32),
            "scores": ("D", np.float32),
        }
        _freeze(self, columns, D=len(self))

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        pictures = len(np.unique(self.image_index))
        return f"Detections({self.source!r}, boxes={len(self)}, pictures={pictures})"

    def select(self, rows: np.ndarray) -> Detections:
        """The boxes of a boolean mask (D,) or of indices."""
        return replace(
            self,
            image_index=self.image_index[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes as sentences that name the file."""
        return tuple(f"{self.source}: {count} boxes {what}" for count, what in self.notes)

    @property
    def bbox_xywh(self) -> np.ndarray:
        """(D, 4) left, top, width, height."""
        return xyxy_to_xywh(self.boxes_xyxy)


def ground_truth_boxes(
    annotations: Annotations,
    protocol: GroundTruthBoxes = "annotated",
) -> Detections:
    """Annotated people as boxes with score 1, by one of three protocols: AP depends on which.

    Args:
        annotations: N people. `clipped` needs the sizes of their pictures: where one is unknown, or
            `clip_boxes` is False, a box stays as annotated.
        protocol: whose boxes, and how.
            `annotated`: as annotated; without crowds, people without a labelled keypoint, and boxes
            without positive sides.
            `clipped`, Microsoft's test: the same people in the boxes both references train on
            (`Annotations.clipped_bbox_xywh`); without people of no area, and boxes that clipping
            turns inside out. A clipped side of 0 stays, as there.
            `everybody`, the seed's `useGTbbox`: as annotated, also the boxes of crowds and of
            people without keypoints; only those without positive sides are left out.

    Raises:
        UserError: there is no such protocol.
    """
    if protocol not in GROUND_TRUTH:
        words = ", ".join(GROUND_TRUTH)
        raise UserError(f"there are no ground-truth boxes {protocol!r}. Cure: one of {words}")
    boxes, people = annotations.bbox_xywh, ~annotations.is_crowd & (annotations.keypoint_counts > 0)
    if protocol == "clipped":
        boxes = annotations.clipped_bbox_xywh()
        kept = people & (annotations.area > 0) & (boxes[:, 2:] >= 0).all(1)
    else:
        kept = (people | (protocol == "everybody")) & (boxes[:, 2:] > 0).all(1)
    return Detections(
        image_index=annotations.image_index[kept],
        boxes_xyxy=xywh_to_xyxy(boxes[kept].astype(np.float64)),
        scores=np.ones(int(kept.sum())),
        source=GROUND_TRUTH[protocol],
    )


def _freeze(
    owner: Annotations | Detections, columns: dict[str, tuple[str, type]], **sizes: int
) -> None:
    """Gives each column its dtype, checks its shape, and makes it read-only."""
    for name, (axes, dtype) in columns.items():
        if (value := getattr(owner, name)) is None:
            continue
        shape = tuple(sizes[axis] if axis in sizes else int(axis) for axis in axes)
        array: np.ndarray = np.asarray(value, dtype)
        array = array.reshape(shape) if array.size == 0 and 0 in shape else array.view()
        if array.shape != shape:
            raise UserError(
                f"{owner.source}: {name} has shape {array.shape}, expected {shape}. "
                "Cure: pass one row a person, picture or box"
            )
        array.flags.writeable = False
        object.__setattr__(owner, name, array)
