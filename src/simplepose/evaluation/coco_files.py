"""COCO ground truth and result rows of any origin -> what the COCO code insists on, or an error that names file, row and value.

Pictures and categories may have words for ids: the COCO code gets numbers, and results may name them either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.oks import check_sigmas
from simplepose.data.annotations import AREA_FRACTION
from simplepose.data.categories import category_numbers
from simplepose.data.coco_columns import dictionaries, id_column, loads

PLAIN = {int, float}
"""What JSON's numbers become."""


def prepare_ground_truth(ground_truth: Path | str | dict[str, Any]) -> dict[str, Any]:
    """The annotations with everything the COCO code insists on: `area`, `bbox`, `iscrowd`, `num_keypoints`, numbers for ids.

    A missing area is box area x 0.53; a missing box is the extent of the labelled keypoints. Null stands for missing, and numbers may be
    text. Annotations get new ids from 1: the COCO code takes id 0 for "not matched". A picture or category whose id is a word gets a
    number, and its word as `spelled_id`. The input is left as it is.

    Raises:
        UserError: not a COCO annotation file, or a value that is no number.
    """
    source = "ground truth" if isinstance(ground_truth, dict) else str(ground_truth)
    value = ground_truth if isinstance(ground_truth, dict) else loads(ground_truth)
    if not isinstance(value, dict) or not {"images", "annotations"} <= value.keys():
        raise UserError(f"{source} is not a COCO annotation file: it needs `images` and `annotations`. Cure: check which file it is")
    images, rows, listed = (dictionaries(value.get(name), name, source) for name in ("images", "annotations", "categories"))
    picture_ids = id_column(images, "id", f"{source}, images", []).tolist()
    pictures = {str(image["id"]): number for image, number in zip(images, picture_ids, strict=True)}
    listed = listed or [{"id": name} for name in dict.fromkeys(_category(row) for row in rows)] or [{"id": 1}]
    categories = category_numbers(listed)
    annotations = []
    for index, original in enumerate(rows):
        where = f"{source}: annotation {original.get('id', index)}"
        annotation = {**original, "id": index + 1}
        annotation.pop("segmentation", None)  # not needed, and long
        annotation["image_id"] = pictures.get(str(original.get("image_id")), original.get("image_id"))
        annotation["category_id"] = categories.get(str(_category(original)), _category(original))
        annotation["iscrowd"] = int((_number(original.get("iscrowd")) or 0) > 0)
        flat = annotation["keypoints"] = _numbers(original.get("keypoints"), "keypoints", where)
        if len(flat) % 3:
            raise UserError(f"{where} has {len(flat)} keypoint numbers, not x, y, v triples. Cure: correct or remove them")
        given = _number(original.get("num_keypoints"))
        annotation["num_keypoints"] = sum(v > 0 for v in flat[2::3]) if given is None else int(given)
        box = _numbers(original.get("bbox"), "bbox", where)
        if not box:
            x, y = ([c for c, v in zip(flat[axis::3], flat[2::3], strict=True) if v > 0] or [0] for axis in (0, 1))
            box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        if len(box) != 4:
            raise UserError(f"{where} has the bbox {box}, not x, y, width, height. Cure: correct or remove it")
        area = _number(original.get("area"))
        annotations.append(annotation | {"bbox": box, "area": box[2] * box[3] * AREA_FRACTION if area is None else area})
    return {
        "info": {},
        "images": [_spelled(image, number) for image, number in zip(images, picture_ids, strict=True)],
        "annotations": annotations,
        "categories": [{"name": str(one.get("id"))} | _spelled(one, categories[str(one.get("id"))]) for one in listed],
    }


