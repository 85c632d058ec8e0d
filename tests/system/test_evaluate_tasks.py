"""`simplepose evaluate NETWORK --task ...`, and the files that it writes, scored again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from simplepose.cli import main
from simplepose.config import ModelConfig
from simplepose.core.boxes import xywh_to_xyxy
from simplepose.core.images import write_image
from simplepose.core.schema import COCO_17, CROWDPOSE_14, MPII_16, POSETRACK_15, KeypointSchema
from simplepose.data.annotations import Annotations
from simplepose.data.mpii import read_mpii
from simplepose.data.posetrack import FILE_KEYPOINTS, read_posetrack
from simplepose.data.source import read_annotated
from simplepose.evaluation.posetrack import evaluate_posetrack, read_sequences
from simplepose.pose import geometry
from simplepose.pose.checkpoints import ModelSpec, read_spec, save_checkpoint
from simplepose.pose.estimator import Found, PoseEstimator
from simplepose.pose.network import PoseNetwork

Find = Callable[[str], Path]
SAMPLES = "mmpose_tests_data/tests/data"


def network(folder: Path, schema: KeypointSchema) -> Path:
    """A small network that has learnt nothing."""
    model = ModelConfig(backbone="resnet18", width=8, deconv_filters=8, initialisation="torch")
    spec = ModelSpec(preset="small", schema=schema, input_size_wh=(64, 64), model=model)
    path = folder / f"{schema.name}.safetensors"
    save_checkpoint(path, PoseNetwork(model, len(schema)), spec)
    return path


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`knowing(people)`: every network answers as annotated, some keypoints far beside."""

    def learn(people: Annotations, error: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        boxes = xywh_to_xyxy(people.bbox_xywh.astype(np.float64))
        answers = people.keypoints + error * rng.choice([2.0, 400.0], (*people.visibility.shape, 1))
        scores = rng.uniform(0.3, 0.9, people.visibility.shape).astype(np.float32)

        def estimate_crops(
            self: PoseEstimator, crops: np.ndarray, to_crop: np.ndarray, **_: Any
        ) -> Any:
            centres, sizes = geometry.fit_boxes(boxes, self.input_size_wh)
            known = geometry.crop_affines(centres, sizes, self.input_size_wh)
            rows = [int(np.abs(known - one).sum((1, 2)).argmin()) for one in to_crop]
            return Found(answers[rows].astype(np.float64), scores[rows])

        monkeypatch.setattr(PoseEstimator, "estimate_crops", estimate_crops)

    return learn


def run(*argv: object) -> int:
    return main([str(word) for word in argv])


def evaluate(
    output: Path, weights: Path, annotations: Path, images: Path, *more: object
) -> dict[str, Any]:
    """The record of `simplepose evaluate`."""
    command = (
        "evaluate",
        weights,
        "--annotations",
        annotations,
        "--images",
        images,
        "--output",
        output,
    )
    assert run(*command, "--device", "cpu", *more) == 0
    return json.loads((output / "metrics.json").read_text())


def score(results: Path, task: str, annotations: Path, *more: object) -> dict[str, Any]:
    """The numbers of `simplepose score`."""
    output = results.parent / "score.json"
    command = ("score", results, "--task", task, "--annotations", annotations, "--output", output)
    assert run(*command, "--overwrite", *more) == 0
    numbers = json.loads(output.read_text())
    return {name: value for name, value in numbers.items() if isinstance(value, float)}


def draw(path: Path, seed: int) -> None:
    write_image(path, np.random.default_rng(seed).integers(0, 255, (80, 100, 3), np.uint8))


def save_mpii(folder: Path, *, heads: bool = True, shift: float = 0.0) -> tuple[Path, Path]:
    """Four people in two pictures, by turns, in MPII's JSON form; returns file and pictures."""
    rng = np.random.default_rng(3)
    joints = rng.uniform(20, 70, (4, 16, 2)).round(1)
    seen = np.ones((4, 16), int)
    seen[1, 3] = seen[2, 9] = 0
    rows = [
        {
            "image": f"00000{1 + n % 2}.jpg",
            "center": [40.0 + 5 * n, 35.0 + 2 * n],
            "scale": 0.3 + 0.02 * n,
            "joints": joints[n].tolist(),
            "joints_vis": seen[n].tolist(),
        }
        for n in range(4)
    ]
    (folder / "annot").mkdir(parents=True)
    (folder / "annot" / "valid.json").write_text(json.dumps(rows))
    if heads:
        corners = np.zeros((2, 2, 4))
        corners[0], corners[1] = 10, [[13.0 + n for n in range(4)], [14.0 + n for n in range(4)]]
        truth = {
            "headboxes_src": corners,
            "pos_gt_src": np.moveaxis(joints, 0, 2) + shift,
            "jnt_missing": 1 - seen.T,
        }
        savemat(folder / "annot" / "gt_valid.mat", truth)
    for n in (1, 2):
        draw(folder / "images" / f"00000{n}.jpg", n)
    return folder / "annot" / "valid.json", folder / "images"


def save_posetrack(folder: Path) -> tuple[Path, Path]:
    """Two sequences of three frames, the second frame without people, two people in the others."""
    rng = np.random.default_rng(4)
    for number, name in enumerate(("000001_bonn", "000002_mpii")):
        images, people = [], []
        for frame in range(3):
            picture = {
                "id": 1000 * number + frame,
                "file_name": f"images/val/{name}/{frame:06}.jpg",
                "vid_id": name[:6],
            }
            images.append(
                picture | {"frame_id": 1000 * number + frame, "nframes": 3, "is_labeled": True}
            )
            draw(folder / picture["file_name"], 10 * number + frame)
            for track in range(0 if frame == 1 else 2):
                points = np.concatenate(
                    [rng.uniform(20, 70, (17, 2)).round(2), np.ones((17, 1))], 1
                )
                points[3:5] = 0
                points[7 + track] = 0
                people.append(
                    {
                        "id": 100 * frame + 10 * number + track,
                        "image_id": picture["id"],
                        "category_id": 1,
                        "track_id": track,
                        "bbox": [10 + 9 * track + frame, 12, 60, 50 + 5 * number],
                        "bbox_head": [20, 20, 6, 8],
                        "keypoints": points.ravel().tolist(),
                    }
                )
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        content = {
            "images": images,
            "annotations": people,
            "categories": [{"id": 1, "keypoints": list(FILE_KEYPOINTS)}],
        }
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return folder / "annotations", folder


def mean_pckh(predictions: np.ndarray, people: Annotations) -> float:
    """PCKh by loops, from 0-based annotations."""
    right = counted = 0
    for n in range(len(people)):
        assert people.head_boxes_xyxy is not None
        x1, y1, x2, y2 = people.head_boxes_xyxy[n].tolist()
        size = 0.6 * ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        for k in range(16):
            if k in (6, 7) or not people.visibility[n, k]:
                continue
            counted += 1
            x, y = people.keypoints[n, k].tolist()
            right += (
                (predictions[n, k, 0] - 1 - x) ** 2 + (predictions[n, k, 1] - 1 - y) ** 2
            ) ** 0.5 <= 0.5 * size
    return 100 * right / counted


def test_mpii_people_stand_in_the_order_of_the_file(
    tmp_path: Path, knowing: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures are read one by one, people of one picture do not follow each other in the file."""
    annotations, images = save_mpii(tmp_path / "mpii")
    people = read_mpii(annotations, images)
    knowing(people, 0.3)
    record = evaluate(
        tmp_path / "out", network(tmp_path, MPII_16), annotations, images, "--task", "mpii"
    )
    preds = loadmat(tmp_path / "out" / "predictions.mat")["preds"]
    near = np.linalg.norm(preds - 1 - people.keypoints, axis=-1) < 4
    assert preds.shape == (4, 16, 2) and 0.2 < near.mean() < 0.8
    far = np.linalg.norm(preds - 1 - people.keypoints[[2, 3, 0, 1]], axis=-1) < 4
    assert far.sum() < near.sum() / 4
    assert record["Mean"] == pytest.approx(mean_pckh(preds, people)) and 10 < record["Mean"] < 90
    assert record["task"] == "mpii" and record["boxes"] == "ground truth, annotated"
    head, _, row = (line for line in capsys.readouterr().out.splitlines() if line.startswith("|"))
    cells = dict(
        zip(
            *([cell.strip() for cell in line.strip("|").split("|")] for line in (head, row)),
            strict=True,
        )
    )
    assert (
        cells["Mean"] == f"{record['Mean']:.1f}"
        and cells["Mean@0.1"] == f"{record['Mean@0.1']:.1f}"
    )
    for truth in (annotations, annotations.with_name("gt_valid.mat")):
        again = score(tmp_path / "out" / "predictions.mat", "mpii", truth)
        assert again == pytest.approx({name: record[name] for name in again})


def test_mpii_from_the_converted_file_equals_its_own_form(
    tmp_path: Path, knowing: Callable
) -> None:
    annotations, images = save_mpii(tmp_path / "mpii")
    knowing(read_mpii(annotations, images))
    converted, weights = tmp_path / "mpii.json", network(tmp_path, MPII_16)
    assert run("convert", "mpii", annotations, "--images", images, "--output", converted) == 0
    own = evaluate(tmp_path / "own", weights, annotations, images, "--task", "mpii")
    other = evaluate(tmp_path / "other", weights, converted, images, "--task", "mpii")
    assert {name: own[name] for name in ("Head", "Mean")} == {
        name: other[name] for name in ("Head", "Mean")
    }
    again = score(tmp_path / "other" / "predictions.mat", "mpii", converted)
    assert again["Mean"] == other["Mean"]


def test_mpii_on_real_pictures(real_data: Find, tmp_path: Path, knowing: Callable) -> None:
    """Five people of the validation split: the network's score is that of its file."""
    source = real_data(SAMPLES) / "mpii"
    truth = loadmat(real_data("mpii_valid/detections_our_format.mat"))
    (tmp_path / "valid.json").write_bytes((source / "test_mpii.json").read_bytes())
    columns = {
        name: truth[name][..., :5] for name in ("headboxes_src", "pos_gt_src", "jnt_missing")
    }
    savemat(tmp_path / "gt_valid.mat", columns)
    weights = network(tmp_path, MPII_16)
    command = (tmp_path / "valid.json", source, "--task", "mpii")
    untrained = evaluate(tmp_path / "untrained", weights, *command)
    assert 0 <= untrained["Mean"] < 60
    knowing(read_mpii(tmp_path / "valid.json", source))
    known = evaluate(tmp_path / "known", weights, *command)
    assert 10 < known["Mean"] < 90
    for record, folder in ((untrained, "untrained"), (known, "known")):
        for file in ("valid.json", "gt_valid.mat"):
            again = score(tmp_path / folder / "predictions.mat", "mpii", tmp_path / file)
            assert again == {name: record[name] for name in again} and "Mean@0.11" in again


def test_broken_pictures_are_wrong_answers(
    tmp_path: Path, knowing: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, images = save_mpii(tmp_path / "mpii")
    people = read_mpii(annotations, images)
    knowing(people, 0.0)
    (images / "000001.jpg").write_bytes(b"no picture")
    record = evaluate(
        tmp_path / "out",
        network(tmp_path, MPII_16),
        annotations,
        images,
        "--task",
        "mpii",
        "--data.skip-broken",
    )
    preds = loadmat(tmp_path / "out" / "predictions.mat")["preds"]
    assert np.isnan(preds[[0, 2]]).all() and np.isfinite(preds[[1, 3]]).all()
    assert record["broken_pictures"] == 1 and 40 < record["Mean"] < 60
    # Counted from 1.
    np.testing.assert_allclose(preds[[1, 3]], people.keypoints[[1, 3]] + 1, atol=1e-5)
    assert "000001.jpg" in capsys.readouterr().err


def test_posetrack(tmp_path: Path, knowing: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """One file a sequence, every frame in it; the score is that of the files."""
    annotations, images = save_posetrack(tmp_path / "posetrack")
    people = read_posetrack(annotations, images)
    knowing(people)
    record = evaluate(
        tmp_path / "out",
        network(tmp_path, POSETRACK_15),
        annotations,
        images,
        "--task",
        "posetrack",
    )
    assert 5 < record["AP"] < 95 and "MOTA" not in record
    assert "| AP " in capsys.readouterr().out.replace("|   AP", "| AP")
    files = sorted((tmp_path / "out" / "predictions").iterdir())
    assert [file.name for file in files] == ["000001_bonn.json", "000002_mpii.json"]
    for file in files:
        found, truth = (
            json.loads(file.read_text()),
            json.loads((annotations / file.name).read_text()),
        )
        assert [image["file_name"] for image in found["images"]] == [
            image["file_name"] for image in truth["images"]
        ]
        assert [image["id"] for image in found["images"]] == [
            image["id"] for image in truth["images"]
        ]
        assert {image["vid_id"] for image in found["images"]} == {file.name[:6]}
        assert len(found["annotations"]) == 4 and found["categories"][0]["keypoints"] == list(
            POSETRACK_15.keypoints
        )
        assert all(
            len(row["scores"]) == 15 and len(set(row["scores"])) > 1 for row in found["annotations"]
        )
    converted = tmp_path / "converted.json"
    assert run("convert", "posetrack", annotations, "--images", images, "--output", converted) == 0
    for truth in (annotations, converted):
        again = score(tmp_path / "out" / "predictions", "posetrack", truth)
        assert again == {name: record[name] for name in again} and len(again) == 8
    # the library's reader of two folders is a third way
    assert (
        evaluate_posetrack(
            read_sequences(annotations, tmp_path / "out" / "predictions"), exact=True
        )["AP"]
        == record["AP"]
    )
    other = evaluate(
        tmp_path / "other",
        tmp_path / "posetrack_15.safetensors",
        converted,
        images,
        "--task",
        "posetrack",
    )
    assert other["AP"] == record["AP"]


def test_posetrack_frames_without_annotated_people_do_not_count(
    tmp_path: Path, knowing: Callable
) -> None:
    """poseval drops them, whatever is detected there; without its quirks the detections are wrong."""
    annotations, images = save_posetrack(tmp_path / "posetrack")
    people, weights = read_posetrack(annotations, images), network(tmp_path, POSETRACK_15)
    knowing(people)
    ids = [*people.image_ids[people.image_index].tolist(), 1, 1001]
    boxes = [*people.bbox_xywh.tolist(), people.bbox_xywh[0].tolist(), people.bbox_xywh[1].tolist()]
    rows = [
        {"image_id": image_id, "category_id": 1, "bbox": box, "score": 0.9}
        for image_id, box in zip(ids, boxes, strict=True)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    command = (weights, annotations, images, "--task", "posetrack")
    annotated = evaluate(tmp_path / "annotated", *command)
    detected = evaluate(tmp_path / "detected", *command, "--boxes", tmp_path / "boxes.json")
    assert detected["people"] == annotated["people"] + 2
    assert detected["AP"] == annotated["AP"]
    results = tmp_path / "detected" / "predictions"
    assert score(results, "posetrack", annotations, "--no-exact-poseval")["AP"] < annotated["AP"]


def test_posetrack_on_real_pictures(real_data: Find, tmp_path: Path, knowing: Callable) -> None:
    source = real_data(SAMPLES) / "posetrack18"
    annotations, weights = source / "annotations" / "val", network(tmp_path, POSETRACK_15)
    untrained = evaluate(
        tmp_path / "untrained", weights, annotations, source, "--task", "posetrack"
    )
    knowing(read_posetrack(annotations, source))
    known = evaluate(
        tmp_path / "known",
        weights,
        annotations,
        source,
        "--task",
        "posetrack",
        "--oks-nms-threshold",
        "1",
    )
    assert 5 < known["AP"] < 95
    for record, folder in ((untrained, "untrained"), (known, "known")):
        again = score(tmp_path / folder / "predictions", "posetrack", annotations)
        assert again == {name: record[name] for name in again} and again["AP"] >= 0


def test_track_ids_bring_the_tracking_numbers(tmp_path: Path) -> None:
    """Results that were tracked afterwards."""
    annotations, images = save_posetrack(tmp_path / "posetrack")
    weights = network(tmp_path, POSETRACK_15)
    evaluate(
        tmp_path / "out",
        weights,
        annotations,
        images,
        "--task",
        "posetrack",
        "--oks-nms-threshold",
        "1",
    )
    folder = tmp_path / "out" / "predictions"
    for file in folder.iterdir():
        content = json.loads(file.read_text())
        for number, row in enumerate(content["annotations"]):
            row["track_id"] = number % 2
        file.write_text(json.dumps(content))
    assert {"MOTA", "IDF1", "HOTA"} <= score(
        folder, "posetrack", annotations, "--no-exact-poseval"
    ).keys()


def test_crowdpose(
    real_data: Find, tmp_path: Path, knowing: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    source = real_data(SAMPLES) / "crowdpose"
    annotations = source / "test_crowdpose.json"
    knowing(read_annotated("crowdpose", annotations, source), 0.05)
    record = evaluate(
        tmp_path / "out",
        network(tmp_path, CROWDPOSE_14),
        annotations,
        source,
        "--task",
        "crowdpose",
    )
    assert "AP easy | AP medium | AP hard" in capsys.readouterr().out
    assert (
        0.05 < record["AP"] < 0.99
        and record["APeasy"] == -1
        and record["APmedium"] == pytest.approx(record["AP"])
    )
    again = score(tmp_path / "out" / "predictions.json", "crowdpose", annotations)
    assert again == pytest.approx({name: record[name] for name in again})


@pytest.mark.parametrize(
    ("schema", "task", "words"),
    [
        (
            MPII_16,
            "posetrack",
            "16 keypoints (mpii_16), the task posetrack scores 15 (posetrack_15). Cure: the task mpii",
        ),
        (
            COCO_17,
            "mpii",
            "17 keypoints (coco_17), the task mpii scores 16 (mpii_16). Cure: the task coco",
        ),
        (POSETRACK_15, "crowdpose", "the task crowdpose scores 14"),
        (CROWDPOSE_14, "ochuman", "the task ochuman scores 17"),
    ],
)
def test_a_network_with_other_keypoints_is_refused(
    tmp_path: Path,
    schema: KeypointSchema,
    task: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = network(tmp_path, schema)
    assert run("evaluate", weights, "--task", task, "--annotations", "a.json", "--images", "i") == 2
    error = capsys.readouterr().err
    assert words in error and str(weights) in error


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--data.boxes", "found.json"], "--data.boxes"),
        (["--std", "0", "0", "0"], "--std is 0"),
        (["--mean", "nan", "0", "0"], "--mean is nan"),
        (
            ["--task", "mpii", "--submission", "x", "--output", "o"],
            "--submission is for the COCO server, the task is mpii",
        ),
        (
            ["--task", "mpii", "--boxes", "found.json"],
            "not on the boxes found.json. Cure: the boxes gt",
        ),
    ],
)
def test_options_that_would_be_ignored_or_make_no_sense(
    more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, images = save_mpii(tmp_path / "mpii")
    command = (
        "evaluate",
        network(tmp_path, MPII_16),
        "--annotations",
        annotations,
        "--images",
        images,
    )
    assert run(*command, *more) == 2
    assert words in capsys.readouterr().err


def test_frames_of_one_name_are_not_mixed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sequences in folders of one name: their frames cannot be told apart in result files."""
    annotations, images = save_posetrack(tmp_path / "posetrack")
    file = annotations / "000002_mpii.json"
    file.write_text(file.read_text().replace("val/000002_mpii", "train/000001_bonn"))
    (images / "images" / "val" / "000002_mpii").rename(images / "images" / "val" / "x")
    (images / "images" / "train").mkdir()
    (images / "images" / "val" / "x").rename(images / "images" / "train" / "000001_bonn")
    command = ("--annotations", annotations, "--images", images, "--task", "posetrack")
    assert run("evaluate", network(tmp_path, POSETRACK_15), *command) == 2
    assert "frame 000001_bonn/000000.jpg stands in it twice" in capsys.readouterr().err


def test_annotations_that_lack_what_the_measure_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headless, images = save_mpii(tmp_path / "headless", heads=False)
    others, _ = save_mpii(tmp_path / "others", shift=3.0)
    many, _ = save_mpii(tmp_path / "many")
    many.write_text(json.dumps(json.loads(many.read_text())[:3]))
    posetrack, frames = save_posetrack(tmp_path / "posetrack")
    for file in posetrack.iterdir():
        content = json.loads(file.read_text())
        del content["annotations"][0]["bbox_head"]
        file.write_text(json.dumps(content))
    cases = [
        ("mpii", MPII_16, headless, images, "valid.json has no head boxes"),
        ("mpii", MPII_16, others, images, "gt_valid.mat: person 0 has other joints"),
        ("mpii", MPII_16, many, images, "gt_valid.mat has 4 people"),
        ("posetrack", POSETRACK_15, posetrack, frames, "2 people have no head box"),
        ("posetrack", POSETRACK_15, next(posetrack.iterdir()), frames, "1 people have no head box"),
        ("posetrack", POSETRACK_15, tmp_path / "none.json", images, "none.json"),
        ("mpii", MPII_16, tmp_path / "none.json", images, "none.json"),
    ]
    for task, schema, truth, folder, words in cases:
        weights = network(tmp_path, schema)
        assert (
            run("evaluate", weights, "--task", task, "--annotations", truth, "--images", folder)
            == 2
        )
        error = capsys.readouterr().err
        assert words in error and "Cure:" in error


def train(tmp_path: Path, annotations: Path, images: Path, *more: object) -> Path:
    """A run of two epochs of a small network."""
    model = "{backbone: resnet18, width: 8, deconv_filters: 8, init: ''}"
    small = f"{{base: synthetic_demo, input_size_wh: [64, 64], model: {model}}}"
    (tmp_path / "small.yaml").write_text(small)
    data = [
        f"--data.{split}-{what}" for split in ("train", "val") for what in ("annotations", "images")
    ]
    paths = (annotations, images, annotations, images)
    command = [
        "train",
        tmp_path / "small.yaml",
        *(word for pair in zip(data, paths, strict=True) for word in pair),
    ]
    command += [
        "--train.epochs",
        2,
        "--train.drop-epochs",
        "--train.batch-size",
        4,
        "--train.device",
        "cpu",
    ]
    assert run(*command, "--output", tmp_path / "run", *more) == 0
    return tmp_path / "run"


@pytest.mark.parametrize(("task", "number"), [("mpii", "Mean"), ("posetrack", "AP")])
def test_training_chooses_the_best_by_the_data_sets_own_score(
    tmp_path: Path, task: str, number: str
) -> None:
    save, results = (
        (save_mpii, "predictions.mat") if task == "mpii" else (save_posetrack, "predictions")
    )
    annotations, images = save(tmp_path / "data")
    converted = tmp_path / "converted.json"
    assert run("convert", task, annotations, "--images", images, "--output", converted) == 0
    folder = train(
        tmp_path, converted, images, "--evaluate.task", task, "--train.evaluate-every", 1
    )
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = [record[number] for record in records if number in record]
    best = read_spec(folder / "checkpoints" / "best.safetensors")
    assert (
        len(scores) == 2
        and best.score[number] == max(scores)
        and best.config["evaluate"]["task"] == task
    )
    # the results beside it are the best's; the run knows its task
    assert score(folder / results, task, converted)[number] == max(scores)
    assert evaluate(tmp_path / "again", folder, converted, images)[number] == pytest.approx(
        max(scores)
    )
    assert (
        run(
            "train",
            folder / "config.yaml",
            "--resume",
            "--output",
            folder,
            "--evaluate.task",
            "coco",
        )
        == 2
    )


def test_a_training_without_head_boxes_ends_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, images = save_mpii(tmp_path / "data", heads=False)
    converted = tmp_path / "converted.json"
    assert run("convert", "mpii", annotations, "--images", images, "--output", converted) == 0
    command = [
        "train",
        "mpii_r50_256x256_ms",
        "--data.train-annotations",
        converted,
        "--data.train-images",
        images,
    ]
    command += [
        "--data.val-annotations",
        converted,
        "--data.val-images",
        images,
        "--output",
        tmp_path / "run",
    ]
    assert run(*command) == 2
    assert "converted.json has no head boxes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
