"""Files that describe keypoints: a whole schema, or only which keypoints are left and right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from simplepose.core.errors import UserError, brief
from simplepose.core.files import decode_yaml, read_bytes, read_json
from simplepose.core.schema import KeypointSchema, infer_flip_pairs
from simplepose.core.settings import build
from simplepose.data.annotations import Annotations
from simplepose.data.categories import (
    Category,
    chosen_categories,
    plain_name,
    schema_from_category,
)


def read_schema(path: Path) -> KeypointSchema:
    """The schema that a JSON or YAML file describes.

    The file has COCO's `categories`, or the fields of a `KeypointSchema`, of which only
    `keypoints` must be there; `flip_pairs` are pairs of names or of indices from 0.

    Raises:
        UserError: the file describes none.
    """
    return _schema_of(_read(path), path)


def with_flip_pairs(schema: KeypointSchema, file: str) -> KeypointSchema:
    """The schema with the left/right pairs of a file; as it is where none is named.

    Args:
        schema: its keypoints.
        file: JSON or YAML: a list of pairs (left, right) of names or of indices from 0, where a
            keypoint in the middle may be paired with itself, or what `read_schema` reads.

    Raises:
        UserError: no pair, or one of other keypoints.
    """
    if not file:
        return schema
    path, listed = Path(file), _read(Path(file))
    if isinstance(listed, dict) and {"keypoints", "categories"} & {*listed}:
        own = _schema_of(listed, path)
        listed = [[own.keypoints[index] for index in pair] for pair in own.flip_pairs]
    elif isinstance(listed, dict):
        listed = listed.get("flip_pairs")
    if not listed:
        raise UserError(
            f"{path} names no left/right pair. Cure: list pairs of names; where a picture may be "
            "mirrored and nothing changes sides, pair a keypoint with itself"
        )
    return replace(schema, flip_pairs=_pairs(listed, schema.keypoints, path))


def tell_sides(annotations: Annotations, file: str) -> Annotations:
    """`with_flip_pairs` of annotations, with a sentence on the pairs among their warnings."""
    schema = with_flip_pairs(annotations.schema, file)
    if not file:
        return annotations
    names = schema.keypoints
    shown = ", ".join(f"{names[left]} <-> {names[right]}" for left, right in schema.flip_pairs)
    warnings = (*annotations.warnings, f"{file}: left/right pairs are {shown}")
    return replace(annotations, schema=schema, warnings=warnings)


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return read_json(path)
    return decode_yaml(read_bytes(path), str(path))


def _schema_of(values: Any, path: Path) -> KeypointSchema:
    if not isinstance(values, dict):
        raise UserError(f"{path} describes no keypoints. Cure: list their names as `keypoints`")
    try:
        if "categories" in values:
            listed = msgspec.convert(values["categories"], list[Category])
            chosen = [*chosen_categories(listed, str(path)), Category()]
            return schema_from_category(chosen[0], source=str(path))[0]
        names = msgspec.convert(values.get("keypoints", []), list[str])
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {brief(error)}. Cure: list names as `keypoints`") from error
    pairs = values.get("flip_pairs")
    pairs = infer_flip_pairs(names) if pairs is None else _pairs(pairs, names, path)
    fields = {"name": f"{path.stem}_{len(names)}", **values, "flip_pairs": pairs}
    return build(KeypointSchema, fields, str(path))


def _pairs(listed: Any, names: Sequence[str], path: Path) -> tuple[tuple[int, int], ...]:
    """Pairs of names or of indices from 0 -> pairs of indices."""
    try:
        pairs = msgspec.convert(listed, list[tuple[int | str, int | str]])
    except msgspec.ValidationError as error:
        shown = repr(listed)[:80]
        raise UserError(
            f"{path}: the left/right pairs are {shown}: {error}. "
            "Cure: a list of pairs, [[left_eye, right_eye], ...]"
        ) from error
    return tuple((_index(left, names, path), _index(right, names, path)) for left, right in pairs)


def _index(keypoint: int | str, names: Sequence[str], path: Path) -> int:
    plain = list(map(plain_name, names))
    if isinstance(keypoint, str) and keypoint in names:
        return list(names).index(keypoint)
    if isinstance(keypoint, str) and plain.count(plain_name(keypoint)) == 1:
        return plain.index(plain_name(keypoint))
    if str(keypoint) in names:
        raise UserError(
            f"{path}: {keypoint} may be a name or an index, as keypoints are named by numbers. "
            f'Cure: write names in quotes, "{keypoint}"'
        )
    if isinstance(keypoint, int) and 0 <= keypoint < len(names):
        return keypoint
    raise UserError(
        f"{path}: the left/right pairs name {keypoint!r}, which is no keypoint. "
        f"Cure: one of {', '.join(names)}, or an index of 0..{len(names) - 1}"
    )
