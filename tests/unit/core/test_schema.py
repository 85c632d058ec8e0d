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
        if not schema.keypoints[left].startswith("face_"):
            assert schema.keypoints[left] == schema.keypoints[right].replace("right", "left")
    sided = {k for k in schema.keypoints if "left" in k or "right" in k}
    paired = {schema.keypoints[i] for pair in schema.flip_pairs for i in pair}
    assert {k for k in paired if not k.startswith(("face_", "wrist"))} == sided
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


def test_the_larger_schemas_are_the_published_ones() -> None:
    whole, halpe = SCHEMAS["coco_wholebody_133"], SCHEMAS["halpe_26"]
    hand, animal = SCHEMAS["hand_21"], SCHEMAS["ap10k_17"]
    assert [len(one) for one in (whole, halpe, hand, animal)] == [133, 26, 21, 17]
    for one in (whole, halpe):
        assert one.keypoints[:17] == COCO_17.keypoints
        assert one.sigmas[:17] == COCO_17.sigmas
    # COCO-WholeBody: 17 of the body, 6 of the feet, 68 of the face, 21 of each hand. Sums and
    # single values are those of its evaluation code.
    feet, face = whole.sigmas[17:23], whole.sigmas[23:91]
    left, right = whole.sigmas[91:112], whole.sigmas[112:]
    assert feet == (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
    assert left == right == hand.sigmas
    assert sum(face) == pytest.approx(1.137) and sum(left) == pytest.approx(0.553)
    assert face[8] == 0.02 and face[30] == 0.007 and face[47] == 0.034 and left[4] == 0.047
    assert set(halpe.sigmas[17:20]) == {0.08} and set(halpe.sigmas[20:]) == {0.089}
    # AP-10K gives a joint the sigma of the like joint of a person.
    like = {"front_paw": "wrist", "back_paw": "ankle"}
    for name, sigma in zip(animal.keypoints, animal.sigmas, strict=True):
        side, _, joint = name.partition("_")
        human = f"{side}_{like.get(joint, joint)}" if joint else name
        if human in COCO_17.keypoints:
            assert sigma == COCO_17.sigmas[COCO_17.keypoints.index(human)], name


def test_the_mirrored_face_keeps_its_parts() -> None:
    """The 68 points: contour 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67. A mirrored
    contour runs backwards; the midline 8, 27-30, 33, 51, 57, 62, 66 stays."""
    order = SCHEMAS["coco_wholebody_133"].flip_order[23:91] - 23
    assert order[:17].tolist() == list(range(16, -1, -1))
    assert order[17:27].tolist() == list(range(26, 16, -1))
    assert [i for i, to in enumerate(order) if i == to] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert sorted(order[36:42]) == list(range(42, 48))
    parts = [range(17), range(17, 27), range(27, 36), range(36, 48), range(48, 60), range(60, 68)]
    for part in parts:
        assert sorted(order[list(part)]) == list(part)


def test_a_mirrored_hand_is_the_other_hand() -> None:
    hand = SCHEMAS["hand_21"]
    assert hand.knows_sides and hand.flip_order.tolist() == list(range(21))
