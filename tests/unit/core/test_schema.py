"""Keypoint vocabularies."""

from __future__ import annotations

import pytest

from simplepose import COCO_17, UserError
from simplepose.core.schema import (
    CROWDPOSE_14,
    SCHEMAS,
    KeypointSchema,
    infer_flip_pairs,
    schema_named,
    schema_with,
)
from simplepose.core.settings import build, to_plain


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_built_in_schemas_are_consistent(name: str) -> None:
    schema = SCHEMAS[name]
    assert build(KeypointSchema, to_plain(schema), "a file") == schema
    for left, right in schema.flip_pairs:
        assert schema.keypoints[left] == schema.keypoints[right].replace("right", "left")
    assert {schema.keypoints[i] for pair in schema.flip_pairs for i in pair} == {
        k for k in schema.keypoints if "left" in k or "right" in k
    }
    assert not set(schema.upper_body) & set(schema.lower_body)


def test_built_in_schemas_by_name_and_by_count() -> None:
    assert (
        schema_named("coco_17") is COCO_17
        and schema_with(14) is CROWDPOSE_14
        and schema_with(3) is None
    )
    with pytest.raises(
        UserError, match=r"there is no schema 'dogs'\. Cure: one of coco_17, mpii_16"
    ):
        schema_named("dogs")


def test_coco_sigmas_are_the_published_ones() -> None:
    published = [
        0.26,
        0.25,
        0.25,
        0.35,
        0.35,
        0.79,
        0.79,
        0.72,
        0.72,
        0.62,
        0.62,
        1.07,
        1.07,
        0.87,
        0.87,
        0.89,
        0.89,
    ]
    assert [round(sigma * 10, 4) for sigma in COCO_17.sigmas] == published


def test_crowdpose_sigmas_are_the_published_ones() -> None:
    published = {
        "shoulder": 0.079,
        "elbow": 0.072,
        "wrist": 0.062,
        "hip": 0.107,
        "knee": 0.087,
        "ankle": 0.089,
        "head": 0.079,
        "neck": 0.079,
    }
    found = dict(zip(CROWDPOSE_14.keypoints, CROWDPOSE_14.sigmas, strict=True))
    assert len(found) == 14 and found == {
        name: published[name.removeprefix("left_").removeprefix("right_")] for name in found
    }


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        ([], ()),
        (["nose", "tail"], ()),
        (["left_eye", "right_eye"], ((0, 1),)),
        (["right_paw", "left_paw", "nose"], ((1, 0),)),
        (["paw_left", "paw_right"], ((0, 1),)),
        (["Eye.L", "Eye.R"], ((0, 1),)),
        (["l-knee", "r-knee"], ((0, 1),)),
        (["LShoulder", "RShoulder", "Neck"], ((0, 1),)),
        (["LeftHand", "RightHand"], ((0, 1),)),
        (["left_eye", "nose"], ()),  # no partner
        (["tail", "rail"], ()),  # letters inside words are no sides
    ],
)
def test_pairs_from_names(names: list[str], pairs: tuple[tuple[int, int], ...]) -> None:
    assert infer_flip_pairs(names) == pairs


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"keypoints": ()}, "'mine' .*no keypoints"),
        ({"keypoints": ("a", "a")}, "twice"),
        ({"keypoints": ("a", "b"), "sigmas": (0.1,)}, "2 keypoints .*1 sigmas"),
        ({"keypoints": ("a", "b"), "sigmas": (0.1, 0.0)}, r"schema\.sigmas is 0\.0"),
        ({"keypoints": ("a", "b"), "skeleton": ((1, 2),)}, r"outside 0\.\.1: \[2\], in skeleton"),
        ({"keypoints": ("a", "b"), "upper_body": (-1,)}, r"outside 0\.\.1: \[-1\].*upper_body"),
        ({"keypoints": ("a", "b"), "flip_pairs": ((0, 1), (1, 0))}, "flip pairs"),
    ],
)
def test_mistakes_are_named(fields: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        KeypointSchema(name="mine", **fields)
