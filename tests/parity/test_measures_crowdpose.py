"""CrowdPose's fixture: the numbers two other evaluators print for it, and both of our evaluators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simplepose.evaluation.coco import CROWDPOSE_METRICS, evaluate_crowdpose

# AP AP50 AP75 AR AR50 AR75 easy medium hard, as the tests of faster_coco_eval state them (easy, medium, hard rounded to 4 decimals)
KNOWN = (
    0.7877215935879303,
    0.9881188118811886,
    0.7314356435643564,
    0.8222222222222223,
    1.0,
    0.7777777777777778,
    1.0,
    0.9802,
    0.4116,
)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_fixture(real_data: Callable[[str], Path], evaluator: str) -> None:
    for folder in ("xtcocoapi", "faster_coco_eval"):
        files = real_data("evaluator_fixtures") / folder
        result = evaluate_crowdpose(
            files / "example_crowdpose_val.json",
            files / "example_crowdpose_preds.json",
            evaluator=evaluator,
        )
        values = [result[name] for name in CROWDPOSE_METRICS]
        assert values[:6] == pytest.approx(KNOWN[:6], abs=1e-9)
        assert values[6:] == pytest.approx(KNOWN[6:], abs=5e-5)
