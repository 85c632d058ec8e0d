"""Published and recorded COCO numbers, with both evaluators."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simplepose.core.schema import COCO_17
from simplepose.data.coco import read_coco, read_detections
from simplepose.evaluation.coco import METRICS, evaluate_boxes, evaluate_coco

PUBLISHED = (0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522)
EVALUATORS = pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])


@EVALUATORS
def test_the_coco_apis_own_example(real_data: Callable[[str], Path], evaluator: str) -> None:
    truth = real_data("coco_val2014_fake100") / "person_keypoints_val2014_100_rebuilt.json"
    results = (
        real_data("evaluator_fixtures")
        / "cocoapi/person_keypoints_val2014_fakekeypoints100_results.json"
    )
    numbers = evaluate_coco(truth, results, sigmas=COCO_17.sigmas, evaluator=evaluator)
    assert [round(numbers[name], 3) for name in METRICS] == list(PUBLISHED)


@EVALUATORS
@pytest.mark.parametrize(
    "name", ["ultralight_visible150_gtbbox_flip", "ultralight_visible150_officialdets_flip_top20"]
)
def test_recorded_results(real_data: Callable[[str], Path], evaluator: str, name: str) -> None:
    truth = real_data("coco_val2017_visible150") / "person_keypoints_val2017_visible150.json"
    folder = real_data("reference_results_visible150")
    expected = json.loads((folder / "reference_metrics.json").read_text())[name]["visible150"]
    numbers = evaluate_coco(
        truth, folder / f"{name}.json", sigmas=COCO_17.sigmas, evaluator=evaluator
    )
    assert [round(numbers[metric], 4) for metric in METRICS] == expected


def test_box_ap_of_real_detections(real_data: Callable[[str], Path]) -> None:
    folder = real_data("coco_val2017_visible150")
    annotations = read_coco(folder / "person_keypoints_val2017_visible150.json", folder)
    detections = read_detections(
        folder / "COCO_val2017_detections_AP_H_56_person_visible150.json", annotations
    )
    numbers = evaluate_boxes(annotations, detections)
    assert numbers == pytest.approx(
        evaluate_boxes(annotations, detections, evaluator="pycocotools"), abs=1e-12
    )
    assert 0.5 < numbers["AP"] < 0.6  # the detector is known as 56.4 on all of val2017


def test_box_ap_is_that_of_the_files(
    real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The original tool on the files themselves, all categories and areas."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    folder = real_data("coco_val2017_visible150")
    path, dets = (
        folder / "person_keypoints_val2017_visible150.json",
        next(folder.glob("COCO_val2017_det*.json")),
    )
    truth = pycocotools.COCO(str(path))
    evaluator = COCOeval(truth, truth.loadRes(str(dets)), "bbox")
    evaluator.params.areaRng, evaluator.params.areaRngLbl, evaluator.params.maxDets = (
        [[0, 1e10]],
        ["all"],
        [100],
    )
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"]
    capsys.readouterr()
    annotations = read_coco(path, "pictures")
    ours = evaluate_boxes(annotations, read_detections(dets, annotations))["AP"]
    assert ours == pytest.approx(precision[precision > -1].mean(), abs=2e-4)
