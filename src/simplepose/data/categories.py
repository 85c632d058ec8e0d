"""COCO `categories`: which of them are the people, and a category to its KeypointSchema and back;
files that describe keypoints, a whole schema or only which are left and right."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from simplepose.core.errors import UserError, brief
from simplepose.core.files import decode_yaml, read_bytes, read_json
from simplepose.core.schema import (
    COCO_17,
    DEFAULT_SIGMA,
    SCHEMAS,
    KeypointSchema,
    infer_flip_pairs,
)
from simplepose.core.settings import build, to_plain
from simplepose.data.annotations import Annotations

Id = int | str
"""A whole number of 64 bits, or a word."""
_SPELLINGS = {"top_head": "head", "head_top": "head"}


class Category(msgspec.Struct, gc=False):
    """One entry of `categories`."""

    id: Any = None
    name: Any = None
    keypoints: list[Any] | str | None = None
    skeleton: Any = None
    sigmas: list[float] | None = None
    schema: Any = None

    @property
    def names(self) -> list[str]:
        """Its keypoints: words, objects with a `name`, or one text with commas."""
        listed = self.keypoints or []
        listed = listed.split(",") if isinstance(listed, str) else listed
        return [
            str(one.get("name", one) if isinstance(one, dict) else one).strip() for one in listed
        ]

    @property
    def plain_names(self) -> tuple[str, ...]:
        """The same in one spelling."""
        return tuple(map(plain_name, self.names))


def plain_name(name: str) -> str:
    """A keypoint name in one spelling: `Left Eye`, `left-eye`, `leftEye` -> `left_eye`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name).strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.lower()).strip("_")


def chosen_categories(
    listed: Sequence[Category], source: str, chosen: int | str | None = None
) -> list[Category]:
    """The categories that have the people's keypoints: one, or several that share one list.

    Args:
        listed: the `categories` of a file.
        source: the file, for messages.
        chosen: id or name of one of them.

    Raises:
        UserError: the chosen one is not there, or several differ in keypoints and none is chosen.
    """
    shown = "; ".join(f"{one.id} {one.name} ({len(one.names)} keypoints)" for one in listed)
    if chosen is not None:
        found = [one for one in listed if str(chosen) in (str(one.id), str(one.name))]
        if not found:
            raise UserError(f"{source} has no category {chosen!r}. Cure: choose one of {shown}")
        return found[:1]
    found = [one for one in listed if one.keypoints]
    if len({one.plain_names for one in found}) > 1:
        raise UserError(
            f"{source} has several categories with different keypoints: {shown}. Cure: choose one "
            "by id or name with --data.category (convert and doctor: --category)"
        )
    return found


def category_choices(listed: Sequence[Category], keypoints: Sequence[str] = ()) -> list[list[Id]]:
    """The categories that may be the people of a file, the best first.

    First those with keypoints (of several different ones those of the network, by their names,
    else by their number), then those named person.
    """
    network = tuple(map(plain_name, keypoints))
    skeletons = {one.plain_names for one in listed} - {()}
    if len(skeletons) > 1:
        same = {network} & skeletons
        skeletons = same or {names for names in skeletons if len(names) == len(network)}
    fits = [one for one in listed if one.plain_names in skeletons]
    named = [one for one in listed if plain_name(one.name) == "person"]
    return [[one.id for one in some if one.id is not None] for some in (fits, named)]


def people_rows(
    found: Sequence[Id | None],
    choices: Sequence[Collection[Id]],
    source: str,
    *,
    told: bool = False,
) -> tuple[np.ndarray, list[Id]]:
    """Which rows of a file are people, by their categories: the one rule for every kind of file.

    People are the first of `choices` that occurs, else COCO's category 1, else the only category
    there is. A row without a category is one of the people.

    Args:
        found: the category of each row, None where it has none.
        choices: categories of people as an annotation file names them, the best first.
        source: the file, for messages.
        told: `choices` are those of this file itself, which is taken at its word.

    Returns:
        (N,) bool, and the categories taken.

    Raises:
        UserError: no row is one of people.
    """
    present = {one for one in found if one is not None}
    wanted, tried = set[Id]().union(*choices) or {1}, list(map(set[Id], choices))
    if not (told and any(tried)):
        tried += [{1}, present if len(present) == 1 else set()]
    taken = next((present & choice for choice in tried if present & choice), set[Id]())
    if present and not taken and None not in found:
        raise UserError(
            f"{source}: none of its {len(found)} rows has the category of people, "
            f"{sorted(wanted, key=str)}; found {sorted(present, key=str)[:10]}. "
            "Cure: correct category_id, or name one category 'person' in `categories`"
        )
    return np.array([name is None or name in taken for name in found], bool), sorted(taken, key=str)


