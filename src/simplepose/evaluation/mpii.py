"""MPII: PCKh, the readers of its ground truth and prediction files, and the submission file.

The exact variant: a keypoint is right when its distance is at most (`<=`) threshold x head size,
the head size being 0.6 x the diagonal of the head box; keypoints that are not annotated do not
count; left and right are averaged; the mean leaves out pelvis and thorax (6 and 7) and weighs each
keypoint by how often it is annotated. Source: Andriluka et al. 2014 (section 5), as Newell et al.
2016 and both references compute it.

MPII counts pixels from 1; here as there, `keypoints` are 1-based. A network's 0-based answer needs
`+ 1`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path, reading
from simplepose.core.schema import MPII_16
from simplepose.data.annotations import Annotations
from simplepose.data.mpii import read_matlab

GROUPS = {
    "Head": (9,),
    "Shoulder": (12, 13),
    "Elbow": (11, 14),
    "Wrist": (10, 15),
    "Hip": (2, 3),
    "Knee": (1, 4),
    "Ankle": (0, 5),
}
"""The columns of the papers' table; `Head` is the top of the head."""
LEFT_OUT = (6, 7)
"""Pelvis and thorax: not part of the mean."""


def head_sizes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N, 4) head boxes -> (N,) head sizes, 0.6 x the diagonal: from the size of the box to that
    of the head."""
    return 0.6 * np.linalg.norm(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)


@dataclass(frozen=True, eq=False)
class MpiiTruth:
    """Ground truth of N people."""

    keypoints: np.ndarray
    """(N, 16, 2) x, y in pixels counted from 1."""
    labelled: np.ndarray
    """(N, 16) bool."""
    head_sizes: np.ndarray
    """(N,) pixels."""
    source: str
    """The file, for messages."""

    def __post_init__(self) -> None:
        bad = ~(np.isfinite(self.head_sizes) & (self.head_sizes > 0))
        if bad.any():
            raise UserError(
                f"{self.source}: person {int(np.argmax(bad))} of {len(bad)} has no head box, "
                "which PCKh needs. Cure: leave that person out"
            )

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> MpiiTruth:
        """From people as they are read for training and testing, 0-based.

        Raises:
            UserError: there are no head boxes, or one is missing or has no size.
        """
        if annotations.head_boxes_xyxy is None:
            raise UserError(
                f"{annotations.source} has no head boxes, which PCKh needs. Cure: use MPII's .mat, "
                "or gt_valid.mat beside valid.json (simplepose convert mpii takes them from it)"
            )
        return cls(
            annotations.keypoints.astype(np.float64) + 1,
            annotations.visibility > 0,
            head_sizes(annotations.head_boxes_xyxy.astype(np.float64) + 1),
            annotations.source,
        )


def pckh(keypoints: np.ndarray, truth: MpiiTruth, threshold: float = 0.5) -> dict[str, float]:
    """PCKh at one threshold, in percent: `Head` .. `Ankle` and `Mean` (see the head of this file).

    Args:
        keypoints: (N, 16, 2) predictions, 1-based, in the order of the ground truth.
        truth: the ground truth.
        threshold: of the head size.

    Returns:
        NaN where nothing is annotated.

    Raises:
        UserError: another number of people or keypoints.
    """
    if keypoints.shape != truth.keypoints.shape:
        raise UserError(
            f"predictions {keypoints.shape} do not fit the ground truth {truth.keypoints.shape} of "
            f"{truth.source}. Cure: one row a person, in the same order"
        )
    distance = np.linalg.norm(keypoints - truth.keypoints, axis=-1) / truth.head_sizes[:, None]
    counts = truth.labelled.sum(0)
    right = ((distance <= threshold) & truth.labelled).sum(0)
    with np.errstate(invalid="ignore"):  # 0 / 0
        rates = 100.0 * right / counts
        result = {name: float(np.mean(rates[list(members)])) for name, members in GROUPS.items()}
        right, counts = (np.delete(values, LEFT_OUT).sum() for values in (right, counts))
        return result | {"Mean": float(100 * right / counts)}


def evaluate_mpii(keypoints: np.ndarray, truth: MpiiTruth) -> dict[str, float]:
    """PCKh@0.5 of each group and the mean; `Mean@0.1`; and `Mean@0.11`, which the references print
    under the name Mean@0.1."""
    means = {f"Mean@{at}": pckh(keypoints, truth, at)["Mean"] for at in (0.1, 0.11)}
    return pckh(keypoints, truth) | means


def mpii_results(
    annotations: Annotations,
    image_index: np.ndarray,
    keypoints: np.ndarray,
    broken: Collection[str] = (),
) -> np.ndarray:
    """One pose for each annotated person, in their order and 1-based, as MPII's files have them.

    Args:
        annotations: the people, whose own boxes were estimated.
        image_index: (D,) picture of each estimate, ascending; within a picture in the order of the
            people.
        keypoints: (D, 16, 2) 0-based.
        broken: paths of pictures that could not be read.

    Returns:
        (N, 16, 2) float64; NaN, which no threshold accepts, for people of broken pictures.

    Raises:
        UserError: the estimates are not one for each person.
    """
    people = np.argsort(annotations.image_index, kind="stable")
    read = np.array([path not in broken for path in annotations.image_paths], bool)
    people = people[read[annotations.image_index[people]]]
    if not np.array_equal(annotations.image_index[people], image_index):
        raise UserError(
            f"{annotations.source}: {len(image_index)} estimates for {len(people)} people. "
            "Cure: MPII is tested on the annotated boxes, one for each person"
        )
    result = np.full((len(annotations), len(MPII_16), 2), np.nan)
    result[people] = keypoints.astype(np.float64) + 1
    return result


def read_mpii_truth(path: Path | str) -> MpiiTruth:
    """Reads `detections_our_format.mat` / `gt_valid.mat` (jnt_missing, pos_gt_src, headboxes_src)
    or `valid.h5` (part, normalize).

    The `.h5` holds rounded coordinates and takes (0, 0) for a missing joint: its numbers differ
    from the `.mat`'s by up to 0.1.

    Raises:
        UserError: names the file and what is missing in it.
    """
    content = _read(path)
    if "part" in content:
        keypoints, sizes = _demand(content, ("part", "normalize"), path)
        return MpiiTruth(keypoints, (keypoints != 0).any(-1), sizes, str(path))
    names = ("jnt_missing", "pos_gt_src", "headboxes_src")
    missing, keypoints, heads = _demand(content, names, path)  # heads: (2 corners, 2, N)
    sizes = head_sizes(heads.transpose(2, 0, 1).reshape(-1, 4))
    return MpiiTruth(np.moveaxis(keypoints, 2, 0), missing.T == 0, sizes, str(path))


def read_mpii_predictions(path: Path | str) -> np.ndarray:
    """Reads `preds` (N, 16, 2 or 3) or (2, 16, N) of a .mat or .h5 file, or `pos_pred_src` of
    detections_our_format.mat.

    Returns:
        (N, 16, 2) float64, 1-based as in the file.

    Raises:
        UserError: names the file and what is missing in it.
    """
    content = _read(path)
    if "preds" not in content and "pos_pred_src" in content:
        return np.moveaxis(_demand(content, ("pos_pred_src",), path)[0], 2, 0)
    (preds,) = _demand(content, ("preds",), path)
    if preds.ndim == 3 and preds.shape[:2] == (2, len(MPII_16)):
        preds = preds.transpose(2, 1, 0)
    if preds.ndim != 3 or preds.shape[1] != len(MPII_16) or preds.shape[2] < 2:
        raise UserError(
            f"{path}: preds has shape {preds.shape}, expected (N, 16, 2). "
            "Cure: 16 keypoints a person, x and y"
        )
    return preds[..., :2]


def write_mpii_submission(
    path: Path | str, keypoints: np.ndarray, image_names: Sequence[str]
) -> None:
    """Writes the predictions as `.mat`: `preds` (N, 16, 2), as both references do, and `pred`,
    MPII's own annotation structure.

    `pred(i).image.name` and `pred(i).annorect(j).annopoints.point(k).{x, y, id}`: one entry a
    picture, in the order of its first person, ids 0..15.

    Args:
        path: the `.mat` file.
        keypoints: (N, 16, 2), 1-based.
        image_names: N file names.
    """
    from scipy.io import savemat

    people: dict[str, list[tuple[np.ndarray]]] = {}
    for name, person in zip(image_names, keypoints.tolist(), strict=True):
        points = [(float(x), float(y), float(k)) for k, (x, y) in enumerate(person)]
        annopoints = _structs([(_structs(points, "x", "y", "id"),)], "point")
        people.setdefault(name, []).append((annopoints,))
    pictures = [
        (_structs([(name,)], "name"), _structs(rects, "annopoints"))
        for name, rects in people.items()
    ]
    content = {"preds": keypoints, "pred": _structs(pictures, "image", "annorect")}
    with atomic_path(path) as temporary:
        savemat(temporary, content, do_compression=True)


def _structs(rows: Sequence[tuple[Any, ...]], *names: str) -> np.ndarray:
    """(1, n) struct array for savemat."""
    array = np.empty((1, len(rows)), [(name, object) for name in names])
    for index, row in enumerate(rows):
        array[0, index] = row
    return array


def _read(path: Path | str) -> dict[str, Any]:
    """The arrays of a .mat or .h5 file by name."""
    if Path(path).suffix.lower() in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError as error:
            raise need("h5py", "hdf5", f"reading {path}") from error
        with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
            return {str(name): np.asarray(file[name]) for name in file}
    return read_matlab(path, "a MATLAB file", "copy it again, or save it with -v7")


def _demand(
    content: dict[str, Any], names: Sequence[str], path: Path | str
) -> tuple[np.ndarray, ...]:
    """The arrays of these names, float64."""
    if missing := [name for name in names if name not in content]:
        found = [name for name in content if not name.startswith("__")]
        raise UserError(
            f"{path} lacks {', '.join(missing)} (PCKh needs keypoints and head boxes); it has "
            f"{found}. Cure: pass detections_our_format.mat or gt_valid.mat"
        )
    with reading(path, "arrays of numbers"):
        return tuple(np.asarray(content[name], np.float64) for name in names)
