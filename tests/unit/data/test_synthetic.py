"""Drawn people and animals: exact, deterministic, COCO's format, and never on top of other files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from simplepose.commands import demo
from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import read_coco, read_detections
from simplepose.data.drawn_body import ROW, Posture, Proportions, draw_posture, skeleton, walking
from simplepose.data.drawn_figure import draw_look, paint_person, visible_keypoints
from simplepose.data.drawn_paint import Canvas, paint_ellipsoid, paint_hull, paint_limb
from simplepose.data.layout import find_layout
from simplepose.data.synthetic import write_synthetic_dataset
from simplepose.data.synthetic_quadrupeds import QUADRUPED_KEYPOINTS, write_synthetic_quadrupeds
from simplepose.data.synthetic_scene import draw_scene

LEFT = [i for i, name in enumerate(COCO_17.keypoints) if name.startswith("left")]
RIGHT = [i for i, name in enumerate(COCO_17.keypoints) if name.startswith("right")]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory):
    """A small drawn data set."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("people") / "set", train_people=14, val_people=24, seed=3)


def still(yaw: float = 0.0, posture: Posture | None = None):
    return skeleton(Proportions(), posture or walking(0.0, 0.0), yaw=yaw)


@pytest.mark.parametrize(("yaw", "left_is"), [(0, "right of"), (30, "right of"), (180, "left of"), (-150, "left of")])
def test_facing_people_have_their_left_on_the_right_of_the_picture(yaw: float, left_is: str):
    points = still(yaw).points
    order = np.sign(points[LEFT[2:], 0] - points[RIGHT[2:], 0])  # shoulders and below
    assert (order == (1 if left_is == "right of" else -1)).all()


def test_lengths_do_not_change_with_posture_or_view():
    rng = np.random.default_rng(0)
    body = Proportions()
    for _ in range(20):
        points = skeleton(body, draw_posture(rng)[1], yaw=rng.uniform(-180, 180), pitch=10, roll=5).points
        for start, end, length in (("left_hip", "left_knee", body.thigh), ("right_elbow", "right_wrist", body.forearm)):
            assert np.linalg.norm(points[ROW[start]] - points[ROW[end]]) == pytest.approx(length)


@pytest.mark.parametrize("yaw", [0, 180])
def test_a_face_is_seen_from_the_front_only(yaw: float):
    canvas = Canvas(np.full((260, 160, 3), 120, np.float32))
    look = draw_look(np.random.default_rng(1))
    figure = skeleton(look.body, walking(0.0, 0.0), yaw=yaw)
    paint_person(canvas, look, figure, (80, 245), 210, 0)
    keypoints, visibility = visible_keypoints(canvas, figure, (80, 245), 210, 0)
    assert (visibility[:3] == (2 if yaw == 0 else 1)).all()
    if yaw == 0:  # pupils are darker than the white around them
        image = canvas.finish().astype(int)
        for x, y in np.round(keypoints[1:3]).astype(int):
            assert image[y, x].sum() < image[y - 4 : y + 5, x - 5 : x + 6].sum(-1).max() - 150


def test_what_is_covered_is_hidden_and_what_is_outside_is_not_there():
    canvas = Canvas(np.full((200, 160, 3), 120, np.float32))
    look = draw_look(np.random.default_rng(2))
    figure = skeleton(look.body, walking(0.0, 0.0))
    paint_person(canvas, look, figure, (80, 245), 210, 0)  # the feet are below the picture
    _, before = visible_keypoints(canvas, figure, (80, 245), 210, 0)
    canvas.owner[:, 80:] = -1
    keypoints, after = visible_keypoints(canvas, figure, (80, 245), 210, 0)
    assert (before[15:] == 0).all()
    assert (before[[5, 6, 11, 12]] == 2).all()
    assert (after[(before == 2) & (keypoints[:, 0] > 81)] == 1).all()
    assert (after[(before == 2) & (keypoints[:, 0] < 79)] == 2).all()


@pytest.mark.parametrize("shape", ["limb", "hull", "ellipsoid"])
def test_shapes_have_the_area_of_their_formula_and_may_lie_outside(shape: str):
    def white(across, along):
        return np.full((*np.broadcast_shapes(across.shape, along.shape), 3), 255, np.float32)

    def paint(canvas: Canvas, x: float) -> float:
        if shape == "limb":
            paint_limb(canvas, np.array([x, 30.4]), np.array([x + 40, 30.4]), (8, 8), white, 5)
            return 40 * 16 + np.pi * 64
        if shape == "hull":
            paint_hull(canvas, np.array([[x, 20.0], [x + 30, 20], [x, 50], [x + 30, 50]]), np.full(4, 6.0), white, 5)
            return 30 * 30 + 4 * 30 * 6 + np.pi * 36
        paint_ellipsoid(canvas, np.array([x + 20.0, 40]), np.array([12.0, 20, 9]), np.eye(3), lambda points, pixel: points * 0 + 255, 5)
        return np.pi * 12 * 20

    canvas = Canvas(np.zeros((80, 100, 3), np.float32))
    area = paint(canvas, 25.3)
    assert np.count_nonzero(canvas.owner == 5) == pytest.approx(area, rel=0.03)
    for x in (-500.0, 500.0, -15.0):
        paint(canvas, x)