def schema_from_category(
    category: Category, source: str = "categories"
) -> tuple[KeypointSchema, list[str]]:
    """One category -> its schema, and sentences on everything that was assumed.

    Raises:
        UserError: no names, a name stands twice, or `sigmas` has the wrong length.
    """
    names, sigmas = category.names, category.sigmas
    if not names or len(names) != len(names if sigmas is None else sigmas):
        have = (
            "no keypoints" if sigmas is None else f"{len(sigmas)} sigmas for {len(names)} keypoints"
        )
        raise UserError(
            f"{source}: category {category.name!r} lists {have}. "
            "Cure: name the keypoints in `keypoints`, and give one OKS sigma for each or none"
        )
    given: dict[str, Any] = {} if sigmas is None else {"sigmas": tuple(map(float, sigmas))}
    if (known := _known_schema(category, source)) is not None:
        return replace(known, **given) if given else known, []
    notes: list[str] = []
    pairs = infer_flip_pairs(names) or infer_flip_pairs(category.plain_names)
    shown = ", ".join(f"{names[left]} <-> {names[right]}" for left, right in pairs)
    skeleton = _skeleton(category.skeleton or [], len(names), source, notes)
    if pairs:
        notes.append(f"{source}: left/right pairs inferred from the names: {shown}")
    if sigmas is None:
        notes.append(
            f"{source}: nobody measured OKS sigmas for these {len(names)} keypoints; "
            f"{DEFAULT_SIGMA} is used for each, so OKS and AP compare only with numbers made with "
            "the same sigmas (give a sigma file, or estimate them from repeated annotations)"
        )
    name = f"{plain_name(category.name or '') or 'custom'}_{len(names)}"
    columns = {"name": name, "keypoints": names, "skeleton": skeleton, "flip_pairs": pairs}
    return build(KeypointSchema, columns | given, source), notes


def _known_schema(category: Category, source: str) -> KeypointSchema | None:
    """The schema that the file stores, or the built-in one of these names in this order."""
    stored = category.schema
    if isinstance(stored, dict) and stored.get("keypoints") == category.names:
        schema = build(KeypointSchema, stored, source)
        return next((known for known in SCHEMAS.values() if known == schema), schema)
    plain = category.plain_names
    spelled = tuple(_SPELLINGS.get(name, name) for name in plain)
    return next((one for one in SCHEMAS.values() if one.keypoints in (plain, spelled)), None)


def schema_from_count(count: int, source: str) -> tuple[KeypointSchema, list[str]]:
    """The schema where no names are listed, COCO's for 17 keypoints; with the warning to show."""
    warning = f"{source}: no category lists keypoint names; "
    if count == len(COCO_17):
        return COCO_17, [f"{warning}17 keypoints are taken as COCO's"]
    names = tuple(f"keypoint_{index + 1}" for index in range(count))
    warning += f"they are called keypoint_1..keypoint_{count}, with no left/right pairs"
    return KeypointSchema(name=f"custom_{count}", keypoints=names), [warning]


def category_of(schema: KeypointSchema, category_id: int = 1) -> dict[str, Any]:
    """A COCO category for a schema: skeleton from 1 as COCO's, and the whole under `schema`."""
    own = schema.name.removesuffix(f"_{len(schema)}")
    people = schema.name in SCHEMAS and own not in ("hand", "ap10k")
    return {
        "id": category_id,
        "name": "person" if people else own,
        "keypoints": list(schema.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in schema.skeleton],
        "schema": to_plain(schema),
    }


def _skeleton(pairs: Any, count: int, source: str, notes: list[str]) -> tuple[tuple[int, int], ...]:
    """COCO counts from 1; some tools from 0, which shows where an index 0 stands."""
    try:
        numbers = np.array(pairs, np.int64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        notes.append(f"{source}: the skeleton is no list of pairs, left out: {str(pairs)[:80]}")
        return ()
    if not numbers.all():
        notes.append(f"{source}: the skeleton counts from 0 (COCO counts from 1) and is read so")
    numbers = numbers - bool(numbers.all())
    good: Any = ((numbers >= 0) & (numbers < count)).all(1)
    if not good.all():
        notes.append(
            f"{source}: {int((~good).sum())} of {len(good)} skeleton pairs point outside the "
            f"{count} keypoints, left out"
        )
    return tuple(map(tuple, numbers[good].tolist()))


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
