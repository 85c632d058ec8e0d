"""One process of a group: synchronised batch norm and gathering. Two processes together: tests/system/test_resume.py."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from simplepose.core.errors import UserError
from simplepose.core.images import write_image
from simplepose.core.schema import COCO_17
from simplepose.data.annotations import Annotations, Detections
from simplepose.data.boxes import read_labelled_boxes
from simplepose.evaluation.top_down import Estimates
from simplepose.training import distributed
from simplepose.training.distributed import (
    World,
    average,
    detect_together,
    gather,
    join_world,
    merge_estimates,
    synchronise_batch_norms,
)

CPU = torch.device("cpu")


@pytest.fixture
def group(tmp_path: Path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def test_alone() -> None:
    with join_world(CPU, timeout_minutes=1) as world:
        assert world == World(0, 1) and world.first and gather("x", world) == ["x"]
        assert average(torch.ones(2), world).tolist() == [1, 1]


def test_a_group_that_is_there_already_is_used_and_left(group) -> None:
    with join_world(CPU, timeout_minutes=1) as world:
        assert world == World(0, 1)
    assert dist.is_initialized()


def test_a_lost_process_becomes_a_sentence(group) -> None:
    with (
        pytest.raises(
            UserError,
            match=r"another of the 1 processes stopped answering \(Connection closed by peer.*go on with --resume",
        ),
        join_world(CPU, timeout_minutes=1),
    ):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="shape"), join_world(CPU, timeout_minutes=1):
        raise RuntimeError("shape of the tensors differs")


def test_synchronised_batch_norm_is_batch_norm(group) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5, momentum=0.2),
        nn.ReLU(),
        nn.Sequential(nn.BatchNorm2d(5)),
    )
    nn.init.normal_(plain[1].weight)
    synced = copy.deepcopy(plain)
    synchronise_batch_norms(synced)
    assert list(synced.state_dict()) == list(plain.state_dict())
    pixels = torch.randn(4, 3, 8, 8) * 3 + 100
    for _ in range(3):
        outputs = [network(pixels) for network in (plain, synced)]
        torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
        for network, output in zip((plain, synced), outputs, strict=True):
            network.zero_grad()
            (output * torch.linspace(0, 1, output.numel()).view_as(output)).sum().backward()
        for one, other in zip(plain.parameters(), synced.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=2e-2, rtol=1e-3)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, synced.state_dict()[name])
    torch.testing.assert_close(plain.eval()(pixels), synced.eval()(pixels))


def parts_of(detections: Detections, owner: np.ndarray, count: int) -> list[Estimates]:
    def part(rows: np.ndarray) -> Estimates:
        rows = rows[np.argsort(detections.image_index[rows], kind="stable")]
        marks = np.broadcast_to(rows[:, None, None], (len(rows), 17, 2)).astype(np.float32)
        return Estimates(
            detections.image_index[rows],
            marks,
            marks[..., 0],
            detections.scores[rows],
            rows.astype(float),
        )

    return [part(np.flatnonzero(owner == rank)) for rank in range(count)]


def test_gathered_boxes_come_once_and_in_the_order_of_one_process() -> None:
    pictures = np.array([3, 0, 2, 2, 0, 1, 3])
    detections = Detections(
        image_index=pictures, boxes_xyxy=np.zeros((7, 4)), scores=np.linspace(0, 1, 7), source="x"
    )
    annotations = Annotations(
        schema=COCO_17,
        source="x",
        image_ids=np.arange(4),
        image_paths=tuple("abcd"),
        image_sizes_wh=np.zeros((4, 2)),
        annotation_ids=np.zeros(0),
        image_index=np.zeros(0),
        bbox_xywh=np.zeros((0, 4)),
        keypoints=np.zeros((0, 17, 2)),
        visibility=np.zeros((0, 17)),
        area=np.zeros(0),
        is_crowd=np.zeros(0),
    )
    whole = merge_estimates(parts_of(detections, np.zeros(7), 1), annotations, detections)
    both = merge_estimates(parts_of(detections, pictures % 2, 2), annotations, detections)
    assert whole.areas.tolist() == both.areas.tolist() == [1, 4, 5, 2, 3, 0, 6]
    parts = parts_of(detections, pictures % 2, 2)
    with pytest.raises(UserError, match=" 4 .*picture 0.* 2"):
        merge_estimates([*parts, parts[0]], annotations, detections)
    with pytest.raises(UserError, match=" 0 .*picture 0.* 2"):
        merge_estimates(parts[1:], annotations, detections)


def test_pictures_are_dealt_out_to_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes find what one finds, in its order, the broken picture included."""
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(1, 6)]
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    file = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "box"}]}
    for number in (1, 2, 4, 5):
        write_image(tmp_path / f"{number}.png", np.full((10, 10, 3), number, np.uint8))

    class Counting:
        def detect(self, images: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
            return [(one[:1, :4, 0], one[0, :1, 0], one[0, :1, 0]) for one in images]

    boxes, parts = read_labelled_boxes(file, tmp_path), []
    monkeypatch.setattr(distributed, "gather", lambda part, world: parts.append(part) or parts)
    for rank in (0, 1):
        found, broken = detect_together(
            Counting(), boxes, range(5), world=World(rank, 2), skip_broken=True
        )
    assert [picture for picture, *_ in found] == [0, 1, 3, 4]
    assert [int(scores[0]) for _, _, scores, _ in found] == [1, 2, 4, 5]
    assert [Path(path).name for path in broken] == ["3.png"]
