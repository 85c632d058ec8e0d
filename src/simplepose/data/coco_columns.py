"""Lists of COCO dictionaries -> columns: a fast way for regular files, a tolerant one for the rest."""

from __future__ import annotations

import json
import re
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from simplepose.core.errors import UserError

OUTLINE = re.compile(rb'"segmentation"\s*:\s*\[[][0-9eE+.,\s-]*(?=\])')
"""The polygons of a person, which nobody here reads: emptied before parsing, they save two thirds of the time and half the memory. The
bare quotes cannot stand inside a JSON string, and a list with anything but numbers fails to parse and is read again as it is."""

BEYOND = 1e9
"""No box in pixels has a number as large; the area of one that has does not fit float32."""


def loads(path: str | Path) -> Any:
    """Reads JSON fast; NaN and Infinity, which some tools write although JSON has none, are read too.

    Raises:
        UserError: the file is missing, empty or not JSON.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Cure: check the path") from error
    if not content.strip():
        raise UserError(f"{path} is empty. Cure: check that the file was copied completely")
    content = OUTLINE.sub(b'"segmentation":[', content)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(Path(path).read_bytes())
        except ValueError:
            raise UserError(f"{path} is not valid JSON: {error}. Cure: check that the file was copied completely") from error


def number_column(rows: list[dict[str, Any]], name: str, default: float) -> np.ndarray:
    """(N,) float64; `default` where the value is missing, null or no number."""
    try:
        return np.fromiter(map(itemgetter(name), rows), np.float64, len(rows))
    except (KeyError, TypeError, ValueError):
        return np.array([_number(row.get(name), default) for row in rows], np.float64)


def id_column(
    rows: list[dict[str, Any]], name: str, where: str, warnings: list[str], missing: Literal["error", "number"] = "error"
) -> np.ndarray:
    """(N,) int64 ids. Numbers written as strings are read as numbers; other strings are numbered 1, 2, ... in the order of the rows."""
    values: list[Any] = [row.get(name) for row in rows]
    if all(type(value) is int for value in values):
        return np.array(values, np.int64)
    odd = next((value for value in values if isinstance(value, (list, dict))), None)
    if odd is not None:
        raise UserError(f"{where}: {name!r} {odd} is neither number nor word. Cure: give each one a unique number")
    absent = sum(value is None for value in values)
    if absent and (missing == "error" or absent < len(values)):
        raise UserError(f"{where}: {absent} of {len(values)} entries have no {name!r}. Cure: give each one a unique number")
    if not absent:
        try:
            return np.array([int(value) for value in values], np.int64)
        except (TypeError, ValueError, OverflowError):
            pass
    if absent:
        warnings.append(f"{where}: no entry has an {name!r}; they are numbered 1 to {len(values)}")
        return np.arange(1, len(values) + 1)
    number = {value: index + 1 for index, value in enumerate(dict.fromkeys(map(str, values)))}
    warnings.append(f"{where}: ids are words such as {values[0]!r}; they are numbered 1 to {len(number)}")
    return np.array([number[str(value)] for value in values], np.int64)


def dictionaries(rows: Any, what: str, source: str) -> list[dict[str, Any]]:
    """The rows of a list in a file; none where it is null or not there.

    Raises:
        UserError: not a list of JSON objects.
    """
    rows = [] if rows is None else rows
    if not isinstance(rows, list):
        raise UserError(f"{source}: `{what}` is not a list: {str(rows)[:60]!r}. Cure: export as COCO keypoints")
    index = next((index for index, row in enumerate(rows) if not isinstance(row, dict)), None)
    if index is not None:
        raise UserError(f"{source}: entry {index} of `{what}` is no object: {str(rows[index])[:60]!r}. Cure: correct or remove it")
    return rows


def keypoint_columns(
    rows: list[dict[str, Any]], ids: np.ndarray, count: int, source: str, warnings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) float32 coordinates and (N, K) uint8 visibility in {0, 1, 2}.

    A person without `keypoints` has none labelled. Visibility may be float; values other than 0, 1, 2 (a confidence) count as 2 if above 0.

    Raises:
        UserError: a list whose length is not 3 K, or a labelled keypoint that is not finite.
    """
    empty = [0.0] * (3 * count)
    lists = [row.get("keypoints") or empty for row in rows]
    for index, values in enumerate(lists):
        if not isinstance(values, list):
            raise UserError(f"{source}: the keypoints of annotation {ids[index]} are no list: {values!r}. Cure: correct or remove them")
        if len(values) != 3 * count:
            have = (
                f"{len(values) // 3} keypoints ({len(values)} values)"
                if not len(values) % 3
                else f"{len(values)} values (not x, y, v triples)"
            )
            raise UserError(
                f"{source}: annotation {ids[index]} has {have}, the schema has {count} keypoints ({3 * count} values). "
                "Cure: choose the schema of the file, or correct the annotation"
            )
    try:
        flat = np.fromiter(chain.from_iterable(lists), np.float32, len(lists) * 3 * count)
    except (TypeError, ValueError):
        flat = np.array([_number(value, np.nan) for values in lists for value in values], np.float32)
    triples = flat.reshape(len(lists), count, 3)
    raw = np.nan_to_num(triples[..., 2], nan=0.0)
    visibility = np.where((raw == 0) | (raw == 1) | (raw == 2), raw, np.where(raw > 0, 2, 0)).astype(np.uint8)
    strange = int((raw != visibility).sum())
    if strange:
        warnings.append(f"{source}: {strange} visibility values are none of 0, 1, 2; those above 0 are read as 2 (visible), others as 0")
    keypoints = np.ascontiguousarray(triples[..., :2])
    finite = np.isfinite(keypoints).all(2)
    wrong = ~finite & (visibility > 0)
    if wrong.any():
        person, keypoint = np.argwhere(wrong)[0]
        raise UserError(
            f"{source}: keypoint {keypoint} of annotation {ids[person]} is labelled but not finite: "
            f"{triples[person, keypoint].tolist()} ({int(wrong.sum())} such keypoints). Cure: set its visibility to 0, or correct it"
        )
    keypoints[~finite] = 0
    return keypoints, visibility