def prepare_results(given: Any, truth: dict[str, Any], sigmas: Sequence[float], source: str) -> list[dict[str, Any]]:
    """Result rows with the ids of the prepared ground truth.

    Raises:
        UserError: no list of rows, or a row that cannot be scored against this ground truth.
    """
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise UserError(f"{source} is not a list of COCO result rows. Cure: pass the result file, not the annotations")
    rows: list[dict[str, Any]] = given
    for key in ("image_id", "category_id", "keypoints", "score"):
        index = next((i for i, row in enumerate(rows) if row.get(key) is None), None)
        if index is not None:
            what = "has no" if key not in rows[index] else "has null for its"
            raise UserError(f"{source}: row {index} {what} {key!r}. Cure: write image_id, category_id, keypoints and score in every row")
    index = next((i for i, row in enumerate(rows) if type(row["score"]) is not float and not isinstance(row["score"], Real)), None)
    if index is not None:
        raise UserError(
            f"{source}: row {index} has the score {rows[index]['score']!r}, not a number. Cure: write the confidence of the pose"
        )
    first = next((row["keypoints"] for row in truth["annotations"] if row["keypoints"]), None)
    for flat in (first, rows[0]["keypoints"] if rows else None):
        if isinstance(flat, (list, tuple, np.ndarray)) and len(flat):
            check_sigmas(sigmas, len(flat) // 3)
    _check_keypoints([row["keypoints"] for row in rows], 3 * len(sigmas), source)
    for key, known, what in (("image_id", truth["images"], "picture"), ("category_id", truth["categories"], "category")):
        rows = _with_numbers(rows, key, known)
        check_known({_id(row[key]) for row in rows}, {entry["id"] for entry in known}, source, what)
    return rows


def check_known(used: set[Any], known: set[int], source: str, what: str) -> None:
    """Raises where `used` ids are not in the ground truth."""
    unknown = used - known
    if unknown:
        raise UserError(
            f"{source}: {len(unknown)} {what} id(s) that the ground truth does not have, e.g. {min(unknown, key=str)}. "
            "Cure: use results and annotations of the same data set"
        )


def _check_keypoints(lists: list[Any], length: int, source: str) -> None:
    """Raises at the first row whose keypoints are not as many numbers."""
    for index, flat in enumerate(lists):
        if not isinstance(flat, (list, tuple, np.ndarray)) or len(flat) != length:
            have = f"{len(flat)} keypoint numbers" if isinstance(flat, (list, tuple, np.ndarray)) else f"the keypoints {flat!r}"
            raise UserError(f"{source}: row {index} has {have}, expected {length}. Cure: x, y, score for each keypoint of the schema")
    if _are_numbers(lists):
        return
    index = next(index for index, flat in enumerate(lists) if not _are_numbers(flat))
    wrong = next(number for number in lists[index] if not isinstance(number, Real))
    raise UserError(f"{source}: row {index} has {wrong!r} among its keypoints. Cure: x, y, score for each keypoint, all of them numbers")


def _are_numbers(values: Any) -> bool:
    try:
        return not len(values) or np.array(values).dtype.kind in "iuf"
    except ValueError:  # lists of several lengths in it
        return False


def _with_numbers(rows: list[dict[str, Any]], key: str, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the numbers of pictures or categories that they name by words, or by numbers as text."""
    numbers = {entry["id"] for entry in known}
    if all(_id(row[key]) in numbers for row in rows):
        return rows
    spelled = {str(entry.get("spelled_id", entry["id"])): entry["id"] for entry in known}
    return [row if _id(row[key]) in numbers else {**row, key: spelled.get(str(row[key]), row[key])} for row in rows]


def _id(value: Any) -> Any:
    """An id that can stand in a set."""
    return str(value) if isinstance(value, (list, dict)) else value


def _spelled(entry: dict[str, Any], number: int) -> dict[str, Any]:
    """A picture or category with a number for its id, which is kept where it is another."""
    return entry if entry.get("id") == number else {**entry, "id": number, "spelled_id": entry.get("spelled_id", entry.get("id"))}


def _category(row: dict[str, Any]) -> Any:
    """The category of an annotation, COCO's 1 where it has none."""
    return 1 if row.get("category_id") is None else _id(row["category_id"])


def _numbers(values: Any, name: str, where: str) -> list[Any]:
    """A list of numbers, which may be text; empty where it is missing."""
    values = [] if values is None else values
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise UserError(f"{where} has the {name} {values!r}, no list of numbers. Cure: correct or remove it")
    if set(map(type, values)) <= PLAIN:  # nearly always; asking for `Real` one by one would cost more than the scoring
        return list(values)
    numbers = [value if isinstance(value, Real) else _number(value) for value in values]
    if None in numbers:
        raise UserError(f"{where} has {values[numbers.index(None)]!r} in its {name}, not a number. Cure: correct or remove it")
    return numbers


def _number(value: Any) -> Any:
    """The number, as it is or from text; None where it is missing, NaN or no number."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return None if (type(value) is not float and not isinstance(value, Real)) or math.isnan(value) else value
