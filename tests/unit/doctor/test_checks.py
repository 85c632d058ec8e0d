"""The doctor's checks: each fault of a table is found, and a clean set gives nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations, Detections, ground_truth_boxes
from simplepose.data.coco import read_coco
from simplepose.doctor.checks import (
    check_annotations,
    check_detections,
    check_images,
    check_sides,
    coverage,
    histograms,
    overview,
)
from simplepose.report.findings import thumbnail, write_findings

FRONT = np.array(
    [
        [50, 10],
        [55, 8],
        [45, 8],
        [60, 10],
        [40, 10],
        [70, 30],
        [30, 30],
        [75, 50],
        [25, 50],
        [80, 70],
        [20, 70],
        [62, 80],
        [38, 80],
        [63, 110],
        [37, 110],
        [64, 140],
        [36, 140],
    ],
    float,
)
"""A person seen from the front in a box of 100 x 150."""


def crowd(count: int = 20) -> Annotations:
    """Clean people, two a picture of 400 x 300."""
    rng = np.random.default_rng(0)
    corner = np.stack([np.arange(count) % 2 * 150.0 + 10, rng.uniform(5, 100, count)], 1)
    return Annotations(
        schema=COCO_17,
        source="set.json",
        image_ids=np.arange(100, 100 + count // 2),
        image_paths=tuple(f"pictures/{index}.jpg" for index in range(count // 2)),
        image_sizes_wh=np.tile([400, 300], (count // 2, 1)),
        annotation_ids=np.arange(count) + 1000,
        image_index=np.arange(count) // 2,
        bbox_xywh=np.concatenate([corner, np.tile([100.0, 150], (count, 1))], 1),
        keypoints=FRONT + corner[:, None],
        visibility=np.full((count, 17), 2),
        area=np.full(count, 8000.0),
        is_crowd=np.zeros(count, bool),
    )


def change(name: str, edit: Callable[[np.ndarray], Any]) -> Callable[[Annotations], Annotations]:
    """A fault: one column edited."""

    def apply(annotations: Annotations) -> Annotations:
        column = getattr(annotations, name).copy()
        result = edit(column)
        return replace(annotations, **{name: column if result is None else result})

    return apply


def part(target: np.ndarray, rows: Any, value: Any) -> None:
    target[rows] = value


SHOULDERS = [0, 1, 2, 3, 4, 6, 5, *range(7, 17)]


def test_clean_and_empty() -> None:
    assert check_annotations(crowd()) == []
    (empty,) = check_annotations(crowd().select([]))
    assert empty.level == "broken" and "AP would be -1" in empty.problem
    assert overview(crowd().select([]))["people"] == 0 and len(histograms(crowd().select([]))) == 4


@pytest.mark.parametrize(
    ("fault", "level", "words", "count"),
    [
        (
            change("visibility", lambda v: 0 * v),
            "broken",
            "no keypoint is labelled: AP would be -1",
            20,
        ),
        (change("is_crowd", lambda c: ~c), "broken", "marked iscrowd: AP would be -1", 20),
        (change("keypoints", lambda k: k / 400), "broken", "keypoints in 0..1", 20),
        (change("area", lambda a: 0 * a), "broken", "area 0", 20),
        (change("area", lambda a: part(a, 3, 0)), "warning", "area 0", 1),
        (change("area", lambda a: a * 50), "broken", "AP will be too high", 20),
        (change("area", lambda a: part(a, 3, 1e6)), "warning", "AP will be too high", 1),
        (change("area", lambda a: part(a, 3, 20000)), "warning", "area larger than their box", 1),
        (change("bbox_xywh", lambda b: part(b, (4, 2), 0)), "warning", "no positive width", 1),
        (
            change("bbox_xywh", lambda b: part(b, (4, slice(0, 2)), 500)),
            "warning",
            "wholly outside their picture",
            1,
        ),
        (
            change("bbox_xywh", lambda b: part(b, (4, 3), 280)),
            "warning",
            "reach outside their picture",
            1,
        ),
        (change("bbox_xywh", lambda b: b * 0.5), "broken", "far outside their box", 20),
        (
            change("keypoints", lambda k: part(k, (2, 5), (900, 5))),
            "warning",
            "labelled keypoints outside their picture",
            1,
        ),
        (change("keypoints", lambda k: part(k, (2, 5), 0)), "warning", "exactly (0, 0)", 1),
        (
            change("visibility", lambda v: part(v, (slice(None), 9), 0)),
            "warning",
            "never labelled",
            1,
        ),
        (
            change("keypoints", lambda k: k[:, COCO_17.flip_order]),
            "broken",
            "left eye on the left",
            20,
        ),
        (change("keypoints", lambda k: k[:, SHOULDERS]), "broken", "left and right disagree", 20),
        (change("image_paths", lambda _: None), "warning", "listed more than once", 1),
    ],
)
def test_faults_are_found(
    fault: Callable[[Annotations], Annotations], level: str, words: str, count: int
) -> None:
    if words == "listed more than once":
        annotations = replace(crowd(), image_paths=("pictures/0.jpg", *crowd().image_paths[:-1]))
    else:
        annotations = fault(crowd())
    matching = [finding for finding in check_annotations(annotations) if words in finding.problem]
    assert len(matching) == 1, check_annotations(annotations)
    (finding,) = matching
    assert (finding.level, finding.count) == (level, count)
    assert finding.cure and 1 <= len(finding.examples) <= 3


def test_the_same_person_twice() -> None:
    annotations = crowd()
    doubled = annotations.select(np.r_[np.arange(20), 7])
    doubled = replace(doubled, annotation_ids=np.arange(21))
    (finding,) = check_annotations(doubled)
    assert (
        "annotated twice" in finding.problem
        and finding.count == 1
        and "annotation 20" in finding.examples[0]
    )


def test_a_twisted_body_is_no_fault() -> None:
    annotations = crowd()
    keypoints = annotations.keypoints.copy()
    keypoints[:, 7:11] = keypoints[:, [8, 7, 10, 9]]  # crossed arms
    assert not list(check_sides(replace(annotations, keypoints=keypoints)))


def test_real_sets_are_clean_and_swaps_are_found(real_data: Any) -> None:
    path = real_data("coco_val2017_visible150") / "person_keypoints_val2017_visible150.json"
    annotations = read_coco(path, "pictures")
    assert not list(check_sides(annotations))
    for order in (COCO_17.flip_order, np.array(SHOULDERS)):
        swapped = replace(
            annotations,
            keypoints=annotations.keypoints[:, order],
            visibility=annotations.visibility[:, order],
        )
        (finding,) = check_sides(swapped)
        assert finding.level == "broken" and finding.count > 100


def detections_file(folder: Path, annotations: Annotations, **changes: Any) -> Path:
    rows = [
        {
            "image_id": int(annotations.image_ids[i]),
            "category_id": 1,
            "bbox": box,
            "score": 0.9,
            **changes,
        }
        for i, box in zip(annotations.image_index, annotations.bbox_xywh.tolist(), strict=True)
    ]
    (folder / "dets.json").write_text(json.dumps(rows))
    return folder / "dets.json"


def test_detections(tmp_path: Path) -> None:
    annotations = crowd()
    found, boxes, covered = check_detections(detections_file(tmp_path, annotations), annotations)
    assert not found and covered == 1 and boxes is not None and len(boxes) == 20
    only, boxes, _ = check_detections(
        detections_file(tmp_path, annotations, category_id=4), annotations
    )
    assert [finding.level for finding in only] == ["warning"] and "category 4" in only[0].problem
    assert boxes is not None and len(boxes) == 20
    for changes in ({"score": 0}, {"image_id": 1}):
        (finding,), none, _ = check_detections(
            detections_file(tmp_path, annotations, **changes), annotations
        )
        assert (
            finding.level == "broken"
            and "AP would be 0" in finding.problem
            and finding.cure
            and none is None
        )
    fractions = check_detections(
        detections_file(tmp_path, annotations, bbox=[0.1, 0.1, 0.3, 0.4]), annotations
    )[0]
    assert any("boxes lie in 0..1" in finding.problem for finding in fractions)
    half = detections_file(tmp_path, annotations.select(np.arange(0, 20, 2)))
    (finding,), boxes, covered = check_detections(half, annotations)
    assert (
        covered == 0.5
        and finding.count == 10
        and "50%" in finding.problem
        and boxes is not None
        and len(boxes) == 10
    )
    rows = json.loads(half.read_text())
    half.write_text(json.dumps([*rows, *({**row, "category_id": 4} for row in rows[:3])]))
    others = check_detections(half, annotations)[0][0]
    assert (others.count, others.problem) == (
        3,
        f"boxes are of other categories and are left out ({half})",
    )


def test_coverage_without_boxes() -> None:
    nothing = Detections(image_index=[], boxes_xyxy=[], scores=[], source="none")
    assert coverage(crowd(), nothing).tolist() == [0] * 20
    assert coverage(crowd(), ground_truth_boxes(crowd())).min() > 0.99


def drawn(folder: Path) -> Annotations:
    """Clean people with real picture files: 0 fine, 1 missing, 2 cut short, 3 of another size."""
    annotations = crowd(8)
    paths = tuple(str(folder / f"{index}.jpg") for index in range(4))
    for index in (0, 2):
        cv2.imwrite(paths[index], np.full((300, 400, 3), 90, np.uint8))
    cv2.imwrite(paths[3], np.full((200, 200, 3), 90, np.uint8))
    Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:400])
    return replace(annotations, image_paths=paths)


def test_images(tmp_path: Path) -> None:
    missing, unreadable, resized = check_images(drawn(tmp_path))
    assert missing.count == unreadable.count == resized.count == 1
    assert (
        missing.examples[0].endswith("1.jpg")
        and "2.jpg" in unreadable.examples[0]
        and "3.jpg is 200x200" in resized.examples[0]
    )
    only_first = crowd(2)
    assert check_images(replace(only_first, image_paths=(str(tmp_path / "0.jpg"),))) == []


def test_page_and_thumbnail(tmp_path: Path) -> None:
    annotations = drawn(tmp_path)
    findings = check_annotations(replace(annotations, area=np.zeros(8)))
    charts = histograms(annotations)
    write_findings(tmp_path / "page.html", ["a <fact>"], findings, charts, annotations)
    page = (tmp_path / "page.html").read_text()
    assert (
        "a &lt;fact&gt;" in page
        and page.count("data:image/jpeg;base64,") >= 2
        and "cannot be read" in page
        and "//" not in page.replace("data:image/jpeg;base64,", "").split("<pre>")[0]
    )
    canvas = thumbnail(np.zeros((300, 400, 3), np.uint8), annotations, 0)
    assert canvas.shape[0] == 260 and canvas.any()
    for box in ([-50, -50, 20, 20], [390, 290, 500, 500], [5, 5, 0, 0]):
        away = replace(
            annotations,
            bbox_xywh=np.tile(np.array(box, float), (8, 1)),
            keypoints=np.full((8, 17, 2), 900.0),
        )
        assert thumbnail(np.zeros((300, 400, 3), np.uint8), away, 0).ndim == 3


def test_statistics() -> None:
    annotations = crowd()
    assert overview(annotations) == {
        "pictures": 10,
        "pictures with people": 10,
        "people": 20,
        "people with keypoints": 20,
        "crowds": 0,
        "people to train on": 20,
        "labelled keypoints": 340,
        "of these hidden": 0,
    }
    pictures, sides, aspect, labelled = histograms(annotations).values()
    assert pictures["2"] == 10 and len(pictures) == 11
    assert sum(sides.values()) == 20 == sides["128 to 192"] == aspect["0.5 to 0.75"]
    assert labelled == dict.fromkeys(COCO_17.keypoints, 20)


def test_boxes_that_are_corners() -> None:
    """Where every box is x1, y1, x2, y2 the keypoints lie inside all the same: sizes of pictures give it away."""
    people = crowd()
    corners = people.bbox_xywh.copy()
    corners[:, 2:] += corners[:, :2]
    (finding,) = [
        finding
        for finding in check_annotations(
            replace(people, bbox_xywh=corners, area=corners[:, 2:].prod(1) * 0.5)
        )
    ]
    assert (
        finding.level == "broken"
        and "x1, y1, x2, y2" in finding.problem
        and finding.count == len(people)
    )
    beyond = replace(
        people, bbox_xywh=people.bbox_xywh + np.array([0, 0, 200, 200])
    )  # large boxes over the border are no corners
    assert not any(
        "look like x1, y1, x2, y2" in finding.problem for finding in check_annotations(beyond)
    )


def test_real_boxes_written_as_corners(real_data: Any) -> None:
    path = real_data("coco_val2017_visible150") / "person_keypoints_val2017_visible150.json"
    people = read_coco(path, "pictures")
    corners = people.bbox_xywh.copy()
    corners[:, 2:] += corners[:, :2]
    for boxes, found in ((people.bbox_xywh, False), (corners, True)):
        findings = check_annotations(replace(people, bbox_xywh=boxes))
        assert (
            any("boxes look like x1, y1, x2, y2" in finding.problem for finding in findings)
            == found
        )
