"""Drawn people and animals: exact, deterministic, COCO's format, never on top of other files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn.quadrupeds import QUADRUPED, write_quadrupeds
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from simplepose.commands import demo
from simplepose.commands.options import DemoOptions, parse
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.data.coco import read_coco, read_detections
from simplepose.data.source import find_layout
from simplepose.synthetic.dataset import write_synthetic_dataset
from simplepose.synthetic.scene import (
    PARTS,
    STRIDE,
    THING,
    Body,
    Canvas,
    Cloth,
    Figure,
    annotate_person,
    draw_look,
    draw_people,
    draw_posture,
    paint_person,
    pose_body,
    rotation,
)

LEFT = [i for i, name in enumerate(COCO_17.keypoints) if name.startswith("left")]
RIGHT = [i for i, name in enumerate(COCO_17.keypoints) if name.startswith("right")]
STANDING = np.array([0, 8, 0, 14, 0, 8, 0, 14, 0, 4, 3, 0, 4, 3, 0])
WHITE = Cloth(np.full(3, 255), np.full(3, 255))


def grey(height: int, width: int) -> Canvas:
    """An empty canvas."""
    return Canvas(np.full((height, width, 3), 120, np.float32), np.array([-0.4, -0.5, 0.77]))


def standing(yaw: float, seed: int = 1, angles: np.ndarray = STANDING) -> Figure:
    """Somebody 210 pixels tall whose feet are at (80, 245)."""
    look = draw_look(np.random.default_rng(seed))
    points = pose_body(look.body, angles, rotation(y=yaw), rotation())
    return Figure(look, points, np.array([80, 245]), 210)


def keypoints_of(row: dict) -> np.ndarray:
    """(17, 3) x, y, visibility."""
    return np.array(row["keypoints"], float).reshape(-1, 3)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory):
    """A small drawn data set."""
    root = tmp_path_factory.mktemp("people") / "set"
    return write_synthetic_dataset(root, train_people=14, val_people=24, seed=3)


@pytest.mark.parametrize(("yaw", "sign"), [(0, 1), (30, 1), (180, -1), (-150, -1)])
def test_facing_people_have_their_left_on_the_right_of_the_picture(yaw: float, sign: int):
    named = pose_body(Body(), STANDING, rotation(y=yaw), rotation())
    points = np.array([named[name] for name in COCO_17.keypoints])
    assert (np.sign(points[LEFT, 0] - points[RIGHT, 0]) == sign).all()


def test_lengths_do_not_change_with_posture_or_view():
    rng = np.random.default_rng(0)
    body = Body()
    for _ in range(20):
        view = rotation(*rng.uniform(-180, 180, 3))
        points = pose_body(body, draw_posture(rng), view, rotation(y=rng.uniform(-40, 40)))
        for start, end, length in (
            ("left_hip", "left_knee", body.thigh),
            ("right_elbow", "right_wrist", body.forearm),
            ("left_shoulder", "right_shoulder", 2 * body.shoulder),
        ):
            assert np.linalg.norm(points[start] - points[end]) == pytest.approx(length)


def test_a_lifted_left_arm_is_the_left_arm():
    """Abduction 90 of the first arm's row: the person's own left hand at the height of the shoulder."""
    angles = STANDING.copy()
    angles[:4] = 0, 90, 0, 0
    points = pose_body(Body(), angles, rotation(), rotation())
    assert points["left_wrist"][1] == pytest.approx(points["left_shoulder"][1])
    assert points["left_wrist"][0] > points["left_shoulder"][0] + 0.3
    assert points["right_wrist"][1] < points["right_shoulder"][1] - 0.2


@pytest.mark.parametrize("yaw", [0, 180])
def test_a_face_is_seen_from_the_front_only(yaw: float):
    canvas, person = grey(260, 160), standing(yaw)
    paint_person(canvas, person, 0)
    points = keypoints_of(annotate_person(canvas, person, 0))
    assert (points[:3, 2] == (2 if yaw == 0 else 1)).all()
    assert (points[3:5, 2] == 2).all()
    if yaw == 0:  # pupils are darker than the white around them
        image = canvas.image.sum(-1)
        for x, y in np.round(points[1:3, :2]).astype(int):
            assert image[y, x] < image[y - 4 : y + 5, x - 5 : x + 6].max() - 150


def test_from_the_side_the_far_half_is_hidden():
    angles = STANDING.copy()
    angles[[0, 4]] = 70  # arms forward: they do not hide the hips
    # Looks to the right: the right half is nearer.
    canvas, person = grey(260, 160), standing(80, angles=angles)
    paint_person(canvas, person, 0)
    visibility = dict(
        zip(COCO_17.keypoints, keypoints_of(annotate_person(canvas, person, 0))[:, 2], strict=True)
    )
    for joint in ("ear", "shoulder", "hip"):
        assert visibility[f"right_{joint}"] == 2
        assert visibility[f"left_{joint}"] == 1


def test_what_is_covered_is_hidden_and_what_is_outside_is_not_there():
    canvas, person = grey(200, 160), standing(0, seed=2)  # the feet are below the picture
    paint_person(canvas, person, 0)
    before = keypoints_of(annotate_person(canvas, person, 0))
    assert (before[15:] == 0).all()
    assert (before[[5, 6, 11, 12], 2] == 2).all()
    canvas.paint([(120, -50), (120, 300)], [40, 40], WHITE, THING)
    after = keypoints_of(annotate_person(canvas, person, 0))
    seen = before[:, 2] == 2
    assert (after[seen & (before[:, 0] > 82), 2] == 1).all()
    assert (after[seen & (before[:, 0] < 78), 2] == 2).all()


def test_somebody_behind_a_wall_is_not_annotated():
    canvas, person = grey(260, 160), standing(0)
    paint_person(canvas, person, 0)
    canvas.paint([(80, -50), (80, 300)], [200, 200], WHITE, THING)
    assert annotate_person(canvas, person, 0) is None


def test_who_is_nearer_hides_who_is_behind():
    canvas = grey(260, 160)
    behind, before = standing(0, seed=3), standing(0, seed=4)
    before = before._replace(foot_xy=np.add(behind.foot_xy, (30, 4)))
    paint_person(canvas, behind, 0)
    alone = keypoints_of(annotate_person(canvas, behind, 0))
    paint_person(canvas, before, 1)
    hidden = keypoints_of(annotate_person(canvas, behind, 0))
    assert (hidden[:, :2] == alone[:, :2]).all()
    assert (hidden[:, 2] == 2).sum() < (alone[:, 2] == 2).sum()
    owners = np.unique(canvas.owner // STRIDE)
    assert owners.tolist() == [0, 1, 2]
    assert set(np.unique(canvas.owner[canvas.owner > 0] % STRIDE)) <= set(PARTS.values())


@pytest.mark.parametrize(
    ("centres", "radii", "area"),
    [
        ([(45.3, 40)], [20], np.pi * 400),
        ([(25.3, 30.4), (65.3, 30.4)], [8, 8], 40 * 16 + np.pi * 64),
        (
            [(25.3, 20.4), (55.3, 20.4), (25.3, 50.4), (55.3, 50.4)],
            [6] * 4,
            30 * 30 + 4 * 30 * 6 + np.pi * 36,
        ),
    ],
)
def test_hulls_have_the_area_of_their_formula_and_may_lie_outside(centres, radii, area: float):
    canvas = grey(80, 100)
    canvas.paint(centres, radii, WHITE, 5)
    assert np.count_nonzero(canvas.owner == 5) == pytest.approx(area, rel=0.03)
    for shift in (-500, 500, -40):
        canvas.paint(np.add(centres, (shift, 0)), radii, WHITE, 5)


def test_same_seed_same_picture_and_another_seed_another():
    first, second, other = (draw_people(np.random.default_rng(seed), 3) for seed in (5, 5, 6))
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_the_folder_is_the_seeds_layout(people):
    layout = find_layout(people.root)
    assert layout.missing == ()
    assert (people.root / "model_dump").is_dir()
    for split, count in (("train", 14), ("val", 24)):
        file, images = getattr(layout, f"{split}_annotations"), getattr(layout, f"{split}_images")
        annotations = read_coco(file, images, COCO_17)
        assert len(annotations) == count
        assert annotations.warnings == ()
        for path, size in zip(annotations.image_paths, annotations.image_sizes_wh, strict=True):
            assert cv2.imread(path).shape[1::-1] == tuple(size)


def test_annotations_are_consistent(people):
    content = json.loads(people.val_annotations.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    assert len({row["id"] for row in content["annotations"]}) == 24
    for row in content["annotations"]:
        points = keypoints_of(row)
        size = np.array(sizes[row["image_id"]])
        inside = points[:, 2] > 0
        assert row["num_keypoints"] == inside.sum() > 0
        assert (points[~inside] == 0).all()
        assert (points[inside, :2] > -0.5).all()
        assert (points[inside, :2] < size - 0.5).all()
        low, sides = np.split(np.array(row["bbox"]), 2)
        assert (low >= 0).all() and (sides > 0).all() and (low + sides <= size).all()
        assert 0 < row["area"] <= sides.prod()
        seen = points[points[:, 2] == 2, :2]
        assert (seen >= low - 1).all()
        assert (seen <= low + sides).all()


def test_detections_are_noisy_but_useful(people):
    detections = json.loads(people.detections.read_text())
    annotations = read_coco(people.val_annotations, people.val_images)
    assert len(read_detections(people.detections, annotations)) == len(detections)
    assert all(0 < row["score"] < 1 and min(row["bbox"][2:]) > 0 for row in detections)
    truth = COCO(str(people.val_annotations))
    scorer = COCOeval(truth, truth.loadRes(str(people.detections)), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert 0.5 < scorer.stats[0] < 0.98


def test_people_do_not_depend_on_the_counts(people, tmp_path: Path):
    longer = write_synthetic_dataset(tmp_path / "longer", train_people=1, val_people=27, seed=3)
    # The last picture may hold fewer people.
    names = sorted(path.name for path in people.val_images.iterdir())[:-1]
    for name in names:
        assert (people.val_images / name).read_bytes() == (longer.val_images / name).read_bytes()
    train = {path.read_bytes() for path in people.train_images.iterdir()}
    assert not train & {path.read_bytes() for path in people.val_images.iterdir()}


def test_the_same_settings_leave_the_folder_as_it_is(people):
    before = {path: path.stat().st_mtime_ns for path in people.root.rglob("*")}
    write_synthetic_dataset(people.root, train_people=14, val_people=24, seed=3)
    assert before == {path: path.stat().st_mtime_ns for path in people.root.rglob("*")}


def test_other_peoples_folders_are_not_touched(people, tmp_path: Path):
    with pytest.raises(UserError, match=str(people.root)):
        write_synthetic_dataset(people.root, train_people=15, val_people=24, seed=3)
    (tmp_path / "thesis.txt").write_text("years of work")
    for root in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UserError, match=str(root)):
            write_synthetic_dataset(root, train_people=1, val_people=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("counts", [(0, 5), (5, -1)])
def test_counts_must_be_positive(counts: tuple[int, int], tmp_path: Path):
    with pytest.raises(UserError, match="_people"):
        write_synthetic_dataset(tmp_path / "set", train_people=counts[0], val_people=counts[1])
    assert not (tmp_path / "set").exists()


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("simplepose.synthetic.dataset.draw_detections", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_dataset(tmp_path / "set", train_people=1, val_people=1)
    assert list(tmp_path.iterdir()) == []


def test_quadrupeds_bring_their_own_skeleton(tmp_path: Path):
    root = tmp_path / "animals"
    write_quadrupeds(root, train_animals=6, val_animals=3, seed=1)
    train = read_coco(root / "annotations" / "quadruped_train.json", root / "images" / "train")
    assert train.schema.keypoints == QUADRUPED.keypoints
    assert train.schema.flip_pairs == ((4, 5), (6, 7))
    assert len(train) == 6
    assert (train.visibility == 2).mean() > 0.5
    val = read_coco(root / "annotations" / "quadruped_val.json", root / "images" / "val")
    assert len(val) == 3
    write_quadrupeds(root, train_animals=6, val_animals=3, seed=1)
    with pytest.raises(UserError, match="animals"):
        write_synthetic_dataset(root, train_people=6, val_people=3, seed=1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--people", "0"),
        ("--val-people", "-1"),
        ("--pictures", "0"),
        ("--epochs", "-1"),
        ("--seed", "-1"),
    ],
)
def test_the_demo_refuses_numbers_that_make_no_sense(option: str, value: str, tmp_path: Path):
    with pytest.raises(UserError, match=option):
        parse("demo", ["--output", str(tmp_path / "demo"), option, value])
    assert not (tmp_path / "demo").exists()


def test_the_demo_can_draw_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "demo"
    demo.run(DemoOptions(output=str(output), people=2, val_people=1, only_data=True))
    assert find_layout(output / "dataset").missing == ()
    assert "--train.weights starter" in capsys.readouterr().out
