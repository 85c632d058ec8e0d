"""MPII: PCKh, the readers of its ground truth and prediction files, and the submission file.

The exact variant: a keypoint is right when its distance is at most (`<=`) threshold x head size, the head size being 0.6 x the
diagonal of the head box; keypoints that are not annotated do not count; left and right are averaged; the mean leaves out pelvis and thorax
(6 and 7) and weighs each keypoint by how often it is annotated. Source: Andriluka et al. 2014
(section 5), as Newell et al. 2016 and both references compute it.

MPII counts pixels from 1; here as there, `keypoints` are 1-based. A network's 0-based answer needs `+ 1`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError, need
from simplepose.core.files import atomic_path
from simplepose.core.schema import MPII_16
from simplepose.data.annotations import Annotations

HEAD_SHARE = 0.6
"""Of the head box's diagonal: brings the box's size to that of the head."""
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


@dataclass(frozen=True, slots=True, eq=False)
class MpiiTruth:
    """Ground truth of N people."""

    keypoints: np.ndarray
    """(N, 16, 2) x, y in pixels counted from 1."""
    labelled: np.ndarray
    """(N, 16) bool."""
    head_sizes: np.ndarray
    """(N,) pixels: 0.6 x the diagonal of the head box."""

    @classmethod
    def from_boxes(
        cls,
        keypoints: np.ndarray,
        labelled: np.ndarray,
        head_boxes_xyxy: np.ndarray | None,
        source: str,
    ) -> MpiiTruth:
        """From (N, 16, 2), (N, 16) and head boxes (N, 4).

        Raises:
            UserError: there are no head boxes, or one is missing or has no size.
        """
        if head_boxes_xyxy is None:
            raise UserError(
                f"{source} has no head boxes, which PCKh needs. Cure: use MPII's .mat, or gt_valid.mat "
                "beside valid.json (simplepose convert mpii takes the head boxes from it)"
            )
        boxes = np.asarray(head_boxes_xyxy, np.float64).reshape(-1, 4)
        return cls(
            np.asarray(keypoints, np.float64), np.asarray(labelled, bool), _sizes(boxes, source)
        )

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> MpiiTruth:
        """From people as they are read for training and testing, 0-based.

        Raises:
            UserError: see `from_boxes`.
        """
        heads = annotations.head_boxes_xyxy
        return cls.from_boxes(
            annotations.keypoints.astype(np.float64) + 1,
            annotations.visibility > 0,
            None if heads is None else heads.astype(np.float64) + 1,
            annotations.source,
        )


def pckh(keypoints: np.ndarray, truth: MpiiTruth, threshold: float = 0.5) -> dict[str, float]:
    """PCKh at one threshold, in percent: `Head` .. `Ankle` and `Mean` (see the head of this file); NaN where nothing is annotated.

    Args:
        keypoints: (N, 16, 2) predictions, 1-based, in the order of the ground truth.
        truth: the ground truth.
        threshold: of the head size.

    Raises:
        UserError: another number of people or keypoints.
    """
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.shape != truth.keypoints.shape:
        raise UserError(
            f"predictions {keypoints.shape} do not fit the ground truth {truth.keypoints.shape}. Cure: one row a person, in the same order"
        )
    distance = np.linalg.norm(keypoints - truth.keypoints, axis=-1) / truth.head_sizes[:, None]
    counts = truth.labelled.sum(0)
    right = ((distance <= threshold) & truth.labelled).sum(0)
    rates = np.divide(100.0 * right, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    result = {name: float(np.mean(rates[list(members)])) for name, members in GROUPS.items()}
    mean_of = [k for k in range(len(counts)) if k not in LEFT_OUT]
    result["Mean"] = (
        float(100 * right[mean_of].sum() / counts[mean_of].sum())
        if counts[mean_of].sum()
        else float("nan")
    )
    return result


def evaluate_mpii(keypoints: np.ndarray, truth: MpiiTruth) -> dict[str, float]:
    """PCKh@0.5 of each group and the mean; `Mean@0.1`; and `Mean@0.11`, which the references print under the name Mean@0.1."""
    result = pckh(keypoints, truth)
    return result | {
        f"Mean@{threshold}": pckh(keypoints, truth, threshold)["Mean"] for threshold in (0.1, 0.11)
    }


def score_mpii(ground_truth: Path | str, predictions: Path | str) -> dict[str, float]:
    """`evaluate_mpii` of two files; see `read_mpii_truth` and `read_mpii_predictions`."""
    return evaluate_mpii(read_mpii_predictions(predictions), read_mpii_truth(ground_truth))


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
    paths = np.asarray(annotations.image_paths, object)[annotations.image_index[people]]
    people = people[~np.isin(paths, list(broken))] if broken else people
    if not np.array_equal(annotations.image_index[people], image_index):
        raise UserError(
            f"{annotations.source}: {len(image_index)} estimates for {len(people)} people. "
            "Cure: MPII is tested on the annotated boxes, one for each person"
        )
    result = np.full((len(annotations), len(MPII_16), 2), np.nan)
    result[people] = keypoints.astype(np.float64) + 1
    return result


def read_mpii_truth(path: Path | str) -> MpiiTruth:
    """Reads `detections_our_format.mat` / `gt_valid.mat` (jnt_missing, pos_gt_src, headboxes_src) or `valid.h5` (part, normalize).

    The `.h5` holds rounded coordinates and takes (0, 0) for a missing joint: its numbers differ from the `.mat`'s by up to 0.1.

    Raises:
        UserError: names the file and what is missing in it.
    """
    content = _read(path)
    if "part" in content:
        _demand(content, ("part", "normalize"), path)
        keypoints = np.asarray(content["part"], np.float64)
        sizes = np.asarray(content["normalize"], np.float64)
        if not (np.isfinite(sizes) & (sizes > 0)).all():
            raise UserError(
                f"{path}: a head size is missing or 0. Cure: use a file with every person's head size"
            )
        return MpiiTruth(keypoints, (keypoints != 0).any(-1), sizes)
    _demand(content, ("jnt_missing", "pos_gt_src", "headboxes_src"), path)
    heads = np.asarray(content["headboxes_src"], np.float64)  # (2 corners, 2, N)
    return MpiiTruth.from_boxes(
        np.moveaxis(content["pos_gt_src"], 2, 0),
        np.asarray(content["jnt_missing"]).T == 0,
        heads.transpose(2, 0, 1).reshape(-1, 4),
        str(path),
    )


def read_mpii_predictions(path: Path | str) -> np.ndarray:
    """Reads `preds` (N, 16, 2 or 3) or (2, 16, N) of a .mat or .h5 file, or `pos_pred_src` of detections_our_format.mat.

    Returns:
        (N, 16, 2) float64, 1-based as in the file.

    Raises:
        UserError: names the file and what is missing in it.
    """
    content = _read(path)
    if "preds" not in content and "pos_pred_src" in content:
        return np.moveaxis(np.asarray(content["pos_pred_src"], np.float64), 2, 0)
    _demand(content, ("preds",), path)
    preds = np.asarray(content["preds"], np.float64)
    if preds.ndim == 3 and preds.shape[:2] == (2, len(MPII_16)):
        preds = preds.transpose(2, 1, 0)
    if preds.ndim != 3 or preds.shape[1] != len(MPII_16) or preds.shape[2] < 2:
        raise UserError(
            f"{path}: preds has shape {preds.shape}, expected (N, 16, 2). Cure: 16 keypoints a person, x and y"
        )
    return preds[..., :2]


def write_mpii_submission(
    path: Path | str, keypoints: np.ndarray, image_names: Sequence[str] | None = None
) -> None:
    """Writes the predictions as `.mat`: `preds` (N, 16, 2), as both references do, and `pred`, MPII's own annotation structure.

    `pred(i).image.name` and `pred(i).annorect(j).annopoints.point(k).{x, y, id}`: one entry a picture, in the order of its first person,
    ids 0..15.

    Args:
        path: the `.mat` file.
        keypoints: (N, 16, 2), 1-based.
        image_names: N file names; without them `pred` is left out.

    Raises:
        UserError: not 16 keypoints, or not a name for each person.
    """
    from scipy.io import savemat

    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(MPII_16), 2):
        raise UserError(
            f"an MPII submission holds (N, 16, 2) keypoints, got {keypoints.shape}. Cure: use a network of the schema mpii_16"
        )
    content: dict[str, Any] = {"preds": keypoints}
    if image_names is not None:
        if len(image_names) != len(keypoints):
            raise UserError(
                f"{len(image_names)} picture names for {len(keypoints)} people. Cure: give one name for each person"
            )
        content["pred"] = _structure(keypoints, list(image_names))
    with atomic_path(path) as temporary:
        savemat(temporary, content, do_compression=True)


def _structure(keypoints: np.ndarray, image_names: list[str]) -> np.ndarray:
    """MATLAB's struct array of pictures."""
    pictures = []
    for name in dict.fromkeys(image_names):
        rects = []
        for index in (i for i, other in enumerate(image_names) if other == name):
            points = [(float(x), float(y), float(k)) for k, (x, y) in enumerate(keypoints[index])]
            rects.append((_records([({"point": _records(points, ("x", "y", "id"))})], ("point",)),))
        pictures.append(({"name": name}, _records(rects, ("annopoints",))))
    return _records(pictures, ("image", "annorect"))


