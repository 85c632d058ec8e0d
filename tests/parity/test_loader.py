"""The loader against a plain re-creation of the references' loader, on real pictures, wherever the pixels live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from opencv import WARP_LEVELS

from simplepose.config import load_preset
from simplepose.data.annotations import Annotations
from simplepose.data.augment import draw, person_views
from simplepose.data.cache import Files, fill_memory
from simplepose.data.coco import read_coco
from simplepose.data.loader import Batch, TrainLoader
from simplepose.data.pack import open_pack, plan_pack, write_pack
from simplepose.pose.codec import encode

CPU = torch.device("cpu")
CONFIG = load_preset("coco_r50_256x192_ms")
SIZE = CONFIG.input_size_wh


@pytest.fixture(scope="module")
def people(real_data) -> Annotations:
    folder = real_data("coco_train2017_images160")
    everybody = read_coco(
        folder / "person_keypoints_train2017_160.json", folder / "train2017"
    ).trainable()
    return everybody.select(everybody.image_index < 12)


def reference_sample(
    people: Annotations, row: int, scale: float, degrees: float, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Box -> centre and scale -> three points -> cv2.warpAffine of the mirrored picture, as both references write it."""
    image = cv2.imread(
        people.image_paths[people.image_index[row]],
        cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    )[:, :, ::-1]
    x, y, w, h = people.bbox_xywh[row].astype(np.float64)
    center = np.array([x + w / 2, y + h / 2])
    if w > SIZE[0] / SIZE[1] * h:
        h = w * SIZE[1] / SIZE[0]
    else:
        w = h * SIZE[0] / SIZE[1]
    w, h = w * 1.25 * scale, h * 1.25 * scale
    points = people.keypoints[row].astype(np.float64)
    if flip:
        image = image[:, ::-1]
        center[0] = image.shape[1] - 1 - center[0]
        points = points[people.schema.flip_order]
        points[:, 0] = image.shape[1] - 1 - points[:, 0]
    angle = np.deg2rad(degrees)
    down = np.array(
        [np.sin(-angle) * -1, np.cos(angle)]
    )  # the region's downward direction in the picture
    toward = center + np.array([down[0], -down[1]]) * w / 2
    third = toward + np.array([-(center - toward)[1], (center - toward)[0]])
    out_center = np.array(SIZE) / 2
    out_toward = out_center - [0, SIZE[0] / 2]
    out_third = out_toward + np.array([-(out_center - out_toward)[1], (out_center - out_toward)[0]])
    to_crop = cv2.getAffineTransform(
        np.float32([center, toward, third]), np.float32([out_center, out_toward, out_third])
    )
    crop = cv2.warpAffine(np.ascontiguousarray(image), to_crop, SIZE, flags=cv2.INTER_LINEAR)
    return crop, points @ to_crop[:, :2].T + to_crop[:, 2]


def first_batches(people: Annotations, count: int = 2, **options) -> list[Batch]:
    loader = TrainLoader(
        people, CONFIG.augment, input_size_wh=SIZE, batch_size=16, seed=3, **options
    )
    return [batch.to(CPU) for _, batch in zip(range(count), loader.epoch(1), strict=False)]


def test_the_loader_gives_the_samples_of_a_plain_reference(people: Annotations) -> None:
    batch = first_batches(people, 1)[0]
    rng = np.random.default_rng([3, 1])
    order = rng.permutation(len(people))
    draws = draw(rng, people, CONFIG.augment)[order]
    np.testing.assert_array_equal(batch.rows, order[:16])
    for place, row in enumerate(batch.rows):
        crop, points = reference_sample(
            people, row, draws.scales[place], draws.rotations[place], bool(draws.flips[place])
        )
        ours = batch.pixels[place].permute(1, 2, 0).numpy().astype(int)
        assert (
            np.abs(ours - crop).mean() < 0.6
        )  # the references round their three points to float32
        order_of = people.schema.flip_order if draws.flips[place] else np.arange(17)
        seen = people.visibility[row][order_of] > 0
        np.testing.assert_allclose(batch.keypoints[place].numpy()[seen], points[seen], atol=0.02)
        np.testing.assert_array_equal(batch.visibility[place].numpy() > 0, seen)


