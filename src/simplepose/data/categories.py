"""COCO `categories` -> KeypointSchema: which category has keypoints, their names, skeleton, left/right pairs and OKS sigmas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14, DEFAULT_SIGMA, SCHEMAS, KeypointSchema, infer_flip_pairs
from simplepose.core.settings import build, to_plain

_SPELLINGS = {"top_head": "head", "head_top": "head"}


def plain_name(name: str) -> str:
    """A keypoint name in one spelling: `Left Eye`, `left-eye`, `leftEye` -> `left_eye`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name).strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.lower()).strip("_")


def known_schema(names: Sequence[str]) -> KeypointSchema | None:
    """The built-in schema with these keypoint names in this order, whatever their spelling; None if there is none."""
    plain = [plain_name(name) for name in names]
    for schema in SCHEMAS.values():
        if plain == list(schema.keypoints):
            return schema
    if [_SPELLINGS.get(name, name) for name in plain] == list(CROWDPOSE_14.keypoints):
        return CROWDPOSE_14
    return None


def keypoint_categories(categories: list[dict[str, Any]], source: str, chosen: int | str | None = None) -> list[dict[str, Any]]:
    """The categories with keypoints: one, or several that share one list of keypoints.

    Args:
        categories: the `categories` of a COCO file.
        source: the file, for messages.
        chosen: id or name of one category.

    Raises:
        UserError: the chosen category is not there, or several have different keypoints and none is chosen.
    """
    if chosen is not None:
        found = [category for category in categories if str(chosen) in (str(category.get("id")), str(category.get("name")))]
        if not found:
            listed = ", ".join(f"{category.get('id')} {category.get('name')}" for category in categories) or "none"
            raise UserError(f"{source} has no category {chosen!r}. Cure: choose one of its categories: {listed}")
        return found[:1]
    found = [category for category in categories if category.get("keypoints")]
    if len({tuple(plain_name(name) for name in category["keypoints"]) for category in found}) > 1:
        listed = "; ".join(f"{category.get('id')} {category.get('name')} ({len(category['keypoints'])} keypoints)" for category in found)
        raise UserError(
            f"{source} has several categories with different keypoints: {listed}. Cure: choose one by id or name with --data.category "
            "(convert and doctor: --category)"
        )
    return found


def rows_of_categories(
    rows: list[dict[str, Any]], kept: list[dict[str, Any]], listed: list[dict[str, Any]], source: str, warnings: list[str]
) -> list[dict[str, Any]]:
    """The annotations of the `kept` categories; those of a category that is not `listed` are left out with a warning.

    Raises:
        UserError: there are annotations, and none of these categories.
    """
    wanted = {str(entry.get("id")) for entry in kept}
    mine = [row for row in rows if str(row.get("category_id")) in wanted]
    if rows and not mine:
        found = sorted({str(row.get("category_id")) for row in rows})[:5]
        raise UserError(f"{source}: no annotation has category {sorted(wanted)}; theirs are {found}. Cure: correct `category_id`")
    if len(mine) < len(rows):
        known = {str(entry.get("id")) for entry in listed}
        lost = [name for name in (str(row.get("category_id")) for row in rows) if name not in known]
        if lost:
            names = ", ".join(list(dict.fromkeys(lost))[:5])
            warnings.append(
                f"{source}: {len(lost)} of {len(rows)} annotations are left out: their `category_id` ({names}) is not in `categories`"
            )
    return mine


def people_categories(kept: list[dict[str, Any]], rows: list[dict[str, Any]], listed: list[dict[str, Any]]) -> tuple[int, ...]:
    """Ids of the people's categories: those with keypoints, else the one of the people, else the only one there is, else COCO's 1."""
    numbers = category_numbers(listed)
    if kept:
        return tuple(numbers[str(category.get("id"))] for category in kept)
    found = next((row["category_id"] for row in rows if row.get("category_id") is not None), None)
    if found is None and not rows and len(listed) == 1:
        found = listed[0].get("id")
    return (1 if found is None else (category_numbers([{"id": found}]) | numbers)[str(found)],)


def category_numbers(listed: list[dict[str, Any]]) -> dict[str, int]:
    """The number of each category by its id as the file spells it: the id itself, or its place from 1 where an id is a word."""
    ids: list[Any] = [category.get("id") for category in listed]
    try:
        return {str(name): int(name) for name in ids}
    except (TypeError, ValueError, OverflowError):
        return {str(name): place for place, name in enumerate(ids, 1)}