def _records(rows: Sequence[Any], names: tuple[str, ...]) -> np.ndarray:
    """(1, n) struct array for savemat."""
    array = np.empty((1, len(rows)), [(name, object) for name in names])
    for column, row in enumerate(rows):
        array[0, column] = (
            tuple(row[name] for name in names) if isinstance(row, dict) else tuple(row)
        )
    return array


def _sizes(boxes_xyxy: np.ndarray, source: str) -> np.ndarray:
    """(N, 4) head boxes -> (N,) head sizes."""
    sizes = HEAD_SHARE * np.linalg.norm(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    bad = ~(np.isfinite(sizes) & (sizes > 0))
    if bad.any():
        raise UserError(
            f"{source}: person {int(np.argmax(bad))} of {len(bad)} has no head box, which PCKh needs. Cure: leave that person out"
        )
    return sizes


def _read(path: Path | str) -> dict[str, Any]:
    """The arrays of a .mat or .h5 file by name."""
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist. Cure: check the path")
    if Path(path).suffix.lower() in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError as error:
            raise need("h5py", "hdf5", f"reading {path}") from error
        try:
            with h5py.File(path, "r") as file:
                return {name: np.asarray(file[name]) for name in file}
        except OSError as error:
            raise UserError(
                f"{path} is not an HDF5 file: {error}. Cure: check that it was copied completely"
            ) from error
    from scipy.io import loadmat

    try:
        return loadmat(path)
    except Exception as error:  # scipy raises many kinds
        raise UserError(
            f"{path} is not a MATLAB file that can be read: {error}. Cure: save it with -v7"
        ) from error


def _demand(content: dict[str, Any], names: Sequence[str], path: Path | str) -> None:
    missing = [name for name in names if name not in content]
    if missing:
        heads = (
            " (head boxes: PCKh needs them)"
            if "headboxes_src" in missing or "normalize" in missing
            else ""
        )
        found = [name for name in content if not name.startswith("__")]
        raise UserError(
            f"{path} lacks {', '.join(missing)}{heads}; it has {found}. Cure: pass detections_our_format.mat or gt_valid.mat"
        )