@pytest.fixture(scope="module")
def sources(people: Annotations, tmp_path_factory) -> dict[str, dict]:
    regions, _ = person_views(people, CONFIG.augment, SIZE)
    path = tmp_path_factory.mktemp("pack") / "people"
    write_pack(path, plan_pack(people, CONFIG.augment, SIZE))
    memory, parts = fill_memory(people, None), fill_memory(people, regions)
    return {
        "files": {"source": Files(people)},
        "files, warp on the device": {"source": Files(people), "warp_on_device": True},
        "ram": {"source": memory},
        "ram, warp on the device": {
            "source": SimpleNamespace(view=memory.view),
            "warp_on_device": True,
        },
        "ram, regions": {"source": parts},
        "device": {"source": memory, "warp_on_device": True},
        "device, regions": {"source": parts, "warp_on_device": True},
        "pack": {"source": open_pack(path, people, CONFIG.augment, SIZE)},
        "pack, warp on the device": {
            "source": open_pack(path, people, CONFIG.augment, SIZE),
            "warp_on_device": True,
        },
    }


NAMES = [
    "files",
    "files, warp on the device",
    "ram",
    "ram, warp on the device",
    "ram, regions",
    "device",
    "device, regions",
    "pack",
    "pack, warp on the device",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_place_gives_the_same_samples(
    name: str, people: Annotations, sources: dict[str, dict]
) -> None:
    reference = first_batches(people)
    for theirs, ours in zip(reference, first_batches(people, **sources[name]), strict=True):
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        assert torch.equal(ours.keypoints, theirs.keypoints) and torch.equal(
            ours.visibility, theirs.visibility
        )
        assert ours.pixels.shape == theirs.pixels.shape and ours.pixels.is_contiguous(
            memory_format=torch.channels_last
        )
        difference = (ours.pixels.int() - theirs.pixels.int()).abs()
        if name in ("files", "ram"):
            assert difference.max() == 0
        elif name.startswith("pack"):
            assert difference.float().mean() <= 4
        else:
            assert difference.max() <= WARP_LEVELS
        targets = [
            encode(one.keypoints, one.visibility > 0, CONFIG.codec, SIZE, CONFIG.heatmap_size_wh)[0]
            for one in (ours, theirs)
        ]
        assert torch.equal(*targets) and targets[0].max() == 1


def test_a_region_holds_every_view_of_every_preset(people: Annotations) -> None:
    from simplepose.config import preset_names
    from simplepose.data.augment import contains, needed_regions, sample_affines

    presets = {}
    for name in preset_names():
        config = load_preset(name)
        presets.setdefault((config.augment, config.input_size_wh, config.codec.udp), name)
    strong = replace(
        CONFIG.augment, half_body_probability=0.5, scale_factor=0.5, rotation_degrees=45
    )
    presets[(strong, SIZE, False)] = "strong"
    for augment, size, udp in presets:
        regions, _ = person_views(people, augment, size, udp=udp)
        tight = np.zeros(len(people), bool)
        for number in range(30):
            draws = draw(np.random.default_rng(number), people, augment)
            rows = np.arange(len(people))
            needed = needed_regions(
                sample_affines(people, rows, draws, size, udp=udp), size, people.person_sizes_wh
            )
            assert contains(regions, needed).all(), presets[(augment, size, udp)]
            tight |= (np.abs(regions - needed).min(1) < 24) & (regions[:, :2] > 0).all(1)
        assert tight.any()  # not everything: the margins are no larger than they must be


def test_the_same_epoch_again_and_from_the_middle(people: Annotations) -> None:
    loader = TrainLoader(
        people,
        CONFIG.augment,
        input_size_wh=SIZE,
        batch_size=16,
        seed=3,
        workers=3,
        source=fill_memory(people, None),
    )
    whole = list(loader.epoch(2))
    later = list(loader.epoch(2, start=2))
    assert [batch.index for batch in whole] == list(range(len(loader))) and [
        batch.index for batch in later
    ] == list(range(2, len(loader)))
    for one, other in zip(whole[2:], later, strict=True):
        assert torch.equal(one.pixels, other.pixels) and torch.equal(one.keypoints, other.keypoints)
    assert sorted(np.concatenate([batch.rows for batch in whole]).tolist()) == list(
        range(len(people))
    )
    assert not np.array_equal(whole[0].rows, next(iter(loader.epoch(3))).rows)
    assert Path(people.source).exists()
