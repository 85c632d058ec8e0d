"""Which keypoints a subject has: names, skeleton, left/right pairs, OKS sigmas, body halves."""

from __future__ import annotations

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.settings import settings

DEFAULT_SIGMA = 0.05
"""OKS sigma for keypoints nobody measured: between COCO's eyes (.025) and its hips (.107)."""


@settings("schema")
class KeypointSchema:
    """The vocabulary of one kind of subject with K keypoints. All indices are 0-based."""

    name: str
    """Short identifier, e.g. `coco_17`."""
    keypoints: tuple[str, ...]
    """K keypoint names."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoint indices that are joined by a limb."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Pairs (left, right) that swap when the picture is mirrored."""
    sigmas: tuple[float, ...] = ()
    """K OKS constants; `DEFAULT_SIGMA` for each where none are given."""
    upper_body: tuple[int, ...] = ()
    """Indices of the upper body, for half-body augmentation; empty where the idea does not apply."""
    lower_body: tuple[int, ...] = ()
    """Indices of the lower body."""

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if not count:
            raise UserError(
                f"schema {self.name!r} has no keypoints. Cure: list at least one keypoint name"
            )
        if len(set(self.keypoints)) != count:
            raise UserError(
                f"schema {self.name!r} names a keypoint twice: {list(self.keypoints)}. Cure: make the names unique"
            )
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * count)
        if len(self.sigmas) != count:
            raise UserError(
                f"schema {self.name!r} has {count} keypoints but {len(self.sigmas)} sigmas. Cure: give one OKS sigma for each keypoint"
            )
        if not all(np.isfinite(sigma) and sigma > 0 for sigma in self.sigmas):
            raise UserError(
                f"schema {self.name!r} has a sigma that is not positive: {list(self.sigmas)}. Cure: use positive numbers"
            )
        for field in ("skeleton", "flip_pairs"):
            for pair in getattr(self, field):
                if len(pair) != 2 or not all(0 <= index < count for index in pair):
                    raise UserError(
                        f"schema {self.name!r}: {field} entry {pair} is outside 0..{count - 1}. Cure: use 0-based indices"
                    )
        flipped = [index for pair in self.flip_pairs for index in pair]
        if len(set(flipped)) != len(flipped):
            raise UserError(
                f"schema {self.name!r}: a keypoint stands in two flip pairs. Cure: pair each keypoint once"
            )
        for field in ("upper_body", "lower_body"):
            if not all(0 <= index < count for index in getattr(self, field)):
                raise UserError(
                    f"schema {self.name!r}: {field} has an index outside 0..{count - 1}. Cure: use 0-based indices"
                )

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_order(self) -> np.ndarray:
        """(K,) int64: `keypoints[flip_order]` is the order after mirroring the picture."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order


def infer_flip_pairs(names: tuple[str, ...] | list[str]) -> tuple[tuple[int, int], ...]:
    """Left/right pairs from names: `left_eye`/`right_eye`, `Eye.L`/`Eye.R`, `l-knee`/`r-knee`, `LShoulder`/`RShoulder`, `eye_left`.

    Args:
        names: K keypoint names.

    Returns:
        Pairs of indices (left, right), in the order of the left names.
    """
    import re

    def mirrored(name: str) -> str | None:
        swapped = re.sub(
            "left",
            lambda m: {"left": "right", "Left": "Right", "LEFT": "RIGHT"}.get(m[0], "right"),
            name,
            flags=re.I,
        )
        if swapped != name:
            return swapped
        for pattern, replacement in (
            (r"(^|[^A-Za-z])l(?=$|[^A-Za-z])", r"\1r"),
            (r"(^|[^A-Za-z])L(?=$|[^A-Za-z])", r"\1R"),
            (r"^L(?=[A-Z])", "R"),
        ):
            swapped = re.sub(pattern, replacement, name, count=1)
            if swapped != name:
                return swapped
        return None

    place = {name: index for index, name in enumerate(names)}
    pairs = ((place[name], place.get(mirrored(name) or "")) for name in names)
    return tuple((left, right) for left, right in pairs if right is not None)


COCO_17 = KeypointSchema(
    name="coco_17",
    keypoints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    skeleton=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
    upper_body=tuple(range(11)),
    lower_body=tuple(range(11, 17)),
)

MPII_16 = KeypointSchema(
    name="mpii_16",
    keypoints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    skeleton=(
        (0, 1),
        (1, 2),
        (2, 6),
        (6, 3),
        (3, 4),
        (4, 5),
        (6, 7),
        (7, 8),
        (8, 9),
        (7, 12),
        (12, 11),
        (11, 10),
        (7, 13),
        (13, 14),
        (14, 15),
    ),
    flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    sigmas=(
        0.089,
        0.087,
        0.107,
        0.107,
        0.087,
        0.089,
        0.107,
        0.079,
        0.079,
        0.079,
        0.062,
        0.072,
        0.079,
        0.079,
        0.072,
        0.062,
    ),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
    lower_body=(0, 1, 2, 3, 4, 5, 6),
)
"""MPII publishes no OKS sigmas; these are COCO's for the like joint, .107 for the pelvis and .079 for neck, thorax and head top."""

POSETRACK_15 = KeypointSchema(
    name="posetrack_15",
    keypoints=(
        "nose",
        "head_bottom",
        "head_top",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    skeleton=(
        (13, 11),
        (11, 9),
        (14, 12),
        (12, 10),
        (9, 10),
        (3, 9),
        (4, 10),
        (3, 4),
        (3, 5),
        (4, 6),
        (5, 7),
        (6, 8),
        (0, 1),
        (0, 2),
        (1, 3),
        (1, 4),
    ),
    flip_pairs=((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14)),
    sigmas=(
        0.026,
        0.079,
        0.079,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
    upper_body=tuple(range(9)),
    lower_body=tuple(range(9, 15)),
)
"""PoseTrack's scoring keypoints: the 17 of its files without the ears. Sigmas are COCO's for the like joint."""

CROWDPOSE_14 = KeypointSchema(
    name="crowdpose_14",
    keypoints=(
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        "head",
        "neck",
    ),
    skeleton=(
        (10, 8),
        (8, 6),
        (11, 9),
        (9, 7),
        (6, 7),
        (0, 6),
        (1, 7),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (12, 13),
        (13, 0),
        (13, 1),
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    sigmas=(
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
        0.079,
        0.079,
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
    lower_body=(6, 7, 8, 9, 10, 11),
)

SCHEMAS = {schema.name: schema for schema in (COCO_17, MPII_16, POSETRACK_15, CROWDPOSE_14)}


def schema_named(name: str) -> KeypointSchema:
    """The built-in schema called `name`.

    Raises:
        UserError: there is none; lists the names.
    """
    if name not in SCHEMAS:
        raise UserError(f"there is no schema {name!r}. Cure: one of {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def schema_with(count: int) -> KeypointSchema | None:
    """The built-in schema with so many keypoints; None if there is none."""
    return next((schema for schema in SCHEMAS.values() if len(schema) == count), None)
