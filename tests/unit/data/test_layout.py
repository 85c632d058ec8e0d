"""The seed's folder layout from its root."""

from __future__ import annotations

from pathlib import Path

import pytest

from simplepose.core.errors import UserError
from simplepose.data.source import PIECES, find_layout


def build(root: Path, *names: str) -> Path:
    """Empty files and (with a slash at the end) folders."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True) if name.endswith("/") else path.touch()
    return root


SEED = (
    "annotations/person_keypoints_train2017.json",
    "annotations/person_keypoints_val2017.json",
    "dets/human_detection.json",
    "imagenet_weights/resnet_v1_50.ckpt",
    "images/train2017/",
    "images/val2017/",
    "model_dump/",
)


def test_empty_folder_names_every_expected_path(tmp_path: Path) -> None:
    layout = find_layout(tmp_path)
    assert layout.missing == PIECES
    expected = [
        "annotations/person_keypoints_train2017.json",
        "images/train2017",
        "annotations/person_keypoints_val2017.json",
        "images/val2017",
        "dets/human_detection.json",
        "imagenet_weights",
    ]
    for line, path in zip(layout.report(), expected, strict=True):
        assert "missing, expected at" in line and line.endswith(str(tmp_path / path))
    with pytest.raises(
        UserError,
        match=r"lacks val annotations at .*person_keypoints_val2017.json; detections at .*human_detection.json",
    ):
        layout.require("val_annotations", "detections")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        find_layout(tmp_path / "nowhere")


def test_the_seeds_layout(tmp_path: Path) -> None:
    layout = find_layout(build(tmp_path, *SEED))
    assert layout.missing == () and layout.require(*PIECES) is layout
    assert layout.train_images == tmp_path / "images/train2017"
    assert all("found" in line for line in layout.report())


@pytest.mark.parametrize(
    ("names", "piece", "wanted"),
    [
        (("val2017/",), "val_images", "val2017"),
        (("val2017/", "images/val2017/"), "val_images", "images/val2017"),
        (
            ("annotations/person_keypoints_val_small.json",),
            "val_annotations",
            "annotations/person_keypoints_val_small.json",
        ),
        (
            ("annotations/person_keypoints_val_small.json", "images/val_small/"),
            "val_images",
            "images/val_small",
        ),
        (
            ("annotations/person_keypoints_vala.json", "annotations/person_keypoints_valb.json"),
            "val_annotations",
            "annotations/person_keypoints_val2017.json",
        ),
        (("dets/yolo.json",), "detections", "dets/yolo.json"),
        (("dets/a.json", "dets/b.json"), "detections", "dets/human_detection.json"),
    ],
)
def test_tolerance(tmp_path: Path, names: tuple[str, ...], piece: str, wanted: str) -> None:
    assert getattr(find_layout(build(tmp_path, *names)), piece) == tmp_path / wanted
