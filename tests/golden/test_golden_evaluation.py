"""A published network on real pictures, scores of result files, people followed in a video."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doors
import numpy as np
import pytest

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
DECODINGS = [
    (decoder, shift) for decoder in ("quarter", "dark") for shift in ("one_pixel", "exact")
]
FEW = 12
"""Pictures of the default run."""


@pytest.fixture(scope="module")
def files(
    request: pytest.FixtureRequest,
    real_data: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int], dict[str, Path]]:
    """`files(12)`: weights, pictures, annotations and detections of the first 12; 0: of all."""

    def make(count: int) -> dict[str, Path]:
        root = real_data("coco_val2017_visible150")
        truth = root / "person_keypoints_val2017_visible150.json"
        boxes = root / "COCO_val2017_detections_AP_H_56_person_visible150.json"
        if count:
            folder = tmp_path_factory.mktemp("few")
            content = json.loads(truth.read_text())
            labelled = {row["image_id"] for row in content["annotations"] if row["num_keypoints"]}
            content["images"] = [image for image in content["images"] if image["id"] in labelled][
                :count
            ]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [
                row for row in content["annotations"] if row["image_id"] in kept
            ]
            rows = [row for row in json.loads(boxes.read_text()) if row["image_id"] in kept]
            truth, boxes = folder / truth.name, folder / boxes.name
            truth.write_text(json.dumps(content))
            boxes.write_text(json.dumps(rows))
        weights = real_data("weights_ultralight_simplepose/deploy.onnx")
        return {"weights": weights, "truth": truth, "images": root / "val2017", "detections": boxes}

    return make


def evaluate(
    given: dict[str, Path], boxes: Path | None, decoding: tuple[str, str], folder: Path
) -> tuple[dict[str, float], list[Any]]:
    """The ten numbers and the rounded results."""
    doors.evaluate(given["weights"], given["truth"], given["images"], boxes, decoding, folder)
    record = json.loads((folder / "metrics.json").read_text())
    rows = json.loads((folder / "predictions.json").read_text())
    results = [
        [row["image_id"], round(row["score"], 4), np.round(row["keypoints"], 2).tolist()]
        for row in rows
    ]
    return {name: float(record[name]) for name in METRICS}, results


@pytest.mark.parametrize("decoding", DECODINGS, ids="-".join)
def test_annotated_boxes(
    decoding: tuple[str, str],
    files: Callable[[int], dict[str, Path]],
    tmp_path: Path,
    golden: Callable[..., None],
) -> None:
    metrics, results = evaluate(files(FEW), None, decoding, tmp_path)
    golden(f"annotated_few_{'_'.join(decoding)}", metrics, atol=5e-3, exact=results)


def test_detections(
    files: Callable[[int], dict[str, Path]], tmp_path: Path, golden: Callable[..., None]
) -> None:
    given = files(3)
    metrics, results = evaluate(given, given["detections"], DECODINGS[0], tmp_path)
    golden("detections_few", metrics, atol=5e-3, exact=results)


@pytest.mark.parametrize("decoding", DECODINGS, ids="-".join)
@pytest.mark.parametrize("boxes", ["annotated", "detections"])
def test_all_pictures(
    boxes: str,
    decoding: tuple[str, str],
    whole: None,
    files: Callable[[int], dict[str, Path]],
    tmp_path: Path,
    golden: Callable[..., None],
) -> None:
    given = files(0)
    named = None if boxes == "annotated" else given["detections"]
    metrics, results = evaluate(given, named, decoding, tmp_path)
    golden(f"{boxes}_all_{'_'.join(decoding)}", metrics, atol=2e-3, exact=results)


RESULTS = {
    "fake100": (
        "coco",
        "evaluator_fixtures/cocoapi/person_keypoints_val2014_fakekeypoints100_results.json",
        "coco_val2014_fake100/person_keypoints_val2014_100_rebuilt.json",
    ),
    "visible150_annotated": (
        "coco",
        "reference_results_visible150/ultralight_visible150_gtbbox_flip.json",
        "coco_val2017_visible150/person_keypoints_val2017_visible150.json",
    ),
    "visible150_detections": (
        "coco",
        "reference_results_visible150/ultralight_visible150_officialdets_flip_top20.json",
        "coco_val2017_visible150/person_keypoints_val2017_visible150.json",
    ),
    "coco": (
        "coco",
        "evaluator_fixtures/xtcocoapi/example_coco_preds.json",
        "evaluator_fixtures/xtcocoapi/example_coco_val.json",
    ),
    "crowdpose": (
        "crowdpose",
        "evaluator_fixtures/xtcocoapi/example_crowdpose_preds.json",
        "evaluator_fixtures/xtcocoapi/example_crowdpose_val.json",
    ),
    "hg_s1": (
        "mpii",
        "mpii_valid/preds/bearpaw-hg_s1_b1.mat",
        "mpii_valid/detections_our_format.mat",
    ),
    "hg_s2": (
        "mpii",
        "mpii_valid/preds/bearpaw-hg_s2_b1.mat",
        "mpii_valid/detections_our_format.mat",
    ),
    "tompson": ("mpii", "mpii_valid/preds/tompson.h5", "mpii_valid/detections_our_format.mat"),
    "hg_demo": ("mpii", "mpii_valid/preds/pose-hg-demo_valid-example.h5", "mpii_valid/valid.h5"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_scores_of_result_files(
    name: str, real_data: Callable[[str], Path], tmp_path: Path, golden: Callable[..., None]
) -> None:
    task, results, truth = RESULTS[name]
    if results.endswith(".h5"):
        pytest.importorskip("h5py")
    doors.score(task, real_data(results), real_data(truth), tmp_path)
    record = json.loads((tmp_path / "metrics.json").read_text())
    numbers = {
        key: float(value) for key, value in record.items() if isinstance(value, (int, float))
    }
    golden(f"scores_{name}", numbers, atol=1e-6)


FRAMES = 200


def test_poses_of_a_video(
    real_data: Callable[[str], Path], tmp_path: Path, golden: Callable[..., None]
) -> None:
    """All poses are in the digest; recorded are identities, boxes and the mean of keypoints."""
    video = real_data("videos_and_media/one-by-one-person-detection.mp4")
    weights = real_data("weights_ultralight_simplepose/deploy.onnx")
    detector = real_data("weights_person_detectors/yolox_nano.onnx")
    doors.track(video, weights, detector, FRAMES, tmp_path / "out")
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "poses.jsonl").read_text().splitlines()[1:]
    ]
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    value = {
        row["frame"]: [
            [
                person["track_id"],
                [*person["bbox"], *np.mean(person["keypoints"], axis=0)[:2].round(2).tolist()],
            ]
            for person in row["people"]
        ]
        for row in rows
        if row["people"]
    }
    golden("track", value, atol=2.0, exact=[[row["seconds"], row["people"]] for row in rows])
