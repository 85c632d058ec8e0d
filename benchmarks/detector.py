"""Person box AP of an ONNX detector on COCO pictures, by pycocotools: as it is, and with its grey border cut off; beside reference results.

    python benchmarks/detector.py detector.onnx --annotations FILE.json --images DIR [--reference RESULTS.json] [--detections OUT.json]

`--detections` writes the boxes (uncut) as COCO results, for `simplepose evaluate WEIGHTS --boxes OUT.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from simplepose.core.boxes import xyxy_to_xywh
from simplepose.core.images import read_image
from simplepose.detection.onnx import PersonDetector


def box_ap(truth: COCO, rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """AP, AP50, AP75 of people on all pictures."""
    with contextlib.redirect_stdout(io.StringIO()):
        scoring = COCOeval(truth, truth.loadRes(rows), "bbox")
        scoring.params.catIds, scoring.params.imgIds = [1], sorted(truth.getImgIds())
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return tuple(float(value) for value in scoring.stats[:3])  # type: ignore[return-value]


def detect_all(
    detector: PersonDetector, truth: COCO, images: Path
) -> tuple[list[dict[str, Any]], float]:
    """COCO results, the 100 best boxes a picture, and milliseconds a picture in the detector."""
    rows, spent = [], 0.0
    for image_id in sorted(truth.getImgIds()):
        image = read_image(images / truth.loadImgs(image_id)[0]["file_name"])
        begin = time.perf_counter()
        people = detector(image)[:100]
        spent += time.perf_counter() - begin
        for bbox, score in zip(
            xyxy_to_xywh(people.boxes_xyxy).round(2).tolist(), people.scores.tolist(), strict=True
        ):
            rows.append(
                {"image_id": image_id, "category_id": 1, "bbox": bbox, "score": round(score, 5)}
            )
    return rows, 1000 * spent / len(truth.getImgIds())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector")
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--reference")
    parser.add_argument("--detections", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(options.annotations)
    result: dict[str, Any] = {}
    print(f"{'':<14}{'AP':>7}{'AP50':>7}{'AP75':>7}{'boxes':>8}{'ms':>7}")
    if options.reference:
        rows = json.loads(Path(options.reference).read_text())
        result["reference"] = box_ap(truth, rows)
        print(
            f"{'reference':<14}"
            + "".join(f"{value:7.4f}" for value in result["reference"])
            + f"{len(rows):8,}"
        )
    for name, cut in (("uncut", False), ("border cut", True)):
        detector = PersonDetector(
            options.detector, score_threshold=0.001, cut_border=cut, threads=1
        )
        rows, milliseconds = detect_all(detector, truth, options.images)
        result[name] = box_ap(truth, rows)
        print(
            f"{name:<14}"
            + "".join(f"{value:7.4f}" for value in result[name])
            + f"{len(rows):8,}{milliseconds:7.1f}"
        )
        if options.detections and not cut:
            options.detections.write_text(json.dumps(rows))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
