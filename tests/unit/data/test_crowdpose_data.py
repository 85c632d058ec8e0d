"""CrowdPose and OCHuman files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplepose.core.errors import UserError
from simplepose.core.schema import COCO_17, CROWDPOSE_14
from simplepose.data.source import read_crowdpose, read_ochuman


def crowd(**image: Any) -> dict[str, Any]:
    person = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0, 0, 10, 20],
        "area": 7,
        "keypoints": [1, 1, 2] * 14,
        "iscrowd": 0,
    }
    images = [{"id": 1, "file_name": "1.jpg", "width": 50, "height": 50, **image}]
    return {
        "images": images,
        "annotations": [person],
        "categories": [{"id": 1, "keypoints": list(CROWDPOSE_14.keypoints)}],
    }


def test_area_is_that_of_the_box(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(crowd(crowdIndex=0.4)))
    found = read_crowdpose(tmp_path / "a.json", tmp_path)
    assert (
        found.area.tolist() == pytest.approx([0.53 * 200])
        and found.image_extras == ({"crowdIndex": 0.4},)
        and not found.warnings
    )
    (tmp_path / "b.json").write_text(json.dumps(crowd()))
    with pytest.raises(UserError, match=r"b\.json.*crowdIndex"):
        read_crowdpose(tmp_path / "b.json", tmp_path)


def test_ochumans_other_form(tmp_path: Path) -> None:
    (tmp_path / "ochuman.json").write_text(
        json.dumps({"images": [{"image_id": "000001", "annotations": []}]})
    )
    with pytest.raises(UserError, match=r"ochuman\.json .*ochuman_coco_format"):
        read_ochuman(tmp_path / "ochuman.json", tmp_path)


def test_real_samples(real_data: Any) -> None:
    found = read_crowdpose(real_data("crowdpose_val") / "crowdpose_val.json", "pictures")
    assert (len(found.image_ids), len(found)) == (2000, 8527) and found.schema is CROWDPOSE_14
    assert np.allclose(
        found.area, 0.53 * found.bbox_xywh[:, 2].astype(float) * found.bbox_xywh[:, 3]
    )
    folder = real_data("mmpose_tests_data") / "tests/data/ochuman"
    people = read_ochuman(folder / "test_ochuman.json", folder)
    assert (
        len(people) == 5
        and people.schema is COCO_17
        and all(Path(path).exists() for path in people.image_paths)
    )
