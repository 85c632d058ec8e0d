"""Which keypoints a subject has: names, skeleton, left/right pairs, OKS sigmas, body halves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import chain

import numpy as np

from simplepose.core.errors import UserError, nearest
from simplepose.core.files import own_yaml
from simplepose.core.settings import Integer, Positive, build, settings

DEFAULT_SIGMA = 0.05
"""OKS sigma for keypoints nobody measured: between COCO's eyes (.025) and its hips (.107)."""
Pair = tuple[Integer, Integer]


@settings("schema")
class KeypointSchema:
    """The vocabulary of one kind of subject with K keypoints. All indices are 0-based."""

    name: str
    """Short identifier, e.g. `coco_17`."""
    keypoints: tuple[str, ...]
    """K keypoint names."""
    skeleton: tuple[Pair, ...] = ()
    """Pairs of keypoint indices that are joined by a limb."""
    flip_pairs: tuple[Pair, ...] = ()
    """Pairs (left, right) that swap when the picture is mirrored; a keypoint in the middle may be
    paired with itself. Without any pair nobody knows the sides, and nothing is mirrored."""
    sigmas: tuple[Positive, ...] = ()
    """K OKS constants; `DEFAULT_SIGMA` for each where none are given."""
    upper_body: tuple[Integer, ...] = ()
    """Indices of the upper body, for half-body augmentation; empty where the idea does not
    apply."""
    lower_body: tuple[Integer, ...] = ()
    """Indices of the lower body."""

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * count)
        flipped = list(chain(*map(set, self.flip_pairs)))
        indices = {*flipped, *chain(*self.skeleton), *self.upper_body, *self.lower_body}
        outside = sorted(indices - set(range(count)))
        for wrong, problem in (
            (not count, "has no keypoints. Cure: list at least one keypoint name"),
            (
                len(set(self.keypoints)) < count,
                f"names a keypoint twice: {list(self.keypoints)}. Cure: make the names unique",
            ),
            (
                len(self.sigmas) != count,
                f"has {count} keypoints but {len(self.sigmas)} sigmas. "
                "Cure: give one OKS sigma for each keypoint",
            ),
            (
                outside,
                f"has indices outside 0..{count - 1}: {outside}, in skeleton, flip_pairs, "
                "upper_body or lower_body. Cure: use 0-based indices",
            ),
            (
                len(set(flipped)) < len(flipped),
                "has a keypoint in two flip pairs. Cure: pair each keypoint once",
            ),
        ):
            if wrong:
                raise UserError(f"schema {self.name!r} {problem}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def _repr_html_(self) -> str:
        partners = dict([*self.flip_pairs, *(pair[::-1] for pair in self.flip_pairs)])
        rows = "".join(
            f"<tr><td>{index}</td><td>{escape(name)}</td><td>{partners.get(index, '')}</td>"
            f"<td>{sigma:g}</td></tr>"
            for index, (name, sigma) in enumerate(zip(self.keypoints, self.sigmas, strict=True))
        )
        titles = "<tr><th></th><th>keypoint</th><th>other side</th><th>OKS sigma</th></tr>"
        return f"<b>{escape(self.name)}</b><table>{titles}{rows}</table>"

    @property
    def knows_sides(self) -> bool:
        """Whether pictures may be mirrored: its left/right pairs are known."""
        return bool(self.flip_pairs)

    @property
    def flip_order(self) -> np.ndarray:
        """(K,) int64: `keypoints[flip_order]` is the order after mirroring the picture."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    def sides_note(self, option: str = "--data.flip-pairs") -> str:
        """The sentence to show where its sides are not known; else empty.

        Args:
            option: names the file of pairs on the command line.
        """
        if self.knows_sides:
            return ""
        return (
            f"no left/right pairs are known of {self.name} ({', '.join(self.keypoints)[:80]}): "
            "mirrored training (augment.flip_probability) and the flip test are off; to turn them "
            f"on, name the pairs with {option} FILE"
        )


_LEFT_TO_RIGHT = (
    ("left", "right"),
    ("Left", "Right"),
    ("LEFT", "RIGHT"),
    (r"(?<![A-Za-z])l(?![A-Za-z])", "r"),
    (r"(?<![A-Za-z])L(?![A-Za-z])", "R"),
    (r"^L(?=[A-Z])", "R"),
)


def infer_flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Left/right pairs from names: `left_eye`/`right_eye`, `Eye.L`/`Eye.R`, `l-knee`/`r-knee`,
    `LShoulder`/`RShoulder`, `eye_left`.

    Args:
        names: K keypoint names.

    Returns:
        Pairs of indices (left, right), in the order of the left names.
    """
    index = {name: number for number, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for left in names:
        for pattern, replacement in _LEFT_TO_RIGHT:
            right = re.sub(pattern, replacement, left)
            if right != left and right in index:
                pairs.setdefault(index[left], index[right])
    return tuple(pairs.items())


SCHEMAS = {
    values["name"]: build(KeypointSchema, values, "schemas.yaml")
    for values in own_yaml("simplepose.core", "schemas.yaml")
}
"""The built-in schemas by name."""
COCO_17, MPII_16, POSETRACK_15, CROWDPOSE_14 = [*SCHEMAS.values()][:4]


def schema_named(name: str) -> KeypointSchema:
    """The built-in schema called `name`.

    Raises:
        UserError: there is none; suggests the nearest.
    """
    if name not in SCHEMAS:
        raise UserError(f"there is no schema {name!r}. Cure: {nearest(name, SCHEMAS)}")
    return SCHEMAS[name]


def schema_with(count: int) -> KeypointSchema | None:
    """The built-in schema with so many keypoints; None if there is none."""
    return next((schema for schema in SCHEMAS.values() if len(schema) == count), None)
