"""Keypoints mapped by name, data sets joined, sigmas estimated or read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.mapping import (
    concatenate,
    estimate_sigmas,
    keypoint_indices,
    map_annotations,
    read_sigmas,
    with_sigmas,
)


def people(schema: KeypointSchema, count: int = 2, **changes: Any) -> Annotations:
    """People whose keypoint k of person n stands at (10 k, n), one a picture."""
    keypoints = np.zeros((count, len(schema), 2))
    keypoints[..., 0] = 10 * np.arange(len(schema))
    keypoints[..., 1] = np.arange(count)[:, None]
    base = Annotations(
        schema=schema,
        source=f"{schema.name}.json",
        image_ids=np.arange(count),
        image_paths=tuple(f"{schema.name}/{index}.jpg" for index in range(count)),
        image_sizes_wh=np.full((count, 2), 200),
        annotation_ids=np.arange(count),
        image_index=np.arange(count),
        bbox_xywh=np.tile([0.0, 0, 180, 50], (count, 1)),
        keypoints=keypoints,
        visibility=np.full((count, len(schema)), 2),
        area=np.full(count, 100.0),
        is_crowd=np.zeros(count, bool),
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("source", "target", "name", "wanted"),
    [
        (MPII_16, COCO_17, "left_wrist", "left_wrist"),
        (MPII_16, COCO_17, "nose", None),
        (CROWDPOSE_14, MPII_16, "head_top", "head"),
        (CROWDPOSE_14, MPII_16, "upper_neck", "neck"),
        (CROWDPOSE_14, MPII_16, "thorax", None),
        (MPII_16, POSETRACK_15, "head_bottom", "upper_neck"),
        (POSETRACK_15, CROWDPOSE_14, "head", "head_top"),
        (COCO_17, COCO_17, "right_ear", "right_ear"),
    ],
)
def test_places(
    source: KeypointSchema, target: KeypointSchema, name: str, wanted: str | None
) -> None:
    place = keypoint_indices(source, target)[target.keypoints.index(name)]
    assert place == (-1 if wanted is None else source.keypoints.index(wanted))


def test_mapping_masks_what_is_lacking() -> None:
    found = map_annotations(people(MPII_16), COCO_17)
    assert found.schema is COCO_17 and found.keypoint_counts.tolist() == [12, 12]
    for index, name in enumerate(COCO_17.keypoints):
        if name in MPII_16.keypoints:
            assert (
                found.keypoints[1, index].tolist() == [10 * MPII_16.keypoints.index(name), 1]
                and found.visibility[1, index] == 2
            )
        else:
            assert found.keypoints[1, index].tolist() == [0, 0] and found.visibility[1, index] == 0
    assert (
        "12 of 17" in found.warnings[0]
        and "lacking nose" in found.warnings[0]
        and "left out pelvis" in found.warnings[0]
    )
    same = map_annotations(people(COCO_17), COCO_17)
    assert np.array_equal(same.keypoints, people(COCO_17).keypoints) and not same.warnings
    assert len(map_annotations(people(MPII_16, 0), COCO_17)) == 0


def test_schemas_that_cannot_be_mapped() -> None:
    horse = KeypointSchema(name="horse", keypoints=("muzzle", "withers"))
    with pytest.raises(UserError, match=r"'horse' cannot be mapped to 'coco_17'.*Cure"):
        map_annotations(people(horse), COCO_17)


def test_concatenate() -> None:
    with pytest.raises(UserError, match="data sets"):
        concatenate([])
    with pytest.raises(UserError, match=r"mpii_16\.json .*'mpii_16'.*coco_17\.json 'coco_17'"):
        concatenate([people(COCO_17), people(MPII_16)])
    first, second = (
        people(COCO_17, 3),
        people(COCO_17, 2, track_ids=np.array([5, 6]), image_extras=({"crowdIndex": 1}, {})),
    )
    joined = concatenate([first, people(COCO_17, 0), second])
    assert (
        len(joined) == 5
        and len(set(joined.image_ids.tolist())) == 5
        and len(set(joined.annotation_ids.tolist())) == 5
    )
    assert (
        joined.image_index.tolist() == [0, 1, 2, 3, 4] and joined.image_paths[3] == "coco_17/0.jpg"
    )
    assert joined.track_ids is not None and joined.track_ids.tolist() == [-1, -1, -1, 5, 6]
    assert joined.image_extras == ({}, {}, {}, {"crowdIndex": 1}, {}) and joined.keypoints[
        4, 0
    ].tolist() == [0, 1]
    distinct = concatenate(
        [first, replace(second, image_ids=np.array([70, 80]), annotation_ids=np.array([9, 8]))]
    )
    assert distinct.image_ids.tolist() == [
        0,
        1,
        2,
        70,
        80,
    ] and distinct.annotation_ids.tolist() == [0, 1, 2, 9, 8]
    assert concatenate([first]) is first


def test_joined_people_know_their_files() -> None:
    parts = [replace(people(COCO_17), source=name) for name in ("a.json", "b + c.json", "d.json")]
    assert parts[1].source_files == ("b + c.json",)
    joined = concatenate([concatenate(parts[:2]), parts[2]])
    for kept in (
        joined,
        joined.select(np.array([5])),
        joined.trainable(),
        map_annotations(joined, MPII_16),
    ):
        assert kept.source_files == ("a.json", "b + c.json", "d.json")


def test_joined_boxes_are_clipped_where_their_own_set_says_so() -> None:
    over = np.array([[-20.0, -20, 400, 400]])
    clipped = people(COCO_17, 1, bbox_xywh=over)
    kept = map_annotations(people(MPII_16, 1, bbox_xywh=over, clip_boxes=False), COCO_17)
    joined = concatenate([clipped, kept]).trainable()
    assert joined.bbox_xywh.tolist() == [
        clipped.trainable().bbox_xywh[0].tolist(),
        over[0].tolist(),
    ]
    assert joined.bbox_xywh[0].tolist() == [0, 0, 199, 199]


def test_sigmas_of_repeated_annotations() -> None:
    rng = np.random.default_rng(1)
    schema = KeypointSchema(name="two", keypoints=("a", "b"))
    count, scale, true = 600, 100.0, np.array([0.03, 0.1])
    place = rng.uniform(0, 50, (count, 1, 2, 2))
    # sigma^2 = E[d^2 / s^2] with d in the plane: each axis has half the variance
    marks = (
        place
        + rng.normal(0, 1, (count, 2, 2, 2)) * (true * scale / np.sqrt(2))[None, None, :, None]
    )
    base = people(schema, count)
    repeated = replace(
        base,
        annotation_ids=np.arange(2 * count),
        image_index=np.repeat(np.arange(count), 2),
        bbox_xywh=np.tile([0.0, 0, 100, 100], (2 * count, 1)),
        keypoints=marks.reshape(-1, 2, 2),
        visibility=np.full((2 * count, 2), 2),
        area=np.full(2 * count, scale**2),
        is_crowd=np.zeros(2 * count, bool),
    )
    assert estimate_sigmas(repeated) == pytest.approx(true, rel=0.08)
    with pytest.raises(UserError, match=r"two\.json: .*\ba \(0\), b \(0\)"):
        estimate_sigmas(base)
    assert with_sigmas(base, [0.2, 0.3]).schema.sigmas == (0.2, 0.3)
    with pytest.raises(UserError, match="'two' .*2 .*3 sigmas"):
        with_sigmas(base, [0.1, 0.2, 0.3])


def test_sigma_files(tmp_path: Path) -> None:
    schema, path = KeypointSchema(name="two", keypoints=("a", "b")), tmp_path / "sigmas.json"
    for value, wanted in (([0.1, 0.2], (0.1, 0.2)), ({"b": 1, "a": 0.5}, (0.5, 1.0))):
        path.write_text(json.dumps(value))
        assert read_sigmas(path, schema) == wanted
    for bad, words in (
        ([0.1], r"sigmas\.json: 1 .* 2 "),
        ({"a": 1}, r"sigmas\.json: .*\['b'\].*\[\]"),
        ({"a": 1, "b": 1, "c": 1}, r"sigmas\.json: .*\[\], .*\['c'\]"),
        ([0.1, 0], r"sigmas\.json: .*\[0\.1, 0\]"),
        ("x", r"sigmas\.json: .*'x'"),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError, match=words):
            read_sigmas(path, schema)