def test_same_seed_same_picture_and_another_seed_another():
    first, second, other = (draw_scene(np.random.default_rng(seed), 3) for seed in (5, 5, 6))
    assert np.array_equal(first[0], second[0])
    assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(first[1], second[1], strict=True))
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_the_folder_is_the_seeds_layout(people):
    layout = find_layout(people.root)
    assert layout.missing == ()
    assert (people.root / "model_dump").is_dir()
    for split, count in (("train", 14), ("val", 24)):
        annotations = read_coco(getattr(layout, f"{split}_annotations"), getattr(layout, f"{split}_images"), COCO_17)
        assert len(annotations) == count
        assert annotations.warnings == ()
        for path, size in zip(annotations.image_paths, annotations.image_sizes_wh, strict=True):
            assert cv2.imread(path).shape[1::-1] == tuple(size)


def test_annotations_are_consistent(people):
    content = json.loads(people.val_annotations.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    coco = COCO(str(people.val_annotations))
    assert len({entry["id"] for entry in content["annotations"]}) == 24
    for entry in content["annotations"]:
        points = np.array(entry["keypoints"], float).reshape(17, 3)
        width, height = sizes[entry["image_id"]]
        inside = points[:, 2] > 0
        assert entry["num_keypoints"] == inside.sum()
        assert (points[~inside] == 0).all()
        assert (points[inside, :2] > -0.5).all()
        assert (points[inside, :2] < [width - 0.5, height - 0.5]).all()
        left, top, wide, tall = entry["bbox"]
        assert 0 <= left < left + wide <= width
        assert 0 <= top < top + tall <= height
        seen = points[points[:, 2] == 2, :2]
        assert (seen >= [left - 1, top - 1]).all()
        assert (seen <= [left + wide, top + tall]).all()
        outlined = coco.annToMask(entry).sum()  # the polygons tell the same area, but for their edges
        assert outlined == pytest.approx(entry["area"], rel=0.25)


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
    names = sorted(path.name for path in people.val_images.iterdir())[:-1]  # the last one may hold fewer people
    assert all((people.val_images / name).read_bytes() == (longer.val_images / name).read_bytes() for name in names)
    train = {path.read_bytes() for path in people.train_images.iterdir()}
    assert not train & {path.read_bytes() for path in people.val_images.iterdir()}


def test_the_same_settings_leave_the_folder_as_it_is(people):
    before = {path: path.stat().st_mtime_ns for path in people.root.rglob("*")}
    write_synthetic_dataset(people.root, train_people=14, val_people=24, seed=3)
    assert before == {path: path.stat().st_mtime_ns for path in people.root.rglob("*")}


def test_other_peoples_folders_are_not_touched(people, tmp_path: Path):
    with pytest.raises(UserError, match="other drawings"):
        write_synthetic_dataset(people.root, train_people=15, val_people=24, seed=3)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not drawn by simplepose"):
        write_synthetic_dataset(tmp_path, train_people=1, val_people=1)
    with pytest.raises(UserError, match="is a file"):
        write_synthetic_dataset(tmp_path / "thesis.txt", train_people=1, val_people=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("counts", [(0, 5), (5, -1)])
def test_counts_must_be_positive(counts: tuple[int, int], tmp_path: Path):
    with pytest.raises(UserError, match="at least 1"):
        write_synthetic_dataset(tmp_path / "set", train_people=counts[0], val_people=counts[1])
    assert not (tmp_path / "set").exists()


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("simplepose.data.synthetic.draw_detections", stop)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_dataset(tmp_path / "set", train_people=1, val_people=1)
    assert list(tmp_path.iterdir()) == []


def test_quadrupeds_bring_their_own_skeleton(tmp_path: Path):
    drawn = write_synthetic_quadrupeds(tmp_path / "animals", train_animals=6, val_animals=3, seed=1)
    annotations = read_coco(drawn.train_annotations, drawn.train_images)
    assert annotations.schema.keypoints == QUADRUPED_KEYPOINTS
    assert annotations.schema.flip_pairs == ((4, 5), (6, 7))
    assert len(annotations) == 6
    assert (annotations.visibility == 2).mean() > 0.5
    assert len(read_coco(drawn.val_annotations, drawn.val_images)) == 3
    write_synthetic_quadrupeds(tmp_path / "animals", train_animals=6, val_animals=3, seed=1)
    with pytest.raises(UserError, match="other drawings"):
        write_synthetic_dataset(tmp_path / "animals", train_people=6, val_people=3, seed=1)


@pytest.mark.parametrize(
    ("option", "value"), [("--people", "0"), ("--val-people", "-1"), ("--pictures", "0"), ("--epochs", "-1"), ("--seed", "-1")]
)
def test_the_demo_refuses_numbers_that_make_no_sense(option: str, value: str, tmp_path: Path):
    with pytest.raises(UserError, match=f"{option} is {value}. Cure: "):
        demo.main(["--output", str(tmp_path / "demo"), option, value])
    assert not (tmp_path / "demo").exists()


def test_the_demo_can_draw_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    demo.main(["--output", str(tmp_path / "demo"), "--people", "2", "--val-people", "1", "--only-data"])
    assert find_layout(tmp_path / "demo" / "dataset").missing == ()
    assert "simplepose train synthetic_demo" in capsys.readouterr().out