def schema_from_category(
    category: dict[str, Any], sigmas: Sequence[float] | None = None, source: str = "categories"
) -> tuple[KeypointSchema, list[str]]:
    """One COCO category -> its schema, and sentences on everything that was assumed.

    Raises:
        UserError: a name stands twice, or `sigmas` has the wrong length.
    """
    names = [str(name) for name in category.get("keypoints") or ()]
    if not names:
        raise UserError(f"{source}: category {category.get('name')!r} lists no keypoints. Cure: add their names to `keypoints`")
    if sigmas is None:
        sigmas = category.get("sigmas")
    if sigmas is not None and len(sigmas) != len(names):
        raise UserError(f"{source}: {len(sigmas)} sigmas for {len(names)} keypoints. Cure: give one OKS sigma for each of {names}")
    stored = category.get("schema")
    schema = build(KeypointSchema, stored, source) if isinstance(stored, dict) and stored.get("keypoints") == names else known_schema(names)
    if schema is not None:
        schema = SCHEMAS[schema.name] if schema == SCHEMAS.get(schema.name) else schema
        return (schema if sigmas is None else replace(schema, sigmas=tuple(map(float, sigmas)))), []
    warnings: list[str] = []
    skeleton = _skeleton(category.get("skeleton") or [], len(names), source, warnings)
    pairs = infer_flip_pairs(names) or infer_flip_pairs([plain_name(name) for name in names])
    shown = ", ".join(f"{names[left]} <-> {names[right]}" for left, right in pairs) or "none: mirrored training would not swap any keypoint"
    warnings.append(f"{source}: left/right pairs inferred from the names: {shown}")
    if sigmas is None:
        warnings.append(
            f"{source}: nobody measured OKS sigmas for these {len(names)} keypoints; {DEFAULT_SIGMA} is used for each, so OKS and AP "
            "compare only with numbers made with the same sigmas (give a sigma file, or estimate them from repeated annotations)"
        )
    schema = KeypointSchema(
        name=f"{plain_name(category.get('name') or 'custom') or 'custom'}_{len(names)}",
        keypoints=tuple(names),
        skeleton=skeleton,
        flip_pairs=pairs,
        sigmas=tuple(float(sigma) for sigma in sigmas or ()),
    )
    return schema, warnings


def schema_from_count(count: int, source: str) -> tuple[KeypointSchema, str]:
    """The schema of a file whose categories list no names: COCO's for 17 keypoints, else numbered names; with the warning to show."""
    if count == len(COCO_17):
        return COCO_17, f"{source}: no category lists keypoint names; 17 keypoints are taken as COCO's"
    names = tuple(f"keypoint_{index + 1}" for index in range(count))
    warning = f"{source}: no category lists keypoint names; they are called keypoint_1..keypoint_{count}, with no left/right pairs"
    return KeypointSchema(name=f"custom_{count}", keypoints=names), warning


def category_of(schema: KeypointSchema, category_id: int = 1) -> dict[str, Any]:
    """A COCO category for a schema: 1-based skeleton as COCO writes it, and the whole schema under `schema` so that it survives."""
    return {
        "id": category_id,
        "name": "person" if schema.name in SCHEMAS else schema.name.removesuffix(f"_{len(schema)}"),
        "keypoints": list(schema.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in schema.skeleton],
        "schema": to_plain(schema),
    }


def _skeleton(pairs: list[Any], count: int, source: str, warnings: list[str]) -> tuple[tuple[int, int], ...]:
    """COCO counts from 1; some tools from 0, which shows where an index 0 stands."""
    try:
        numbers = [(int(pair[0]), int(pair[1])) for pair in pairs]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        warnings.append(f"{source}: the skeleton is not a list of pairs of numbers and is left out: {str(pairs)[:80]}")
        return ()
    first = 0 if any(0 in pair for pair in numbers) else 1
    good = [(a - first, b - first) for a, b in numbers if all(0 <= index - first < count for index in (a, b))]
    if first == 0:
        warnings.append(f"{source}: the skeleton counts from 0 (COCO counts from 1) and is read so")
    if len(good) < len(numbers):
        warnings.append(
            f"{source}: {len(numbers) - len(good)} of {len(numbers)} skeleton pairs point outside the {count} keypoints, left out"
        )
    return tuple(good)
