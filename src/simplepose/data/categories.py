"""COCO `categories`: which of them are the people, and a category to its KeypointSchema and
back."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from simplepose.core.errors import UserError
from simplepose.core.schema import (
    COCO_17,
    CROWDPOSE_14,
    DEFAULT_SIGMA,
    SCHEMAS,
    KeypointSchema,
    infer_flip_pairs,
)
from simplepose.core.settings import build, to_plain

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


def known_schema(names: Sequence[str]) -> KeypointSchema | None:
    """The built-in schema with these names in this order, whatever their spelling, or None."""
    plain = [plain_name(name) for name in names]
    for schema in SCHEMAS.values():
        if plain == list(schema.keypoints):
            return schema
    if [_SPELLINGS.get(name, name) for name in plain] == list(CROWDPOSE_14.keypoints):
        return CROWDPOSE_14
    return None


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
    if chosen is not None:
        found = [one for one in listed if str(chosen) in (str(one.id), str(one.name))]
        if not found:
            names = ", ".join(f"{one.id} {one.name}" for one in listed) or "none"
            raise UserError(
                f"{source} has no category {chosen!r}. Cure: choose one of its categories: {names}"
            )
        return found[:1]
    found = [one for one in listed if one.keypoints]
    if len({one.plain_names for one in found}) > 1:
        names = "; ".join(f"{one.id} {one.name} ({len(one.names)} keypoints)" for one in found)
        raise UserError(
            f"{source} has several categories with different keypoints: {names}. Cure: choose one "
            "by id or name with --data.category (convert and doctor: --category)"
        )
    return found


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
    present = {name for name in found if name is not None}
    tried: list[set[Id]] = [set(choice) for choice in choices if choice]
    if not (told and tried):
        tried += [{1}, present if len(present) == 1 else set()]
    taken = next((choice for choice in tried if choice & present), set())
    if present and not taken and None not in found:
        wanted = set.union(*(set(choice) for choice in choices), set()) or {1}
        raise UserError(
            f"{source}: none of its {len(found)} rows has the category of people, "
            f"{sorted(wanted, key=str)}; found {sorted(present, key=str)[:10]}. "
            "Cure: correct category_id, or name one category 'person' in `categories`"
        )
    kept = np.array([name is None or name in taken for name in found], bool)
    return kept, sorted(taken & present, key=str)


def schema_from_category(
    category: Category, sigmas: Sequence[float] | None = None, source: str = "categories"
) -> tuple[KeypointSchema, list[str]]:
    """One category -> its schema, and sentences on everything that was assumed.

    Raises:
        UserError: no names, a name stands twice, or `sigmas` has the wrong length.
    """
    names = category.names
    if not names:
        raise UserError(
            f"{source}: category {category.name!r} lists no keypoints. Cure: add their names to `keypoints`"
        )
    sigmas = category.sigmas if sigmas is None else sigmas
    if sigmas is not None and len(sigmas) != len(names):
        raise UserError(
            f"{source}: {len(sigmas)} sigmas for {len(names)} keypoints. Cure: give one OKS sigma for each of {names}"
        )
    stored, schema = category.schema, known_schema(names)
    if isinstance(stored, dict) and stored.get("keypoints") == names:
        schema = build(KeypointSchema, stored, source)
    if schema is not None:
        schema = SCHEMAS[schema.name] if schema == SCHEMAS.get(schema.name) else schema
        if sigmas is not None:
            schema = replace(schema, sigmas=tuple(map(float, sigmas)))
        return schema, []
    warnings: list[str] = []
    skeleton = _skeleton(category.skeleton or [], len(names), source, warnings)
    pairs = infer_flip_pairs(names) or infer_flip_pairs(list(category.plain_names))
    shown = ", ".join(f"{names[left]} <-> {names[right]}" for left, right in pairs)
    shown = shown or "none: mirrored training would not swap any keypoint"
    warnings.append(f"{source}: left/right pairs inferred from the names: {shown}")
    if sigmas is None:
        warnings.append(
            f"{source}: nobody measured OKS sigmas for these {len(names)} keypoints; "
            f"{DEFAULT_SIGMA} is used for each, so OKS and AP compare only with numbers made with "
            "the same sigmas (give a sigma file, or estimate them from repeated annotations)"
        )
    schema = KeypointSchema(
        name=f"{plain_name(category.name or 'custom') or 'custom'}_{len(names)}",
        keypoints=tuple(names),
        skeleton=skeleton,
        flip_pairs=pairs,
        sigmas=tuple(map(float, sigmas or ())),
    )
    return schema, warnings


def schema_from_count(count: int, source: str) -> tuple[KeypointSchema, str]:
    """The schema where no names are listed, COCO's for 17 keypoints; with the warning to show."""
    if count == len(COCO_17):
        warning = f"{source}: no category lists keypoint names; 17 keypoints are taken as COCO's"
        return COCO_17, warning
    names = tuple(f"keypoint_{index + 1}" for index in range(count))
    return KeypointSchema(name=f"custom_{count}", keypoints=names), (
        f"{source}: no category lists keypoint names; they are called keypoint_1..keypoint_{count}, with no left/right pairs"
    )


def category_of(schema: KeypointSchema, category_id: int = 1) -> dict[str, Any]:
    """A COCO category for a schema: skeleton from 1 as COCO's, and the whole under `schema`."""
    custom = schema.name.removesuffix(f"_{len(schema)}")
    return {
        "id": category_id,
        "name": "person" if schema.name in SCHEMAS else custom,
        "keypoints": list(schema.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in schema.skeleton],
        "schema": to_plain(schema),
    }


def _skeleton(
    pairs: Any, count: int, source: str, warnings: list[str]
) -> tuple[tuple[int, int], ...]:
    """COCO counts from 1; some tools from 0, which shows where an index 0 stands."""
    try:
        numbers = [(int(pair[0]), int(pair[1])) for pair in pairs]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        warnings.append(
            f"{source}: the skeleton is not a list of pairs of numbers and is left out: {str(pairs)[:80]}"
        )
        return ()
    first = 0 if any(0 in pair for pair in numbers) else 1
    shifted = [(a - first, b - first) for a, b in numbers]
    good = [pair for pair in shifted if min(pair) >= 0 and max(pair) < count]
    if first == 0:
        warnings.append(f"{source}: the skeleton counts from 0 (COCO counts from 1) and is read so")
    if len(good) < len(numbers):
        warnings.append(
            f"{source}: {len(numbers) - len(good)} of {len(numbers)} skeleton pairs point outside the {count} keypoints, left out"
        )
    return tuple(good)
