"""PoseEstimator with made-up networks: what it refuses, and the flip test of networks of any stride."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from simplepose import UserError
from simplepose.config import CodecConfig, ModelConfig
from simplepose.core.schema import COCO_17
from simplepose.core.structures import People
from simplepose.pose.checkpoints import ModelSpec, save_checkpoint
from simplepose.pose.estimator import PoseEstimator
from simplepose.pose.network import PoseNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)
NAN, INF = float("nan"), float("inf")


def estimator(stride: int = 4, *, flip_test: bool = True) -> PoseEstimator:
    """One whose maps are the pixels of the crop at every `stride`, 48 x 64 in size, with the exact flip."""

    def network(pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, :1, ::stride, ::stride].expand(-1, len(COCO_17), -1, -1)

    spec = ModelSpec(
        preset="", schema=COCO_17, input_size_wh=(48, 64), codec=CodecConfig(flip_shift="exact")
    )
    return PoseEstimator(network, spec, flip_test=flip_test)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([NAN, 5, 30, 40], "finite.*nan"),
        ([5, 5, INF, 40], "finite.*inf"),
        ([5, 5, 5, 40], "no positive.*5.0, 5.0, 5.0, 40.0"),
    ],
)
def test_boxes_without_sense_are_refused(box: list[float], problem: str) -> None:
    boxes = [[1, 1, 20, 20], box]
    with pytest.raises(UserError, match=rf"boxes: box 1 .*{problem}.*Cure"):
        estimator()(IMAGE, boxes)
    good = People([[1, 1, 20, 20]], [1])
    if not np.isfinite(box).all():
        with pytest.raises(UserError, match=r"picture 1, person 1: .*(nan|inf)"):
            estimator().estimate_batch([IMAGE, IMAGE], [good, People(boxes, [1, 1])])
    else:  # a detector's box may lose its area at the border of a frame
        poses = estimator().estimate_batch([IMAGE, IMAGE], [good, People(boxes, [1, 1])])[1]
        assert len(poses) == 2 and np.isfinite(poses.keypoints).all()


@pytest.mark.parametrize("score", [NAN, INF])
def test_scores_that_are_not_finite_are_refused(score: float) -> None:
    boxes, scores = [[1, 1, 20, 20], [1, 1, 30, 30]], [0.5, score]
    message = f"picture 0, person 1: .*score {score}"
    with pytest.raises(UserError, match=message):
        estimator()(IMAGE, People(boxes, scores))
    with pytest.raises(UserError, match=message):
        estimator().estimate_batch([IMAGE], [People(boxes, scores)])


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 40, 3), (40, 0, 3)])
def test_a_picture_without_pixels_is_refused(shape: tuple[int, int, int]) -> None:
    empty, boxes = np.zeros(shape, np.uint8), [[1, 1, 20, 20]]
    message = f"picture .*{shape[1]} x {shape[0]}"
    with pytest.raises(UserError, match=message):
        estimator()(empty, boxes)
    with pytest.raises(UserError, match=message):
        estimator().estimate_batch([empty], [People(boxes, [1])])


@pytest.mark.parametrize("stride", [4, 8])
def test_the_exact_flip_knows_the_stride_of_the_network(stride: int) -> None:
    """Quarter maps (three deconvolutions) and eighth maps (two): the mirrored crop gives the very same maps, so the mean changes nothing."""
    crops, _ = estimator().cut(IMAGE, np.array([[5.0, 5, 50, 70]]))
    plain, average = (estimator(stride, flip_test=flip).heatmaps(crops) for flip in (False, True))
    assert plain.shape == (1, 17, 64 // stride, 48 // stride) and plain.std() > 0
    np.testing.assert_allclose(average, plain, atol=1e-6)


def test_an_estimator_of_a_checkpoint_travels_to_another_process(tmp_path: Path) -> None:
    model = ModelConfig(backbone="resnet18", deconv_layers=2, deconv_filters=8)
    spec = ModelSpec(preset="x", schema=COCO_17, input_size_wh=(64, 64), model=model)
    save_checkpoint(tmp_path / "w.safetensors", PoseNetwork(model, 17, (64, 64)), spec)
    first = PoseEstimator.from_pretrained(tmp_path / "w.safetensors", device="cpu")
    again = pickle.loads(pickle.dumps(first))
    boxes = [[5, 5, 40, 70]]
    np.testing.assert_array_equal(again(IMAGE, boxes).keypoints, first(IMAGE, boxes).keypoints)