def bbox_column(
    rows: list[dict[str, Any]], ids: np.ndarray, keypoints: np.ndarray, visibility: np.ndarray, source: str, warnings: list[str]
) -> np.ndarray:
    """(N, 4) float32 boxes; a missing one is the tight box of the labelled keypoints.

    Raises:
        UserError: names the annotation whose box has not four finite numbers, or numbers beyond any picture.
    """
    boxes = [row.get("bbox") for row in rows]
    absent = np.array([not box for box in boxes], bool)
    values = [box or (0.0, 0.0, 0.0, 0.0) for box in boxes]
    try:
        bbox = np.array(values, np.float64).reshape(len(rows), 4)
    except (TypeError, ValueError):
        try:
            bbox = np.array([[_number(value, np.nan) for value in box] for box in values], np.float64).reshape(len(rows), 4)
        except (TypeError, ValueError):
            index = next(index for index, box in enumerate(values) if not isinstance(box, (list, tuple)) or len(box) != 4)
            raise UserError(
                f"{source}: the bbox of annotation {ids[index]} is not x, y, width, height: {values[index]}. Cure: correct it"
            ) from None
    sane = (np.abs(bbox) < BEYOND).all(1)
    if not sane.all():
        index = int(np.argmin(sane))
        what = "too large for any picture" if np.isfinite(bbox[index]).all() else "not finite"
        raise UserError(
            f"{source}: the bbox of annotation {ids[index]} is {what}: {values[index]}. Cure: correct or remove that annotation"
        )
    if absent.any():
        labelled = visibility[absent][..., None] > 0
        low = np.where(labelled, keypoints[absent], np.inf).min(1)
        high = np.where(labelled, keypoints[absent], -np.inf).max(1)
        tight = np.concatenate([low, high - low], axis=1)
        bbox[absent] = np.where(np.isfinite(tight), tight, 0)
        warnings.append(f"{source}: {int(absent.sum())} people have no bbox; the tight box of their labelled keypoints is used")
    return bbox.astype(np.float32)


def _number(value: Any, default: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return default
